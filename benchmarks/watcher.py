"""Another client, in a process of its own, that asks ``supervisor.getState`` all the time."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.wire import Wire, body, request

_GET_STATE = request(body("supervisor.getState"))
_ASK, _STOP = "ask", "stop"


def _watch(path: Path, pipe: Connection) -> None:
    """Ask without pause; whenever the pipe has a word, answer the longest wait since the last one."""
    with closing(Wire(path)) as wire:
        longest = 0.0
        while True:
            start = time.perf_counter()
            wire.call(_GET_STATE)
            longest = max(longest, time.perf_counter() - start)
            if pipe.poll():
                if pipe.recv() == _STOP:
                    return
                pipe.send(longest)
                longest = 0.0


class Watcher:
    """The near end of it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def longest(self) -> float:
        """Answer the longest wait, in seconds, since this was asked last."""
        self._pipe.send(_ASK)
        seconds: float = self._pipe.recv()
        return seconds


@contextmanager
def watching(path: Path) -> Iterator[Watcher]:
    """Have another client ask the supervisord behind the socket ``path`` for the length of a ``with``."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_watch, args=(path, far), daemon=True)
    process.start()
    far.close()
    try:
        yield Watcher(near)
        near.send(_STOP)
    finally:
        process.join(5)
        process.terminate()
        process.join()
        near.close()
