"""Every error of the package, and the XML-RPC fault that each one becomes.

One class per reason, so that Python code can tell an invalid key from a missing one; on the wire both are the
fault that Supervisor's clients know. Texts are ASCII and never contain a value.
"""


class CacheError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: The XML-RPC fault code.
        name: The fault's name, the first word of its text.
        text: What is wrong, with the limit and the option that sets it where there is one.
    """

    code = 30
    name = "FAILED"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text

    @property
    def fault_string(self) -> str:
        """The text of the XML-RPC fault: the name, then what is wrong."""
        return f"{self.name}: {self.text}"


class InvalidArgumentsError(CacheError):
    """Raised when a value, an option or another argument is not one that this method takes."""

    code = 3
    name = "BAD_ARGUMENTS"


class ShutdownError(CacheError):
    """Raised for every call while supervisord shuts down."""

    code = 6
    name = "SHUTDOWN_STATE"


class InvalidKeyError(CacheError):
    """Raised when a key can never be one: empty, too long, or with a character that keys may not have."""

    code = 10
    name = "BAD_NAME"


class NoSuchKeyError(CacheError, KeyError):
    """Raised when a valid key has no entry."""

    code = 10
    name = "BAD_NAME"


class LimitExceededError(CacheError):
    """Raised when a write would pass a limit, or a reply would be too large and must be paged."""

    code = 201
    name = "LIMIT_EXCEEDED"


class WrongTypeError(CacheError):
    """Raised when an operation does not go with the type of the stored value."""

    code = 202
    name = "WRONG_TYPE"


class HistoryGoneError(CacheError):
    """Raised when changes are asked for after a revision that is older than what is kept, or newer than the newest."""

    code = 203
    name = "HISTORY_GONE"


class UnavailableError(CacheError):
    """Raised when the storage did not take a write, or cannot be read: certainly nothing was stored."""

    code = 204
    name = "UNAVAILABLE"


class ReadOnlyError(CacheError):
    """Raised for a write through a server that the option ``read_only`` names."""

    code = 205
    name = "READ_ONLY"
