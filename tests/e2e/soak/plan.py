"""What happens when: all that is random about the disturbances is decided before it begins."""

import random
from typing import NamedTuple

RELOAD, HANG_UP, KILL, REST = "reload", "SIGHUP", "kill -9", "rest"
# What is compared begins after the last kill, when the new process has warmed up.
_KILLS_UNTIL = 0.25
_LONGEST_PAUSE = 45.0
_REST_SECONDS = 180.0


class Step(NamedTuple):
    """One disturbance.

    Attributes:
        at: Seconds after the start.
        what: One of `RELOAD`, `HANG_UP`, `KILL`, `REST`.
    """

    at: float
    what: str


def plan(seconds: float, seed: int) -> list[Step]:
    """Plan so many seconds: a few kills in the first quarter, reloads and rests all along; each at least once."""
    dice = random.Random(f"{seed} plan")
    kills = 1 + min(4, int(seconds // 300))
    steps = [Step(dice.uniform(0.05, _KILLS_UNTIL) * seconds, KILL) for _ in range(kills)]
    reloads = max(2, int(seconds / _LONGEST_PAUSE))
    for number in range(reloads):
        at = (number + dice.uniform(0.1, 0.9)) / reloads * seconds
        steps.append(Step(at, (RELOAD, HANG_UP)[number % 2]))
    rests = max(2, int((1 - _KILLS_UNTIL) * seconds / _REST_SECONDS))
    # The first of them when a process that has been started after a kill has had some time; one more is at the end.
    first = _KILLS_UNTIL + 0.15
    steps += [Step((first + (0.97 - first) * number / rests) * seconds, REST) for number in range(rests)]
    return sorted(steps)
