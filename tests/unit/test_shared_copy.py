"""A cache over storage that others write to as well: what it asks for, and what it makes of the answer."""

from typing import Any

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.cache import Cache
from supervisor_cache.core.engine import Conflict, Content, Outcome, Refused, State, Told
from supervisor_cache.core.entry import CLEAR, EXPIRE, RELEASE, RESET, STORE, Batch, Entry, Owner
from supervisor_cache.core.limits import Limits
from supervisor_cache.errors import CacheError, InvalidArgumentsError, UnavailableError
from tests.model import START, FakeClock

OWNER = Owner("web:0", 7)


class LateEngine:
    """Answers when the test has it answer."""

    kind = "late"
    state = State.OK
    detail = ""

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        self.revision = 10
        self.asked: list[tuple[Batch, Answer[Outcome]]] = []
        self.ended: list[tuple[str, str, list[str]]] = []
        # What it answers at once instead.
        self.at_once: list[Outcome] = []

    def commit(self, batch: Batch) -> Outcome | Answer[Outcome]:
        if self.at_once:
            return self.at_once.pop(0)
        answer: Answer[Outcome] = Answer()
        self.asked.append((batch, answer))
        return answer

    def end(self, kind: str, via: str, keys: list[str]) -> None:
        self.ended.append((kind, via, keys))


class Late:
    """A cache over such an engine."""

    def __init__(self, *, shared: bool = True) -> None:
        self.clock = FakeClock()
        self.engine = LateEngine(shared=shared)
        self.failures: list[Exception] = []
        self.commits: list[Batch] = []
        self.cache = Cache(self.engine, Limits(), self.clock, self._owner, self.failures.append)
        self.cache.observers = [self.commits.append]

    def _owner(self, name: str) -> Owner:
        if name != OWNER.name:
            raise InvalidArgumentsError(f"owner {name} is not running")
        return OWNER

    def write(self, operation: Any, *args: object) -> Answer[Any]:
        answer = self.cache.write(operation, "test", *args)
        assert isinstance(answer, Answer)
        return answer

    def tell(self, outcome: Outcome) -> None:
        """Have the newest write answered."""
        self.engine.asked[-1][1].resolve(outcome)

    def take(self, revision: int, kind: str, key: str, entry: Entry | None = None, *, own: bool = False) -> None:
        """Have the storage tell of a change."""
        batch = Batch()
        batch.mutations = [(kind, key, entry)]
        batch.note, batch.via, batch.time, batch.revision = "", "", self.clock.now, revision
        self.engine.revision = revision
        self.cache.receive(batch, own=own)


@pytest.fixture
def late() -> Late:
    return Late()


def entry(value: str = "v", **more: Any) -> Entry:
    return Entry(value, len(value) + 3, 100, START, **more)


def test_a_write_is_asked_for_and_is_in_memory_only_when_the_storage_tells_of_it(late: Late) -> None:
    answer = late.write(operations.replace, "k", "v", {"note": "who"})
    batch, _ = late.engine.asked[-1]
    assert (batch.via, batch.note, batch.time, batch.begun) == ("test", "who", late.clock.now, late.clock.up)
    assert late.cache.peek("k") is None
    late.take(11, STORE, "k", entry(), own=True)
    assert not answer.done
    late.tell(Told(11))
    assert answer.result() == 11
    assert late.cache.fetch("k") == "v"
    assert len(late.commits) == 1


def test_a_storage_that_only_says_the_revision_has_its_change_applied_here(late: Late) -> None:
    answer = late.write(operations.store, "k", "v")
    late.tell(12)
    assert answer.result() is True
    assert late.cache.entry("k").revision == 12
    assert [commit.revision for commit in late.commits] == [12]


def test_a_conflict_is_planned_anew_from_what_is_there_by_then_and_from_its_first_moment(late: Late) -> None:
    answer = late.write(operations.increment, "n")
    begun = late.engine.asked[-1][0].begun
    late.clock.pass_by(1)
    late.take(11, STORE, "n", Entry(5, 2, 100, START))
    late.tell(Conflict())
    assert not answer.done
    assert len(late.engine.asked) == 2
    batch, _ = late.engine.asked[-1]
    assert (batch.relied, batch.begun, batch.via, batch.time) == ({"n": 11}, begun, "test", late.clock.now)
    late.tell(Told(12))
    assert answer.result() == 6


def test_what_would_not_be_written_any_more_after_a_conflict_ends_as_if_asked_then(late: Late) -> None:
    answer = late.write(operations.add, "k", "mine")
    late.take(11, STORE, "k", entry("theirs"))
    late.tell(Conflict())
    late.tell(Told(11))  # that it is there still
    assert answer.result() is None


@pytest.mark.parametrize("at_once", [True, False])
def test_a_refusal_is_counted_and_told(late: Late, at_once: bool) -> None:
    refusal = Refused(UnavailableError("not stored: etcd"))
    for refused in (1, 2):
        if at_once:
            late.engine.at_once = [refusal]
            with pytest.raises(UnavailableError, match="not stored: etcd"):
                late.cache.write(operations.store, "test", "k", "v")
        else:
            answer = late.write(operations.store, "k", "v")
            late.tell(refusal)
            with pytest.raises(UnavailableError, match="not stored: etcd"):
                answer.result()
        assert late.cache.counters.refused == refused
    assert late.commits == []


def test_a_wrong_argument_is_refused_unasked(late: Late) -> None:
    for refused in (1, 2):
        with pytest.raises(InvalidArgumentsError):
            late.cache.write(operations.store, "test", "k", None)
        assert late.cache.counters.refused == refused
    assert late.engine.asked == []


def test_what_changes_nothing_is_asked_for_what_it_relied_on_and_answered_at_once_where_that_is_nothing(
    late: Late,
) -> None:
    late.write(operations.delete, "k")
    assert late.engine.asked[-1][0].relied == {"k": 0}
    late.write(operations.clear)
    assert late.engine.asked[-1][0].prefix == ""
    assert late.cache.write(operations.delete_many, "test", []) == 0
    assert late.cache.write(operations.store_many, "test", {}) is None
    assert len(late.engine.asked) == 2


def test_what_is_equal_already_is_relied_on_by_the_others_of_its_call(late: Late) -> None:
    late.take(11, STORE, "same", entry("v"))
    late.write(operations.store_many, {"same": "v", "new": "w"}, {"if_changed": True})
    batch, _ = late.engine.asked[-1]
    assert [key for _, key, _ in batch.mutations] == ["new"]
    assert batch.relied == {"same": 11}


def test_a_defect_of_the_storage_is_reported_and_its_caller_does_not_wait_without_end(late: Late) -> None:
    answer = late.write(operations.store, "k", "v")
    error = CacheError("defect")
    late.engine.asked[-1][1].reject(error)
    assert late.failures == [error]
    with pytest.raises(CacheError, match=r"^internal error; supervisord's log has it$"):
        answer.result()


def test_what_ended_with_a_process_is_hidden_at_once_and_told_when_the_storage_does(late: Late) -> None:
    late.take(11, STORE, "k", entry(owner=OWNER))
    late.take(12, STORE, "other", entry())
    late.cache.release(Owner("web:1", 8))
    assert late.engine.ended == []
    late.cache.release(OWNER)
    assert late.engine.ended == [(RELEASE, "web:0", ["k"])]
    assert late.cache.keys() == ["other"]
    assert len(late.commits) == 2
    late.take(13, RELEASE, "k")
    assert [commit.mutations[0][0] for commit in late.commits] == [STORE, STORE, RELEASE]


def test_what_was_hidden_can_be_shown_again_as_it_was(late: Late) -> None:
    late.take(11, STORE, "k", entry(owner=OWNER))
    found = late.cache.peek("k")
    assert found is not None
    late.cache.hide(["k"])
    assert late.cache.peek("k") is None
    assert late.cache.size == 0
    late.cache.show({"k": found})
    assert late.cache.entry("k").revision == 11
    assert late.cache.owners() == {OWNER}
    assert late.cache.revision == 11


def test_the_changes_of_others_count_as_no_writes_of_ours(late: Late) -> None:
    late.take(11, STORE, "k", entry())
    assert late.cache.counters.writes == 0
    late.take(12, STORE, "k", entry(), own=True)
    assert late.cache.counters.writes == 1
    for number in (1, 2):
        late.take(12 + number, EXPIRE, "k")
        assert (late.cache.counters.writes, late.cache.counters.expired) == (1, number)
    late.take(15, STORE, "k", entry(), own=True)
    assert (late.cache.counters.writes, late.cache.counters.expired) == (2, 2)


def test_what_ends_by_its_time_is_left_to_the_storage_which_can_ask_what_is_due(late: Late) -> None:
    for number in range(3):
        deadline = late.clock.up + 5 + number
        late.take(11 + number, STORE, f"k{number}", entry(expires=START + 5, deadline=deadline))
    assert late.cache.due(late.clock.up + 4.9) == []
    assert late.cache.due(late.clock.up + 5) == ["k0"]
    assert late.cache.due(late.clock.up + 6) == ["k0", "k1"]
    late.clock.pass_by(10)
    late.cache.tidy()
    # It is the storage's to say that they have ended.
    assert late.cache.keys() == ["k0", "k1", "k2"]
    assert late.engine.asked == []


def test_who_follows_the_changes_is_told_to_start_over_with_a_fresh_copy(late: Late) -> None:
    late.take(11, STORE, "old", entry())
    fresh = entry()
    fresh.revision = 20
    late.engine.revision = 20
    late.cache.start_over(Content({"new": fresh}, (), 20, 20))
    assert late.cache.keys() == ["new"]
    newest = late.commits[-1]
    assert (newest.mutations, newest.revision, newest.note, newest.via) == (((RESET, "", None),), 20, "", "")
    assert newest.time == late.clock.now
    assert late.cache.changed_since(11, "")
    assert not late.cache.changed_since(20, "")


def test_a_copy_that_comes_while_changes_are_told_is_told_after_them(late: Late) -> None:
    heard: list[str] = []

    def starting_over(batch: Batch) -> None:
        heard.append(batch.mutations[0][0])
        if batch.mutations[0][0] == STORE:
            late.cache.start_over(Content({}, (), 20, 20))

    late.cache.observers = [starting_over, lambda batch: heard.append(batch.mutations[0][0])]
    late.take(11, STORE, "k", entry())
    assert heard == [STORE, STORE, RESET, RESET]


class TestOfOneWriter:
    """An engine with one writer may answer later, too."""

    def test_a_write_is_applied_when_it_is_answered(self) -> None:
        late = Late(shared=False)
        answer = late.write(operations.replace, "k", "v")
        assert late.cache.peek("k") is None
        late.tell(11)
        assert answer.result() == 11
        assert late.cache.fetch("k") == "v"

    def test_a_conflict_is_planned_anew(self) -> None:
        late = Late(shared=False)
        late.engine.at_once = [Conflict(), 11]
        assert late.cache.write(operations.replace, "test", "k", "v") == 11

    def test_a_conflict_that_comes_later_is_planned_anew(self) -> None:
        late = Late(shared=False)
        answer = late.write(operations.replace, "k", "v")
        late.tell(Conflict())
        late.tell(11)
        assert answer.result() == 11
        assert [commit.via for commit in late.commits] == ["test"]

    def test_a_refusal_at_once_is_raised(self) -> None:
        late = Late(shared=False)
        for refused in (1, 2):
            late.engine.at_once = [Refused(UnavailableError("not stored: disk"))]
            with pytest.raises(UnavailableError, match="not stored: disk"):
                late.cache.write(operations.store, "test", "k", "v")
            assert late.cache.counters.refused == refused

    def test_what_has_expired_is_asked_for_once_until_it_is_answered(self) -> None:
        late = Late(shared=False)
        late.write(operations.store, "k", "v", {"ttl": 5})
        late.tell(11)
        late.clock.pass_by(5)
        for _ in range(3):
            late.cache.tidy()
        assert [batch.mutations[0][0] for batch, _ in late.engine.asked] == [STORE, EXPIRE]
        assert late.cache.counters.expired == 0
        late.tell(12)
        assert late.cache.counters.expired == 1
        assert late.cache.keys() == []

    def test_what_ended_with_a_process_is_asked_for_once(self) -> None:
        late = Late(shared=False)
        late.write(operations.store, "k", "v", {"owner": OWNER.name})
        late.tell(11)
        late.cache.release(OWNER)
        assert [batch.mutations[0][0] for batch, _ in late.engine.asked] == [STORE, RELEASE]
        late.tell(12)
        assert late.cache.keys() == []
        assert [commit.via for commit in late.commits] == ["test", OWNER.name]

    def test_an_end_that_cannot_be_planned_is_tried_again(self) -> None:
        late = Late(shared=False)
        late.write(operations.store, "k", "v", {"ttl": 5})
        late.tell(11)
        late.clock.pass_by(5)
        late.engine.at_once = [Refused(UnavailableError("not stored"))]
        with pytest.raises(UnavailableError):
            late.cache.tidy()
        late.engine.at_once = [12]
        late.cache.tidy()
        assert late.cache.keys() == []
        assert late.cache.counters.expired == 1


def test_a_clear_takes_all_away(late: Late) -> None:
    late.take(11, STORE, "k", entry(owner=OWNER, expires=START + 5, deadline=late.clock.up + 5))
    late.take(12, CLEAR, "")
    assert late.cache.keys() == []
    assert (late.cache.size, late.cache.owners(), late.cache.due(late.clock.up + 6)) == (0, set(), [])
