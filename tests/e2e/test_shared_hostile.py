"""What stands where an etcd should, and is none: supervisord is unharmed, and says clearly what is wrong."""

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.stub import Peer, Script, Stub, always, http
from tests.e2e.test_shared_trouble import fault_of, observed, seconds_of, threads
from tests.harness import Supervisord, program, until

TIMEOUT = 0.5
# Beside what supervisord has of its own.
MOST_KILOBYTES = 150_000
HEADER = {"cluster_id": "1", "member_id": "1", "revision": "5", "raft_term": "2"}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def said(value: object) -> bytes:
    return http(json.dumps(value).encode(), "200 OK", "Content-Type: application/json")


def endless(start: bytes, piece: bytes) -> Script:
    """Answer each request with something that does not end."""

    def script(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(start)
            peer.flood(piece)

    return script


def dripping(data: bytes) -> Script:
    """Answer so slowly that each byte comes in time, and the answer never."""

    def script(peer: Peer) -> None:
        while peer.request() is not None and peer.drip(data * 100, 0.1):
            pass

    return script


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def flooding(start: bytes, piece: bytes) -> Script:
    """Answer a watch, and then with chunks that do not end."""

    def script(peer: Peer) -> None:
        peer.send(start or CHUNKED)
        peer.flood(chunk(piece))

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CREATED = CHUNKED + chunk(json.dumps({"result": {"header": HEADER, "created": True}}).encode() + b"\n")
ENDING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def answering(answer: Callable[[str, dict[str, Any]], object]) -> Script:
    """Answer requests by path and body: with JSON, or bytes as they are, or as a script does; a watch goes on."""

    def script(peer: Peer) -> None:
        while (head := peer.head()) is not None:
            sent = peer.body(head)
            if sent is None:  # cut off
                return
            path = head.split()[1].decode()
            found = answer(path, json.loads(sent))
            if callable(found):
                found(peer)
            elif isinstance(found, bytes):
                peer.send(found)
                if path == "/v3/watch":
                    peer.hang()
            else:
                peer.send(said(found))

    return script


def empty(path: str, _body: dict[str, Any]) -> object:
    """Answer as an etcd does that has nothing."""
    if path == "/v3/watch":
        return CREATED
    return {"header": HEADER, "succeeded": True, "ID": "7", "responses": []}


def wrong(path: str, value: object) -> Script:
    """Answer as `empty` does, but for one path."""
    return answering(lambda asked, body: value if asked == path else empty(asked, body))


def kv(key: str, value: str = '{"value":1,"modified":1,"expires":0}', revision: object = "3") -> dict[str, object]:
    return {"key": encoded(f"p/e/{key}"), "value": encoded(value), "mod_revision": revision}


def pages() -> Script:
    """Answer pages without an end, all of them the same."""
    return wrong("/v3/kv/range", {"header": HEADER, "more": True, "kvs": [kv("k")]})


NEVER_READ: dict[str, Script] = {
    "closes": lambda _: None,
    "garbage": always(b"\0\xff garbage \r\n\r\n" * 10),
    "half a head": lambda peer: peer.request() and peer.send(b"HTTP/1.1 200"),
    "half an answer": lambda peer: peer.request() and peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"he'),
    "no JSON": always(http(b"<html>welcome</html>")),
    "no object": always(http(b"[1, 2]")),
    "deep JSON": always(http(b"[" * 100_000)),
    "an empty object": always(http(b"{}")),
    "nulls": always(http(b'{"header": null, "kvs": null}')),
    "500": always(http(b"oops" * 1000, "500 Internal Server Error")),
    "302": always(http(b"", "302 Found", "Location: http://127.0.0.1/")),
    "401": always(http(b"<html>", "401 Unauthorized")),
    "an error of strange types": always(http(b'{"error": {"a": 1}, "code": "x"}', "400 Bad Request")),
    "a long error": always(http(json.dumps({"error": "e" * 60_000, "code": 7}).encode(), "403 Forbidden")),
    "continue without an end": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers without an end": endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "a line without an end": endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536),
    "an answer without an end": endless(ENDING, b"x" * 65536),
    "chunks without an end": endless(CHUNKED, chunk(b"[" * 65536)),
    "an error without an end": endless(b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n", b"x" * 65536),
    "a slow head": dripping(b"HTTP/1.1 200 OK\r\nX-Long: "),
    "a slow answer": dripping(ENDING),
    "pages without an end": pages(),
    "numbers of strange kinds": wrong("/v3/kv/range", {"header": {**HEADER, "revision": [1]}}),
    "a huge revision": wrong("/v3/kv/range", {"header": {**HEADER, "revision": "9" * 30}}),
    "a negative revision": wrong("/v3/kv/range", {"header": {**HEADER, "revision": -5}}),
    "a revision beyond numbers": wrong(
        "/v3/kv/range", http(b'{"header": {"cluster_id": "1", "revision": 1e999}, "kvs": []}')
    ),
    "keys of strange kinds": wrong("/v3/kv/range", {"header": HEADER, "kvs": [{"key": 5}, "x"]}),
}  # fmt: skip
WATCHED: dict[str, Script] = {
    "a watch without a beginning": wrong("/v3/watch", flooding(b"", b"\n" * 65536)),
    "a watch of garbage": wrong("/v3/watch", CHUNKED + chunk(b"garbage\n")),
    "a watch of no objects": wrong("/v3/watch", CHUNKED + chunk(b"[]\n")),
    "a watch of strange kinds": wrong("/v3/watch", CHUNKED + chunk(b'{"result": {"created": true, "header": 5}}\n')),
    "a watch that is canceled": wrong("/v3/watch", CHUNKED + chunk(b'{"result": {"canceled": true}}\n')),
    "events of strange kinds": wrong("/v3/watch", CREATED + chunk(b'{"result": {"events": [{"kv": {"key": 7}}]}}\n')),
}  # fmt: skip
WRITTEN: dict[str, Script] = {
    "writes of strange kinds": wrong("/v3/kv/txn", {"succeeded": True}),
    "conflicts of strange kinds": wrong("/v3/kv/txn", {"succeeded": False, "responses": "x"}),
    "leases of strange kinds": wrong("/v3/lease/grant", {"ID": "seven"}),
}


def section_of(stub: Stub) -> dict[str, str]:
    return {"storage": f"etcd://{stub.url.partition('//')[2]}/p", "etcd_timeout": str(TIMEOUT)}


def assert_unharmed(host: Supervisord, before: int) -> None:
    """See that a supervisord serves, keeps small, says what is wrong in one short line, and lets go at a reload."""
    told = host.storage()
    assert len(told["detail"]) < 500
    assert host.resident_kilobytes() - before < MOST_KILOBYTES
    running = threads(host)
    assert seconds_of(host.reload) < 3
    assert threads(host) <= running
    assert "Traceback" not in host.log
    assert "Traceback" not in (host.folder / "output").read_text()
    assert max(len(line) for line in host.log.splitlines()) < 1000


@pytest.mark.parametrize("kind", NEVER_READ)
def test_what_is_no_etcd_is_never_taken_for_one(start: StartSupervisord, kind: str) -> None:
    with Stub(NEVER_READ[kind]) as stub:
        host = start({"cache": section_of(stub)}, program("web"))
        before = host.resident_kilobytes()
        with observed(host):
            until(lambda: len(host.storage()["detail"]) > len("etcd has not been reached yet"), "it is told why", 5)
            until(lambda: max(stub.connections, len(stub.requests)) > 1, "it tries again", 5)
            time.sleep(0.5)
        cache = host.unix().cache
        assert fault_of(lambda: cache.fetch("k")) == fault_of(lambda: cache.store("k", 1)) == "UNAVAILABLE"
        assert host.storage()["state"] == "unavailable"
        assert_unharmed(host, before)


@pytest.mark.parametrize("kind", WATCHED)
def test_what_tells_of_no_changes_is_not_all_right(start: StartSupervisord, kind: str) -> None:
    with Stub(WATCHED[kind]) as stub:
        host = start({"cache": section_of(stub)}, program("web"))
        before = host.resident_kilobytes()
        with observed(host):
            until(lambda: host.storage()["state"] == "degraded", "it is told", 8)
            assert host.storage()["detail"]
        assert host.unix().cache.getItems() == {}
        assert_unharmed(host, before)


def test_what_is_told_without_an_end_is_not_kept(start: StartSupervisord) -> None:
    with Stub(wrong("/v3/watch", flooding(CREATED, b"x" * 65536))) as stub:
        host = start({"cache": section_of(stub)}, program("web"))
        before = host.resident_kilobytes()
        host.wait_for_storage()
        with observed(host):
            # It is asked for all that there is instead, again and again.
            until(lambda: sum(b"/v3/watch" in head for head in list(stub.requests)) > 2, "it tries again")
        assert host.unix().cache.getItems() == {}
        assert_unharmed(host, before)


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_write_that_is_answered_with_nonsense_may_be_stored(start: StartSupervisord, kind: str) -> None:
    with Stub(WRITTEN[kind]) as stub:
        host = start({"cache": section_of(stub)}, program("web"))
        before = host.resident_kilobytes()
        host.wait_for_storage()
        cache = host.unix().cache
        began = time.monotonic()
        outcome = fault_of(lambda: cache.store("k", 1, {"ttl": 100}))
        assert outcome in {"UNKNOWN_OUTCOME", "UNAVAILABLE"}
        assert time.monotonic() - began < TIMEOUT + 1
        assert outcome == "UNKNOWN_OUTCOME" or not any(b"/v3/kv/txn" in head for head in stub.requests)
        assert_unharmed(host, before)


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_write_for_which_there_is_no_room_may_be_stored_and_then_is_told(
    start: StartSupervisord, *, is_stored: bool
) -> None:
    """Etcd refuses a write that has filled it, and has stored it; the watch says so."""
    puts: list[dict[str, Any]] = []
    stored = threading.Event()

    def watch(peer: Peer) -> None:
        peer.send(CREATED)
        if stored.wait(10):
            events = [{"kv": {**put, "mod_revision": "6"}} for put in puts]
            peer.send(chunk(json.dumps({"result": {"header": HEADER, "events": events}}).encode() + b"\n"))

    def answer(path: str, body: dict[str, Any]) -> object:
        if path == "/v3/watch":
            return watch
        if path == "/v3/kv/txn":
            puts.extend(operation["request_put"] for operation in body["success"])
            if is_stored:
                stored.set()
            error = {"error": "etcdserver: mvcc: database space exceeded", "code": 8}
            return http(json.dumps(error).encode(), "429 Too Many Requests")
        if path == "/v3/kv/range" and body["key"] == encoded("/p/c") and stored.is_set():
            return {"header": HEADER, "kvs": [{"key": body["key"], "mod_revision": "6"}]}
        return empty(path, body)

    with Stub(answering(answer)) as stub:
        host = start({"cache": {**section_of(stub), "etcd_timeout": "3"}})
        host.wait_for_storage()
        cache = host.unix().cache
        assert fault_of(lambda: cache.store("k", 1)) == ("" if is_stored else "UNAVAILABLE")
        assert cache.getItems() == ({"k": 1} if is_stored else {})
