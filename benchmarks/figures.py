"""What a benchmark answers, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Side(Enum):
    """Which side of the goal is good."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True)
class Goal:
    """What a figure should come to."""

    side: Side
    value: float

    def met_by(self, value: float) -> bool:
        """Whether ``value`` is on the good side."""
        return value <= self.value if self.side is Side.AT_MOST else value >= self.value


@dataclass(frozen=True)
class Figure:
    """One thing that was measured.

    Attributes:
        what: What it is.
        value: The figure.
        unit: Of the figure and its goal: ``ms``, ``bytes``; empty for a ratio.
        goal: What it should come to; None for a figure that only informs.
        detail: What else was seen.
    """

    what: str
    value: float
    unit: str = ""
    goal: Goal | None = None
    detail: str = ""

    def row(self) -> tuple[str, ...]:
        """Its cells in a table."""
        goal, verdict = "", ""
        if self.goal is not None:
            goal = f"{self.goal.side.value} {self.goal.value:g} {self.unit}".strip()
            verdict = "met" if self.goal.met_by(self.value) else "MISSED"
        return self.what, self._shown(), goal, verdict, self.detail

    def _shown(self) -> str:
        return f"{self.value:.0f} {self.unit}" if self.unit == "bytes" else f"{self.value:.2f} {self.unit}".strip()


@dataclass(frozen=True)
class Section:
    """The figures of one benchmark, with how they were measured."""

    title: str
    method: str
    figures: Sequence[Figure]

    def markdown(self) -> str:
        """A heading, the method, and a table."""
        head = [("what", "figure", "goal", "", "detail"), ("---", "---:", "---", "---", "---")]
        rows = [*head, *(figure.row() for figure in self.figures)]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        return f"## {self.title}\n\n{self.method}\n\n{table}\n"

    def text(self) -> str:
        """The same for a terminal."""
        rows = [figure.row() for figure in self.figures]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join([*(f"{row[i]:<{widths[i]}}" for i in range(4)), row[4]]).rstrip() for row in rows]
        return "\n".join([f"\n{self.title}", *lines])
