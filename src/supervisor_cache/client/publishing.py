"""How a supervised process publishes markers about itself, without credentials: it prints them."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor_cache.core.publication import message
from supervisor_cache.errors import LimitExceededError

_BEGIN = "<!--XSUPERVISOR:BEGIN-->"
_END = "<!--XSUPERVISOR:END-->"
_STDOUT = 1

# A pipe takes so much in one piece, whatever other threads and processes print.
MAX_BYTES = 4096
# Supervisor fails on a process of which it reads some 500 messages at once; so large, that many do not fit one read.
_MIN_BYTES = 300
_PAUSE_SECONDS = 1 / 20


class _Pace:
    """Has each caller wait until the one before is long enough ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + _PAUSE_SECONDS
        time.sleep(start - now)


_pace = _Pace()


def publish(store: Mapping[str, Any] | None = None, *, delete: Iterable[str] = (), namespace: str = "cache") -> bool:
    """Have supervisord store and delete entries below ``process/GROUP:NAME/``, where this process is at home.

    They are owned by this process and end with it. The option ``publish`` of the section must name the process, and
    the process needs ``stdout_capture_maxbytes`` (64KB or more). It is printed to standard output, in one piece; more
    than 20 calls a second wait for their turn. What supervisord does not take it drops, and says so in its log.

    Args:
        store: Values by key, without the prefix.
        delete: Keys, without the prefix.
        namespace: What stands after ``rpcinterface:``.

    Returns:
        Whether it was printed: not where this process does not run under Supervisor, and not where there is nothing
        to say.

    Raises:
        InvalidArgumentsError: A value cannot be stored, or an argument is of another kind.
        InvalidKeyError: A key can be none, or has a segment that is empty, ``.`` or ``..``.
        LimitExceededError: It takes more than 4096 bytes: publish less at once.
        OSError: Standard output cannot be written to.
    """
    deleted = delete if isinstance(delete, str) else list(delete)
    text = message(namespace, {} if store is None else store, deleted)
    room = MAX_BYTES - len(_BEGIN) - len(_END)
    if len(text) > room:
        raise LimitExceededError(f"the publication has {len(text)} bytes; at most {room} are allowed")
    if not (store or deleted) or "SUPERVISOR_ENABLED" not in os.environ:
        return False
    data = f"{_BEGIN}{text.ljust(_MIN_BYTES)}{_END}".encode("ascii")
    _pace.wait()
    if sys.stdout is not None:
        sys.stdout.flush()
    os.write(_STDOUT, data)
    return True
