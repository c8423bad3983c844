"""The Python client and a server that answers wrongly, slowly, too much or not at all: a documented error, in time."""

import contextlib
import datetime as dt
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from xmlrpc.client import Fault

import pytest

from supervisor_cache import (
    AccessDeniedError,
    AddressError,
    CacheError,
    InvalidArgumentsError,
    InvalidReplyError,
    LimitExceededError,
    NoSocketError,
    NoSuchNamespaceError,
    ReadOnlyError,
    RejectedError,
    ShutdownError,
    UnknownOutcomeError,
    UnreachableError,
    connect,
)
from supervisor_cache.client import configuration
from supervisor_cache.client.address import find
from supervisor_cache.client.cache import CacheClient
from tests.conftest import StartSupervisord, missing
from tests.database import assert_serves
from tests.e2e.stub import PIECE, Peer, Relay, Script, Stub, always, answer, http, own_descriptors, xml
from tests.harness import PASSWORD, USER, Supervisord, program, running, until

# Seconds: the client's time-out where a server is slow, and what a busy machine may add to it.
TIMEOUT = 0.4
MARGIN = 15.0
# Long enough that nothing but the end of the call can be why it ends.
LONG = 60.0
KILLS = 2
INCREMENTERS = 8
# Of a process with the client and nothing else, whatever it is sent; half of what would be too much of a reply is fine.
MOST_KILOBYTES = 250 * 1024
STUBBORN = "/bin/sh -c 'trap \"\" TERM; echo ready > %(here)s/ready; while true; do sleep 0.05; done'"

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = answer(5)
# A body that is not in the first piece that is read of a reply.
LARGE = xml("x" * 500_000)


def connection_of(cache: CacheClient) -> Any:
    """The connection of this thread."""
    caller: Any = cache._caller
    return caller._own.connection


class Case(NamedTuple):
    """What a server does once it has read a request, and what a read and a write end in."""

    act: Callable[[Peer], object]
    read: type[CacheError]
    write: type[CacheError]


def unclear(act: Callable[[Peer], object] | bytes, read: type[CacheError]) -> Case:
    """The write may have happened."""
    if isinstance(act, bytes):
        data = act
        return Case(lambda peer: peer.send(data), read, UnknownOutcomeError)
    return Case(act, read, UnknownOutcomeError)


def certain(data: bytes, error: type[CacheError]) -> Case:
    """Nothing was written, and the error says why."""
    return Case(lambda peer: peer.send(data), error, error)


def fault(*members: str) -> bytes:
    inside = "".join(f"<member>{member}</member>" for member in members)
    return http(f"<methodResponse><fault><value><struct>{inside}</struct></value></fault></methodResponse>".encode())


def wait_then(peer: Peer, data: bytes) -> None:
    time.sleep(TIMEOUT * 2)
    peer.send(data)


CUT = {
    "nothing": unclear(lambda _: None, UnreachableError),
    "half a status line": unclear(b"HTTP/1.1 20", InvalidReplyError),
    "half the headers": unclear(OK + b"Content-Le", InvalidReplyError),
    "headers alone": unclear(OK + b"Content-Length: 100\r\n\r\n", UnreachableError),
    "half the body": unclear(WHOLE[:-20], UnreachableError),
    "half a large body": unclear(http(LARGE)[:-200_000], UnreachableError),
    "half a body without its length": unclear(OK + b"\r\n" + LARGE[:-10], InvalidReplyError),
    "half a chunk": unclear(CHUNKED + b"ff\r\n<metho", UnreachableError),
    "no last chunk": unclear(CHUNKED + b"5\r\n<meth\r\n", UnreachableError),
}
WRONG = {
    "another protocol": unclear(b"SSH-2.0-OpenSSH_9.2\r\n", InvalidReplyError),
    "another version of HTTP": unclear(b"HTTP/3 200 OK\r\nContent-Length: 0\r\n\r\n", InvalidReplyError),
    "a status that is none": unclear(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", InvalidReplyError),
    "an endless line": unclear(OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n", InvalidReplyError),
    "too many headers": unclear(OK + b"X: x\r\n" * 200 + b"\r\n", InvalidReplyError),
    "a chunk of less than nothing": unclear(CHUNKED + b"-5\r\nabcdef\r\n", InvalidReplyError),
    "a chunk without a size": unclear(CHUNKED + b"many\r\nabcdef\r\n", UnreachableError),
    "a page of HTML": unclear(http(b"<!DOCTYPE html><html><br></html>", "200 OK"), InvalidReplyError),
    "no body": unclear(http(b""), InvalidReplyError),
    "something packed": unclear(http(b"\x1f\x8b\x08\0\0\0", "200 OK", "Content-Encoding: gzip"), InvalidReplyError),
    "bytes": unclear(http(bytes(range(256)) * 10), InvalidReplyError),
    "text behind the XML": unclear(http(xml(5) + b"more"), InvalidReplyError),
    "a request": unclear(http(b"<methodCall><methodName>x</methodName></methodCall>"), InvalidReplyError),
    "XML of something else": unclear(http(b"<x><y/></x>"), InvalidReplyError),
    "two answers": unclear(
        http(xml(5).replace(b"</params>", b"<param><value><int>6</int></value></param></params>")), InvalidReplyError
    ),
    "no answer": unclear(http(b"<methodResponse><params></params></methodResponse>"), InvalidReplyError),
    "a number that is none": unclear(http(xml(5).replace(b">5<", b">five<")), InvalidReplyError),
    "an array": unclear(answer([5]), InvalidReplyError),
    "a struct": unclear(answer({"n": 5}), InvalidReplyError),
    "a string": unclear(answer("5"), InvalidReplyError),
    "a boolean": unclear(answer(value=True), InvalidReplyError),
    "nil": unclear(answer(None), InvalidReplyError),
    "a fault without a code": unclear(fault("<name>faultString</name><value>FAILED: so</value>"), InvalidReplyError),
    "a fault without a text": unclear(fault("<name>faultCode</name><value><int>30</int></value>"), InvalidReplyError),
    "a fault whose code is text": unclear(
        fault("<name>faultCode</name><value>thirty</value>", "<name>faultString</name><value>x</value>"),
        InvalidReplyError,
    ),
    "a fault whose code is an array": unclear(
        fault(
            "<name>faultCode</name><value><array><data></data></array></value>",
            "<name>faultString</name><value>x</value>",
        ),
        InvalidReplyError,
    ),
    "a fault whose text is a number": unclear(
        fault(
            "<name>faultCode</name><value><int>30</int></value>", "<name>faultString</name><value><int>1</int></value>"
        ),
        InvalidReplyError,
    ),
    "a fault that is nothing": unclear(http(b"<methodResponse><fault></fault></methodResponse>"), InvalidReplyError),
}
TOLD = {
    "a fault with a code of its own": certain(answer(Fault(4711, "ODD: whatever")), CacheError),
    "a fault with a code below zero": certain(answer(Fault(-5, "")), CacheError),
    "a fault of the interface": certain(answer(Fault(201, "LIMIT_EXCEEDED: full")), LimitExceededError),
    "no such method": certain(answer(Fault(1, "UNKNOWN_METHOD")), NoSuchNamespaceError),
    "301": certain(http(b"", "301 Moved Permanently", "Location: http://127.0.0.1:1/"), RejectedError),
    "400": certain(http(b"bad", "400 Bad Request"), RejectedError),
    "401": certain(http(b"who?", "401 Unauthorized", "WWW-Authenticate: Basic"), AccessDeniedError),
    "403": certain(http(b"", "403 Forbidden"), RejectedError),
    "404": certain(http(b"", "404 Not Found"), RejectedError),
    "413": certain(http(b"", "413 Request Entity Too Large"), LimitExceededError),
    # A proxy may have handed the request on.
    "202": unclear(http(b"", "202 Accepted"), RejectedError),
    "204": unclear(b"HTTP/1.1 204 No Content\r\n\r\n", RejectedError),
    "500": unclear(http(b"", "500 Internal Server Error"), RejectedError),
    "502": unclear(http(b"", "502 Bad Gateway"), RejectedError),
    "503": unclear(http(b"", "503 Service Unavailable"), RejectedError),
}
SLOW = {
    "never": unclear(lambda peer: peer.hang(), UnreachableError),
    "after the time-out": unclear(lambda peer: wait_then(peer, WHOLE), UnreachableError),
    "a byte at a time": unclear(lambda peer: peer.drip(WHOLE), UnreachableError),
    "a body, a byte at a time": unclear(lambda peer: (peer.send(WHOLE[:80]), peer.drip(WHOLE[80:])), UnreachableError),
    "chunks, a byte at a time": unclear(
        lambda peer: (peer.send(CHUNKED), [peer.drip(b"1\r\n<\r\n") for _ in range(9)]), UnreachableError
    ),
    "to be continued": unclear(lambda peer: peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 9), UnreachableError),
}


def endless(head: bytes, piece: bytes) -> Callable[[Peer], object]:
    def act(peer: Peer) -> None:
        peer.send(head)
        peer.flood(piece)

    return act


def entities(text: bytes) -> bytes:
    return http(b"<?xml version='1.0'?>\n" + text)


LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 10))
CALLED = b"<methodResponse><params><param><value><string>%s</string></value></param></params></methodResponse>"
OVERSIZED = {
    "an endless body": (endless(OK + b"\r\n", b"x" * PIECE), InvalidReplyError),
    "a body of terabytes": (endless(OK + b"Content-Length: 9000000000000\r\n\r\n", b"x" * PIECE), InvalidReplyError),
    "a body of a length that nobody can count": (
        endless(OK + b"Content-Length: %s\r\n\r\n" % (b"9" * 5000), b"x" * PIECE),
        InvalidReplyError,
    ),
    "a chunk of terabytes": (endless(CHUNKED + b"fffffffffff\r\n", b"x" * PIECE), InvalidReplyError),
    "endless chunks": (endless(CHUNKED, b"10000\r\n" + b"x" * PIECE + b"\r\n"), InvalidReplyError),
    "endless small chunks": (endless(CHUNKED, (b"100\r\n" + b"x" * 256 + b"\r\n") * 1000), InvalidReplyError),
    "a chunk of all that comes": (endless(CHUNKED + b"-1\r\n", b"x" * PIECE), InvalidReplyError),
    "a size without an end": (endless(CHUNKED, b"1" * PIECE), InvalidReplyError),
    "to be continued for ever": (
        endless(b"", b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 5000 + b"\r\n\r\n"),
        InvalidReplyError,
    ),
    "endless headers": (endless(OK, b"X: " + b"x" * 60_000 + b"\r\n"), InvalidReplyError),
    "a header without an end": (endless(OK, b"x" * PIECE), InvalidReplyError),
    "a status line without an end": (endless(b"", b"HTTP/1.1 200 x" * 1000), InvalidReplyError),
    "trailers without an end": (endless(CHUNKED + b"0\r\n", b"X: " + b"x" * 5000 + b"\r\n"), InvalidReplyError),
    "a bomb of entities": (
        lambda peer: peer.send(
            entities(b'<!DOCTYPE x [<!ENTITY l0 "ha">' + LAUGHS + b"]>" + CALLED % b"&l9;"),
        ),
        InvalidReplyError,
    ),
    "a flat bomb of entities": (
        lambda peer: peer.send(
            entities(b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 100_000 + b'">]>' + CALLED % (b"&a;" * 20_000)),
        ),
        InvalidReplyError,
    ),
    "an array without an end": (
        endless(OK + b"\r\n<methodResponse><params><param>", b"<value><array><data>" * 1000),
        InvalidReplyError,
    ),
}


def after(good: int, act: Callable[[Peer], object]) -> Script:
    """A script that answers so many requests of all rightly, and ends the connection of any other with ``act``."""
    asked = 0

    def script(peer: Peer) -> None:
        nonlocal asked
        while peer.request() is not None:
            asked += 1
            if asked > good:
                act(peer)
                return
            peer.send(WHOLE)

    return script


# A new connection, or one that has been used before.
CONNECTIONS = {"over tcp, at once": ("tcp", 0), "over unix, later": ("unix", 1)}


def assert_documented(case: Case, kind: str, good: int, timeout: float, *, write: bool) -> None:
    with Stub(after(good, case.act), kind) as stub, connect(stub.url, timeout=timeout) as cache:
        for _ in range(good):
            assert cache.get_count() == 5
        call: Callable[[], object] = (lambda: cache.increment("n")) if write else cache.get_count
        began = time.monotonic()
        with pytest.raises(CacheError) as caught:
            call()
        assert time.monotonic() - began < timeout + MARGIN
    assert type(caught.value) is (case.write if write else case.read)
    assert caught.value.text.isascii()
    sent = len(stub.requests) - good
    # A read whose connection turns out to be cut is asked once more.
    assert sent == 1 or (sent == 2 and good and not write)


QUICK = {**CUT, **WRONG, **TOLD}


@pytest.mark.parametrize(("kind", "good"), CONNECTIONS.values(), ids=CONNECTIONS)
@pytest.mark.parametrize("case", QUICK.values(), ids=QUICK)
def test_a_bad_reply_ends_in_a_documented_error_and_no_write_is_sent_twice(case: Case, kind: str, good: int) -> None:
    for write in (False, True):
        assert_documented(case, kind, good, MARGIN, write=write)


@pytest.mark.parametrize("case", SLOW.values(), ids=SLOW)
def test_a_slow_reply_is_given_up_in_time(case: Case) -> None:
    # At once, for each takes all of its time.
    with ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(assert_documented, case, kind, good, TIMEOUT, write=write)
            for kind, good in CONNECTIONS.values()
            for write in (False, True)
        ]
        for call in calls:
            call.result()


@pytest.mark.parametrize(("act", "error"), OVERSIZED.values(), ids=OVERSIZED)
def test_a_reply_without_end_takes_little_memory(act: Callable[[Peer], object], error: type[CacheError]) -> None:
    # In a process of its own: how much memory it took at most is known of a process alone.
    program = """
        import resource, sys
        from supervisor_cache import CacheError, connect
        with connect(sys.argv[1], timeout=20) as cache:
            for call in (lambda: cache.get_count(), lambda: cache.increment("n")):
                try:
                    print("answer", call())
                except CacheError as error:
                    print(type(error).__name__)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    with Stub(after(0, act)) as stub:
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), stub.url],
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )
    assert ended.stderr == ""
    read, write, kilobytes = ended.stdout.split()
    assert (read, write) == (error.__name__, "UnknownOutcomeError")
    assert int(kilobytes) < MOST_KILOBYTES
    # The connection may be closed before the second one is read.
    assert len(stub.requests) in {1, 2}


# Each method that understands its answer in a way of its own, and answers of other shapes.
READS: dict[str, Callable[[CacheClient], object]] = {
    "get_api_version": lambda cache: cache.get_api_version(),
    "get_keys": lambda cache: cache.get_keys(),
    "get_keys of a page": lambda cache: cache.get_keys("", "", 5),
    "get_count": lambda cache: cache.get_count(),
    "fetch_many": lambda cache: cache.fetch_many(["k"]),
    "get_items": lambda cache: cache.get_items(),
    "get_entry": lambda cache: cache.get_entry("k"),
    "get_entries": lambda cache: cache.get_entries(),
    "get_revision": lambda cache: cache.get_revision(),
    "get_changes": lambda cache: cache.get_changes(1),
    "get_changes of a page": lambda cache: cache.get_changes(1, "", 5),
    "wait": lambda cache: cache.wait(1, 0.1),
    "get_stats": lambda cache: cache.get_stats(),
}
WRITES: dict[str, Callable[[CacheClient], object]] = {
    "store": lambda cache: cache.store("k", 1),
    "store_many": lambda cache: cache.store_many({"k": 1}),
    "add": lambda cache: cache.add("k", 1),
    "store_if": lambda cache: cache.store_if("k", 1, 5),
    "increment": lambda cache: cache.increment("k"),
    "touch": lambda cache: cache.touch("k", 5),
    "touch_if": lambda cache: cache.touch_if("k", 5, 5),
    "delete": lambda cache: cache.delete("k"),
    "delete_if": lambda cache: cache.delete_if("k", 5),
    "delete_many": lambda cache: cache.delete_many(["k"]),
    "delete_prefix": lambda cache: cache.delete_prefix("k"),
    "clear": lambda cache: cache.clear(note="all"),
}
ENTRY = {"key": "k", "value": 1, "revision": "7", "modified": 1.0, "expires": 0.0, "owner": "", "note": ""}
CHANGE = {"revision": "7", "kind": "store", "key": "k", "modified": 1.0, "note": "", "via": ""}
SHAPES: dict[str, tuple[object, set[str]]] = {
    # An answer, and the methods that may take it for theirs.
    "nil": (None, set()),
    "a double": (float("inf"), set()),
    "a date": (dt.datetime(2026, 1, 1), set()),  # noqa: DTZ001 - as XML-RPC has it
    "bytes": (b"5", set()),
    "a number": (5, {"get_count", "increment", "delete_many", "delete_prefix"}),
    "a boolean": (True, {"store", "delete", "delete_if", "clear"}),
    "a text": ("x", {"get_api_version"}),
    "a number of too many digits": ("9" * 5000, {"get_api_version"}),
    "an array of numbers": ([5], set()),
    "an array of arrays": ([[]], set()),
    "a struct of another kind": ({"key": 5, "changed": "yes"}, {"fetch_many", "get_stats"}),
    "an entry with a number for a key": ({**ENTRY, "key": 5}, {"fetch_many", "get_stats"}),
    "an entry with a double for a revision": ({**ENTRY, "revision": 7.0}, {"fetch_many", "get_stats"}),
    "an array of entries with text for a time": ([{**ENTRY, "modified": "now"}], set()),
    "an array of changes with a number for a note": ([{**CHANGE, "note": 5}], set()),
    "an array of changes from before": ([{**CHANGE, "revision": "1"}], set()),
}


@pytest.mark.parametrize(("told", "fits"), SHAPES.values(), ids=SHAPES)
def test_an_answer_of_another_shape_is_unreadable(told: object, fits: set[str]) -> None:
    with Stub(always(answer(told))) as stub, connect(stub.url, timeout=MARGIN) as cache:
        for name, call in READS.items():
            if name not in fits:
                with pytest.raises(InvalidReplyError):
                    call(cache)
        for name, call in WRITES.items():
            if name not in fits:
                with pytest.raises(UnknownOutcomeError):
                    call(cache)
            else:
                call(cache)
        # All over one connection: what was read was read to its end.
        assert stub.connections == 1


@pytest.mark.parametrize(
    ("told", "call"),
    [
        ([CHANGE], lambda cache: cache.get_changes(1)),
        ([{**ENTRY, "key": f"{number:03}"} for number in range(500)], lambda cache: cache.get_entries()),
        ([f"{number:03}" for number in range(5)], lambda cache: cache.get_keys("", "004", 5)),
    ],
    ids=["changes", "entries", "keys"],
)
def test_a_server_that_answers_the_same_page_for_ever_is_none(
    told: object, call: Callable[[CacheClient], object]
) -> None:
    with (
        Stub(always(answer(told))) as stub,
        connect(stub.url, timeout=MARGIN) as cache,
        pytest.raises(InvalidReplyError),
    ):
        call(cache)


@pytest.mark.parametrize(
    "reply",
    [
        http(LARGE),
        http(LARGE, "200 OK", "Connection: close"),
        OK + b"\r\n" + LARGE,
        b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE,
        CHUNKED
        + b"".join(
            b"%x\r\n%s\r\n" % (len(LARGE) // 4, LARGE[at : at + len(LARGE) // 4])
            for at in range(0, len(LARGE) // 4 * 4, len(LARGE) // 4)
        )
        + b"%x\r\n%s\r\n" % (len(LARGE) % 4 or 1, LARGE[len(LARGE) // 4 * 4 :] or b"\n")
        + b"0\r\nX: trailer\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + http(LARGE),
    ],
    ids=["kept", "then closed", "until it closes", "of an older version", "in chunks", "after it was to be continued"],
)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_every_way_of_saying_where_a_reply_ends_is_understood(reply: bytes, kind: str) -> None:
    closes = reply.startswith((OK + b"\r\n", b"HTTP/1.0")) or b"Connection: close" in reply

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(reply)
            if closes:
                return

    with Stub(script, kind) as stub, connect(stub.url, timeout=MARGIN) as cache:
        for number in range(1, 4):
            assert cache.fetch("k") == "x" * 500_000
            assert len(stub.requests) == number
        assert stub.connections == (3 if closes else 1)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_connection_that_was_closed_between_two_calls_is_made_anew_for_a_write_too(kind: str) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(WHOLE)
        closed.set()

    with Stub(script, kind) as stub, connect(stub.url, timeout=MARGIN) as cache:
        for number in range(1, 6):
            closed.clear()
            assert cache.increment("n") == 5
            assert closed.wait(MARGIN)
            # The thread closes it now.
            until(connection_of(cache).sock.is_stale, "it is closed")
            assert len(stub.requests) == number


@pytest.mark.parametrize(
    "garbage", [b"garbage", http(xml(6)), b"HTTP/1.1 500 No\r\n\r\n"], ids=["text", "a reply", "an error"]
)
def test_what_comes_after_a_reply_is_never_taken_for_the_next_one(garbage: bytes) -> None:
    sent = threading.Event()

    def script(peer: Peer) -> None:
        number = 0
        while peer.request() is not None:
            number += 1
            peer.send(answer(number * 10))
            sent.wait(MARGIN)
            peer.send(garbage)

    with Stub(script) as stub, connect(stub.url, timeout=MARGIN) as cache:
        assert cache.get_count() == 10
        sent.set()
        until(connection_of(cache).sock.is_stale, "it is there")
        assert cache.get_count() == 10
        assert stub.connections == 2


def test_a_reply_to_an_earlier_request_is_never_taken_for_a_later_one() -> None:
    late = threading.Event()

    def script(peer: Peer) -> None:
        if stub.connections == 1:
            peer.request()
            late.wait(MARGIN)
            peer.send(answer(1))
        while peer.request() is not None:
            peer.send(answer(2))

    with Stub(script) as stub, connect(stub.url, timeout=TIMEOUT) as cache:
        with pytest.raises(UnreachableError, match="no answer in time"):
            cache.get_count()
        late.set()
        assert [cache.get_count() for _ in range(5)] == [2] * 5


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("good", [0, 1])
def test_a_request_that_is_refused_before_it_was_read_is_too_large(kind: str, good: int) -> None:
    def script(peer: Peer) -> None:
        for _ in range(good):
            peer.request()
            peer.send(WHOLE)
        if peer.head() is not None:
            peer.send(http(b"", "413 Request Entity Too Large"))

    with Stub(script, kind) as stub, connect(stub.url, timeout=MARGIN) as cache:
        for _ in range(good):
            cache.get_count()
        with pytest.raises(LimitExceededError, match="max_request_bytes"):
            cache.store("k", "x" * 20_000_000)
        assert len(stub.requests) == good + 1


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_server_that_does_not_read_a_request_is_given_up_in_time(kind: str) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        over.wait(LONG)

    with Stub(script, kind) as stub, connect(stub.url, timeout=TIMEOUT) as cache:
        began = time.monotonic()
        # Not sent whole, so not carried out.
        with pytest.raises(UnreachableError, match="no answer in time"):
            cache.store("k", "x" * 20_000_000)
        assert time.monotonic() - began < TIMEOUT + MARGIN
        over.set()
        assert len(stub.requests) == 1


def test_nobody_there_is_unreachable_for_reads_and_writes(tmp_path: Path) -> None:
    with socket.socket() as bound:
        # Bound and not listening: refused, and nobody else gets the port meanwhile.
        bound.bind(("127.0.0.1", 0))
        cache = connect(f"http://127.0.0.1:{bound.getsockname()[1]}")
        for call in (cache.get_count, lambda: cache.increment("n")):
            with pytest.raises(UnreachableError, match="refused connection"):
                call()
    cache = connect(f"unix://{tmp_path}/none.sock")
    for call in (cache.get_count, lambda: cache.increment("n")):
        with pytest.raises(NoSocketError, match="no such file"):
            call()
    (tmp_path / "file").touch()
    with pytest.raises(UnreachableError):
        connect(f"unix://{tmp_path}/file").increment("n")
    with pytest.raises(UnreachableError):
        connect(f"unix://{tmp_path}/{'x' * 200}").increment("n")
    with pytest.raises(UnreachableError):
        connect("http://does-not-exist.invalid:9001").increment("n")


@pytest.fixture(scope="module")
def host() -> Iterator[Supervisord]:
    """A supervisord with a password on one server, and a cache for each kind of refusal."""
    sections = {
        "cache": {},
        "kept": {"storage": "sqlite:kept.db"},
        "full": {"max_entries": "2"},
        "fixed": {"read_only": "inet_http_server"},
    }
    with running(sections) as supervisord:
        yield supervisord
        assert_serves(supervisord.folder / "kept.db", supervisord.unix().kept)
        assert "Traceback" not in supervisord.log


def over_both(supervisord: Supervisord, **given: Any) -> list[CacheClient]:
    """A client over each server."""
    return [
        connect(supervisord.unix_url, **given),
        connect(supervisord.inet_url, user=USER, password=PASSWORD, **given),
    ]


# Threads, forks, closing


def test_each_thread_has_a_connection_which_goes_with_it_and_all_go_with_the_client() -> None:
    with Stub(always(WHOLE)) as stub:
        cache = connect(stub.url, timeout=MARGIN)
        ready, go_on = threading.Barrier(9), threading.Event()

        def work() -> None:
            for _ in range(3):
                cache.get_count()
            ready.wait(MARGIN)
            go_on.wait(MARGIN)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        ready.wait(MARGIN)
        assert stub.connections == 8
        assert len(cache._caller._all) == 8  # type: ignore[attr-defined]
        go_on.set()
        for thread in threads:
            thread.join()
        # The server sees them go, and its own ends go, too.
        until(lambda: not any(thread.is_alive() for thread in stub._threads), "all connections are closed")
        before = own_descriptors()
        cache.get_count()
        until(lambda: own_descriptors() == before + 2, "one more connection, of two ends here")
        cache.close()
        until(lambda: own_descriptors() == before, "none")


def test_errors_leave_no_descriptors_behind() -> None:
    with Stub(after(0, lambda peer: peer.send(WHOLE[:-5]))) as stub:
        before = own_descriptors()
        with connect(stub.url, timeout=MARGIN) as cache:
            for _ in range(20):
                with pytest.raises(UnreachableError):
                    cache.get_count()
            until(lambda: own_descriptors() == before, "all are closed")


def test_a_closed_client_says_so() -> None:
    with Stub(always(WHOLE)) as stub:
        cache = connect(stub.url)
        cache.get_count()
        for _ in range(2):
            cache.close()
        for call in (cache.get_count, lambda: cache.increment("n"), lambda: cache.wait(1, 1)):
            with pytest.raises(ValueError, match="this client is closed"):
                call()
        assert len(stub.requests) == 1


@pytest.mark.parametrize("good", [0, 1], ids=["a new connection", "a kept connection"])
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_close_wakes_a_call_that_is_under_way(good: int, write: bool) -> None:
    with Stub(after(good, lambda peer: peer.hang())) as stub, ThreadPoolExecutor(1) as pool:
        cache = connect(stub.url, timeout=LONG)
        for _ in range(good):
            pool.submit(cache.get_count).result(MARGIN)
        began = time.monotonic()
        call = pool.submit(cache.increment, "n") if write else pool.submit(cache.get_count)
        until(lambda: len(stub.requests) == good + 1, "it is under way")
        cache.close()
        expected = UnknownOutcomeError if write else UnreachableError
        assert isinstance(call.exception(LONG), expected)
        assert time.monotonic() - began < LONG / 2
        # It is not asked once more.
        assert (len(stub.requests), stub.connections) == (good + 1, 1)


FORKING = """
    import os, sys, threading
    from supervisor_cache import connect

    cache = connect(sys.argv[1], user=sys.argv[2], password=sys.argv[3], timeout=20)
    cache.clear()
    cache.store("mine", "parent")
    if not (child := os.fork()):
        for number in range(1, 201):
            assert cache.increment("child") == number
            assert cache.fetch("mine") == "parent"
        os._exit(0)
    for number in range(1, 201):
        assert cache.increment("parent") == number
        assert cache.get_count() in (2, 3)
    assert os.waitpid(child, 0)[1] == 0
    assert dict(cache) == {"mine": "parent", "child": 200, "parent": 200}

    # A child that only closes.
    connection = cache._caller._own.connection
    if not (child := os.fork()):
        cache.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not connection.sock.is_stale()
    assert cache.increment("parent") == 201
    assert cache._caller._own.connection is connection

    # A child of a thread, while another one holds a connection.
    waiting = threading.Thread(target=cache.wait, args=(cache.get_revision(), 20, "other"))
    waiting.start()
    if not (child := os.fork()):
        os._exit(0 if cache.increment("child") == 201 else 1)
    assert os.waitpid(child, 0)[1] == 0
    cache.store("other", 1)
    waiting.join(20)
    assert not waiting.is_alive()
    print("done")
"""


@pytest.mark.parametrize("over", ["unix", "inet"])
def test_parent_and_child_go_on_after_a_fork_with_connections_of_their_own(host: Supervisord, over: str) -> None:
    url = host.unix_url if over == "unix" else host.inet_url
    # In a process without further threads, and which does nothing else.
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(FORKING), url, USER, PASSWORD],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("done\n", "")


# Other networks


def test_ipv6_is_spoken() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        missing("IPv6")
    with Stub(always(WHOLE), "tcp6") as stub, connect(stub.url, timeout=MARGIN) as cache:
        assert cache.get_count() == 5
        assert cache.increment("n") == 5
        assert f"Host: {stub.url.removeprefix('http://')}".encode() in stub.requests[0]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and the certificate that it signed itself, for 127.0.0.1."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        missing("openssl")
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture
def encrypted(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(encrypted: ssl.SSLContext) -> None:
    with Stub(always(WHOLE), tls=encrypted) as stub:
        with connect(stub.url, user=USER, password=PASSWORD, timeout=MARGIN) as cache:
            for call in (cache.get_count, lambda: cache.increment("n")):
                with pytest.raises(UnreachableError, match=r"(?i)certificate"):
                    call()
        assert stub.requests == []


def test_a_certificate_that_is_trusted_is_taken(
    encrypted: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    with Stub(always(http(LARGE, "200 OK")), tls=encrypted) as stub, connect(stub.url, timeout=MARGIN) as cache:
        for _ in range(3):
            assert cache.fetch("k") == "x" * 500_000
        assert stub.connections == 1


def test_a_server_without_encryption_is_no_https_and_one_that_is_silent_times_out() -> None:
    for act, words in ((lambda peer: peer.send(b"what?\r\n"), "SSL"), (lambda peer: peer.hang(), "no answer in time")):

        def script(peer: Peer, act: Any = act) -> None:
            act(peer)

        with Stub(script) as stub:
            cache = connect(stub.url.replace("http:", "https:"), timeout=TIMEOUT)
            for call in (cache.get_count, lambda cache=cache: cache.increment("n")):
                began = time.monotonic()
                with pytest.raises(UnreachableError, match=words):
                    call()
                assert time.monotonic() - began < TIMEOUT + MARGIN


# A real supervisord


def test_user_and_password_are_wanted(host: Supervisord) -> None:
    assert connect(host.inet_url, user=USER, password=PASSWORD).get_api_version() == "2.0"
    logins: list[dict[str, Any]] = [{}, {"user": USER, "password": "wrong"}, {"user": "somebody", "password": PASSWORD}]
    for login in logins:
        cache = connect(host.inet_url, **login)
        for call in (cache.get_count, lambda cache=cache: cache.increment("n")):
            with pytest.raises(AccessDeniedError, match="user or password missing or wrong"):
                call()
    assert "n" not in connect(host.unix_url)


def test_a_full_cache_a_server_that_only_reads_and_a_name_that_is_none_say_so(host: Supervisord) -> None:
    cache = connect(host.unix_url, namespace="full")
    cache.clear()
    cache.update(a=1, b=2)
    with pytest.raises(LimitExceededError, match="max_entries"):
        cache["c"] = 3
    with pytest.raises(LimitExceededError):
        cache.store("a", "x" * 100_000)
    with pytest.raises(LimitExceededError, match="max_request_bytes"):
        cache.store("a", "x" * 30_000_000)
    assert dict(cache) == {"a": 1, "b": 2}
    fixed = connect(host.inet_url, namespace="fixed", user=USER, password=PASSWORD)
    for call in (lambda: fixed.store("k", 1), fixed.clear, lambda: fixed.increment("n")):
        with pytest.raises(ReadOnlyError, match="inet_http_server"):
            call()
    assert dict(fixed) == {}
    with pytest.raises(NoSuchNamespaceError, match="none"):
        connect(host.unix_url, namespace="none").get_count()


def test_a_supervisord_that_stands_still_times_out_and_is_asked_again_when_it_goes_on(host: Supervisord) -> None:
    with connect(host.unix_url) as cache:
        cache.clear()
    caches = over_both(host, timeout=TIMEOUT)
    for cache in caches:
        until(lambda cache=cache: is_answered(cache), "it answers")  # type: ignore[misc]
    os.kill(host.pid, signal.SIGSTOP)
    try:
        for cache in caches:
            began = time.monotonic()
            with pytest.raises(UnreachableError, match="no answer in time"):
                cache.get_count()
            with pytest.raises(UnknownOutcomeError):
                cache.increment("n")
            assert time.monotonic() - began < 2 * (TIMEOUT + MARGIN)
    finally:
        os.kill(host.pid, signal.SIGCONT)
    for cache in caches:
        until(lambda cache=cache: is_answered(cache), "it answers")  # type: ignore[misc]
        # What it still had to read it may have carried out, and once at most.
        assert cache.get("n", 0) in {0, 1, 2}
        cache.close()


def is_answered(cache: CacheClient) -> bool:
    with contextlib.suppress(UnreachableError):
        cache.get_count()
        return True
    return False


def test_a_shutdown_is_told_and_then_nobody_is_there(start: StartSupervisord) -> None:
    supervisord = start(more=program("stubborn", STUBBORN, stopwaitsecs="2", stopsignal="TERM"))
    until((supervisord.folder / "ready").exists, "it ignores the signal")
    cache = connect(supervisord.unix_url)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.wait, cache.get_revision(), LONG)
        until(lambda: cache.get_stats()["watchers"] == 1, "it waits")
        supervisord.unix().supervisor.shutdown()
        assert isinstance(waiting.exception(LONG), ShutdownError)
        for call in (cache.get_count, lambda: cache.increment("n")):
            with pytest.raises(ShutdownError):
                call()
    until(lambda: not supervisord.is_alive(), "it has ended")
    for call in (cache.get_count, lambda: cache.increment("n")):
        with pytest.raises(UnreachableError):
            call()


class Incrementer(threading.Thread):
    """Counts up under a key of its own; remembers what was answered, and what may have happened."""

    def __init__(self, cache: CacheClient, number: int) -> None:
        super().__init__()
        self.key = f"n/{number}"
        self.answered = 0
        self.unclear = 0
        self.newest = 0
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self._cache = cache

    def run(self) -> None:
        since = 0
        while not self.stop.is_set():
            try:
                value = self._cache.increment(self.key)
            except UnknownOutcomeError:
                self.unclear += 1
                since += 1
            except UnreachableError:
                self.stop.wait(0.01)
            except CacheError as error:
                self.wrong.append(repr(error))
            else:
                if not self.newest < value <= self.newest + 1 + since:
                    self.wrong.append(f"{value} after {self.newest}, {since} unclear")
                self.newest, since = value, 0
                self.answered += 1


@pytest.mark.parametrize("over", ["unix", "inet"])
def test_each_answered_increment_is_there_once_over_kills_and_reloads(host: Supervisord, over: str) -> None:
    cache = over_both(host, namespace="kept")[over == "inet"]
    cache.clear()
    threads = [Incrementer(cache, number) for number in range(INCREMENTERS)]

    def each_counts() -> None:
        before = [thread.answered for thread in threads]
        until(
            lambda: all(thread.answered > had + 5 for thread, had in zip(threads, before, strict=True)), "each counts"
        )

    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            each_counts()
            # Not `Supervisord.kill`, which closes connections first.
            os.kill(host.pid, signal.SIGKILL)
            until(lambda: not host.is_alive(), "it is killed")
            host.stop()
            host.start()
            each_counts()
            host.reload()
        each_counts()
    finally:
        for thread in threads:
            thread.stop.set()
        for thread in threads:
            thread.join()
    assert [thread.wrong for thread in threads] == [[]] * INCREMENTERS
    for thread in threads:
        value = cache[thread.key]
        assert thread.newest <= value  # type: ignore[operator]
        assert thread.answered <= value <= thread.answered + thread.unclear  # type: ignore[operator]
    cache.close()


def test_a_write_whose_answer_is_lost_is_carried_out_once(host: Supervisord) -> None:
    with Relay(host) as relay, connect(relay.url, timeout=MARGIN) as cache:
        cache.clear()
        assert cache.increment("n") == 1
        relay.loses = lambda body: b"increment" in body
        with pytest.raises(UnknownOutcomeError, match="it may be stored or not"):
            cache.increment("n")
        relay.loses = lambda _: False
        assert cache.fetch("n") == 2
        # A read is asked once more, and once only.
        asked = len(relay.requests)
        relay.loses = lambda body: b"fetch" in body and len(relay.requests) == asked + 1
        assert cache.fetch("n") == 2
        assert len(relay.requests) == asked + 2
        relay.loses = lambda body: b"fetch" in body
        with pytest.raises(UnreachableError, match="connection cut"):
            cache.fetch("n")
        assert len(relay.requests) == asked + 4


# Which supervisord


NOWHERE: dict[str, str] = {}


def found(**given: Any) -> tuple[str, str | None, str | None]:
    address = find(**given)
    return address.url, address.user, address.password


def test_the_argument_comes_before_the_environment_and_that_before_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "supervisord.conf"
    file.write_text("[supervisorctl]\nserverurl=http://file:1\nusername=f\npassword=p\n")
    environment = {"SUPERVISOR_SERVER_URL": "http://env:1", "SUPERVISOR_USERNAME": "e", "SUPERVISOR_PASSWORD": "q"}
    monkeypatch.setattr(configuration, "places", lambda: [str(tmp_path / "none"), str(file)])
    # A user and password go to the URL of the same source alone.
    assert found(url="http://arg:1", environment=environment) == ("http://arg:1", None, None)
    assert found(url="http://arg:1", user="a", password="r") == ("http://arg:1", "a", "r")
    assert found(environment=environment) == ("http://env:1", "e", "q")
    assert found(environment={"SUPERVISOR_SERVER_URL": "http://env:1"}) == ("http://env:1", None, None)
    assert found(environment=NOWHERE) == ("http://file:1", "f", "p")
    assert found(environment={**environment, "SUPERVISOR_SERVER_URL": ""}) == ("http://file:1", "f", "p")
    assert found(environment=environment, configuration=str(file)) == ("http://file:1", "f", "p")


def test_a_file_is_read_with_its_expansions_and_without_its_includes(tmp_path: Path) -> None:
    file = tmp_path / "some.conf"
    (tmp_path / "more.conf").write_text("[supervisorctl]\nserverurl=http://included:1\n")
    file.write_text(
        "[include]\nfiles = more.conf\n"
        "[supervisorctl]\nserverurl = unix://%(here)s/%(ENV_NAME)s.sock ; a comment\n"
        "username=%(ENV_WHO)s\npassword=a%%b\n"
    )
    told = found(configuration=str(file), environment={"NAME": "s", "WHO": "me"})
    assert told == (f"unix://{tmp_path}/s.sock", "me", "a%b")
    file.write_text("[include]\nfiles = more.conf\n[supervisorctl]\nusername=me\n")
    # supervisorctl's own default, and no half of a login.
    assert found(configuration=str(file), environment=NOWHERE) == ("http://localhost:9001", None, None)
    file.write_text("[include]\nfiles = more.conf\n")
    with pytest.raises(AddressError, match="there is no \\[supervisorctl\\] section"):
        find(configuration=str(file), environment=NOWHERE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[supervisorctl]\nserverurl=unix://%(nowhere)s/s", "nobody knows what %\\(nowhere\\)s stands for"),
        ("[supervisorctl]\nserverurl=unix://%(ENV_NONE)s/s", "ENV_NONE"),
        ("[supervisorctl]\nserverurl=unix://a%b", "a % must be written %%"),
        ("[supervisorctl]\nserverurl=ftp://a", "must be unix://PATH"),
        ("serverurl=http://a", "no section headers"),
        (b"[supervisorctl]\nserverurl=http://\xff", "not UTF-8"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str | bytes, words: str) -> None:
    file = tmp_path / "wrong.conf"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AddressError, match=words):
        find(configuration=str(file), environment=NOWHERE)


def test_no_file_and_one_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AddressError, match="No such file"):
        find(configuration=str(tmp_path / "none.conf"), environment=NOWHERE)
    with pytest.raises(AddressError, match="Is a directory"):
        find(configuration=str(tmp_path), environment=NOWHERE)
    monkeypatch.setattr(configuration, "places", list)
    monkeypatch.delenv("SUPERVISOR_SERVER_URL", raising=False)
    with pytest.raises(AddressError, match="which supervisord\\?"):
        connect()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "localhost:9001",
            "ftp://a",
            "unix://",
            "unix:///a\0b",
            "http://",
            "http:///x",
            "http://a:",
            "http://a:b",
        ),
        *("http://a:99999", "http://a:-1", "http://u:p@a", "http://a?x", "http://a#x", "http://a b", "http://\u00e4"),
        *("http://[::1", "http://::1]", "http://[zz]", "http://a..b", f"http://{'a' * 64}", "http://a%0d%0ab"),
    ],
)
def test_a_wrong_url_is_told_before_anybody_is_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AddressError) as caught:
        connect(url)
    assert caught.value.text.isascii()
    if url:
        monkeypatch.setenv("SUPERVISOR_SERVER_URL", url.replace("\0", "") if url != "unix:///a\0b" else "unix://")
        with pytest.raises(AddressError):
            connect()


@pytest.mark.parametrize(
    "given",
    [
        {"user": "u"},
        {"password": "secret"},
        {"user": "u:v", "password": "secret"},
        {"user": "u\n", "password": "secret"},
        {"user": "u", "password": "secret\r\nX: y"},
    ],
)
def test_a_wrong_login_is_told_and_never_repeated(given: dict[str, Any]) -> None:
    with pytest.raises(AddressError) as caught:
        connect("http://a", **given)
    assert given.get("password", "secret") not in caught.value.text
    with pytest.raises(AddressError, match="go with a url"):
        connect(**{"user": "u", "password": "p", **given})


@pytest.mark.parametrize(
    "given",
    [{"timeout": 0}, {"timeout": float("inf")}, {"timeout": float("nan")}, {"namespace": "a.b"}, {"namespace": ""}],
)
def test_wrong_arguments_are_told(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentsError):
        connect("http://a", **given)


def test_a_supervised_process_finds_its_supervisord_by_its_environment(host: Supervisord) -> None:
    source = 'from supervisor_cache import connect\nconnect().store("mine", "hello", note="from within")\n'
    # A unix URL where there is a unix server.
    host.more = program("finder", host.script("finder.py", source), autorestart="false")
    host.reload()
    cache = connect(host.unix_url)
    until(lambda: cache.get("mine") == "hello", "it has stored")
    assert cache.get_entry("mine").note == "from within"


def test_a_password_of_the_environment_that_is_no_text_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stub(always(WHOLE)) as stub:
        monkeypatch.setitem(os.environb, b"SUPERVISOR_PASSWORD", b"p\xff")
        monkeypatch.setenv("SUPERVISOR_USERNAME", "u")
        monkeypatch.setenv("SUPERVISOR_SERVER_URL", stub.url)
        assert connect().get_count() == 5
        assert b"Authorization: Basic dTpw/w==" in stub.requests[0]
