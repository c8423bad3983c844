"""Processes publish markers about themselves by printing a message between the marks that Supervisor looks for."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from supervisor import events
from supervisor.process import Subprocess

from supervisor_cache.core import publication
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.entry import Owner
from supervisor_cache.core.text import shown
from supervisor_cache.errors import CacheError, UnavailableError
from supervisor_cache.server.log import Log, contain
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.owners import full_name, is_alive

PER_SECOND = 20
# Messages that have come while supervisord was held up arrive together.
_AT_ONCE = 2 * PER_SECOND
_SLICE_SECONDS = 0.005


class _Message(NamedTuple):
    namespace: Namespace
    process: Subprocess
    pid: int
    body: bytes


class _Allowance:
    """How many more messages one process may send just now."""

    def __init__(self, now: float) -> None:
        self.left = float(_AT_ONCE)
        self.since = now

    def take(self, now: float) -> bool:
        self.left = min(_AT_ONCE, self.left + (now - self.since) * PER_SECOND)
        self.since = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Publishing:
    """Takes messages while supervisord reads a process's output, and applies them in the next round of its loop.

    There, supervisord calls itself once more for each message of one read: the deeper, the less may be done.
    """

    def __init__(
        self, namespaces: Mapping[str, Namespace], log: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._namespaces = namespaces
        self._log = log
        self._clock = clock
        self._messages: deque[_Message] = deque()
        self._allowances: dict[Owner, _Allowance] = {}
        self._complained: set[Owner] = set()

    def subscribe(self, processes: Iterable[Subprocess]) -> None:
        """Be told of messages from now on, in this generation of supervisord."""
        events.subscribe(events.ProcessCommunicationStdoutEvent, self._on_message)
        for process in processes:
            name = full_name(process)
            namespaces = [namespace.name for namespace in self._namespaces.values() if _is_named(namespace, name)]
            if namespaces and not process.config.stdout_capture_maxbytes:
                self._log.warning(
                    f"{', '.join(namespaces)}: option publish names {shown(name)}, "
                    "which has no stdout_capture_maxbytes and so cannot publish"
                )

    def forget(self, owner: Owner) -> None:
        """Forget a process that has ended."""
        self._allowances.pop(owner, None)
        self._complained.discard(owner)

    def do_slice(self) -> bool:
        """Apply some of the messages; answer whether some are left."""
        if not self._messages:
            return False
        end = self._clock() + _SLICE_SECONDS
        while self._messages and self._clock() < end:
            self._apply(self._messages.popleft())
        return bool(self._messages)

    def clear(self) -> None:
        """Forget what has not been applied: the processes have ended."""
        self._messages.clear()
        self._allowances.clear()
        self._complained.clear()

    def _on_message(self, event: events.ProcessCommunicationStdoutEvent) -> None:
        contain(self._log, "the subscriber to PROCESS_COMMUNICATION_STDOUT", None, self._take, event)

    def _take(self, event: events.ProcessCommunicationStdoutEvent) -> None:
        process, data = event.process, event.data
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        name, _, body = raw.strip().partition(b" ")
        namespace = self._namespaces.get(name.decode("ascii", "replace"))
        if namespace is None:
            self._look_for_a_stump(process, event.pid, raw)
            return
        owner = Owner(full_name(process), event.pid)
        if not _is_named(namespace, owner.name):
            self._drop(namespace, owner, "option publish does not name it")
        elif len(body) > publication.MAX_MESSAGE_BYTES:
            self._drop(namespace, owner, f"a message of {len(body)} bytes; {publication.MAX_MESSAGE_BYTES} are allowed")
        elif not self._allowances.setdefault(owner, _Allowance(self._clock())).take(self._clock()):
            self._drop(namespace, owner, f"more than {PER_SECOND} messages a second")
        else:
            self._messages.append(_Message(namespace, process, event.pid, body))

    def _look_for_a_stump(self, process: Subprocess, pid: int, raw: bytes) -> None:
        # Supervisor keeps the end of what is longer than the capture; what is short is somebody else's message.
        if 2 * len(raw) <= process.config.stdout_capture_maxbytes:
            return
        owner = Owner(full_name(process), pid)
        for namespace in self._namespaces.values():
            if _is_named(namespace, owner.name):
                self._drop(namespace, owner, "a message that stdout_capture_maxbytes has cut off")

    def _apply(self, message: _Message) -> None:
        namespace, process, pid, body = message
        owner = Owner(full_name(process), pid)
        if not is_alive(process, pid):
            self._drop(namespace, owner, "the process has ended")
            self._complained.discard(owner)
            return

        def write() -> int | Answer[int | None] | None:
            if namespace.refusal:
                raise UnavailableError(namespace.refusal)
            return namespace.cache.write(publication.publish, owner.name, owner, publication.read(body))

        answer: Answer[int | None] = Answer()
        answer.when_done(lambda: self._count(namespace, owner, answer))
        answer.follow(write)

    def _count(self, namespace: Namespace, owner: Owner, answer: Answer[int | None]) -> None:
        try:
            answer.result()
        except CacheError as error:
            self._drop(namespace, owner, error.fault_string)
        else:
            namespace.publications += 1

    def _drop(self, namespace: Namespace, owner: Owner, reason: str) -> None:
        namespace.publications_dropped += 1
        if owner in self._complained:
            return
        # A process that is restarted again and again is another one each time.
        complaint = f"{namespace.name}: dropped what {shown(owner.name)} publishes: {reason}"
        if self._log.repeated(complaint, f"{complaint} (pid {owner.pid})"):
            self._complained.add(owner)


def _is_named(namespace: Namespace, process: str) -> bool:
    return any(fnmatchcase(process, pattern) for pattern in namespace.settings.publish)
