"""What etcd tells: a copy of all entries first, then each change, from the revision on that is known already."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from supervisor_cache.core.entry import Entry
from supervisor_cache.engines.etcd.gateway import (
    Client,
    Cluster,
    DeniedError,
    GatewayError,
    Json,
    LostError,
    StoppedError,
    TooMuchError,
    encoded,
    end_of,
    named,
    number,
    said,
)
from supervisor_cache.engines.etcd.leasing import Lease, Spent
from supervisor_cache.engines.etcd.records import CHANGE, ENTRIES, Hold, Reader, Update

# Entries that are asked for at once; fewer where they are large: Python holds everybody up while it reads the JSON.
_PAGE = 500
_LEAST_PAGE = 10
_PAGE_BYTES = 512 * 1024
# Seconds between two tries.
_PAUSE = 0.2
# Updates that supervisord has not taken yet, above which no more are read.
_MOST_WAITING = 1000
# Seconds between two looks of the keeper at the time.
_STEP = 0.2
# Changes that supervisord takes in one go: it does nothing else meanwhile, and one transaction has a hundred at most.
_AT_ONCE = 50
_COMPACTED = 11
_REVOKE_SECONDS = 0.15
# Of a watch, seconds: etcd says every ten minutes that it is there.
_SILENCE = 700.0


class Copied(NamedTuple):
    """All entries, as they were at one revision."""

    entries: dict[str, Entry]
    holds: dict[str, Hold]
    skipped: set[str]
    revision: int


class Changed(NamedTuple):
    """What has happened since."""

    updates: list[Update]


class Connected(NamedTuple):
    """Changes are being told by this member."""

    member: str


class Disconnected(NamedTuple):
    """No changes are told any more, and why."""

    why: str


class Confirmed(NamedTuple):
    """The copy held all that etcd did, at this moment of the monotonic clock."""

    at: float


Message: TypeAlias = Copied | Changed | Connected | Disconnected | Confirmed


class Mark(NamedTuple):
    """The newest change of the cache at some revision: another history has another one there.

    Attributes:
        revision: Of the change; 0 for none.
        record: What it says of itself, which names the write.
    """

    revision: int = 0
    record: str = ""


class _StartOverError(Exception):
    """What is known cannot be carried on."""


class Follower:
    """The thread that reads.

    Args:
        cluster: The members.
        reader: Reads entries and changes.
        prefix: Of the cache, as bytes.
        timeout: Seconds that a request may take.
        post: Takes each message, in this thread.
        waiting: How many have not been taken yet.

    Attributes:
        position: All changes up to this revision have been told; None for nothing yet.
        mark: At that position; None where it is not known.
        member: That tells them; empty for none.
    """

    def __init__(
        self,
        cluster: Cluster,
        reader: Reader,
        prefix: bytes,
        timeout: float,
        post: Callable[[Message], None],
        waiting: Callable[[], int],
    ) -> None:
        self.position: int | None = None
        self.mark: Mark | None = None
        self.member = ""
        self.cluster_id = ""
        self._cluster = cluster
        self._reader = reader
        self._prefix = prefix
        self._change = encoded(prefix + CHANGE)
        self._timeout = timeout
        self._post = post
        self._waiting = waiting
        self._watching: Client | None = None
        self._over = False

    def run(self) -> None:
        """Copy and follow until the cluster is stopped."""
        client, self._watching = self._cluster.client(), self._cluster.client()
        stopped = self._cluster.stopped
        while not stopped.is_set():
            if self._over:
                self._over = False
                self.position = None
            try:
                if self.position is None:
                    self._copy(client)
                self._watch(self._watching, client)
            except StoppedError:
                break
            except _StartOverError:
                self.position = None
            except GatewayError as error:
                if isinstance(error, TooMuchError):
                    # Rather all that there is, page by page, than all that has happened in between.
                    self.position = None
                self._post(Disconnected(str(error)))
            except Exception as error:  # noqa: BLE001 - what etcd answers may be anything, and it has to go on
                client.close()
                self._post(Disconnected(f"{self._cluster.member()}: what it answers is not etcd's: {named(error)}"))
            self.member = ""
            self._watching.close()
            stopped.wait(_PAUSE)
        client.close()
        self._watching.close()

    def kick(self) -> None:
        """Have it connect anew, to another member; from any thread."""
        self._cluster.failed(self.member)
        if self._watching is not None:
            self._watching.shutdown()

    def copy_anew(self) -> None:
        """Have it forget what it knows, and begin with a copy; from any thread."""
        self._over = True
        self.kick()

    def _copy(self, client: Client) -> None:
        start = self._prefix + ENTRIES
        body: Json = {"range_end": encoded(end_of(start))}
        entries: dict[str, Entry] = {}
        holds: dict[str, Hold] = {}
        skipped: set[str] = set()
        revision, limit = 0, _LEAST_PAGE
        after = start
        while True:
            page = {**body, "key": encoded(after), "limit": str(limit), "revision": str(revision)}
            try:
                answer = client.call("/v3/kv/range", page, self._timeout)
            except DeniedError as error:
                if error.code == _COMPACTED:
                    raise _StartOverError from None
                raise
            header, kvs = answer["header"], answer.get("kvs", [])
            # All pages are of the revision of the first one.
            revision = revision or number(header, "revision")
            self.cluster_id = header["cluster_id"]
            found = self._reader.entries(kvs)
            entries.update(found[0])
            holds.update(found[1])
            skipped.update(found[2])
            if not answer.get("more"):
                break
            size = sum(len(kv["key"]) + len(kv.get("value", "")) for kv in kvs) // len(kvs)
            limit = max(_LEAST_PAGE, min(_PAGE, _PAGE_BYTES // max(1, size)))
            before, after = after, self._reader.behind(kvs[-1])
            if after <= before:
                raise LostError(f"{client.member}: it answers the same again and again")
        self.mark = self._mark_at(client, revision)
        self._post(Copied(entries, holds, skipped, revision))
        self.position = revision

    def _mark_at(self, client: Client, revision: int) -> Mark:
        asked = {"key": self._change, "revision": str(revision)}
        try:
            kvs = client.call("/v3/kv/range", asked, self._timeout).get("kvs", [])
        except DeniedError as error:
            if error.code == _COMPACTED:
                raise _StartOverError from None
            raise
        return _mark_of(kvs[0]) if kvs else Mark()

    def _watch(self, client: Client, asking: Client) -> None:
        assert self.position is not None  # noqa: S101 - copied by now
        create = {
            "key": encoded(self._prefix),
            "range_end": encoded(end_of(self._prefix)),
            "start_revision": str(self.position + 1),
            "progress_notify": True,
        }
        stream = client.stream("/v3/watch", {"create_request": create}, self._timeout)
        for found in stream:
            if self.member:
                client.wait_until(time.monotonic() + _SILENCE)
            result: Any = found.get("result")
            if not isinstance(result, dict):
                raise self._ended(client, found.get("error", "no result"))
            if result.get("canceled"):
                if number(result, "compact_revision"):
                    raise _StartOverError
                raise self._ended(client, result.get("cancel_reason", "the watch was ended"))
            if result.get("created"):
                self._check_same(result["header"], client.member, asking)
                self.member = client.member
                self._post(Connected(client.member))
                client.wait_until(time.monotonic() + _SILENCE)
            events = result.get("events")
            if events:
                self._take(events)
        raise LostError(f"{client.member}: the watch was ended")

    def _ended(self, client: Client, why: object) -> LostError:
        text = said(why)
        if "auth" in text:
            # A watch is not refused as a request is.
            self._cluster.forget_token()
        return LostError(f"{client.member}: {text}")

    def _check_same(self, header: Json, member: str, client: Client) -> None:
        """See that it is the etcd that the copy is of: not one that was set up anew, or from a backup."""
        position = self.position or 0
        if header["cluster_id"] == self.cluster_id and number(header, "revision") < position:
            # A member that has just come back may be behind the others. Once it has caught up it answers this.
            question = {"key": self._change, "keys_only": True}
            try:
                header = client.call("/v3/kv/range", question, self._timeout, only=member)["header"]
            except GatewayError:
                self._cluster.failed(member)
                raise
        if header["cluster_id"] != self.cluster_id or number(header, "revision") < position:
            raise _StartOverError
        # One from a backup may have come as far again.
        if self.mark is not None and self._mark_at(client, position) != self.mark:
            raise _StartOverError

    def _take(self, events: list[Json]) -> None:
        while self._waiting() > _MOST_WAITING and not self._cluster.stopped.wait(_PAUSE / 4):
            pass
        updates = self._reader.updates(events)
        for part in _parts(updates):
            self._post(Changed(part))
        if self._over:
            raise _StartOverError
        for event in events:
            if event["kv"]["key"] == self._change:
                self.mark = Mark() if event.get("type") == "DELETE" else _mark_of(event["kv"])
        self.position = updates[-1].revision


def _parts(updates: list[Update]) -> Iterator[list[Update]]:
    """Divide what is told into what is taken in one go, a transaction as a whole."""
    part: list[Update] = []
    count = 0
    for update in updates:
        part.append(update)
        count += max(1, len(update.mutations))
        if count >= _AT_ONCE:
            yield part
            part, count = [], 0
    if part:
        yield part


def _mark_of(kv: Json) -> Mark:
    return Mark(number(kv, "mod_revision"), kv.get("value", ""))


class Keeper:
    """The thread that keeps the lease alive and sees whether the copy holds all that etcd does.

    Args:
        cluster: The members.
        follower: What is told.
        lease: Of what processes own.
        spent: Leases that keep nothing any more.
        prefix: Of the cache, as bytes.
        timeout: Seconds that a request may take.
        post: Takes each message, in this thread.
        beat: Called some times a second, in this thread.
    """

    def __init__(
        self,
        cluster: Cluster,
        follower: Follower,
        lease: Lease,
        spent: Spent,
        prefix: bytes,
        timeout: float,
        post: Callable[[Message], None],
        beat: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._follower = follower
        self._lease = lease
        self._spent = spent
        self._change = encoded(prefix + CHANGE)
        self._timeout = timeout
        self._post = post
        self._beat = beat
        self._ending = threading.Event()
        # When etcd was asked, and the revision that it had and the copy had not.
        self._lacking: tuple[float, int] | None = None
        self._client: Client | None = None

    def run(self) -> None:
        """Do what is due until `end`, then give the lease back."""
        client = self._client = self._cluster.client()
        alive = self._cluster.client()
        period = min(1.0, self._timeout / 3)
        due = time.monotonic() + period
        while not self._ending.wait(_STEP):
            self._beat()
            self._revoke_spent(alive, max(due, time.monotonic() + _STEP))
            self._see_whether_it_has_come()
            if time.monotonic() < due:
                continue
            due = time.monotonic() + period
            with contextlib.suppress(Exception):  # it is tried again, and etcd ends the lease if nothing helps
                self._lease.keep_alive(alive)
            try:
                self._confirm(client)
            except Exception:  # noqa: BLE001 - no answer, or one of no use: another member may have a better one
                if not self._ending.is_set():
                    self._follower.kick()
        client.close()
        alive.close()
        last = self._cluster.client()
        self._lease.revoke(last, _REVOKE_SECONDS)
        last.close()

    def _revoke_spent(self, client: Client, end: float) -> None:
        # They may come faster than they go; what is due here must not wait for the last of them.
        while self._spent and time.monotonic() < end and not self._ending.is_set():
            if not self._spent.revoke_one(client):
                return

    def end(self) -> None:
        """Have it end soon; from any thread."""
        self._ending.set()
        if self._client is not None:
            self._client.shutdown()

    def _confirm(self, client: Client) -> None:
        member, position = self._follower.member, self._follower.position
        if not member or position is None:
            return
        asked = time.monotonic()
        answer = client.call("/v3/kv/range", {"key": self._change, "keys_only": True}, self._timeout / 2, only=member)
        kvs = answer.get("kvs", [])
        newest = number(kvs[0], "mod_revision") if kvs else 0
        self._see_whether_it_has_come()
        if newest <= (self._follower.position or 0):
            self._lacking = None
            self._post(Confirmed(asked))
        elif self._lacking is not None:
            # It was behind the last time, and what was missing then still is.
            self._lacking = None
            self._follower.kick()
        else:
            self._lacking = asked, newest

    def _see_whether_it_has_come(self) -> None:
        """Where many write, the copy is nearly always behind for a moment: then it was whole when etcd was asked."""
        if self._lacking is not None and self._lacking[1] <= (self._follower.position or 0):
            self._post(Confirmed(self._lacking[0]))
            self._lacking = None
