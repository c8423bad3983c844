"""``storage = sqlite:PATH`` in a real supervisord: restarts, reloads, and what is carried over."""

import os
import signal
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest

from tests.conftest import StartSupervisord
from tests.database import assert_integrity, assert_serves, rows
from tests.harness import Supervisord, program, until

SECTION = {"storage": "sqlite:cache.db"}


def database(supervisord: Supervisord) -> Path:
    return supervisord.folder / "cache.db"


def restart(supervisord: Supervisord, *, kill: bool = False) -> Any:
    if kill:
        supervisord.kill()
    else:
        supervisord.stop()
    return supervisord.start().unix().cache


@pytest.fixture
def supervisord(start: StartSupervisord) -> Supervisord:
    return start({"cache": SECTION}, more=program("sleeper"))


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemonized"])
def test_a_restart_keeps_entries_and_history(start: StartSupervisord, kill: bool, daemon: bool) -> None:
    supervisord = start({"cache": SECTION}, daemon=daemon)
    cache = supervisord.unix().cache
    values = {"a": "text \u00e4 \U0001f600 \n", "b": 5, "c": -1.5, "d": True, "e": [1, ["x"], {}], "f": {"n": [""]}}
    for key, value in values.items():
        cache.store(key, value, {"note": f"note of {key}"})
    cache.store("gone", 1)
    before = cache.getRevision()
    cache.delete("gone", {"note": "not needed"})
    entries, changes = cache.getEntries(), cache.getChanges(before)
    assert_serves(database(supervisord), cache)
    cache = restart(supervisord, kill=kill)
    assert cache.getItems() == values
    assert cache.getEntries() == entries
    assert cache.getChanges(before) == changes
    assert [change["kind"] for change in changes] == ["delete"]
    newest = int(cache.getRevision())
    assert newest > int(changes[-1]["revision"])
    cache.store("a", "new")
    assert int(cache.getEntry("a")["revision"]) > newest
    assert_serves(database(supervisord), cache)
    assert cache.getStats()["storage"]["state"] == "ok"


def test_a_clean_stop_leaves_one_file_and_the_generation(supervisord: Supervisord) -> None:
    supervisord.unix().cache.store("k", "v")
    assert {path.name for path in supervisord.folder.glob("cache.db*")} == {
        "cache.db",
        "cache.db-wal",
        "cache.db-shm",
        "cache.db-generation",
    }
    for path in supervisord.folder.glob("cache.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    supervisord.stop()
    assert {path.name for path in supervisord.folder.glob("cache.db*")} == {"cache.db", "cache.db-generation"}
    assert_integrity(database(supervisord))


def test_a_ttl_runs_on_across_a_restart(supervisord: Supervisord) -> None:
    cache = supervisord.unix().cache
    cache.store("short", 1, {"ttl": 1.5})
    cache.store("long", 1, {"ttl": 3600})
    expires = cache.getEntry("long")["expires"]
    before = cache.getRevision()
    supervisord.stop()
    time.sleep(1.5)
    cache = supervisord.start().unix().cache
    assert cache.getKeys() == ["long"]
    assert cache.getEntry("long")["expires"] == pytest.approx(expires, abs=0.1)
    assert [(change["kind"], change["key"]) for change in cache.getChanges(before)] == [("expire", "short")]
    assert_serves(database(supervisord), cache)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_what_processes_owned_is_gone_after_a_restart(supervisord: Supervisord, kill: bool) -> None:
    cache = supervisord.unix().cache
    until(lambda: supervisord.process("sleeper")["statename"] == "RUNNING", "sleeper runs")
    sleeper = supervisord.process("sleeper")["pid"]
    cache.store("leader", "me", {"owner": "sleeper"})
    cache.store("free", 1)
    before = cache.getRevision()
    assert rows(database(supervisord), "SELECT owner, pid FROM entries WHERE key = 'leader'") == [
        ("sleeper:sleeper", sleeper)
    ]
    cache = restart(supervisord, kill=kill)
    if kill:
        os.kill(sleeper, signal.SIGKILL)
    assert cache.getKeys() == ["free"]
    assert [(change["kind"], change["key"]) for change in cache.getChanges(before)] == [("release", "leader")]
    assert_serves(database(supervisord), cache)


def test_a_reload_keeps_all_of_it_and_goes_on_writing(supervisord: Supervisord) -> None:
    cache = supervisord.unix().cache
    cache.store("k", "before")
    before = cache.getRevision()
    supervisord.reload()
    cache = supervisord.unix().cache
    assert cache.fetch("k") == "before"
    assert cache.getChanges(before) == []
    cache.store("k", "after")
    assert_serves(database(supervisord), cache)
    assert restart(supervisord, kill=True).fetch("k") == "after"


def test_a_reload_carries_memory_into_a_new_database(start: StartSupervisord) -> None:
    supervisord = start()
    cache = supervisord.unix().cache
    cache.store("k", ["v"], {"note": "before", "ttl": 3600})
    cache.store("l", 1)
    entries, since = cache.getEntries(), cache.getEntry("k")["revision"]
    supervisord.sections["cache"] = dict(SECTION)
    supervisord.reload()
    cache = supervisord.unix().cache
    assert cache.getEntries() == entries
    assert [change["key"] for change in cache.getChanges(since)] == ["l"]
    assert_serves(database(supervisord), cache)
    cache = restart(supervisord, kill=True)
    assert cache.getItems() == {"k": ["v"], "l": 1}
    assert "of the former are dropped" not in supervisord.log


def test_a_reload_into_a_database_with_entries_drops_those_of_memory(start: StartSupervisord) -> None:
    supervisord = start({"cache": SECTION})
    supervisord.unix().cache.store("stored", 1)
    supervisord.stop()
    supervisord.sections["cache"] = {}
    cache = supervisord.start().unix().cache
    cache.storeMany({"a": 1, "b": 2})
    since = cache.getRevision()
    supervisord.sections["cache"] = dict(SECTION)
    supervisord.reload()
    cache = supervisord.unix().cache
    assert cache.getItems() == {"stored": 1}
    assert "2 entries of the former are dropped" in supervisord.log
    # Who follows the changes has to start over.
    assert cache.wait(since, 0)["changed"] is True
    assert_serves(database(supervisord), cache)


def test_a_reload_back_to_memory_leaves_the_database_alone(supervisord: Supervisord) -> None:
    supervisord.unix().cache.store("k", 1)
    supervisord.sections["cache"] = {}
    supervisord.reload()
    cache = supervisord.unix().cache
    assert cache.getKeys() == []
    assert "1 entries of the former are dropped" in supervisord.log
    assert cache.getStats()["storage"] == {"kind": "memory", "state": "ok", "detail": ""}
    cache.store("m", 1)
    assert rows(database(supervisord), "SELECT key FROM entries") == [("k",)]
    supervisord.sections["cache"] = dict(SECTION)
    supervisord.reload()
    assert supervisord.unix().cache.getKeys() == ["k"]


def test_a_section_that_is_taken_out_leaves_its_entries_in_its_file(start: StartSupervisord) -> None:
    supervisord = start({"cache": {}, "kept": SECTION})
    supervisord.unix().kept.store("k", 1)
    del supervisord.sections["kept"]
    supervisord.reload()
    assert "its 1 entries stay in" in supervisord.log
    supervisord.sections["other"] = dict(SECTION)
    supervisord.reload()
    assert supervisord.unix().other.getItems() == {"k": 1}


def test_mode_and_owner_are_those_of_the_section(start: StartSupervisord) -> None:
    supervisord = start({"cache": {**SECTION, "chmod": "0644", "chown": f"{os.geteuid()}:{os.getegid()}"}})
    supervisord.unix().cache.store("k", "v")
    files = list(supervisord.folder.glob("cache.db*"))
    assert len(files) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}
    supervisord.sections["cache"]["chmod"] = "0640"
    supervisord.reload()
    supervisord.unix().cache.store("k", "w")
    assert {stat.S_IMODE(path.stat().st_mode) for path in supervisord.folder.glob("cache.db*")} == {0o640}


@pytest.mark.tracebacks
def test_one_file_in_two_sections_stops_supervisord_at_start(make_supervisord: StartSupervisord) -> None:
    supervisord = make_supervisord({"one": SECTION, "two": {"storage": "sqlite:./x/../cache.db"}})
    (supervisord.folder / "x").mkdir()
    ended = supervisord.run()
    assert ended.returncode != 0
    assert "[rpcinterface:two] storage = 'sqlite:./x/../cache.db': [rpcinterface:one] has this file" in ended.stderr


def test_one_file_in_two_sections_at_a_reload_keeps_what_was(start: StartSupervisord) -> None:
    supervisord = start({"one": SECTION, "two": {}})
    supervisord.unix().one.store("k", 1)
    supervisord.unix().two.store("k", 2)
    supervisord.sections["two"] = dict(SECTION)
    supervisord.reload()
    assert supervisord.unix().one.fetch("k") == 1
    assert supervisord.unix().two.fetch("k") == 2
    assert "has this file" in supervisord.unix().two.getStats()["settings_error"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("storage", "sqlite"),
        ("storage", "sqlite:"),
        ("storage", "sqlite:/tmp/"),
        ("storage", "redis:/x"),
        ("synchronous", "off"),
        ("chmod", "0666"),
        ("chmod", "0400"),
        ("chmod", "0755"),
        ("chmod", "rw"),
        ("chmod", "99999"),
        ("chown", "nobody-of-that-name"),
        ("chown", "root:no-such-group"),
        ("chown", ":"),
        ("chown", "99999999999999999999"),
        ("chown", f"{os.geteuid()}:{2**32 - 1}"),
    ],
)
@pytest.mark.tracebacks
def test_a_wrong_option_stops_supervisord_at_start(make_supervisord: StartSupervisord, option: str, value: str) -> None:
    ended = make_supervisord({"cache": {option: value}}).run()
    assert ended.returncode != 0
    assert f"Error: [rpcinterface:cache] {option} = {value!r}: must be " in ended.stderr


def test_full_synchronisation_can_be_asked_for(start: StartSupervisord) -> None:
    supervisord = start({"cache": {**SECTION, "synchronous": "full"}})
    cache = supervisord.unix().cache
    cache.store("k", "v")
    assert_serves(database(supervisord), cache)


def test_what_no_client_could_have_stored_is_skipped_and_counted(supervisord: Supervisord) -> None:
    supervisord.unix().cache.store("good", 1)
    supervisord.stop()
    bad = [
        ("nil", "null"),
        ("large", "99999999999"),
        ("json", "{"),
        ("line\nbreak", "1"),
        ("bytes", b"\xff"),
        ("deep", "[" * 40 + "]" * 40),
    ]
    connection = sqlite3.connect(database(supervisord))
    with connection:
        for key, value in bad:
            connection.execute("INSERT INTO entries VALUES (?, ?, 5, 1.0, 0, '', 0, '')", (key, value))
        connection.execute("INSERT INTO entries VALUES ('when', '1', 5, 1.0, 9e999, '', 0, '')")
    connection.close()
    cache = supervisord.start().unix().cache
    assert cache.getItems() == {"good": 1}
    assert cache.getStats()["storage"]["skipped"] == len(bad) + 1
    assert supervisord.log.count("stored entries can be none") == 1
    cache.store("nil", "mended")
    assert restart(supervisord).getItems() == {"good": 1, "nil": "mended"}


def test_history_goes_on_where_no_entries_are_left(supervisord: Supervisord) -> None:
    cache = supervisord.unix().cache
    cache.store("k", 1)
    since = cache.getEntry("k")["revision"]
    cache.delete("k")
    cache = restart(supervisord)
    assert [change["kind"] for change in cache.getChanges(since)] == ["delete"]


def test_a_commit_of_thousands_is_the_beginning_of_the_history(supervisord: Supervisord) -> None:
    cache = supervisord.unix().cache
    since = cache.getRevision()
    many = cache.storeMany({f"many/{number}": number for number in range(3000)})
    cache.store("k", 1)
    cache = restart(supervisord, kill=True)
    with pytest.raises(Fault, match="HISTORY_GONE"):
        cache.getChanges(since)
    assert [change["key"] for change in cache.getChanges(many)] == ["k"]
    assert cache.getCount() == 3001


def test_what_the_history_has_dropped_is_dropped_here_too(start: StartSupervisord) -> None:
    supervisord = start({"cache": {**SECTION, "max_changes": "100"}})
    cache = supervisord.unix().cache
    for number in range(1500):
        cache.store(f"k{number % 3}", number)
    assert rows(database(supervisord), "SELECT count(*) FROM changes")[0][0] < 700
    assert len(cache.getChanges(cache.getStats()["history"]["since"])) == 100
    assert_serves(database(supervisord), cache)


def test_another_supervisords_writes_in_between_count(start: StartSupervisord) -> None:
    """A reload lets go of the file; who gets it first is answered, and what it acknowledged is kept."""
    one = start({"cache": SECTION})
    one.unix().cache.store("k", "one")
    two = start({"cache": {"storage": f"sqlite:{database(one)}"}})
    one.sections["cache"] = {}
    one.reload()
    until(lambda: two.unix().cache.getStats()["storage"]["state"] == "ok", "the other one has it")
    assert two.unix().cache.fetch("k") == "one"
    two.unix().cache.store("k", "two")
    two.stop()
    one.sections["cache"] = dict(SECTION)
    one.reload()
    assert one.unix().cache.fetch("k") == "two"


BAD_CHANGES = [
    ("abc", "store", "k", 1.0, ""),
    (2**63 - 1, "store", "k", 1.0, ""),
    (5, "store", b"k", 1.0, ""),
    (5, "store", "k", "zz", ""),
    (5, "store", "k", 1.0, "\x01"),
    (5, 5, "k", 1.0, ""),
]


@pytest.mark.parametrize("bad", BAD_CHANGES, ids=str)
def test_changes_that_are_none_are_not_told(supervisord: Supervisord, bad: tuple[object, ...]) -> None:
    cache = supervisord.unix().cache
    cache.store("k", 1)
    supervisord.stop()
    revision, kind, key, moment, note = bad
    connection = sqlite3.connect(database(supervisord))
    with connection:
        connection.execute("INSERT INTO changes VALUES (?, 0, ?, ?, ?, ?, '')", (revision, kind, key, moment, note))
        connection.execute("INSERT INTO entries VALUES ('text', CAST(x'22ff22' AS TEXT), 5, 1.0, 0, '', 0, '')")
        connection.execute("INSERT INTO entries VALUES ('new', '1', 9223372036854775807, 1.0, 0, '', 0, '')")
    connection.close()
    cache = supervisord.start().unix().cache
    assert cache.getItems() == {"k": 1}
    told = cache.getStats()
    assert (told["storage"]["state"], told["storage"]["skipped"]) == ("ok", 2)
    for change in cache.getChanges(told["history"]["since"]):
        assert change["key"] == "k"
    cache.store("text", "mended")
    assert cache.getStats()["storage"]["skipped"] == 1
    cache.clear()
    assert cache.getStats()["storage"]["skipped"] == 0
    assert restart(supervisord).getCount() == 0


def test_companions_that_a_kill_left_get_the_new_mode(supervisord: Supervisord) -> None:
    supervisord.unix().cache.store("k", "v")
    supervisord.kill()
    supervisord.sections["cache"]["chmod"] = "0644"
    supervisord.start().unix().cache.store("k", "w")
    assert {stat.S_IMODE(path.stat().st_mode) for path in supervisord.folder.glob("cache.db*")} == {0o644}


def test_a_kept_section_keeps_its_file_from_a_new_one(start: StartSupervisord) -> None:
    supervisord = start({"one": {"storage": "sqlite:a.db"}, "two": {"storage": "sqlite:b.db"}})
    supervisord.unix().one.store("k", 1)
    supervisord.unix().two.store("k", 2)
    supervisord.sections["one"] = {"storage": "nonsense"}
    supervisord.sections["two"] = {"storage": "sqlite:a.db"}
    supervisord.sections["three"] = {"storage": "sqlite:b.db"}
    supervisord.reload()
    assert (supervisord.unix().one.fetch("k"), supervisord.unix().two.fetch("k")) == (1, 2)
    with pytest.raises(Fault, match="has this file"):
        supervisord.unix().three.getKeys()


def test_memory_survives_a_reload_to_a_path_that_cannot_be_used(start: StartSupervisord) -> None:
    supervisord = start()
    supervisord.unix().cache.store("k", 1)
    supervisord.sections["cache"] = {"storage": "sqlite:missing/cache.db"}
    supervisord.reload()
    with pytest.raises(Fault, match="UNAVAILABLE"):
        supervisord.unix().cache.fetch("k")
    supervisord.sections["cache"] = dict(SECTION)
    supervisord.reload()
    assert supervisord.unix().cache.getItems() == {"k": 1}
    supervisord.sections["cache"] = {"storage": "sqlite:missing/cache.db"}
    supervisord.reload()
    supervisord.sections["cache"] = {}
    supervisord.reload()
    # This time it was in a database, which is not the storage any more.
    assert supervisord.unix().cache.getItems() == {}


def test_memory_survives_a_reload_to_an_unusable_path_and_back(start: StartSupervisord) -> None:
    supervisord = start()
    supervisord.unix().cache.store("k", 1)
    supervisord.sections["cache"] = {"storage": "sqlite:missing/cache.db"}
    supervisord.reload()
    supervisord.sections["cache"] = {}
    supervisord.reload()
    assert supervisord.unix().cache.getItems() == {"k": 1}


def test_who_follows_the_changes_learns_of_another_storage(start: StartSupervisord) -> None:
    supervisord = start({"cache": SECTION})
    supervisord.unix().cache.store("stored", 1)
    supervisord.sections["cache"] = {}
    supervisord.reload()
    cache = supervisord.unix().cache
    cache.store("k", 1)
    cache.delete("k")
    since = cache.getRevision()
    supervisord.sections["cache"] = dict(SECTION)
    supervisord.reload()
    for _ in range(2):
        cache = supervisord.unix().cache
        assert cache.wait(since, 0)["changed"] is True
        with pytest.raises(Fault, match="HISTORY_GONE"):
            cache.getChanges(since)
        cache = restart(supervisord)


def test_two_sections_cannot_swap_into_one_file(start: StartSupervisord) -> None:
    supervisord = start({"one": {"storage": "sqlite:a.db"}, "two": {"storage": "sqlite:b.db"}})
    supervisord.unix().one.store("k", 1)
    supervisord.unix().two.store("k", 2)
    supervisord.sections["one"] = {"storage": "sqlite:b.db"}
    supervisord.reload()
    assert (supervisord.unix().one.fetch("k"), supervisord.unix().two.fetch("k")) == (1, 2)


def test_reloads_and_restarts_without_a_write_leave_the_history(supervisord: Supervisord) -> None:
    cache = supervisord.unix().cache
    cache.store("k", 1)
    since = cache.getEntry("k")["revision"]
    cache.store("k", 2)
    for _ in range(2):
        restart(supervisord)
        supervisord.reload()
        supervisord.reload()
        assert [change["key"] for change in supervisord.unix().cache.getChanges(since)] == ["k"]
    assert_serves(database(supervisord), supervisord.unix().cache)


def test_a_start_says_one_line(supervisord: Supervisord) -> None:
    lines = [line for line in supervisord.log.splitlines() if "supervisor_cache: " in line]
    assert len(lines) == 1
    assert "storage sqlite:" in lines[0]
