"""The JSON interface: each path and method, each status, and what it leaves to others."""

import datetime as dt
import functools
import json
import threading
from collections.abc import Iterator
from typing import Any
from xmlrpc.client import DateTime, Fault

import pytest
from prometheus_client.openmetrics import parser

from tests.conftest import StartSupervisord
from tests.e2e.listening import listening, received
from tests.e2e.raw import Connection, Reply, Server, request
from tests.e2e.test_shutdown import STUBBORN, Stubborn
from tests.e2e.test_sqlite_faults import injected
from tests.e2e.web import Web, in_path, in_query, problem
from tests.harness import STORAGE, Supervisord, parts, program, running, ttl, until

BAD_ARGUMENTS, SHUTDOWN_STATE, BAD_NAME = 3, 6, 10
LIMIT_EXCEEDED, WRONG_TYPE, HISTORY_GONE, UNAVAILABLE, READ_ONLY, UNKNOWN_OUTCOME = range(201, 207)
# Of the shared namespace: half of it for each server.
WATCHERS = 6

HTTP = {"http": "true"}
SECTIONS = {
    "cache": {**HTTP, "max_watchers": str(WATCHERS), "metrics_prefix": "metrics/"},
    "other": HTTP,
    "plain": {},
    "reader": {**HTTP, "read_only": "inet_http_server"},
    "small": {**HTTP, "max_entries": "3", "max_value_bytes": "1KB", "max_changes": "5", "storage": "memory"},
    "away": {**HTTP, "storage": "sqlite:none/away.db"},
}
SAFE = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}
ALSO = {"date", "content-type", "content-length", "connection", "etag", "allow", "location", "retry-after"}
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def supervisords() -> Iterator[dict[bool, Supervisord]]:
    """One without a password and one with it, by whether they have it."""
    more = program("sleeper")
    with running(SECTIONS, more, login=False) as one, running(SECTIONS, more, login=True) as other:
        yield {False: one, True: other}
        for supervisord in (one, other):
            assert "Traceback" not in supervisord.log
            assert "CRIT supervisor_cache" not in supervisord.log


@functools.cache
def calls(supervisord: Supervisord) -> Any:
    """A connection of one of those above, one for all tests: each is open until the end."""
    return supervisord.unix()


@pytest.fixture
def supervisord(supervisords: dict[bool, Supervisord]) -> Supervisord:
    found = supervisords[False]
    for name in ("cache", "other", "small"):
        getattr(calls(found), name).clear()
    return found


@pytest.fixture
def proxy(supervisord: Supervisord) -> Any:
    return calls(supervisord).cache


@pytest.fixture
def web(supervisord: Supervisord) -> Web:
    """The empty namespace ``cache``, over inet and without a password."""
    return Web(Server(supervisord, inet=True))


@pytest.fixture(params=["inet", "unix", "password", "unix beside a password"])
def each(supervisords: dict[bool, Supervisord], request: pytest.FixtureRequest) -> Web:
    """The same on each kind of server."""
    found = supervisords["password" in request.param]
    calls(found).cache.clear()
    return Web(Server(found, inet=not request.param.startswith("unix")))


def told(reply: Reply) -> Any:
    return json.loads(reply.body)


def entry(web: Web, key: str) -> Any:
    return web.json(f"v1/entries{in_query(key)}")


def last_change(web: Web) -> Any:
    """Answer the newest change of one that changed one entry."""
    newest = int(web.json("v1/changes")["revision"])
    (change,) = web.json(f"v1/changes?since={newest - 1}")["changes"]
    return change


# One after another


def test_a_value_is_stored_read_replaced_and_deleted(each: Web) -> None:
    created = each.put("/a/b?note=weekly", "one")
    assert created.status == 201
    first = told(created)["revision"]
    assert told(created) == {"key": "a/b", "revision": first}
    assert created.headers["etag"] == f'"{first}"'
    found = each.get("v1/entries/a/b")
    assert (found.status, found.headers["etag"]) == (200, f'"{first}"')
    shown = told(found)
    assert list(shown) == ["key", "value", "revision", "modified", "expires", "owner", "note"]
    assert {**shown, "modified": 0} == {
        "key": "a/b",
        "value": "one",
        "revision": first,
        "modified": 0,
        "expires": 0.0,
        "owner": "",
        "note": "weekly",
    }
    replaced = each.put("/a/b", "two")
    assert replaced.status == 200
    assert int(told(replaced)["revision"]) == int(first) + 1
    value = each.get("v1/values/a/b")
    assert (value.status, value.body, value.headers["etag"]) == (200, b"two", f'"{told(replaced)["revision"]}"')
    gone = each.delete("/a/b")
    assert (gone.status, gone.body) == (204, b"")
    assert each.delete("/a/b").status == 204
    problem(each.get("v1/entries/a/b"), 404, "BAD_NAME", BAD_NAME)
    problem(each.get("v1/values/a/b"), 404, "BAD_NAME", BAD_NAME)


GETS = ["", "static/app.js", "v1/entries", "v1/entries/k", "v1/values/k", "v1/changes", "v1/stats", "metrics"]


@pytest.mark.parametrize("path", [*GETS, "v1/openapi.json", "v1/entries/none", "v1/entries?limit=x"])
def test_head_answers_what_get_does_without_the_body(each: Web, path: str) -> None:
    each.put("/k", "v")
    get, head = each.get(path), each.ask("HEAD", path)
    assert head.status == get.status
    assert head.body == b""
    # A clock and counters go on in between.
    varying = {"date"} | ({"content-length"} if path in {"v1/stats", "metrics"} else set())
    same = {name: value for name, value in get.headers.items() if name not in varying}
    assert {name: value for name, value in head.headers.items() if name not in varying} == same
    assert "content-length" in head.headers


def test_head_of_the_stream_ends(each: Web) -> None:
    reply = each.ask("HEAD", "v1/stream")
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "text/event-stream", b"")


ALLOWED = {
    "": "GET, HEAD, OPTIONS",
    "static/app.js": "GET, HEAD, OPTIONS",
    "v1/entries": "DELETE, GET, HEAD, OPTIONS, PUT",
    "v1/entries/k": "DELETE, GET, HEAD, OPTIONS, PUT",
    "v1/values": "GET, HEAD, OPTIONS",
    "v1/values/k": "GET, HEAD, OPTIONS",
    "v1/increment": "OPTIONS, POST",
    "v1/touch": "OPTIONS, POST",
    "v1/batch": "OPTIONS, POST",
    "v1/changes": "GET, HEAD, OPTIONS",
    "v1/stream": "GET, HEAD, OPTIONS",
    "v1/stats": "GET, HEAD, OPTIONS",
    "metrics": "GET, HEAD, OPTIONS",
    "v1/openapi.json": "GET, HEAD, OPTIONS",
}


@pytest.mark.parametrize("path", ALLOWED)
def test_what_is_not_allowed_is_said_with_what_is(each: Web, path: str) -> None:
    options = each.ask("OPTIONS", path)
    assert (options.status, options.headers["allow"], options.body) == (204, ALLOWED[path], b"")
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "TRACE", "get", "PROPFIND"):
        if method not in ALLOWED[path]:
            reply = each.ask(method, path, body="")
            assert (reply.status, reply.headers["allow"]) == (405, ALLOWED[path])
            if method != "HEAD":
                problem(reply, 405)


@pytest.mark.parametrize(
    "path", ["v1", "v1/", "v2/entries", "v1/entrie", "v1/entriesk", "V1/entries", "x", "%761/stats"]
)
def test_elsewhere_there_is_nothing(each: Web, path: str) -> None:
    for method in ("GET", "PUT", "OPTIONS"):
        problem(each.ask(method, path, body=""), 404)
    problem(each.get("static/none.js"), 404)


@pytest.mark.parametrize("path", ["static/../index.html", "static/%2e%2e/page.py", "static/", "static//etc/passwd"])
def test_no_file_but_those_of_the_page_is_served(web: Web, path: str) -> None:
    problem(web.get(path), 404)


def test_the_page_is_served_and_its_bare_name_leads_there(each: Web) -> None:
    page = each.get("")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    reply = each.ask("GET", "/cache?x=http://evil.example", bare=True)
    assert (reply.status, reply.headers["location"]) == (308, "cache/")


# Conditions


def test_an_entry_that_the_client_has_is_not_sent_again(each: Web) -> None:
    tag = each.put("/k", "v").headers["etag"]
    for path in ("v1/entries/k", "v1/values/k", "v1/entries?key=k"):
        for line in (tag, f"W/{tag}", "*", f'"0", {tag}', f'{tag},"x"'):
            reply = each.get(path, f"If-None-Match: {line}")
            assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", tag)
        assert each.get(path, 'If-None-Match: "0", "x"').status == 200
        assert each.get(path, 'If-None-Match: "0"', f"If-None-Match: {tag}").status == 304
    assert each.get("v1/entries/none", "If-None-Match: *").status == 404


@pytest.mark.parametrize("line", ["", "x", '"', '"1', '1"', '"1" "2"', "**", '"1";"2"', "W/", '"\u00e9"', ","])
def test_a_condition_that_cannot_be_read_is_a_bad_request(web: Web, line: str) -> None:
    web.put("/k", "v")
    problem(web.get("v1/entries/k", f"If-None-Match: {line}"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    problem(web.put("/k", "w", f"If-Match: {line}"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    problem(web.put("/k", "w", f"If-None-Match: {line}"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    problem(web.delete("/k", f"If-Match: {line}"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    touch = web.post("touch", {"key": "k", "ttl": 5}, f"If-Match: {line}")
    problem(touch, 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    assert web.get("v1/values/k").body == b"v"


def test_a_write_waits_for_no_revision_but_the_one_it_names(each: Web) -> None:
    problem(each.put("/k", "v", "If-Match: *"), 412)
    problem(each.put("/k", "v", 'If-Match: "1"'), 412)
    problem(each.delete("/k", "If-Match: *"), 412)
    problem(each.post("touch", {"key": "k", "ttl": 5}, "If-Match: *"), 412)
    tag = each.put("/k", "0").headers["etag"]
    for stale in ('"1"', '"0"', '""', '"x"', f'"{tag[1:-1]}0"'):
        problem(each.put("/k", "w", f"If-Match: {stale}"), 412)
        problem(each.delete("/k", f"If-Match: {stale}"), 412)
        problem(each.post("touch", {"key": "k", "ttl": 5}, f"If-Match: {stale}"), 412)
    for number, line in enumerate([tag, '"0", {}', "*", '{}, "5"']):
        reply = each.put("/k", str(number), f"If-Match: {line.format(tag)}")
        assert reply.status == 200
        tag = reply.headers["etag"]
    touched = each.post("touch", {"key": "k", "ttl": 500}, f"If-Match: {tag}")
    assert touched.status == 200
    assert each.get("v1/values/k").body == b"3"
    problem(each.delete("/k", f"If-Match: {tag}"), 412)
    assert each.delete("/k", f"If-Match: {touched.headers['etag']}").status == 204
    assert each.get("v1/entries/k").status == 404


def test_a_claim_succeeds_once(each: Web) -> None:
    assert each.put("/leader", "web-1", "If-None-Match: *").status == 201
    problem(each.put("/leader", "web-2", "If-None-Match: *"), 412)
    assert each.get("v1/values/leader").body == b"web-1"
    for lines in (['If-None-Match: "1"'], ["If-None-Match: *", "If-Match: *"]):
        problem(each.put("/leader", "x", *lines), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)


def test_a_condition_that_is_not_for_it_is_not_passed_over(each: Web) -> None:
    assert each.put("/k", "v").status == 201
    revision = entry(each, "k")["revision"]
    problem(each.delete("/k", "If-None-Match: *"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    touch = each.post("touch", {"key": "k", "ttl": 60}, "If-None-Match: *")
    problem(touch, 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    assert entry(each, "k")["revision"] == revision


def test_twenty_who_claim_at_once_have_one_winner(web: Web) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: statuses.append(web.put("/leader", n, "If-None-Match: *").status))
        for n in map(str, range(20))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [412] * 19


# Values


VALUES: list[Any] = [
    *("", "x", " ", "two\nlines\t", '"', "\\", "</script>", "\u00e9\U0001f680\u2028\u0085", "null", "1", "\u007f"),
    *(True, False, 0, 1, -1, 2**31 - 1, -(2**31), 0.0, -0.5, 1e308, 5e-324, 1.0),
    *([], {}, [[]], [1, "x", True, 0.5, [], {}], {"": 1, "a b": {"\u00e9": [""]}}, {"$dateTime": 1, "x": 2}),
    {"$dateTime": "2026-11-03T12:00:00"},
    [{"$dateTime": "0001-01-01T00:00:00"}, {"d": {"$dateTime": "9999-12-31T23:59:59"}}],
]


def as_python(value: Any) -> Any:
    """Answer what XML-RPC has for a value of JSON."""
    if isinstance(value, dict):
        if list(value) == ["$dateTime"]:
            return dt.datetime.fromisoformat(value["$dateTime"])
        return {name: as_python(each) for name, each in value.items()}
    return [as_python(each) for each in value] if isinstance(value, list) else value


def exact(value: Any) -> Any:
    """Answer a value with the types of all its parts, for True equals 1 and 1 equals 1.0."""
    if isinstance(value, dict):
        return {name: exact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [exact(each) for each in value]
    if isinstance(value, DateTime):
        text = value.value
        return "datetime", dt.datetime.strptime(text.rjust(17, "0"), "%Y%m%dT%H:%M:%S")  # noqa: DTZ007 - XML-RPC has no zone
    return type(value).__name__, value


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_each_kind_of_value_is_the_same_in_json_and_xml_rpc(web: Web, proxy: Any, value: Any) -> None:
    assert web.put_json("/k", value).status == 201
    stored = proxy.fetch("k")
    assert exact(stored) == exact(as_python(value))
    assert exact(entry(web, "k")["value"]) == exact(value)
    proxy.store("back", stored)
    assert exact(entry(web, "back")["value"]) == exact(value)
    bare = web.get("v1/values/back")
    if isinstance(value, str):
        assert (bare.headers["content-type"], bare.body) == ("text/plain; charset=utf-8", value.encode())
        assert web.put("/text", value).status == 201
        assert entry(web, "text")["value"] == value
    else:
        assert bare.headers["content-type"] == "application/json"
        assert exact(told(bare)) == exact(value)


DATE = {"$dateTime": "2026-11-03T12:00:00"}


@pytest.mark.parametrize("value", ["v", 1, DATE, [DATE], {"a": DATE, "b": [1]}], ids=ascii)
def test_a_key_of_a_batch_may_be_called_as_a_date_is(web: Web, proxy: Any, value: Any) -> None:
    assert web.post("batch", {"store": {"$dateTime": value}, "if": {"$dateTime": ""}}).status == 200
    assert exact(proxy.fetch("$dateTime")) == exact(as_python(value))
    problem(web.post("batch", {"store": {"$dateTime": 1}, "if": {"$dateTime": "1"}}), 412)
    told_why = problem(web.post("batch", {"store": {"k": {"$dateTime": "now"}}}), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    assert told_why["detail"].startswith("store['k']: $dateTime must be a date")
    problem(web.post("batch", {"store": {"k": None}}), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    assert web.post("batch", {"delete": ["$dateTime"]}).status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "text/html", "x", "", "multipart/json"]
)
def test_what_is_not_called_json_is_a_string(web: Web, kind: str) -> None:
    assert web.put("/k", '{"a": 1}', f"Content-Type: {kind}").status == 201
    assert entry(web, "k")["value"] == '{"a": 1}'


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/JSON ; charset=UTF-8", 'application/json;charset="utf-8"', "application/x+json"],
)
def test_what_is_called_json_is_read_as_json(web: Web, kind: str) -> None:
    assert web.put("/k", ' {"a": 1} ', f"Content-Type: {kind}").status == 201
    assert entry(web, "k")["value"] == {"a": 1}
    assert web.ask("POST", "v1/increment", f"Content-Type: {kind}", body='{"key": "n"}').status == 200


NO_VALUES = [
    *("", "nul", "null", "[null]", "{", "[1,]", "NaN", "Infinity", "1e999", "2147483648", "9" * 5000, "01", "'x'"),
    *('{"a": 1, "a": 2}', '{"$dateTime": "now"}', '{"$dateTime": 5}', '"\\ud800"', '"\\u0000"', '"\\r"', '"\\ufffe"'),
    *("[" * 33 + "]" * 33, "[" * 100_000, '"\n"', '{"\\u0001": 1}', "\ufeff1", "1 2"),
]


@pytest.mark.parametrize("text", NO_VALUES, ids=lambda text: ascii(text[:20]))
def test_what_is_no_value_is_a_bad_request(web: Web, text: str) -> None:
    problem(web.put("/k", text, JSON), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    problem(web.get("v1/entries/k"), 404, "BAD_NAME", BAD_NAME)


@pytest.mark.parametrize("data", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"a\x00b", b"a\rb"], ids=repr)
def test_text_that_cannot_be_carried_is_a_bad_request(web: Web, data: bytes) -> None:
    problem(web.put("/k", data), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    problem(web.put("/k", b'"' + data + b'"', JSON), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)


def test_a_body_of_another_charset_or_type_is_refused(web: Web) -> None:
    for kind in ("text/plain; charset=latin-1", "application/json; charset=utf-16", "text/plain; x=y; charset=x"):
        problem(web.put("/k", "v", f"Content-Type: {kind}"), 415)
    for path in ("increment", "touch", "batch"):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"):
            problem(web.ask("POST", f"v1/{path}", f"Content-Type: {kind}", body='{"key": "k", "ttl": 5}'), 415)
        problem(web.ask("POST", f"v1/{path}", body="{}"), 415)
    assert web.json("v1/entries")["entries"] == []


# Keys


ODD_KEYS = [
    *map(chr, [*range(0x20, 0x30), *range(0x3A, 0x41), *range(0x5B, 0x61), *range(0x7B, 0x80), 0x85, 0xA0, 0xAD]),
    *("\u00e9", "e\u0301", "\u2028", "\u202e", "\ufeff", "\U0001f680", "\U0010ffff", "\u0130", "\ud7ff\ue000"),
    *("%2F", "%00", "%", "%%", "%zz", "a%2Fb", "a+b c", "a?b=c&d", "a#b", "a;b", "a/b/c", "...", ".a", "a.", "\\..\\"),
    *("static", "v1", "key", "http://x/y?z"[5:].lstrip("/"), "x" * 1024, "\u00e9" * 512, "<script>alert(1)</script>x"),
]
# What clients and proxies take away.
PATH_LIKE_KEYS = [".", "..", "/", "//", "a/", "/a", "a//b", "a/./b", "a/../b", "./a", "../a", "../../etc", "http://x"]


def is_path_like(key: str) -> bool:
    return bool({"", ".", ".."} & set(key.split("/")))


@pytest.mark.parametrize("key", [*ODD_KEYS, *PATH_LIKE_KEYS], ids=lambda key: ascii(key[:20]))
def test_each_key_can_be_used_in_the_path_or_in_the_query(web: Web, proxy: Any, key: str) -> None:
    places = [in_query(key)] if is_path_like(key) else [in_query(key), in_path(key), in_path(key).replace("/", "%2F")]
    places = [place.replace("%2F", "/", 1) if place.startswith("%2F") else place for place in places]
    for place in places:
        assert web.put(place, "v").status == 201
        assert proxy.getItems() == {key: "v"}
        assert web.json(f"v1/entries{place}")["key"] == key
        assert web.get(f"v1/values{place}").body == b"v"
        assert [each["key"] for each in web.json("v1/entries")["entries"]] == [key]
        change = last_change(web)
        assert (change["kind"], change["key"]) == ("store", key)
        assert web.delete(place).status == 204
        assert proxy.getCount() == 0
    assert told(web.post("increment", {"key": key}))["key"] == key
    assert web.post("batch", {"store": {}, "delete": [key]}).status == 200
    assert proxy.getCount() == 0


@pytest.mark.parametrize("key", PATH_LIKE_KEYS)
def test_a_key_that_looks_like_a_path_is_refused_in_the_path(web: Web, key: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        for shown in {in_path(key), in_path(key).replace(".", "%2e"), "/" + in_query(key)[5:]}:
            problem(web.ask(method, f"v1/entries{shown}", body=""), 400, "BAD_NAME", BAD_NAME)
    problem(web.get(f"v1/values{in_path(key)}"), 400, "BAD_NAME", BAD_NAME)


NO_KEYS = ["", "%00", "%01", "a%09", "%0d%0aX-Evil:%20yes", "%0a", "%1f", "%ef%bf%be", "%ef%bf%bf", "x" * 1025]
BAD_ESCAPES = ["%", "%2", "a%zz", "%%20", "%u0041", "%ff", "%c3", "%ed%a0%80", "%c0%af", "\u00e9", "%e9"]


@pytest.mark.parametrize("text", [*NO_KEYS, *BAD_ESCAPES], ids=lambda text: ascii(text[:20]))
def test_what_can_be_no_key_is_a_bad_request(web: Web, text: str) -> None:
    for place in (f"/{text}", f"?key={text}"):
        for reply in (
            web.get(f"v1/entries{place}"),
            web.get(f"v1/values{place}"),
            web.put(place, "v"),
            web.delete(place),
        ):
            assert problem(reply, 400, *(told(reply)[name] for name in ("fault", "code")))["fault"] in {
                "BAD_NAME",
                "BAD_ARGUMENTS",
            }
            assert "x-evil" not in reply.headers
    assert web.json("v1/entries")["entries"] == []


NO_STRINGS: list[Any] = [1, None, [], {}]


def test_what_can_be_no_key_is_a_bad_request_in_json(web: Web) -> None:
    for key in ("", "\0", "a\n", "\ufffe", "x" * 1025, "\ud800"):
        problem(web.post("increment", {"key": key}), 400, "BAD_NAME", BAD_NAME)
        problem(web.post("touch", {"key": key, "ttl": 5}), 400, "BAD_NAME", BAD_NAME)
        problem(web.post("batch", {"store": {key: 1}}), 400, "BAD_NAME", BAD_NAME)
        problem(web.post("batch", {"delete": [key]}), 400, "BAD_NAME", BAD_NAME)
        problem(web.post("batch", {"if": {key: "1"}}), 400, "BAD_NAME", BAD_NAME)
    for misfit in NO_STRINGS:
        problem(web.post("increment", {"key": misfit}), 400, "BAD_NAME", BAD_NAME)
        problem(web.post("batch", {"delete": [misfit]}), 400, "BAD_NAME", BAD_NAME)


def test_a_key_is_named_once(web: Web) -> None:
    for method in ("GET", "PUT", "DELETE"):
        problem(web.ask(method, "v1/entries/k?key=k", body=""), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    problem(web.get("v1/values/k?key=k"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    assert web.put("/?key=a/../b", "v").status == 201
    assert web.get("v1/values/?key=a/../b").body == b"v"
    assert web.delete("/?key=a/../b").status == 204
    for reply in (web.put("", "v"), web.delete(""), web.get("v1/values")):
        assert "key" in problem(reply, 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)["detail"]


# Queries


@pytest.mark.parametrize(
    "query",
    [
        *(
            "x=1",
            "prefix=a&prefix=a",
            "prefix=a&x=1",
            "prefix",
            "&",
            "prefix=a&&limit=1",
            "=",
            "Prefix=a",
            "key=k&prefix=k",
        ),
        *(
            "prefix=%",
            "prefix=%zz",
            "prefix=%ff",
            "prefix=\u00e9",
            "%70refix=%c3",
            "prefix=%0a",
            "prefix=%00",
            "after=%01",
        ),
        *(
            "limit=x",
            "limit=-1",
            "limit=1.0",
            "limit=2001",
            "limit=99999999999",
            "limit=%D9%A3",
            "limit=1e1",
            "limit=+1",
        ),
        "&".join(f"prefix{n}=x" for n in range(21)),
        "&".join(["prefix=x"] * 10_000),
        f"prefix={'x' * 65_537}",
    ],
    ids=lambda query: query[:30],
)
def test_a_query_that_cannot_be_read_is_a_bad_request(web: Web, query: str) -> None:
    problem(web.get(f"v1/entries?{query}"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)


@pytest.mark.parametrize("path", ["", "v1/stats", "metrics", "v1/openapi.json", "static/app.js"])
def test_what_takes_no_parameter_says_so(web: Web, path: str) -> None:
    assert "none" in problem(web.get(f"{path}?x=1"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)["detail"]
    assert web.get(f"{path}?").status == 200


def test_names_and_values_in_a_query_may_be_escaped(web: Web) -> None:
    web.put("/a%20b", "v")
    assert len(web.json("v1/entries?%70refix=a+b")["entries"]) == 1
    assert len(web.json("v1/entries?prefix=%61%20&limit=&after=")["entries"]) == 1


# Listing


def test_ten_thousand_entries_are_listed_a_page_at_a_time(web: Web, proxy: Any) -> None:
    keys = sorted(f"{'ab'[n % 2]}/{n * 7919 % 10_000:05}\u00e9" for n in range(10_000))
    for start in range(0, len(keys), 2000):
        for part in parts(dict.fromkeys(keys[start : start + 2000], 1)):
            proxy.storeMany(part)
    for query, size, expected in (
        ("", 500, keys),
        ("limit=2000&", 2000, keys),
        ("prefix=b/&limit=999&", 999, keys[5000:]),
    ):
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = web.json(f"v1/entries?{query}after={in_query(after)[5:]}")
            assert page["revision"] == proxy.getRevision()
            assert len(page["entries"]) in {size, len(expected) - len(found)}
            found += [each["key"] for each in page["entries"]]
            after = page["next"]
            assert after in {None, found[-1]}
        assert found == expected


def test_large_values_make_smaller_pages(web: Web) -> None:
    text = "x" * 60_000
    for number in range(40):
        web.put(f"/{number:02}", text)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        reply = web.get(f"v1/entries?limit=2000&after={after}")
        assert len(reply.body) < 1_200_000
        assert all(each["value"] == text for each in told(reply)["entries"])
        found += [each["key"] for each in told(reply)["entries"]]
        after = told(reply)["next"]
    assert found == [f"{number:02}" for number in range(40)]


def test_an_exact_page_is_the_last(web: Web, proxy: Any) -> None:
    proxy.storeMany({"a": 1, "b": 2})
    assert web.json("v1/entries?limit=2")["next"] is None
    assert web.json("v1/entries?limit=1")["next"] == "a"
    assert web.json("v1/entries?after=b") == {"revision": proxy.getRevision(), "entries": [], "next": None}
    assert [each["key"] for each in web.json("v1/entries?after=a")["entries"]] == ["b"]
    # Whatever is there meanwhile.
    assert [each["key"] for each in web.json("v1/entries?after=aa&limit=0")["entries"]] == ["b"]


# Options


def test_the_options_of_a_write_are_kept(web: Web, supervisord: Supervisord) -> None:
    pid = supervisord.process("sleeper")["pid"]
    note = "ops: \u20ac <b>"
    web.put(f"/k?ttl=7200&owner=sleeper&pid={pid}&note={in_query(note)[5:]}", "v")
    found = entry(web, "k")
    assert (found["owner"], found["note"]) == ("sleeper:sleeper", note)
    assert 7190 < found["expires"] - found["modified"] <= 7201
    assert web.put("/k?ttl=1.5e3&owner=&note=", "v").status == 200
    found = entry(web, "k")
    assert (found["owner"], found["note"]) == ("", "")
    assert 1490 < found["expires"] - found["modified"] <= 1501
    touched = web.post("touch", {"key": "k", "ttl": 0, "note": "kept", "owner": "sleeper", "pid": pid})
    assert touched.status == 200
    assert {**entry(web, "k"), "modified": 0, "revision": ""} == {
        "key": "k",
        "value": "v",
        "revision": "",
        "modified": 0,
        "expires": 0.0,
        "owner": "sleeper:sleeper",
        "note": "kept",
    }
    web.post("increment", {"key": "n", "delta": 5, "ttl": 60, "note": "counted", "if_changed": True})
    assert entry(web, "n")["note"] == "counted"
    web.post("batch", {"store": {"b": 1}, "options": {"ttl": 60, "owner": "sleeper", "pid": pid, "note": "both"}})
    assert (entry(web, "b")["note"], entry(web, "b")["owner"]) == ("both", "sleeper:sleeper")
    web.delete("/k?note=gone")
    assert last_change(web)["note"] == "gone"


def test_an_entry_ends_with_its_time(web: Web) -> None:
    web.put(f"/k?ttl={ttl(0.05)}", "v")
    until(lambda: web.get("v1/entries/k").status == 404, "the entry ends")
    until(lambda: last_change(web)["kind"] == "expire", "its end is a change")


def test_what_is_the_same_is_not_stored_if_it_is_to_be_changed(web: Web) -> None:
    tag = web.put("/k", "v").headers["etag"]
    same = web.put("/k?if_changed=true", "v")
    assert (same.status, same.headers["etag"]) == (200, tag)
    assert told(same)["revision"] == tag[1:-1]
    assert web.put("/k?if_changed=true", "v", f"If-Match: {tag}").headers["etag"] == tag
    assert web.put("/k?if_changed=false", "v").headers["etag"] != tag
    before = web.json("v1/entries")["revision"]
    for _ in range(2):
        done = web.post("batch", {"store": {"k": "v"}, "delete": ["none"], "options": {"if_changed": True}})
        assert told(done) == {"revision": before}
    assert told(web.post("increment", {"key": "n", "delta": 0}))["value"] == 0
    before = web.json("v1/entries")["revision"]
    assert told(web.post("increment", {"key": "n", "delta": 0, "if_changed": True})) == {
        "key": "n",
        "value": 0,
        "revision": before,
    }


@pytest.mark.parametrize(
    "query",
    [
        *("ttl=0", "ttl=-1", "ttl=x", "ttl=", "ttl=nan", "ttl=inf", "ttl=1e999", "ttl=999999999", "ttl=1_0", "ttl=+5"),
        *("owner=none", "owner=%00", "pid=5", "pid=x&owner=sleeper", "pid=0&owner=sleeper", "pid=1&owner=sleeper"),
        *("note=%0a", f"note={'x' * 1025}", "note=%00", "if_changed=1", "if_changed=", "if_changed=True", "revision=1"),
    ],
    ids=lambda query: query[:30],
)
def test_a_wrong_option_is_a_bad_request(web: Web, query: str) -> None:
    problem(web.put(f"/k?{query}", "v"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    problem(web.get("v1/entries/k"), 404, "BAD_NAME", BAD_NAME)


NO_OBJECTS: list[Any] = [[], "x", 1, None, True]
NO_SECONDS: list[Any] = ["5", True, -1, 1e12, [], None]
NO_DELTAS: list[Any] = [1.0, "1", True, 2**31, None]
NO_OPTIONS: list[Any] = [{"ttl": 0}, {"note": 1}, {"pid": 5}, {"if_changed": 1}]
NO_ITEMS: list[Any] = [[], 1, None, "", {"k": None}, {"k": [None]}]
NO_KEY_LISTS: list[Any] = [{}, "k", None, 1]
NO_CONDITIONS: list[Any] = [[], "k", {"k": 1}, {"k": None}, {"k": "x"}, {"k": "-1"}]
NO_BATCH_OPTIONS: list[Any] = [[], {"x": 1}, {"ttl": "5"}, {"owner": "none"}]
WRONG_BODIES: list[tuple[str, Any]] = [
    *[(path, body) for path in ("increment", "touch", "batch") for body in NO_OBJECTS],
    *[(path, {"key": "k", "ttl": 5, "x": 1}) for path in ("increment", "touch", "batch")],
    *[("increment", {}), ("touch", {"key": "k"}), ("touch", {"ttl": 5}), ("increment", {"delta": 1})],
    *[("increment", {"key": "k", "delta": delta}) for delta in NO_DELTAS],
    *[("touch", {"key": "k", "ttl": ttl}) for ttl in NO_SECONDS],
    *[("increment", {"key": "k", **wrong}) for wrong in NO_OPTIONS],
    *[("batch", {"store": store}) for store in NO_ITEMS],
    *[("batch", {"delete": delete}) for delete in NO_KEY_LISTS],
    *[("batch", {"if": conditions}) for conditions in NO_CONDITIONS],
    *[("batch", {"store": {"k": 1}, "options": given}) for given in NO_BATCH_OPTIONS],
    ("batch", {"store": {"k": 1}, "delete": ["k"]}),
]


@pytest.mark.parametrize(("path", "body"), WRONG_BODIES, ids=str)
def test_a_wrong_body_is_a_bad_request(web: Web, path: str, body: Any) -> None:
    problem(web.post(path, body), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    assert web.json("v1/entries")["entries"] == []


# Adding up, and all or nothing


def test_an_integer_is_added_to(each: Web) -> None:
    one = each.post("increment", {"key": "n"})
    assert told(one) == {"key": "n", "value": 1, "revision": one.headers["etag"][1:-1]}
    assert told(each.post("increment", {"key": "n", "delta": -5}))["value"] == -4
    each.put("/text", "5")
    problem(each.post("increment", {"key": "text"}), 409, "WRONG_TYPE", WRONG_TYPE)
    each.put_json("/n", 2**31 - 1)
    problem(each.post("increment", {"key": "n"}), 409, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
    assert entry(each, "n")["value"] == 2**31 - 1


def test_what_is_not_there_cannot_be_touched(each: Web) -> None:
    problem(each.post("touch", {"key": "none", "ttl": 5}), 404, "BAD_NAME", BAD_NAME)


def test_a_batch_is_done_in_one_revision_or_not_at_all(each: Web) -> None:
    each.put("/old", "v")
    tag = each.put("/kept", "v").headers["etag"][1:-1]
    conditions = {"kept": tag, "new": ""}
    done = each.post("batch", {"store": {"new": [1], "more": "x"}, "delete": ["old", "none"], "if": conditions})
    revision = told(done)["revision"]
    assert told(done) == {"revision": str(int(tag) + 1)}
    changes = each.json(f"v1/changes?since={tag}")["changes"]
    assert {(change["kind"], change["key"], change["revision"]) for change in changes} == {
        ("store", "new", revision),
        ("store", "more", revision),
        ("delete", "old", revision),
    }
    failed = problem(each.post("batch", {"store": {"x": 1}, "delete": ["new"], "if": conditions}), 412)
    assert failed["keys"] == ["new"]
    failed = problem(each.post("batch", {"store": {"x": 1}, "if": {"none": "5", "kept": "0", "more": revision}}), 412)
    assert sorted(failed["keys"]) == ["kept", "none"]
    problem(each.post("batch", {"store": {"x": 1, "y": None}}), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)
    assert each.json("v1/entries")["revision"] == revision
    assert [one["key"] for one in each.json("v1/entries")["entries"]] == ["kept", "more", "new"]
    assert told(each.post("batch", {})) == {"revision": revision}
    assert told(each.post("batch", {"if": {"kept": tag}})) == {"revision": revision}


def test_a_batch_may_not_be_too_long(web: Web) -> None:
    many = [f"k{number}" for number in range(10_001)]
    problem(web.post("batch", {"delete": many}), 413, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)


# Statuses


def test_what_is_too_large_is_told_apart_from_what_is_full(web: Web) -> None:
    small = Web(web.server, "small")
    assert small.put("/k", "x" * 1022).status == 201
    problem(small.put("/k", "x" * 1023), 413, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
    problem(small.put("/k", "\u00e9" * 600), 413, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
    problem(small.post("batch", {"store": {"a": 1, "b": "x" * 2000}}), 413, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
    for key in ("a", "b"):
        assert small.put(f"/{key}", "v").status == 201
    problem(small.put("/c", "v"), 507, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
    problem(small.post("increment", {"key": "c"}), 507, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
    problem(small.post("batch", {"store": {"c": 1}}), 507, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
    assert small.put("/a", "w").status == 200
    assert small.delete("/a").status == 204
    assert small.put("/c", "v").status == 201


def test_a_body_that_is_too_large_is_refused_unread(each: Web) -> None:
    with each.server.connect() as connection:
        connection.send(each.request("PUT", "v1/entries/k", "Content-Length: 2000000"))
        reply = connection.reply()
        assert reply is not None
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert connection.is_closed()


@pytest.mark.parametrize("path", ["v1/entries/k", "v1/increment"])
def test_a_body_needs_its_length(each: Web, path: str) -> None:
    method = "PUT" if "entries" in path else "POST"
    with each.server.connect() as connection:
        connection.send(each.request(method, path) + b"smuggled" + each.request("PUT", "v1/entries/k", body="v"))
        reply = connection.reply()
        assert reply is not None
        problem(reply, 411)
        assert connection.is_closed()
    assert each.get("v1/entries/k").status == 404
    assert each.ask(method, path, "Transfer-Encoding: chunked").status == 411


def test_an_empty_body_with_its_length_is_an_empty_string(each: Web) -> None:
    assert each.put("/k", "").status == 201
    assert entry(each, "k")["value"] == ""


@pytest.mark.parametrize("lines", [["Content-Length: 1"] * 2, ["Content-Length: 0001"], ["content-length:1"]], ids=str)
def test_a_length_counts_however_it_is_written(web: Web, lines: list[str]) -> None:
    put, get = web.request("PUT", "v1/entries/k", *lines) + b"v", web.request("GET", "v1/values/k")
    with web.server.connect() as connection:
        # With etcd, what is sent before the answer is not run.
        connection.send(put if STORAGE == "etcd" else put + get)
        stored = connection.reply()
        if STORAGE == "etcd":
            connection.send(get)
        read = connection.reply()
    assert stored is not None
    assert read is not None
    assert (stored.status, read.body) == (201, b"v")


@pytest.mark.parametrize("line", ["Content-Length: 1\n2", "Content-Length: 1, \n", "Content-Length:\n1"], ids=ascii)
def test_a_length_that_is_broken_by_a_line_feed_is_answered(web: Web, line: str) -> None:
    with web.server.connect() as connection:
        connection.send(web.request("PUT", "v1/entries/k", line) + b"v")
        reply = connection.reply()
        assert reply is not None
        assert reply.status == 400
        assert connection.is_closed()


def test_a_storage_that_is_away_is_told_with_when_to_ask_again(each: Web) -> None:
    away = Web(each.server, "away")
    for reply in (
        *(away.get("v1/entries"), away.get("v1/entries/k"), away.get("v1/values/k"), away.get("v1/changes?wait=5")),
        *(away.get("v1/stream"), away.put("/k", "v"), away.delete("/k"), away.post("increment", {"key": "k"})),
        *(away.post("touch", {"key": "k", "ttl": 5}), away.post("batch", {})),
    ):
        problem(reply, 503, "UNAVAILABLE", UNAVAILABLE)
        assert reply.headers["retry-after"] == "1"
    assert away.json("v1/stats")["storage"]["state"] == "unavailable"
    assert away.get("metrics").status == 200
    assert away.get("").status == 200
    assert away.get("v1/openapi.json").status == 200


@pytest.mark.parametrize("login", [False, True])
def test_who_asks_while_supervisord_shuts_down_is_told_to_come_back(login: bool) -> None:
    with running({"cache": HTTP}, STUBBORN, login=login) as supervisord:
        patient = Stubborn(supervisord)
        servers = [Web(Server(supervisord, inet=inet)) for inet in (True, False)]
        waiting: list[Reply] = []
        threads = [
            threading.Thread(target=lambda web=web: waiting.append(web.get("v1/changes?wait=100"))) for web in servers
        ]
        try:
            for thread in threads:
                thread.start()
            until(lambda: supervisord.unix().cache.getStats()["watchers"] == len(threads), "both wait")
            stream = servers[0].stream().opened()
            supervisord.unix().supervisor.shutdown()
            for thread in threads:
                thread.join()
            assert list(stream.rest()) == []
            stream.close()
            replies = [web.get(path) for web in servers for path in GETS]
            replies += [web.put("/k", "v") for web in servers]
            for reply in (*waiting, *replies):
                problem(reply, 503, "SHUTDOWN_STATE", SHUTDOWN_STATE)
                assert reply.headers["retry-after"] == "1"
            assert supervisord.is_alive()
            assert "Traceback" not in supervisord.log
        finally:
            patient.let_go()


def test_a_write_that_may_have_happened_is_told_apart_from_one_that_has_not(start: StartSupervisord) -> None:
    supervisord = start({"cache": {**HTTP, "storage": "sqlite:cache.db", "synchronous": "full"}})
    web = Web(Server(supervisord, inet=False))
    web.put("/k", "before")
    with injected(supervisord, "fdatasync:error=EIO:when=1+"):
        replies = [web.put("/k", "after"), web.put("/k", "after")]
        assert web.get("v1/values/k").body == b"before"
    problem(replies[0], 504, "UNKNOWN_OUTCOME", UNKNOWN_OUTCOME)
    problem(replies[1], 503, "UNAVAILABLE", UNAVAILABLE)
    until(lambda: web.json("v1/stats")["storage"]["state"] == "ok", "the storage is all right")
    assert web.put("/k", "after").status == 200


# Changes


def test_changes_are_told_from_a_revision_on(each: Web) -> None:
    # On etcd the revision is that of the newest change of this cache, whatever has been written to others.
    each.put("/before", "v")
    before = each.json("v1/changes")
    assert before["changes"] == []
    since = before["revision"]
    each.put("/a/x?note=n", "v")
    each.put("/b", "v")
    each.post("touch", {"key": "b", "ttl": 500})
    each.delete("/a/x")
    calls(each.server.supervisord).cache.clear()
    found = each.json(f"v1/changes?since={since}")
    server = "inet_http_server" if each.server.inet else "unix_http_server"
    shown = [[change[name] for name in ("kind", "key", "note", "via")] for change in found["changes"]]
    assert shown == [
        ["store", "a/x", "n", server],
        ["store", "b", "", server],
        ["touch", "b", "", server],
        ["delete", "a/x", "", server],
        ["clear", "", "", "unix_http_server"],
    ]
    assert [int(change["revision"]) for change in found["changes"]] == [int(since) + n for n in range(1, 6)]
    assert list(found["changes"][0]) == ["revision", "kind", "key", "modified", "note", "via"]
    assert found["revision"] == str(int(since) + 5)
    # A clear concerns every prefix.
    with_prefix = each.json(f"v1/changes?since={since}&prefix=a/")["changes"]
    assert [change["kind"] for change in with_prefix] == ["store", "delete", "clear"]
    assert each.json(f"v1/changes?since={since}&prefix=a/")["revision"] == found["revision"]
    assert each.json(f"v1/changes?since={found['revision']}") == {"revision": found["revision"], "changes": []}


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 7, 100])
@pytest.mark.parametrize("prefix", ["", "a"])
def test_whoever_asks_on_gets_each_change_once_whatever_the_limit(
    web: Web, proxy: Any, limit: int, prefix: str
) -> None:
    since = proxy.getRevision()
    sizes = [3, 4, 1, 1, 6, 2, 1, 5]
    for number, size in enumerate(sizes):
        proxy.storeMany({f"{'ab'[part % 2]}{part}": number for part in range(size)})
    expected = proxy.getChanges(since, prefix, 0)
    assert len(expected) >= sum(sizes) // 2
    found: list[Any] = []
    while page := web.json(f"v1/changes?since={since}&limit={limit}&prefix={prefix}")["changes"]:
        since = web.json(f"v1/changes?since={since}&limit={limit}&prefix={prefix}")["revision"]
        found += page
    assert [(change["revision"], change["key"]) for change in found] == [
        (change["revision"], change["key"]) for change in expected
    ]


def test_changes_that_fill_more_than_a_reply_are_told_one_after_another(web: Web, proxy: Any) -> None:
    since = proxy.getRevision()
    for number in range(6):
        proxy.storeMany({f"{'x' * 900}{number}{part:03}": part for part in range(100)}, {"note": "n" * 1000})
    found: list[Any] = []
    while page := web.json(f"v1/changes?since={since}&limit=2000")["changes"]:
        since = web.json(f"v1/changes?since={since}&limit=2000")["revision"]
        found += page
    assert len(found) == 600


@pytest.mark.parametrize(
    "query",
    [
        *("since=x", "since=-1", "since=1.0", f"since={'9' * 21}", "since=%D9%A3", "limit=x", "wait=x", "wait=-1"),
        *("wait=1501", "wait=1e999", "wait=nan", "wait=", "prefix=%0a", "x=1", "since=1&since=1", "after=x"),
    ],
)
def test_what_cannot_be_asked_of_the_history_is_a_bad_request(web: Web, query: str) -> None:
    problem(web.get(f"v1/changes?{query}"), 400, "BAD_ARGUMENTS", BAD_ARGUMENTS)


def test_a_history_that_is_gone_is_said_to_be(web: Web) -> None:
    small = Web(web.server, "small")
    since = small.put("/k", "v").headers["etag"][1:-1]
    for number in range(8):
        small.put("/k", str(number))
    for query in (f"since={since}", "since=99999999999999999999", f"since={since}&wait=100"):
        problem(small.get(f"v1/changes?{query}"), 410, "HISTORY_GONE", HISTORY_GONE)
    newest = small.json("v1/changes")["revision"]
    assert len(small.json(f"v1/changes?since={int(newest) - 5}")["changes"]) == 5


POLLS: list[Connection] = []


@pytest.fixture(autouse=True)
def polls_that_end_with_the_test() -> Iterator[None]:
    yield
    while POLLS:
        POLLS.pop().close()


class Poll:
    """A client that waits for a change in the background."""

    def __init__(self, web: Web, query: str = "wait=100", version: str = "1.1") -> None:
        self.connection = web.server.connect()
        POLLS.append(self.connection)
        data = web.request("GET", f"v1/changes?{query}")
        self.connection.send(data.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1))

    def reply(self) -> Reply:
        reply = self.connection.reply()
        assert reply is not None
        return reply


def watchers(web: Web) -> int:
    found: int = web.json("v1/stats")["watchers"]
    return found


def test_a_long_poll_is_woken_by_what_it_waits_for_and_nothing_else(each: Web) -> None:
    polls = [Poll(each, "wait=100&prefix=a"), Poll(each, "wait=100&prefix=a")]
    until(lambda: watchers(each) == 2, "both wait")
    each.put("/b", "v")
    assert watchers(each) == 2
    revision = told(each.put("/a", "v"))["revision"]
    for poll in polls:
        found = told(poll.reply())
        assert found["revision"] == revision
        assert [change["key"] for change in found["changes"]] == ["a"]
    until(lambda: watchers(each) == 0, "nobody waits any more")


def test_a_long_poll_is_woken_by_a_write_over_xml_rpc_and_by_a_clear(web: Web, proxy: Any) -> None:
    for change, kind in ((lambda: proxy.store("k", 1), "store"), (proxy.clear, "clear")):
        poll = Poll(web, "wait=100&prefix=k")
        until(lambda: watchers(web) == 1, "it waits")
        change()
        assert [each["kind"] for each in told(poll.reply())["changes"]] == [kind]


def test_a_long_poll_that_has_missed_something_is_answered_at_once(web: Web) -> None:
    since = web.json("v1/changes")["revision"]
    web.put("/k", "v")
    assert len(web.json(f"v1/changes?since={since}&wait=1000")["changes"]) == 1


def test_a_long_poll_without_a_change_ends_with_its_time(each: Web) -> None:
    revision = each.json("v1/entries")["revision"]
    assert each.json("v1/changes?wait=0.3") == {"revision": revision, "changes": []}
    assert each.json(f"v1/changes?wait=0.3&since={revision}") == {"revision": revision, "changes": []}
    # What happened elsewhere need not be looked at again.
    poll = Poll(each, "wait=1&prefix=a")
    until(lambda: watchers(each) == 1, "it waits")
    revision = told(each.put("/b", "v"))["revision"]
    assert told(poll.reply()) == {"revision": revision, "changes": []}


def test_as_many_may_wait_as_may_and_half_of_them_on_one_server(web: Web, supervisord: Supervisord) -> None:
    unix = Web(Server(supervisord, inet=False))
    polls = [Poll(one) for one in (web, unix) for _ in range(WATCHERS // 2 - 1)]
    streams = [web.stream().opened()]
    answers: list[Any] = []
    since = calls(supervisord).cache.getRevision()
    waiter = threading.Thread(target=lambda: answers.append(supervisord.unix().cache.wait(since, 100)))
    waiter.start()
    until(lambda: watchers(web) == WATCHERS, "all wait")
    for one in (web, unix):
        for path in ("v1/changes?wait=5", "v1/stream"):
            reply = one.get(path)
            problem(reply, 429, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
            assert "retry-after" in reply.headers
    with pytest.raises(Fault) as raised:
        calls(supervisord).cache.wait(since, 5)
    assert raised.value.faultCode == LIMIT_EXCEEDED
    # A client that goes away makes room.
    polls.pop(0).connection.close()
    until(lambda: web.json("v1/stats")["watchers"] == WATCHERS - 1, "the place is free")
    polls.append(Poll(web))
    until(lambda: watchers(web) == WATCHERS, "all wait")
    streams.pop().close()
    until(lambda: watchers(web) == WATCHERS - 1, "the place is free")
    # Half of all, although there is room.
    polls[0].connection.close()
    until(lambda: watchers(web) < WATCHERS - 1, "the place is free")
    web.put("/k", "v")
    waiter.join()
    assert answers
    for poll in polls[1:]:
        assert poll.reply().status == 200
    until(lambda: watchers(web) == 0, "nobody waits any more")


def test_one_server_cannot_take_all_places(web: Web, supervisord: Supervisord) -> None:
    polls = [Poll(web) for _ in range(WATCHERS // 2)]
    until(lambda: watchers(web) == len(polls), "they wait")
    problem(web.get("v1/changes?wait=5"), 429, "LIMIT_EXCEEDED", LIMIT_EXCEEDED)
    assert Web(Server(supervisord, inet=False)).get("v1/changes?wait=0.01").status == 200
    for poll in polls:
        poll.connection.close()
    until(lambda: watchers(web) == 0, "nobody waits any more")


def test_what_is_sent_during_a_long_poll_is_not_run_and_breaks_nothing(each: Web) -> None:
    poll = Poll(each)
    until(lambda: watchers(each) == 1, "it waits")
    poll.connection.send(each.request("PUT", "v1/entries/sneaked", body="v") * 3)
    poll.connection.send(b"\r\n\r\nx")
    each.put("/k", "v")
    assert [change["key"] for change in told(poll.reply())["changes"]] == ["k"]
    assert poll.connection.is_closed()
    assert [one["key"] for one in each.json("v1/entries")["entries"]] == ["k"]
    until(lambda: watchers(each) == 0, "nobody waits any more")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_who_sends_many_costly_requests_at_once_is_closed_before_they_are_all_run(
    web: Web, proxy: Any, method: str
) -> None:
    # Supervisor handles all that it has read of one client before anybody else has a turn.
    for turn in range(5):
        for part in parts({f"{turn}/{number}": 1 for number in range(2000)}):
            proxy.storeMany(part)
    with Web(web.server, "cache").server.connect() as connection:
        one = f"{method} /cache/v1/entries?limit=2000 HTTP/1.1\r\nHost: {web.server.host}\r\n\r\n".encode()
        connection.send(one * 50 + web.request("PUT", "v1/entries/behind", body="v"))
        while connection._more():
            pass
    heads = connection._buffer.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert 0 < len(heads) < 50
    assert [b"\r\nConnection: close\r\n" in head for head in heads] == [False] * (len(heads) - 1) + [True]
    assert web.get("v1/entries/behind").status == 404


def test_who_sends_one_costly_request_after_the_other_keeps_the_connection(web: Web, proxy: Any) -> None:
    for part in parts({f"{number}": 1 for number in range(2000)}):
        proxy.storeMany(part)
    with web.server.connect() as connection:
        for _ in range(30):
            connection.send(web.request("GET", "v1/entries?limit=2000"))
            reply = connection.reply()
            assert reply is not None
            assert len(told(reply)["entries"]) == 2000
            assert "connection" not in reply.headers


def test_what_is_sent_behind_a_long_poll_in_one_segment_breaks_nothing(web: Web) -> None:
    with web.server.connect() as connection:
        connection.send(web.request("GET", "v1/changes?wait=100") + web.request("PUT", "v1/entries/sneaked", body="v"))
        until(lambda: watchers(web) == 1, "it waits")
        web.put("/k", "v")
        reply = connection.reply()
        assert reply is not None
        assert [change["key"] for change in told(reply)["changes"]] == ["k"]
        assert connection.is_closed()
    assert web.get("v1/entries/sneaked").status == 404


def test_a_connection_goes_on_after_a_long_poll(each: Web) -> None:
    poll = Poll(each)
    until(lambda: watchers(each) == 1, "it waits")
    each.put("/k", "v")
    assert poll.reply().status == 200
    poll.connection.send(each.request("GET", "v1/values/k"))
    assert poll.reply().body == b"v"


def test_a_client_of_http_1_0_may_wait_and_is_closed_after_its_answer(web: Web) -> None:
    poll = Poll(web, version="1.0")
    until(lambda: watchers(web) == 1, "it waits")
    web.put("/k", "v")
    assert poll.reply().headers["connection"] == "close"
    assert poll.connection.is_closed()


# Connections


def test_a_connection_serves_many_requests(each: Web) -> None:
    with each.server.connect() as connection:
        for number in range(50):
            connection.send(each.request("PUT", "v1/entries/k", body=str(number)))
            assert connection.reply() is not None
            connection.send(each.request("GET", "v1/values/k"))
            reply = connection.reply()
            assert reply is not None
            assert reply.body == str(number).encode()
            assert "connection" not in reply.headers


@pytest.mark.local("a write is answered later, and what is sent before its answer is not run")
def test_requests_in_one_segment_are_answered_in_their_order(each: Web) -> None:
    with each.server.connect() as connection:
        together = b"".join(
            each.request("PUT", "v1/entries/k", body=str(number)) + each.request("GET", "v1/values/k")
            for number in range(30)
        )
        connection.send(together)
        replies = [connection.reply() for _ in range(60)]
    assert [reply.body for reply in replies[1::2] if reply] == [str(number).encode() for number in range(30)]


def test_what_is_sent_behind_the_last_request_is_not_run(each: Web) -> None:
    with each.server.connect() as connection:
        last = each.request("PUT", "v1/entries/last", "Connection: close", body="v")
        connection.send(last + each.request("PUT", "v1/entries/sneaked", body="v"))
        assert [reply.status for reply in connection.rest()] == [201]
    assert each.get("v1/entries/sneaked").status == 404


def test_a_client_that_asks_first_is_told_to_go_on(each: Web) -> None:
    with each.server.connect() as connection:
        connection.send(each.request("PUT", "v1/entries/k", "Expect: 100-continue", "Content-Length: 1"))
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            buffer += connection._socket.recv(100)
        assert buffer == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"v")
        reply = connection.reply()
    assert reply is not None
    assert reply.status == 201


def test_a_large_value_comes_whole_to_a_slow_reader(each: Web) -> None:
    for number in range(16):
        each.put(f"/{number:02}", chr(97 + number) * 65_000)
    with each.server.connect() as connection:
        for _ in range(4):
            connection.send(each.request("GET", "v1/entries"))
        assert each.get("v1/values/00").status == 200
        replies = [connection.reply() for _ in range(4)]
    for reply in replies:
        assert reply is not None
        assert len(told(reply)["entries"]) == 16


def test_who_asks_for_more_and_more_and_takes_nothing_is_dropped(each: Web) -> None:
    for number in range(16):
        each.put(f"/{number:02}", chr(97 + number) * 65_000)
    with each.server.connect() as connection:
        for _ in range(40):
            connection.send(each.request("GET", "v1/entries"))
        assert each.get("v1/stats").status == 200
        whole = 0
        while (reply := connection.reply()) is not None and len(reply.body) == int(reply.headers["content-length"]):
            whole += 1
    assert whole < 40


# Headers


CHOSEN = "chosen7f3a"


def replies_of_all_kinds(web: Web) -> Iterator[Reply]:
    own = f"X-{CHOSEN}: {CHOSEN}"
    key = f"/{CHOSEN}"
    yield web.put(f"{key}?note={CHOSEN}", CHOSEN, own)
    yield web.put(f"{key}2", f'["{CHOSEN}"]', JSON, own)
    for path in (*GETS, "v1/openapi.json", "v1/changes?wait=0.01", f"v1/entries?prefix={CHOSEN}&limit=1"):
        yield web.get(path, own)
        yield web.ask("OPTIONS", path)
        yield web.ask("HEAD", path)
        yield web.ask(CHOSEN, path)
    for place in (key, f"{key}2", f"/{CHOSEN}%0d%0aX-Evil:%20y", "/%ff"):
        yield web.get(f"v1/entries{place}")
        yield web.get(f"v1/values{place}")
        yield web.get(f"v1/values{place}", "If-None-Match: *")
        yield web.put(place, CHOSEN, f'If-Match: "{CHOSEN}"')
        yield web.put(place, CHOSEN, f"Content-Type: text/plain; charset={CHOSEN}")
        yield web.put(f"{place}?{CHOSEN}={CHOSEN}", CHOSEN)
        yield web.ask("PUT", f"v1/entries{place}", own)
    yield web.post("increment", {"key": CHOSEN})
    yield web.post("increment", {"key": f"{CHOSEN}n", CHOSEN: 1})
    yield web.post("increment", {"key": f"{CHOSEN}n", "note": CHOSEN})
    yield web.post("batch", {"store": {CHOSEN: 1}, "if": {CHOSEN: "1"}})
    yield web.get(f"v1/changes?since={CHOSEN}")
    yield web.get("v1/changes?since=99999999999")
    yield web.get(CHOSEN)
    yield web.get(f"static/{CHOSEN}")
    yield web.ask("GET", f"/cache?{CHOSEN}", bare=True)
    yield web.delete(f"{key}?note={CHOSEN}")
    yield web.delete(key, "If-Match: *")
    yield Web(web.server, "away").get("v1/entries")


def test_every_reply_is_safe_in_a_browser_and_no_header_has_what_a_client_chose(each: Web) -> None:
    statuses = set()
    for reply in replies_of_all_kinds(each):
        statuses.add(reply.status)
        assert {name: reply.headers[name] for name in SAFE} == SAFE
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert set(reply.headers) - {*SAFE, "content-security-policy"} <= ALSO
        assert CHOSEN not in str(reply.headers)
        assert "evil" not in str(reply.headers).lower()
    assert statuses == {200, 201, 204, 304, 308, 400, 404, 405, 409, 410, 411, 412, 415, 503}


def test_a_value_does_nothing_in_a_browser(web: Web) -> None:
    tag = web.put("/k", "<script>alert(1)</script>").headers["etag"]
    web.put_json("/j", {"<script>": "alert(1)"})
    for reply in (web.get("v1/values/k"), web.get("v1/values/j"), web.get("v1/values/k", f"If-None-Match: {tag}")):
        assert reply.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert web.get("v1/values/k").headers["content-type"].startswith("text/plain")


def test_no_other_site_may_ask_for_anything(web: Web) -> None:
    for lines in (["Origin: https://evil.example"], ["Origin: null"], ["Sec-Fetch-Site: cross-site"]):
        assert web.put("/k", "v", *lines).status == 403
        assert web.ask("OPTIONS", "v1/entries/k", *lines, "Access-Control-Request-Method: PUT").status == 204
    assert web.ask("GET", "v1/entries", "Host: evil.example").status == 421
    assert web.put("/k", "v", f"Origin: http://{web.server.host}").status == 201


# The password


def test_the_password_is_asked_for(supervisords: dict[bool, Supervisord]) -> None:
    server = Server(supervisords[True], inet=True)
    before = supervisords[True].unix().cache.getKeys()
    paths = [*GETS, "v1/stream", "v1/openapi.json", "x", "static/none"]
    for path in [*(f"/cache/{path}" for path in paths), "/cache", "/other/v1/entries", "/reader/"]:
        # Without one, a wrong one, a user alone, another scheme.
        for lines in (
            [],
            *([f"Authorization: {each}"] for each in ("Basic b3BlcmF0b3I6d3Jvbmc=", "Basic b3BlcmF0b3I=", "Bearer x")),
        ):
            with server.connect() as connection:
                connection.send(request("GET", path, lines))
                reply = connection.reply()
            assert reply is not None
            assert (reply.status, "www-authenticate" in reply.headers) == (401, True)
            assert b"supervisor_cache" not in reply.body
    body = b'{"store": {"taken": 1}, "key": "taken"}'
    for method, path in (("PUT", "entries/taken"), ("DELETE", "entries/k"), ("POST", "batch"), ("POST", "increment")):
        with server.connect() as connection:
            lines = [f"Host: {server.host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
            # What follows the refused one is not run either.
            connection.send(
                request(method, f"/cache/v1/{path}", lines, body) + request("GET", "/cache/metrics", lines[:1])
            )
            connection.finish()
            reply = connection.reply()
            assert reply is not None
            assert reply.status == 401
            assert connection.reply() is None
    assert supervisords[True].unix().cache.getKeys() == before


# Which server may do what


def test_a_server_that_only_reads_says_so(supervisord: Supervisord) -> None:
    inet, unix = (Web(Server(supervisord, inet=inet), "reader") for inet in (True, False))
    unix.put("/k", "v")
    for reply in (
        *(inet.put("/k", "w"), inet.put("/k", "v", "If-Match: *"), inet.delete("/k"), inet.delete("/none")),
        *(inet.post("increment", {"key": "n"}), inet.post("touch", {"key": "k", "ttl": 5}), inet.post("batch", {})),
    ):
        problem(reply, 403, "READ_ONLY", READ_ONLY)
    assert inet.get("v1/values/k").body == b"v"
    shown = [[web.json("v1/stats")[name] for name in ("server", "writable", "confined")] for web in (inet, unix)]
    assert shown == [["inet_http_server", False, False], ["unix_http_server", True, False]]
    with pytest.raises(Fault, match="READ_ONLY"):
        supervisord.inet(None, None).reader.clear()


@pytest.fixture(scope="module", params=[False, True], ids=["open", "password"])
def confined(request: pytest.FixtureRequest) -> Iterator[Supervisord]:
    """A supervisord whose inet server serves two of its three namespaces and nothing else."""
    own = {**HTTP, "confine": "inet_http_server"}
    sections = {"cache": {**own, "read_only": "inet_http_server"}, "second": own, "third": HTTP, "silent": {}}
    with running(sections, program("sleeper"), login=request.param) as supervisord:
        yield supervisord
        assert "Traceback" not in supervisord.log


ELSEWHERE = [
    *(
        "/",
        "/index.html",
        "/logtail/sleeper",
        "/logtail/sleeper/stderr",
        "/mainlogtail",
        "/tail.html?processname=sleeper",
    ),
    *(
        "/stylesheets/supervisor.css",
        "/third/",
        "/third/v1/entries",
        "/silent/v1/entries",
        "/RPC3",
        "/RPC2x",
        "/RPC2//",
    ),
    *("//cache/v1/entries", "/%63ache/v1/entries", "/cache%2Fv1", "/CACHE/", "/cachex/", "/x", "*", "/third"),
    *("/index.html?action=restart&processname=sleeper", "/./cache/", "/RPC2/../logtail/sleeper", "http://x/cache/"),
]


def inet_of(confined: Supervisord, name: str = "cache") -> Web:
    return Web(Server(confined, inet=True), name)


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_confined_server_has_nothing_of_supervisord(confined: Supervisord, path: str) -> None:
    web = inet_of(confined)
    pid = confined.process("sleeper")["pid"]
    for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
        reply = web.ask(method, path, body="x", bare=True)
        assert reply.status == 403
        assert {name: reply.headers[name] for name in SAFE} == SAFE
        if method != "HEAD":
            problem(reply, 403)
    assert confined.process("sleeper")["pid"] == pid
    # The other server is not confined.
    assert Web(Server(confined, inet=False)).ask("GET", "/", bare=True).status == 200


def test_a_confined_server_serves_its_caches(confined: Supervisord) -> None:
    for name in ("cache", "second"):
        web = inet_of(confined, name)
        assert web.get("").status == 200
        assert web.json("v1/entries")["entries"] == []
        assert web.json("v1/stats")["confined"] is True
    problem(inet_of(confined).put("/k", "v"), 403, "READ_ONLY", READ_ONLY)
    assert inet_of(confined, "second").put("/k", "v").status == 201
    assert inet_of(confined, "second").delete("/k").status == 204
    assert Web(Server(confined, inet=False)).json("v1/stats")["confined"] is False


def rpc(confined: Supervisord) -> Any:
    return confined.inet() if confined.login else confined.inet(None, None)


def test_a_confined_server_answers_its_own_methods_and_no_others(confined: Supervisord) -> None:
    proxy = rpc(confined)
    names = {name.partition(".")[0] for name in proxy.system.listMethods()}
    assert names == {"cache", "second", "system"}
    assert proxy.cache.getCount() == 0
    assert proxy.second.store("k", 1) is True
    assert proxy.second.clear() is True
    assert "@return" in proxy.system.methodHelp("cache.fetch")
    for method in ("supervisor.getState", "supervisor.shutdown", "supervisor.getAllProcessInfo", "third.getKeys"):
        with pytest.raises(Fault, match="UNKNOWN_METHOD"):
            getattr(proxy, method)()
        with pytest.raises(Fault):
            proxy.system.methodHelp(method)
    with pytest.raises(Fault, match="UNKNOWN_METHOD"):
        proxy.silent.store("k", 1)
    calls = ["cache.getCount", "supervisor.shutdown", "third.clear", "system.listMethods", "second.getCount"]
    answers = proxy.system.multicall([{"methodName": name, "params": []} for name in calls])
    assert [answers[0], answers[4]] == [0, 0]
    assert [answers[number]["faultCode"] for number in (1, 2)] == [1, 1]
    assert {name.partition(".")[0] for name in answers[3]} == names
    assert confined.unix().supervisor.getState()["statename"] == "RUNNING"


def test_a_confined_server_asks_for_its_password(confined: Supervisord) -> None:
    if not confined.login:
        assert inet_of(confined).get("").status == 200
        return
    web = Web(Server(confined, inet=True))
    for path in ("/", "/cache/", "/RPC2", "/logtail/x", "/third/"):
        with web.server.connect() as connection:
            connection.send(f"POST {path} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".encode())
            reply = connection.reply()
        assert reply is not None
        assert reply.status == 401


# Namespaces


def test_a_namespace_without_http_has_no_path(each: Web) -> None:
    for path in ("/plain/", "/plain", "/plain/v1/entries", "/plain/metrics"):
        assert each.ask("GET", path, bare=True).status == 404
    assert calls(each.server.supervisord).plain.getCount() == 0


def test_two_namespaces_stand_side_by_side(web: Web, supervisord: Supervisord) -> None:
    other = Web(web.server, "other")
    web.put("/k", "mine")
    other.put("/k", "theirs")
    assert (web.get("v1/values/k").body, other.get("v1/values/k").body) == (b"mine", b"theirs")
    poll = Poll(other, "wait=100")
    until(lambda: other.json("v1/stats")["watchers"] == 1, "it waits")
    web.put("/k", "mine again")
    assert (web.json("v1/stats")["watchers"], other.json("v1/stats")["watchers"]) == (0, 1)
    other.put("/k", "theirs again")
    assert told(poll.reply())["changes"][0]["key"] == "k"
    poll.connection.close()
    assert calls(supervisord).other.getItems() == {"k": "theirs again"}


def test_a_reload_switches_the_interface_on_and_off(start: StartSupervisord) -> None:
    supervisord = start({"cache": {}, "other": HTTP})
    web, other = Web(Server(supervisord, inet=True)), Web(Server(supervisord, inet=True), "other")
    supervisord.unix().cache.store("k", "v")
    other.put("/k", "v")
    assert web.get("v1/entries").status == 404
    supervisord.sections = {"cache": {**HTTP, "confine": "inet_http_server"}, "other": {}}
    supervisord.reload()
    assert web.get("v1/values/k").body == b"v"
    assert other.get("v1/entries").status == 403
    assert web.ask("GET", "/", bare=True).status == 403
    supervisord.sections = {"cache": {}, "other": HTTP}
    supervisord.hang_up()  # with the configuration of before
    assert web.get("v1/values/k").body == b"v"
    supervisord.reload()
    assert web.get("v1/entries").status == 404
    assert other.get("v1/values/k").body == b"v"
    assert web.ask("GET", "/", bare=True).status == 200


def test_a_long_poll_ends_with_a_reload_and_leaves_nothing(start: StartSupervisord) -> None:
    supervisord = start({"cache": HTTP}, login=False)
    web = Web(Server(supervisord, inet=True))
    poll = Poll(web)
    until(lambda: watchers(web) == 1, "it waits")
    supervisord.reload()
    assert poll.connection.is_closed()
    assert watchers(web) == 0
    poll = Poll(web)
    until(lambda: watchers(web) == 1, "it waits")
    web.put("/k", "v")
    assert told(poll.reply())["changes"][0]["key"] == "k"


def test_a_write_is_an_event_and_wakes_who_waits_like_any_other(start: StartSupervisord) -> None:
    supervisord = listening(start, "CACHE", dict(HTTP))
    web, cache = Web(Server(supervisord, inet=True)), supervisord.unix().cache
    since = cache.getRevision()
    answers: list[Any] = []
    waiter = threading.Thread(target=lambda: answers.append(supervisord.unix().cache.wait(since, 100)))
    waiter.start()
    until(lambda: cache.getStats()["watchers"] == 1, "it waits")
    revision = told(web.put("/a?note=n", "v"))["revision"]
    waiter.join()
    assert answers
    web.post("increment", {"key": "n", "delta": 7})
    web.delete("/a")
    seen = [(name, header["key"], value) for name, header, value in received(supervisord, 3)]
    assert seen == [("CACHE_STORE", "a", '"v"'), ("CACHE_STORE", "n", "7"), ("CACHE_DELETE", "a", "")]
    change = cache.getChanges(since, "", 0)[0]
    assert (change["revision"], change["note"], change["via"]) == (revision, "n", "inet_http_server")
    assert cache.getStats()["writes"] == 3


# What it says of itself


def families_of(text: str) -> list[Any]:
    return list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def test_the_metrics_can_be_read_and_agree_with_the_statistics(each: Web) -> None:
    each.put_json("/metrics/n", 5)
    each.put_json("/metrics/d", 0.5)
    each.put_json(in_path('metrics/"\\ {}\u00e9'), True)  # noqa: FBT003 - a value
    each.put("/metrics/text", "5")
    each.put_json("/elsewhere", 5)
    reply = each.get("metrics")
    assert reply.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name: family for family in families_of(reply.body.decode())}
    shown = {sample.labels["key"]: sample.value for sample in families["supervisor_cache_entry"].samples}
    assert shown == {"metrics/n": 5, "metrics/d": 0.5, 'metrics/"\\ {}\u00e9': 1}
    stats = each.json("v1/stats")

    def value(name: str, **labels: str) -> float:
        family = families[f"supervisor_cache_{name}"]
        (found,) = (one.value for one in family.samples if labels.items() <= one.labels.items())
        return float(found)

    assert value("entries") == stats["entries"] == 5
    assert value("revision") == int(stats["revision"])
    assert value("limit", option="max_watchers") == WATCHERS
    assert value("size_bytes") == stats["bytes"]
    for name in ("hits", "misses", "writes", "refused", "expired", "published", "publications_dropped"):
        assert value(name) == stats[name]
    assert value("storage_state", supervisor_cache_storage_state="ok") == 1
    assert value("supervisord", identification="test") == 1
    assert all(sample.labels["namespace"] == "cache" for family in families.values() for sample in family.samples)


def test_a_hundred_entries_at_most_are_in_the_metrics(web: Web, proxy: Any) -> None:
    for part in parts({f"metrics/{number:04}": number for number in range(300)}):
        proxy.storeMany(part)
    families = families_of(web.get("metrics").body.decode())
    (entries,) = (family for family in families if family.name == "supervisor_cache_entry")
    assert len(entries.samples) == 100
    # Whatever stands before them, and however long.
    texts = [f"metrics/{number:04}" for number in range(2000)]
    texts += [f"metrics/{number:04}{'k' * 900}" for number in range(1800)]
    for start in range(0, len(texts), 600):
        for some in parts(dict.fromkeys(texts[start : start + 600], "text")):
            proxy.storeMany(some)
    proxy.store("metrics/last", 1)
    (entries,) = (
        family for family in families_of(web.get("metrics").body.decode()) if family.name == "supervisor_cache_entry"
    )
    assert [sample.labels["key"] for sample in entries.samples] == ["metrics/last"]
    assert b"supervisor_cache_entry{" not in Web(web.server, "other").get("metrics").body


def test_the_metrics_are_there_however_long_the_keys_are(web: Web) -> None:
    for turn in range(3):
        for part in parts({f"metrics/{turn}/{number:03}{'&' * 900}": turn for number in range(200)}):
            assert web.post("batch", {"store": part}).status == 200
    reply = web.get("metrics")
    assert reply.status == 200
    (entries,) = (family for family in families_of(reply.body.decode()) if family.name == "supervisor_cache_entry")
    assert len(entries.samples) == 100


def still(stats: dict[str, Any]) -> dict[str, Any]:
    """Leave out what grows with the time."""
    return {**stats, "uptime": 0, "storage": {**stats["storage"], "age": 0}}


def test_the_statistics_are_those_of_xml_rpc_and_tell_which_server_was_asked(each: Web) -> None:
    shown = each.json("v1/stats")
    expected = calls(each.server.supervisord).cache.getStats()
    server = "inet_http_server" if each.server.inet else "unix_http_server"
    here = {"server": server, "writable": True, "confined": False}
    assert still(shown) == {**still(expected), **here}
