"""How a client calls the methods, wherever they are."""

from typing import Any, Protocol


class Caller(Protocol):
    """Calls the methods of one namespace."""

    url: str

    def call(self, method: str, args: tuple[Any, ...] = (), *, write: bool = False, patience: float = 0.0) -> Any:
        """Call a method.

        Args:
            method: Its name, without the namespace.
            args: Its arguments, which can be sent.
            write: Whether it may change something: then it is sent once at most.
            patience: Seconds that the method itself may take, beyond what any call may.

        Raises:
            CacheError: What it ended in.
        """

    def close(self) -> None:
        """Let go of all connections."""
