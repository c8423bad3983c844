"""Thousands of requests for the JSON interface that nobody should send: nothing breaks, and nothing is left behind.

The seed is in each failure's message; set HOSTILE_SEED to it to have the same requests again, and HOSTILE_HTTP_REQUESTS
to 20000 for the long run.
"""

import os
import random
import re
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.raw import Connection, Server
from tests.e2e.test_hostile import ACCOUNTING, COUNT, GROWTH_BYTES, LINES, SEED, _in_parts, _say_nothing_of_ours
from tests.e2e.web import Web
from tests.harness import Supervisord, program, running, until

REQUESTS = int(os.environ.get("HOSTILE_HTTP_REQUESTS", "2000"))
SAMPLES = 40
# What docs/http.md lists, what every HTTP server answers, and nothing else.
DOCUMENTED = {100, 200, 201, 204, 304, 308, 400, 401, 403, 404, 405, 409, 410, 411, 412, 413, 415, 421, 429, 507}
# What Supervisor's own handlers answer beyond that, where a request is not, or torn no longer, for one of our paths:
# its pages fail without a Host, its check of a password without a colon, its parser at an unquoted line feed after a
# "#", and a path that is not normal is sent elsewhere.
SUPERVISORS = {301, 500}
STATUS = re.compile(rb"HTTP/\S{0,9} (\d{3}) ((?:(?!\r\n\r\n).)*)", re.DOTALL)
OURS = b"X-Content-Type-Options"
# Supervisor's own check of a password answers 500 to it.
SOUND_LINES = [line for line in LINES if not line.startswith("Authorization")]

METHODS = [
    "GET",
    "GET",
    "GET",
    "PUT",
    "PUT",
    "PUT",
    "DELETE",
    "POST",
    "POST",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "get",
    "X" * 500,
]
PATHS = [
    *("", "v1/entries", "v1/values", "v1/increment", "v1/touch", "v1/batch", "v1/changes", "v1/stream", "v1/stats"),
    *("metrics", "v1/openapi.json", "static/app.js", "static/", "static/../x", "v1", "v1/", "..", "../RPC2", "%2e%2e/"),
]
PIECES = [
    *(
        "a",
        "b",
        "/",
        ".",
        "..",
        "%",
        "%2",
        "%zz",
        "%00",
        "%0d%0a",
        "%ff",
        "%c3%28",
        "%ed%a0%80",
        "%2F",
        "%25",
        "+",
        "*",
    ),
    *(
        "#",
        "?",
        "&",
        "=",
        ";",
        "\\",
        "\u00e9",
        "\U0001f680",
        "\u2028",
        '"',
        "<script>",
        "//",
        "x" * 300,
        "%e2%82%ac",
        "|",
    ),
]
PARAMETERS = ["key", "prefix", "after", "limit", "since", "wait", "ttl", "owner", "pid", "note", "if_changed", "x", ""]
NUMBERS = ["0", "1", "2", "-1", "0.01", "1e3", "1e999", "nan", "9" * 20, "9" * 5000, "\u0663", "true", "false", ""]
TAGS = [
    '"1"',
    "*",
    "",
    '"',
    "W/",
    'W/"x"',
    '"1", "2"',
    "x",
    '"\u00e9"',
    '"' + "x" * 3000 + '"',
    "," * 500,
    '"1",' * 500,
]
KINDS = [
    "application/json",
    "text/plain",
    "application/x+json",
    "text/plain; charset=x",
    "",
    "\u00e9",
    "a/b;" * 500,
    "json",
]
BODIES = [
    *(
        b"",
        b"x",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 50_000,
        b'"\\ud800"',
        b'{"$dateTime":1}',
        b"1e999",
        b"9" * 9000,
    ),
    *(b'{"key":"k"}', b'{"key":"k","ttl":5}', b'{"key":"k","delta":2147483647}', b'{"store":{"a":1,"b":"x"}}'),
    *(b'{"store":{"a":1},"delete":["a"]}', b'{"delete":["a","b"],"if":{"a":"1"}}', b'{"options":{"ttl":1}}', b"{}"),
    *(
        b'{"key":' + b'"k",' * 3000,
        b"x" * 70_000,
        b"\x00" * 100,
        b"GET /cache/ HTTP/1.1\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
    ),
]


class Hostile:
    """Makes requests at random, most of them nearly right."""

    def __init__(self, chance: random.Random, server: Server) -> None:
        self.chance = chance
        self.server = server

    def request(self) -> bytes:
        """One request, whole."""
        chance = self.chance
        body = chance.choice(BODIES) if chance.random() < 0.6 else b""
        lines = [f"Host: {self.server.host}", *(self.server.login if chance.random() < 0.9 else [])]
        if body or chance.random() < 0.2:
            lines += self._lengths(len(body))
        if chance.random() < 0.3:
            lines.append(f"{chance.choice(['If-Match', 'If-None-Match'])}: {chance.choice(TAGS)}")
        if chance.random() < 0.5:
            lines.append(f"Content-Type: {chance.choice(KINDS)}")
        if chance.random() < 0.1:
            lines.append(f"Last-Event-ID: {chance.choice(NUMBERS)}")
        if chance.random() < 0.1:
            lines.append(f"X: {'x' * chance.choice([10_000, 200_000])}")
        if chance.random() < 0.1:
            lines.append("Expect: 100-continue")
        if chance.random() < 0.2:
            lines += [chance.choice(SOUND_LINES) for _ in range(chance.randrange(4))]
        chance.shuffle(lines)
        return "\r\n".join([self._request_line(), *lines, "", ""]).encode() + body

    def _request_line(self) -> str:
        chance = self.chance
        method, target = chance.choice(METHODS), self._target()
        version = " HTTP/1.1"
        twist = chance.random()
        if twist < 0.05:
            target = chance.choice(["http://localhost", "https://evil.example:80", "//evil.example"]) + target
        elif twist < 0.15:
            version = chance.choice(
                [" HTTP/1.0", "", " HTTP/2", " HTTP/9.9", " HTTP/", " http/1.1", " HTTP/1.1 ", "\t", " x"]
            )
        return f"{method} {target}{version}"

    def _target(self) -> str:
        chance = self.chance
        path = chance.choice(PATHS)
        if path in {"v1/entries", "v1/values"} and chance.random() < 0.8:
            path += "/" + "".join(chance.choice(PIECES) for _ in range(chance.randrange(1, 4)))
        if chance.random() < 0.02:
            path += "x" * chance.choice([70_000, 500_000])
        if chance.random() < 0.5:
            path += "?" + "&".join(self._parameter() for _ in range(chance.choice([1, 1, 1, 2, 3, 30])))
        return f"/cache/{path}"

    def _parameter(self) -> str:
        chance = self.chance
        name = chance.choice(PARAMETERS)
        value = chance.choice([chance.choice(NUMBERS), chance.choice(PIECES), quote(chance.choice(PIECES))])
        return chance.choice([f"{name}={value}"] * 9 + [name])

    def _lengths(self, length: int) -> list[str]:
        chance = self.chance
        twist = chance.random()
        if twist < 0.7:
            return [f"Content-Length: {length}"]
        if twist < 0.8:
            return [f"Content-Length: {length}"] * 2
        if twist < 0.9:
            return [f"Content-Length: {chance.choice([length + 1, max(0, length - 1), 0, '0' * 30, 2**20, 2**21])}"]
        return [
            chance.choice(["Transfer-Encoding: chunked", "Content-Length: -1", "Content-Length: x", "Content-Length:"])
        ]


def statuses(connection: Connection, *, may_be_supervisors: bool = False) -> list[int]:
    """Answer the status of all that comes until the other end closes, but what only Supervisor's own may answer."""
    while connection._more():
        pass
    found = [(int(status), OURS in header) for status, header in STATUS.findall(connection._buffer)]
    return [status for status, is_ours in found if is_ours or not may_be_supervisors or status not in SUPERVISORS]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    sections = {
        "cache": {
            "http": "true",
            "max_entries": "60",
            "max_total_bytes": "400KB",
            "max_changes": "300",
            "max_watchers": "4",
            "metrics_prefix": "a",
        }
    }
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONMALLOC": "malloc"}
    more = program("sleeper") + ACCOUNTING
    with (
        running(sections, more, login=False, environment=environment) as one,
        running(sections, more, login=True, environment=environment) as other,
    ):
        yield [Server(one, inet=True), Server(one, inet=False), Server(other, inet=True), Server(other, inet=False)]
        for supervisord in (one, other):
            _say_nothing_of_ours(supervisord)


def _has_at_most(supervisord: Supervisord, descriptors: int) -> bool:
    return supervisord.descriptors() <= descriptors


def _watches_nobody(proxy: Any) -> bool:
    return bool(proxy.cache.getStats()["watchers"] == 0)


def test_hostile_requests_leave_everything_as_it_was(servers: list[Server]) -> None:  # noqa: C901, PLR0912, PLR0915 - one long story
    chance = random.Random(SEED)
    makers = [Hostile(chance, server) for server in servers]
    supervisords = [servers[0].supervisord, servers[2].supervisord]
    proxies = [supervisord.unix() for supervisord in supervisords]
    pids = [proxy.supervisor.getProcessInfo("sleeper")["pid"] for proxy in proxies]
    for proxy in proxies:
        proxy.accounting.in_use()
    descriptors = [supervisord.descriptors() for supervisord in supervisords]
    in_use: list[int] = []
    seen: set[int] = set()
    for number in range(REQUESTS):
        maker = chance.choice(makers)
        data = maker.request()
        twist = chance.random()
        if twist < 0.1:
            data = data[: chance.randrange(len(data) + 1)]
        elif twist < 0.3:
            data += b"".join(maker.request() for _ in range(chance.randrange(1, 4)))
        elif twist < 0.35:
            place = chance.randrange(len(data))
            data = data[:place] + chance.choice([b"\xff", b"\r\n", b"\n", b"\x00", b"\r\n\r\n"]) + data[place:]
        try:
            with maker.server.connect() as connection:
                for part in _in_parts(chance, data):
                    connection.send(part)
                if chance.random() < 0.9:
                    connection.finish()
                    is_for_us = twist >= 0.35 and data.partition(b" ")[2].startswith(b"/cache")
                    answered = statuses(connection, may_be_supervisors=not is_for_us)
                    assert set(answered) <= DOCUMENTED, answered
                    seen.update(answered)
            if number % 50 == 0:
                web = Web(maker.server)
                assert web.put("/fine", str(number)).status in {200, 201, 507}
                assert web.get("v1/stats").status == 200
                reply = web.ask("POST", "/RPC2", body=COUNT, bare=True)
                assert reply.status == 200
        except Exception as error:
            raise AssertionError(f"seed {SEED}, request {number}: {error}\n{data[:2000]!r}") from error
        if number % (REQUESTS // SAMPLES) == 0:
            # Else it stays full, and nothing but refusals is tried.
            for proxy in proxies:
                proxy.cache.clear()
            in_use.append(sum(proxy.accounting.in_use() for proxy in proxies))
    # It got somewhere.
    assert seen >= {200, 400, 404}, f"seed {SEED}: {seen}"

    warm, end = (statistics.median(part) for part in (in_use[10:20], in_use[-10:]))
    assert end - warm < GROWTH_BYTES, f"seed {SEED}: {in_use}"
    for supervisord, proxy, before, pid in zip(supervisords, proxies, descriptors, pids, strict=True):
        until(partial(_has_at_most, supervisord, before), f"descriptors; seed {SEED}")
        until(partial(_watches_nobody, proxy), f"nobody watches; seed {SEED}")
        assert proxy.supervisor.getProcessInfo("sleeper")["pid"] == pid
        assert proxy.supervisor.getState()["statename"] == "RUNNING"
        proxy.cache.clear()
        stats = proxy.cache.getStats()
        assert (stats["entries"], stats["bytes"]) == (0, 0)
        _say_nothing_of_ours(supervisord)
    for server in servers:
        page = Web(server).ask("GET", "/", bare=True)
        assert page.status == 200
        assert b"sleeper" in page.body
        assert Web(server).put("/k", "v").status == 201
        assert Web(server).delete("/k").status == 204


@pytest.mark.parametrize("at", range(4))
def test_requests_that_come_byte_by_byte_are_answered_like_others(servers: list[Server], at: int) -> None:
    web = Web(servers[at])
    data = web.request("PUT", "v1/entries/slow", "Connection: close", body="\u00e9" * 20)
    with web.server.connect() as connection:
        for byte in data:
            connection.send(bytes([byte]))
            if byte == ord("/"):
                assert web.get("v1/stats").status == 200
        reply = connection.reply()
    assert reply is not None
    assert reply.status == 201
    assert web.get("v1/values/slow").body == ("\u00e9" * 20).encode()
    assert web.delete("/slow").status == 204


@pytest.mark.parametrize("at", range(4))
def test_requests_that_are_cut_are_not_run(servers: list[Server], at: int) -> None:
    web = Web(servers[at])
    supervisord = web.server.supervisord
    descriptors = supervisord.descriptors()
    data = web.request("PUT", "v1/entries/half", body="v" * 50)
    for size in range(0, len(data), 5):
        with web.server.connect() as connection:
            connection.send(data[:size])
            if size % 2:
                connection.finish()
                assert statuses(connection) == []
    until(lambda: supervisord.descriptors() <= descriptors, "the descriptors are as before")
    assert web.get("v1/entries/half").status == 404


@pytest.mark.parametrize("at", range(4))
def test_a_client_that_goes_on_sending_behind_its_last_request_costs_nothing(servers: list[Server], at: int) -> None:
    web = Web(servers[at])
    proxy = web.server.supervisord.unix()
    web.put("/large", "x" * 60_000)
    before = proxy.accounting.in_use()
    with web.server.connect() as connection:
        # More than the kernel keeps: the answer is not taken, so the connection stays.
        connection.send(web.request("GET", "v1/values/large") * 300)
        connection.send(web.request("GET", "v1/values/large", "Connection: close"))
        connection._socket.settimeout(0.5)
        sent = 0
        try:
            while sent < 24:
                connection._socket.sendall(b"x" * 2**20)
                sent += 1
        except (ConnectionError, TimeoutError):
            pass
        # What is to be sent to it is known, and kept.
        assert proxy.accounting.in_use() - before < 300 * 70_000 + 4 * 2**20
    until(lambda: proxy.accounting.in_use() - before < GROWTH_BYTES, "all of it is forgotten")
    assert web.delete("/large").status == 204


@pytest.mark.parametrize("at", range(4))
def test_any_number_of_header_lines_with_one_name_holds_nobody_up(servers: list[Server], at: int) -> None:
    web = Web(servers[at])

    def spent(lines: list[str]) -> float:
        before = web.server.supervisord.processor_seconds()
        with web.server.connect() as connection:
            connection.send(web.request("GET", "v1/entries?limit=1", *lines))
            reply = connection.reply()
            assert reply is not None
            assert reply.status == 200
        return web.server.supervisord.processor_seconds() - before

    # Beside as many of different names, for Supervisor itself takes its time to read them. Joined one by one they were
    # seen to take 25 times as long or more, and else up to three times (memory that is new).
    many = range(150_000)
    assert spent(["000000: " + "b" * 20 for _ in many]) < 10 * spent([f"{number:06}: " + "b" * 20 for number in many])
