"""Draw the chart of the README from RESULTS.md: `python -m benchmarks.chart`, and at the end of `make bench`.

Each bar is a figure of RESULTS.md; one that is not there (a peer that could not be installed) is left out.
"""

import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).with_name("RESULTS.md")
DOCS = Path(__file__).parents[1] / "docs"
# Nanoseconds.
_UNITS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_AMOUNT = re.compile(r"(-?[0-9.]+) (ns|us|µs|ms|s)\b")
_ROW = re.compile(r"^\| (.+?) \| (.+?) \| .*? \| .*? \| (.*?) \|$", re.MULTILINE)

_WIDTH = 860
_LEFT = 330
_RIGHT = 80
_BAR = 16
_STEP = 26
_HEAD = 52
_GAP = 34
_FONTS = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"


class Colours(NamedTuple):
    """Of one look."""

    text: str
    quiet: str
    grid: str
    ours: str
    others: str


LOOKS = {
    "light": Colours("#1f2328", "#59636e", "#d1d9e0", "#0969da", "#afb8c1"),
    "dark": Colours("#f0f6fc", "#9198a1", "#3d444d", "#4493f8", "#59636e"),
}


class Source(NamedTuple):
    """Where a bar comes from.

    Attributes:
        label: What the chart calls it.
        section: Of RESULTS.md.
        what: Its row.
        place: 0 for the figure itself; 1 and 2 for the amounts in its detail.
        is_ours: Whether it is this package's.
    """

    label: str
    section: str
    what: str
    place: int = 0
    is_ours: bool = False


_LOCAL = "A lookup in a process of the same host"
_CALL = "One call beside a call that does nothing"
_CHANGE = "From a change to the answer of wait"
LOOKUPS = (
    Source("a dict", _LOCAL, "local.get / dict.get", 2),
    Source("open_local(), with SQLite storage", _LOCAL, "local.get / dict.get", 1, is_ours=True),
    Source("uWSGI's cache", _LOCAL, "uwsgi.cache_get"),
    Source("diskcache", _LOCAL, "diskcache"),
    Source("memcached, unix socket", _LOCAL, "memcached over a unix socket (pymemcache)"),
    Source("Redis, unix socket", _LOCAL, "Redis over a unix socket (redis)"),
)
CALLS = (
    Source("a method of Supervisor that does nothing", _CALL, "fetch / supervisor.getAPIVersion", 2),
    Source("fetch", _CALL, "fetch / supervisor.getAPIVersion", 1, is_ours=True),
    Source("store", _CALL, "store / supervisor.getAPIVersion", 1, is_ours=True),
    Source(
        "store, with SQLite storage", "A store on SQLite beside one in memory", "store on SQLite / in memory", 1,
        is_ours=True,
    ),
    Source("from a store to the answer of wait", _CHANGE, "at random moments, 1 waiting: median", is_ours=True),
    Source("the same, to another host over etcd", "From a change to another host", "median", is_ours=True),
)  # fmt: skip


class Bar(NamedTuple):
    """One of the chart: its label, its length in nanoseconds, and whether it is this package's."""

    label: str
    nanoseconds: float
    is_ours: bool


def bars(results: str, sources: Sequence[Source]) -> list[Bar]:
    """Look the figures up."""
    found = []
    for source in sources:
        section = results.partition(f"\n## {source.section}\n")[2].partition("\n## ")[0]
        rows = {what: (figure, detail) for what, figure, detail in _ROW.findall(section)}
        if source.what not in rows:
            continue
        figure, detail = rows[source.what]
        amounts = _AMOUNT.findall(detail if source.place else figure)
        number, unit = amounts[source.place - 1 if source.place else 0]
        found.append(Bar(source.label, float(number) * _UNITS[unit], source.is_ours))
    return found


def shown(nanoseconds: float) -> str:
    """Write a time with two or three digits."""
    for unit, size, least in (("ms", 1e6, 1.5e5), ("µs", 1e3, 1e3)):
        if nanoseconds >= least:
            return f"{_short(nanoseconds / size)} {unit}"
    return f"{nanoseconds:.0f} ns"


def _short(number: float) -> str:
    if number >= 10:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2f}"


class _Panel:
    """Bars with a title over a scale."""

    def __init__(self, title: str, note: str, found: Sequence[Bar], *, logarithmic: bool) -> None:
        self._title, self._note, self._bars = title, note, found
        longest = max((bar.nanoseconds for bar in found), default=1.0)
        self._low = 10.0 if logarithmic else 0.0
        self._high = 10 ** math.ceil(math.log10(longest)) if logarithmic else longest
        self._logarithmic = logarithmic

    @property
    def height(self) -> int:
        return _HEAD + _STEP * len(self._bars) + 22

    def lines(self, top: int, colours: Colours) -> list[str]:
        """Draw it below ``top``."""
        drawn = [
            _text(0, top + 16, self._title, colours.text, "font-weight='600' font-size='15'"),
            _text(0, top + 36, self._note, colours.quiet, "font-size='12'"),
        ]
        bottom = top + _HEAD + _STEP * len(self._bars)
        drawn.append(f"<path d='M{_LEFT} {bottom - 2}H{_WIDTH - _RIGHT}' stroke='{colours.grid}'/>")
        for tick in self._ticks():
            x = self._x(tick)
            drawn.append(f"<path d='M{x:.1f} {bottom - 4}v5' stroke='{colours.grid}'/>")
            label = "0" if tick == 0 else shown(tick).replace(".0 ", " ")
            drawn.append(_text(x, bottom + 15, label, colours.quiet, "font-size='11' text-anchor='middle'"))
        for number, bar in enumerate(self._bars):
            y = top + _HEAD + _STEP * number
            width = self._x(bar.nanoseconds) - _LEFT
            fill = colours.ours if bar.is_ours else colours.others
            weight = "font-weight='600'" if bar.is_ours else ""
            drawn.append(
                _text(_LEFT - 10, y + 13, bar.label, colours.text, f"font-size='13' text-anchor='end' {weight}")
            )
            drawn.append(f"<rect x='{_LEFT}' y='{y}' width='{width:.1f}' height='{_BAR}' rx='2' fill='{fill}'/>")
            drawn.append(
                _text(_LEFT + width + 7, y + 13, shown(bar.nanoseconds), colours.text, f"font-size='13' {weight}")
            )
        return drawn

    def _x(self, nanoseconds: float) -> float:
        room = _WIDTH - _LEFT - _RIGHT
        if self._logarithmic:
            return _LEFT + room * math.log10(nanoseconds / self._low) / math.log10(self._high / self._low)
        return _LEFT + room * nanoseconds / self._high

    def _ticks(self) -> list[float]:
        if self._logarithmic:
            return [10.0**power for power in range(1, round(math.log10(self._high)) + 1)]
        step = 1e6 if self._high < 8e6 else 1e7
        return [step * number for number in range(int(self._high / step) + 1)]


def _text(x: float, y: float, text: str, colour: str, more: str) -> str:
    return f"<text x='{x:.1f}' y='{y}' fill='{colour}' {more}>{escape(text)}</text>"


def svg(results: str, colours: Colours) -> str:
    """Draw the chart of ``results``, the text of RESULTS.md."""
    panels = (
        _Panel(
            "Looking a value up from Python, on one host", "Each step of the scale is ten times the one before.",
            bars(results, LOOKUPS), logarithmic=True,
        ),
        _Panel(
            "Asking supervisord over its unix socket, and learning of a change", "Medians, with the client, in Python.",
            bars(results, CALLS), logarithmic=False,
        ),
    )  # fmt: skip
    height = sum(panel.height for panel in panels) + _GAP * (len(panels) - 1)
    place = f"viewBox='-8 0 {_WIDTH + 16} {height}' width='{_WIDTH + 16}' height='{height}'"
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {place} role='img' font-family='{_FONTS}'>",
        "<title>Times of a lookup, a call and a change; all figures are in benchmarks/RESULTS.md</title>",
    ]
    top = 0
    for panel in panels:
        lines += panel.lines(top, colours)
        top += panel.height + _GAP
    return "\n".join([*lines, "</svg>", ""])


def path(look: str) -> Path:
    """Answer where the chart is in a look."""
    return DOCS / f"figures-{look}.svg"


def main() -> None:
    """Write the chart anew."""
    results = RESULTS.read_text(encoding="utf-8")
    for look, colours in LOOKS.items():
        path(look).write_text(svg(results, colours), encoding="utf-8")
        print(f"written to {path(look)}")


if __name__ == "__main__":
    main()
