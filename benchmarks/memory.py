"""What an entry takes in memory, beside its key and value."""

import json
import subprocess
import sys

from benchmarks.figures import Figure, Goal, Section, Side

_COUNT = 10_000
# In a Python of its own: tracemalloc slows down all that runs beside it.
_MEASURE = """
import gc, json, random, sys, tracemalloc
from supervisor_cache.core.cache import Cache
from supervisor_cache.core.limits import Limits
from supervisor_cache.core import operations
from supervisor_cache.core.entry import NOBODY
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.server.clock import HostClock

def measure(count, many):
    cache = Cache(MemoryEngine(1.0), Limits(), HostClock(), lambda name: NOBODY, print)
    numbers = random.Random(1).sample(range(count), count)
    gc.collect()
    tracemalloc.start()
    items = {f"host/{number:05}": f"release-{number}" for number in numbers}
    own = sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in items.items())
    if many:
        cache.write(operations.store_many, "", items)
    else:
        for key, value in items.items():
            cache.write(operations.store, "", key, value)
    del items
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(cache) == count
    return (size - own) / count

count = int(sys.argv[1])
print(json.dumps([measure(count, many) for many in (False, True)]))
"""


def per_entry(*, quick: bool) -> Section:  # noqa: ARG001 - quick as it is
    """Bytes for each of 10,000 small entries beyond key and value."""
    command = [sys.executable, "-c", _MEASURE, str(_COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    one_by_one, at_once = json.loads(done.stdout)
    goal = Goal(Side.AT_MOST, 600)
    figures = [
        Figure("per entry, stored one by one", one_by_one, "bytes", goal),
        Figure("per entry, stored by one storeMany", at_once, "bytes", goal),
    ]
    method = (
        f"tracemalloc over the core, its history included, with {_COUNT} short strings, less `sys.getsizeof` of keys "
        "and values."
    )
    return Section("Memory beyond key and value", method, figures)
