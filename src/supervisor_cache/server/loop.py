"""Our place in supervisord's loop: an object in its socket map, without a descriptor of its own."""

from collections.abc import Callable
from typing import Any

from supervisor_cache.server.log import Log, contain

# The loop asks about descriptors only if readable() or writable() says so; ours never do.
_NO_DESCRIPTOR = -2014


class LoopHook:
    """Lives from the moment supervisord runs until its HTTP servers have served their last request.

    Supervisor closes, after the last request and before it closes all descriptors, what is in the socket map with
    an attribute ``server`` that is one of its HTTP servers. That is the moment to let go of what must not outlive
    a reload.

    Args:
        server: One of supervisord's HTTP servers.
        socket_map: Supervisor's own.
        log: Where a failure goes.
        on_round: Called in each round of the loop, at least once a second.
        on_close: Called once, at that moment.
    """

    def __init__(
        self,
        server: object,
        socket_map: dict[int, Any],
        log: Log,
        on_round: Callable[[], None],
        on_close: Callable[[], None],
    ) -> None:
        self.server = server
        self._socket_map = socket_map
        self._log = log
        self._on_round = on_round
        self._on_close = on_close
        socket_map[_NO_DESCRIPTOR] = self

    def readable(self) -> bool:
        """Do what is due in this round of the loop. Never readable: there is no descriptor."""
        contain(self._log, "a round of the loop", None, self._on_round)
        return False

    def writable(self) -> bool:
        """Never: there is no descriptor."""
        return False

    def close(self) -> None:
        """Leave the loop."""
        if self._socket_map.pop(_NO_DESCRIPTOR, None) is self:
            contain(self._log, "the loop hook's close", None, self._on_close)


def wake_deferred(socket_map: dict[int, Any]) -> None:
    """Have supervisord look at all deferred replies in its next round.

    It looks at one again only when its ``delay`` has passed, and the loop may sleep for a second in between. This is
    the one liberty taken with Supervisor's objects: to forget when a channel was last looked at.
    """
    for channel in list(socket_map.values()):
        if getattr(channel, "delay", None):
            channel.last_writable_check = 0
