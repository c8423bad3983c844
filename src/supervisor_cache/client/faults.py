"""From what an XML-RPC library raises to the errors of this package."""

import http.client
from xml.parsers.expat import ExpatError
from xmlrpc.client import Fault, ProtocolError, ResponseError

from supervisor_cache.errors import (
    AccessDeniedError,
    CacheError,
    HistoryGoneError,
    InvalidArgumentsError,
    InvalidKeyError,
    InvalidReplyError,
    LimitExceededError,
    NoSocketError,
    NoSuchKeyError,
    NoSuchNamespaceError,
    ReadOnlyError,
    RejectedError,
    ShutdownError,
    UnavailableError,
    UnknownOutcomeError,
    UnreachableError,
    WrongTypeError,
)

# What a call through an XML-RPC library may raise.
RAISED = (Fault, ProtocolError, ExpatError, ResponseError, ValueError, http.client.HTTPException, OSError)

_CLASSES: dict[int, type[CacheError]] = {
    error.code: error
    for error in (
        InvalidArgumentsError,
        ShutdownError,
        InvalidKeyError,
        LimitExceededError,
        WrongTypeError,
        HistoryGoneError,
        UnavailableError,
        ReadOnlyError,
        UnknownOutcomeError,
    )
}
_UNKNOWN_METHOD = 1
_INCORRECT_PARAMETERS = 2
_MISSING = "no such key"
_UNAUTHORIZED = 401
_TOO_LARGE = 413
# Of what came instead of a reply, in characters.
_MOST_WORDS = 100


def of_fault(code: int, text: str, method: str) -> CacheError:
    """Answer the error of this package that a fault stands for; ``method`` is what was called, ``NAMESPACE.NAME``."""
    if code == _UNKNOWN_METHOD:
        return NoSuchNamespaceError(f"this supervisord has no {method}: no such namespace, or an older release")
    if code == _INCORRECT_PARAMETERS:
        return NoSuchNamespaceError(f"{method} does not take this: an older release")
    kind = _CLASSES.get(code, CacheError)
    name, _, reason = text.partition(": ")
    # Release 1.1.0 says no more than BAD_NAME, of a missing key.
    if kind is InvalidKeyError and (not reason or reason.partition(":")[0] == _MISSING):
        kind, reason = NoSuchKeyError, reason or _MISSING
    error = kind(reason)
    if kind is CacheError:
        error.code, error.name = code, name
    return error


def of_status(status: int, words: str, url: str) -> CacheError:
    """Answer the error that an HTTP status other than 200 stands for."""
    if status == _UNAUTHORIZED:
        return AccessDeniedError(url)
    if status == _TOO_LARGE:
        return LimitExceededError("the request is too large; the option max_request_bytes sets how large one may be")
    return RejectedError(url, f"HTTP {status} {words}".rstrip(), status)


def is_cut(error: Exception) -> bool:
    """Whether this one of `RAISED` says that the connection has ended, or that there was none; a time-out does not."""
    if isinstance(error, http.client.HTTPException):
        return isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead)
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)


def of_raised(error: Exception, url: str, method: str) -> CacheError:
    """Answer the error of this package for one of `RAISED`, where ``url`` was asked for ``method``."""
    if isinstance(error, Fault):
        code, text = error.faultCode, error.faultString
        if type(code) is int and isinstance(text, str):
            return of_fault(code, text, method)
        return InvalidReplyError(url, "unreadable reply: a fault without a number or a text")
    if isinstance(error, ProtocolError):
        return of_status(error.errcode, error.errmsg, url)
    if isinstance(error, http.client.HTTPException):
        kind = type(error).__name__
        if is_cut(error):
            return UnreachableError(url, f"connection cut: {kind}")
        return InvalidReplyError(url, f"unreadable reply: {ascii(str(error)[:_MOST_WORDS] or kind)[1:-1]}")
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(url, "refused connection")
    if isinstance(error, FileNotFoundError):
        return NoSocketError(url, "no such file")
    if isinstance(error, TimeoutError):
        return UnreachableError(url, "no answer in time")
    if isinstance(error, OSError):
        return UnreachableError(url, error.strerror or str(error))
    return InvalidReplyError(url, f"unreadable reply: {error}")
