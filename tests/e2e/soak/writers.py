"""What all writers choose from: keys, values, and how often they do what."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from tests.e2e.soak.host import Host, Mortal
from tests.e2e.soak.records import Records
from tests.e2e.soak.workers import Gate, Writer

OWN_KEYS, SHARED_KEYS, CONFIGURED = 12, 6, "config/state"
# Longer than any run, and so short that it ends while all rest.
FOREVER, SOON = 1_000_000.0, (0.2, 2.0)
SECONDS = 30.0
_INTEGERS = (-(2**31), 2**31 - 1)


class Caller(Writer):
    """A writer that chooses from all that can be written; how, is another one's business."""

    def __init__(
        self, name: str, host: Host, records: Records, gate: Gate, seed: int, pause: float, owners: list[Mortal]
    ) -> None:
        super().__init__(name, host, records, gate, seed, pause)
        self._owners = owners
        # What it has seen of shared keys, for conditions that sometimes hold.
        self._revisions: dict[str, str] = {}

    def act(self) -> None:
        (kind,) = self._dice.choices(list(self._kinds), [weight for weight, _ in self._kinds.values()])
        self._kinds[kind][1]()

    @property
    @abstractmethod
    def _kinds(self) -> dict[str, tuple[float, Callable[[], None]]]:
        """What it can do: how often, and how."""

    def _own(self) -> str:
        return f"{self.name}/{self._dice.randrange(OWN_KEYS)}"

    def _shared(self) -> str:
        return f"shared/{self._dice.randrange(SHARED_KEYS)}"

    def _value(self) -> Any:
        dice = self._dice
        values: list[Any] = [
            f"{self.name} {self._number} \u20ac",
            "x" * dice.choice((0, 10, 300, 10_000)),
            dice.randint(*_INTEGERS),
            dice.random() < 0.5,
            float(dice.randrange(1000)),
            [self._number, ["a", {}]],
            {"number": self._number, "of": self.name},
        ]
        return dice.choice(values)

    def _soon(self) -> float:
        return round(self._dice.uniform(*SOON), 3)
