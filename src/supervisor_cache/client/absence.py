"""What is worth another try, and the time that counts for it."""

import time

from supervisor_cache.errors import CacheError, RejectedError, ShutdownError, UnavailableError, UnreachableError

_OF_A_PROXY = {502, 503, 504}


def is_absence(error: CacheError) -> bool:
    """Whether supervisord is away for a while, or a proxy in front says so."""
    if isinstance(error, RejectedError):
        return error.status in _OF_A_PROXY
    return isinstance(error, UnreachableError | ShutdownError | UnavailableError)


if hasattr(time, "CLOCK_BOOTTIME"):

    def elapsed() -> float:
        """Seconds that only grow, suspended machine included: as supervisord counts what ends."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:
    elapsed = time.monotonic
