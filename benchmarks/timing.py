"""Two or more things timed in turns, so that the machine's noise hits all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence

Call = Callable[[], object]

# The ratio is taken within each run of so many turns, then the median of these ratios: slow drift cancels out.
_CHUNK = 100


def seconds(call: Call) -> float:
    """Answer how long ``call`` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(calls: Sequence[Call], turns: int, warm_up: int = 20) -> list[list[float]]:
    """Time each of ``calls`` in each turn, starting with another one each time; answer the seconds of each."""
    for _ in range(warm_up):
        for call in calls:
            call()
    samples: list[list[float]] = [[] for _ in calls]
    gc.collect()
    gc.disable()
    try:
        for turn in range(turns):
            for step in range(len(calls)):
                which = (turn + step) % len(calls)
                samples[which].append(seconds(calls[which]))
    finally:
        gc.enable()
    return samples


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Answer how many times longer ``ours`` takes than ``theirs``, as a median of medians."""
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(ours), _CHUNK)]
    return statistics.median(statistics.median(ours[c]) / statistics.median(theirs[c]) for c in chunks)


def milliseconds(samples: Sequence[float]) -> float:
    """Answer the median in milliseconds."""
    return statistics.median(samples) * 1000
