"""A result that comes later."""

from collections.abc import Callable
from typing import Generic, TypeVar

from supervisor_cache.errors import CacheError

T = TypeVar("T")


class Answer(Generic[T]):
    """What comes later of a call: a value or an error, once it is `done`."""

    __slots__ = ("_callback", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T
        self._error: CacheError | None = None
        self._callback: Callable[[], None] | None = None

    def resolve(self, value: T) -> None:
        """Settle with a value."""
        self._value = value
        self._settle()

    def reject(self, error: CacheError) -> None:
        """Settle with an error."""
        self._error = error
        self._settle()

    def follow(self, call: "Callable[[], T | Answer[T]]") -> None:
        """Settle as ``call`` does, at once or when it answers."""
        try:
            value = call()
        except CacheError as error:
            self.reject(error)
        else:
            if isinstance(value, Answer):
                value.when_done(lambda: self.follow(value.result))
            else:
                self.resolve(value)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once settled; at once if that is so already."""
        if self.done:
            callback()
        else:
            self._callback = callback

    def result(self) -> T:
        """Answer the value, or raise the error. Only once it is `done`."""
        if self._error is not None:
            raise self._error
        return self._value

    def _settle(self) -> None:
        self.done = True
        if self._callback is not None:
            self._callback()
