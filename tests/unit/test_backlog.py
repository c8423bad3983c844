"""Work that comes by the thousand: done in the order in which it came, in slices, and not without end."""

import itertools
from functools import partial
from types import SimpleNamespace

import pytest

from supervisor_cache.server import backlog
from supervisor_cache.server.backlog import Backlog
from supervisor_cache.server.log import Log
from tests.unit.test_log import Lines

SLICE = 50
MOST = 20_000


class Bench:
    """A backlog with what it does, says and asks for."""

    def __init__(self) -> None:
        self.lines = Lines()
        log = Log()
        log.use(self.lines)  # type: ignore[arg-type]
        self.backlog = Backlog(log)
        self.backlog.wake = self.wake
        self.done: list[int] = []
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1

    def run(self, numbers: range) -> None:
        self.backlog.run(partial(self.done.append, number) for number in numbers)

    def rounds(self) -> int:
        """Do one round after the other as long as one is asked for; answer how many."""
        count = 0
        while self.wakes:
            self.wakes = 0
            self.backlog.do_slice()
            count += 1
        return count


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a millisecond pass with each look at the clock."""
    ticks = itertools.count()
    monkeypatch.setattr(backlog, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 1000))


def test_what_makes_one_slice_is_done_at_once(bench: Bench) -> None:
    bench.run(range(SLICE))
    assert bench.done == list(range(SLICE))
    assert bench.wakes == 0


def test_what_is_more_waits_for_a_round_that_is_asked_for(bench: Bench) -> None:
    bench.run(range(SLICE + 1))
    assert bench.done == list(range(SLICE))
    assert bench.wakes == 1
    bench.backlog.do_slice()
    assert bench.done == list(range(SLICE + 1))
    assert bench.wakes == 1


@pytest.mark.usefixtures("slow_clock")
def test_a_round_does_only_as_much_as_its_time_allows(bench: Bench) -> None:
    bench.run(range(SLICE + 20))
    bench.backlog.do_slice()
    assert SLICE < len(bench.done) < SLICE + 20
    assert bench.wakes == 2
    assert bench.rounds() > 1
    assert bench.done == list(range(SLICE + 20))


@pytest.mark.usefixtures("slow_clock")
def test_the_order_is_kept_whenever_it_comes(bench: Bench) -> None:
    bench.run(range(200))
    bench.run(range(200, 201))
    bench.backlog.do_slice()
    bench.run(range(201, 400))
    bench.rounds()
    bench.run(range(400, 402))
    assert bench.done == list(range(402))


@pytest.mark.parametrize("place", [0, SLICE - 1, SLICE, SLICE + 5], ids=["first", "at once", "later", "in the middle"])
def test_a_step_that_brings_more_work_does_not_get_in_front(bench: Bench, place: int) -> None:
    steps = [partial(bench.done.append, number) for number in range(SLICE + 10)]
    bench.backlog.run([*steps[:place], partial(bench.run, range(1000, 1002)), *steps[place:]])
    bench.rounds()
    assert bench.done == [*range(SLICE + 10), 1000, 1001]


def test_all_that_is_left_is_done_on_request(bench: Bench) -> None:
    bench.run(range(1000))
    bench.backlog.do_all()
    assert bench.done == list(range(1000))


def test_as_many_as_fit_are_kept_without_a_word(bench: Bench) -> None:
    bench.run(range(SLICE + MOST))
    bench.backlog.do_all()
    assert bench.done == list(range(SLICE + MOST))
    assert bench.lines.lines == []


def test_of_more_than_fit_the_oldest_are_dropped_with_a_warning(bench: Bench) -> None:
    bench.run(range(SLICE + MOST))
    bench.run(range(SLICE + MOST, SLICE + MOST + 7))
    bench.run(range(SLICE + MOST + 7, SLICE + MOST + 8))
    bench.backlog.do_all()
    assert bench.done == [*range(SLICE), *range(SLICE + 8, SLICE + MOST + 8)]
    assert bench.lines.lines == [
        "supervisor_cache: 7 events and log lines are dropped: more come than can be told"
    ]  # and no second line within the minute


@pytest.mark.parametrize("place", [0, SLICE - 1, SLICE, SLICE + 5], ids=["first", "at once", "later", "in the middle"])
def test_a_step_that_fails_keeps_no_other_from_being_done(bench: Bench, place: int) -> None:
    steps = [partial(bench.done.append, number) for number in range(SLICE + 10)]

    def fail() -> None:
        raise ValueError("broken")

    bench.backlog.run([*steps[:place], fail, *steps[place:]])
    bench.rounds()
    assert bench.done == list(range(SLICE + 10))
    (line,) = bench.lines.lines
    assert line.startswith("supervisor_cache: internal error in telling of a change, contained; supervisord goes on\n")


def test_nothing_is_asked_for_where_nothing_is_left(bench: Bench) -> None:
    bench.backlog.do_slice()
    bench.backlog.do_all()
    bench.run(range(0))
    assert (bench.wakes, bench.done) == (0, [])
