"""The command supervisor-cache as it is typed in a shell: what it prints, where, and its exit status."""

import base64
import contextlib
import errno
import json
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, final
from xmlrpc.client import DateTime, dumps

import pytest

from supervisor_cache import __version__
from supervisor_cache.cli.own import OWN
from supervisor_cache.commands.verbs import VERBS
from tests.conftest import StartSupervisord
from tests.e2e.test_commands import ITEMS, repr_of
from tests.harness import OWN_BINARIES, PASSWORD, START_SECONDS, USER, Supervisord, free_port, program, running, until

Ended = tuple[int, str, str]

MISSING = "{}: ERROR (no such key)\n"


def environment(supervisord: Supervisord | None, **variables: str) -> dict[str, str]:
    """Answer the environment of somebody who has the command on the path, and nothing that names another server."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("SUPERVISOR_", "LC_", "LANG"))}
    kept |= {"PATH": f"{OWN_BINARIES}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    if supervisord is not None:
        kept["SUPERVISOR_SERVER_URL"] = supervisord.unix_url
    return {**kept, **variables}


def typed(
    supervisord: Supervisord | None, line: str, *, stdin: str = "", folder: Path | None = None, **variables: str
) -> Ended:
    """Have bash run a line; answer its status, stdout and stderr."""
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{line}"],
        input=stdin.encode(),
        env=environment(supervisord, **variables),
        cwd=folder or "/",
        capture_output=True,
        timeout=START_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def all_typed(supervisord: Supervisord | None, lines: Iterable[str]) -> list[Ended]:
    """Have several lines run at once."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda line: typed(supervisord, line), lines))


@final
class Started:
    """A line that bash runs while something else happens; it is ended with the ``with``."""

    def __init__(self, supervisord: Supervisord | None, line: str, **variables: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sc-"))
        with (self.folder / "stdout").open("wb") as stdout, (self.folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                env=environment(supervisord, **variables),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder)

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def until(self, text: str) -> None:
        """Wait until it has printed this, on stdout or stderr."""

        def has_come() -> bool:
            if text in self.stdout or text in self.stderr:
                return True
            assert self._process.poll() is None, f"ended without {text!r}: {self.stdout!r}, {self.stderr!r}"
            return False

        until(has_come, f"{text!r} comes")

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> Ended:
        """Wait for its end; answer its status as a shell shows it, stdout and stderr."""
        code = self._process.wait(START_SECONDS)
        return code if code >= 0 else 128 - code, self.stdout, self.stderr


def on_terminal(supervisord: Supervisord, line: str, pressed: dict[str, bytes] | None = None) -> tuple[int, str]:
    """Have bash run a line on a terminal, press keys once a text has come; answer its status and what was shown."""
    waited = dict(pressed or {})
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "bash", "-c", line],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(supervisord),
    )
    os.close(slave)
    came = b""
    try:
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError as error:  # Linux says so when the other side is closed
                if error.errno != errno.EIO:
                    raise
                break
            if not piece:
                break
            came += piece
            for text in [text for text in waited if text.encode() in came]:
                os.write(master, waited.pop(text))
        return process.wait(START_SECONDS), came.decode().replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.fixture
def idle(cache: Any) -> Any:
    """The namespace ``cache`` of the shared supervisord once nobody waits there any more."""
    until(lambda: cache.getStats()["watchers"] == 0, "nobody waits any more")
    return cache


@pytest.fixture
def stocked(cache: Any) -> Any:
    """The namespace ``cache`` of the shared supervisord, with `ITEMS`."""
    cache.storeMany(ITEMS, {"note": "ops: stocked"})
    return cache


@pytest.fixture(scope="module")
def furnished() -> Iterator[Supervisord]:
    """A supervisord with several namespaces, and a process that can own entries."""
    sections: dict[str, dict[str, str]] = {
        "cache": {},
        "fleet": {},
        "guarded": {"read_only": "inet_http_server"},
        "full": {"max_entries": "1", "max_key_bytes": "5", "max_value_bytes": "10"},
        "small": {"max_value_bytes": "100"},
    }
    with running(sections, program("worker")) as supervisord:
        supervisord.unix().full.store("k", "v")
        supervisord.unix().guarded.store("k", "v")
        until(lambda: supervisord.process("worker")["statename"] == "RUNNING", "it runs")
        yield supervisord
        assert "Traceback" not in supervisord.log


@pytest.fixture
def namespaces(furnished: Supervisord) -> Any:
    """The namespaces that tests write to, empty."""
    proxy = furnished.unix()
    for name in ("cache", "fleet", "small"):
        getattr(proxy, name).clear()
    return proxy


# Reading

READS: list[tuple[str, str]] = [
    ("fetch release", "2026.11.3\n"),
    ("fetch --raw release", "2026.11.3\n"),
    ("fetch --json release", '"2026.11.3"\n'),
    ("fetch n", "41\n"),
    ("fetch flag", "true\n"),
    ("fetch half", "0.5\n"),
    ("fetch list", '[1,{"a":"ä"}]\n'),
    ("fetch text", "two\nlines\n"),
    ("fetch --json text", '"two\\nlines"\n'),
    ("fetch date", '{"$dateTime":"2026-11-03T12:00:00"}\n'),
    ("fetch -dash", "-v\n"),
    ("fetch -- --two", "x\n"),
    ("fetch --json -- --two", '"x"\n'),
    ("fetch 'a b'", "c d\n"),
    ('fetch "a b"', "c d\n"),
    ("fetch a\\ b", "c d\n"),
    ("fetch \U0001f98a", "雪\n"),
    ("fetch --default none n", "41\n"),
    ("fetch --default none missing", "none\n"),
    ("fetch --default='no ne' missing", "no ne\n"),
    ("fetch --default '' missing", "\n"),
    ("fetch --default --raw missing", "--raw\n"),
    ("fetch --default -5 missing", "-5\n"),
    ("--timeout 20 --namespace cache fetch n", "41\n"),
    ("-- fetch n", "41\n"),
    ("keys", "".join(f"{key}\n" for key in sorted(ITEMS))),
    ("keys ''", "".join(f"{key}\n" for key in sorted(ITEMS))),
    ("keys --raw -", "--two\n-dash\n"),
    ("keys -- --", "--two\n"),
    ("keys --json n", '["n"]\n'),
    ("keys zzz", ""),
    ("count", "11\n"),
    ("items n", "n\t41\n"),
    ("items -", '--two\t"x"\n-dash\t"-v"\n'),
    ("items text", 'text\t"two\\nlines"\n'),
    ("items --json l", '{"list":[1,{"a":"ä"}]}\n'),
    ("items zzz", ""),
    ("wait n", "41\n"),
    ("wait --value true flag", "true\n"),
    ("wait --absent --timeout 0 missing", ""),
    ("wait --json --timeout 1m text", '"two\\nlines"\n'),
]


def test_a_read_prints_the_answer(shared: Supervisord, stocked: Any) -> None:
    revision = stocked.getRevision()
    all_ended = all_typed(shared, [f"supervisor-cache {line}" for line, _ in READS])
    for (line, output), ended in zip(READS, all_ended, strict=True):
        assert (line, ended) == (line, (0, output, ""))
    assert stocked.getRevision() == revision


def test_an_entry_is_shown_with_all_that_is_known_of_it(shared: Supervisord, stocked: Any) -> None:
    stocked.store("n", 41, {"note": "ops: who", "ttl": 5400})
    entry = stocked.getEntry("n")
    status, output, complaint = typed(shared, "supervisor-cache entry n")
    assert (status, complaint) == (0, "")
    lines = {line[:10].strip(): line[10:] for line in output.splitlines()}
    assert list(lines) == ["key", "value", "revision", "modified", "expires", "owner", "note"]
    assert (lines["key"], lines["value"], lines["revision"]) == ("n", "41", entry["revision"])
    assert re.fullmatch(r".*, in 1h (30|29)m", lines["expires"])
    assert (lines["owner"], lines["note"]) == ("", "ops: who")
    status, output, complaint = typed(shared, "supervisor-cache entry --json n")
    assert (status, json.loads(output), complaint) == (0, entry, "")


def test_the_history_is_a_line_per_change(shared: Supervisord, cache: Any) -> None:
    cache.store("a", 1, {"note": "ops: one"})
    cache.delete("a")
    cache.store("b", 2)
    revisions = [change["revision"] for change in cache.getChanges(cache.getStats()["history"]["since"])]
    status, output, complaint = typed(shared, "supervisor-cache history a")
    assert (status, complaint) == (0, "")
    rows = [line.split("\t") for line in output.splitlines()][-2:]
    assert [[row[0], *row[2:4], row[5]] for row in rows] == [
        [revisions[-3], "store", "a", "ops: one"],
        [revisions[-2], "delete", "a", ""],
    ]
    status, output, complaint = typed(shared, "supervisor-cache history --json b")
    assert (status, complaint) == (0, "")
    assert [change["key"] for change in json.loads(output) if change["revision"] == revisions[-1]] == ["b"]


def test_stats_are_shown_for_people_and_as_json(shared: Supervisord, stocked: Any) -> None:
    status, output, complaint = typed(shared, "supervisor-cache stats")
    assert (status, complaint) == (0, "")
    assert "\nentries                  11\n" in output
    assert f"\nrevision                 {stocked.getRevision()}\n" in output
    status, output, complaint = typed(shared, "supervisor-cache stats --json")
    assert (status, complaint) == (0, "")
    assert json.loads(output).keys() == stocked.getStats().keys()


# Writing

WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("store k v", "", {"k": "v"}),
    ("store k ''", "", {"k": ""}),
    ("store k 'bar  baz'", "", {"k": "bar  baz"}),
    ("store k bar\\ baz", "", {"k": "bar baz"}),
    ('store "quote\'s" "\'quoted\' \\"too\\""', "", {"quote's": "'quoted' \"too\""}),
    ("store k 'back\\slash $HOME `x` *'", "", {"k": "back\\slash $HOME `x` *"}),
    ("store k $' \\t two\\nlines \\n'", "", {"k": " \t two\nlines \n"}),
    ('store k "two\nlines"', "", {"k": "two\nlines"}),
    ("store k -5", "", {"k": "-5"}),
    ("store --json k -5", "", {"k": -5}),
    ("store k --note", "", {"k": "--note"}),
    ("store k --", "", {"k": "--"}),
    ("store -k -v", "", {"-k": "-v"}),
    ("store -- --x --y", "", {"--x": "--y"}),
    ("store -- -- v", "", {"--": "v"}),
    ("store \U0001f9a5 '\U0001f469\u200d\U0001f680 ä 雪'", "", {"\U0001f9a5": "\U0001f469\u200d\U0001f680 ä 雪"}),
    ("store ' spaced  key ' v", "", {" spaced  key ": "v"}),
    ("store help '?'", "", {"help": "?"}),
    ("store --help v", "", {}),
    ("store --json k '{\"a\": [1, 2.0, true]}'", "", {"k": {"a": [1, 2.0, True]}}),
    ("store --json k '\"7\"'", "", {"k": "7"}),
    ("store --if-changed --note 'ops: stocked' n 41", "changed\n", {"n": "41"}),
    ("store --if-changed --note 'ops: stocked' release 2026.11.3", "unchanged\n", {}),
    ("store --if-revision '' k v", "{new}\n", {"k": "v"}),
    ("store --if-revision={old} n v", "{new}\n", {"n": "v"}),
    ("store --file - k <<< 'of stdin'", "", {"k": "of stdin\n"}),
    ("store --file <(printf 'no end') k", "", {"k": "no end"}),
    ("store --file /dev/null k", "", {"k": ""}),
    ("add k v", "{new}\n", {"k": "v"}),
    ("add -- --x --y", "{new}\n", {"--x": "--y"}),
    ("increment n", "42\n", {"n": 42}),
    ("increment n -42", "-1\n", {"n": -1}),
    ("increment k", "1\n", {"k": 1}),
    ("touch n 2h", "{new}\n", {"n": 41}),
    ("touch --if-revision {old} n 0", "{new}\n", {"n": 41}),
    ("delete release", "", {"release": None}),
    ("delete missing", "", {}),
    ("delete 'a b' -dash \U0001f98a", "", {"a b": None, "-dash": None, "\U0001f98a": None}),
    ("delete -- --two", "", {"--two": None}),
    ("delete --prefix -", "2\n", {"--two": None, "-dash": None}),
    ("delete --if-revision {old} n", "", {"n": None}),
    ("clear", "", dict.fromkeys(ITEMS)),
]


@pytest.mark.parametrize(
    ("line", "output", "changes"), WRITES, ids=lambda row: ascii(row) if isinstance(row, str) else ""
)
def test_a_write_changes_what_it_names_and_nothing_else(
    shared: Supervisord, stocked: Any, line: str, output: str, changes: dict[str, Any]
) -> None:
    old = stocked.getRevision()
    status, answer, complaint = typed(shared, f"supervisor-cache {line.replace('{old}', old)}")
    new = stocked.getRevision()
    assert (status, complaint) == (0, "")
    if "--help" in line:
        assert answer.startswith("Usage: supervisor-cache store [OPTIONS] KEY [VALUE]\n")
    else:
        assert answer == output.replace("{new}", new)
    assert (new == old) is not bool(changes)
    expected = {key: value for key, value in {**ITEMS, **changes}.items() if value is not None}
    assert repr_of(stocked.getItems()) == repr_of(expected)


@pytest.mark.parametrize("text", ["a  b", 'it\'s "so" \\ $HOME `x` *', "two\nlines\n", "", "-5", "\U0001f98a 雪", " "])
def test_a_value_comes_through_two_shells_as_ssh_has_them(shared: Supervisord, cache: Any, text: str) -> None:
    inner = shlex.join(["supervisor-cache", "store", "--note", 'it\'s "me"', "--", f"--k{text.strip()[:1]}", text])
    if "\n" in text or not text.strip():
        inner = shlex.join(["supervisor-cache", "store", "--note", 'it\'s "me"', "k", text])
    line = shlex.join(["sh", "-c", shlex.join(["sh", "-c", inner])])
    assert typed(shared, line) == (0, "", "")
    (entry,) = cache.getEntries()
    assert (entry["value"], entry["note"]) == (text, 'it\'s "me"')
    fetched = shlex.join(["supervisor-cache", "fetch", "--", entry["key"]])
    assert typed(shared, shlex.join(["sh", "-c", shlex.join(["sh", "-c", fetched])])) == (0, f"{text}\n", "")


def test_terms_are_kept(shared: Supervisord, cache: Any) -> None:
    line = 'supervisor-cache store --ttl 2h --note "$WHO: database move" maintenance on'
    assert typed(shared, line, WHO="ada") == (
        0, "", ""
    )  # fmt: skip
    entry = cache.getEntry("maintenance")
    assert (entry["value"], entry["note"]) == ("on", "ada: database move")
    assert abs(entry["expires"] - entry["modified"] - 7200) < 1


def test_values_and_keys_may_be_as_long_as_the_limits_and_not_a_byte_longer(shared: Supervisord, cache: Any) -> None:
    limits = cache.getStats()["limits"]
    # A value is measured as JSON: with two quotes.
    value, key = "x" * (limits["max_value_bytes"] - 2), "ä" * (limits["max_key_bytes"] // 2)
    assert typed(shared, f"supervisor-cache store k {value}") == (0, "", "")
    assert typed(shared, f"supervisor-cache store {key} v") == (0, "", "")
    assert cache.getItems() == {"k": value, key: "v"}
    assert typed(shared, "supervisor-cache fetch k") == (0, f"{value}\n", "")
    assert typed(shared, f"supervisor-cache fetch {key}") == (0, "v\n", "")
    status, output, complaint = typed(shared, f"supervisor-cache store k {value}x")
    assert (status, output) == (3, "")
    assert re.fullmatch(r"k: ERROR \(LIMIT_EXCEEDED: [^\n]*max_value_bytes is 65536[^\n]*\)\n", complaint)
    for verb, rest in (("store", "v"), ("fetch", ""), ("delete", ""), ("increment", "")):
        status, output, complaint = typed(shared, f"supervisor-cache {verb} {key}x {rest}")
        assert (status, output) == (2, "")
        assert re.fullmatch(r"ä+x: ERROR \(BAD_NAME: key [^\n]* has 1025 bytes; max_key_bytes is 1024\)\n", complaint)
    assert cache.getItems() == {"k": value, key: "v"}


# No, wrong, refused

COMPLAINTS: list[tuple[str, int, str]] = [
    ("fetch foo", 1, MISSING.format("foo")),
    ("fetch 'foo bar'", 1, MISSING.format("foo bar")),
    ("fetch -- --foo", 1, MISSING.format("--foo")),
    ("fetch \U0001f9a5", 1, MISSING.format("\U0001f9a5")),
    ("entry foo", 1, MISSING.format("foo")),
    ("touch foo 5", 1, MISSING.format("foo")),
    ("add n v", 1, "n: ERROR (exists already)\n"),
    ("store --if-revision 5 n v", 1, "n: ERROR (another revision)\n"),
    ("store --if-revision 5 foo v", 1, MISSING.format("foo")),
    ("delete --if-revision 5 n", 1, "n: ERROR (another revision)\n"),
    ("wait --timeout 0 foo", 1, "foo: ERROR (timed out)\n"),
    ("wait --timeout 0.1s --value 42 n", 1, "n: ERROR (timed out)\n"),
    ("fetch ''", 2, "fetch: ERROR (BAD_NAME: a key must not be empty)\n"),
    ("store $'two\\nlines' v", 2, "two\\nlines: ERROR (BAD_NAME: key 'two\\nlines' has "),
    ("store $'\\xff' v", 2, "\\udcff: ERROR (not UTF-8)\n"),
    ("store k $'\\xff'", 2, "k: ERROR (not UTF-8)\n"),
    ("store --note $'\\xff' k v", 2, "k: ERROR (BAD_ARGUMENTS: note has character U+DCFF "),
    ("keys $'\\xff'", 2, "\\udcff: ERROR (BAD_ARGUMENTS: prefix "),
    ("export $'\\xff'", 2, "\\udcff: ERROR (BAD_ARGUMENTS: prefix "),
    ("watch $'\\xff'", 2, "\\udcff: ERROR (BAD_ARGUMENTS: prefix "),
    ("watch --since x", 2, "watch: ERROR (BAD_ARGUMENTS: revision 'x' is no decimal number)\n"),
    ("lock $'\\xff' true", 2, "\\udcff: ERROR (BAD_NAME: key "),
    ("lock '' true", 2, "lock: ERROR (BAD_NAME: a key must not be empty)\n"),
    ("lock --ttl 1 k true", 2, "k: ERROR (BAD_ARGUMENTS: the ttl of a lock must be at least 2 seconds)\n"),
    ("store --json k nope", 2, "k: ERROR (BAD_ARGUMENTS: value: not JSON: "),
    ("store --json k null", 2, "k: ERROR (BAD_ARGUMENTS: value: nil cannot be stored)\n"),
    ("store --json k 2147483648", 2, "k: ERROR (BAD_ARGUMENTS: value: an integer beyond 32 bits cannot be stored)\n"),
    ("store k $'\\e'", 2, "k: ERROR (BAD_ARGUMENTS: value: "),
    ("store --file /nowhere k", 2, "--file: ERROR (/nowhere: No such file or directory)\n"),
    ("store --file - k <&-", 2, "--file -: ERROR (there is no standard input)\n"),
    ("store --owner nobody:here k v", 2, "k: ERROR (BAD_ARGUMENTS: "),
    ("increment release", 3, "release: ERROR (WRONG_TYPE: "),
    ("--namespace nowhere count", 3, "nowhere: ERROR (this supervisord has no nowhere.getCount: no such namespace"),
    ("--namespace nowhere export", 3, "nowhere: ERROR (this supervisord has no nowhere.getKeys: no such namespace"),
    ("--namespace nowhere watch", 3, "nowhere: ERROR (this supervisord has no nowhere.getRevision: no such namespace"),
    ("--namespace nowhere lock k true", 3, "nowhere: ERROR (this supervisord has no nowhere.add: no such namespace"),
]


def test_what_is_not_done_is_told_in_a_line_of_stderr_and_the_status(shared: Supervisord, stocked: Any) -> None:
    all_ended = all_typed(shared, [f"supervisor-cache {line}" for line, _, _ in COMPLAINTS])
    for (line, status, complaint), ended in zip(COMPLAINTS, all_ended, strict=True):
        assert (line, *ended[:2]) == (line, status, "")
        assert ended[2].startswith(complaint)
        assert (line, ended[2].count("\n")) == (line, 1)
    assert repr_of(stocked.getItems()) == repr_of(ITEMS)


URL = "--url http://127.0.0.1:1"
MISUSES: list[tuple[str, str]] = [
    ("fetch", "fetch: ERROR (KEY is missing)"),
    ("store k", "store: ERROR (VALUE is missing)"),
    ("store --note", "store: ERROR (--note needs a value)"),
    ("store k v w", "store: ERROR (too many arguments)"),
    ("store k 'bar baz' --note x", "store: ERROR (too many arguments: options stand before them)"),
    ("store --nope k v", "store: ERROR (no such option: --nope)"),
    ("store --ttl 1 --ttl 2 k v", "store: ERROR (--ttl is given twice)"),
    ("store --json=1 k v", "store: ERROR (--json takes no value)"),
    ("store --ttl 1w k v", "store: ERROR (--ttl must be seconds, or like 90s, 90m, 2h, 7d)"),
    ("store --file x k v", "store: ERROR (VALUE and --file exclude each other)"),
    ("store --owner self k v", "store: ERROR (--owner self is for processes that Supervisor has started)"),
    ("fetch --raw --json k", "fetch: ERROR (--raw and --json exclude each other)"),
    ("delete", "delete: ERROR (KEY is missing)"),
    ("delete --prefix p k", "delete: ERROR (--prefix goes with neither KEY nor --if-revision)"),
    ("increment k x", "increment: ERROR (DELTA must be an integer of 32 bits)"),
    ("touch k", "touch: ERROR (TTL is missing)"),
    ("wait --absent --changed k", "wait: ERROR (--value, --absent and --changed exclude each other)"),
    ("count k", "count: ERROR (too many arguments)"),
    ("lock", "lock: ERROR (KEY is missing)"),
    ("lock k", "lock: ERROR (COMMAND is missing)"),
    ("lock k --", "lock: ERROR (COMMAND is missing)"),
    ("lock --wait soon k true", "lock: ERROR (--wait must be seconds, or like 90s, 90m, 2h, 7d)"),
    ("watch a b", "watch: ERROR (too many arguments)"),
    ("watch --nope", "watch: ERROR (no such option: --nope)"),
    ("import a b", "import: ERROR (too many arguments)"),
    ("config x", "config: ERROR (too many arguments)"),
    ("config --check", "config: ERROR (--check needs a value)"),
    ("completion", "completion: ERROR (SHELL is missing)"),
    ("completion csh", "completion: ERROR (SHELL must be bash, zsh, fish)"),
    ("--nope count", "supervisor-cache: ERROR (no such option: --nope)"),
    ("--timeout soon count", "supervisor-cache: ERROR (--timeout must be seconds, or like 90s, 90m, 2h, 7d)"),
    (f"{URL} {URL} store k v", "supervisor-cache: ERROR (several --url are for commands that only read"),
    (f"{URL} {URL} wait k", "supervisor-cache: ERROR (several --url are for commands that only read"),
    (f"{URL} {URL} fetch", "supervisor-cache: ERROR (KEY is missing)"),
    (f"{URL} {URL} fetch --raw --json k", "supervisor-cache: ERROR (--raw and --json exclude each other)"),
    (f"{URL} {URL} export", "supervisor-cache: ERROR (export takes neither several --url nor --local)"),
    ("--local /x.db export", "supervisor-cache: ERROR (export takes neither several --url nor --local)"),
    ("--local /x.db store k v", "store: ERROR (--local is for fetch, keys, items, entry and count)"),
    (f"--local /x.db {URL} count", "supervisor-cache: ERROR (--local asks no server: it goes with neither --url nor"),
    (f"{URL} --user me count", "supervisor-cache: ERROR (--user and --password-file go together)"),
    (f"{URL} --password-file x count", "supervisor-cache: ERROR (--user and --password-file go together)"),
    ("--user me --password-file x count", "supervisor-cache: ERROR (--user and --password-file go with --url: "),
    ("--namespace '' count", "supervisor-cache: ERROR (--namespace must be "),
    ("--namespace 'a<b' count", "supervisor-cache: ERROR (--namespace must be "),
    ("--namespace $'\\xff' count", "supervisor-cache: ERROR (--namespace must be "),
]  # fmt: skip


def test_wrong_usage_has_status_2_and_shows_how_to_do_it(shared: Supervisord, cache: Any) -> None:
    all_ended = all_typed(shared, [f"supervisor-cache {line}" for line, _ in MISUSES])
    for (line, complaint), (status, output, complained) in zip(MISUSES, all_ended, strict=True):
        assert (line, status, output) == (line, 2, "")
        assert complained.startswith(complaint)
        assert complained.splitlines()[1].startswith("usage: supervisor-cache ")
        assert (line, complained.count("\n")) == (line, 2)
    assert cache.getKeys() == []


def test_an_unknown_command_is_told_and_the_nearest_one_named(shared: Supervisord) -> None:
    assert typed(shared, "supervisor-cache ftech k") == (
        2, "", "supervisor-cache: ERROR (no such command: ftech; did you mean fetch?)\n"
    )  # fmt: skip
    assert typed(shared, "supervisor-cache 雪 k") == (
        2, "", "supervisor-cache: ERROR (no such command: 雪; supervisor-cache --help lists all)\n"
    )  # fmt: skip


def test_help_and_version_need_no_supervisord() -> None:
    assert typed(None, "supervisor-cache --version") == (0, f"{__version__}\n", "")
    status, output, complaint = typed(None, "supervisor-cache")
    assert (status, complaint) == (2, "")
    assert typed(None, "supervisor-cache --help") == (0, output, "")
    names = [verb.name for verb in VERBS] + list(OWN)
    listed = re.findall(r"^  ([a-z-]+) ", output.partition("Commands:\n")[2], re.MULTILINE)
    assert listed == names
    assert typed(None, "supervisor-cache --timeout 1") == (2, output, "")
    for name, ended in zip(names, all_typed(None, [f"supervisor-cache {name} --help" for name in names]), strict=True):
        assert ended[::2] == (0, "")
        assert ended[1].startswith(f"Usage: supervisor-cache {name} ")
    assert typed(None, "supervisor-cache help fetch") == typed(None, "supervisor-cache fetch --help")
    assert typed(None, "supervisor-cache help nope")[:2] == (2, "")


# Which supervisord


@final
class Stub:
    """An HTTP server that keeps what it was asked and with which login, and answers what it was told to."""

    def __init__(
        self, status: int = 200, body: bytes | None = None, *headers: tuple[str, str], pause: float = 0.0
    ) -> None:
        asked: list[str | None] = []
        answer = dumps((7,), methodresponse=True).encode() if body is None else body

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(self.headers["Authorization"])
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                for name, text in (("Content-Type", "text/xml"), ("Content-Length", str(len(answer))), *headers):
                    self.send_header(name, text)
                self.end_headers()
                time.sleep(pause)
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nothing of it is for the tests' output."""

        self.asked = asked
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def login(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


ELSEWHERE = {"SUPERVISOR_USERNAME": "env", "SUPERVISOR_PASSWORD": "of env"}


def test_a_password_goes_to_the_url_of_the_same_source_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of file\r\nsecond line\n")
    secret.chmod(0o640)
    with Stub() as one, Stub() as other:
        section = f"[supervisorctl]\nserverurl={one.url}\n"
        (tmp_path / "login.conf").write_text(f"{section}username=conf\npassword=of %%conf\n")
        (tmp_path / "half.conf").write_text(f"{section}username=conf\n")
        (tmp_path / "bare.conf").write_text(section)
        here = tmp_path / "here"
        here.mkdir()
        shutil.copy(tmp_path / "login.conf", here / "supervisord.conf")
        of_other = {"SUPERVISOR_SERVER_URL": other.url, **ELSEWHERE}
        file = f"--user arg --password-file {secret}"
        table: list[tuple[str, dict[str, str], str | None, Stub]] = [
            (f"--url {one.url}", {}, None, one),
            (f"--url {one.url}", of_other, None, one),
            (f"--url {one.url} {file}", of_other, login("arg", "of file"), one),
            (f"--url {one.url} --user ä --password-file <(printf ö)", {}, login("ä", "ö"), one),
            ("", of_other, login("env", "of env"), other),
            ("", {"SUPERVISOR_SERVER_URL": other.url}, None, other),
            ("", {**of_other, "SUPERVISOR_USERNAME": "", "SUPERVISOR_PASSWORD": ""}, None, other),
            ("", {}, login("conf", "of %conf"), one),
            ("", ELSEWHERE, login("conf", "of %conf"), one),
            ("", {"SUPERVISOR_SERVER_URL": "", **ELSEWHERE}, login("conf", "of %conf"), one),
            (f"--url {other.url}", {}, None, other),
            ("--configuration ../login.conf", of_other, login("conf", "of %conf"), one),
            ("--configuration ../bare.conf", of_other, None, one),
            ("--configuration ../half.conf", of_other, None, one),
            (f"--configuration ../login.conf --url {other.url}", {}, None, other),
        ]  # fmt: skip
        for options, variables, header, asked in table:
            ended = typed(None, f"supervisor-cache {options} count", folder=here, **variables)
            assert (options, ended) == (options, (0, "7\n", ""))
            assert (options, variables, asked.asked) == (options, variables, [header])
            asked.asked.clear()
            assert one.asked == other.asked == []
        ended = typed(None, f"supervisor-cache --url {one.url} --url {other.url} {file} count", folder=here, **of_other)
        assert ended[::2] == (0, "")
        assert one.asked == other.asked == [login("arg", "of file")]
        one.asked.clear()
        other.asked.clear()
        ended = typed(None, f"supervisor-cache --url {one.url} --url {other.url} count", folder=here, **of_other)
        assert ended[::2] == (0, "")
        assert one.asked == other.asked == [None]


def test_a_reply_may_come_in_pieces_before_the_server_closes() -> None:
    with Stub(pause=0.2) as stub:
        assert typed(None, f"supervisor-cache --url {stub.url} count") == (0, "7\n", "")


def test_a_server_that_sends_one_elsewhere_is_not_followed() -> None:
    with Stub() as other, Stub(302, b"", ("Location", f"{other.url}/RPC2")) as one:
        ended = typed(None, f"supervisor-cache --url {one.url} --user a --password-file - count", stdin="b\n")
        assert ended == (3, "", f"{one.url}: ERROR (HTTP 302 Found)\n")
        assert (one.asked, other.asked) == ([login("a", "b")], [])


def test_all_real_ways_lead_to_the_same_supervisord(shared: Supervisord, cache: Any, tmp_path: Path) -> None:
    cache.store("k", "v")
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    inet = {"SUPERVISOR_SERVER_URL": shared.inet_url, "SUPERVISOR_USERNAME": USER, "SUPERVISOR_PASSWORD": PASSWORD}
    for options, variables, folder in (
        (f"--url {shared.unix_url}", {}, None),
        (f"--url {shared.inet_url} --user {USER} --password-file {secret}", {}, None),
        (f"--url {shared.inet_url}/RPC2/ --user {USER} --password-file - < {secret}; :", {}, None),
        ("", inet, None),
        (f"--configuration {shared.configuration}", {}, None),
        ("", {}, shared.folder),
    ):
        line = f"supervisor-cache {options} fetch k"
        if options.endswith("; :"):
            line = f"supervisor-cache {options.partition(' <')[0]} fetch k < {secret}"
        assert typed(None, line, folder=folder, **variables) == (0, "v\n", "")


def test_nobody_says_which_supervisord(tmp_path: Path) -> None:
    status, output, complaint = typed(None, "supervisor-cache count", folder=tmp_path)
    assert (status, output) == (2, "")
    assert complaint.startswith("count: ERROR (which supervisord? No url was given, SUPERVISOR_SERVER_URL is not set")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("[supervisord]\n", "there is no [supervisorctl] section"),
        ("nonsense", "File contains no section headers"),
        ("[supervisorctl]\nserverurl=unix://%(nowhere)s/s.sock\n", "nobody knows what %(nowhere)s stands for"),
        ("[supervisorctl]\nserverurl=ftp://x\n", "must be unix://PATH, http://HOST:PORT or https://HOST:PORT"),
    ],
)
def test_a_configuration_file_that_names_no_server_is_told(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "a.conf").write_text(content)
    verbs = ("count", "store k v", "export", "lock k true")
    for status, output, complaint in all_typed(
        None, [f"supervisor-cache --configuration {tmp_path}/a.conf {verb}" for verb in verbs]
    ):
        assert (status, output) == (2, "")
        assert reason in complaint
        assert complaint.count("\n") == 1


def test_a_url_with_a_password_in_it_is_refused_and_not_repeated(shared: Supervisord) -> None:
    url = f"http://{USER}:s3cret@127.0.0.1:{shared.port}"
    for line in (f"--url {url} count", f"--url {url} --url {url} count", f"--url {url} lock k true"):
        status, output, complaint = typed(None, f"supervisor-cache {line}")
        assert (status, output) == (2, "")
        assert "ERROR (the url holds a password: give user and password apart)" in complaint
        assert "s3cret" not in complaint
    assert "s3cret" not in typed(None, "supervisor-cache count", SUPERVISOR_SERVER_URL=url)[2]


@pytest.mark.parametrize(
    "url", ["", "localhost:9001", "ftp://localhost", "http://", "http://localhost:99999", "http://a b", "unix://"]
)
def test_a_url_that_is_none_has_status_2(url: str) -> None:
    status, output, complaint = typed(None, f"supervisor-cache --url '{url}' count")
    assert (status, output, complaint.count("\n")) == (2, "", 1)
    assert complaint.startswith("count: ERROR (url ")


def test_a_password_file_that_others_can_read_or_nobody_is_refused(shared: Supervisord, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o644)
    options = f"--url {shared.inet_url} --user {USER}"
    for file, redirection, reason in (
        (secret, "", f"{secret}: others can read it: chmod o-r"),
        ("-", f"< {secret}", "-: others can read it: chmod o-r"),
        (tmp_path / "none", "", f"{tmp_path}/none: No such file or directory"),
        (tmp_path, "", f"{tmp_path}: Is a directory"),
        ("<(printf '\\xff')", "", "not UTF-8"),
        ("-", "<&-", "there is no standard input"),
    ):
        for verb in ("count", "export"):
            line = f"supervisor-cache {options} --password-file {file} {verb} {redirection}"
            status, output, complaint = typed(None, line)
            assert (status, output, complaint.count("\n")) == (2, "", 1)
            assert complaint.startswith("--password-file: ERROR (")
            assert complaint.endswith(f"{reason})\n")


def test_a_wrong_password_has_status_3(shared: Supervisord) -> None:
    options = f"--url {shared.inet_url} --user {USER} --password-file <(echo wrong)"
    reason = f"{shared.inet_url}: ERROR (user or password missing or wrong)\n"
    for verb in ("fetch k", "store k v", "watch", "export", "lock k true"):
        assert typed(None, f"supervisor-cache {options} {verb}") == (3, "", reason)
    assert typed(None, f"supervisor-cache --url {shared.inet_url} count") == (3, "", reason)


def test_no_server_has_status_4_and_no_socket_file_status_7(tmp_path: Path) -> None:
    stale = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    refused = f"http://127.0.0.1:{free_port()}"
    missing = f"unix://{tmp_path}/none.sock"
    too_long = f"unix:///{'x' * 200}"
    for url, status, reason in (
        (refused, 4, "refused connection"),
        (f"unix://{stale}", 4, "refused connection"),
        (too_long, 4, "AF_UNIX path too long"),
        (missing, 7, "no such file"),
    ):
        verbs = ("count", "store k v", "wait k", "watch", "export", "lock k true")
        all_ended = all_typed(None, [f"supervisor-cache --url {url} {verb}" for verb in verbs])
        for verb, ended in zip(verbs, all_ended, strict=True):
            assert (verb, ended) == (verb, (status, "", f"{url}: ERROR ({reason})\n"))


def test_a_server_that_does_not_answer_in_time_has_status_4() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended = typed(None, f"supervisor-cache --url {url} --timeout 0.2 count")
        assert ended == (4, "", f"{url}: ERROR (no answer in time)\n")
        status, output, complaint = typed(None, f"supervisor-cache --url {url} --timeout 0.2 store k v")
        assert (status, output) == (3, "")
        assert complaint == f"k: ERROR (UNKNOWN_OUTCOME: it may be stored or not: {url}: no answer in time)\n"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"<html>It works!</html>", "unreadable reply: "),
        (200, b"", "unreadable reply: "),
        (200, b"\x1b[2J\x00\xff", "unreadable reply: "),
        (404, b"", "HTTP 404 Not Found"),
        (500, b"", "HTTP 500 Internal Server Error"),
        (403, b"", "HTTP 403 Forbidden"),
    ],
)
def test_a_server_that_answers_nonsense_has_status_3(status: int, body: bytes, reason: str) -> None:
    with Stub(status, body) as stub:
        verbs = ("fetch k", "export", "watch", "lock k true", "store k v")
        all_ended = all_typed(None, [f"supervisor-cache --url {stub.url} {verb}" for verb in verbs])
        for verb, (code, output, complaint) in zip(verbs, all_ended, strict=True):
            assert (verb, code, output, complaint.count("\n")) == (verb, 3, "", 1)
            assert reason in complaint
            assert complaint[:-1].isprintable()


@pytest.mark.parametrize("answer", [{"a": [1]}, "text", 7])
def test_an_answer_of_another_kind_is_told(answer: Any) -> None:
    verbs = ["keys", "items", "entry k", "history", "stats", "wait k", "export", "watch"]
    with Stub(body=dumps((answer,), methodresponse=True).encode()) as stub:
        lines = [f"supervisor-cache --url {stub.url} --timeout 2 {verb}" for verb in verbs]
        for verb, ended in zip(verbs, all_typed(None, lines), strict=True):
            assert (verb, *ended[:2]) == (verb, 3, "")
            assert "unreadable reply: " in ended[2]
            assert ended[2].count("\n") == 1


def test_a_server_that_speaks_no_http_has_status_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            for _ in range(2):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        status, output, complaint = typed(None, f"supervisor-cache --url {url} count")
        assert (status, output) == (3, "")
        assert complaint.startswith(f"{url}: ERROR (unreadable reply: ")
        assert complaint.count("\n") == 1
        status, output, complaint = typed(None, f"supervisor-cache --url {url} store k v")
        assert (status, output) == (3, "")
        assert "it may be stored or not" in complaint
        thread.join()


def test_what_is_read_only_or_full_has_status_3(furnished: Supervisord) -> None:
    inet = f"--url {furnished.inet_url} --user {USER} --password-file <(echo '{PASSWORD}') --namespace guarded"
    assert typed(furnished, f"supervisor-cache {inet} fetch k") == (0, "v\n", "")
    for verb, about in (("store k w", "k"), ("clear", "clear"), ("lock l true", "l"), ("delete k", "k")):
        status, output, complaint = typed(furnished, f"supervisor-cache {inet} {verb}")
        assert (status, output, complaint.count("\n")) == (3, "", 1)
        assert complaint.startswith(f"{about}: ERROR (READ_ONLY: ")
    assert typed(furnished, "supervisor-cache --namespace guarded store k v") == (0, "", "")
    for verb in ("store l w", "add l w", "increment l", "lock l true"):
        status, output, complaint = typed(furnished, f"supervisor-cache --namespace full {verb}")
        assert (status, output, complaint.count("\n")) == (3, "", 1)
        assert complaint.startswith("l: ERROR (LIMIT_EXCEEDED: ")
    assert furnished.unix().full.getItems() == {"k": "v"}
    assert furnished.unix().guarded.getItems() == {"k": "v"}


# Pipes, descriptors, Ctrl-C


def test_a_pipe_that_has_seen_enough_ends_it_without_a_word(shared: Supervisord, cache: Any) -> None:
    for first in range(0, 10_000, 500):
        cache.storeMany({f"{number:05}/{'x' * 50}": "y" * 50 for number in range(first, first + 500)})
    head, url = f"00000/{'x' * 50}", f"--url {shared.unix_url}"
    since = cache.getStats()["history"]["since"]
    table = {
        "keys | head -1": f"{head}\n",
        "items | head -1": f'{head}\t"{"y" * 50}"\n',
        "items --json | head -c1": "{",
        "history --json | head -c1": "[",
        "export | head -c0": "",
        f"{url} {url} keys | head -1": f"{shared.socket_path}\t{head}\n",
        f"watch --since {since} | head -c4": since[:4],
        "--help | head -c5": "Usage",
        "config | head -c1": ";",
    }
    all_ended = all_typed(shared, [f"supervisor-cache {line}" for line in table])
    for (line, output), ended in zip(table.items(), all_ended, strict=True):
        assert (line, ended) == (line, (0, output, ""))


def test_a_full_disk_is_told_in_one_line(shared: Supervisord, stocked: Any) -> None:
    assert stocked.getCount() == len(ITEMS)
    url = f"--url {shared.unix_url}"
    for line in ("keys", "fetch n", "items", "export", "config", "completion bash", "--help", f"{url} {url} count"):
        ended = typed(shared, f"supervisor-cache {line} > /dev/full")
        assert (line, ended) == (line, (3, "", "stdout: ERROR (No space left on device)\n"))
    assert typed(shared, "supervisor-cache fetch missing 2> /dev/full") == (1, "", "")
    assert typed(shared, "supervisor-cache nope 2> /dev/full") == (2, "", "")


def test_closed_descriptors_give_no_traceback(shared: Supervisord, cache: Any) -> None:
    assert typed(shared, "supervisor-cache store k v >&- 2>&- <&-") == (0, "", "")
    assert cache.fetch("k") == "v"
    two = f"--url {shared.unix_url} --url {shared.unix_url} count"
    names = ("fetch k", "keys", "export", "config", "completion bash", "lock l{} true", "--help", "--version", two)
    lines = [
        f"supervisor-cache {name.format(number)} {closed}"
        for name in names
        for number, closed in enumerate((">&-", ">&- 2>&- <&-"))
    ]
    for line, ended in zip(lines, all_typed(shared, lines), strict=True):
        assert (line, ended) == (line, (0, "", ""))
    assert typed(shared, "supervisor-cache fetch missing 2>&-") == (1, "", "")
    assert typed(shared, "supervisor-cache fetch missing >&-") == (1, "", MISSING.format("missing"))
    assert typed(shared, "supervisor-cache import <&-") == (2, "", "-: ERROR (there is no standard input)\n")


def test_ctrl_c_ends_what_waits_with_status_130_and_without_a_word(shared: Supervisord, idle: Any) -> None:
    idle.store("taken", 1)
    lines = ("wait k", "wait --changed k", "watch", "watch --json p/", "lock taken true")
    with contextlib.ExitStack() as stack:
        all_started = [stack.enter_context(Started(shared, f"supervisor-cache {line}")) for line in lines]
        until(lambda: idle.getStats()["watchers"] == len(lines), "all wait")
        for line, started in zip(lines, all_started, strict=True):
            started.send(signal.SIGINT)
            assert (line, started.ended()) == (line, (130, "", ""))
    assert idle.getItems() == {"taken": 1}


def test_wait_answers_as_soon_as_it_holds(shared: Supervisord, idle: Any) -> None:
    with Started(shared, "supervisor-cache wait k") as one, Started(shared, "supervisor-cache wait --value 2 k") as two:
        until(lambda: idle.getStats()["watchers"] == 2, "both wait")
        idle.store("k", 1)
        assert one.ended() == (0, "1\n", "")
        idle.store("k", 2)
        assert two.ended() == (0, "2\n", "")


# Terminals

# Allowed by XML, and not by a careful terminal: C1 controls, a direction override, a line separator.
NASTY = "a\x9b31m\u202e\u2028\x85b"
ESCAPED = "a\\x9b31m\\u202e\\u2028\\x85b"


def test_a_terminal_is_shown_tables_and_a_pipe_plain_lines(shared: Supervisord, cache: Any) -> None:
    cache.store("雪雪", 1, {"note": "ops"})
    cache.store("e\u0301", "two\nlines\tand a tab")
    cache.store("long key", {"a": ["ä"]})
    assert on_terminal(shared, "supervisor-cache items") == (
        0,
        'KEY       VALUE\ne\u0301         "two\\nlines\\tand a tab"\nlong key  {"a":["ä"]}\n雪雪      1\n',
    )
    assert typed(shared, "supervisor-cache items | cat") == (
        0,
        'e\u0301\t"two\\nlines\\tand a tab"\nlong key\t{"a":["ä"]}\n雪雪\t1\n',
        "",
    )
    status, output = on_terminal(shared, "supervisor-cache history 雪")
    header, *rows = output.splitlines()
    assert status == 0
    assert header.split() == ["REVISION", "TIME", "KIND", "KEY", "VIA", "NOTE"]
    assert rows[-1].endswith("ops")
    # A wide character takes two columns.
    assert header.index("VIA") == rows[-1].index("unix") + 2
    assert on_terminal(shared, "supervisor-cache items zzz") == (0, "")
    url = f"--url {shared.unix_url}"
    assert on_terminal(shared, f"supervisor-cache {url} {url} fetch 雪雪") == (0, f"{shared.socket_path}\t1\n" * 2)


def test_escapes_reach_a_pipe_and_no_terminal(shared: Supervisord, cache: Any) -> None:
    since = cache.getRevision()
    cache.store(NASTY, NASTY, {"note": NASTY})
    url = f"--url {shared.unix_url}"
    for line, text in (
        (f"fetch '{NASTY}'", "{}\n"),
        (f"fetch --json '{NASTY}'", '"{}"\n'),
        (f"fetch --default '{NASTY}' missing", "{}\n"),
        ("keys", "{}\n"),
        ("items --json", '{{"{0}":"{0}"}}\n'),
        (f"{url} {url} keys", f"{shared.socket_path}\t{{0}}\n" * 2),
    ):
        assert typed(shared, f"supervisor-cache {line}") == (0, text.format(NASTY), "")
        assert on_terminal(shared, f"supervisor-cache {line}") == (0, text.format(ESCAPED))
    assert typed(shared, "supervisor-cache items") == (0, f'{NASTY}\t"{NASTY}"\n', "")
    width = len(ESCAPED)
    assert on_terminal(shared, "supervisor-cache items") == (
        0, f'{"KEY".ljust(width)}  VALUE\n{ESCAPED}  "{ESCAPED}"\n'
    )  # fmt: skip
    for line in (
        f"history '{NASTY}'", f"entry '{NASTY}'", f"fetch '{NASTY}?'", f"'{NASTY}'", f"--url 'unix://{NASTY}' count",
        f"lock --wait 0 '{NASTY}' true", f"lock k '{NASTY}'", f"watch --since {since}",
    ):  # fmt: skip
        pressed = {"x9b31m": b"\x03"} if line.startswith("watch") else None
        _, output = on_terminal(shared, f"supervisor-cache {line}", pressed)
        assert "\\x9b31m" in output, line
        assert output.replace("\n", "").isprintable(), line


def test_ctrl_c_on_a_terminal_reaches_the_command_of_a_lock_once(shared: Supervisord, cache: Any) -> None:
    script = 'n=0; trap "n=\\$((n+1))" INT; echo ready; sleep 0.5; sleep 0.1; sleep 0.1; echo "INT $n"; exit 5'
    line = f"supervisor-cache lock k -- bash -c {shlex.quote(script)}"
    status, output = on_terminal(shared, line, {"ready": b"\x03"})
    assert (status, output.splitlines()[-1]) == (5, "^CINT 1")
    assert cache.getKeys() == []


# Several


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Supervisord]]:
    """Two supervisords without a password."""
    with running(login=False) as one, running(login=False) as two:
        one.unix().cache.storeMany({"k": "one", "text": "two\nlines", "only": True})
        two.unix().cache.storeMany({"k": "two", "text": "t"})
        yield [one, two]


def test_several_answer_with_the_host_before_each_line(pair: list[Supervisord]) -> None:
    one, two = pair
    options = f"--url {one.inet_url} --url {two.unix_url}"
    here, there = f"127.0.0.1:{one.port}", str(two.socket_path)
    for line, output in (
        ("fetch k", f"{here}\tone\n{there}\ttwo\n"),
        ("fetch text", f"{here}\ttwo\n{here}\tlines\n{there}\tt\n"),
        ("count", f"{here}\t3\n{there}\t2\n"),
        ("keys o", f"{here}\tonly\n"),
        ("items k", f'{here}\tk\t"one"\n{there}\tk\t"two"\n'),
        ("keys --json k", f'{here}\t["k"]\n{there}\t["k"]\n'),
        ("fetch --default - nope", f"{here}\t-\n{there}\t-\n"),
    ):
        assert typed(None, f"supervisor-cache {options} {line}") == (0, output, "")
    for line in ("entry k", "stats", "history"):
        status, output, complaint = typed(None, f"supervisor-cache {options} {line}")
        assert (status, complaint) == (0, "")
        assert {text.partition("\t")[0] for text in output.splitlines()} == {here, there}


def test_of_several_each_failure_is_a_line_of_stderr_and_the_largest_status(pair: list[Supervisord]) -> None:
    one, two = pair
    options = f"--url {one.inet_url} --url {two.inet_url}"
    assert typed(None, f"supervisor-cache {options} fetch only") == (
        1, f"127.0.0.1:{one.port}\ttrue\n", f"127.0.0.1:{two.port}: only: ERROR (no such key)\n"
    )  # fmt: skip
    gone = f"http://127.0.0.1:{free_port()}"
    away = f"unix://{one.folder}/none.sock"
    status, output, complaint = typed(None, f"supervisor-cache --url {gone} {options} count")
    assert (status, output) == (4, f"127.0.0.1:{one.port}\t3\n127.0.0.1:{two.port}\t2\n")
    assert complaint == f"{gone}: ERROR (refused connection)\n"
    status, output, complaint = typed(None, f"supervisor-cache {options} --url {gone} --url {away} fetch only")
    assert (status, output) == (7, f"127.0.0.1:{one.port}\ttrue\n")
    assert sorted(complaint.splitlines()) == sorted(
        [
            f"127.0.0.1:{two.port}: only: ERROR (no such key)",
            f"{gone}: ERROR (refused connection)",
            f"{away}: ERROR (no such file)",
        ]
    )
    status, output, complaint = typed(None, f"supervisor-cache --namespace nope {options} count")
    assert (status, output, complaint.count("\n")) == (3, "", 2)


def test_several_get_the_same_password_also_from_stdin(furnished: Supervisord, namespaces: Any) -> None:
    assert namespaces.cache.getCount() == 0
    options = f"--url {furnished.inet_url} --url {furnished.unix_url} --url {furnished.inet_url}"
    host = f"127.0.0.1:{furnished.port}"
    line = f"supervisor-cache {options} --user {USER} --password-file - count"
    assert typed(None, line, stdin=f"{PASSWORD}\n") == (0, f"{host}\t0\n{furnished.socket_path}\t0\n{host}\t0\n", "")


# Without asking anybody


def test_a_database_is_read_without_supervisord(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"storage": "sqlite:cache.db"}})
    supervisord.unix().cache.storeMany(ITEMS, {"note": "ops: who"})
    supervisord.unix().cache.store("ends", 1, {"ttl": 0.05})
    until(lambda: supervisord.unix().cache.getCount() == len(ITEMS), "one has ended")
    entry = supervisord.unix().cache.getEntry("list")
    options = f"--local {supervisord.folder}/cache.db"

    def check(step: int) -> None:
        rows = [(line, output) for line, output in READS[::step] if not line.startswith(("-", "wait"))]
        all_ended = all_typed(None, [f"supervisor-cache {options} {line}" for line, _ in rows])
        for (line, output), ended in zip(rows, all_ended, strict=True):
            assert (line, ended) == (line, (0, output, ""))
        assert typed(None, f"supervisor-cache {options} fetch missing") == (1, "", MISSING.format("missing"))
        assert typed(None, f"supervisor-cache {options} fetch ends") == (1, "", MISSING.format("ends"))
        assert typed(None, f"supervisor-cache {options} fetch ''")[0] == 2

    check(4)
    assert json.loads(typed(None, f"supervisor-cache {options} entry --json list")[1]) == entry
    supervisord.unix().cache.store("new", 1)
    assert typed(None, f"supervisor-cache {options} fetch new") == (0, "1\n", "")
    supervisord.unix().cache.delete("new")
    supervisord.kill()
    check(12)
    supervisord.start()
    supervisord.stop()
    check(12)
    for verb in ("store k v", "stats", "history", "wait k", "clear"):
        status, output, complaint = typed(None, f"supervisor-cache {options} {verb}")
        assert (status, output) == (2, "")
        assert "ERROR (--local is for fetch, keys, items, entry and count)\nusage: " in complaint
    supervisord.start()


def test_a_database_that_is_none_has_status_3(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, and long enough to be looked at" * 100)
    for name, reason in (
        ("none.db", f"{tmp_path}/none.db: there is no database"),
        ("none/x.db", f"{tmp_path}/none/x.db: there is no database"),
        ("text", f"{tmp_path}/text: file is not a database"),
        (".", f"{tmp_path}"),
    ):
        for verb in ("count", "fetch k"):
            status, output, complaint = typed(None, f"supervisor-cache --local {tmp_path}/{name} {verb}")
            assert (name, status, output, complaint.count("\n")) == (name, 3, "", 1)
            assert f": ERROR (UNAVAILABLE: {reason}" in complaint
    assert not (tmp_path / "none.db").exists()


# watch


def test_watch_shows_each_change_as_a_line(shared: Supervisord, idle: Any) -> None:
    idle.store("app/before", 1)
    since = idle.getRevision()
    with (
        Started(shared, "supervisor-cache watch") as everything,
        Started(shared, "supervisor-cache watch --json app/") as some,
        Started(shared, f"supervisor-cache watch --since {since} app/") as earlier,
    ):
        until(lambda: idle.getStats()["watchers"] == 3, "all watch")
        idle.store("app/\U0001f98a", "v", {"note": "ops: a b"})
        idle.store("other", 1)
        idle.delete("app/\U0001f98a")
        idle.clear()
        changes = idle.getChanges(since)
        for started in (everything, some, earlier):
            started.until("clear")
            started.send(signal.SIGINT)
        status, output, complaint = everything.ended()
        assert (status, complaint) == (130, "")
        rows = [line.split("\t") for line in output.splitlines()]
        assert [[row[0], *row[2:]] for row in rows] == [
            [change["revision"], change["kind"], change["key"], change["via"], change["note"]] for change in changes
        ]
        assert [row[2] for row in rows] == ["store", "store", "delete", "clear"]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", row[1]) for row in rows)
        status, output, complaint = some.ended()
        assert (status, complaint) == (130, "")
        assert [json.loads(line) for line in output.splitlines()] == [
            change for change in changes if change["key"] != "other"
        ]
        status, output, complaint = earlier.ended()
        assert (status, complaint) == (130, "")
        assert [line.split("\t")[3] for line in output.splitlines()] == ["app/\U0001f98a", "app/\U0001f98a", ""]


def test_watch_shows_a_terminal_what_matters_to_people(shared: Supervisord, cache: Any) -> None:
    since = cache.getRevision()
    cache.store("k", "v", {"note": "ops"})
    status, output = on_terminal(shared, f"supervisor-cache watch --since {since}", {"ops": b"\x03"})
    assert status == 130
    assert re.fullmatch(r"\S+ \S+  store    k  \(unix_http_server\)  ops\n\^C", output)


def test_watch_goes_on_over_a_reload_and_a_restart_and_says_once_that_contact_is_lost(start: StartSupervisord) -> None:
    supervisord = start()
    cache = supervisord.unix().cache
    with Started(supervisord, "supervisor-cache watch") as started:
        until(lambda: cache.getStats()["watchers"] == 1, "it watches")
        cache.store("one", 1)
        started.until("\tone\t")
        supervisord.reload()
        supervisord.unix().cache.store("two", 2)
        started.until("\ttwo\t")
        assert started.stdout.count("\n") == 2
        assert "reset" not in started.stdout
        assert started.stderr.count("trying again") == started.stderr.count("it answers again") <= 1
        told = len(started.stderr)
        supervisord.stop()
        started.until(f"watch: {supervisord.unix_url}: ")
        time.sleep(1)  # some attempts later
        supervisord.start()
        started.until("\treset\t")
        until(lambda: "it answers again" in started.stderr[told:], "contact is told")
        supervisord.unix().cache.store("three", 3)
        started.until("\tthree\t")
        started.send(signal.SIGINT)
        status, output, complaint = started.ended()
    assert status == 130
    assert [line.split("\t")[2] for line in output.splitlines()] == ["store", "store", "reset", "store"]
    assert sorted(re.sub("unix:[^ ]*: [a-z ]*;", "URL;", complaint[told:]).splitlines()) == [
        "watch: URL; trying again",
        "watch: changes have been missed; those from now on are shown",
        "watch: it answers again",
    ]


# lock


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("true", 0),
        ("false", 1),
        ("-- sh -c 'exit 42'", 42),
        ("sh -c 'kill -TERM $$'", 143),
        ("sh -c 'kill -KILL $$'", 137),
        ("sh -c 'kill -INT $$'", 130),
        ("bash -c 'ulimit -c 0; kill -SEGV $$'", 139),
    ],
)
def test_lock_ends_as_its_command_does(shared: Supervisord, cache: Any, command: str, status: int) -> None:
    assert typed(shared, f"supervisor-cache lock k {command}") == (status, "", "")
    assert cache.getKeys() == []


def test_no_thread_of_a_lock_takes_a_signal_that_is_for_its_command(shared: Supervisord, cache: Any) -> None:
    # Such a thread would end all at SIGTERM, or lose SIGCHLD, and the end of the command with it.
    with Started(shared, "supervisor-cache lock k -- sh -c 'echo ready; exec sleep 100'") as started:
        started.until("ready")
        tasks = [task for task in Path(f"/proc/{started.pid}/task").iterdir() if int(task.name) != started.pid]
        assert len(tasks) >= 2
        for task in tasks:
            (blocked,) = re.findall(r"SigBlk:\s([0-9a-f]+)", (task / "status").read_text())
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                assert int(blocked, 16) >> (number - 1) & 1
        started.send(signal.SIGTERM)
        assert started.ended()[0] == 143
    assert cache.getKeys() == []
    assert set(all_typed(shared, [f"supervisor-cache lock k{number} true" for number in range(8)])) == {(0, "", "")}


def test_the_command_of_a_lock_gets_arguments_streams_and_signals_as_from_a_shell(
    shared: Supervisord, cache: Any
) -> None:
    line = "supervisor-cache lock k printf '%s|' 'a  b' '' \"it's\" $'two\\nlines' --note -5 '\U0001f98a'"
    assert typed(shared, line) == (0, "a  b||it's|two\nlines|--note|-5|\U0001f98a|", "")
    assert typed(shared, "supervisor-cache lock k -- cat", stdin="of stdin") == (0, "of stdin", "")
    assert typed(shared, "supervisor-cache lock k sh -c 'echo out; echo err >&2'") == (0, "out\n", "err\n")
    # SIGPIPE ends `yes` without a word, unless it has inherited that it is ignored.
    assert typed(shared, "supervisor-cache lock k sh -c 'yes | head -1'") == (0, "y\n", "")
    blocked = "grep ^SigBlk /proc/self/status"
    assert typed(shared, f"supervisor-cache lock k {blocked}") == typed(shared, blocked)
    assert cache.getKeys() == []


def test_a_lock_is_an_entry_while_its_command_runs_and_each_holder_has_a_larger_revision(
    furnished: Supervisord, namespaces: Any
) -> None:
    cache = namespaces.fleet
    options = "--note 'ops: deploy' --owner worker:worker"
    show = "supervisor-cache --namespace fleet entry --json the\\ lock; echo $SUPERVISOR_CACHE_LOCK_REVISION"
    revisions = []
    for _ in range(2):
        line = f"supervisor-cache --namespace fleet lock {options} 'the lock' bash -c {shlex.quote(show)}"
        status, output, complaint = typed(furnished, line)
        assert (status, complaint) == (0, "")
        entry, revision = output.splitlines()
        assert json.loads(entry).items() >= {
            "key": "the lock", "revision": revision, "note": "ops: deploy", "owner": "worker:worker"
        }.items()  # fmt: skip
        assert 25 < json.loads(entry)["expires"] - json.loads(entry)["modified"] < 35
        revisions.append(int(revision))
        assert cache.getKeys() == []
    assert revisions[0] < revisions[1]


def test_who_does_not_get_a_lock_ends_with_75_and_says_who_has_it(shared: Supervisord, idle: Any) -> None:
    holder = "supervisor-cache lock --note 'ops: first' k sh -c 'echo ready; read x < {}'"
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/end")
        with Started(shared, holder.format(f"{folder}/end")) as started:
            started.until("ready")
            for wait in ("0", "0.2"):
                status, output, complaint = typed(shared, f"supervisor-cache lock --wait {wait} k touch {folder}/ran")
                assert (status, output) == (75, "")
                assert re.fullmatch(
                    r"k: ERROR \(the lock 'k' is held by somebody else: pid \d+ on \S+, ops: first\)\n", complaint
                )
            assert not Path(folder, "ran").exists()
            with Started(shared, f"supervisor-cache lock k touch {folder}/ran") as next_one:
                until(lambda: idle.getStats()["watchers"] == 2, "the next one waits")
                Path(folder, "end").write_text("\n")
                assert started.ended() == (0, "ready\n", "")
                assert next_one.ended() == (0, "", "")
            assert Path(folder, "ran").exists()
    assert idle.getKeys() == []


def test_what_cannot_be_run_is_told_and_no_lock_taken(shared: Supervisord, cache: Any, tmp_path: Path) -> None:
    revision = cache.getRevision()
    assert typed(shared, "supervisor-cache lock k no-such-command x") == (
        127, "", "no-such-command: ERROR (command not found)\n"
    )  # fmt: skip
    assert typed(shared, "supervisor-cache lock k ''")[:2] == (127, "")
    (tmp_path / "text").write_text("text")
    assert typed(shared, f"supervisor-cache lock k {tmp_path}/text")[:2] == (126, "")
    assert cache.getRevision() == revision
    (tmp_path / "text").chmod(0o755)
    assert typed(shared, f"supervisor-cache lock k {tmp_path}/text") == (
        126, "", f"{tmp_path}/text: ERROR (Exec format error)\n"
    )  # fmt: skip
    assert cache.getKeys() == []


TRAPS = """
for name in TERM INT USR1 USR2 HUP QUIT; do trap "echo got $name" $name; done
echo ready
while [ ! -e {} ]; do sleep 0.02; done
exit 7
"""


def test_signals_are_passed_on_to_the_command(shared: Supervisord, cache: Any, tmp_path: Path) -> None:
    script = shlex.quote(TRAPS.format(tmp_path / "end"))
    with Started(shared, f"supervisor-cache lock k -- bash -c {script}") as started:
        started.until("ready")
        for name in ("USR1", "INT", "HUP", "USR2", "QUIT", "TERM"):
            started.send(signal.Signals[f"SIG{name}"])
            started.until(f"got {name}\n")
        assert cache.getKeys() == ["k"]
        (tmp_path / "end").touch()
        assert started.ended()[::2] == (7, "")
    with Started(shared, "supervisor-cache lock k -- sh -c 'echo ready; exec sleep 100'") as started:
        started.until("ready")
        started.send(signal.SIGTERM)
        assert started.ended() == (143, "ready\n", "")
    assert cache.getKeys() == []


def test_the_lock_of_a_holder_that_was_killed_is_free_when_its_time_is_over(shared: Supervisord, cache: Any) -> None:
    with Started(shared, "supervisor-cache lock --ttl 2 k sh -c 'echo $$; exec sleep 100'") as started:
        until(lambda: started.stdout.endswith("\n"), "the command runs")
        child = int(started.stdout)
        try:
            expires = cache.getEntry("k")["expires"]
            started.send(signal.SIGKILL)
            started.ended()
            assert typed(shared, "supervisor-cache lock --wait 0 k true")[0] == 75
            assert typed(shared, "supervisor-cache lock --wait 20 k true") == (0, "", "")
            assert time.time() >= expires - 0.1
        finally:
            os.kill(child, signal.SIGKILL)
    assert cache.getKeys() == []


def test_a_lock_outlives_its_ttl_while_the_command_runs_and_is_told_when_it_is_lost(
    shared: Supervisord, cache: Any, tmp_path: Path
) -> None:
    lost = "k: ERROR (the lock has been lost"
    script = f"echo ready; while [ ! -e {tmp_path}/end ]; do sleep 0.02; done; echo on"
    with (
        Started(shared, f"supervisor-cache lock --ttl 2 k sh -c '{script}'") as patient,
        Started(shared, "supervisor-cache lock --ttl 2 --kill-on-loss l sh -c 'echo ready; exec sleep 100'") as quick,
        Started(shared, "supervisor-cache lock --ttl 2 --kill-on-loss m sh -c 'echo ready; sleep 2.5'") as untroubled,
    ):
        for started in (patient, quick, untroubled):
            started.until("ready")
        cache.store("l", "somebody else's")
        assert quick.ended() == (143, "ready\n", "l: ERROR (the lock has been lost; the command is ended)\n")
        assert untroubled.ended() == (0, "ready\n", "")
        assert cache.getKeys() == ["k", "l"]
        cache.delete("k")
        patient.until(lost)
        assert "on" not in patient.stdout
        (tmp_path / "end").touch()
        assert patient.ended() == (0, "ready\non\n", f"{lost})\n")
    assert cache.getItems() == {"l": "somebody else's"}


def test_a_lock_is_lost_when_supervisord_is_gone_for_too_long(start: StartSupervisord) -> None:
    supervisord = start()
    line = "supervisor-cache lock --ttl 2 --kill-on-loss k sh -c 'echo ready; exec sleep 100'"
    with Started(supervisord, line) as started:
        started.until("ready")
        supervisord.reload()
        supervisord.reload()
        assert started.stderr == ""
        supervisord.stop()
        assert started.ended() == (143, "ready\n", "k: ERROR (the lock has been lost; the command is ended)\n")
    supervisord.start()


# export and import

VALUES: dict[str, Any] = {
    **ITEMS, "nested": {"": [[], {}, {"a": [True, -1.5, DateTime("20261103T12:00:00")]}]}, "empty": "",
    "large": "x" * 65_000, "double": 1e300, "whole": 5.0, "text/\u2028": "line\u2028separator \x85 \r\n",
}  # fmt: skip


def told(cache: Any) -> dict[str, tuple[str, float, str, str]]:
    """Answer all that is known of entries but when they were stored."""
    return {
        entry["key"]: (repr_of({"": entry["value"]})[""], round(entry["expires"]), entry["owner"], entry["note"])
        for entry in cache.getEntries()
    }


def test_what_is_exported_is_imported_again_as_it_was(furnished: Supervisord, namespaces: Any, tmp_path: Path) -> None:
    one, two = namespaces.cache, namespaces.fleet
    for key, value in VALUES.items():
        one.store(key, value, {"note": f"ops: {key}"})
    one.store("ends", 1, {"ttl": 3600, "note": "ops: \U0001f98a"})
    one.store("zends", 1, {"ttl": 3600})
    expected = told(one)
    one.store("owned", 1, {"owner": "worker:worker"})
    status, output, complaint = typed(furnished, "supervisor-cache export")
    assert (status, complaint) == (0, "")
    header, *lines = map(json.loads, output.removesuffix("\n").split("\n"))
    assert (header["supervisor_cache"], header["namespace"]) == (1, "cache")
    assert [line["key"] for line in lines] == sorted(expected)
    assert lines[sorted(expected).index("empty")] == {"key": "empty", "value": "", "note": "ops: empty"}
    two.store("stays", 1)
    two.store("release", "old")
    line = "supervisor-cache --namespace fleet import"
    assert typed(furnished, line, stdin=output) == (0, "", f"import: {len(lines)} stored, 0 had expired\n")
    stays = told(two).pop("stays")
    assert told(two) == {**expected, "stays": stays}
    path = tmp_path / "a file"
    assert typed(furnished, f"supervisor-cache export text > '{path}'") == (0, "", "")
    two.clear()
    assert typed(furnished, f"{line} '{path}'") == (0, "", "import: 2 stored, 0 had expired\n")
    assert two.getKeys() == ["text", "text/\u2028"]
    assert typed(furnished, "supervisor-cache export zzz | supervisor-cache import") == (
        0, "", "import: 0 stored, 0 had expired\n"
    )  # fmt: skip


def test_ten_thousand_entries_go_out_and_in(furnished: Supervisord, namespaces: Any) -> None:
    items = {f"node/{number:05}": f"{number}&<\U0001f98a" for number in range(10_000)}
    keys = list(items)
    for first in range(0, 10_000, 1000):
        namespaces.cache.storeMany({key: items[key] for key in keys[first : first + 1000]}, {"note": f"n{first}"})
    expected = told_all(namespaces.cache)
    line = "supervisor-cache export | supervisor-cache --namespace fleet import"
    assert typed(furnished, line) == (0, "", "import: 10000 stored, 0 had expired\n")
    assert told_all(namespaces.fleet) == expected
    assert len(expected) == 10_000


def told_all(cache: Any) -> dict[str, tuple[Any, str]]:
    """Read all entries, in pages."""
    found: dict[str, tuple[Any, str]] = {}
    while page := cache.getEntries("", max(found, default=""), 1000):
        found.update({entry["key"]: (entry["value"], entry["note"]) for entry in page})
    return found


def lines_of(*entries: object) -> str:
    return "".join(f"{json.dumps(entry)}\n" for entry in ({"supervisor_cache": 1}, *entries))


def test_when_one_is_refused_all_is_as_it_was_before(furnished: Supervisord, namespaces: Any) -> None:
    small = namespaces.small
    small.store("a", "old a", {"note": "ops: a", "ttl": 3600})
    small.store("b", ["old b"], {"owner": "worker:worker"})
    small.store("c", 3)
    small.store("untouched", 4, {"note": "ops: u"})
    before, untouched = told(small), small.getEntry("untouched")
    given = lines_of(
        {"key": "a", "value": "new a", "note": "1"},
        {"key": "b", "value": "new b", "note": "2"},
        {"key": "n", "value": "new", "note": "3", "expires": time.time() + 600},
        {"key": "c", "value": "x" * 101, "note": "4"},
        {"key": "d", "value": "never", "note": "5"},
    )
    since = small.getRevision()
    status, output, complaint = typed(furnished, "supervisor-cache --namespace small import", stdin=given)
    assert (status, output, complaint.count("\n")) == (3, "", 1)
    assert complaint.startswith("import: ERROR (nothing stored: LIMIT_EXCEEDED: ")
    assert [change["key"] for change in small.getChanges(since)] == ["a", "b", "n", "n", "b", "a"]
    assert told(small) == before
    assert small.getEntry("untouched") == untouched

    status, output, complaint = typed(furnished, "supervisor-cache --namespace small import --partial", stdin=given)
    assert (status, output) == (3, "")
    refused, summary = complaint.splitlines()
    assert refused.startswith("import: ERROR (line 5: ")
    assert summary == "import: 4 stored, 0 had expired, 1 refused"
    assert small.getItems() == {
        "a": "new a", "b": "new b", "n": "new", "c": 3, "d": "never", "untouched": 4
    }  # fmt: skip


def test_what_has_no_room_is_refused_before_anything_is_stored(furnished: Supervisord, namespaces: Any) -> None:
    full = namespaces.full
    revision = full.getRevision()
    for entries, reason in (
        ([{"key": "l", "value": "w"}], "there would be 2 entries; max_entries is 1"),
        ([{"key": "k", "value": "w"}, {"key": "l", "value": "w"}], "there would be 2 entries; max_entries is 1"),
        ([{"key": "k" * 6, "value": "w"}], "there would be 2 entries; max_entries is 1"),
    ):
        ended = typed(furnished, "supervisor-cache --namespace full import", stdin=lines_of(*entries))
        assert ended == (3, "", f"import: ERROR (nothing stored: {reason})\n")
    assert (full.getRevision(), full.getItems()) == (revision, {"k": "v"})
    long = lines_of({"key": "ok", "value": 1}, {"key": "k" * 1025, "value": 1})
    ended = typed(furnished, "supervisor-cache import", stdin=long)
    assert ended == (3, "", "import: ERROR (nothing stored: line 3: the key is too long)\n")
    assert namespaces.cache.getKeys() == []


def test_what_has_expired_is_dropped(furnished: Supervisord, namespaces: Any) -> None:
    now = time.time()
    given = lines_of(
        {"key": "gone", "value": 1, "expires": now - 1},
        {"key": "long gone", "value": 1, "expires": 1},
        {"key": "lives", "value": 1, "expires": now + 600},
        {"key": "for ever", "value": 1, "expires": 0},
    )
    for options in ("", "--partial"):
        namespaces.cache.clear()
        ended = typed(furnished, f"supervisor-cache import {options}", stdin=given)
        assert ended == (0, "", "import: 2 stored, 2 had expired\n")
        assert {key: round(expires - now) for key, (_, expires, _, _) in told(namespaces.cache).items()} == {
            "lives": 600, "for ever": round(-now)
        }  # fmt: skip


HEADER = '{"supervisor_cache":1}\n'
GOOD = '{"key":"good","value":1}\n'


GARBAGE: list[tuple[str, str]] = [
    ("", "empty: export begins with a line that tells the format"),
    ("\n", "line 1: "),
    ("nonsense\n", "line 1: "),
    ('{"key":"k","value":1}\n', "line 1: not what export writes"),
    ("[1]\n", "line 1: not what export writes"),
    ('{"supervisor_cache":2}\n', "line 1: format 2 is of a newer release; this one knows 1"),
    (f"{HEADER}{GOOD}nonsense\n", "line 3: "),
    (f"{HEADER}{GOOD}[1]\n", "line 3: must be an object of key and value, and maybe expires and note"),
    (f'{HEADER}{GOOD}{{"key":"k"}}\n', "line 3: must be an object of key and value"),
    (f'{HEADER}{GOOD}{{"key":"k","value":1,"owner":"x"}}\n', "line 3: must be an object of key and value"),
    (f"{HEADER}{GOOD}\n{GOOD}", "line 4: the key stands in line 2 already"),
    (f'{HEADER}{GOOD}{{"key":"","value":1}}\n', "line 3: a key must not be empty"),
    (f'{HEADER}{GOOD}{{"key":5,"value":1}}\n', "line 3: a key must be a string"),
    (f'{HEADER}{GOOD}{{"key":"k","value":null}}\n', "line 3: value: nil cannot be stored"),
    (f'{HEADER}{GOOD}{{"key":"k","value":3000000000}}\n', "line 3: value: an integer beyond 32 bits"),
    (f'{HEADER}{GOOD}{{"key":"k","value":NaN}}\n', "line 3: value: NaN is not JSON"),
    (f'{HEADER}{GOOD}{{"key":"k","value":"\\u001b"}}\n', "line 3: value: "),
    (f'{HEADER}{GOOD}{{"key":"k","value":1,"note":"a\\nb"}}\n', "line 3: note has "),
    (f'{HEADER}{GOOD}{{"key":"k","value":1,"expires":"soon"}}\n', "line 3: expires must be seconds since the epoch"),
    (f'{HEADER}{GOOD}{{"key":"k","value":1,"expires":-1}}\n', "line 3: expires must be seconds since the epoch"),
    (f'{HEADER}{GOOD}{{"key":"k","value":1,"expires":Infinity}}\n', "line 3: value: Infinity is not JSON"),
    (f"{HEADER}{GOOD}{'[' * 100_000}\n", "line 3: value: nested deeper than "),
    (f'{HEADER}{GOOD}{{"key":"k","value":1', "line 3: "),
]  # fmt: skip


def test_what_export_did_not_write_is_refused_with_its_line_and_nothing_stored(
    shared: Supervisord, cache: Any, tmp_path: Path
) -> None:
    for number, (content, _) in enumerate(GARBAGE):
        (tmp_path / f"{number}").write_text(content.replace('"good"', f'"good{number}"'))
    numbers = range(len(GARBAGE))
    revision = cache.getRevision()
    all_ended = all_typed(shared, [f"supervisor-cache import {tmp_path}/{number}" for number in numbers])
    for number, (status, output, complaint) in zip(numbers, all_ended, strict=True):
        assert (number, status, output, complaint.count("\n")) == (number, 2, "", 1)
        assert complaint.startswith(f"{tmp_path}/{number}: ERROR ({GARBAGE[number][1]}")
    assert cache.getRevision() == revision
    all_ended = all_typed(shared, [f"supervisor-cache import --partial {tmp_path}/{number}" for number in numbers])
    some = [number for number in numbers if GARBAGE[number][0].startswith(HEADER)]
    for number, (status, output, complaint) in zip(numbers, all_ended, strict=True):
        assert (number, status, output) == (number, 3 if number in some else 2, "")
        if number in some:
            assert complaint.startswith(f"import: ERROR ({GARBAGE[number][1]}")
            assert complaint.endswith("\nimport: 1 stored, 0 had expired, 1 refused\n")
    assert cache.getKeys() == sorted(f"good{number}" for number in some)


def test_a_file_that_cannot_be_read_is_refused(shared: Supervisord, cache: Any, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(HEADER.encode() + GOOD.encode() + b"\xff\n")
    for name, reason in (("bytes", "not UTF-8"), ("none", "No such file or directory"), ("", "Is a directory")):
        path = f"{tmp_path}/{name}"
        assert typed(shared, f"supervisor-cache import {path}") == (2, "", f"{path}: ERROR ({reason})\n")
    assert cache.getKeys() == []


def test_what_takes_much_more_in_xml_is_imported_where_requests_may_be_so_large() -> None:
    sections = {"cache": {"http": "true", "max_value_bytes": "256KB"}}
    with running(sections, "") as supervisord:
        numbers = json.dumps(list(range(10)) * 4000)
        put = f"curl -sS --fail --unix-socket {supervisord.socket_path} -X PUT --data-binary @-"
        where = "-H content-type:application/json http://localhost/cache/v1/entries/numbers"
        assert typed(None, f"{put} {where}", stdin=numbers)[0] == 0
        status, exported, _ = typed(supervisord, "supervisor-cache export")
        assert status == 0
        supervisord.unix().cache.clear()
        status, _, complaint = typed(supervisord, "supervisor-cache import", stdin=exported)
        assert status == 3
        text = "the request is too large; the option max_request_bytes sets how large one may be"
        assert complaint == f"import: ERROR (nothing stored: LIMIT_EXCEEDED: {text})\n"
        assert supervisord.unix().cache.getKeys() == []
    sections["cache"]["max_request_bytes"] = "2MB"
    with running(sections, "") as supervisord:
        assert typed(supervisord, "supervisor-cache import", stdin=exported)[0] == 0
        assert len(supervisord.unix().cache.fetch("numbers")) == 40_000


def test_import_draws_a_bar_on_a_terminal_alone(furnished: Supervisord, namespaces: Any, tmp_path: Path) -> None:
    path = tmp_path / "exported"
    path.write_text(lines_of(*({"key": f"k{number}", "value": 1, "note": f"n{number}"} for number in range(20))))
    status, output = on_terminal(furnished, f"supervisor-cache import {path}")
    assert status == 0
    assert "import  [" in output
    assert "100%" in output
    assert output.endswith("\nimport: 20 stored, 0 had expired\n")
    assert namespaces.cache.getCount() == 20
    summary = "import: 20 stored, 0 had expired\n"
    assert typed(furnished, f"supervisor-cache import {path}") == (0, "", summary)
    assert on_terminal(furnished, f"supervisor-cache import {path} 2> {tmp_path}/stderr") == (0, "")
    assert (tmp_path / "stderr").read_text() == summary


# config


@final
class Pasted(Supervisord):
    """A supervisord whose configuration file has of this package what `config` prints, and nothing else."""

    def write_configuration(self) -> None:
        super().write_configuration()
        text = self.configuration.read_text()
        own = re.search(r"\n\[ctlplugin:cache\]\n.*\n", text)
        assert own is not None
        self.configuration.write_text(text.replace(own[0], "", 1))


@pytest.mark.parametrize(("options", "name"), [("", "cache"), ("--namespace my-ns", "my-ns")])
def test_the_sections_that_config_prints_make_a_supervisord_with_the_cache(options: str, name: str) -> None:
    status, output, complaint = typed(None, f"supervisor-cache {options} config")
    assert (status, complaint) == (0, "")
    with contextlib.closing(Pasted(sections={}, more=f"\n{output}")) as supervisord:
        supervisord.start()
        assert typed(supervisord, f"supervisor-cache {options} store k v") == (0, "", "")
        assert supervisord.ctl(f"{name.replace('-', '_')}_fetch", "k").stdout == "'v'\n"
        assert typed(None, f"supervisor-cache config --check {supervisord.configuration}") == (
            0, f"[rpcinterface:{name}] is all right: storage memory\n", ""
        )  # fmt: skip
        # Each option that it shows as a comment is one that there is.
        uncommented = re.sub(r"(?m)^;(?=[a-z_]+ = )(?!storage)", "", output)
        assert uncommented.count("max_entries") == 1
        supervisord.more = f"\n{uncommented}"
        supervisord.reload()
        assert typed(None, f"supervisor-cache config --check {supervisord.configuration}")[0] == 0
        assert getattr(supervisord.unix(), name).getStats()["settings_error"] == ""
        assert getattr(supervisord.unix(), name).getStats()["read_only"] == ["inet_http_server"]


SECTION = (
    "[rpcinterface:cache]\nsupervisor.rpcinterface_factory = supervisor_cache.rpcinterface:make_cache_rpcinterface\n"
)
PLUGIN = "[ctlplugin:cache]\nsupervisor.ctl_factory = supervisor_cache.controllerplugin:make_cache_controllerplugin\n"
BASE = (
    "[unix_http_server]\nfile = %(here)s/s.sock\n"
    "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
)
FINE = "[rpcinterface:cache] is all right: storage memory\n"


@pytest.mark.parametrize(
    ("content", "status", "output", "complaints"),
    [
        (f"{BASE}{SECTION}{PLUGIN}", 0, FINE, []),
        (f"{BASE}{SECTION}max_entries = 5 ; five\n{PLUGIN}", 0, FINE, []),
        (
            f"{BASE}{SECTION}storage = sqlite:c.db\n{PLUGIN}", 0,
            "[rpcinterface:cache] is all right: storage {folder}/c.db\n", [],
        ),
        (f"{BASE}{SECTION}", 0, FINE, ["note: no [ctlplugin:...] section: supervisorctl will have no cache_ commands"]),
        (f"{BASE}{PLUGIN}", 1, "", ["ERROR (no section has supervisor.rpcinterface_factory = "]),
        (BASE, 1, "", ["ERROR (no section has supervisor.rpcinterface_factory = ", "note: no [ctlplugin:...] section"]),
        (f"{SECTION}{PLUGIN}", 1, "", ["ERROR (neither [unix_http_server] nor [inet_http_server]: without one "]),
        (
            f"[inet_http_server]\nport = 9001\n{SECTION}{PLUGIN}", 1, "",
            ["ERROR (there is no [rpcinterface:supervisor]: supervisorctl needs it)"],
        ),
        (
            f"{BASE}{SECTION}max_entires = 5\nmax_value_bytes = many\nread_only = nowhere\n{PLUGIN}", 1, "",
            [
                "ERROR ([rpcinterface:cache] max_entires = '5': ",
                "ERROR ([rpcinterface:cache] max_value_bytes = 'many'",
                "ERROR ([rpcinterface:cache] read_only = 'nowhere'",
            ],
        ),
        (
            f"{BASE}{SECTION}{PLUGIN}namespace = fleet\n", 1, "",
            ["ERROR ([ctlplugin:cache] namespace = 'fleet': there is no [rpcinterface:fleet] of the cache)"],
        ),
        (
            f"{BASE}{SECTION}{PLUGIN}colour = red\n", 1, "",
            ["ERROR ([ctlplugin:cache] colour = 'red': unknown option; known is namespace)"],
        ),
        (
            f"{BASE}{SECTION}storage = sqlite:none/c.db\n{PLUGIN}", 1, "",
            ["ERROR ([rpcinterface:cache] storage = 'sqlite:{folder}/none/c.db': the folder: No such file"],
        ),
        (
            f"{BASE}{SECTION}storage = sqlite:c.db\n{SECTION.replace('cache]', 'two]')}storage = sqlite:c.db\n{PLUGIN}",
            1, "", ["ERROR ([rpcinterface:two] storage = 'sqlite:{folder}/c.db': [rpcinterface:cache] has this file; "],
        ),
        (
            f"{BASE}{SECTION}publish = web:*\n{PLUGIN}[program:web]\ncommand = x\n", 0, FINE, [],
        ),
        (
            f"{BASE}{SECTION}publish = web:web\n{PLUGIN}[program:web]\ncommand = x\n", 0, FINE,
            ["note: [program:web] has no stdout_capture_maxbytes, which publishing in cache needs"],
        ),
        (
            f"{BASE}{SECTION}max_value_bytes = 2MB\n{PLUGIN}", 0, FINE,
            ["note: [rpcinterface:cache] max_value_bytes is above max_request_bytes, which comes first"],
        ),
        (
            f"{BASE}{SECTION.replace('rpcinterface:make_cache', 'rpc:make_cache')}{PLUGIN}", 1, "",
            [
                "ERROR ([rpcinterface:cache] supervisor.rpcinterface_factory = 'supervisor_cache.rpc:make_cache_",
                "ERROR (no section has supervisor.rpcinterface_factory = ",
            ],
        ),
        (
            f"{BASE}{SECTION}{PLUGIN.replace('controllerplugin:make', 'plugin:make')}", 1, "",
            [
                "ERROR ([ctlplugin:cache] supervisor.ctl_factory = 'supervisor_cache.plugin:make_cache_control",
                "note: no [ctlplugin:...] section",
            ],
        ),
        (
            f"{BASE}{SECTION.replace('[rpcinterface:', '[interface:')}{PLUGIN}", 1, "",
            ["ERROR ([interface:cache]: must be [rpcinterface:NAME])"],
        ),
        (
            f"{BASE}{SECTION}storage = %(nothing)s\n{PLUGIN}", 1, "",
            ["ERROR ([rpcinterface:cache] storage: nobody knows what %(nothing)s stands for)"],
        ),
        (
            f"{BASE}{SECTION}{PLUGIN}[eventlistener:x]\ncommand = x\nevents = TICK_5,CACHE_STORED\n", 1, "",
            ["ERROR ([eventlistener:x] events: there is no 'CACHE_STORED'; there are CACHE, CACHE_STORE, "],
        ),
        (
            f"{BASE}{SECTION}storage = sqlite:open/c.db\n{PLUGIN}", 1, "",
            ["ERROR ([rpcinterface:cache] storage = 'sqlite:{folder}/open/c.db': the folder can be written to by "],
        ),
        (f"{BASE}{SECTION}{PLUGIN}[include]\nfiles = none/*.conf\n", 0, FINE, [
            "note: [include] none/*.conf: matches no file",
        ]),
        (f"{BASE}{SECTION}{PLUGIN}[include]\nfiles = conf.d/good.conf\n", 0, FINE + FINE.replace("cache", "good"), []),
        (f"{BASE}{SECTION}{PLUGIN}[include]\nfiles = %(here)s/conf.d/*.conf\n", 1, "", [
            "ERROR ([rpcinterface:bad] max_entries = '-1'", "ERROR ([ctlplugin:lost] stands in ",
        ]),
    ],
)  # fmt: skip
def test_config_check_tells_what_is_wrong(
    tmp_path: Path, content: str, status: int, output: str, complaints: list[str]
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "good.conf").write_text(SECTION.replace("cache]", "good]"))
    (tmp_path / "conf.d" / "bad.conf").write_text(f"{SECTION.replace('cache]', 'bad]')}max_entries = -1\n")
    (tmp_path / "conf.d" / "lost.conf").write_text(PLUGIN.replace("cache]", "lost]"))
    path = tmp_path / "supervisord.conf"
    path.write_text(f"[supervisord]\n{content}")
    ended = typed(None, f"supervisor-cache config --check {path}")
    assert ended[:2] == (status, output.replace("{folder}", str(tmp_path)))
    lines = ended[2].splitlines()
    assert len(lines) == len(complaints)
    for line, complaint in zip(lines, complaints, strict=True):
        assert line.startswith(f"{path}: {complaint.replace('{folder}', str(tmp_path))}")


def test_config_check_tells_that_supervisord_would_not_start_without_its_section(tmp_path: Path) -> None:
    path = tmp_path / "supervisord.conf"
    path.write_text(f"{BASE}{SECTION}{PLUGIN}")
    status, output, complaints = typed(None, f"supervisor-cache config --check {path}")
    assert (status, output) == (1, "")
    assert "ERROR (there is no [supervisord] section: supervisord does not start without)" in complaints


def test_config_check_of_no_configuration_file_has_status_2(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\x1b[2J nonsense")
    (tmp_path / "bytes").write_bytes(b"[a]\nb=\xff\n")
    for name, reason in (
        ("none", "No such file or directory"), ("", "Is a directory"), ("bytes", "not UTF-8"),
        ("text", "File contains no section headers. "),
    ):  # fmt: skip
        status, output, complaint = typed(None, f"supervisor-cache config --check '{tmp_path}/{name}'")
        assert (status, output, complaint.count("\n")) == (2, "", 1)
        assert complaint.startswith(f"config: ERROR ({tmp_path}/{name}: {reason}")
        assert complaint[:-1].isprintable()
