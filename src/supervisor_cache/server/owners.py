"""Supervised processes as owners of entries."""

from collections.abc import Callable, Iterator

from supervisor import events
from supervisor.options import split_namespec
from supervisor.process import Subprocess
from supervisor.states import ProcessStates
from supervisor.supervisord import Supervisor

from supervisor_cache.core.entry import Owner
from supervisor_cache.core.text import shown
from supervisor_cache.errors import InvalidArgumentsError
from supervisor_cache.server.log import Log, contain

# In these a process may take on what ends with it.
_TAKING = frozenset({ProcessStates.STARTING, ProcessStates.RUNNING})
# In these its pid is still its own: one that is being stopped may be finishing its work, and one that could not be
# signalled, which makes it UNKNOWN, goes on.
_ALIVE = frozenset({*_TAKING, ProcessStates.STOPPING, ProcessStates.UNKNOWN})

# The state of the process itself is still the one before, in Supervisor up to 4.2.2, while these are told.
_ENDS = (events.ProcessStateBackoffEvent, events.ProcessStateExitedEvent, events.ProcessStateStoppedEvent)


def full_name(process: Subprocess) -> str:
    """Answer ``GROUP:NAME``."""
    group = process.group.config.name if process.group is not None else process.config.name
    return f"{group}:{process.config.name}"


def is_alive(process: Subprocess, pid: int) -> bool:
    """Whether ``process`` is still in the life that had ``pid``."""
    return process.pid == pid and process.state in _ALIVE


class Processes:
    """The processes of the running supervisord."""

    def __init__(self, supervisord: Supervisor) -> None:
        self._supervisord = supervisord

    def all(self) -> Iterator[Subprocess]:
        """Every process that is configured."""
        for group in self._supervisord.process_groups.values():
            yield from group.processes.values()

    def owner(self, name: str) -> Owner:
        """Answer the process that ``name`` means, ``GROUP:NAME`` or ``NAME``, with the pid that it has now.

        Raises:
            InvalidArgumentsError: There is none, or it is neither starting nor running.
        """
        group_name, process_name = split_namespec(name)
        group = self._supervisord.process_groups.get(group_name)
        process = None if group is None or process_name is None else group.processes.get(process_name)
        if process is None:
            raise InvalidArgumentsError(f"owner {shown(name)} is no process of this supervisord")
        if process.state not in _TAKING or not process.pid:
            raise InvalidArgumentsError(f"owner {shown(name)} is not running")
        return Owner(full_name(process), process.pid)

    def lives(self, owner: Owner) -> bool:
        """Whether ``owner`` has not ended."""
        group_name, process_name = split_namespec(owner.name)
        group = self._supervisord.process_groups.get(group_name)
        process = None if group is None or process_name is None else group.processes.get(process_name)
        return process is not None and is_alive(process, owner.pid)

    def on_end(self, log: Log, tell: Callable[[Owner], None]) -> None:
        """Have ``tell`` called with each process that has ended, once supervisord has reaped it."""

        def ended(event: events.ProcessStateEvent) -> None:
            process = event.process
            # Each way to end comes with the pid; where there is none, it has ended before.
            if process.pid and isinstance(event, _ENDS):
                tell(Owner(full_name(process), process.pid))

        def subscriber(event: events.ProcessStateEvent) -> None:
            contain(log, "the subscriber to PROCESS_STATE", None, ended, event)

        events.subscribe(events.ProcessStateEvent, subscriber)
