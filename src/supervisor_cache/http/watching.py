"""Those who wait for changes over HTTP: long polls, and streams of server-sent events."""

import time
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from supervisor_cache.core.entry import CLEAR, RESET, Batch, Entry
from supervisor_cache.core.history import Change
from supervisor_cache.errors import CacheError, HistoryGoneError, LimitExceededError
from supervisor_cache.http.clients import Client, Sink
from supervisor_cache.http.replies import Reply
from supervisor_cache.http.shapes import event_json
from supervisor_cache.server.log import Log, contain
from supervisor_cache.server.namespace import Namespace
from supervisor_cache.server.waiting import Waiter

# A stream is owed no more than this and one event; what comes meanwhile is told once it has taken what it is owed.
_MOST_OWED = 128 * 1024
# Bytes that a change takes in an event at least.
_LEAST_BYTES = 80
# Seconds for all streams, or for all long polls, and then for everybody else: a request takes several rounds of the
# loop, and of many new connections it takes one in each.
_SLICE = 0.005
_REST = 0.01
# Commits that are kept for streams for which there was no time yet, before they have to ask the history; and how many
# events made for them are.
_MOST_COMMITS = 32
_KEPT_EVENTS = 64
# Of the history: changes that are asked for at once, bytes that are told at once, and how many such pieces are kept for
# others who ask for the same, as all do after a restart of what stands between.
_PAGE = 200
_PAGE_BYTES = 64 * 1024
_KEPT_PAGES = 16
# Seconds between two looks at streams that nothing has come for.
_LOOK = 0.5
# Seconds between two signs of life; and after which a client is dropped that has taken nothing of what it is owed.
_COMMENT = 15.0
_STALLED = 60.0
_HEAD = b"retry: 1000\n\n"


class _Poll:
    """One client that waits for an answer."""

    def __init__(self, client: Client, waiter: Waiter, end: float, reply: Callable[[], Reply]) -> None:
        self.client = client
        self.waiter = waiter
        self.end = end
        self.reply = reply


class _Stream:
    """One client that follows changes.

    Attributes:
        position: All changes up to this revision have been told.
        behind: Whether there may be more, which the history is asked for.
    """

    def __init__(self, sink: Sink, waiter: Waiter, position: int, now: float, *, behind: bool) -> None:
        self.sink = sink
        self.waiter = waiter
        self.prefix = waiter.prefix
        self.position = position
        self.behind = behind
        self.spoken = now
        self.owed = 0
        self.moved = now


class _Page(NamedTuple):
    """A piece of the history as a stream tells it.

    Attributes:
        data: The events.
        position: All changes up to this revision are told then.
        more: Whether there may be more.
    """

    data: bytes
    position: int
    more: bool


class Watchers:
    """Those who wait for the changes of one cache, on all servers; an observer of its commits.

    Args:
        namespace: The cache.
        log: Where failures go.
        wake: Has the next round of the loop come at once.
        shutting_down: Whether supervisord is on its way out.
    """

    def __init__(
        self, namespace: Namespace, log: Log, wake: Callable[[], None], shutting_down: Callable[[], bool]
    ) -> None:
        self._namespace = namespace
        self._cache = namespace.cache
        self._log = log
        self._wake = wake
        self._shutting_down = shutting_down
        self._polls: list[_Poll] = []
        self._streams: list[_Stream] = []
        self._commits: list[Batch] = []
        self._behind: list[_Stream] = []
        self._due = 0.0
        self._rested = 0.0
        self._polls_rested = 0.0
        self._commits_rested = 0.0
        self._told: dict[tuple[str, int], bytes] = {}
        self._pages: dict[tuple[str, int], _Page] = {}
        self._pages_at = 0

    def poll(self, client: Client, server: str, prefix: str, seconds: float, reply: Callable[[], Reply]) -> None:
        """Answer ``client`` once something has changed, or after so many seconds.

        Raises:
            LimitExceededError: Too many wait already.
        """
        waiter = self._add(server, prefix)
        self._polls.append(_Poll(client, waiter, waiter.seen + seconds, reply))

    def stream(self, client: Client, server: str, prefix: str, since: int | None) -> None:
        """Tell ``client`` of all changes after ``since``, or from now on.

        Raises:
            LimitExceededError: Too many wait already.
        """
        waiter = self._add(server, prefix)
        position = self._cache.revision if since is None else since
        sink = client.open_stream()
        stream = _Stream(sink, waiter, position, time.monotonic(), behind=since is not None)
        sink.send(_HEAD)
        self._streams.append(stream)
        if stream.behind:
            # Told in a later round: many may come at once, as after a reload.
            self._behind.append(stream)
            self._due = min(self._due, self._rested)
            self._wake()

    def _add(self, server: str, prefix: str) -> Waiter:
        return self._namespace.waiting.add(prefix, server, self._wake, self._namespace.settings.max_watchers)

    def __call__(self, batch: Batch) -> None:
        """Take note of a commit: it is told in the next round, and its writer has its answer before."""
        if self._streams:
            self._commits.append(batch)
            self._wake()

    def do_round(self) -> None:
        """Answer and tell; to be called in each round of the loop."""
        if self._polls:
            self._answer()
        # Not in each round: a look at a hundred streams would make every request slower.
        if self._streams and (self._is_time() or self._shutting_down()):
            self._tell()
        if self._commits or any(stream.sink.owed() <= _MOST_OWED for stream in self._behind):
            self._wake()

    def _is_time(self) -> bool:
        now = time.monotonic()
        return now >= self._due or (bool(self._commits) and now >= self._commits_rested)

    def close(self) -> None:
        """Let go of all: their connections are being closed."""
        self._polls.clear()
        for stream in self._streams:
            stream.sink.close()
        self._streams.clear()
        self._behind.clear()
        self._commits.clear()
        self._told.clear()

    # Long polls

    def _answer(self) -> None:
        waiting, now, ends = self._namespace.waiting, time.monotonic(), self._shutting_down()
        end = now + _SLICE if now >= self._polls_rested else now
        left, late = [], False
        for poll in self._polls:
            due = poll.waiter.changed or now >= poll.end
            if not poll.client.is_there():
                waiting.remove(poll.waiter)
            elif ends or (due and time.monotonic() < end):
                waiting.remove(poll.waiter)
                contain(self._log, "a long poll", None, _settle, poll)
            else:
                late = late or due
                waiting.look(poll.waiter)
                left.append(poll)
        self._polls = left
        if late:
            if end > now:
                self._polls_rested = time.monotonic() + _REST
            self._wake()

    # Streams

    def _tell(self) -> None:
        waiting, now = self._namespace.waiting, time.monotonic()
        # What ends while this is told, and is noticed by it, is for the next round.
        commits, self._commits = self._commits, []
        end = now + _SLICE if now >= self._rested else now
        commits_end = now + _SLICE if now >= self._commits_rested else now
        left: list[_Stream] = []
        for stream in self._streams:
            if contain(self._log, "a stream", False, self._serve, stream, now, end, commits, commits_end):  # noqa: FBT003 - whether it goes on
                waiting.look(stream.waiter)
                left.append(stream)
            else:
                waiting.remove(stream.waiter)
                stream.sink.close()
        if self._keep(commits, left) and commits_end > now:
            self._commits_rested = time.monotonic() + _REST
        # Who has been told nothing for longest comes first in the next round.
        self._streams = sorted(left, key=attrgetter("spoken"))
        self._behind = [stream for stream in left if stream.behind]
        if end > now:
            self._rested = time.monotonic() + _REST
        self._due = self._rested if self._behind else now + _LOOK
        if not self._behind:
            self._pages.clear()

    def _keep(self, commits: list[Batch], streams: list[_Stream]) -> bool:
        """Keep ``commits`` for those of ``streams`` that have not been told of all of them; answer whether it does."""
        late = [stream for stream in streams if commits and stream.position < commits[-1].revision]
        late = [stream for stream in late if not stream.behind]
        if late and len(commits) <= _MOST_COMMITS:
            self._commits[:0] = commits
            return True
        for stream in late:
            stream.behind = True
        self._told.clear()
        return False

    def _serve(self, stream: _Stream, now: float, end: float, commits: list[Batch], commits_end: float) -> bool:
        """Tell ``stream`` what it does not know; answer whether it goes on."""
        if self._shutting_down() or not self._is_alive(stream, now):
            return False
        stream.waiter.changed = False
        if not stream.behind:
            self._follow(stream, commits_end, commits)
        if stream.behind:
            self._catch_up(stream, end)
        if now - stream.spoken >= _COMMENT:
            self._send(stream, b":\n\n")
        return True

    def _is_alive(self, stream: _Stream, now: float) -> bool:
        owed = stream.sink.owed()
        if owed < stream.owed or not owed:
            stream.moved = now
        stream.owed = owed
        return stream.sink.is_there() and now - stream.moved < _STALLED

    def _follow(self, stream: _Stream, end: float, commits: list[Batch]) -> None:
        """Tell of ``commits``, as many as there is time for."""
        for batch in commits:
            # What is copied anew may be of an etcd that was set up anew, and begins again with small revisions.
            is_reset = batch.mutations[0][0] == RESET and batch.revision != stream.position
            if batch.revision <= stream.position and not is_reset:
                continue
            if stream.sink.owed() > _MOST_OWED:
                stream.behind = True
                return
            if time.monotonic() >= end:
                return
            place = stream.prefix, batch.revision
            event = self._told.get(place)
            if event is None:
                if len(self._told) >= _KEPT_EVENTS:
                    self._told.clear()
                event = self._told[place] = self._event_of(batch, stream.prefix)
            stream.position = batch.revision
            if event:
                self._send(stream, event)

    def _event_of(self, batch: Batch, prefix: str) -> bytes:
        """Answer the event of a commit; empty where no key with ``prefix`` has changed."""
        if batch.mutations[0][0] == RESET:
            return _reset(batch.revision)
        found = [one for one in batch.mutations if one[1].startswith(prefix) or one[0] == CLEAR]
        if not found:
            return b""
        if len(found) * _LEAST_BYTES > _MOST_OWED:
            return _reset(batch.revision)
        changes = [Change(batch.revision, kind, key, batch.time, batch.note, batch.via) for kind, key, _ in found]
        return self._telling(batch.revision, changes, [entry for _, _, entry in found])

    def _telling(self, revision: int, changes: list[Change], entries: list[Entry | None]) -> bytes:
        """Answer the event of changes; of more than a client may be owed, that it has to start over."""
        if len(changes) * _LEAST_BYTES > _MOST_OWED:
            return _reset(revision)
        event = _event(revision, event_json(self._cache, changes, entries))
        return event if len(event) <= _MOST_OWED else _reset(revision)

    def _catch_up(self, stream: _Stream, end: float) -> None:
        """Tell what the history knows, as much as the client takes and there is time for."""
        while stream.behind and stream.sink.owed() <= _MOST_OWED and time.monotonic() < end:
            try:
                page = self._page(stream.prefix, stream.position)
            except CacheError as error:
                # It comes back, and is told then.
                self._log.repeated("stream", f"a stream of {self._namespace.name} is closed: {error}")
                stream.sink.close()
                return
            stream.position = page.position
            stream.behind = page.more
            if page.data:
                self._send(stream, page.data)

    def _page(self, prefix: str, position: int) -> _Page:
        """Answer what the history has after ``position``."""
        if self._pages_at != self._cache.revision:
            self._pages.clear()
            self._pages_at = self._cache.revision
        page = self._pages.get((prefix, position))
        if page is None:
            page = self._page_of(prefix, position)
            if len(self._pages) >= _KEPT_PAGES:
                del self._pages[next(iter(self._pages))]
            self._pages[prefix, position] = page
        return page

    def _page_of(self, prefix: str, position: int) -> _Page:
        newest = self._cache.revision
        try:
            changes = self._changes(prefix, position)
        except HistoryGoneError:
            return _Page(_reset(newest), newest, more=False)
        if not changes:
            return _Page(b"", max(position, newest), more=False)
        told: list[bytes] = []
        size = 0
        for revision, found in groupby(changes, key=attrgetter("revision")):
            one = list(found)
            event = self._telling(
                revision, one, [self._cache.peek(change.key) if change.key else None for change in one]
            )
            size += len(event)
            if told and size > _PAGE_BYTES:
                break
            told.append(event)
            position = revision
        return _Page(b"".join(told), position, more=True)

    def _changes(self, prefix: str, position: int) -> list[Change]:
        size = _PAGE
        while True:
            try:
                return self._cache.changes(str(position), prefix, size)
            except LimitExceededError:
                if size == 1:
                    raise
                size //= 2

    def _send(self, stream: _Stream, data: bytes) -> None:
        stream.spoken = time.monotonic()
        stream.sink.send(data)


def _settle(poll: _Poll) -> None:
    poll.client.respond(poll.reply())


def _reset(revision: int) -> bytes:
    return _event(revision, f'{{"revision":"{revision}"}}', RESET)


def _event(revision: int, data: str, kind: str = "") -> bytes:
    name = f"event: {kind}\n" if kind else ""
    return f"{name}id: {revision}\ndata: {data}\n\n".encode()
