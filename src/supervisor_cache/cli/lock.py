"""``lock``: a command that runs while a lock is held."""

import os
import shutil
import signal
import sys
import threading
from contextlib import suppress

from supervisor_cache.cli.globals import Globals
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.client.locking import Lock
from supervisor_cache.commands.arguments import UsageError, Words
from supervisor_cache.commands.durations import seconds
from supervisor_cache.commands.failures import TEMPORARY, FailureError
from supervisor_cache.commands.output import bare, complain, printable, say_on_stderr
from supervisor_cache.commands.verbs import owner_of
from supervisor_cache.commands.waiting import entry_of
from supervisor_cache.core.keys import checked_key
from supervisor_cache.errors import LockLostError, LockTimeoutError

_NOT_FOUND = 127
_NOT_STARTED = 126
_BY_SIGNAL = 128
_ANY_LENGTH = 2**31
# Seconds between SIGTERM and SIGKILL, once the lock is lost.
_GRACE = 10.0
_DEFAULT_TTL = 30.0
# Passed on to the command. SIGINT and SIGQUIT of a terminal reach it without us.
_PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
    signal.SIGWINCH,
)
_FROM_KERNEL = 0x80


def run(options: Globals, words: Words) -> int:
    """Hold the lock while the command runs."""
    key, *command = words.arguments
    if command[0] == "--":
        del command[0]
    if not command:
        raise UsageError("COMMAND is missing")
    ttl = seconds(words.values["ttl"], "--ttl") if "ttl" in words.values else _DEFAULT_TTL
    wait = seconds(words.values["wait"], "--wait") if "wait" in words.values else None
    owner = owner_of(words.values.get("owner", ""))
    path = shutil.which(command[0])
    if path is None and "/" in command[0] and os.path.exists(command[0]):
        raise FailureError(_NOT_STARTED, "not executable", command[0])
    if path is None:
        raise FailureError(_NOT_FOUND, "command not found", command[0])
    cache = options.connect()
    lock = cache.lock(checked_key(key, _ANY_LENGTH), ttl=ttl, note=words.values.get("note", ""), owner=owner, wait=wait)
    try:
        _acquire(cache, lock, key, wait)
    except LockTimeoutError as error:
        raise FailureError(TEMPORARY, error.text) from None
    try:
        return _Command(path, command, lock, kill="kill-on-loss" in words.flags).run()
    finally:
        with suppress(LockLostError):  # it has been told
            lock.release()


def _acquire(cache: CacheClient, lock: Lock, key: str, wait: float | None) -> None:
    """Take the lock; people who wait are told for whom."""
    if wait != 0 and sys.stderr is not None and sys.stderr.isatty():
        holder = entry_of(cache, key)
        if holder is not None:
            who = f"{bare(holder.value)} {holder.note}".rstrip()
            say_on_stderr(printable(f"lock: {key} is held by somebody else: {who[:200]}; waiting"))
    lock.acquire()


class _Command:
    """A command in the foreground.

    Args:
        path: Of the program.
        words: The command.
        lock: Held while it runs.
        kill: Whether it is ended when the lock is lost.
    """

    def __init__(self, path: str, words: list[str], lock: Lock, *, kill: bool) -> None:
        self._path = path
        self._words = words
        self._lock = lock
        self._kill = kill
        self._pid = 0
        self._ended = threading.Event()
        self._reaping = threading.Lock()

    def run(self) -> int:
        """Run it, pass signals on, and answer its status, as a shell tells it."""
        taken = {*_PASSED_ON, signal.SIGCHLD}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
        # Ignored, it would not be told at all.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            environment = {**os.environ, "SUPERVISOR_CACHE_LOCK_REVISION": str(self._lock.revision)}
            try:
                # Python ignores these, and the command would inherit that.
                self._pid = os.posix_spawn(
                    self._path, self._words, environment, setsigmask=before, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]
                )
            except OSError as error:
                raise FailureError(_NOT_STARTED, error.strerror or str(error), self._words[0]) from None
            self._lock.on_loss = self._lost
            if self._lock.lost.is_set():
                self._lost()
            return self._wait(taken)
        finally:
            self._ended.set()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _wait(self, taken: set[signal.Signals]) -> int:
        while True:
            told = signal.sigwaitinfo(taken)
            if told.si_signo == signal.SIGCHLD:
                with self._reaping:
                    pid, status = os.waitpid(self._pid, os.WNOHANG)
                    if pid:
                        self._ended.set()
                if pid:
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else _BY_SIGNAL - code
            elif told.si_code != _FROM_KERNEL:
                os.kill(self._pid, told.si_signo)

    def _lost(self) -> None:
        complain(self._lock.key, "the lock has been lost" + ("; the command is ended" if self._kill else ""))
        if self._kill:
            self._send(signal.SIGTERM)
            if not self._ended.wait(_GRACE):
                self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # Once it has been reaped, its pid may be another one's.
        with self._reaping:
            if not self._ended.is_set():
                os.kill(self._pid, number)
