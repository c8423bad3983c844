"""The supervisorctl commands as an operator types them: what they print, where, and the exit status."""

import errno
import json
import os
import pprint
import pty
import re
import select
import shlex
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final
from xmlrpc.client import DateTime

import pytest

from supervisor_cache.commands.verbs import VERBS
from tests.harness import PASSWORD, START_SECONDS, STORAGE, USER, Supervisord, free_port, parts, running

Ended = tuple[int, str, str]

ITEMS: dict[str, Any] = {
    "release": "2026.11.3",
    "n": 41,
    "flag": True,
    "half": 0.5,
    "list": [1, {"a": "ä"}],
    "text": "two\nlines",
    "date": DateTime("20261103T12:00:00"),
    "-dash": "-v",
    "--two": "x",
    "a b": "c d",
    "\U0001f98a": "雪",
}
PLUGIN = "\n[ctlplugin:{}]\nsupervisor.ctl_factory = supervisor_cache.controllerplugin:make_cache_controllerplugin\n"
# Supervisor 4.2 has warnings of Python's about itself on stderr.
QUIET = {"PYTHONWARNINGS": "ignore"}
WITH_LOGIN = ("-u", USER, "-p", PASSWORD)


def run(
    supervisord: Supervisord,
    *arguments: str | bytes,
    stdin: bytes = b"",
    variables: dict[str, str] | None = None,
    redirection: str = "",
) -> Ended:
    """Run supervisorctl, by a shell if there is a ``redirection``; answer its status, stdout and stderr."""
    command: list[str | bytes] = [
        str(supervisord.binaries / "supervisorctl"), "-c", str(supervisord.configuration), *arguments
    ]  # fmt: skip
    if redirection:
        line = f"{shlex.join(str(word) for word in command)} {redirection}"
        command = ["bash", "-c", f"set -o pipefail; {line}"]
    ended = subprocess.run(
        command,
        input=stdin,
        env={**supervisord.environment, **QUIET, **(variables or {})},
        capture_output=True,
        timeout=START_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


@pytest.fixture
def stocked(cache: Any) -> Any:
    """The namespace ``cache`` of the shared supervisord, with `ITEMS`."""
    cache.storeMany(ITEMS, {"note": "ops: stocked"})
    return cache


@pytest.fixture(scope="module")
def furnished() -> Iterator[Supervisord]:
    """A supervisord with several namespaces, and commands for each and for one that is not there."""
    sections: dict[str, dict[str, str]] = {
        "cache": {},
        "fleet": {},
        "my-ns": {},
        "guarded": {"read_only": "inet_http_server"},
        "full": {"max_entries": "1", "max_key_bytes": "5", "max_value_bytes": "10"},
    }
    more = "".join(
        f"{PLUGIN.format(f'plugin{number}')}namespace = {name}\n"
        for number, name in enumerate(["fleet", "my-ns", "guarded", "full", "nowhere"])
    )
    with running(sections, more) as supervisord:
        supervisord.unix().full.store("k", "v")
        supervisord.unix().guarded.store("k", "v")
        yield supervisord
        assert "Traceback" not in supervisord.log


# Reading

READS: list[tuple[list[str], str]] = [
    (["fetch", "release"], "'2026.11.3'\n"),
    (["fetch", "--raw", "release"], "2026.11.3\n"),
    (["fetch", "--json", "release"], '"2026.11.3"\n'),
    (["fetch", "flag"], "True\n"),
    (["fetch", "--raw", "flag"], "true\n"),
    (["fetch", "half"], "0.5\n"),
    (["fetch", "list"], "[1, {'a': 'ä'}]\n"),
    (["fetch", "--raw", "list"], '[1,{"a":"ä"}]\n'),
    (["fetch", "text"], "'two\\nlines'\n"),
    (["fetch", "--raw", "text"], "two\nlines\n"),
    (["fetch", "--json", "text"], '"two\\nlines"\n'),
    (["fetch", "--json", "date"], '{"$dateTime":"2026-11-03T12:00:00"}\n'),
    (["fetch", "-dash"], "'-v'\n"),
    (["fetch", "--", "--two"], "'x'\n"),
    (["fetch", "--raw", "--", "--two"], "x\n"),
    (["fetch", "a b"], "'c d'\n"),
    (["fetch", "\U0001f98a"], "'雪'\n"),
    (["fetch", "--default", "none", "n"], "41\n"),
    (["fetch", "--default", "none", "missing"], "none\n"),
    (["fetch", "--default=no ne", "missing"], "no ne\n"),
    (["fetch", "--default=", "missing"], "\n"),
    (["fetch", "--default", "--raw", "missing"], "--raw\n"),
    (["fetch", "--default=a=b", "--json", "missing"], "a=b\n"),
    (["keys"], pprint.pformat(sorted(ITEMS)) + "\n"),
    (["keys", ""], pprint.pformat(sorted(ITEMS)) + "\n"),
    (["keys", "r"], "['release']\n"),
    (["keys", "--raw", "-"], "--two\n-dash\n"),
    (["keys", "--", "--"], "['--two']\n"),
    (["keys", "--json", "n"], '["n"]\n'),
    (["keys", "zzz"], "[]\n"),
    (["keys", "--raw", "zzz"], ""),
    (["count"], "11\n"),
    (["items", "n"], "n\t41\n"),
    (["items", "-"], '--two\t"x"\n-dash\t"-v"\n'),
    (["items", "text"], 'text\t"two\\nlines"\n'),
    (["items", "--json", "l"], '{"list":[1,{"a":"ä"}]}\n'),
    (["items", "zzz"], ""),
    (["items", "--json", "zzz"], "{}\n"),
]


def shown(row: object) -> str:
    return ascii(" ".join(row))[1:-1] if isinstance(row, list) else ""


@pytest.mark.parametrize(("command", "output"), READS, ids=shown)
def test_a_read_prints_the_answer(shared: Supervisord, stocked: Any, command: list[str], output: str) -> None:
    verb, *words = command
    revision = stocked.getRevision()
    assert run(shared, f"cache_{verb}", *words) == (0, output, "")
    assert stocked.getRevision() == revision


def test_an_entry_is_shown_with_all_that_is_known_of_it(shared: Supervisord, stocked: Any) -> None:
    entry = stocked.getEntry("list")
    status, output, complaint = run(shared, "cache_entry", "list")
    assert (status, complaint) == (0, "")
    lines = dict(([*line.split(None, 1), ""])[:2] for line in output.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", lines.pop("modified"))
    assert lines == {
        "key": "list",
        "value": '[1,{"a":"ä"}]',
        "revision": entry["revision"],
        "expires": "never",
        "owner": "",
        "note": "ops: stocked",
    }
    status, output, complaint = run(shared, "cache_entry", "--json", "list")
    assert (status, json.loads(output), complaint) == (0, entry, "")


def test_stats_are_shown_for_people_and_as_json(shared: Supervisord, stocked: Any) -> None:
    status, output, complaint = run(shared, "cache_stats")
    assert (status, complaint) == (0, "")
    lines = dict(([*line.split(None, 1), ""])[:2] for line in output.splitlines())
    assert lines["entries"] == "11"
    assert lines["namespace"] == "cache"
    assert lines["limits.max_entries"] == "10000"
    assert lines["storage.kind"] == STORAGE
    assert lines["revision"] == stocked.getRevision()
    status, output, complaint = run(shared, "cache_stats", "--json")
    stats, now = json.loads(output), stocked.getStats()
    assert (status, complaint) == (0, "")
    assert stats.keys() == now.keys()
    assert stats["limits"] == now["limits"]


# Writing

WRITES: list[tuple[list[str], str, dict[str, Any]]] = [
    (["store", "k", "v"], "", {"k": "v"}),
    (["store", "release", "next"], "", {"release": "next"}),
    (["store", "k", ""], "", {"k": ""}),
    (["store", "k", "bar baz"], "", {"k": "bar baz"}),
    (["store", "k", '{"a":1}'], "", {"k": '{"a":1}'}),
    (["store", "k", "'quoted' \"too\""], "", {"k": "'quoted' \"too\""}),
    (["store", "k", "back\\slash $HOME `x` *"], "", {"k": "back\\slash $HOME `x` *"}),
    (["store", "k", " \t two\nlines \n"], "", {"k": " \t two\nlines \n"}),
    (["store", "k", "--note"], "", {"k": "--note"}),
    (["store", "k", "--"], "", {"k": "--"}),
    (["store", "-k", "-v"], "", {"-k": "-v"}),
    (["store", "--", "--k", "--v"], "", {"--k": "--v"}),
    (["store", "--", "--", "v"], "", {"--": "v"}),
    (["store", " spaced  key ", "v"], "", {" spaced  key ": "v"}),
    (["store", "quote's", "\U0001f98a ä 雪"], "", {"quote's": "\U0001f98a ä 雪"}),
    (["store", "help", "?"], "", {"help": "?"}),
    (["store", "--json", "k", '{"a": [1, 2.0, true, "ä"], "": -7}'], "", {"k": {"a": [1, 2.0, True, "ä"], "": -7}}),
    (["store", "--json", "k", '"7"'], "", {"k": "7"}),
    (["store", "--json", "k", "-7"], "", {"k": -7}),
    (["store", "--json", "k", '{"$dateTime": "2026-11-03T12:00:00"}'], "", {"k": ITEMS["date"]}),
    (["store", "--if-changed", "release", "2026.11.3"], "changed\n", {"release": "2026.11.3"}),  # the note differs
    (["store", "--if-changed", "--note", "ops: stocked", "release", "2026.11.3"], "unchanged\n", {}),
    (["store", "--if-changed", "--note", "ops: stocked", "n", "41"], "changed\n", {"n": "41"}),
    (["store", "--if-changed", "k", "v"], "changed\n", {"k": "v"}),
    (["store", "--if-revision", "{old}", "n", "v"], "{new}\n", {"n": "v"}),
    (["store", "--if-revision={old}", "n", "v"], "{new}\n", {"n": "v"}),
    (["store", "--if-revision", "", "k", "v"], "{new}\n", {"k": "v"}),
    (["store", "--if-revision", "{old}", "--if-changed", "n", "v"], "changed\n", {"n": "v"}),
    (
        ["store", "--if-changed", "--if-revision", "{old}", "--note", "ops: stocked", "release", "2026.11.3"],
        "unchanged\n",
        {},
    ),
    (["add", "k", "v"], "{new}\n", {"k": "v"}),
    (["add", "--json", "k", "[]"], "{new}\n", {"k": []}),
    (["add", "--", "--k", "--v"], "{new}\n", {"--k": "--v"}),
    (["increment", "n"], "42\n", {"n": 42}),
    (["increment", "n", "-42"], "-1\n", {"n": -1}),
    (["increment", "n", "+1"], "42\n", {"n": 42}),
    (["increment", "k"], "1\n", {"k": 1}),
    (["increment", "--if-changed", "n", "0"], "41\n", {}),
    (["delete", "release"], "", {"release": None}),
    (["delete", "missing"], "", {}),
    (["delete", "release", "missing", "n", "-dash"], "", {"release": None, "n": None, "-dash": None}),
    (["delete", "--", "--two", "--"], "", {"--two": None}),
    (["delete", "--prefix", "-"], "2\n", {"--two": None, "-dash": None}),
    (["delete", "--prefix=zzz"], "0\n", {}),
    (["delete", "--if-revision", "{old}", "n"], "", {"n": None}),
    (["clear"], "", dict.fromkeys(ITEMS)),
]


@pytest.mark.parametrize(("command", "output", "changes"), WRITES, ids=shown)
def test_a_write_changes_what_it_names_and_nothing_else(
    shared: Supervisord, stocked: Any, command: list[str], output: str, changes: dict[str, Any]
) -> None:
    old = stocked.getRevision()
    verb, *words = (word.replace("{old}", old) for word in command)
    ended = run(shared, f"cache_{verb}", *words)
    new = stocked.getRevision()
    assert ended == (0, output.replace("{new}", new), "")
    assert (new == old) is not bool(changes)
    expected = {key: value for key, value in {**ITEMS, **changes}.items() if value is not None}
    assert repr_of(stocked.getItems()) == repr_of(expected)


def repr_of(items: dict[str, Any]) -> dict[str, str]:
    """Tell True from 1 and 1 from 1.0, which Python's ``==`` does not."""
    return {key: repr(value).partition(" at 0x")[0] for key, value in items.items()}


@pytest.mark.parametrize(
    "command",
    [
        ["store", "--note", "ops: move", "k", "v"],
        ["store", "--note=ops: move", "--json", "k", "1"],
        ["store", "--if-revision", "", "--note", "ops: move", "k", "v"],
        ["store", "--if-changed", "--note", "ops: move", "k", "v"],
        ["add", "--note", "ops: move", "k", "v"],
        ["increment", "--note", "ops: move", "k"],
    ],
    ids=shown,
)
def test_a_note_is_kept(shared: Supervisord, cache: Any, command: list[str]) -> None:
    verb, *words = command
    assert run(shared, f"cache_{verb}", *words)[0] == 0
    assert cache.getEntry("k")["note"] == "ops: move"


@pytest.mark.parametrize(
    ("command", "output", "left"),
    [
        (["delete", "--note", "ops: move", "k"], "", ["l"]),
        (["delete", "--note", "ops: move", "k", "l"], "", []),
        (["delete", "--note", "ops: move", "--prefix", "k"], "1\n", ["l"]),
        (["clear", "--note", "ops: move"], "", []),
    ],
    ids=shown,
)
def test_a_deletion_takes_a_note(
    shared: Supervisord, cache: Any, command: list[str], output: str, left: list[str]
) -> None:
    cache.storeMany({"k": 1, "l": 2})
    verb, *words = command
    assert run(shared, f"cache_{verb}", *words) == (0, output, "")
    assert cache.getKeys() == left


@pytest.mark.parametrize("verb", ["store", "add"])
@pytest.mark.parametrize(
    ("options", "content", "value"),
    [
        ([], "two\nlines\n", "two\nlines\n"),
        ([], "", ""),
        ([], "ä雪\U0001f98a", "ä雪\U0001f98a"),
        (["--json"], ' {"a": [1,\n 2]}\n', {"a": [1, 2]}),
    ],
    ids=["lines", "empty", "unicode", "json"],
)
def test_a_value_comes_from_a_file_or_from_stdin(
    shared: Supervisord, cache: Any, tmp_path: Path, verb: str, options: list[str], content: str, value: object
) -> None:
    path = tmp_path / "a file"
    path.write_bytes(content.encode())
    assert run(shared, f"cache_{verb}", *options, "--file", str(path), "k")[::2] == (0, "")
    assert run(shared, f"cache_{verb}", *options, "--file=-", "l", stdin=content.encode())[::2] == (0, "")
    assert cache.getItems() == {"k": value, "l": value}


# No

MISSING = "{}: ERROR (no such key)\n"
NOES: list[tuple[list[str], str]] = [
    (["fetch", "foo"], MISSING.format("foo")),
    (["fetch", "--raw", "foo bar"], MISSING.format("foo bar")),
    (["fetch", "--json", "--", "--foo"], MISSING.format("--foo")),
    (["entry", "foo"], MISSING.format("foo")),
    (["entry", "--json", "ä"], MISSING.format("ä")),
    (["add", "n", "v"], "n: ERROR (exists already)\n"),
    (["store", "--if-revision", "1", "n", "v"], "n: ERROR (another revision)\n"),
    (["store", "--if-revision", "1", "--if-changed", "n", "v"], "n: ERROR (another revision)\n"),
    (["delete", "--if-revision", "1", "n"], "n: ERROR (another revision)\n"),
]


@pytest.mark.parametrize(("command", "complaint"), NOES, ids=shown)
def test_where_the_answer_is_no_the_status_is_1(
    shared: Supervisord, stocked: Any, command: list[str], complaint: str
) -> None:
    check_refusal(shared, stocked, command, 1, complaint)


@pytest.mark.parametrize(
    "command",
    [
        ["store", "--if-revision", "1", "foo", "v"],
        ["store", "--if-revision", "", "n", "v"],
        ["delete", "--if-revision", "1", "foo"],
    ],
    ids=shown,
)
def test_a_condition_on_existence_fails_with_status_1(shared: Supervisord, stocked: Any, command: list[str]) -> None:
    check_refusal(shared, stocked, command, 1, f"{command[3]}: ERROR (")


# Wrong

USAGE: list[tuple[list[str], str]] = [
    (["fetch"], "KEY is missing"),
    (["fetch", "--"], "KEY is missing"),
    (["fetch", "a", "b"], "too many arguments"),
    (["fetch", "n", "--raw"], "too many arguments: options stand before them"),
    (["fetch", "--nonsense", "n"], "no such option: --nonsense"),
    (["fetch", "--=x", "n"], "no such option: --"),
    (["fetch", "--raw", "--json", "n"], "--raw and --json exclude each other"),
    (["fetch", "--raw=yes", "n"], "--raw takes no value"),
    (["fetch", "--raw", "--raw", "n"], "--raw is given twice"),
    (["fetch", "--default"], "--default needs a value"),
    (["fetch", "--default=a", "--default=b", "n"], "--default is given twice"),
    (["fetch", "--note", "x", "n"], "no such option: --note"),
    (["store"], "KEY is missing"),
    (["store", "k"], "VALUE is missing"),
    (["store", "k", "v", "w"], "too many arguments"),
    (["store", "--file", "/dev/null"], "KEY is missing"),
    (["store", "--file", "/dev/null", "k", "v"], "VALUE and --file exclude each other"),
    (["add", "k"], "VALUE is missing"),
    (["add", "--if-revision", "1", "k", "v"], "no such option: --if-revision"),
    (["delete"], "KEY is missing"),
    (["delete", "--prefix", "r", "n"], "--prefix goes with neither KEY nor --if-revision"),
    (["delete", "--prefix", "r", "--if-revision", "1"], "--prefix goes with neither KEY nor --if-revision"),
    (["delete", "--if-revision", "1", "n", "release"], "--if-revision goes with one KEY"),
    (["increment"], "KEY is missing"),
    (["increment", "n", "x"], "DELTA must be an integer of 32 bits"),
    (["increment", "n", "1.0"], "DELTA must be an integer of 32 bits"),
    (["increment", "n", "1_0"], "DELTA must be an integer of 32 bits"),
    (["increment", "n", "2147483648"], "DELTA must be an integer of 32 bits"),
    (["increment", "n", "9" * 5000], "DELTA must be an integer of 32 bits"),
    (["count", "x"], "too many arguments"),
    (["clear", "release"], "too many arguments"),
    (["clear", "--prefix", "r"], "no such option: --prefix"),
    (["keys", "a", "b"], "too many arguments"),
    (["items", "a", "b"], "too many arguments"),
    (["items", "--raw"], "no such option: --raw"),
    (["entry"], "KEY is missing"),
    (["stats", "x"], "too many arguments"),
]


@pytest.mark.parametrize(("command", "reason"), USAGE, ids=lambda row: shown(row)[:60])
def test_wrong_usage_has_status_2_and_shows_how_it_goes(
    shared: Supervisord, stocked: Any, command: list[str], reason: str
) -> None:
    name = f"cache_{command[0]}"
    complaint = check_refusal(shared, stocked, command, 2, f"{name}: ERROR ({reason})\n")
    assert complaint.splitlines()[1].startswith(f"usage: {name}")
    assert len(complaint.splitlines()) == 2


@pytest.mark.parametrize(("path", "reason"), [("/nonexistent", "No such file or directory"), ("/", "Is a directory")])
def test_a_file_that_cannot_be_read_has_status_2(shared: Supervisord, stocked: Any, path: str, reason: str) -> None:
    complaint = check_refusal(shared, stocked, ["store", "--file", path, "k"], 2, f"--file: ERROR ({path}: {reason})\n")
    assert len(complaint.splitlines()) == 1


INVALID: list[tuple[list[str], str]] = [
    (["fetch", ""], "BAD_NAME: a key must not be empty"),
    (["fetch", "a\nb"], "BAD_NAME: key 'a\\nb' has character U+000A at position 1"),
    (["store", "a\tb", "v"], "BAD_NAME: key 'a\\tb' has character U+0009 at position 1"),
    (["store", "\x1b[31mred", "v"], "BAD_NAME: key '\\x1b[31mred' has character U+001B at position 0"),
    (["store", "k" * 1025, "v"], "has 1025 bytes; max_key_bytes is 1024"),
    (["delete", "n", ""], "BAD_NAME: a key must not be empty"),
    (["store", "k", "a\rb"], "BAD_ARGUMENTS: value: character U+000D at position 1 cannot be stored"),
    (["store", "k", "\x1b[31mred"], "BAD_ARGUMENTS: value: character U+001B at position 0 cannot be stored"),
    (["store", "k", "\ufffe"], "BAD_ARGUMENTS: value: character U+FFFE at position 0 cannot be stored"),
    (["store", "--note", "a\nb", "k", "v"], "BAD_ARGUMENTS: note has character U+000A at position 1"),
    (["store", "--note", "x" * 1025, "k", "v"], "BAD_ARGUMENTS: note has 1025 bytes; at most 1024 are allowed"),
    (["store", "--if-revision", "newest", "n", "v"], "BAD_ARGUMENTS: revision 'newest' is no decimal number"),
    (["store", "--json", "k", "{"], "BAD_ARGUMENTS: value: not JSON"),
    (["store", "--json", "k", ""], "BAD_ARGUMENTS: value: not JSON"),
    (["store", "--json", "k", "null"], "BAD_ARGUMENTS: value: nil cannot be stored"),
    (["store", "--json", "k", "NaN"], "BAD_ARGUMENTS: value: NaN is not JSON"),
    (["store", "--json", "k", "1e999"], "BAD_ARGUMENTS: value: a double that is not finite cannot be stored"),
    (["store", "--json", "k", "[4294967296]"], "an integer beyond 32 bits cannot be stored"),
    (["store", "--json", "k", '{"a":1,"a":2}'], "BAD_ARGUMENTS: value: a name stands twice in one object"),
    (["store", "--json", "k", "[" * 5000], "BAD_ARGUMENTS: value: "),
    (["keys", "a\nb"], "BAD_ARGUMENTS: prefix 'a\\nb' has character U+000A at position 1"),
    (["delete", "--prefix", ""], "BAD_ARGUMENTS: prefix must not be empty"),
]


@pytest.mark.parametrize(("command", "reason"), INVALID, ids=lambda row: shown(row)[:60])
def test_what_can_be_no_key_or_value_has_status_2(
    shared: Supervisord, stocked: Any, command: list[str], reason: str
) -> None:
    complaint = check_refusal(shared, stocked, command, 2)
    assert reason in complaint
    assert re.fullmatch(r"[ -~]+: ERROR \([ -~]+\)\n", complaint), "one line of ASCII that says about what and why"


def test_what_is_no_utf_8_has_status_2(shared: Supervisord, stocked: Any, tmp_path: Path) -> None:
    revision = stocked.getRevision()
    latin = tmp_path / "latin"
    latin.write_bytes(b"caf\xe9")
    for words, reason in [
        ([b"cache_store", b"caf\xe9", b"v"], "caf\\udce9: ERROR (not UTF-8)"),
        ([b"cache_fetch", b"caf\xe9"], "caf\\udce9: ERROR (not UTF-8)"),
        ([b"cache_store", b"k", b"caf\xe9"], "k: ERROR (not UTF-8)"),
        ([b"cache_store", b"--note", b"caf\xe9", b"k", b"v"], "BAD_ARGUMENTS: note has character U+DCE9"),
        ([b"cache_fetch", b"--\xe9", b"k"], "no such option: --\\udce9"),
        ([b"cache_store", b"--file", os.fsencode(latin), b"k"], f"--file: ERROR ({latin}: not UTF-8)"),
    ]:
        status, output, complaint = run(shared, *words)
        assert (status, output) == (2, ""), words
        assert reason in complaint
    assert run(shared, "cache_fetch", "--default", b"\xe9", "missing")[0] == 0
    assert stocked.getRevision() == revision


def check_refusal(supervisord: Supervisord, cache: Any, command: list[str], status: int, complaint: str = "") -> str:
    """Run what is to end with ``status``, an empty stdout, a complaint that starts so, and no change."""
    revision = cache.getRevision()
    verb, *words = command
    ended = run(supervisord, f"cache_{verb}", *words)
    assert ended[:2] == (status, "")
    assert ended[2].startswith(complaint)
    assert cache.getRevision() == revision
    return ended[2]


# Refused, and not there

REFUSED: list[tuple[list[str], str]] = [
    (["full_add", "l", "v"], "l: ERROR (LIMIT_EXCEEDED: there would be 2 entries; max_entries is 1)\n"),
    (
        ["full_store", "k", "x" * 11],
        "k: ERROR (LIMIT_EXCEEDED: the value for 'k' has 13 bytes as JSON; max_value_bytes is 10)\n",
    ),
    (["full_increment", "k"], "k: ERROR (WRONG_TYPE: the value of 'k' is no integer)\n"),
    (["nowhere_count"], "nowhere: ERROR (this supervisord has no nowhere.getCount: no such namespace, or an older "),
    (["nowhere_store", "k", "v"], "nowhere: ERROR (this supervisord has no nowhere.store: no such namespace, or an "),
]


@pytest.mark.parametrize(("command", "complaint"), REFUSED, ids=lambda row: shown(row)[:60])
def test_a_refusal_has_status_3(furnished: Supervisord, command: list[str], complaint: str) -> None:
    status, output, said = run(furnished, *command)
    assert (status, output) == (3, "")
    assert said.startswith(complaint)
    assert said.count("\n") == 1
    assert furnished.unix().full.getItems() == {"k": "v"}


@pytest.mark.parametrize(
    "command",
    [
        ["store", "k", "x"],
        ["store", "--if-changed", "k", "v"],
        ["store", "--if-revision", "1", "k", "v"],
        ["add", "k", "v"],
        ["increment", "n"],
        ["delete", "k"],
        ["delete", "k", "l"],
        ["delete", "--prefix", "k"],
        ["delete", "--if-revision", "1", "k"],
        ["clear"],
    ],
    ids=shown,
)
def test_each_write_through_a_read_only_server_has_status_3(furnished: Supervisord, command: list[str]) -> None:
    verb, *words = command
    ended = run(furnished, "-s", furnished.inet_url, *WITH_LOGIN, f"guarded_{verb}", *words)
    assert ended[:2] == (3, "")
    assert "ERROR (READ_ONLY: inet_http_server only reads guarded; option read_only names it)" in ended[2]
    assert furnished.unix().guarded.getItems() == {"k": "v"}


def test_a_read_through_a_read_only_server_works(furnished: Supervisord) -> None:
    assert run(furnished, "-s", furnished.inet_url, *WITH_LOGIN, "guarded_fetch", "k") == (0, "'v'\n", "")


@pytest.mark.parametrize("login", [(), ("-u", USER, "-p", "wrong")], ids=["none", "wrong"])
def test_without_the_right_login_the_status_is_3_and_the_command_ran_once(
    shared: Supervisord, cache: Any, login: tuple[str, ...]
) -> None:
    status, output, complaint = run(shared, "-s", shared.inet_url, *login, "cache_store", "k", "v")
    assert (status, output) == (3, "")
    assert complaint.startswith(f"{shared.inet_url}: ERROR (")
    assert "password" in complaint
    assert complaint.count("\n") == 1
    assert cache.getCount() == 0


def test_where_nobody_listens_the_status_is_4(shared: Supervisord, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(tmp_path / "s.sock"))
    for url in (f"http://127.0.0.1:{free_port()}", f"unix://{tmp_path}/s.sock"):
        for words in (["cache_count"], ["cache_store", "k", "v"], ["cache_fetch", "--default", "x", "k"]):
            assert run(shared, "-s", url, *words) == (4, "", f"{url}: ERROR (refused connection)\n")


def test_where_there_is_no_socket_file_the_status_is_7(shared: Supervisord, tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/s.sock"
    for words in (["cache_count"], ["cache_store", "k", "v"], ["cache_keys"]):
        assert run(shared, "-s", url, *words) == (7, "", f"{url}: ERROR (no such file)\n")


# Both servers

TOUR: list[tuple[list[str], str]] = [
    (["store", "k", "a b"], ""),
    (["fetch", "k"], "'a b'\n"),
    (["increment", "n", "5"], "5\n"),
    (["keys"], "['k', 'n']\n"),
    (["items"], 'k\t"a b"\nn\t5\n'),
    (["count"], "2\n"),
    (["delete", "k"], ""),
    (["clear"], ""),
    (["count"], "0\n"),
]


@pytest.mark.parametrize("server", ["unix", "inet"])
def test_each_command_works_over_each_server(shared: Supervisord, cache: Any, server: str) -> None:
    where = ("-s", shared.inet_url, *WITH_LOGIN) if server == "inet" else ("-s", shared.unix_url)
    for (verb, *words), output in TOUR:
        assert run(shared, *where, f"cache_{verb}", *words) == (0, output, ""), (verb, words)
    cache.store("k", "v")
    assert run(shared, *where, "cache_entry", "k")[1].startswith("key       k\n")
    assert run(shared, *where, "cache_stats")[1].startswith("bytes ")
    assert run(shared, *where, "cache_add", "l", "v") == (0, f"{cache.getRevision()}\n", "")


# Namespaces


def test_the_commands_are_named_after_the_namespace(furnished: Supervisord) -> None:
    assert run(furnished, "fleet_store", "k", "of fleet") == (0, "", "")
    assert run(furnished, "my_ns_store", "k", "of my-ns") == (0, "", "")
    assert run(furnished, "cache_store", "k", "of cache") == (0, "", "")
    assert run(furnished, "my_ns_fetch", "k") == (0, "'of my-ns'\n", "")
    assert run(furnished, "my_ns_fetch")[2].splitlines()[1].startswith("usage: my_ns_fetch")
    proxy = furnished.unix()
    namespaces = [proxy.fleet, getattr(proxy, "my-ns"), proxy.cache]
    assert [namespace.fetch("k") for namespace in namespaces] == ["of fleet", "of my-ns", "of cache"]


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("namespase = fleet", "namespase = 'fleet': ERROR (unknown option; known is namespace)\n"),
        ("namespace = my ns", "namespace = 'my ns': ERROR (must be a letter, then letters, digits, _ and -)\n"),
        ("namespace =", "namespace = '': ERROR (must be a letter, then letters, digits, _ and -)\n"),
        ("controller = 1", "controller = '1': ERROR (unknown option; known is namespace)\n"),
        ("options = 1", "options = '1': ERROR (unknown option; known is namespace)\n"),
    ],
)
def test_a_wrong_section_is_complained_of_and_supervisorctl_works(
    shared: Supervisord, cache: Any, section: str, complaint: str
) -> None:
    other = Supervisord(more=f"{PLUGIN.format('other')}{section}\n")
    try:
        other.write_configuration()
        for words, output in ((["cache_count"], "0\n"), (["status"], ""), (["version"], shared.ctl("version").stdout)):
            status, printed, said = run(other, "-s", shared.unix_url, *words)
            assert (status, printed) == (0, output), words
            assert said == f"[ctlplugin:other] {complaint}"
    finally:
        other.close()
    assert cache.getCount() == 0


# Help


def test_help_lists_the_commands_and_nothing_else(furnished: Supervisord) -> None:
    status, output, complaint = run(furnished, "help")
    assert (status, complaint) == (0, "")
    topics = {
        title.split()[0]: words.split()
        for title, words in re.findall(r"^(.+ commands) .*\n=+\n((?:.+\n)+)", output, re.MULTILINE)
    }
    assert "stop" in topics["default"]
    # Supervisor lists them in columns.
    assert sorted(topics["cache"]) == sorted(f"cache_{verb.name}" for verb in VERBS)
    assert sorted(topics["plugin1"]) == sorted(f"my_ns_{verb.name}" for verb in VERBS)


def test_each_command_has_help_that_names_its_options(shared: Supervisord) -> None:
    commands = [f"cache_{verb.name}" for verb in VERBS]
    answers = at_the_prompt(shared, [f"help {command}" for command in commands])
    for verb, text in zip(VERBS, answers, strict=True):
        # Supervisor's own plugin is asked as well, and says that it knows nothing.
        line = text.removeprefix(f"*** No help on cache_{verb.name}\n")
        usage, _, sentence = line.partition("\t")
        assert usage == verb.usage.line(f"cache_{verb.name}")
        assert sentence == verb.help + "\n"
        for option in [*verb.usage.flags, *verb.usage.values]:
            assert f"[--{option}" in usage


def test_help_on_commands_of_supervisor_is_not_answered_by_us(furnished: Supervisord) -> None:
    stop, unknown, one = at_the_prompt(furnished, ["help stop", "help nonsense", "help my_ns_store"])
    assert stop.startswith("stop <name>")
    assert "No help" not in stop
    assert unknown == "*** No help on nonsense\n"
    assert one.count("\n") == 2
    assert "my_ns_store [--ttl TIME] [--owner GROUP:NAME] [--note TEXT]" in one


def at_the_prompt(supervisord: Supervisord, lines: list[str]) -> list[str]:
    """Type ``lines`` at the prompt, from a pipe; answer what follows each of them on stdout."""
    typed = "".join(f"{line}\n" for line in lines).encode()
    status, output, complaint = run(supervisord, stdin=typed)
    assert (status, complaint) == (0, "")
    _, *answers, _ = output.split("supervisor> ")
    return answers


# The shell, the locale


def test_a_command_in_one_argument_is_taken_apart_as_a_shell_would(shared: Supervisord, cache: Any) -> None:
    assert run(shared, "cache_store foo bar") == (0, "", "")
    assert run(shared, "cache_store 'a b' \"c  d\"") == (0, "", "")
    assert run(shared, "cache_store empty ''") == (0, "", "")
    assert cache.getItems() == {"foo": "bar", "a b": "c  d", "empty": ""}
    status, output, complaint = run(shared, "cache_store foo 'unclosed")
    assert (status, output) == (2, "")
    assert complaint.startswith("cache_store: ERROR (No closing quotation)\nusage: cache_store ")
    assert cache.fetch("foo") == "bar"


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "POSIX"},
    ],
    ids=repr,
)
def test_the_locale_does_not_matter(shared: Supervisord, cache: Any, variables: dict[str, str]) -> None:
    assert run(shared, "cache_store", "ä", "雪\U0001f98a", variables=variables) == (0, "", "")
    assert cache.getItems() == {"ä": "雪\U0001f98a"}
    assert run(shared, "cache_fetch", "ä", variables=variables) == (0, "'雪\U0001f98a'\n", "")
    assert run(shared, "cache_items", variables=variables) == (0, 'ä\t"雪\U0001f98a"\n', "")
    status, output, complaint = run(shared, "cache_fetch", "雪", variables=variables)
    assert (status, output) == (1, "")
    assert complaint in {"雪: ERROR (no such key)\n", "\\u96ea: ERROR (no such key)\n"}


@pytest.mark.parametrize("command", [["cache_keys", "--raw"], ["cache_items"], ["cache_fetch", "big"], ["cache_count"]])
def test_a_closed_pipe_gives_no_traceback(shared: Supervisord, cache: Any, command: list[str]) -> None:
    for part in parts({f"{number:050}": "x" * 50 for number in range(2000)}):
        cache.storeMany(part)
    cache.store("big", "x" * 60_000)
    status, output, complaint = run(shared, *command, redirection="| head -c0")
    assert (output, complaint) == ("", "")
    assert status in {0, 141}


def test_a_full_disk_is_said_in_one_line(shared: Supervisord, stocked: Any) -> None:
    assert stocked.getCount() == len(ITEMS)
    status, _, complaint = run(shared, "cache_keys", redirection="> /dev/full")
    assert status == 3
    assert re.fullmatch(r"[^\n]+: ERROR \([^\n]*No space left on device\)\n", complaint)


def test_closed_descriptors_give_no_traceback(shared: Supervisord, cache: Any) -> None:
    assert run(shared, "cache_store", "k", "v", redirection=">&-") == (0, "", "")
    assert cache.fetch("k") == "v"
    assert run(shared, "cache_fetch", "missing", redirection="2>&-") == (1, "", "")
    status, output, complaint = run(shared, "cache_fetch", "k", redirection=">&-")
    assert output == ""
    assert "Traceback" not in complaint
    status, output, complaint = run(shared, "cache_store", "--file", "-", "k", redirection="<&-")
    assert (status, output) == (2, "")
    assert complaint.startswith("--file -: ERROR (")


def test_a_url_that_is_none_is_said_in_one_line(shared: Supervisord) -> None:
    status, output, complaint = run(shared, "-s", "http://127.0.0.1:99999", "cache_count")
    assert (status in {2, 4}, output) == (True, "")
    assert complaint.startswith("http://127.0.0.1:99999: ERROR (")


# Terminals


@final
class Terminal:
    """supervisorctl on a terminal."""

    def __init__(self, supervisord: Supervisord, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO  # what is typed is not what is under test
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        command = [str(supervisord.binaries / "supervisorctl"), "-c", str(supervisord.configuration), *arguments]
        environment = {**supervisord.environment, **QUIET, "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._master)
        self._process.kill()
        self._process.wait()

    def until(self, mark: str) -> str:
        """Read up to ``mark``, and answer what came before it."""
        shown = b""
        end = time.monotonic() + START_SECONDS
        while not shown.endswith(mark.encode()):
            assert time.monotonic() < end, f"{mark!r} does not come after {shown!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                shown += self._read()
        return shown.decode().removesuffix(mark)

    def rest(self) -> str:
        """Read all that comes until it ends."""
        shown = b""
        while piece := self._read():
            shown += piece
        self._process.wait(START_SECONDS)
        return shown.decode()

    def _read(self) -> bytes:
        try:
            return os.read(self._master, 1)
        except OSError as error:  # Linux says so when the other side is closed
            if error.errno != errno.EIO:
                raise
            return b""

    def type(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def ask(self, line: str) -> str:
        """Type a line at the prompt, and answer what comes before the next prompt, without an echo."""
        self.type(line)
        return self.until("supervisor> ").replace("\r\n", "\n").removeprefix(f"{line}\n")


def test_words_are_quoted_at_the_prompt_as_in_a_shell(shared: Supervisord, cache: Any) -> None:
    with Terminal(shared) as terminal:
        terminal.until("supervisor> ")
        assert terminal.ask("cache_store foo 'bar  baz'") == ""
        assert terminal.ask("cache_fetch foo") == "'bar  baz'\n"
        assert terminal.ask('cache_store -- "--k y" ""') == ""
        assert terminal.ask('cache_store a\\ b \\"c') == ""
        assert terminal.ask("cache_store --json j '{\"a\": [1]}'") == ""
        assert cache.getItems() == {"foo": "bar  baz", "--k y": "", "a b": '"c', "j": {"a": [1]}}
        unclosed = terminal.ask("cache_store foo 'unclosed")
        assert unclosed.startswith("cache_store: ERROR (No closing quotation)\nusage: cache_store ")
        assert terminal.ask("cache_fetch missing") == "missing: ERROR (no such key)\n"
        assert terminal.ask("cache_store foo") != ""
        assert terminal.ask("cache_fetch foo") == "'bar  baz'\n"
        terminal.type("exit")


def test_a_401_at_the_prompt_leads_to_the_login_and_then_the_command_succeeds(shared: Supervisord, cache: Any) -> None:
    with Terminal(shared, "-s", shared.inet_url) as terminal:
        terminal.until("Username:")  # of the status that supervisorctl asks for at its start
        terminal.type("nobody")
        terminal.until("Password:")
        terminal.type("wrong")
        terminal.until("Username:")
        os.write(terminal._master, b"\x04")  # given up: now there is a prompt, and no login
        terminal.until("supervisor> ")
        terminal.type("cache_store k 'a b'")
        assert "ERROR" not in terminal.until("Username:")
        terminal.type(USER)
        terminal.until("Password:")
        terminal.type(PASSWORD)
        assert "error" not in terminal.until("supervisor> ").lower()
        assert cache.getItems() == {"k": "a b"}
        assert terminal.ask("cache_fetch k") == "'a b'\n"
        terminal.type("exit")


# Allowed by XML, and not by a careful terminal: C1 controls, a direction override, a line separator.
NASTY = "a\x9b31m\u202e\u2028\x85b"
ESCAPED = "a\\x9b31m\\u202e\\u2028\\x85b"


@pytest.mark.parametrize(
    ("command", "to_people", "to_a_pipe"),
    [
        (["cache_fetch", NASTY], f"'{ESCAPED}'\n", f"'{ESCAPED}'\n"),
        (["cache_fetch", "--raw", NASTY], f"{ESCAPED}\n", f"{NASTY}\n"),
        (["cache_fetch", "--json", NASTY], f'"{ESCAPED}"\n', f'"{NASTY}"\n'),
        (["cache_fetch", "--default", NASTY, "missing"], f"{ESCAPED}\n", f"{NASTY}\n"),
        (["cache_keys", "--raw"], f"{ESCAPED}\n", f"{NASTY}\n"),
        (["cache_keys"], f"['{ESCAPED}']\n", f"['{ESCAPED}']\n"),
        (["cache_items"], f'{ESCAPED}\t"{ESCAPED}"\n', f'{NASTY}\t"{NASTY}"\n'),
    ],
    ids=lambda row: shown(row)[:40],
)
def test_a_terminal_is_shown_escapes_and_a_pipe_gets_the_bytes(
    shared: Supervisord, cache: Any, command: list[str], to_people: str, to_a_pipe: str
) -> None:
    cache.store(NASTY, NASTY, {"note": NASTY})
    assert run(shared, *command) == (0, to_a_pipe, "")
    with Terminal(shared, *command) as terminal:
        assert terminal.rest().replace("\r\n", "\n") == to_people


@pytest.mark.parametrize("command", [["cache_entry", NASTY], ["cache_fetch", f"{NASTY}?"], ["cache_fetch", "\x1b[2J"]])
def test_nothing_else_reaches_a_terminal_unescaped(shared: Supervisord, cache: Any, command: list[str]) -> None:
    cache.store(NASTY, NASTY, {"note": NASTY})
    with Terminal(shared, *command) as terminal:
        assert terminal.rest().replace("\r", "").replace("\n", "").isprintable()


def test_lines_and_tabs_of_a_text_stay_as_they_are_on_a_terminal(shared: Supervisord, cache: Any) -> None:
    cache.store("k", "a\tb\nc")
    with Terminal(shared, "cache_fetch", "--raw", "k") as terminal:
        assert terminal.rest().replace("\r\n", "\n") == "a\tb\nc\n"


# Many


def test_five_thousand_large_entries_are_listed_in_pages(shared: Supervisord, cache: Any) -> None:
    items = {f"node/{number:04}/ä": f"{number}{'x' * 2500}" for number in range(5000)}
    keys = sorted(items)
    for first in range(0, len(keys), 250):
        for part in parts({key: items[key] for key in keys[first : first + 250]}):
            cache.storeMany(part)
    assert run(shared, "cache_count") == (0, "5000\n", "")
    assert run(shared, "cache_keys", "--raw") == (0, "".join(f"{key}\n" for key in keys), "")
    status, output, complaint = run(shared, "cache_keys")
    assert (status, output, complaint) == (0, f"{pprint.pformat(keys)}\n", "")
    status, output, complaint = run(shared, "cache_items")
    assert (status, complaint) == (0, "")
    assert output == "".join(f'{key}\t"{items[key]}"\n' for key in keys)
    status, output, complaint = run(shared, "cache_items", "--json")
    assert (status, complaint) == (0, "")
    assert json.loads(output) == items
    assert list(json.loads(output)) == keys


def test_values_as_large_as_they_may_be_are_listed_in_pages(shared: Supervisord, cache: Any) -> None:
    # "&" takes five bytes in a reply: each page has room for few of these, in the end for one.
    items = {str(number): "&" * 65_000 for number in range(12)}
    for key, value in items.items():
        cache.store(key, value)
    status, output, complaint = run(shared, "cache_items", "--json")
    assert (status, json.loads(output), complaint) == (0, items, "")
