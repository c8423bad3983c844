"""One cache per section, whichever server is asked, for as long as supervisord lives."""

import pytest

from tests.conftest import StartSupervisord
from tests.harness import program


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemonized"])
def test_both_servers_see_the_same_data(start: StartSupervisord, daemon: bool) -> None:
    supervisord = start(daemon=daemon)
    assert supervisord.unix().cache.store("release", "2026.11.3") is True
    assert supervisord.inet().cache.fetch("release") == "2026.11.3"
    supervisord.inet().cache.delete("release")
    assert supervisord.unix().cache.getKeys() == []


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemonized"])
def test_a_reload_and_a_hang_up_keep_everything(start: StartSupervisord, daemon: bool) -> None:
    supervisord = start(more=program("sleeper"), daemon=daemon)
    supervisord.unix().cache.store("release", "2026.11.3", {"note": "ops: deploy"})
    entry = supervisord.unix().cache.getEntry("release")
    supervisord.reload()
    assert supervisord.inet().cache.getEntry("release") == entry
    supervisord.hang_up()
    assert supervisord.unix().cache.getEntry("release") == entry
    assert supervisord.unix().supervisor.getProcessInfo("sleeper")["statename"] == "RUNNING"


def test_revisions_grow_over_a_reload(start: StartSupervisord) -> None:
    supervisord = start()
    before = supervisord.unix().cache.storeMany({"a": 1})
    supervisord.reload()
    assert int(supervisord.unix().cache.storeMany({"a": 2})) == int(before) + 1


def test_two_sections_with_the_same_options_are_two_caches(start: StartSupervisord) -> None:
    supervisord = start({"one": {"max_entries": "5"}, "two": {"max_entries": "5"}})
    supervisord.unix().one.store("k", "of one")
    supervisord.inet().two.store("k", "of two")
    assert supervisord.inet().one.fetch("k") == "of one"
    assert supervisord.unix().two.fetch("k") == "of two"
    supervisord.unix().one.clear()
    assert supervisord.inet().two.getCount() == 1


def test_a_section_that_was_taken_out_keeps_its_entries_until_it_is_back(start: StartSupervisord) -> None:
    supervisord = start({"one": {}, "two": {}})
    supervisord.unix().two.store("k", "v")
    del supervisord.sections["two"]
    supervisord.reload()
    assert "two: no longer configured; its 1 entries are kept until supervisord ends" in supervisord.log
    assert "two.fetch" not in supervisord.unix().system.listMethods()
    supervisord.sections["two"] = {}
    supervisord.reload()
    assert supervisord.unix().two.fetch("k") == "v"


def test_a_section_that_comes_with_a_reload_works(start: StartSupervisord) -> None:
    supervisord = start({"one": {}})
    supervisord.unix().one.store("k", "v")
    supervisord.sections["two"] = {}
    supervisord.sections = dict(reversed(supervisord.sections.items()))
    supervisord.reload()
    assert supervisord.inet().one.fetch("k") == "v"
    assert supervisord.inet().two.getKeys() == []


def test_a_lower_limit_keeps_the_data_and_refuses_growth_with_one_warning(start: StartSupervisord) -> None:
    supervisord = start()
    supervisord.unix().cache.storeMany(dict.fromkeys("abcdef", "x" * 100))
    supervisord.sections["cache"] = {"max_entries": "3", "max_key_bytes": "1"}
    supervisord.reload()
    cache = supervisord.unix().cache
    assert cache.getCount() == 6
    assert supervisord.log.count("6 entries are stored, max_entries is 3") == 1
    assert cache.store("a", "overwritten") is True
    with pytest.raises(Exception, match="LIMIT_EXCEEDED: there would be 7 entries; max_entries is 3"):
        cache.store("g", "new")
    for key in "abcd":
        cache.delete(key)
    assert cache.store("g", "new") is True
