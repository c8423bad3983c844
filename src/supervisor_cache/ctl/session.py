"""One command's conversation with supervisord: calls, and what can go wrong with them."""

import http.client
import math
import time
from collections.abc import Callable
from typing import Any, Protocol
from xml.parsers.expat import ExpatError
from xmlrpc.client import Fault, ProtocolError, ResponseError

from supervisor.xmlrpc import Faults

from supervisor_cache.errors import HistoryGoneError, InvalidArgumentsError, InvalidKeyError, LimitExceededError

NO = 1
USAGE = 2
REFUSED = 3
UNREACHABLE = 4
NO_SOCKET = 7
INTERRUPTED = 130

UNAUTHORIZED = 401
MISSING = "no such key"

# Seconds for which a lost connection is made anew, how long to wait in between, and at most in one call.
_PATIENCE = 10.0
_PAUSE = 0.3
_LONGEST_WAIT = 600.0

# Pages of a listing start with this many entries, and halve where they turn out too large.
_PAGE = 500


class FailureError(Exception):
    """A command ends without what was asked for.

    Attributes:
        status: The exit status.
        subject: What it is about; empty for what the command is about.
        reason: Why, in a few words.
        missing: Whether it is that there is no such key.
        too_large: Whether it is that the reply would be too large.
        gone: Whether it is that changes are not known any more.
    """

    def __init__(self, status: int, reason: str, subject: str = "", *, missing: bool = False, code: int = 0) -> None:
        super().__init__(reason)
        self.missing = missing
        self.too_large = code == LimitExceededError.code
        self.gone = code == HistoryGoneError.code
        self.status = status
        self.reason = reason
        self.subject = subject


class Proxy(Protocol):
    """The methods of one namespace, as attributes to call."""

    def __getattr__(self, name: str) -> Any:
        """Answer the method ``name``."""


class Session:
    """Calls the methods of one namespace.

    Args:
        connect: Answers the namespace; may raise `ValueError` for a URL that is none.
        namespace: Its name.
        url: Where it is asked.
    """

    def __init__(self, connect: Callable[[], Proxy], namespace: str, url: str) -> None:
        self._connect = connect
        self._proxy: Proxy | None = None
        self._has_answered = False
        self.namespace = namespace
        self._url = url

    def call(self, method: str, *args: Any) -> Any:
        """Call ``method``.

        Raises:
            FailureError: It did not answer.
            ProtocolError: The server wants a password, status 401.
        """
        try:
            # One for all pages of a listing.
            proxy = self._proxy = self._proxy or self._connect()
        except ValueError as error:
            raise FailureError(UNREACHABLE, str(error), self._url) from None
        try:
            answer = getattr(proxy, method)(*args)
        except Fault as fault:
            raise self._failure(method, fault) from None
        except (ProtocolError, ExpatError, ResponseError, ValueError, http.client.HTTPException, OSError) as error:
            # What is left of the connection is of no use for a further call.
            self._proxy = None
            raise self._lost(error) from None
        self._has_answered = True
        return answer

    def _lost(self, error: Exception) -> Exception:
        """Translate what went wrong below XML-RPC."""
        if isinstance(error, ProtocolError):
            if error.errcode == UNAUTHORIZED:
                return error
            return FailureError(REFUSED, f"HTTP {error.errcode} {error.errmsg}", self._url)
        if isinstance(error, http.client.HTTPException):
            return FailureError(UNREACHABLE, f"connection cut: {type(error).__name__}", self._url)
        if isinstance(error, ConnectionRefusedError):
            return FailureError(UNREACHABLE, "refused connection", self._url)
        if isinstance(error, FileNotFoundError):
            return FailureError(NO_SOCKET, "no such file", self._url)
        if isinstance(error, OSError):
            return FailureError(UNREACHABLE, error.strerror or str(error), self._url)
        return FailureError(REFUSED, f"unreadable reply: {error}", self._url)

    def changes(self, prefix: str) -> list[dict[str, Any]]:
        """List the changes up to now that are known, in pages."""
        stats = self.call("getStats")
        since, newest = stats["history"]["since"], int(stats["revision"])
        found: list[dict[str, Any]] = []
        size = _PAGE
        while int(since) < newest:
            try:
                page = self.call("getChanges", since, prefix, size)
            except FailureError as failure:
                if failure.too_large and size > 1:
                    size //= 2
                    continue
                if not failure.gone:
                    raise
                # The oldest were dropped in the meantime.
                found, since = [], self.call("getStats")["history"]["since"]
                continue
            if not page:
                break
            found += page
            since = page[-1]["revision"]
        return [change for change in found if int(change["revision"]) <= newest]

    def wait(
        self, key: str, holds: Callable[[dict[str, Any] | None], bool], timeout: float
    ) -> tuple[bool, dict[str, Any] | None]:
        """Wait until ``holds`` is true of the entry of ``key``, None where there is none.

        A reload of supervisord cuts the connection; for `_PATIENCE` seconds it is made anew.

        Returns:
            Whether it held within ``timeout`` seconds, and the entry as it was then.
        """
        end = time.monotonic() + timeout
        cut = math.inf
        while True:
            try:
                revision = self.call("getRevision")
                entry = self._entry(key)
                if holds(entry):
                    return True, entry
                left = end - time.monotonic()
                if left <= 0:
                    return False, entry
                cut = math.inf
                self.call("wait", revision, min(left, _LONGEST_WAIT), key)
            except FailureError as failure:
                now = time.monotonic()
                cut = min(cut, now + _PATIENCE)
                if failure.status not in {UNREACHABLE, NO_SOCKET} or not self._has_answered or now > min(cut, end):
                    raise
                time.sleep(_PAUSE)

    def _entry(self, key: str) -> dict[str, Any] | None:
        try:
            entry: dict[str, Any] = self.call("getEntry", key)
        except FailureError as failure:
            if failure.missing:
                return None
            raise
        return entry

    def keys(self, prefix: str) -> list[str]:
        """List all keys that start with ``prefix``, in pages where they are too many for one reply."""
        try:
            answer: list[str] = self.call("getKeys", prefix) if prefix else self.call("getKeys")
        except FailureError as failure:
            if not failure.too_large:
                raise
            answer = self._pages("getKeys", prefix, lambda page: page[-1])
        return answer

    def items(self, prefix: str) -> dict[str, Any]:
        """Answer the values of all keys that start with ``prefix``, in pages."""
        return {entry["key"]: entry["value"] for entry in self.entries(prefix)}

    def entries(self, prefix: str) -> list[dict[str, Any]]:
        """Answer all entries whose key starts with ``prefix``, in pages."""
        return self._pages("getEntries", prefix, lambda page: page[-1]["key"])

    def _pages(self, method: str, prefix: str, last: Any) -> list[Any]:
        found: list[Any] = []
        after, size = "", _PAGE
        while True:
            try:
                page = self.call(method, prefix, after, size)
            except FailureError as failure:
                if not failure.too_large or size == 1:
                    raise
                size //= 2
                continue
            found += page
            if len(page) < size:
                return found
            after = last(page)

    def _failure(self, method: str, fault: Fault) -> FailureError:
        text = str(fault.faultString)
        if fault.faultCode == InvalidKeyError.code:
            # 1.1.0 says no more than BAD_NAME of a missing key.
            if text in {"BAD_NAME", f"BAD_NAME: {MISSING}"} or text.startswith(f"BAD_NAME: {MISSING}:"):
                return FailureError(NO, MISSING, missing=True)
            return FailureError(USAGE, text)
        if fault.faultCode == InvalidArgumentsError.code:
            return FailureError(USAGE, text)
        if fault.faultCode == Faults.UNKNOWN_METHOD:
            reason = f"this supervisord has no {self.namespace}.{method}: no such namespace, or an older release"
            return FailureError(REFUSED, reason, self.namespace)
        if fault.faultCode == Faults.INCORRECT_PARAMETERS:
            return FailureError(
                REFUSED, f"{self.namespace}.{method} does not take this: an older release", self.namespace
            )
        return FailureError(REFUSED, text, code=fault.faultCode)
