"""Lengths of time as people type and read them."""

import re

from supervisor_cache.commands.arguments import UsageError

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)", re.ASCII)


def seconds(text: str, name: str) -> float:
    """Read ``90``, ``90s``, ``1.5m``, ``2h`` or ``7d``.

    Raises:
        UsageError: It is none of these; ``name`` is what it is given for.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UsageError(f"{name} must be seconds, or like 90s, 90m, 2h, 7d")
    return float(found[1]) * _UNITS[found[2]]


def shown(length: float) -> str:
    """Show so many seconds in the two largest units that they fill."""
    left = round(length)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(parts[:2])
