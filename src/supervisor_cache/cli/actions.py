"""What ``on-change`` does at a change: it signals processes, restarts them, or runs a command."""

import re
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Protocol

from supervisor_cache.client.transport import Transport
from supervisor_cache.commands.arguments import UsageError
from supervisor_cache.errors import CacheError

# Supervisor's states and faults.
_RUNNING = (10, 20)
_NOT_RUNNING = 70
_ALREADY_STARTED = 60
_BAD_NAME = 10
_SIGNAL = re.compile("[A-Z0-9]{1,12}")
# Seconds that a process may take to stop, at most: its stopwaitsecs is what ends it.
_STOPPING = 3600.0
# Of all keys in the environment of a command: the system refuses a text of 128 KB.
_MOST_BYTES = 64 * 1024


class ActionError(Exception):
    """An action failed; it is tried again."""


class Burst(NamedTuple):
    """Changes that are acted upon at once.

    Attributes:
        namespace: Of the cache.
        key: Of the newest change; empty after a clear, or where it is not known.
        kind: Likewise.
        revision: Likewise.
        value: Of the newest change, as JSON; empty where there is none.
        keys: Of all changes, each once, in the order of their first.
    """

    namespace: str
    key: str
    kind: str
    revision: str
    value: str
    keys: Sequence[str]


class Action(Protocol):
    """One kind of action."""

    def act(self, burst: Burst, *, again: bool) -> str:
        """Do it, and answer what was done, in a line; raises `ActionError`.

        Args:
            burst: What has changed.
            again: Whether nothing has since it failed: then only what failed is done again.
        """

    def end(self) -> None:
        """Have what still goes on end, for the listener does."""


class _OnProcesses(ABC):
    """Acts on the processes whose ``GROUP:NAME`` one of ``patterns`` matches, but never on this one itself."""

    def __init__(self, transport: Transport, patterns: Sequence[str], environment: Mapping[str, str]) -> None:
        if not patterns:
            raise UsageError("PATTERN is missing: which processes, as web:*")
        # As supervisorctl shows it, where group and process are named alike.
        patterns = [pattern if ":" in pattern else f"{pattern}:{pattern}" for pattern in patterns]
        for pattern in patterns:
            if not re.fullmatch("[^:]+:[^:]+", pattern):
                raise UsageError(f"{ascii(pattern)[1:-1]}: must be a pattern of GROUP:NAME, as web:*")
        self._transport = transport
        self._patterns = patterns
        # Where it has not worked, None while that is not known; and what we have stopped, and not started again.
        self._owed: list[str] | None = None
        self._stopped: list[str] = []
        self._own = f"{environment.get('SUPERVISOR_GROUP_NAME')}:{environment.get('SUPERVISOR_PROCESS_NAME')}"

    def end(self) -> None:  # noqa: B027 - there is nothing to end
        """See `Action`: a request to supervisord goes on there."""

    def act(self, burst: Burst, *, again: bool) -> str:  # noqa: ARG002 - as `Action`
        """See `Action`."""
        failed: dict[str, CacheError] = {}
        names, self._owed = self._owed if again else None, None
        if names is None:
            try:
                names = list(dict.fromkeys([*self._running(), *self._stopped]))
            except CacheError as error:
                raise ActionError(str(error)) from None
        for name in names:
            try:
                self._act_on(name)
            except CacheError as error:
                failed[name] = error
        self._owed = list(failed)
        if failed:
            raise ActionError("; ".join(f"{name}: {error}" for name, error in failed.items()))
        return f"{self._did()} {', '.join(names) if names else 'no process: none of them runs'}"

    def _running(self) -> list[str]:
        found = []
        for info in self._transport.call_any("supervisor.getAllProcessInfo"):
            name = f"{info['group']}:{info['name']}"
            if (
                name != self._own
                and info["state"] in _RUNNING
                and any(fnmatchcase(name, pattern) for pattern in self._patterns)
            ):
                found.append(name)
        return found

    def _call(self, method: str, *args: Any, ignored: Sequence[int], patience: float = 0.0) -> None:
        try:
            self._transport.call_any(f"supervisor.{method}", args, write=True, patience=patience)
        except CacheError as error:
            if error.code not in ignored:
                raise

    @abstractmethod
    def _act_on(self, name: str) -> None:
        """Act on one process; raises `CacheError`."""

    @abstractmethod
    def _did(self) -> str:
        """Say what is done, before the names."""


class Signal(_OnProcesses):
    """Sends a signal."""

    def __init__(
        self, transport: Transport, patterns: Sequence[str], environment: Mapping[str, str], name: str
    ) -> None:
        super().__init__(transport, patterns, environment)
        self._name = name.upper().removeprefix("SIG")
        known = {one.name.removeprefix("SIG") for one in signal.Signals} | {str(one.value) for one in signal.Signals}
        if not _SIGNAL.fullmatch(self._name) or self._name not in known:
            raise UsageError(f"--signal {ascii(name)[1:-1]}: no such signal")

    def _act_on(self, name: str) -> None:
        self._call("signalProcess", name, self._name, ignored=(_NOT_RUNNING, _BAD_NAME))

    def _did(self) -> str:
        return f"{self._name} to"


class Restart(_OnProcesses):
    """Stops and starts, one after another."""

    def _act_on(self, name: str) -> None:
        if name not in self._stopped:
            self._call("stopProcess", name, ignored=(_NOT_RUNNING, _BAD_NAME), patience=_STOPPING)
            self._stopped.append(name)
        self._call("startProcess", name, False, ignored=(_ALREADY_STARTED, _BAD_NAME))  # noqa: FBT003 - Supervisor's "wait"
        self._stopped.remove(name)

    def _did(self) -> str:
        return "restarted"


class Run:
    """Runs a command, without a shell."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        if not words:
            raise UsageError("COMMAND is missing")
        self._words = list(words)
        self._environment = environment
        self._running: subprocess.Popen[bytes] | None = None

    def end(self) -> None:
        """See `Action`: the command gets SIGTERM."""
        if self._running is not None:
            self._running.terminate()

    def act(self, burst: Burst, *, again: bool) -> str:  # noqa: ARG002 - as `Action`
        """See `Action`."""
        told = {
            "SUPERVISOR_CACHE_NAMESPACE": burst.namespace,
            "SUPERVISOR_CACHE_KEY": burst.key,
            "SUPERVISOR_CACHE_KIND": burst.kind,
            "SUPERVISOR_CACHE_REVISION": burst.revision,
            "SUPERVISOR_CACHE_CHANGED": str(len(burst.keys)),
            "SUPERVISOR_CACHE_KEYS": _lines(burst.keys),
        }
        try:
            # Standard output is for supervisord alone.
            process = subprocess.Popen(  # noqa: S603 - what the operator has configured
                self._words,
                stdin=subprocess.PIPE,
                stdout=sys.stderr,
                env={**self._environment, **told},
            )
        except OSError as error:
            raise ActionError(f"{self._words[0]}: {error.strerror}") from None
        self._running = process
        with suppress(BrokenPipeError):
            process.communicate(burst.value.encode())
        status = process.wait()
        if status:
            raise ActionError(f"{self._words[0]}: status {status}")
        return f"ran {self._words[0]}"


def _lines(keys: Sequence[str]) -> str:
    """Join as many keys as the environment of a process takes in any case."""
    room = _MOST_BYTES
    shown = []
    for key in keys:
        room -= len(key.encode()) + 1
        if room < 0:
            break
        shown.append(key)
    return "\n".join(shown)
