from collections.abc import Callable
from typing import Any, TypeVar

from supervisor.process import Subprocess

E = TypeVar("E", bound=Event)

callbacks: list[tuple[type[Event], Callable[[Any], object]]]

def subscribe(type: type[E], callback: Callable[[E], object]) -> None: ...
def notify(event: Event) -> None: ...
def register(name: str, event: type[Event]) -> None: ...

class Event: ...
class SupervisorRunningEvent(Event): ...

class ProcessStateEvent(Event):
    process: Subprocess

class ProcessCommunicationStdoutEvent(Event):
    process: Subprocess
    pid: int
    data: bytes | str

class EventTypes: ...
