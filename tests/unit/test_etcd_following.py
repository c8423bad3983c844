"""The threads that follow etcd, by themselves: what they make of each answer, and how they begin anew."""

import base64
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from supervisor_cache.core.entry import DELETE, STORE, Batch, Entry, Owner
from supervisor_cache.engines.etcd.following import (
    Changed,
    Confirmed,
    Connected,
    Copied,
    Disconnected,
    Follower,
    Keeper,
    Mark,
    _StartOverError,
)
from supervisor_cache.engines.etcd.gateway import DeniedError, LostError, StoppedError, TooMuchError, UnreachedError
from supervisor_cache.engines.etcd.leasing import Lease, Spent
from supervisor_cache.engines.etcd.records import Hold, Reader
from supervisor_cache.engines.etcd.writing import Committed, Done, Full, Job, Overtaken, Writer
from supervisor_cache.server.clock import HostClock

TIMEOUT = 0.3
COMPACTED = DeniedError("etcdserver: mvcc: required revision has been compacted", 11)
DENIED = DeniedError("etcdserver: permission denied", 7)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


CHANGE = b64("/p/c")


def header(revision: int) -> dict[str, str]:
    return {"cluster_id": "1", "revision": str(revision)}


def event(revision: int, key: str = "k", *, gone: bool = False) -> dict[str, Any]:
    value = b64('{"value":1,"modified":1.0,"expires":0.0}')
    kv = {"key": b64(f"/p/e/{key}"), "mod_revision": str(revision), "value": value}
    return {"kv": kv, "type": "DELETE"} if gone else {"kv": kv}


class Scripted:
    """A client that answers by a script: an answer, or an error to raise, or what is called for either."""

    member = "nowhere:1"

    def __init__(self, *told: Any) -> None:
        self.told = list(told)
        self.asked: list[tuple[str, Any]] = []
        self.closed = self.ended = 0

    def _next(self) -> Any:
        one = self.told.pop(0)
        if callable(one):
            one = one()
        if isinstance(one, BaseException):
            raise one
        return one

    def call(self, path: str, body: Any, *_: Any, **__: Any) -> Any:
        self.asked.append((path, body))
        return self._next()

    def stream(self, path: str, body: Any, _seconds: float) -> Iterator[Any]:
        self.asked.append((path, body))
        while self.told:
            yield self._next()

    def wait_until(self, _end: float) -> None:
        return

    def shutdown(self) -> None:
        self.ended += 1

    def close(self) -> None:
        self.closed += 1


class Members:
    """What is known of the members, with clients that answer by a script."""

    def __init__(self, *clients: Scripted) -> None:
        self.stopped = threading.Event()
        self.clients = list(clients)
        self.failures: list[str] = []
        self.forgotten = 0

    def client(self) -> Scripted:
        return self.clients.pop(0)

    def member(self) -> str:
        return "nowhere:1"

    def failed(self, member: str) -> None:
        self.failures.append(member)

    def forget_token(self) -> None:
        self.forgotten += 1


class Following:
    """A follower, and what it has told."""

    def __init__(self, asking: Scripted, watching: Scripted) -> None:
        self.asking, self.watching = asking, watching
        self.members = cast("Any", Members(asking, watching))
        self.told: list[Any] = []
        reader = Reader(b"/p/", "host", HostClock())
        self.follower = Follower(self.members, reader, b"/p/", TIMEOUT, self.told.append, lambda: 0)

    def tell(self, told: list[Any]) -> None:
        self.told = told
        self.follower._post = told.append

    def stop(self) -> StoppedError:
        self.members.stopped.set()
        return StoppedError("ended")

    def run(self) -> list[Any]:
        """Run it until the script is over; answer the kinds of what it has told."""
        self.follower.run()
        return [type(message) for message in self.told]


PAGE = {"header": header(5), "kvs": [event(5)["kv"]]}
MARKED = {"kvs": [{"key": CHANGE, "mod_revision": "5", "value": b64("{}")}]}
CREATED = {"result": {"created": True, "header": header(5)}}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor_cache.engines.etcd.following._PAUSE", 0.001)
    monkeypatch.setattr("supervisor_cache.engines.etcd.following._STEP", 0.001)
    monkeypatch.setattr("supervisor_cache.engines.etcd.writing._PAUSE", 0.001)


def test_it_copies_all_then_tells_each_change() -> None:
    following = Following(
        Scripted(PAGE, MARKED, MARKED), Scripted(CREATED, {"result": {"events": [event(6), event(7)]}})
    )
    following.watching.told.append(following.stop)
    assert following.run() == [Copied, Connected, Changed]
    copied, _, changed = following.told
    assert (list(copied.entries), copied.revision) == (["k"], 5)
    assert [update.revision for update in changed.updates] == [6, 7]
    assert following.follower.position == 7
    assert following.watching.asked[0][1]["create_request"]["start_revision"] == "6"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"error": "x"}, "nowhere:1: x"),
        ({"result": 5}, "nowhere:1: no result"),
        ({"result": {"canceled": True, "cancel_reason": "auth: token"}}, "nowhere:1: auth: token"),
        ({"result": {"canceled": True}}, "nowhere:1: the watch was ended"),
    ],
)
def test_a_watch_that_is_ended_goes_on_where_it_was(told: Any, why: str) -> None:
    following = Following(Scripted(PAGE, MARKED, MARKED, MARKED), Scripted(CREATED, told, CREATED))
    following.watching.told.append(following.stop)
    assert following.run() == [Copied, Connected, Disconnected, Connected]
    assert following.told[2].why == why
    assert following.members.forgotten == ("auth" in why)
    assert following.watching.asked[1][1]["create_request"]["start_revision"] == "6"


def test_a_stream_that_ends_is_told() -> None:
    following = Following(Scripted(PAGE, MARKED, MARKED), Scripted(CREATED))
    following.tell(Stopping(following, Disconnected))
    assert following.run() == [Copied, Connected, Disconnected]
    assert following.told[-1].why == "nowhere:1: the watch was ended"


class Stopping(list[Any]):
    """Takes what is told, and stops with the first of a kind, or a later one."""

    def __init__(self, following: Following, kind: type, times: int = 1) -> None:
        super().__init__()
        self._following = following
        self._kind = kind
        self._left = times

    def append(self, message: Any) -> None:
        super().append(message)
        if isinstance(message, self._kind):
            self._left -= 1
            if not self._left:
                self._following.members.stopped.set()


def test_what_was_compacted_in_the_meantime_is_copied_anew() -> None:
    compacted = {"result": {"canceled": True, "compact_revision": "9"}}
    asking = Scripted(PAGE, MARKED, MARKED, COMPACTED, PAGE, COMPACTED, PAGE, MARKED)
    following = Following(asking, Scripted(CREATED, compacted))
    following.tell(Stopping(following, Copied, 2))
    assert following.run()[:3] == [Copied, Connected, Copied]
    assert asking.told == []


@pytest.mark.parametrize("first", [(DENIED,), (PAGE, DENIED)])
def test_a_copy_that_is_refused_is_told(first: tuple[Any, ...]) -> None:
    following = Following(Scripted(*first), Scripted())
    following.tell(Stopping(following, Disconnected))
    assert following.run() == [Disconnected]
    assert following.told[0].why == "etcdserver: permission denied"


def test_too_much_at_once_is_copied_page_by_page() -> None:
    following = Following(Scripted(PAGE, MARKED, MARKED, PAGE, MARKED), Scripted(CREATED, TooMuchError("too long")))
    following.tell(Stopping(following, Copied, 2))
    assert following.run()[:4] == [Copied, Connected, Disconnected, Copied]


def test_an_answer_that_is_none_of_etcds_is_told_and_its_connection_closed() -> None:
    following = Following(Scripted({"kvs": 5}), Scripted())
    following.tell(Stopping(following, Disconnected))
    assert following.run() == [Disconnected]
    assert "what it answers is not etcd's: KeyError" in following.told[0].why
    assert following.asking.closed == 2


def test_a_member_that_answers_the_same_page_again_and_again_is_left() -> None:
    endless = {**PAGE, "more": True}
    following = Following(Scripted(endless, endless), Scripted())
    following.tell(Stopping(following, Disconnected))
    assert following.run() == [Disconnected]
    assert following.told[0].why == "nowhere:1: it answers the same again and again"


def test_a_copy_that_is_doubted_is_made_anew() -> None:
    """What took a change could not take all of it."""
    following = Following(
        Scripted(PAGE, MARKED, MARKED, PAGE, MARKED), Scripted(CREATED, {"result": {"events": [event(6)]}})
    )

    class Doubting(Stopping):
        def append(self, message: Any) -> None:
            super().append(message)
            if isinstance(message, Changed):
                following.follower.copy_anew()

    following.tell(Doubting(following, Copied, 2))
    assert following.run()[:4] == [Copied, Connected, Changed, Copied]
    assert following.watching.ended == 1
    assert following.members.failures == ["nowhere:1"]


def test_a_copy_that_is_doubted_before_it_runs_is_made_all_the_same() -> None:
    following = Following(Scripted(PAGE, MARKED), Scripted())
    following.follower.position = 3
    following.follower.copy_anew()
    following.tell(Stopping(following, Copied))
    following.watching.told = [StoppedError("ended")]
    assert following.run() == [Copied]


def test_no_more_is_read_while_too_much_has_not_been_taken() -> None:
    following = Following(Scripted(), Scripted())
    left = [1001, 1001, 1000]
    following.follower._waiting = lambda: left.pop(0)
    following.follower._take([event(6)])
    assert left == []
    assert following.follower.position == 6


def test_a_change_of_the_mark_is_remembered_and_its_deletion_too() -> None:
    following = Following(Scripted(), Scripted())
    mark = {"kv": {"key": CHANGE, "mod_revision": "6", "value": b64("{}")}}
    following.follower._take([mark])
    assert following.follower.mark == Mark(6, b64("{}"))
    following.follower._take([{"kv": {"key": CHANGE, "mod_revision": "7"}, "type": "DELETE"}])
    assert following.follower.mark == Mark()


def test_a_member_that_cannot_say_whether_it_is_behind_is_passed_over() -> None:
    following = Following(Scripted(), Scripted())
    following.follower.position, following.follower.cluster_id = 10, "1"
    client: Any = Scripted(UnreachedError("silent"))
    with pytest.raises(UnreachedError):
        following.follower._check_same(header(7), "nowhere:1", client)
    assert following.members.failures == ["nowhere:1"]


@pytest.mark.parametrize("mark", [Mark(5, b64("{}")), None, Mark(5, b64("other"))])
def test_an_etcd_from_a_backup_has_another_history(mark: Mark | None) -> None:
    following = Following(Scripted(), Scripted())
    following.follower.position, following.follower.cluster_id, following.follower.mark = 5, "1", mark
    client: Any = Scripted(MARKED)
    if mark == Mark(5, b64("other")):
        with pytest.raises(_StartOverError):
            following.follower._check_same(header(7), "nowhere:1", client)
    else:
        following.follower._check_same(header(7), "nowhere:1", client)


class Kept:
    """A keeper, and what it has told."""

    def __init__(self, client: Scripted, alive: Scripted, last: Scripted) -> None:
        self.members = cast("Any", Members(client, alive, last))
        self.following = Following(Scripted(), Scripted())
        self.following.follower.member, self.following.follower.position = "nowhere:1", 5
        self.told: list[Any] = []
        self.lease = Lease(15, TIMEOUT)
        self.spent = Spent(TIMEOUT)
        self.keeper = Keeper(
            self.members,
            self.following.follower,
            self.lease,
            self.spent,
            b"/p/",
            TIMEOUT,
            self.told.append,
            lambda: None,
        )


def newest(revision: int) -> dict[str, Any]:
    return {"kvs": [{"key": CHANGE, "mod_revision": str(revision)}]}


class TestTheKeeper:
    """It sees whether the copy is whole, and gives back what is not needed any more."""

    def test_a_copy_that_has_the_newest_change_is_confirmed(self) -> None:
        kept = Kept(Scripted(), Scripted(), Scripted())
        for told in (newest(5), newest(4), {}):
            kept.keeper._confirm(Scripted(told))  # type: ignore[arg-type]
        assert [type(message) for message in kept.told] == [Confirmed] * 3

    def test_one_that_is_behind_twice_connects_anew(self) -> None:
        kept = Kept(Scripted(), Scripted(), Scripted())
        kept.keeper._confirm(Scripted(newest(6)))  # type: ignore[arg-type]
        assert kept.following.members.failures == []
        kept.keeper._confirm(Scripted(newest(7)))  # type: ignore[arg-type]
        assert kept.following.members.failures == ["nowhere:1"]
        # That begins the counting anew.
        kept.keeper._confirm(Scripted(newest(7)))  # type: ignore[arg-type]
        assert kept.following.members.failures == ["nowhere:1"]
        assert kept.told == []

    def test_one_that_has_caught_up_is_only_behind_again(self) -> None:
        kept = Kept(Scripted(), Scripted(), Scripted())
        kept.keeper._confirm(Scripted(newest(6)))  # type: ignore[arg-type]
        kept.following.follower.position = 6
        kept.keeper._confirm(Scripted(newest(8)))  # type: ignore[arg-type]
        assert kept.following.members.failures == []
        assert [type(message) for message in kept.told] == [Confirmed]

    def test_one_that_catches_up_was_whole_when_etcd_was_asked_and_not_later(self) -> None:
        kept = Kept(Scripted(), Scripted(), Scripted())
        kept.keeper._see_whether_it_has_come()
        kept.keeper._confirm(Scripted(newest(6)))  # type: ignore[arg-type]
        asked = time.monotonic()
        for position in (None, 5):
            kept.following.follower.position = position
            kept.keeper._see_whether_it_has_come()
            assert kept.told == []
        kept.following.follower.position = 7
        for _ in range(2):
            kept.keeper._see_whether_it_has_come()
        (confirmed,) = kept.told
        assert confirmed.at <= asked

    def test_without_a_member_or_a_copy_nothing_is_asked(self) -> None:
        kept = Kept(Scripted(), Scripted(), Scripted())
        client: Any = Scripted()
        kept.following.follower.member = ""
        kept.keeper._confirm(client)
        kept.following.follower.member, kept.following.follower.position = "nowhere:1", None
        kept.keeper._confirm(client)
        assert client.asked == []

    def test_a_lease_that_cannot_be_given_back_ends_by_itself(self) -> None:
        kept = Kept(Scripted(), Scripted(), Scripted())
        kept.spent.add([7, 8, 9])
        client: Any = Scripted({}, LostError("lost"), {})
        end = time.monotonic() + TIMEOUT
        kept.keeper._revoke_spent(client, end)
        assert [body["ID"] for _, body in client.asked] == ["7", "8"]
        kept.keeper._revoke_spent(client, end)
        assert [body["ID"] for _, body in client.asked] == ["7", "8", "9"]

    @pytest.mark.parametrize("is_ending", [False, True])
    def test_no_answer_has_another_member_asked_unless_it_is_the_end(
        self, monkeypatch: pytest.MonkeyPatch, is_ending: bool
    ) -> None:
        monkeypatch.setattr("supervisor_cache.engines.etcd.following._STEP", 0.01)
        kept = Kept(Scripted(), Scripted(), Scripted())
        asked = threading.Event()

        def fail(_client: Any) -> None:
            if is_ending:
                kept.keeper.end()
            else:
                kept.keeper._ending.wait(0)
            asked.set()
            raise LostError("lost")

        monkeypatch.setattr(kept.keeper, "_confirm", fail)
        thread = threading.Thread(target=kept.keeper.run)
        thread.start()
        assert asked.wait(30)
        if not is_ending:
            while not kept.following.members.failures:
                asked.wait(0.01)
        kept.keeper.end()
        thread.join(30)
        assert bool(kept.following.members.failures) is not is_ending

    def test_one_that_is_ended_before_it_runs_does_nothing(self) -> None:
        kept = Kept(Scripted(), Scripted(), Scripted())
        kept.keeper.end()
        kept.keeper.run()
        assert kept.told == []


class Written:
    """A writer, and what it says of a job."""

    def __init__(self, *told: Any) -> None:
        self.client: Any = Scripted(*told)
        self.members = cast("Any", Members(self.client))
        self.lease = Lease(15, TIMEOUT)
        self.done: list[Done] = []
        self.spent = Spent(TIMEOUT)
        self.writer = Writer(self.members, self.lease, self.spent, b"/p/", "host", TIMEOUT, self.done.append)

    def outcome(self, job: Job) -> Any:
        return self.writer._outcome(self.client, job)


def job(*, kind: str = DELETE, must: bool = False, ttl: int = 0, entry: Any = None) -> Job:
    batch = Batch()
    batch.mutations = [(kind, "k", entry)]
    batch.note = batch.via = ""
    batch.relied, batch.prefix, batch.seen = {"k": 5}, None, 5
    batch.time = batch.begun = 0.0
    return Job("1", batch, {}, ttl, time.monotonic() + 30, patient=True, must=must)


TAKEN = {"succeeded": True, "header": header(7)}
OTHER = {"responses": [{"response_range": newest(6)}]}
NO_ROOM = DeniedError("etcdserver: mvcc: database space exceeded", 8)
NO_LEASE = DeniedError("etcdserver: requested lease not found", 5)


class TestTheWriter:
    """What it says of a write is what can be known of it."""

    def test_a_write_is_taken_or_overtaken(self) -> None:
        taken = Written(TAKEN).outcome(job())
        assert (type(taken), taken.revision) == (Committed, 7)
        overtaken = Written(OTHER).outcome(job())
        assert (type(overtaken), overtaken.revision) == (Overtaken, 6)

    def test_one_that_was_given_up_is_not_sent(self) -> None:
        written, given_up = Written(), job()
        assert given_up.give_up() is False
        outcome = written.outcome(given_up)
        assert (type(outcome), str(outcome), written.client.asked) == (UnreachedError, "it was given up", [])

    def test_what_must_happen_is_tried_until_it_has(self) -> None:
        written, ended = Written(ValueError("nonsense"), LostError("lost"), DENIED, TAKEN), job(must=True)
        assert [written.outcome(ended) for _ in range(3)] == [None, None, None]
        assert type(written.outcome(ended)) is Committed
        assert written.client.closed == 1

    def test_what_must_happen_ends_with_supervisord(self) -> None:
        written = Written(LostError("lost"))
        written.members.stopped.set()
        assert written.outcome(job(must=True)) is None

    def test_an_answer_that_is_none_of_etcds_leaves_it_unknown(self) -> None:
        wrong: list[Any] = [{"succeeded": True}, {"responses": []}, ValueError("nonsense")]
        for told in wrong:
            outcome = Written(told).outcome(job())
            assert type(outcome) is LostError
            assert "nowhere:1: what it answers is not etcd's: " in str(outcome)

    def test_a_lease_of_the_host_that_has_ended_is_asked_for_anew(self) -> None:
        owned = Entry("v", 5, 100, 0.0, "", Owner("web:0", 7))
        written = Written({"ID": "5"}, NO_LEASE, {"ID": "6"}, TAKEN)
        assert type(written.outcome(job(kind=STORE, entry=owned))) is Committed
        assert written.lease.number == 6
        puts = [
            body["success"][0]["request_put"]["lease"] for path, body in written.client.asked if path == "/v3/kv/txn"
        ]
        assert puts == ["5", "6"]
        # Any other refusal is one.
        refused = Written({"ID": "5"}, DENIED)
        assert refused.outcome(job(kind=STORE, entry=owned)) is DENIED

    def test_without_a_lease_of_the_host_a_refusal_is_one(self) -> None:
        assert Written(NO_LEASE).outcome(job()) is NO_LEASE

    def test_a_lease_that_nothing_was_bound_to_is_kept_to_be_given_back(self) -> None:
        timed = Entry("v", 5, 100, 0.0, expires=60.0, deadline=60.0)
        written = Written({"ID": "5"}, OTHER, {})
        assert type(written.outcome(job(kind=STORE, ttl=60, entry=timed))) is Overtaken
        assert len(written.spent) == 1
        assert written.spent.revoke_one(written.client)
        assert written.client.asked[-1] == ("/v3/lease/revoke", {"ID": "5"})
        assert written.lease.number == 0

    def test_where_there_is_no_room_it_may_have_been_taken(self) -> None:
        full = Written(NO_ROOM, newest(7)).outcome(job())
        assert (type(full), full.revision, full.error) == (Full, 7, NO_ROOM)
        # Nothing was ever written to this cache: then neither was this.
        assert Written(NO_ROOM, {}).outcome(job()) is NO_ROOM
        for told in (LostError("lost"), {"kvs": 5}, {"kvs": [{"mod_revision": "x"}]}, {"kvs": [5]}):
            assert type(Written(NO_ROOM, told).outcome(job())) is LostError

    def test_what_only_asks_ends_with_supervisord(self) -> None:
        written, asking = Written(LostError("lost")), job()
        asking.batch.mutations = []
        written.members.stopped.set()
        outcome = written.outcome(asking)
        assert (type(outcome), str(outcome)) == (UnreachedError, "lost")

    def test_the_end_is_told_as_one(self) -> None:
        stopped = StoppedError("ended")
        assert Written(stopped).outcome(job(must=True)) is stopped

    def test_one_job_after_the_other_is_done_until_it_is_stopped(self) -> None:
        written = Written(TAKEN, OTHER)
        jobs = [job(), job()]
        for each in jobs:
            written.writer.put(each)
        written.writer.stop(1)
        written.writer.run()
        assert [(done.job, type(done.outcome)) for done in written.done] == [(jobs[0], Committed), (jobs[1], Overtaken)]
        assert all(each.is_through.is_set() for each in jobs)

    def test_a_job_that_is_left_at_the_end_is_through_and_not_done(self) -> None:
        written, left = Written(LostError("lost")), job(must=True)
        written.writer.put(left)
        written.writer.stop(1)
        stopped = written.members.stopped
        written.client.told[0:0] = [lambda: stopped.set() or LostError("lost")]
        written.writer.run()
        assert written.done == []
        assert left.is_through.is_set()

    def test_what_a_hold_keeps_stays_bound_to_its_lease(self) -> None:
        kept = job(kind=STORE, entry=Entry("v", 5, 100, 0.0, "", Owner("web:0", 7)))
        kept.holds = {"k": Hold(4, "other", 9)}
        written = Written(TAKEN)
        assert type(written.outcome(kept)) is Committed
        assert written.client.asked[0][1]["success"][0]["request_put"]["lease"] == "4"
