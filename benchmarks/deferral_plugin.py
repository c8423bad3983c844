"""An RPC extension for the benchmarks: waiting for a change with what Supervisor itself has, its deferred replies."""

from collections.abc import Callable
from typing import Any

from supervisor.http import NOT_DONE_YET
from supervisor.supervisord import Supervisor

_DELAY = 0.5


class DeferralRPCInterface:
    """The namespace ``deferral``."""

    def __init__(self) -> None:
        self._changes = 0

    def change(self) -> bool:
        """Count a change

        @return boolean  Always true
        """  # noqa: D415 - Supervisor's dialect
        self._changes += 1
        return True

    def newest(self) -> int:
        """Return how many changes there have been

        @return int  The number
        """  # noqa: D415 - Supervisor's dialect
        return self._changes

    def wait(self, since: int) -> Callable[[], Any]:
        """Return how many changes there have been, once there are more than since; nothing wakes this

        @param  int since  The number after which a change counts
        @return int        The number
        """  # noqa: D415 - Supervisor's dialect

        def poll() -> Any:
            return self._changes if self._changes > since else NOT_DONE_YET

        poll.delay = _DELAY  # type: ignore[attr-defined]  # where Supervisor looks for it
        return poll


def make_deferral_rpcinterface(_supervisord: Supervisor, **_options: str) -> DeferralRPCInterface:
    """Make the RPC interface; named in the configuration file."""
    return DeferralRPCInterface()
