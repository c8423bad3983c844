"""Who asks, as the routes see them."""

from typing import Protocol

from supervisor_cache.http.replies import Reply


class Client(Protocol):
    """Who has asked."""

    def respond(self, reply: Reply) -> None:
        """Send an answer; once."""

    def open_stream(self) -> "Sink":
        """Send the head of a stream of events."""

    def is_there(self) -> bool:
        """Whether the connection is."""


class Sink(Protocol):
    """A stream of events."""

    def send(self, data: bytes) -> None:
        """Send ``data``, as soon as the client takes it."""

    def owed(self) -> int:
        """How many bytes it has not taken yet."""

    def is_there(self) -> bool:
        """Whether the connection is."""

    def close(self) -> None:
        """Let go of the client."""
