"""A lock held by a marker that is renewed."""

import math
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from supervisor_cache.client.absence import elapsed, is_absence
from supervisor_cache.core.options import checked_ttl
from supervisor_cache.core.values import Value
from supervisor_cache.errors import (
    CacheError,
    InvalidArgumentsError,
    LimitExceededError,
    LockLostError,
    LockTimeoutError,
    NoSuchKeyError,
    UnknownOutcomeError,
)

if TYPE_CHECKING:
    from supervisor_cache.client.cache import CacheClient
    from supervisor_cache.client.records import Entry

# Of its time to live, when the marker is renewed; and when it is given up where that has not worked.
_RENEW = 1 / 3
_GIVE_UP = 0.9
_PAUSE = 0.2
_LONGEST_WAIT = 25.0
# Seconds: on a shorter one, a busy moment would lose it.
MIN_TTL = 2.0


class Lock:
    """A lock that one holder at a time has, as a context manager.

    Its holder keeps a marker under ``key``, with a time to live that a thread renews. If the holder is gone without a
    word, the next one has it when that time is over; with ``owner`` as soon as supervisord has reaped that process.

    A lock can be lost: somebody deletes the marker, or supervisord cannot be asked for longer than the marker lives.
    Then `check` and the end of the ``with`` raise `LockLostError` in the holder, `lost` is set, and ``on_loss`` is
    called in the thread that renews. Like every lock of this kind it is advisory: guard what it protects with
    `revision`, which is larger for each holder than for the one before.

    Attributes:
        key: Where the marker is.
        revision: Of this holder; 0 before it has it.
        lost: Set once the lock has been lost.
        on_loss: Called once when it is lost.
    """

    def __init__(self, cache: "CacheClient", key: str, ttl: float, note: str, owner: str, wait: float | None) -> None:
        self._ttl = checked_ttl(ttl)
        if self._ttl < MIN_TTL:
            raise InvalidArgumentsError(f"the ttl of a lock must be at least {MIN_TTL:g} seconds")
        self.key = key
        self.revision = 0
        self.lost = threading.Event()
        self.on_loss: Callable[[], None] = lambda: None
        self._cache = cache
        self._note = note
        self._owner = owner
        self._wait = wait
        self._token = ""
        self._entry_revision = 0
        self._until = 0.0
        self._released = threading.Event()
        self._losing = threading.Lock()
        self._is_unsure = False
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock, and renew it from then on.

        Raises:
            LockTimeoutError: Somebody else has it for all of the time that was to be waited.
        """
        if self._thread is not None:
            raise RuntimeError(f"the lock {self.key!r} is held already")
        end = math.inf if self._wait is None else time.monotonic() + self._wait
        self._token = secrets.token_hex(16)
        self._is_unsure = False
        self.lost.clear()
        # One for each time that it is held: a thread of the time before may still be there.
        released = self._released = threading.Event()
        try:
            self._take(end)
        except BaseException:
            # It may be ours without our knowing.
            if self._is_unsure:
                with suppress(CacheError):
                    self._give_back()
            raise
        self.revision = self._entry_revision
        self._thread = self._start(self._renew_always, released)
        # A renewal may hang, and the holder has to know all the same; and of what happens between two of them.
        self._start(self._watch_time, released)
        self._start(self._watch_marker, released)

    def _start(self, work: Callable[[threading.Event], None], released: threading.Event) -> threading.Thread:
        thread = threading.Thread(target=work, args=(released,), name=f"supervisor_cache lock {self.key}", daemon=True)
        # Signals are for the threads that the program knows of.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return thread

    def release(self) -> None:
        """Let go of the lock; raises `LockLostError` if it was lost before."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._losing:
            self._released.set()
        if thread is not threading.current_thread():  # as on_loss is called
            thread.join()
        self.check()
        # If this fails, the marker ends by itself; so it does where the client has been closed.
        with suppress(CacheError, ValueError):
            self._give_back()

    def check(self) -> None:
        """Raise `LockLostError` if the lock has been lost."""
        # After the machine was suspended, before any thread has noticed.
        if self.lost.is_set() or (self._thread is not None and elapsed() >= self._until):
            raise LockLostError(f"the lock {self.key!a} has been lost")

    def __enter__(self) -> "Lock":  # noqa: PYI034 - Self is newer than Python 3.10
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except LockLostError:
            # An error of the holder says more, and may come of the loss.
            if error is None:
                raise

    # Taking

    def _take(self, end: float) -> None:
        has_answered = False
        while True:
            try:
                if self._try():
                    return
                has_answered = True
                self._wait_for_change(end)
            except CacheError as error:
                # A reload of supervisord, most likely.
                away = is_absence(error) or isinstance(error, UnknownOutcomeError)
                if not (away and has_answered) or time.monotonic() >= end:
                    raise
                time.sleep(_PAUSE)

    def _try(self) -> bool:
        began = elapsed()
        value: Value = {"token": self._token, "host": socket.gethostname(), "pid": os.getpid()}
        try:
            revision = self._cache.add(self.key, value, ttl=self._ttl, note=self._note, owner=self._owner)
        except UnknownOutcomeError:
            self._is_unsure = True
            revision = None
        if revision is None:
            return self._is_unsure and self._claim()
        self._entry_revision = revision
        self._until = began + self._ttl * _GIVE_UP
        return True

    def _claim(self) -> bool:
        """Answer whether the marker is ours, set by a request whose answer did not arrive: its time begins anew."""
        found = self._look()
        if found is None:
            return False
        self._entry_revision = found
        began = elapsed()
        if not self._renew():
            return False
        self._until = began + self._ttl * _GIVE_UP
        return True

    def _look(self) -> int | None:
        """Answer the revision of our marker; None where it is not there."""
        try:
            entry = self._cache.get_entry(self.key)
        except NoSuchKeyError:
            return None
        return entry.revision if self._is_ours(entry) else None

    def _is_ours(self, entry: "Entry") -> bool:
        value: Any = entry.value
        return isinstance(value, dict) and value.get("token") == self._token

    def _wait_for_change(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:
            raise LockTimeoutError(f"the lock {self.key!a} is held by somebody else: {self._holder()}")
        try:
            revision = self._cache.get_revision()
            if not self._is_free():
                self._cache.wait(revision, min(left, _LONGEST_WAIT), self.key)
        except LimitExceededError:  # too many wait already
            time.sleep(min(_PAUSE, left))

    def _is_free(self) -> bool:
        try:
            self._cache.get_entry(self.key)
        except NoSuchKeyError:
            return True
        return False

    def _holder(self) -> str:
        with suppress(CacheError):
            entry = self._cache.get_entry(self.key)
            value: Any = entry.value
            where = f"pid {value.get('pid')} on {value.get('host')}" if isinstance(value, dict) else "an entry"
            return ascii(f"{where}, {entry.note}" if entry.note else where)[1:-1]
        return "nobody knows whom"

    # Holding

    def _renew_always(self, released: threading.Event) -> None:
        pause = self._ttl * _RENEW
        while not released.wait(pause) and not self.lost.is_set():
            began = elapsed()
            try:
                if not self._renew():
                    self._lose(released)
                    return
            except CacheError:
                # Away, or it refuses: the marker lives on until its time is over.
                pause = _PAUSE
            except ValueError:  # the client has been closed
                return
            else:
                pause = self._ttl * _RENEW
                self._until = began + self._ttl * _GIVE_UP

    def _watch_time(self, released: threading.Event) -> None:
        while not released.wait(max(0.0, self._until - elapsed())):
            if elapsed() >= self._until:
                self._lose(released)
                return

    def _watch_marker(self, released: threading.Event) -> None:
        since = self.revision
        while not (released.is_set() or self.lost.is_set()):
            try:
                waited = self._cache.wait(since, _LONGEST_WAIT, self.key)
                if waited.changed and self._look() is None:
                    self._lose(released)
                since = waited.revision
            except LimitExceededError:  # too many wait already
                released.wait(self._ttl * _RENEW)
            except CacheError:
                released.wait(_PAUSE)
            except ValueError:  # the client has been closed
                return

    def _lose(self, released: threading.Event) -> None:
        with self._losing:
            if self.lost.is_set() or released.is_set():
                return
            self.lost.set()
        self.on_loss()

    def _renew(self) -> bool:
        """Have the marker live on; answer whether it is there."""
        while True:
            revision = self._cache.touch_if(self.key, self._ttl, self._entry_revision)
            if revision is not None:
                self._entry_revision = revision
                return True
            # Somebody has touched it, or an answer has been lost; or it is not ours any more.
            found = self._look()
            if found is None:
                return False
            self._entry_revision = found

    def _give_back(self) -> None:
        while (found := self._look()) is not None:
            if self._cache.delete_if(self.key, found):
                return
