"""Changes as events for event listeners."""

import json
import sys
from pathlib import Path
from urllib.parse import unquote

from tests.conftest import StartSupervisord
from tests.harness import Supervisord, until

LISTENER = Path(__file__).with_name("listener.py")


def listening(start: StartSupervisord, events: str) -> Supervisord:
    command = f"{sys.executable} {LISTENER} %(here)s/events"
    return start(more=f"\n[eventlistener:listener]\ncommand={command}\nevents={events}\nbuffer_size=1000\n")


def received(supervisord: Supervisord, count: int) -> list[tuple[str, dict[str, str], str]]:
    path = supervisord.folder / "events"
    until(lambda: path.exists() and len(path.read_text().splitlines()) >= count, f"{count} events arrive")
    events = []
    for line in path.read_text().splitlines():
        name, payload = json.loads(line)
        header, _, value = payload.partition("\n")
        tokens = dict(token.split(":") for token in header.split())
        events.append((name, {token: unquote(text) for token, text in tokens.items()}, value))
    return events


def test_each_change_is_an_event_with_its_value(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE")
    cache = supervisord.unix().cache
    first = cache.storeMany({"a b:c": "ö\n", "n": 1})
    cache.delete("n")
    cache.clear()
    expected = {"namespace": "cache", "expires": "0"}
    assert received(supervisord, 4) == [
        ("CACHE_STORE", {**expected, "key": "a b:c", "revision": first, "seq": "1"}, '"\\u00f6\\n"'),
        ("CACHE_STORE", {**expected, "key": "n", "revision": first, "seq": "2"}, "1"),
        (
            "CACHE_DELETE",
            {"namespace": "cache", "key": "n", "revision": str(int(first) + 1), "seq": "3", "expires": "0"},
            "",
        ),
        (
            "CACHE_CLEAR",
            {"namespace": "cache", "key": "", "revision": str(int(first) + 2), "seq": "4", "expires": "0"},
            "",
        ),
    ]


def test_a_listener_hears_only_the_types_that_it_names(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE_DELETE")
    supervisord.unix().cache.store("k", "v")
    supervisord.unix().cache.delete("k")
    assert [(name, header["seq"]) for name, header, _ in received(supervisord, 1)] == [("CACHE_DELETE", "2")]


def test_a_large_value_is_left_out_and_the_header_says_so(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE_STORE")
    supervisord.unix().cache.store("fits", "x" * (8 * 1024 - 2))
    supervisord.unix().cache.store("too-large", "x" * (8 * 1024 - 1))
    (_, fits, value), (_, too_large, nothing) = received(supervisord, 2)
    assert ("value" in fits, len(value)) == (False, 8 * 1024)
    assert (too_large["value"], nothing) == ("omitted", "")


def test_seq_goes_on_over_a_reload(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE")
    supervisord.unix().cache.store("k", 1)
    received(supervisord, 1)
    supervisord.reload()
    supervisord.unix().cache.store("k", 2)
    assert [header["seq"] for _, header, _ in received(supervisord, 2)] == ["1", "2"]
