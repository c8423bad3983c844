"""Calls through the connection that supervisorctl makes."""

from collections.abc import Callable
from typing import Any, Protocol

from supervisor_cache.client.faults import RAISED, of_raised
from supervisor_cache.errors import UnreachableError


class Proxy(Protocol):
    """The methods of one namespace, as attributes to call."""

    def __getattr__(self, name: str) -> Any:
        """Answer the method ``name``."""


class ProxyCaller:
    """Calls the methods of one namespace; see `supervisor_cache.client.caller.Caller`.

    Args:
        connect: Answers the namespace; may raise `ValueError` for a URL that is none.
        namespace: Its name.
        url: Where it is asked.
    """

    def __init__(self, connect: Callable[[], Proxy], namespace: str, url: str) -> None:
        self.url = url
        self._connect = connect
        self._namespace = namespace
        self._proxy: Proxy | None = None

    def call(self, method: str, args: tuple[Any, ...] = (), *, write: bool = False, patience: float = 0.0) -> Any:  # noqa: ARG002 - there is no time-out, and nothing is sent twice
        """Call a method."""
        try:
            # One for all pages of a listing.
            proxy = self._proxy = self._proxy or self._connect()
        except ValueError as error:
            raise UnreachableError(self.url, str(error)) from None
        try:
            return getattr(proxy, method)(*args)
        except RAISED as error:
            # What is left of the connection is of no use for a further call.
            self._proxy = None
            raise of_raised(error, self.url, f"{self._namespace}.{method}") from None

    def close(self) -> None:
        """Leave the connection to supervisorctl."""
        self._proxy = None
