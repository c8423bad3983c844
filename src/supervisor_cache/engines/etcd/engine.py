"""``storage = etcd://HOST:PORT,.../PREFIX``: one cache that many supervisords share.

What is in memory is a copy of what etcd holds. It changes only as etcd's watch tells, this host's own writes
included, and so has each change once and in etcd's order; etcd's revisions are the cache's.
"""

import math
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask, valid_signals
from typing import Any, NamedTuple, Protocol

from supervisor_cache.core.answer import Answer
from supervisor_cache.core.engine import Conflict, Content, Outcome, Refused, State, Told
from supervisor_cache.core.entry import CLEAR, EXPIRE, NEVER, RELEASE, Batch, Clock, Entry, Mutation
from supervisor_cache.core.limits import MIB
from supervisor_cache.core.text import utf8_length
from supervisor_cache.engines.etcd.following import (
    Changed,
    Confirmed,
    Connected,
    Copied,
    Disconnected,
    Follower,
    Keeper,
    Mark,
    Message,
)
from supervisor_cache.engines.etcd.gateway import Cluster, UnreachedError
from supervisor_cache.engines.etcd.leasing import Lease, Spent
from supervisor_cache.engines.etcd.options import Options
from supervisor_cache.engines.etcd.records import ENDED, NO_HOLD, Hold, Reader, Update
from supervisor_cache.engines.etcd.writing import Committed, Done, Full, Job, Overtaken, Result, Writer
from supervisor_cache.errors import (
    CacheError,
    InvalidArgumentsError,
    LimitExceededError,
    UnavailableError,
    UnknownOutcomeError,
)

_WRITERS = 4
# Of one transaction: etcd takes 128 operations and 1.5 MiB.
MOST_MUTATIONS = 100
_MOST_COMPARED = 120
_MOST_BYTES = MIB
_LEAST_TTL = 2
# The difference of two doubles may be a little more, or less, than what was asked for.
_ROUNDING = 1e-3
# Seconds in one round of the loop.
_SLICE = 0.005
# Seconds between two looks at what is due, and beyond the end of a write that its thread has to answer.
_LOOK = 0.1
_GRACE = 0.3
# Seconds without contact that are not worth telling: an election.
_SILENCE = 2.0
# Seconds after which what has been missed is told to who listens again.
_SETTLE = 0.5
# Seconds by which an end may be late, in etcd.
_LATE = 2.0
# Seconds after which a write is planned again that was overtaken by what the copy does not know: a lease that ended.
_AGAIN = 0.02
# Seconds that the end of a generation of supervisord waits for the threads: they end at once, but for one that looks
# up the name of a member, which takes seconds where no name server answers.
_JOIN = 5.0
_JOIN_KEEPER = 0.3
# Characters of what etcd says.
_MOST_TEXT = 400
# Seconds since the copy was last known to be whole: several times as many as between two looks.
_STALE = 4.0


class Copy(Protocol):
    """What holds the entries in memory."""

    def receive(self, batch: Batch, *, own: bool) -> None:
        """Take over a change that has been committed."""

    def hide(self, keys: list[str]) -> None:
        """Have the entries of ``keys`` not be read any more, without a change."""

    def show(self, entries: Mapping[str, Entry]) -> None:
        """Have ``entries``, which were hidden, be read again."""

    def peek(self, key: str) -> Entry | None:
        """Answer the entry of ``key``."""

    def due(self, elapsed: float) -> list[str]:
        """List the keys whose end has come."""


class _Ended(NamedTuple):
    """An entry that has ended here, and is on its way to be deleted in etcd."""

    kind: str
    via: str
    entry: Entry


class EtcdEngine:
    """Commits to an etcd cluster, and follows it.

    Args:
        options: See `Options`.
        clock: The time.
        copy: What holds the entries.
        wake: Has the next round of the loop come at once, from any thread.

    Attributes:
        revision: Of the copy.
        has_been_read: Whether what is in memory has come from it.
        is_copied: Whether what is in memory is a copy of etcd, and no mirror's.
        is_starting: Whether it has not been reached yet, and had no time for that.
    """

    kind = "etcd"
    shared = True
    most_at_once = MOST_MUTATIONS
    is_new = False
    has_been_read = False
    is_starting = True

    def __init__(self, options: Options, clock: Clock, copy: Copy, wake: Callable[[], None]) -> None:
        self.options = options
        self.revision = 0
        self.state = State.UNAVAILABLE
        self.detail = "etcd has not been reached yet"
        self.skipped: frozenset[str] = frozenset()
        self._prefix = options.prefix.encode()
        self._host = secrets.token_hex(8)
        self._clock = clock
        self._copy = copy
        self._wake = wake
        self._inbox: deque[Message | Done] = deque()
        self._holds: dict[str, Hold] = {}
        # How many entries each lease keeps that is not a host's.
        self._kept: Counter[int] = Counter()
        self._jobs: dict[str, Job] = {}
        self._count = 0
        # Those that wait for the copy to come to a revision; and until a moment of the monotonic clock.
        self._awaiting: list[tuple[int, Job, Outcome]] = []
        self._again: deque[tuple[float, Job]] = deque()
        self._ending: dict[str, _Ended] = {}
        self._look_at = 0.0
        self._loaded = False
        self.is_copied = False
        # What must have ended by now, of which nobody could tell.
        self._hidden: dict[str, Entry] = {}
        self._connected = 0.0
        self._silent_since: float | None = None
        self._why = ""
        self._confirmed = self._opened = 0.0
        self._cluster_id = ""
        self._mark: Mark | None = None
        self._cluster = Cluster(options)
        self._lease = Lease(options.lease_ttl, options.timeout)
        self._spent = Spent(min(1.0, options.timeout / 3))
        self._follower: Follower | None = None
        self._keeper: Keeper | None = None
        self._writer: Writer | None = None
        self._threads: list[threading.Thread] = []

    # Life

    def open(self) -> Content | None:
        """Begin to follow; what etcd holds comes with a later `tick`."""
        options = self.options
        self._cluster = Cluster(options)
        self._lease = Lease(options.lease_ttl, options.timeout)
        reader = Reader(self._prefix, self._host, self._clock)
        shared = self._prefix, options.timeout, self._post
        follower = self._follower = Follower(self._cluster, reader, *shared, self._inbox.__len__)
        if self.is_copied:
            follower.position = self.revision
            follower.cluster_id, follower.mark = self._cluster_id, self._mark
        keeper = self._keeper = Keeper(self._cluster, follower, self._lease, self._spent, *shared, self._beat)
        writer = self._writer = Writer(
            self._cluster, self._lease, self._spent, self._prefix, self._host, options.timeout, self._post
        )
        self._silent_since = self._opened = time.monotonic()
        if self.state is State.DEGRADED:
            # It was away before the reload, and nobody has told yet that it is back.
            self._silent_since -= _SILENCE
        self._start({"follow": follower.run, "keep": keeper.run, **{f"write {n}": writer.run for n in range(_WRITERS)}})
        # What has ended in another life stays so.
        for kind, via in {(ended.kind, ended.via) for ended in self._ending.values()}:
            alike = {key: ended for key, ended in self._ending.items() if (ended.kind, ended.via) == (kind, via)}
            self._end_all(kind, via, {key: ended.entry.revision for key, ended in alike.items()})
        return None

    def _start(self, runs: dict[str, Callable[[], None]]) -> None:
        # A signal must interrupt supervisord's own wait, in its own thread.
        before = pthread_sigmask(SIG_BLOCK, valid_signals())
        try:
            for name, run in runs.items():
                thread = threading.Thread(target=run, name=f"supervisor_cache etcd {name}", daemon=True)
                thread.start()
                self._threads.append(thread)
        finally:
            pthread_sigmask(SIG_SETMASK, before)

    def close(self) -> None:
        """Give the lease back, and let go of every thread and descriptor. It can be opened again."""
        end = time.monotonic() + _JOIN
        if self._keeper is not None and self._follower is not None and self._writer is not None:
            if self.state is State.OK:
                # Or the end of the lease would be all that is told of them.
                until = time.monotonic() + _JOIN_KEEPER
                for job in [job for job in self._jobs.values() if job.must]:
                    job.is_through.wait(max(0.0, until - time.monotonic()))
            self._cluster_id = self._follower.cluster_id
            # Of what has been told, and not been taken, it is of no use.
            self._mark = self._follower.mark if self._follower.position == self.revision else None
            self._keeper.end()
            for thread in self._threads:
                if thread.name.endswith("keep"):
                    thread.join(_JOIN_KEEPER)
            self._cluster.stop()
            self._writer.stop(_WRITERS)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._threads.clear()
        self._cluster.close()
        # What has not been taken is told again.
        self._inbox.clear()
        for job in list(self._jobs.values()):
            self._give_up(job)
        self._awaiting.clear()
        self._again.clear()

    def begin_with(self, copy: Content) -> bool:
        """Go by ``copy``, which a mirror holds, until etcd has been reached; answer whether that is of use."""
        if self._loaded or not copy.revision:
            return False
        self._loaded = True
        self.revision = copy.revision
        return True

    def accept(self) -> None:
        """Take note that memory holds what etcd does: what waited for that goes on."""
        self._settle_awaiting()
        self._wake()

    def keep(self) -> None:
        """Do as `accept`: what is in memory never goes to etcd as it is."""
        self.accept()

    # In supervisord's loop

    def tick(self) -> Content | None:
        """Take what the threads have brought; answer all that is stored where it has to be read anew."""
        now = time.monotonic()
        end = now + _SLICE
        before = len(self._jobs)
        try:
            while self._inbox and time.monotonic() < end:
                message = self._inbox.popleft()
                if isinstance(message, Copied):
                    return self._start_over(message)
                if isinstance(message, Done):
                    self._settle(message.job, message.outcome)
                else:
                    self._take(message)
            self._look(now)
        finally:
            if self._inbox or len(self._jobs) != before:
                # An answer is looked at in the next round.
                self._wake()
        return None

    def _take(self, message: Changed | Confirmed | Connected | Disconnected) -> None:
        if isinstance(message, Changed):
            try:
                for update in message.updates:
                    self._apply(update)
            except BaseException:
                # Whatever it was, the copy may lack a change by now.
                assert self._follower is not None  # noqa: S101 - it has told of it
                self._follower.copy_anew()
                raise
            self._settle_awaiting()
        elif isinstance(message, Confirmed):
            self._confirmed = message.at
            if self._hidden and self._silent_since is None and message.at >= self._connected + _SETTLE:
                # Its lease has not ended: there was an election, or another clock is ahead.
                hidden, self._hidden = self._hidden, {}
                self._copy.show(hidden)
        elif isinstance(message, Connected):
            self._silent_since = None
            self._connected = time.monotonic()
        else:
            self._why = _shown(message.why)
            if self._silent_since is None:
                self._silent_since = time.monotonic()

    def _start_over(self, copied: Copied) -> Content:
        self._loaded = self.is_copied = True
        self._hidden.clear()
        self.revision = copied.revision
        self.skipped = frozenset(copied.skipped)
        self._holds = copied.holds
        self._kept = Counter(hold.lease for hold in copied.holds.values() if not hold.host)
        self._confirmed = time.monotonic()
        # What has ended here is on its way to be deleted there.
        for key, (_, _, entry) in list(self._ending.items()):
            if key in copied.entries and copied.entries[key].revision == entry.revision:
                del copied.entries[key]
            else:
                del self._ending[key]
        # Nothing of what has been known so far says what has happened in between.
        content = Content(copied.entries, (), copied.revision, copied.revision)
        self._see_state(time.monotonic())
        return content

    def _apply(self, update: Update) -> None:
        if update.revision <= self.revision:
            return
        self.revision = update.revision
        self._resolve(update)
        if self.skipped or update.skipped:
            self.skipped = (self.skipped - {key for _, key, _ in update.mutations}) | update.skipped
        spent: set[int] = set()
        for kind, key, entry in update.mutations:
            if kind == CLEAR:
                spent.update(self._kept)
                for known in (self._holds, self._kept, self._ending, self._hidden):
                    known.clear()
            else:
                spent.add(self._bind(key, NO_HOLD if entry is None else update.holds.get(key, NO_HOLD)))
            self._ending.pop(key, None)
            self._hidden.pop(key, None)
        if update.job:
            self._spent.add(spent - self._kept.keys() - {0})
        job = self._jobs.get(update.job) if update.job else None
        if update.mutations:
            self._copy.receive(update, own=bool(update.job))
        if job is not None:
            # Whatever its reply says, or says not.
            self._answer(job, Told(update.revision))

    def _resolve(self, update: Update) -> None:
        """Tell how that has ended which etcd has ended by itself; alike on all hosts."""
        found: list[Mutation] = []
        owners: set[str] = set()
        for kind, key, entry in update.mutations:
            if kind != ENDED:
                found.append((kind, key, entry))
                continue
            old = self._known(key)
            owner = "" if old is None else old.owner.name
            found.append((RELEASE if owner else EXPIRE, key, None))
            owners.add(owner)
        update.mutations = found
        if len(owners) == 1:
            # One lease may have held what several processes owned; a change has one origin, or tells none.
            update.via = owners.pop()

    def _bind(self, key: str, hold: Hold) -> int:
        """Take note of what keeps an entry; answer the lease that has kept it so far, unless that is a host's."""
        before = self._holds.pop(key, NO_HOLD)
        if hold.lease or hold.host:
            self._holds[key] = hold
        if hold.lease and not hold.host:
            self._kept[hold.lease] += 1
        if before.host or not before.lease:
            return 0
        self._kept[before.lease] -= 1
        if not self._kept[before.lease]:
            del self._kept[before.lease]
        return before.lease

    def _known(self, key: str) -> Entry | None:
        """Answer the entry of ``key``, hidden or not."""
        ended = self._ending.get(key)
        return self._copy.peek(key) or self._hidden.get(key) or (None if ended is None else ended.entry)

    # Writes

    def commit(self, batch: Batch) -> Refused | Answer[Outcome]:
        """Ask etcd; the answer comes with a later `tick`, when the copy has the change."""
        if self._writer is None or not self._loaded:
            return Refused(UnavailableError(f"not stored: {self.detail}"))
        try:
            ttl, holds = self._terms(batch)
        except CacheError as error:
            return Refused(error)
        left = self.options.timeout - (self._clock.elapsed() - batch.begun)
        if left <= 0:
            return Refused(UnavailableError("not stored: others changed the same again and again"))
        batch.seen = self.revision
        return self._ask(batch, holds, ttl, time.monotonic() + left, must=False).answer

    def end(self, kind: str, via: str, keys: list[str]) -> None:
        """Have etcd delete the entries of ``keys``, which have ended, and are to be hidden next.

        What has been written anew in the meantime stays.
        """
        ended: dict[str, int] = {}
        for key in keys:
            entry, before = self._copy.peek(key), self._ending.get(key)
            if entry is not None and (before is None or before.entry.revision != entry.revision):
                self._ending[key] = _Ended(kind, via, entry)
                ended[key] = entry.revision
        self._end_all(kind, via, ended)

    def _end_all(self, kind: str, via: str, ended: dict[str, int]) -> None:
        part: dict[str, int] = {}
        room = _MOST_BYTES
        for key, revision in ended.items():
            # Compared, and deleted.
            size = 2 * utf8_length(key)
            if len(part) == MOST_MUTATIONS or size > room:
                self._end(kind, via, part)
                part, room = {}, _MOST_BYTES
            part[key] = revision
            room -= size
        if part:
            self._end(kind, via, part)

    def _end(self, kind: str, via: str, ended: dict[str, int]) -> None:
        batch = Batch()
        batch.mutations = [(kind, key, None) for key in ended]
        batch.note, batch.via, batch.time, batch.prefix = "", via, self._clock.wall(), None
        batch.relied = ended
        job = self._ask(batch, {}, 0, time.monotonic() + self.options.timeout, must=True)

        def settle() -> None:
            if isinstance(job.answer.result(), Conflict) and len(ended) > 1:
                # One of them has been written anew, or is gone: each by itself.
                for key, revision in ended.items():
                    self._end(kind, via, {key: revision})

        job.answer.when_done(settle)

    def _ask(self, batch: Batch, holds: dict[str, Hold], ttl: int, end: float, *, must: bool) -> Job:
        assert self._writer is not None  # noqa: S101 - opened by now
        self._count += 1
        job = Job(str(self._count), batch, holds, ttl, end, patient=self.state is State.OK, must=must)
        self._jobs[job.number] = job
        self._writer.put(job)
        return job

    def _terms(self, batch: Batch) -> tuple[int, dict[str, Hold]]:
        """Answer the TTL of what ends by itself, and what keeps those entries whose TTL and owner stay as they were.

        Raises:
            LimitExceededError: It is more than one transaction of etcd holds.
            InvalidArgumentsError: The TTL is shorter than etcd's.
        """
        if len(batch.mutations) > MOST_MUTATIONS or len(batch.relied) > _MOST_COMPARED:
            raise LimitExceededError(
                f"{max(len(batch.mutations), len(batch.relied))} entries at once; "
                f"on etcd one call changes at most {MOST_MUTATIONS}"
            )
        ttl, size = 0, sum(map(utf8_length, batch.relied))
        holds: dict[str, Hold] = {}
        for _, key, entry in batch.mutations:
            if entry is None:
                size += utf8_length(key)
                continue
            size += entry.size
            old = self._copy.peek(key) if key in batch.relied else None
            is_timed = entry.deadline != NEVER
            is_same_time = is_timed and old is not None and old.deadline == entry.deadline
            if old is not None and (entry.owner.name or is_same_time) and entry.owner == old.owner:
                holds[key] = self._holds.get(key, NO_HOLD)
            if is_timed and not is_same_time:
                ttl = _whole(entry.expires - batch.time)
        if size > _MOST_BYTES:
            raise LimitExceededError(f"{size} bytes at once; on etcd one call changes at most {_MOST_BYTES}")
        return ttl, holds

    def _post(self, message: Message | Done) -> None:
        self._inbox.append(message)
        self._wake()

    def _beat(self) -> None:
        """Have supervisord look at the time, which its loop does once a second by itself."""
        if self._jobs:
            self._wake()

    def _settle(self, job: Job, outcome: Result) -> None:
        if job.is_over:
            return
        if isinstance(outcome, Committed):
            if job.batch.mutations:
                self._await(outcome.revision, job, Told(outcome.revision))
            else:
                self._answer(job, Told(self.revision))
        elif isinstance(outcome, Overtaken):
            if outcome.revision > self.revision:
                self._await(outcome.revision, job, Conflict())
            elif job.must:
                self._answer(job, Conflict())
            else:
                self._again.append((time.monotonic() + _AGAIN, job))
                self._look_at = 0.0
        elif isinstance(outcome, Full):
            # When the copy has come so far, and has not told of it, it has not happened.
            self._await(outcome.revision, job, Refused(UnavailableError(f"not stored: {_text(outcome.error)}")))
        elif isinstance(outcome, UnreachedError):
            self._answer(job, Refused(UnavailableError(f"not stored: {_text(outcome)}")))
        elif time.monotonic() >= job.end - _LOOK:
            self._answer(job, Refused(UnknownOutcomeError(f"it may be stored or not: {_text(outcome)}")))
        else:
            # It may be on its way to the copy all the same: then that says so, until the time is over.
            self._await(0, job, Refused(UnknownOutcomeError(f"it may be stored or not: {_text(outcome)}")))

    def _await(self, revision: int, job: Job, outcome: Outcome) -> None:
        if revision and revision <= self.revision:
            self._answer(job, outcome)
        else:
            self._awaiting.append((revision, job, outcome))

    def _settle_awaiting(self) -> None:
        awaiting, self._awaiting = self._awaiting, []
        for revision, job, outcome in awaiting:
            if not job.is_over:
                self._await(revision, job, outcome)

    def _answer(self, job: Job, outcome: Outcome) -> None:
        if self._jobs.pop(job.number, None) is not None:
            job.give_up()
            job.answer.resolve(outcome)

    def _give_up(self, job: Job) -> None:
        if job.give_up() and job.batch.mutations:
            self._answer(job, Refused(UnknownOutcomeError("it may be stored or not: no answer came in time")))
        else:
            self._answer(job, Refused(UnavailableError("not stored: etcd was not reached in time")))

    # What is due

    def _look(self, now: float) -> None:
        if now < self._look_at:
            return
        self._look_at = now + _LOOK
        while self._again and self._again[0][0] <= now:
            _, job = self._again.popleft()
            self._answer(job, Conflict())
        if self._again:
            self._look_at = 0.0
            self._wake()
        self._see_state(now)
        late = [waiting for waiting in self._awaiting if now >= waiting[1].end and not waiting[1].must]
        for revision, job, outcome in late:
            if isinstance(outcome, Told):
                # Who is told that it is stored reads it next, here.
                text = f"etcd has taken it at revision {revision}, and the copy has not come so far in time"
                self._answer(job, Refused(UnknownOutcomeError(text)))
            elif isinstance(outcome, Refused) and isinstance(outcome.error, UnavailableError):
                self._give_up(job)  # what would have made that sure has not come
            else:
                self._answer(job, outcome)
        if late:
            self._settle_awaiting()
        for job in [job for job in self._jobs.values() if now >= job.end + _GRACE and not job.must]:
            self._give_up(job)
        self._look_for_ends()

    def _look_for_ends(self) -> None:
        elapsed = self._clock.elapsed()
        due = self._copy.due(elapsed)
        if not due:
            return
        own = [key for key in due if (entry := self._copy.peek(key)) is not None and entry.owner.pid]
        if own:
            # etcd keeps them as long as this host's lease: their TTL is this host's to see to.
            self.end(EXPIRE, "", own)
            self._copy.hide(own)
        if self.state is not State.OK:
            # Nobody tells that their lease has ended.
            gone = [key for key in self._copy.due(elapsed - _LATE) if key not in own]
            if gone:
                self._hidden.update({key: entry for key in gone if (entry := self._copy.peek(key)) is not None})
                self._copy.hide(gone)

    def _see_state(self, now: float) -> None:
        silent = self._silent_since is not None and now - self._silent_since >= _SILENCE
        self.is_starting = not self.is_copied and not silent
        if not self._loaded:
            self.state = State.UNAVAILABLE
            self.detail = (
                f"etcd has not been reached yet: {self._why}" if self._why else "etcd has not been reached yet"
            )
        elif silent or not self.is_copied or now - max(self._confirmed, self._opened) >= _STALE:
            # It is a mirror's; or what tells of changes may be there, and etcd not say whether that is all.
            self.state = State.DEGRADED
            self.detail = f"no contact with etcd: {self._why}" if self._why else "no contact with etcd"
        else:
            self.state, self.detail = State.OK, ""

    def told(self) -> dict[str, Any]:
        """Answer what ``getStats`` says of it beside kind, state and detail."""
        follower = self._follower
        return {
            "prefix": self.options.prefix,
            "members": list(self.options.members),
            "member": "" if follower is None else follower.member,
            "age": round(time.monotonic() - self._confirmed, 3) if self._confirmed else -1.0,
            "lease": str(self._lease.number or ""),
            "lease_ttl": self.options.lease_ttl,
            "lease_left": round(self._lease.left(), 3),
            "pending": len(self._jobs),
            "skipped": len(self.skipped),
        }


def _shown(text: str) -> str:
    # It goes into a deferred reply, in which Supervisor counts characters.
    return ascii(text)[1:-1][:_MOST_TEXT]


def _text(error: Exception) -> str:
    return _shown(str(error))


def _whole(ttl: float) -> int:
    """Answer ``ttl`` in whole seconds, rounded up.

    Raises:
        InvalidArgumentsError: It is shorter than etcd's shortest.
    """
    if ttl < _LEAST_TTL - _ROUNDING:
        raise InvalidArgumentsError(f"ttl must be at least {_LEAST_TTL} on etcd")
    return math.ceil(ttl - _ROUNDING)
