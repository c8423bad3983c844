"""The changes that are kept: which ones are told, and what happens to those that would not fit."""

import pytest

from supervisor_cache.core import operations
from supervisor_cache.core.entry import CLEAR, DELETE, STORE, Batch
from supervisor_cache.core.history import Change, History, commit_of
from supervisor_cache.core.limits import Limits
from supervisor_cache.errors import HistoryGoneError, LimitExceededError
from tests.model import Bench

ROOM = 10**9


def batch(revision: int, *keys: str, note: str = "", via: str = "", kind: str = STORE) -> Batch:
    made = Batch()
    made.mutations = [(kind, key, None) for key in keys]
    made.revision, made.time, made.note, made.via = revision, 5.0, note, via
    return made


@pytest.fixture
def history() -> History:
    """A history that knows all since revision 10."""
    return History(10)


def told(history: History, since: int, newest: int, prefix: str = "", limit: int = 0) -> list[tuple[int, str]]:
    return [(change.revision, change.key) for change in history.changes_after(since, newest, prefix, limit)]


def test_a_change_is_told_with_all_that_is_known_of_it(history: History) -> None:
    history.append(batch(11, "k", note="who", via="web"), ROOM, ROOM)
    assert history.changes_after(10, 11, "", 0) == [Change(11, STORE, "k", 5.0, "who", "web")]


def test_only_what_is_after_a_revision_that_is_known_is_told(history: History) -> None:
    for revision in (11, 12, 13):
        history.append(batch(revision, f"k{revision}"), ROOM, ROOM)
    assert told(history, 10, 13) == [(11, "k11"), (12, "k12"), (13, "k13")]
    assert told(history, 12, 13) == [(13, "k13")]
    assert told(history, 13, 13) == []
    for since in (9, 14):
        text = f"changes after revision {since} are not known; known are those after 10, newest is 13"
        with pytest.raises(HistoryGoneError, match=text):
            told(history, since, 13)


def test_a_clear_concerns_every_prefix(history: History) -> None:
    history.append(batch(11, "a", "b"), ROOM, ROOM)
    history.append(batch(12, "", kind=CLEAR), ROOM, ROOM)
    history.append(batch(13, "b", kind=DELETE), ROOM, ROOM)
    assert told(history, 10, 13, "a") == [(11, "a"), (12, "")]
    assert told(history, 10, 13, "x") == [(12, "")]
    assert [history.has_changed(since, "x") for since in (10, 11, 12)] == [True, True, False]
    assert [history.has_changed(since, "b") for since in (12, 13)] == [True, False]


def test_a_limit_leaves_commits_whole_and_tells_one_in_any_case(history: History) -> None:
    history.append(batch(11, "a", "b", "c"), ROOM, ROOM)
    history.append(batch(12, "d"), ROOM, ROOM)
    history.append(batch(13, "e", "f"), ROOM, ROOM)
    for limit, last in ((1, 11), (3, 11), (4, 12), (5, 12), (6, 13), (0, 13)):
        assert told(history, 10, 13, "", limit)[-1][0] == last
    # Of several keys in one commit, only those with the prefix count.
    assert told(history, 10, 13, "b", 1) == [(11, "b")]
    assert told(history, 11, 13, "f", 1) == [(13, "f")]


def test_as_many_changes_as_allowed_are_kept_and_the_oldest_commits_go(history: History) -> None:
    for revision in range(11, 21):
        history.append(batch(revision, "a", "b"), 6, ROOM)
    assert (history.since, history.changes) == (17, 6)
    assert [commit[0] for commit in history.commits] == [18, 19, 20]
    history.trim(5, ROOM)
    assert (history.since, history.changes) == (18, 4)
    history.trim(0, ROOM)
    assert (history.since, history.changes, history.size) == (20, 0, 0)


def test_no_more_bytes_than_allowed_are_kept(history: History) -> None:
    # 64 for a commit, 16 for a change, and the bytes of key and note.
    history.append(batch(11, "ä", note="ö"), ROOM, ROOM)
    assert history.size == 64 + 16 + 2 + 2
    history.append(batch(12, "abc"), ROOM, 84 + 83)
    assert (history.size, history.since) == (84 + 83, 10)
    history.append(batch(13, "abc"), ROOM, 84 + 83)
    assert (history.size, history.since) == (2 * 83, 11)
    assert commit_of(11, 5.0, "ö", "", [(STORE, "ä")])[5] == 84


def test_a_commit_that_no_reply_can_hold_resets_the_history(history: History) -> None:
    history.append(batch(11, "a"), ROOM, ROOM)
    history.append(batch(12, *map(str, range(2000))), ROOM, ROOM)
    assert history.knows(11, 12)
    history.append(batch(13, *map(str, range(2001))), ROOM, ROOM)
    assert (history.since, history.changes, history.size, list(history.commits)) == (13, 0, 0, [])
    history.append(batch(14, *(f"{number}" + "&" * 500 for number in range(600))), ROOM, ROOM)
    assert history.since == 14
    # One change always has a reply.
    history.append(batch(15, "&" * 400_000), ROOM, ROOM)
    assert history.since == 14
    assert len(told(history, 14, 15)) == 1


def test_two_changes_fit_up_to_the_last_byte_of_a_reply(history: History) -> None:
    # Each takes 510 of markup at most, and the note.
    room = 1024 * 1024 - 2 * (510 + len("note"))
    history.append(batch(11, "a" * 1000, "b" * (room - 1000), note="note"), ROOM, ROOM)
    assert (history.since, history.changes) == (10, 2)
    assert len(told(history, 10, 11)) == 2
    history.append(batch(12, "a" * 1000, "b" * (room - 999), note="note"), ROOM, ROOM)
    assert (history.since, history.changes) == (12, 0)


def test_more_than_a_reply_holds_is_refused_and_says_what_helps(history: History) -> None:
    for revision in range(11, 11 + 2001):
        history.append(batch(revision, "k"), ROOM, ROOM)
    newest = 11 + 2000
    with pytest.raises(LimitExceededError, match="the reply would have 2001 changes; at most 2000: use limit"):
        told(history, 10, newest)
    assert len(told(history, 11, newest)) == 2000
    assert len(told(history, 10, newest, "", 2000)) == 2000
    for revision in range(newest + 1, newest + 21):
        history.append(batch(revision, "&" * 20_000), ROOM, ROOM)
    with pytest.raises(LimitExceededError, match="bytes; at most 1048576 are allowed: use limit"):
        told(history, newest, newest + 20)
    assert len(told(history, newest, newest + 20, "", 9)) == 9


def test_the_bytes_of_a_reply_are_those_of_each_key_note_and_source(history: History) -> None:
    """They are a bound from above, and a note counts for each change."""
    note = "n" * 1000
    for revision in range(11, 11 + 700):
        history.append(batch(revision, "k" * 100, note=note, via="v" * 100), ROOM, ROOM)
    # Each takes 510 of markup at most, and 1200 beside.
    fit = (1024 * 1024) // 1710
    assert len(told(history, 10, 710, "", fit)) == fit
    with pytest.raises(LimitExceededError, match=f"{1710 * (fit + 1)} bytes"):
        told(history, 10, 710, "", fit + 1)


def test_a_reply_may_have_a_megabyte_and_not_a_byte_more(history: History) -> None:
    half = 1024 * 1024 // 2 - 510
    for revision, length in ((11, half), (12, half), (13, half + 1)):
        history.append(batch(revision, "k" * length), ROOM, ROOM)
    assert len(told(history, 10, 13, "", 2)) == 2
    with pytest.raises(LimitExceededError, match="the reply would have 1048577 bytes"):
        told(history, 11, 13)


def test_what_was_stored_is_loaded_and_no_more_than_allowed(history: History) -> None:
    history.append(batch(11, "old"), ROOM, ROOM)
    commits = [commit_of(revision, 5.0, "", "", [(STORE, "k")]) for revision in (21, 22, 23)]
    history.load(commits, 20, 2, ROOM)
    assert (history.since, history.changes, history.size) == (21, 2, 2 * (64 + 16 + 1))
    assert told(history, 21, 23) == [(22, "k"), (23, "k")]


def test_a_lower_limit_cuts_what_is_known_at_once() -> None:
    bench = Bench()
    for number in range(5):
        bench.write(operations.store, "k", number)
    since = bench.cache.history.since
    bench.cache.limits = Limits(max_changes=2)
    assert bench.cache.limits.max_changes == 2
    assert bench.cache.history.since == since + 3
    assert len(bench.cache.changes(str(since + 3))) == 2
    bench.cache.limits = Limits(max_total_bytes=bench.cache.size + 81)
    assert len(bench.cache.history.commits) == 1
