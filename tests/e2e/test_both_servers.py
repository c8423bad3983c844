"""Each method and each command over both servers of a daemonized supervisord with a password: one set of data."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from supervisor_cache.commands.verbs import VERBS
from tests.e2e.test_introspection import METHODS, NEWEST, RETURNS
from tests.harness import PASSWORD, USER, Supervisord, running

SERVERS = [("unix", "inet"), ("inet", "unix")]
BEFORE: Final = {"k": "v", "n": 1}
READS = {
    *("getAPIVersion", "getKeys", "getCount", "fetch", "fetchMany", "getItems", "getEntry", "getEntries"),
    *("getRevision", "getChanges", "wait", "getStats"),
}
# What is there afterwards, and None where the write changes nothing: add and storeIf find k, deleteIf none without.
AFTER: dict[str, dict[str, Any] | None] = {
    "store": {"k": 1, "n": 1},
    "storeMany": {"k": 1, "n": 1},
    "add": None,
    "storeIf": None,
    "increment": {"k": "v", "n": 2},
    "touch": {"k": "v", "n": 1},
    "touchIf": {"k": "v", "n": 1},
    "delete": {"n": 1},
    "deleteIf": None,
    "deleteMany": {"n": 1},
    "deletePrefix": {"n": 1},
    "clear": {},
}


@pytest.fixture(scope="module")
def daemonized() -> Iterator[Supervisord]:
    with running(daemon=True, login=True) as supervisord:
        yield supervisord
        assert "Traceback" not in supervisord.log


@pytest.fixture
def stocked(daemonized: Supervisord) -> Supervisord:
    daemonized.unix().cache.clear()
    daemonized.unix().cache.storeMany(BEFORE)
    return daemonized


def through(supervisord: Supervisord, server: str) -> Any:
    return (supervisord.inet() if server == "inet" else supervisord.unix()).cache


def state(cache: Any) -> tuple[object, ...]:
    """All that a client can see of the data."""
    stats = cache.getStats()
    counts = {name: stats[name] for name in ("entries", "bytes", "revision", "writes", "refused", "history")}
    return cache.getEntries(), cache.getRevision(), cache.getKeys(), cache.getItems(), counts


@pytest.mark.parametrize(("asked", "other"), SERVERS)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_a_method_does_over_one_server_the_other_shows(
    stocked: Supervisord, asked: str, other: str, method: str
) -> None:
    cache, elsewhere = through(stocked, asked), through(stocked, other)
    expected, arguments = RETURNS[method]
    revision = elsewhere.getRevision()
    answer = getattr(cache, method)(*(revision if each is NEWEST else each for each in arguments))
    assert type(answer) is expected
    assert state(elsewhere) == state(cache)
    after = None if method in READS else AFTER[method]
    assert elsewhere.getItems() == (BEFORE if after is None else after)
    changes = elsewhere.getChanges(revision)
    assert bool(changes) is (after is not None)
    assert {change["via"] for change in changes} <= {f"{asked}_http_server"}


def test_every_method_is_among_them() -> None:
    assert READS | AFTER.keys() == METHODS
    assert not READS & AFTER.keys()


# A command, an expression for what it prints, and what is there afterwards.
COMMANDS: list[tuple[list[str], str, dict[str, Any]]] = [
    (["fetch", "k"], "'v'\n", BEFORE),
    (["keys"], r"\['k', 'n'\]\n", BEFORE),
    (["count"], "2\n", BEFORE),
    (["items"], 'k\t"v"\nn\t1\n', BEFORE),
    (["entry", "k"], r"key +k\nvalue +\"v\"\n.+", BEFORE),
    (["stats"], r".+\nentries +2\n.+", BEFORE),
    (["store", "k", "a b"], "", {"k": "a b", "n": 1}),
    (["add", "new", "x"], "REVISION\n", {"k": "v", "n": 1, "new": "x"}),
    (["increment", "n", "41"], "42\n", {"k": "v", "n": 42}),
    (["touch", "k", "1h"], "REVISION\n", BEFORE),
    (["wait", "k"], "'v'\n", BEFORE),
    (["history", "k"], r".+\tstore\tk\t.+\n", BEFORE),
    (["delete", "k"], "", {"n": 1}),
    (["clear"], "", {}),
]


@pytest.mark.parametrize(("asked", "other"), SERVERS)
@pytest.mark.parametrize(("words", "output", "after"), COMMANDS, ids=[words[0] for words, _, _ in COMMANDS])
def test_what_a_command_does_over_one_server_the_other_shows(
    stocked: Supervisord, asked: str, other: str, words: list[str], output: str, after: dict[str, Any]
) -> None:
    verb, *rest = words
    if asked == "inet":
        ended = stocked.ctl(f"cache_{verb}", *rest, url=stocked.inet_url, options=("-u", USER, "-p", PASSWORD))
    else:
        ended = stocked.ctl(f"cache_{verb}", *rest, url=stocked.unix_url)
    assert (ended.returncode, ended.stderr) == (0, "")
    cache, elsewhere = through(stocked, asked), through(stocked, other)
    expected = output.replace("REVISION", elsewhere.getRevision())
    assert re.fullmatch(expected, ended.stdout, re.DOTALL), ended.stdout
    assert elsewhere.getItems() == after
    assert state(elsewhere) == state(cache)


def test_every_command_is_among_them() -> None:
    assert sorted(words[0] for words, _, _ in COMMANDS) == sorted(verb.name for verb in VERBS)


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_without_the_password_no_command_gets_anything_over_inet(stocked: Supervisord, verb: str) -> None:
    words = next(words for words, _, _ in COMMANDS if words[0] == verb)
    revision = stocked.unix().cache.getRevision()
    ended = stocked.ctl(f"cache_{verb}", *words[1:], url=stocked.inet_url, options=("-u", USER, "-p", "wrong"))
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == f"{stocked.inet_url}: ERROR (user or password missing or wrong)\n"
    assert stocked.unix().cache.getRevision() == revision
