"""Processes publish markers about themselves by printing them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartSupervisord
from tests.harness import STORAGE, Supervisord, program, settle, until

PRINTER = Path(__file__).with_name("printer.py")
PREFIX = "process/pub:pub/"


NOTHING = '{"delete": []}'


def message(body: str, namespace: str = "cache", padding: int = 0) -> str:
    return f"<!--XSUPERVISOR:BEGIN-->{namespace} {body}{' ' * padding}<!--XSUPERVISOR:END-->"


class Printer:
    """A supervisord with a process ``pub:pub`` that prints what the test has it print."""

    def __init__(self, start: StartSupervisord, publish: str = "pub:*", capture: str = "1MB", **options: str) -> None:
        command = f"{sys.executable} {PRINTER} %(here)s/say"
        lines = program("pub", command, stdout_capture_maxbytes=capture) + program("other", command + ".other")
        self.supervisord: Supervisord = start({"cache": {"publish": publish, **options}, "second": {}}, lines)
        (self.supervisord.folder / "say").mkdir()
        self._said = 0

    @property
    def cache(self) -> Any:
        return self.supervisord.unix().cache

    def say(self, *texts: str) -> None:
        """Have the process print ``texts`` in one write, and wait until it has."""
        path = self.supervisord.folder / "say" / f"{self._said:03}"
        path.with_suffix(".new").write_text("".join(texts), errors="surrogateescape")
        path.with_suffix(".new").rename(path)
        self._said += 1
        until(lambda: not path.exists(), "the process prints")

    def published(self) -> dict[str, Any]:
        items: dict[str, Any] = self.cache.getItems()
        return {key.removeprefix(PREFIX): value for key, value in items.items()}

    def counts(self) -> tuple[float, float]:
        stats = self.cache.getStats()
        return stats["published"], stats["publications_dropped"]

    def until_counted(self, published: int, dropped: int) -> None:
        until(lambda: self.counts() == (published, dropped), f"{published} published, {dropped} dropped")


def test_what_a_process_prints_between_the_marks_is_stored_below_its_name_and_owned_by_it(
    start: StartSupervisord,
) -> None:
    printer = Printer(start)
    printer.say("before", message('{"store": {"status": "warming", "pct": 40, "a/b": [1, {"ö": null}]}}'))
    printer.until_counted(0, 1)
    printer.say(message('{"store": {"status": "warming", "pct": 40, "a/b": [1, {"ö": 2.5}]}}'), "after")
    until(printer.published, "it is published")
    assert printer.published() == {"status": "warming", "pct": 40, "a/b": [1, {"ö": 2.5}]}
    entry = printer.cache.getEntry(PREFIX + "status")
    assert (entry["owner"], entry["expires"]) == ("pub:pub", 0)
    assert {change["via"] for change in changes(printer)} == {"pub:pub"}


def changes(printer: Printer) -> list[dict[str, Any]]:
    cache = printer.cache
    settle(cache)
    found: list[dict[str, Any]] = cache.getChanges(cache.getStats()["history"]["since"])
    return found


def test_a_publication_replaces_and_deletes_there_alone_in_one_revision(start: StartSupervisord) -> None:
    printer = Printer(start)
    printer.cache.store("status", "not the process's")
    printer.say(message('{"store": {"status": 1, "old": 1}}'))
    printer.until_counted(1, 0)
    printer.say(message('{"store": {"status": 2}, "delete": ["old", "never"]}'))
    printer.until_counted(2, 0)
    assert printer.cache.getItems() == {"status": "not the process's", PREFIX + "status": 2}
    last = changes(printer)[-2:]
    assert {change["revision"] for change in last} == {printer.cache.getRevision()}
    assert sorted((change["kind"], change["key"]) for change in last) == [
        ("delete", PREFIX + "old"),
        ("store", PREFIX + "status"),
    ]


def test_what_was_published_by_a_process_that_ended_is_gone(start: StartSupervisord) -> None:
    printer = Printer(start)
    printer.say(message('{"store": {"status": "ready"}}'))
    until(printer.published, "it is published")
    printer.supervisord.unix().supervisor.stopProcess("pub")
    assert printer.published() == {}
    assert changes(printer)[-1]["kind"] == "release"


def test_the_last_words_of_a_process_that_is_being_stopped_are_published_until_it_ends(
    start: StartSupervisord, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text(
        'JSON=\'{"store": {"status": "draining"}}\'\n'
        f"trap 'printf %s \"{message('$JSON')}\"; sleep 2; exit' TERM\n"
        f"printf '%s' '{message(NOTHING)}'\n"
        "while :; do sleep 0.1; done\n"
    )
    supervisord = start(
        {"cache": {"publish": "pub:*"}},
        program("pub", f"/bin/sh {script}", stdout_capture_maxbytes="1MB", stopsignal="TERM"),
    )
    until(lambda: supervisord.unix().cache.getStats()["published"] == 1, "its trap is set")
    supervisord.unix().supervisor.stopProcess("pub", False)  # noqa: FBT003 - whether to wait
    until(lambda: supervisord.unix().cache.getItems() == {PREFIX + "status": "draining"}, "the last words arrive")
    assert supervisord.unix().supervisor.getProcessInfo("pub")["statename"] == "STOPPING"
    until(lambda: supervisord.unix().cache.getItems() == {}, "they end with the process")


DROPPED = {
    "no JSON": '{"store"',
    "cut off": '{"store": {"status": "war',
    "an array": '["store"]',
    "a string": '"store"',
    "nothing": "",
    "an empty object": "{}",
    "another name": '{"store": {"a": 1}, "ttl": 5}',
    "store is no object": '{"store": ["a"]}',
    "delete is no array": '{"delete": "a"}',
    "delete of a number": '{"delete": [1]}',
    "nil": '{"store": {"a": null}}',
    "a large integer": '{"store": {"a": 3000000000}}',
    "not a number": '{"store": {"a": NaN}}',
    "twice": '{"store": {"a": 1, "a": 2}}',
    "stored and deleted": '{"store": {"a": 1}, "delete": ["a"]}',
    "an empty key": '{"store": {"": 1}}',
    "a key that leads out": '{"store": {"../other:other/status": 1}}',
    "a key with an empty segment": '{"store": {"a//b": 1}}',
    "a deleted key that leads out": '{"delete": ["./a"]}',
    "a key with a line end": '{"store": {"a\\nb": 1}}',
    "a long key": json.dumps({"store": {"k" * 2000: 1}}),
    "too many entries": json.dumps({"store": {str(number): 1 for number in range(101)}}),
    "too many bytes": json.dumps({"store": {str(number): "x" * 7000 for number in range(10)}}),
    "a large message": json.dumps({"store": {"a": "x" * 70_000}}),
    "deep": json.dumps({"store": {"a": 1}})[:-1] + ', "delete": ' + "[" * 5000 + "]" * 5000 + "}",
    "text in Latin 1": '{"store": {"a": "\udce9"}}',
}


@pytest.mark.parametrize("body", DROPPED.values(), ids=DROPPED)
def test_what_cannot_be_published_is_dropped_counted_and_logged_once(start: StartSupervisord, body: str) -> None:
    printer = Printer(start)
    printer.say(message('{"store": {"status": "ready"}}'))
    printer.until_counted(1, 0)
    for _ in range(2):
        printer.say(message(body) if body else "<!--XSUPERVISOR:BEGIN-->cache <!--XSUPERVISOR:END-->")
    printer.until_counted(1, 2)
    assert printer.published() == {"status": "ready"}
    assert printer.supervisord.log.count("dropped what 'pub:pub'") == 1
    assert printer.supervisord.unix().supervisor.getProcessInfo("pub")["statename"] == "RUNNING"


def test_a_process_that_is_not_named_publishes_nothing(start: StartSupervisord) -> None:
    printer = Printer(start, publish="other:*")
    printer.say(message('{"store": {"status": "ready"}}'))
    printer.until_counted(0, 1)
    printer.say(message('{"store": {"status": "ready"}}', namespace="second"))
    until(lambda: printer.supervisord.unix().second.getStats()["publications_dropped"] == 1, "it is counted")
    assert printer.published() == {}
    assert "dropped what 'pub:pub'" in printer.supervisord.log
    assert "option publish names 'other:other', which has no stdout_capture_maxbytes" in printer.supervisord.log


def test_messages_for_others_are_left_alone(start: StartSupervisord) -> None:
    printer = Printer(start)
    printer.say("<!--XSUPERVISOR:BEGIN-->any other message<!--XSUPERVISOR:END-->", message("{}", namespace="third"))
    printer.say(message('{"store": {"status": "ready"}}'))
    printer.until_counted(1, 0)
    assert "dropped what" not in printer.supervisord.log


def test_a_message_that_the_capture_has_cut_off_is_dropped_and_said(start: StartSupervisord) -> None:
    printer = Printer(start, capture="4KB")
    whole = message(json.dumps({"store": {"a": "x" * 6000}}))
    printer.say(whole[:3000])
    printer.say(whole[3000:])
    printer.until_counted(0, 1)
    assert "a message that stdout_capture_maxbytes has cut off" in printer.supervisord.log
    printer.say(message('{"store": {"status": "ready"}}'))
    printer.until_counted(1, 1)


def test_a_hundred_entries_are_the_most_over_all_messages(start: StartSupervisord) -> None:
    printer = Printer(start)
    printer.say(message(json.dumps({"store": {str(number): 1 for number in range(100)}})))
    printer.until_counted(1, 0)
    printer.say(message('{"store": {"one more": 1}}'))
    printer.until_counted(1, 1)
    printer.say(message('{"store": {"one more": 1}, "delete": ["99"]}'))
    printer.until_counted(2, 1)
    assert len(printer.published()) == 100


def test_more_than_so_many_a_second_are_dropped(start: StartSupervisord) -> None:
    printer = Printer(start)
    printer.say(*(message(json.dumps({"store": {"number": number}}), padding=300) for number in range(200)))
    until(lambda: sum(printer.counts()) == 200, "all are counted")
    published, dropped = printer.counts()
    assert 20 <= published <= 60
    assert dropped >= 140
    assert printer.supervisord.log.count("dropped what 'pub:pub'") == 1
    assert "more than 20 messages a second" in printer.supervisord.log
    printer.supervisord.unix().supervisor.stopProcess("pub")
    printer.supervisord.unix().supervisor.startProcess("pub")
    printer.say(message('{"store": {"status": "another life"}}'))
    until(lambda: printer.published() == {"status": "another life"}, "another life has its own allowance")


def test_the_limits_of_the_cache_hold_for_what_is_published(start: StartSupervisord) -> None:
    printer = Printer(start, max_entries="2")
    printer.say(message('{"store": {"a": 1, "b": 1, "c": 1}}'))
    printer.until_counted(0, 1)
    assert "LIMIT_EXCEEDED: there would be 3 entries; max_entries is 2" in printer.supervisord.log


def test_publish_prints_what_arrives(start: StartSupervisord, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from supervisor_cache import publish\n"
        "for number in range(30):\n"
        "    assert publish({'number': number, 'text': '<!--XSUPERVISOR:END-->', 'ö': [True, 1.5]}, delete=['gone'])\n"
        "assert publish() is False\n"
        "publish({'done': True})\n"
        "time.sleep(1000)\n"
    )
    lines = program("pub", f"{sys.executable} {script}", stdout_capture_maxbytes="64KB")
    supervisord = start({"cache": {"publish": "pub:pub"}}, lines)
    until(lambda: PREFIX + "done" in supervisord.unix().cache.getKeys(), "all is published")
    items = supervisord.unix().cache.getItems()
    assert items == {
        PREFIX + "number": 29,
        PREFIX + "text": "<!--XSUPERVISOR:END-->",
        PREFIX + "ö": [True, 1.5],
        PREFIX + "done": True,
    }
    stats = supervisord.unix().cache.getStats()
    assert (stats["published"], stats["publications_dropped"]) == (31, 0)


def test_nobody_publishes_to_a_section_that_was_taken_out(start: StartSupervisord) -> None:
    printer = Printer(start)
    printer.say(message('{"store": {"status": 1}}'))
    printer.until_counted(1, 0)
    section = printer.supervisord.sections.pop("cache")
    printer.supervisord.reload()
    printer.say(message('{"store": {"status": 2}}'))
    printer.say("and more, for Supervisor keeps the end back")
    printer.supervisord.sections["cache"] = section
    printer.supervisord.reload()
    # With a database the section's counters go, and its entries stay.
    assert printer.counts() == ((1, 0) if STORAGE == "memory" else (0, 0))
    if STORAGE == "etcd":
        # The history begins anew as well.
        assert (changes(printer), printer.published()) == ([], {})
    else:
        assert [change["kind"] for change in changes(printer)] == ["store", "release"]


def test_another_reason_is_said_after_a_reload(start: StartSupervisord) -> None:
    printer = Printer(start, publish="other:*")
    printer.say(message("{}"))
    printer.until_counted(0, 1)
    printer.supervisord.sections["cache"]["publish"] = "pub:*"
    printer.supervisord.reload()
    printer.say(message("{}"))
    printer.until_counted(0, 2)
    assert "publishes: option publish does not name it" in printer.supervisord.log
    assert 'publishes: BAD_ARGUMENTS: a publication is an object with "store"' in printer.supervisord.log
