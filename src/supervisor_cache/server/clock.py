"""The host's clocks."""

import time


class HostClock:
    """Reads the clocks of this machine."""

    wall = staticmethod(time.time)

    if hasattr(time, "CLOCK_BOOTTIME"):

        @staticmethod
        def elapsed() -> float:
            """Seconds that only grow; with those for which the machine was suspended, where the system counts them."""
            return time.clock_gettime(time.CLOCK_BOOTTIME)

    else:
        elapsed = staticmethod(time.monotonic)
