"""The etcd engine by itself: what it answers when, whatever its threads bring."""

import base64
import contextlib
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor_cache.core.answer import Answer
from supervisor_cache.core.cache import Cache
from supervisor_cache.core.engine import Content, Outcome, Refused, State, Told
from supervisor_cache.core.entry import DELETE, NOBODY, RELEASE, STORE, Batch, Entry, Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.engines.etcd.engine import EtcdEngine
from supervisor_cache.engines.etcd.following import (
    Changed,
    Confirmed,
    Connected,
    Copied,
    Follower,
    Keeper,
    _StartOverError,
)
from supervisor_cache.engines.etcd.gateway import Cluster, DeniedError, LostError, UnreachedError
from supervisor_cache.engines.etcd.leasing import Lease, Spent
from supervisor_cache.engines.etcd.options import Options
from supervisor_cache.engines.etcd.records import ENDED, Hold, Reader, Update
from supervisor_cache.engines.etcd.writing import Committed, Done, Full, Job, Overtaken, Writer
from supervisor_cache.engines.memory import MemoryEngine
from supervisor_cache.errors import LimitExceededError, UnavailableError, UnknownOutcomeError
from supervisor_cache.server.clock import HostClock
from tests.harness import until

TIMEOUT = 0.2


class Jobs:
    """Takes what is to be written, and writes nothing."""

    def __init__(self) -> None:
        self.taken: list[Job] = []

    def put(self, job: Job) -> None:
        self.taken.append(job)


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def cache() -> Cache:
    return Cache(MemoryEngine(0), Limits(), HostClock(), lambda _: NOBODY, raised)


@pytest.fixture
def engine(cache: Cache, jobs: Jobs) -> EtcdEngine:
    """An engine whose copy is at revision 5."""
    engine = EtcdEngine(Options(("nowhere:1",), "/p/", timeout=TIMEOUT), HostClock(), cache, lambda: None)
    cache.engine = engine
    engine._writer = jobs  # type: ignore[assignment]
    engine._post(Copied({}, {}, set(), 5))
    assert engine.tick() is not None
    engine.accept()
    return engine


def raised(error: Any) -> None:
    raise error


def deletion() -> Batch:
    batch = Batch()
    batch.mutations = [(DELETE, "k", None)]
    batch.note = batch.via = ""
    batch.relied, batch.prefix = {}, None
    batch.time, batch.begun = time.time(), HostClock().elapsed()
    return batch


def committed(engine: EtcdEngine, jobs: Jobs, revision: int) -> Answer[Outcome]:
    """Have etcd take a write, and say so."""
    answer = engine.commit(deletion())
    assert isinstance(answer, Answer)
    assert jobs.taken[-1].begin()
    engine._post(Done(jobs.taken[-1], Committed(revision)))
    engine.tick()
    return answer


def tick_until(engine: EtcdEngine, condition: Callable[[], Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        engine.tick()
        time.sleep(0.005)


def test_a_write_is_answered_when_the_copy_has_it(engine: EtcdEngine, jobs: Jobs) -> None:
    answer = committed(engine, jobs, 7)
    engine._post(Changed([Update(6)]))
    engine.tick()
    assert not answer.done
    engine._post(Changed([Update(7)]))
    engine.tick()
    assert answer.result() == Told(7)


def test_a_write_that_the_copy_does_not_get_in_time_is_not_acknowledged(engine: EtcdEngine, jobs: Jobs) -> None:
    answer = committed(engine, jobs, 7)
    tick_until(engine, lambda: answer.done, TIMEOUT + 1)
    assert answer.done
    outcome = answer.result()
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, UnknownOutcomeError)
    assert "etcd has taken it at revision 7" in outcome.error.text


def test_what_has_ended_goes_in_transactions_that_etcd_takes(cache: Cache, engine: EtcdEngine, jobs: Jobs) -> None:
    owner = Owner("web:web", 7)
    keys = [f"{number:03}{'k' * 20_000 * (number % 2)}" for number in range(300)]
    update = Update(6)
    update.mutations = [(STORE, key, Entry("x", 2, 2, time.time(), owner=owner)) for key in keys]
    engine._post(Changed([update]))
    engine.tick()
    cache.release(owner)
    batches = [[key for _, key, _ in job.batch.mutations] for job in jobs.taken]
    assert sorted(key for batch in batches for key in batch) == sorted(keys)
    assert all(0 < len(batch) <= 100 for batch in batches)
    # Each key is compared and deleted; etcd takes 1.5 MiB in all.
    assert all(2 * sum(map(len, batch)) <= 2**20 for batch in batches)


def test_keys_count_for_what_a_transaction_takes(engine: EtcdEngine) -> None:
    batch = deletion()
    batch.relied = {f"{number:03}{'k' * 20_000}": 5 for number in range(30)}
    batch.mutations = [(DELETE, key, None) for key in batch.relied]
    outcome = engine.commit(batch)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, LimitExceededError)


def told(engine: EtcdEngine, revision: int, kind: str, entry: Entry | None = None, lease: int = 0) -> None:
    """Have etcd tell of a change of ``k``."""
    update = Update(revision)
    update.mutations = [(kind, "k", entry)]
    update.holds = {"k": Hold(lease)} if entry is not None else {}
    engine._post(Changed([update]))
    engine.tick()


def test_what_ended_with_a_process_is_released_whether_its_deletion_or_its_lease_was_faster(
    cache: Cache, engine: EtcdEngine
) -> None:
    owner = Owner("web:web", 7)
    told(engine, 6, STORE, Entry("x", 2, 2, time.time(), owner=owner), lease=1)
    cache.release(owner)
    assert cache.peek("k") is None
    told(engine, 7, ENDED)
    newest = cache.history.commits[-1]
    assert (newest[0], newest[3], newest[4]) == (7, "web:web", [(RELEASE, "k")])


@pytest.mark.parametrize("is_there", [True, False])
def test_what_was_over_while_nobody_could_tell_is_hidden_until_etcd_says_what_it_has(
    cache: Cache, engine: EtcdEngine, is_there: bool
) -> None:
    over = HostClock().elapsed() - 3
    engine._look_at = math.inf
    told(engine, 6, STORE, Entry("x", 2, 2, time.time(), expires=time.time() - 3, deadline=over), lease=1)
    assert cache.peek("k") is not None
    engine._silent_since = time.monotonic() - 10
    for _ in range(2):
        engine._look_at = 0.0
        engine.tick()
    assert cache.peek("k") is None
    engine._post(Connected("nowhere:1"))
    engine.tick()
    if not is_there:
        told(engine, 7, ENDED)
    engine._post(Confirmed(time.monotonic()))
    engine.tick()
    assert cache.peek("k") is None
    engine._post(Confirmed(time.monotonic() + 1))
    engine.tick()
    entry = cache.peek("k")
    assert (entry is not None) == is_there
    assert entry is None or entry.revision == 6
    assert [commit[0] for commit in cache.history.commits] == [6] if is_there else [6, 7]


def test_an_etcd_that_was_away_before_a_reload_is_away_until_it_is_heard_of(cache: Cache) -> None:
    engine = EtcdEngine(Options(("127.0.0.1:1",), "/p/", timeout=TIMEOUT), HostClock(), cache, lambda: None)
    engine._post(Copied({}, {}, set(), 5))
    assert engine.tick() is not None
    engine.state = State.DEGRADED
    engine.open()
    try:
        engine._look_at = 0.0
        engine.tick()
        assert engine.state is State.DEGRADED
        engine._post(Connected("127.0.0.1:1"))
        engine._look_at = 0.0
        engine.tick()
        assert engine.state is State.OK  # type: ignore[comparison-overlap]  # it has changed
    finally:
        engine.close()


def test_what_a_mirror_holds_is_not_all_right_before_etcd_is_reached(cache: Cache) -> None:
    engine = EtcdEngine(Options(("127.0.0.1:1",), "/p/", timeout=TIMEOUT), HostClock(), cache, lambda: None)
    engine.open()
    try:
        assert engine.begin_with(Content({}, (), 5, 5))
        engine.tick()
        assert engine.state is State.DEGRADED
        # For a moment it is no trouble to be told of in the log.
        assert engine.is_starting
        engine._post(Copied({}, {}, set(), 5))
        engine._post(Connected("127.0.0.1:1"))
        for _ in range(2):
            engine._look_at = 0.0
            engine.tick()
        assert engine.state is State.OK  # type: ignore[comparison-overlap]  # it has changed
        assert not engine.is_starting  # type: ignore[unreachable]
    finally:
        engine.close()


def test_a_change_that_comes_late_does_not_make_the_copy_younger(engine: EtcdEngine) -> None:
    engine._confirmed = time.monotonic() - 60
    told(engine, 6, STORE, Entry("x", 2, 2, time.time()))
    assert engine.revision == 6
    assert engine.told()["age"] >= 60
    engine._post(Confirmed(time.monotonic() - 1))
    engine.tick()
    assert 1 <= engine.told()["age"] < 60


def test_spent_leases_are_given_back_after_a_reload_as_well(engine: EtcdEngine) -> None:
    engine._spent.add([7])
    engine.close()
    engine.open()
    try:
        assert engine._keeper is not None
        assert len(engine._keeper._spent) == 1
    finally:
        engine.close()


class Member:
    """Answers with its revision."""

    def __init__(self, revision: int) -> None:
        self._revision = revision

    def call(self, *_: Any, **__: Any) -> Any:
        return {"header": {"cluster_id": "1", "revision": str(self._revision)}}


@pytest.mark.parametrize(("found", "is_kept"), [(10, True), (11, True), (9, False)])
def test_a_member_that_is_behind_for_a_moment_is_no_reason_to_start_over(found: int, is_kept: bool) -> None:
    follower = Follower(Cluster(Options()), Reader(b"/p/", "", HostClock()), b"/p/", TIMEOUT, raised, lambda: 0)
    follower.position, follower.cluster_id = 10, "1"
    member: Any = Member(found)
    with contextlib.nullcontext() if is_kept else pytest.raises(_StartOverError):
        follower._check_same({"cluster_id": "1", "revision": "7"}, "nowhere:1", member)
    with pytest.raises(_StartOverError):
        follower._check_same({"cluster_id": "2", "revision": "20"}, "nowhere:1", member)


class Losing:
    """Loses its answers, so many of them."""

    def __init__(self, times: int) -> None:
        self._left = times

    def call(self, *_: Any, **__: Any) -> Any:
        self._left -= 1
        if self._left >= 0:
            raise LostError("lost")
        return {"succeeded": True, "header": {"revision": "5"}}


@pytest.mark.parametrize(
    ("changes", "losses", "expected"), [(False, 1, Committed), (False, 1000, UnreachedError), (True, 1, LostError)]
)
def test_what_changes_nothing_is_asked_again_and_never_unknown(changes: bool, losses: int, expected: type) -> None:
    writer = Writer(Cluster(Options()), Lease(5, TIMEOUT), Spent(TIMEOUT), b"/p/", "", TIMEOUT, raised)
    batch = deletion()
    if not changes:
        batch.mutations = []
    job = Job("1", batch, {}, 0, time.monotonic() + TIMEOUT, patient=True, must=False)
    client: Any = Losing(losses)
    outcome = writer._outcome(client, job)
    assert type(outcome) is expected


@pytest.mark.parametrize(("changes", "expected"), [(False, UnavailableError), (True, UnknownOutcomeError)])
def test_what_was_sent_and_changes_nothing_has_surely_not_happened(
    engine: EtcdEngine, jobs: Jobs, changes: bool, expected: type
) -> None:
    batch = deletion()
    if not changes:
        batch.mutations, batch.relied = [], {"k": 5}
    answer = engine.commit(batch)
    assert isinstance(answer, Answer)
    assert jobs.taken[-1].begin()
    tick_until(engine, lambda: answer.done, TIMEOUT + 1)
    outcome = answer.result()
    assert isinstance(outcome, Refused)
    assert type(outcome.error) is expected


def stored(engine: EtcdEngine, revision: int, *keys: str, owner: Owner = NOBODY) -> None:
    """Have etcd tell of entries."""
    update = Update(revision)
    update.mutations = [(STORE, key, Entry("x", 2, 2, time.time(), owner=owner)) for key in keys]
    update.holds = dict.fromkeys(keys, Hold(1, "host", owner.pid) if owner.pid else Hold())
    engine._post(Changed([update]))
    engine.tick()


def test_before_etcd_was_reached_a_write_is_refused_with_the_reason(jobs: Jobs, cache: Cache) -> None:
    engine = EtcdEngine(Options(("nowhere:1",), "/p/", timeout=TIMEOUT), HostClock(), cache, lambda: None)
    for writer in (None, jobs):
        engine._writer = writer  # type: ignore[assignment]
        outcome = engine.commit(deletion())
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, UnavailableError)
        assert outcome.error.text == "not stored: etcd has not been reached yet"
    assert jobs.taken == []
    engine.close()


def test_a_write_that_others_overtake_without_an_end_is_refused(engine: EtcdEngine, jobs: Jobs) -> None:
    batch = deletion()
    batch.begun -= TIMEOUT + 1
    outcome = engine.commit(batch)
    assert isinstance(outcome, Refused)
    assert outcome.error.text == "not stored: others changed the same again and again"
    assert jobs.taken == []


def test_a_change_that_is_known_already_is_not_made_again(cache: Cache, engine: EtcdEngine) -> None:
    stored(engine, 6, "k")
    stored(engine, 6, "late")
    assert cache.keys() == ["k"]
    assert [commit[0] for commit in cache.history.commits] == [6]


def test_a_change_that_the_copy_does_not_take_has_all_of_it_copied_anew(
    engine: EtcdEngine, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("defect")

    follower = Follower(
        Cluster(Options(("nowhere:1",))), Reader(b"/p/", "", HostClock()), b"/p/", TIMEOUT, raised, lambda: 0
    )
    engine._follower = follower
    with monkeypatch.context() as failing:
        failing.setattr(cache, "receive", fail)
        with pytest.raises(ZeroDivisionError, match="defect"):
            stored(engine, 6, "k")
    assert follower._over
    engine._post(Copied({"k": Entry("x", 2, 2, time.time())}, {}, set(), 6))
    content = engine.tick()
    assert content is not None
    assert list(content.entries) == ["k"]


def ended(engine: EtcdEngine, cache: Cache, owner: Owner) -> None:
    """Have a process end."""
    cache.release(owner)
    engine.tick()


def test_what_has_ended_stays_so_in_a_fresh_copy_unless_it_was_written_anew(
    cache: Cache, engine: EtcdEngine, jobs: Jobs
) -> None:
    owner = Owner("web:web", 7)
    stored(engine, 6, "a", "b", "c", owner=owner)
    ended(engine, cache, owner)
    assert [kind for kind, _, _ in jobs.taken[-1].batch.mutations] == [RELEASE] * 3
    again, same = Entry("new", 5, 5, time.time()), Entry("x", 2, 2, time.time(), owner=owner)
    again.revision, same.revision = 8, 6
    engine._post(Copied({"a": again, "b": same}, {}, set(), 9))
    content = engine.tick()
    assert content is not None
    assert list(content.entries) == ["a"]


def test_what_ends_again_is_deleted_once(cache: Cache, engine: EtcdEngine, jobs: Jobs) -> None:
    owner = Owner("web:web", 7)
    stored(engine, 6, "a", owner=owner)
    engine.end(RELEASE, "web:web", ["a", "missing"])
    engine.end(RELEASE, "web:web", ["a"])
    assert [dict(job.batch.relied) for job in jobs.taken] == [{"a": 6}]
    assert cache.peek("a") is not None


def test_of_what_ended_together_one_that_was_written_anew_stays_and_the_others_go(
    engine: EtcdEngine, jobs: Jobs
) -> None:
    owner = Owner("web:web", 7)
    stored(engine, 6, "a", "b", owner=owner)
    engine.end(RELEASE, "web:web", ["a", "b"])
    together = jobs.taken[-1]
    assert together.begin()
    engine._post(Done(together, Overtaken(6)))
    engine.tick()
    each = jobs.taken[1:]
    assert [(dict(job.batch.relied), job.must) for job in each] == [({"a": 6}, True), ({"b": 6}, True)]
    # One by itself is not tried again: it is another entry by now.
    for job in each:
        engine._post(Done(job, Overtaken(6)))
    engine.tick()
    assert len(jobs.taken) == 3
    assert engine.told()["pending"] == 0


def test_a_write_that_was_given_up_is_not_answered_again(engine: EtcdEngine, jobs: Jobs) -> None:
    answer = committed(engine, jobs, 7)
    job = jobs.taken[-1]
    tick_until(engine, lambda: answer.done, TIMEOUT + 1)
    engine._post(Done(job, Committed(7)))
    engine.tick()
    engine._answer(job, Told(7))
    assert isinstance(answer.result(), Refused)


def test_where_there_was_no_room_it_stays_unknown_until_the_copy_has_come_so_far(
    engine: EtcdEngine, jobs: Jobs
) -> None:
    no_room = DeniedError("no space", 8)
    known = engine.commit(deletion())
    assert isinstance(known, Answer)
    assert jobs.taken[-1].begin()
    engine._post(Done(jobs.taken[-1], Full(no_room, 5)))
    engine.tick()
    outcome = known.result()
    assert isinstance(outcome, Refused)
    assert (type(outcome.error), outcome.error.text) == (UnavailableError, "not stored: no space")
    unknown = engine.commit(deletion())
    assert isinstance(unknown, Answer)
    assert jobs.taken[-1].begin()
    engine._post(Done(jobs.taken[-1], Full(no_room, 9)))
    tick_until(engine, lambda: unknown.done, TIMEOUT + 1)
    outcome = unknown.result()
    assert isinstance(outcome, Refused)
    assert type(outcome.error) is UnknownOutcomeError


def test_what_may_have_happened_is_unknown_at_the_end_of_its_time(engine: EtcdEngine, jobs: Jobs) -> None:
    answer = engine.commit(deletion())
    assert isinstance(answer, Answer)
    assert jobs.taken[-1].begin()
    engine._post(Done(jobs.taken[-1], LostError("lost")))
    engine.tick()
    assert not answer.done
    tick_until(engine, lambda: answer.done, TIMEOUT + 1)
    outcome = answer.result()
    assert isinstance(outcome, Refused)
    assert outcome.error.text == "it may be stored or not: lost"


class Renewing:
    """Answers all that is asked; each lease that is given back is followed by another one."""

    def __init__(self, spent: Spent) -> None:
        self.asked: list[str] = []
        self._spent = spent

    def call(self, path: str, *_: Any, **__: Any) -> Any:
        self.asked.append(path)
        if path == "/v3/lease/revoke":
            self._spent.add([7])
            time.sleep(0.001)
        return {"result": {"TTL": "5"}}

    def close(self) -> None:
        """Nothing is open."""

    def shutdown(self) -> None:
        """Nothing is waited for."""


def test_what_processes_own_is_kept_alive_while_spent_leases_never_end() -> None:
    options = Options(("nowhere:1",))
    cluster, lease, spent = Cluster(options), Lease(5, TIMEOUT), Spent(TIMEOUT)
    lease.number = 1
    spent.add([7])
    client: Any = Renewing(spent)
    cluster.client = lambda: client  # type: ignore[method-assign]
    follower = Follower(cluster, Reader(b"/p/", "", HostClock()), b"/p/", TIMEOUT, raised, lambda: 0)
    keeper = Keeper(cluster, follower, lease, spent, b"/p/", TIMEOUT, raised, lambda: None)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    try:
        until(lambda: "/v3/lease/keepalive" in client.asked, "the lease is kept alive")
    finally:
        keeper.end()
        thread.join()
    assert client.asked.count("/v3/lease/revoke") > 1


def test_who_takes_leases_gives_back_as_many_as_have_piled_up() -> None:
    cluster, spent = Cluster(Options(("nowhere:1",))), Spent(TIMEOUT)
    spent.add(range(1, 200))

    class Granting:
        member = "nowhere:1"

        def call(self, path: str, *_: Any, **__: Any) -> Any:
            return {"ID": "1"} if path == "/v3/lease/grant" else {"succeeded": True, "header": {"revision": "5"}}

        def close(self) -> None:
            """Nothing is open."""

    client: Any = Granting()
    cluster.client = lambda: client  # type: ignore[method-assign]
    done: list[Done] = []
    writer = Writer(cluster, Lease(5, TIMEOUT), spent, b"/p/", "", TIMEOUT, done.append)
    for number in range(150):
        writer.put(Job(str(number), deletion(), {}, 100, time.monotonic() + 10, patient=True, must=False))
    writer.stop(1)
    writer.run()
    assert len(done) == 150
    assert len(spent) == 100


@pytest.mark.parametrize(
    ("grant", "write", "expected", "given_back"),
    [
        (LostError("lost"), None, UnreachedError, []),
        ({"ID": "seven"}, None, UnreachedError, []),
        ({}, None, UnreachedError, []),
        ({"ID": "7"}, DeniedError("no permission", 7), DeniedError, [7]),
        ({"ID": "7"}, {"responses": [{"response_range": {}}]}, Overtaken, [7]),
        ({"ID": "7"}, {"succeeded": True, "header": {"revision": "5"}}, Committed, []),
        ({"ID": "7"}, LostError("lost"), LostError, []),
    ],
    ids=["lost", "nonsense", "none", "denied", "overtaken", "taken", "unknown"],
)
def test_a_lease_without_its_write_is_given_back_and_changes_nothing(
    grant: object, write: object, expected: type, given_back: list[int]
) -> None:
    revoked: list[str] = []

    class Answering:
        member = "nowhere:1"

        def call(self, path: str, body: dict[str, Any], *_: Any, **__: Any) -> Any:
            if path == "/v3/lease/revoke":
                revoked.append(body["ID"])
                return {}
            answer = grant if path == "/v3/lease/grant" else write
            assert answer is not None, "it is not sent without its lease"
            if isinstance(answer, Exception):
                raise answer
            return answer

    spent = Spent(TIMEOUT)
    writer = Writer(Cluster(Options()), Lease(5, TIMEOUT), spent, b"/p/", "", TIMEOUT, raised)
    batch = deletion()
    batch.mutations = [(STORE, "k", Entry("x", 2, 2, time.time(), expires=time.time() + 100))]
    job = Job("1", batch, {}, 100, time.monotonic() + TIMEOUT, patient=False, must=False)
    client: Any = Answering()
    assert type(writer._outcome(client, job)) is expected
    while spent.revoke_one(client):
        pass
    assert revoked == [str(lease) for lease in given_back]


@pytest.mark.parametrize(
    ("body", "expected", "text"),
    [
        (b"CommonName of client sending a request against gateway will be ignored", DeniedError, "must have no CN"),
        (b"<html>Bad Request</html>\n", LostError, "HTTP status 400: <html>Bad Request</html>"),
        (b'{"error": "etcdserver: too many operations", "code": 3}', DeniedError, "too many operations"),
    ],
)
def test_a_refusal_says_what_was_said(body: bytes, expected: type, text: str) -> None:
    refusal = Cluster(Options(("nowhere:1",))).client()._denial(400, body)
    assert type(refusal) is expected
    assert text in str(refusal)


def events(revision: int, changes: int) -> list[dict[str, Any]]:
    def name(key: str) -> str:
        return base64.b64encode(f"/p/e/{key}".encode()).decode()

    numbers = range(changes)
    return [
        {"type": "DELETE", "kv": {"key": name(f"{revision}/{number}"), "mod_revision": str(revision)}}
        for number in numbers
    ]


def test_what_has_been_missed_is_taken_a_little_at_a_time() -> None:
    told: list[Any] = []
    follower = Follower(Cluster(Options()), Reader(b"/p/", "", HostClock()), b"/p/", TIMEOUT, told.append, lambda: 0)
    missed = [*((revision, 100) for revision in range(1, 50)), *((revision, 1) for revision in range(50, 250))]
    follower._take([event for revision, changes in missed for event in events(revision, changes)])
    found = [[(update.revision, len(update.mutations)) for update in changed.updates] for changed in told]
    assert [each for part in found for each in part] == missed
    assert max(sum(changes for _, changes in part) for part in found) < 150
    assert len(found) < 60


def test_what_was_to_follow_a_login_that_is_lost_has_surely_not_happened(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret")

    def ask(path: str, _body: object) -> dict[str, Any]:
        raise LostError(f"{path}: lost")

    cluster = Cluster(Options(("nowhere:1",), user="cache", password_file=str(password)))
    with pytest.raises(UnreachedError, match="no login: /v3/auth/authenticate: lost"):
        cluster.token(ask)


def test_what_must_happen_and_cannot_leaves_their_turn_to_others() -> None:
    class Full:
        member = "nowhere:1"

        def call(self, _path: str, body: dict[str, Any], *_: Any, **__: Any) -> Any:
            if "request_delete_range" in body["success"][0]:
                raise DeniedError("no room", 8)
            return {"succeeded": True, "header": {"revision": "5"}}

        def close(self) -> None:
            """Nothing is open."""

    cluster, client = Cluster(Options(("nowhere:1",))), Full()
    cluster.client = lambda: client  # type: ignore[method-assign,assignment,return-value]
    done: list[Done] = []
    writer = Writer(cluster, Lease(5, TIMEOUT), Spent(TIMEOUT), b"/p/", "", TIMEOUT, done.append)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        question = deletion()
        question.mutations, question.relied = [], {"k": 5}
        ended = Job("1", deletion(), {}, 0, time.monotonic() + 100, patient=True, must=True)
        asked = Job("2", question, {}, 0, time.monotonic() + 100, patient=True, must=False)
        writer.put(ended)
        writer.put(asked)
        until(lambda: [one.job for one in done] == [asked], "the other one is answered")
        assert not ended.is_through.is_set()
    finally:
        cluster.stopped.set()
        writer.stop(1)
        thread.join()
