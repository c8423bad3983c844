"""A result that comes later reaches who waits for it, whenever each of them comes."""

import pytest

from supervisor_cache.core.answer import Answer
from supervisor_cache.errors import CacheError, UnavailableError


def test_who_waits_is_called_once_it_is_settled_and_not_before() -> None:
    answer: Answer[int] = Answer()
    heard: list[int] = []
    answer.when_done(lambda: heard.append(answer.result()))
    before = [*heard]
    answer.resolve(5)
    assert (before, heard) == ([], [5])


def test_who_comes_late_is_called_at_once() -> None:
    answer: Answer[int] = Answer()
    answer.resolve(5)
    heard: list[int] = []
    answer.when_done(lambda: heard.append(answer.result()))
    assert heard == [5]


def test_an_error_is_raised_for_who_asks() -> None:
    answer: Answer[int] = Answer()
    heard: list[bool] = []
    answer.when_done(lambda: heard.append(answer.done))
    answer.reject(UnavailableError("not stored"))
    assert heard == [True]
    with pytest.raises(UnavailableError, match=r"^not stored$"):
        answer.result()


def test_what_follows_a_call_ends_as_it_does() -> None:
    value: Answer[int] = Answer()
    value.follow(lambda: 7)
    assert value.result() == 7
    error: Answer[int] = Answer()

    def fail() -> int:
        raise CacheError("no")

    error.follow(fail)
    with pytest.raises(CacheError, match=r"^no$"):
        error.result()


@pytest.mark.parametrize("error", [None, CacheError("no")])
def test_what_follows_a_call_that_answers_later_waits_for_it(error: CacheError | None) -> None:
    first: Answer[int] = Answer()
    second: Answer[int] = Answer()
    second.follow(lambda: first)
    was_done = second.done
    if error is None:
        first.resolve(7)
        assert second.result() == 7
    else:
        first.reject(error)
        with pytest.raises(CacheError, match=r"^no$"):
            second.result()
    assert (was_done, second.done) == (False, True)
