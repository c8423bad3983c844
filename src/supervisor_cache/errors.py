"""Every error of the package, and the XML-RPC fault that each one becomes.

One class per reason, so that Python code can tell an invalid key from a missing one; on the wire both are the
fault that Supervisor's clients know. Texts are ASCII and never contain a value. What derives from `ClientError` is no
fault: the Python client raises it by itself.
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
        return f"{self.name}: {self.text}" if self.text else self.name


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


class FullError(LimitExceededError):
    """Raised when a write would pass what the whole cache may hold."""


class OutOfRangeError(LimitExceededError):
    """Raised when a sum would have more than 32 bits."""


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


class UnknownOutcomeError(CacheError):
    """Raised when a write may have happened or not: read before it is repeated."""

    code = 206
    name = "UNKNOWN_OUTCOME"


class ReadOnlyError(CacheError):
    """Raised for a write through a server that the option ``read_only`` names."""

    code = 205
    name = "READ_ONLY"


class ClientError(CacheError):
    """Base of what the Python client raises by itself."""

    code = 0
    name = "CLIENT"

    @property
    def fault_string(self) -> str:
        """What is wrong; it never was a fault."""
        return self.text


class UnreachableError(ClientError):
    """Raised when supervisord cannot be reached, or did not answer a read in time. Nothing was written.

    Attributes:
        url: Where it was asked.
        reason: Why, in a few words.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason


class NoSocketError(UnreachableError):
    """Raised when the file of a unix socket is not there: supervisord does not run, or the path is wrong."""


class AccessDeniedError(ClientError):
    """Raised when the server wants a user and password, or other ones.

    Attributes:
        url: Where it was asked.
    """

    def __init__(self, url: str) -> None:
        super().__init__(f"{url}: user or password missing or wrong")
        self.url = url


class RejectedError(ClientError):
    """Raised when the HTTP server, or one before it, refuses the request.

    Attributes:
        url: Where it was asked.
        reason: What it says: ``HTTP 403 Forbidden``.
        status: The HTTP status; 0 where it is none.
    """

    def __init__(self, url: str, reason: str, status: int = 0) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
        self.status = status


class InvalidReplyError(RejectedError):
    """Raised when a reply cannot be understood: this is no supervisord, or something before it cuts replies off."""


class NoSuchNamespaceError(ClientError):
    """Raised when this supervisord has no such namespace, or an older release there without this method."""


class AddressError(ClientError):
    """Raised when nobody says which supervisord to ask, or an argument, the environment or a file says it wrongly."""


class LockLostError(ClientError):
    """Raised in the holder of a lock that has been lost: its marker has ended, or somebody else took it away."""


class LockTimeoutError(ClientError):
    """Raised when somebody else has kept a lock for as long as was to be waited."""
