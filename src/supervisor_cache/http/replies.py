"""What is answered: a status, a body, and the header lines that keep a browser from making anything else of it."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from supervisor_cache.errors import (
    CacheError,
    HistoryGoneError,
    InvalidArgumentsError,
    InvalidKeyError,
    LimitExceededError,
    NoSuchKeyError,
    ReadOnlyError,
    ShutdownError,
    UnavailableError,
    UnknownOutcomeError,
    WrongTypeError,
)

JSON = "application/json"
PROBLEM = "application/problem+json"
TEXT = "text/plain; charset=utf-8"

_REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    304: "Not Modified",
    308: "Permanent Redirect",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}
REASONS: Mapping[int, str] = _REASONS

_STATUSES: tuple[tuple[type[CacheError], int], ...] = (
    (NoSuchKeyError, 404),
    (InvalidKeyError, 400),
    (InvalidArgumentsError, 400),
    (ReadOnlyError, 403),
    (WrongTypeError, 409),
    (HistoryGoneError, 410),
    (LimitExceededError, 507),
    (ShutdownError, 503),
    (UnavailableError, 503),
    (UnknownOutcomeError, 504),
)
_RETRY_SECONDS = "1"

_POLICY = "Content-Security-Policy"
# Of every reply. The page has no script but its own, and is in no frame.
SAFETY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    _POLICY: (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
# Of a value, which a browser may be led to: whatever it is, it does nothing.
SANDBOX = {**SAFETY, _POLICY: "sandbox; default-src 'none'; frame-ancestors 'none'"}


class Reply(NamedTuple):
    """One answer.

    Attributes:
        status: The HTTP status.
        body: What is sent.
        kind: Its media type.
        headers: Header lines beside those of every reply.
        sandboxed: Whether the body is what somebody stored, of which a browser must make nothing.
    """

    status: int
    body: bytes = b""
    kind: str = JSON
    headers: Mapping[str, str] = {}
    sandboxed: bool = False


def as_json(value: Any) -> bytes:
    """Write what is no value of an entry as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer JSON."""
    return Reply(status, as_json(value), JSON, headers or {})


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """Answer what is wrong, as RFC 9457 has it."""
    told = {"type": "about:blank", "title": REASONS[status], "status": status, "detail": detail, **more}
    return Reply(status, as_json(told), PROBLEM, headers or {})


def problem_of(error: CacheError, *, too_large: int = 507) -> Reply:
    """Answer an error of the cache.

    Args:
        error: The error.
        too_large: The status for `LimitExceededError`: what the limit was about.
    """
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    if isinstance(error, LimitExceededError):
        status = too_large
    headers = {"Retry-After": _RETRY_SECONDS} if status in {429, 503} else {}
    return problem(status, error.text, headers, fault=error.name, code=error.code)
