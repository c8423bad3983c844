"""``on-change``: the command of an ``[eventlistener]`` that acts when something has changed.

The main thread answers supervisord at once, whatever else happens. A second one collects what changed, and acts.
"""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TextIO
from urllib.parse import unquote

from supervisor_cache.cli.actions import Action, ActionError, Burst, Restart, Run, Signal
from supervisor_cache.cli.globals import Globals
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.commands.arguments import UsageError, Words
from supervisor_cache.commands.durations import seconds
from supervisor_cache.commands.output import as_json, printable, say_on_stderr
from supervisor_cache.commands.waiting import entry_of
from supervisor_cache.core.entry import CLEAR, RESET, STORE
from supervisor_cache.core.keys import checked_prefix
from supervisor_cache.core.publication import PREFIX as OF_PROCESSES
from supervisor_cache.core.text import shown
from supervisor_cache.errors import CacheError, HistoryGoneError

_SETTLE = 0.5
# A burst that does not end is acted upon after so many times the time that it has to settle.
_LONGEST_BURST = 10
_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
# Seconds that the last action may take when supervisord ends the listener, which it gives 10 s.
_FINISH = 8.0
# Seconds between two looks for what no event has told.
_LOOK = 10.0


class Told(NamedTuple):
    """What an event tells of a change.

    Attributes:
        seq: Grows by one with each event of a cache.
        kind: Of the change.
        key: Its key.
        revision: Its revision.
        value: As JSON; None where it was left out.
    """

    seq: int
    kind: str
    key: str
    revision: int
    value: str | None


def run(options: Globals, words: Words) -> int:
    """Act on changes until supervisord closes standard input."""
    action = _action(options, words)
    prefix = checked_prefix(words.values.get("prefix", ""))
    settle = seconds(words.values["settle"], "--settle") if "settle" in words.values else _SETTLE
    if "SUPERVISOR_ENABLED" not in os.environ:
        raise UsageError("on-change is for the command of an [eventlistener] section: supervisord runs it")
    worker = Worker(options.connect(), options.namespace, prefix, settle, action)
    thread = threading.Thread(target=worker.run, name="on-change", daemon=True)
    thread.start()
    try:
        signal.signal(signal.SIGTERM, _end)
        listen(sys.stdin, sys.stdout, options.namespace, worker.tell)
    finally:
        # What has been told of is acted upon, once: supervisord has its answer, and will not tell again.
        worker.finish()
        thread.join(_FINISH)
        if thread.is_alive():
            # Left behind, it would run beside what the next listener starts, and nobody would know of it.
            action.end()
    return 0


def _end(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _action(options: Globals, words: Words) -> Action:
    wanted = words.flags & {"restart", "run"} | words.values.keys() & {"signal"}
    if len(wanted) != 1:
        raise UsageError("give one of --signal, --restart and --run")
    if "run" in wanted:
        return Run(words.arguments, os.environ)
    transport = options.transport()
    if "restart" in wanted:
        return Restart(transport, words.arguments, os.environ)
    return Signal(transport, words.arguments, os.environ, words.values["signal"])


def listen(stdin: TextIO, stdout: TextIO, namespace: str, tell: Callable[[Told], None]) -> None:
    """Answer supervisord's events, and ``tell`` each one of ``namespace``, until there are no more."""
    while True:
        stdout.write("READY\n")
        stdout.flush()
        line = stdin.readline()
        if not line:
            return
        head = _tokens(line)
        payload = stdin.read(int(head["len"]))
        try:
            told = _told(head["eventname"], payload, namespace)
            if told is not None:
                tell(told)
        except (KeyError, ValueError) as error:
            _log(f"an event of another kind: {head.get('eventname')}: {error!r}")
        stdout.write("RESULT 2\nOK")
        stdout.flush()


def _tokens(line: str) -> dict[str, str]:
    return dict(token.split(":", 1) for token in line.split())


def _told(name: str, payload: str, namespace: str) -> Told | None:
    if not name.startswith("CACHE_"):
        return None
    line, _, value = payload.partition("\n")
    head = {token: unquote(text) for token, text in _tokens(line).items()}
    if head["namespace"] != namespace:
        return None
    return Told(
        int(head["seq"]),
        name.removeprefix("CACHE_").lower(),
        head["key"],
        int(head["revision"]),
        None if head.get("value") == "omitted" else value,
    )


class Worker:
    """Collects changes, and acts once they have settled.

    Args:
        cache: Asked for what no event has told.
        namespace: Its name.
        prefix: Only keys that start so count.
        settle: Seconds.
        action: What to do.
    """

    def __init__(self, cache: CacheClient, namespace: str, prefix: str, settle: float, action: Action) -> None:
        self._cache = cache
        self._namespace = namespace
        self._prefix = prefix
        self._settle = settle
        self._action = action
        self._news = threading.Condition()
        self._seq: int | None = None
        # All up to this revision has been told, or was there before us; and all up to this one has been asked for.
        self._revision: int | None = None
        self._asked = 0
        self._ends = False
        self._missed = False
        # What has been told of later revisions: an event of the same revision may still be missing.
        self._noted: set[tuple[int, str]] = set()
        self._keys: dict[str, None] = {}
        self._newest = Told(0, "", "", 0, "")
        self._first = self._last = math.inf
        try:
            self._revision = cache.get_revision()
        except CacheError as error:
            _log(f"{error}; changes are known by events alone")

    def tell(self, told: Told) -> None:
        """Take note of an event."""
        with self._news:
            if self._seq is not None and told.seq != self._seq + 1:
                self._missed = True
                self._news.notify_all()
            self._seq = told.seq
            if told.revision <= self._asked:
                return  # it has been asked for already
            if not self._missed:
                self._advance(told.revision - 1)
            self._note(told)

    def _advance(self, revision: int) -> None:
        self._revision = max(self._revision or 0, revision)
        self._noted = {(number, key) for number, key in self._noted if number > self._revision}

    def _note(self, told: Told) -> None:
        if told.kind not in {CLEAR, RESET} and not self._counts(told.key):
            return
        if (told.revision, told.key) in self._noted:
            return
        now = time.monotonic()
        self._noted.add((told.revision, told.key))
        self._keys[told.key] = None
        self._newest = max(told, self._newest, key=lambda one: (one.revision, one.seq))
        self._first = min(self._first, now)
        self._last = now
        self._news.notify_all()

    def _counts(self, key: str) -> bool:
        if key.startswith(OF_PROCESSES) and not self._prefix.startswith(OF_PROCESSES):
            return False  # what a process says of itself, unless it is asked for
        return key.startswith(self._prefix)

    def finish(self) -> None:
        """Have what has changed acted upon now, and end."""
        with self._news:
            self._ends = True
            self._news.notify_all()

    def run(self) -> None:
        """Act, until `finish`."""
        pause = 0.0
        failed: Burst | None = None
        while True:
            burst: Burst | None = None
            try:
                burst = self._collect(pause if failed is not None else _LOOK)
                if burst is None and failed is None:
                    if self._ends:
                        return
                    self._look(always=True)
                    continue
                what = _together(failed, burst)
                done = self._action.act(what, again=burst is None)
            except Exception as error:  # noqa: BLE001 - the listener lives on whatever happens
                failed = failed if burst is None else _together(failed, burst)
                pause = min(max(_PAUSE, pause * 2), _LONGEST_PAUSE)
                why = str(error) if isinstance(error, ActionError) else repr(error)
                _log(f"{_about(failed)}{why}; trying again in {pause:g} s")
                if failed is None:  # else `_collect` waits
                    time.sleep(pause)
            else:
                failed, pause = None, 0.0
                _log(f"{_about(what)}{done}")
            if self._ends:
                return

    def _collect(self, patience: float) -> Burst | None:
        """Wait for changes to settle, for as long as ``patience`` where there are none; None then."""
        end = time.monotonic() + patience
        while True:
            if self._missed:
                self._look(always=False)
            with self._news:
                now = time.monotonic()
                due = min(self._last + self._settle, self._first + self._settle * _LONGEST_BURST)
                if self._ends:
                    return self._take() if due != math.inf else None
                if now >= due and not self._missed:
                    return self._take()
                if due == math.inf and now >= end:
                    return None
                self._news.wait(max(0.0, min(due, end if due == math.inf else due) - now) or 0.01)

    def _take(self) -> Burst:
        newest, keys = self._newest, list(self._keys)
        self._keys = {}
        self._newest = Told(0, "", "", 0, "")
        self._first = self._last = math.inf
        self._news.release()
        try:
            value = self._value(newest)
        finally:
            self._news.acquire()
        return Burst(self._namespace, newest.key, newest.kind, str(newest.revision), value, keys)

    def _value(self, told: Told) -> str:
        if told.value is not None:
            return told.value
        try:
            entry = entry_of(self._cache, told.key)
            return "" if entry is None else as_json(entry.value)
        except Exception as error:  # noqa: BLE001 - what has changed is acted upon all the same
            _log(f"the value of {shown(told.key)}: {error!r}")
            return ""

    def _look(self, *, always: bool) -> None:
        """Ask for what no event has told."""
        with self._news:
            since, known, self._missed = self._revision, set(self._noted), False
        if since is None:
            if not always:
                self._act_anyway("events have been missed")
            return
        try:
            changes = self._cache.get_changes(since, self._prefix)
            newest = max([since, *(change.revision for change in changes)])
        except HistoryGoneError:
            # Where no event is missing, it is only that we have not asked for long.
            if not always:
                self._act_anyway("changes have been missed, and are not known any more")
            return
        except CacheError as error:
            if not always:
                self._act_anyway(f"events have been missed: {error}")
            return
        with self._news:
            for change in changes:
                if (change.revision, change.key) in known:
                    continue
                value = None if change.kind == STORE else ""
                self._note(Told(0, change.kind, change.key, change.revision, value))
            self._advance(newest)
            self._asked = max(self._asked, newest)

    def _act_anyway(self, why: str) -> None:
        _log(f"{why}: acting as if something had changed")
        try:
            newest: int | None = self._cache.get_revision()
        except CacheError:
            newest = None
        with self._news:
            if newest is not None:
                self._advance(newest)
                self._asked = max(self._asked, newest)
            self._note(Told(0, RESET, "", newest or 0, ""))
            self._noted.clear()


def _together(failed: Burst | None, burst: Burst | None) -> Burst:
    if failed is None or burst is None:
        found = burst or failed
        assert found is not None  # noqa: S101 - one of them is there
        return found
    return burst._replace(keys=list(dict.fromkeys([*failed.keys, *burst.keys])))


def _about(burst: Burst | None) -> str:
    if burst is None:
        return ""
    what = f"{burst.kind} {shown(burst.key)}" if burst.key else burst.kind
    more = f" and {len(burst.keys) - 1} more" if len(burst.keys) > 1 else ""
    return f"{what}{more}, revision {burst.revision}: "


def _log(line: str) -> None:
    say_on_stderr(f"on-change: {printable(line)}")
