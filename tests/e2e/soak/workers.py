"""What all who ask a supervisord have in common: they go on over all that happens to it, and rest when all shall."""

import http.client
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, final

from tests.e2e.soak.host import Host
from tests.e2e.soak.records import Outcome, Records
from tests.harness import until


@final
class Gate:
    """Where workers stop while all is to rest, and when it is over."""

    def __init__(self) -> None:
        self.over = threading.Event()
        # Which rest it is; 0 while there is none.
        self.rest = 0
        self._rests = 0

    def close(self, workers: "list[Worker]") -> int:
        """Have all of them rest, and wait until they do; answer which rest it is."""
        self._rests += 1
        self.rest = self._rests
        until(lambda: all(worker.rested == self.rest for worker in workers), "all rest", 60)
        return self.rest

    def open(self) -> None:
        self.rest = 0


class Worker(threading.Thread, ABC):
    """Does one thing after the other until it is over, and at a rest closes what connections it has.

    Args:
        name: Of it, and the start of its notes.
        host: Whom it asks.
        records: Where it is written down.
        gate: When to rest, and to end.
        seed: What decides on all that is random.
        pause: Seconds between two acts, at most.
    """

    def __init__(self, name: str, host: Host, records: Records, gate: Gate, seed: int, pause: float) -> None:
        super().__init__(name=name, daemon=True)
        self.rested = 0
        self.acts = 0
        self._host = host
        self._records = records
        self._gate = gate
        self._dice = random.Random(f"{seed} {name}")
        self._pause = pause

    def run(self) -> None:
        while not self._gate.over.wait(self._dice.uniform(0, self._pause)):
            rest = self._gate.rest
            try:
                if rest:
                    self.disconnect()
                else:
                    self.act()
                    self.acts += 1
            except Exception as error:  # noqa: BLE001 - told at the end
                self._records.complain(f"{self.name}: {error!r}")
                self.disconnect()
            if rest:
                self.rested = rest
                while self._gate.rest == rest and not self._gate.over.wait(0.02):
                    pass
        self.disconnect()

    @abstractmethod
    def act(self) -> None:
        """Do the next thing."""

    def disconnect(self) -> None:
        """Close what connections there are."""


CUT = (OSError, http.client.HTTPException)
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class Writer(Worker):
    """A worker that writes, and keeps the records of it."""

    def __init__(self, name: str, host: Host, records: Records, gate: Gate, seed: int, pause: float) -> None:
        super().__init__(name, host, records, gate, seed, pause)
        self._number = 0
        self._note = ""
        self._begun = 0.0
        # How many cuts there had been when it was answered last, and when it asked last.
        self._cuts = self._cuts_before = 0

    def begin(self, effects: Mapping[str, object] = NOTHING) -> str:
        """Take note of a write that stores this, and answer its note."""
        self._number += 1
        self._note = f"{self.name}.{self._number}"
        self._records.begin(self._note, effects)
        self._begun, self._cuts_before = time.monotonic(), self._host.cuts
        return self._note

    def end(self, outcome: Outcome, revision: str = "") -> None:
        """Take note of an answer."""
        self._records.end(self._note, outcome, revision)
        self._cuts = self._cuts_before

    def end_unclear(self, error: object) -> None:
        """Take note of a write without an answer."""
        self._records.end(self._note, Outcome.PERHAPS)
        self.look_for_a_reason(error)

    def look_for_a_reason(self, error: object) -> None:
        """Complain where nothing has happened that explains why there was no answer; be ready for the next call."""
        if self._cuts == self._host.cuts and not self._host.was_away(self._begun, time.monotonic()):
            self._records.complain(f"{self._note}: {error!r}, and supervisord was there all the time")
        self.disconnect()
        # Where there is no server at the moment, this would be asked a thousand times a second.
        self._gate.over.wait(0.02)
