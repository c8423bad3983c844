"""How a command ends that does not do what was asked: exit status, and one line of why."""

from supervisor_cache.errors import (
    AccessDeniedError,
    AddressError,
    CacheError,
    InvalidArgumentsError,
    InvalidKeyError,
    NoSocketError,
    NoSuchKeyError,
    NoSuchNamespaceError,
    RejectedError,
    UnreachableError,
)

NO = 1
USAGE = 2
REFUSED = 3
UNREACHABLE = 4
NO_SOCKET = 7
TEMPORARY = 75
INTERRUPTED = 130

MISSING = "no such key"


class FailureError(Exception):
    """A command ends without what was asked for.

    Attributes:
        status: The exit status.
        subject: What it is about; empty for what the command is about.
        reason: Why, in a few words.
    """

    def __init__(self, status: int, reason: str, subject: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.subject = subject


def failure_of(error: CacheError, namespace: str) -> FailureError:
    """Answer how a command ends that an error of ``namespace`` has ended."""
    if isinstance(error, NoSuchKeyError):
        return FailureError(NO, MISSING)
    if isinstance(error, NoSuchNamespaceError):
        return FailureError(REFUSED, error.text, namespace)
    if isinstance(error, UnreachableError):
        status = NO_SOCKET if isinstance(error, NoSocketError) else UNREACHABLE
        return FailureError(status, error.reason, error.url)
    if isinstance(error, AccessDeniedError):
        return FailureError(REFUSED, "user or password missing or wrong", error.url)
    if isinstance(error, RejectedError):
        return FailureError(REFUSED, error.reason, error.url)
    wrong = isinstance(error, InvalidArgumentsError | InvalidKeyError | AddressError)
    return FailureError(USAGE if wrong else REFUSED, error.fault_string)
