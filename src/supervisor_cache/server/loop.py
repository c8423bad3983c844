"""Our place in supervisord's loop."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

from supervisor_cache.server.log import Log, contain


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
        self._descriptor, self._far_end = os.pipe()
        os.set_blocking(self._descriptor, False)
        os.set_blocking(self._far_end, False)
        socket_map[self._descriptor] = self

    def wake(self) -> None:
        """Have the next round come at once, from whatever thread."""
        # A pipe that is full wakes just as well. One that is closed has no round to come, and its number is another's.
        if self._far_end >= 0:
            with contextlib.suppress(OSError):
                os.write(self._far_end, b"\0")

    def readable(self) -> bool:
        """Do what is due in this round of the loop."""
        try:  # not `contain`: this runs at every request
            self._on_round()
        except Exception as error:  # noqa: BLE001 - what leaves here ends supervisord
            self._log.failure("a round of the loop", error)
        return True

    def writable(self) -> bool:
        """Never: there is nothing to write to."""
        return False

    def handle_read_event(self) -> None:
        """Take what woke the loop."""
        with contextlib.suppress(OSError):
            os.read(self._descriptor, 4096)

    def handle_error(self) -> None:
        """Nothing is left to handle: nothing here raises."""

    def close(self) -> None:
        """Leave the loop."""
        if self._socket_map.pop(self._descriptor, None) is self:
            contain(self._log, "the loop hook's close", None, self._on_close)
            descriptors = self._descriptor, self._far_end
            self._descriptor = self._far_end = -1
            for descriptor in descriptors:
                os.close(descriptor)


def wake_deferred(socket_map: dict[int, Any]) -> None:
    """Have supervisord look at all deferred replies in its next round.

    It looks at one again only when its ``delay`` has passed, and the loop may sleep for a second in between. This is
    the one liberty taken with Supervisor's objects: to forget when a channel was last looked at.
    """
    for channel in list(socket_map.values()):
        if getattr(channel, "delay", None):
            channel.last_writable_check = 0
