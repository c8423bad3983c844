"""Thousands of requests that nobody should send: each gets an answer that can be read, and nothing is left behind.

The seed is in each failure's message; set HOSTILE_SEED to it to have the same requests again.
"""

import base64
import os
import random
import re
import statistics
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.raw import LOGIN, Connection, Reply, Server, post, request
from tests.harness import Supervisord, program, running, until

SEED = int(os.environ.get("HOSTILE_SEED") or random.SystemRandom().randrange(2**32))
REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "20000"))
SAMPLE = 500
HEADERS = 3_000
GROWTH_KILOBYTES = 10 * 1024
# Of what is in use; what the process has also depends on the holes that each large request leaves for the next one.
GROWTH_BYTES = 512 * 1024

ACCOUNTING = """
[rpcinterface:accounting]
supervisor.rpcinterface_factory = tests.e2e.accounting:make_accounting
"""
COUNT = xmlrpc.client.dumps((), "cache.getCount").encode()

UNKNOWN_METHOD, INCORRECT_PARAMETERS, BAD_ARGUMENTS, SIGNATURE_UNSUPPORTED, BAD_NAME, FAILED = 1, 2, 3, 4, 10, 30
LIMIT_EXCEEDED, WRONG_TYPE = 201, 202
OURS = {UNKNOWN_METHOD, INCORRECT_PARAMETERS, BAD_ARGUMENTS, BAD_NAME, LIMIT_EXCEEDED, WRONG_TYPE}

# What Supervisor answers 500 to by itself, with a traceback in its log, whether this package is there or not.
SUPERVISORS_OWN_500 = [
    ("system.multicall", ("ab",)),
    ("system.multicall", ([1],)),
    ("system.multicall", ([["cache.getCount"]],)),
    ("supervisor.getProcessInfo", (5,)),
    ("supervisor.startProcess", ([],)),
]
# The same for requests that are no XML-RPC, without a traceback: its page splits each header at its colon, its log
# handlers expect the name of a process, and its password check a colon between name and password.
PAGES_OF_SUPERVISOR = re.compile(rb"\S+ (/|/index\.html|/tail\.html|/logtail\S*|/mainlogtail\S*)[\s?;]")
BROKEN_LOGIN = re.compile(rb"Authorization: Basic (?!%s\r\n)" % LOGIN.split()[2].encode())


# XML-RPC


class Hostile:
    """Makes requests at random, most of them nearly right."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        # What each parameter of our methods should be.
        sound: dict[str, Callable[[], str]] = {
            "key": self._key,
            "value": self.value,
            "options": self._options,
            "prefix": self._key,
            "limit": lambda: _int(self.chance.choice([0, 1, 2, 100])),
            "revision": self._revision,
            "keys": lambda: _array([self._key() for _ in range(self.chance.randrange(5))]),
            "items": self._items,
            "delta": lambda: _int(self.chance.choice([1, -1, 2**31 - 1, -(2**31)])),
        }
        page = ["prefix", "prefix", "limit"]
        self._methods: dict[str, list[Callable[[], str]]] = {
            method: [sound[name] for name in names]
            for method, names in {
                "getAPIVersion": [],
                "getCount": [],
                "getRevision": [],
                "getStats": [],
                "getKeys": page,
                "getItems": page,
                "getEntries": page,
                "fetch": ["key"],
                "getEntry": ["key"],
                "fetchMany": ["keys"],
                "store": ["key", "value", "options"],
                "add": ["key", "value", "options"],
                "storeIf": ["key", "value", "revision", "options"],
                "storeMany": ["items", "options"],
                "increment": ["key", "delta", "options"],
                "delete": ["key", "options"],
                "deleteIf": ["key", "revision", "options"],
                "deleteMany": ["keys", "options"],
                "deletePrefix": ["prefix", "options"],
                "clear": ["options"],
            }.items()
        }

    def call(self) -> bytes:
        """One call of a method of ours with arguments of any kind."""
        return _call(*self._named_call()).encode()

    def multicall(self) -> bytes:
        """Many calls in one; each element a struct, for Supervisor takes no other (see `SUPERVISORS_OWN_500`)."""
        calls = []
        for _ in range(self.chance.randrange(8)):
            name, params = self._named_call()
            members = [("methodName", f"<value>{name}</value>"), ("params", _array(params))]
            twist = self.chance.random()
            if twist < 0.1:
                members[0] = ("methodName", self.value())
            elif twist < 0.2:
                members[1] = ("params", self.value())
            elif twist < 0.3:
                del members[self.chance.randrange(2)]
            calls.append(_struct(members))
        return _call("system.multicall", [_array(calls)]).encode()

    def of_the_system(self) -> bytes:
        """A question about a method, or a call of one that there is not."""
        names = [
            *("system.listMethods", "system.methodHelp", "system.methodSignature", "system.none", "cache", "cache."),
            *(
                "cache.none",
                "cache._read",
                "cache.__init__",
                "cache.store.x",
                "none.store",
                ".",
                "",
                " ",
                "\u00e9.\u00e9",
            ),
            *("cache.fetch\u0000", "cache.fetch&#9;", "cache." + "x" * 5000, "CACHE.fetch", "cache.Fetch"),
        ]
        params = [self.value() for _ in range(self.chance.randrange(3))]
        return _call(self.chance.choice(names), params).encode()

    def malformed(self) -> bytes:
        """What was a call until somebody sat on it."""
        data = bytearray(self.call())
        for _ in range(self.chance.randrange(1, 6)):
            at = self.chance.randrange(len(data) + 1)
            data[at : at + self.chance.choice([0, 1, 1, 9])] = self.chance.choice(
                [
                    b"",
                    b"<",
                    b">",
                    b"&",
                    b"\x00",
                    b"\xff",
                    b"\xed\xa0\x80",
                    b"</value>",
                    b"<value>",
                    b"]]>",
                    b"&#0;",
                    b"\r",
                ]
            )
        if self.chance.random() < 0.2:
            del data[self.chance.randrange(len(data) + 1) :]
        return bytes(data) or b" "

    def of_a_kind(self) -> bytes:
        """What others have tried on other servers."""
        entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(8))
        start, end = _call("cache.store", ["<value>k</value>", "<value>{}</value>"]).split("{}")
        body = self.chance.choice(
            [
                f'<!DOCTYPE x [<!ENTITY e0 "lol">{entities}]>{start}&e8;{end}',
                f'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>{start}&e;{end}',
                f'<?xml version="1.1"?>{start}&#1;{end}',
                f'<?xml version="1.0" encoding="utf-16"?>{start}x{end}',
                f'<?xml version="1.0" encoding="none"?>{start}x{end}',
                f"\ufeff{start}x{end}",
                "<methodCall/>",
                "<methodCall><methodName/></methodCall>",
                "<methodCall><methodName>cache.clear</methodName><params><param/></params></methodCall>",
                "<methodCall><params/><methodName>cache.getCount</methodName></methodCall>",
                "<a>" * 3000,
                "<a>" * 3000 + "</a>" * 3000,
                "{}",
                " ",
                "GET / HTTP/1.1\r\n\r\n",
            ]
        )
        return body.encode()

    def value(self) -> str:
        """A value of any kind as XML."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.04:
            depth = chance.choice([5, 31, 32, 33, 40, 400, 2000])
            if chance.random() < 0.5:
                return "<value><array><data>" * depth + "<value/>" + "</data></array></value>" * depth
            return "<value><struct><member><name>n</name>" * depth + "<value/>" + "</member></struct></value>" * depth
        if kind < 0.14:
            return _array([self._leaf() for _ in range(chance.randrange(6))])
        if kind < 0.24:
            return _struct([(self._text(), self._leaf()) for _ in range(chance.randrange(4))])
        if kind < 0.26:
            return _array([self.value() for _ in range(chance.randrange(4))])
        if kind < 0.27:
            return _struct([(chance.choice(["$dateTime", "", "faultCode"]), self.value())])
        if kind < 0.275:
            return f"<value>{chance.choice(['x', '&amp;', chr(233)]) * chance.choice([32_766, 65_534, 65_535])}</value>"
        return self._leaf()

    def _leaf(self) -> str:
        chance = self.chance
        kind = chance.random()
        if kind < 0.4:
            return f"<value><string>{self._text()}</string></value>"
        if kind < 0.5:
            return f"<value>{self._text()}</value>"
        name, texts = chance.choice(
            [
                (
                    "int",
                    [
                        "0",
                        "-1",
                        "2147483647",
                        "2147483648",
                        "-2147483649",
                        "9" * 400,
                        "9" * 4300,
                        " 5 ",
                        "1_0",
                        "\u0663",
                    ],
                ),
                ("i4", ["1", "+1", "4294967296"]),
                ("i8", ["1", "9223372036854775808"]),
                ("boolean", ["0", "1", "2", "true"]),
                ("double", ["0", "-0.0", "1e308", "1e999", "-1e999", "nan", "inf", "5e-324", repr(chance.random())]),
                (
                    "dateTime.iso8601",
                    ["20261103T12:00:00", "00010101T00:00:00", "99991231T23:59:59", "20261231T23:59:60"],
                ),
                (
                    "base64",
                    [base64.b64encode(text.encode()).decode() for text in ("", "\x00", "\r", "\ufffe", "\u00e9")],
                ),
                ("nil", [""]),
                ("ex.nil", [""]),
                ("struct", [""]),
                ("array", ["<data/>", "<data></data>", "<value/>"]),
                ("none", ["x"]),
            ]
        )
        return f"<value><{name}>{chance.choice(texts)}</{name}></value>"

    def _text(self) -> str:
        return "".join(map(self._piece, range(self.chance.randrange(5))))

    def _piece(self, _: int) -> str:
        chance = self.chance
        character = chr(
            chance.choice([chance.randrange(32, 127), chance.randrange(0x110000), 0x85, 0xA0, 0x2028, 9, 10])
        )
        kind = chance.random()
        if kind < 0.03:
            return f"&#x{chance.choice([0, 1, 13, 0x1B, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x110000]):X};"
        if 0xD800 <= ord(character) < 0xE000 or character in "\ufffe\uffff":
            return "x"
        if kind < 0.2:
            return f"&#{ord(character)};"
        return escape(character)

    def _named_call(self) -> tuple[str, list[str]]:
        chance = self.chance
        name = chance.choice(list(self._methods))
        if name == "clear" and chance.random() < 0.8:
            name = "store"
        params = [sound() if chance.random() < 0.8 else self.value() for sound in self._methods[name]]
        if chance.random() < 0.3:
            params = params[: chance.randrange(len(params) + 1)]
        elif chance.random() < 0.1:
            params += [self.value() for _ in range(chance.randrange(4))]
        return f"cache.{name}", params

    def _key(self) -> str:
        chance = self.chance
        kind = chance.random()
        if kind < 0.8:
            text = chance.choice("abcdefgh") + chance.choice(["", "/", "\u00e9", "\U0001f680"])
        elif kind < 0.84:
            # Around max_key_bytes, of one, two and three bytes each.
            text = chance.choice(["x", "\u00e9", "\u20ac"]) * chance.choice([341, 342, 512, 513, 1024, 1025])
        else:
            text = self._text()
        return f"<value>{text}</value>"

    def _options(self) -> str:
        chance = self.chance
        if chance.random() < 0.3:
            return "<value/>"
        names = ["note", "note", "note", "if_changed", "if_changed", "ttl", "owner", "pid", "none", "", "Note"]
        members = []
        for name in chance.sample(names, chance.randrange(3)):
            text = chance.choice(["ops: deploy", chr(233), "", "x" * 1024, "x" * 1025])
            sound = f"<value>{text}</value>" if name == "note" else "<value><boolean>1</boolean></value>"
            members.append((name, sound if chance.random() < 0.7 else self.value()))
        return _struct(members)

    def _revision(self) -> str:
        texts = ["", "0", "1", "9" * 20, "9" * 21, "-1", "1.5", " 1", "\u0663", "x"]
        return f"<value>{self.chance.choice(texts)}</value>"

    def _items(self) -> str:
        key = re.compile("<value>(.*)</value>", re.DOTALL)
        names = [key.fullmatch(self._key()) for _ in range(self.chance.randrange(5))]
        return _struct([(name[1], self.value()) for name in names if name])


def _int(number: int) -> str:
    return f"<value><int>{number}</int></value>"


def _array(items: list[str]) -> str:
    return f"<value><array><data>{''.join(items)}</data></array></value>"


def _struct(members: list[tuple[str, str]]) -> str:
    inner = "".join(f"<member><name>{name}</name>{value}</member>" for name, value in members)
    return f"<value><struct>{inner}</struct></value>"


def _call(method: str, params: list[str]) -> str:
    inner = "".join(f"<param>{param}</param>" for param in params)
    return f"<methodCall><methodName>{method}</methodName><params>{inner}</params></methodCall>"


class Client:
    """A persistent connection that comes back when it was closed."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connection = server.connect()

    def ask(self, body: bytes) -> Reply | None:
        self._connection.send(post(body, *self.server.login))
        reply = self._connection.reply()
        if reply is None:
            self.close()
            self._connection = self.server.connect()
        return reply

    def close(self) -> None:
        self._connection.close()


def _answer(reply: Reply) -> Any:
    try:
        return xmlrpc.client.loads(reply.body, use_builtin_types=True)[0][0]
    except xmlrpc.client.Fault as fault:
        return fault


def _check(body: bytes, reply: Reply | None, codes: set[int]) -> None:
    """Check that an answer is one that the contract allows."""
    if reply is None:
        # Supervisor closes the connection on what is no UTF-8.
        with pytest.raises(UnicodeDecodeError):
            body.decode()
        return
    assert reply.status in {200, 400}
    if reply.status == 400:
        return
    answer = _answer(reply)
    if isinstance(answer, xmlrpc.client.Fault):
        assert answer.faultCode in codes, answer
    if b"<methodName>system.multicall" in body and isinstance(answer, list):
        for each in answer:
            if isinstance(each, dict) and each.keys() == {"faultCode", "faultString"}:
                # Supervisor's own FAILED is for a methodName that is no string, or params that are none.
                assert each["faultCode"] in {*codes, FAILED}
                assert "internal error" not in each["faultString"]


def _well_formed_session(client: Client, chance: random.Random, number: int) -> None:
    def ask(method: str, *params: Any) -> Any:
        reply = client.ask(xmlrpc.client.dumps(params, f"cache.{method}").encode())
        assert reply is not None
        assert reply.status == 200
        return xmlrpc.client.loads(reply.body, use_builtin_types=True)[0][0]

    key, value = f"session/{number}", {"\u00e9": [number, chance.random(), True, "\U0001f680 & <b>\n"]}
    assert ask("store", key, value, {"note": "ops: \u20ac"}) is True
    assert ask("fetch", key) == value
    assert ask("getEntry", key)["note"] == "ops: \u20ac"
    assert ask("increment", f"{key}/n", 5) == 5
    assert ask("getKeys", key) == [key, f"{key}/n"]
    assert ask("deletePrefix", key) == 2


def _say_nothing_of_ours(supervisord: Supervisord) -> None:
    log, output = supervisord.log, (supervisord.folder / "output").read_text(errors="replace")
    for line in log.splitlines():
        assert " CRIT supervisor_cache" not in line, f"seed {SEED}: {line}"
        # What is refused is said, once a minute for each status.
        assert " WARN supervisor_cache" not in line or " was refused: " in line, f"seed {SEED}: {line}"
    for text in (log, output):
        assert "Traceback" not in text, f"seed {SEED}"
        assert "internal error" not in text, f"seed {SEED}"
        # An error of Supervisor's server is told with the file.
        assert "site-packages/supervisor_cache" not in text, f"seed {SEED}"
        assert "src/supervisor_cache" not in text, f"seed {SEED}"


@pytest.fixture
def clients(start: StartSupervisord) -> Iterator[list[Client]]:
    """One persistent connection to each server of one supervisord with a process."""
    # A history that is full soon: until then it grows, as it should.
    options = {"max_entries": "60", "max_total_bytes": "400KB", "max_changes": "500"}
    supervisord = start(
        {"cache": options},
        more=program("sleeper") + ACCOUNTING,
        environment={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONMALLOC": "malloc"},
    )
    made = [Client(Server(supervisord, inet=True)), Client(Server(supervisord, inet=False))]
    yield made
    for client in made:
        client.close()


def test_twenty_thousand_hostile_calls_leave_everything_as_it_was(clients: list[Client]) -> None:
    supervisord = clients[0].server.supervisord
    proxy = supervisord.unix()
    for client in clients:
        assert client.ask(COUNT) is not None
    pids = supervisord.pid, proxy.supervisor.getProcessInfo("sleeper")["pid"]
    descriptors = supervisord.descriptors()
    chance = random.Random(SEED)
    hostile = Hostile(chance)
    kinds: list[tuple[Callable[[], bytes], set[int]]] = [
        *[(hostile.call, OURS)] * 24,
        *[(hostile.multicall, OURS | {SIGNATURE_UNSUPPORTED})] * 5,
        *[(hostile.of_the_system, OURS | {SIGNATURE_UNSUPPORTED})] * 3,
        *[(hostile.malformed, OURS)] * 6,
        (hostile.of_a_kind, OURS),
    ]
    statuses = {200: 0, 400: 0, 0: 0}
    in_use = []
    for number in range(REQUESTS):
        client = chance.choice(clients)
        make, codes = chance.choice(kinds)
        body = make()
        try:
            reply = client.ask(body)
            _check(body, reply, codes)
            if number % 100 == 0:
                _well_formed_session(client, chance, number)
        except Exception as error:
            raise AssertionError(f"seed {SEED}, request {number}: {error}\n{body[:3000]!r}") from error
        statuses[reply.status if reply is not None else 0] += 1
        if number % SAMPLE == 0:
            # Else it stays full, and nothing but refusals is tried.
            proxy.cache.clear()
            in_use.append(proxy.accounting.in_use())
    assert statuses[200] > REQUESTS / 2, f"seed {SEED}: {statuses}"

    keys = proxy.cache.getKeys()
    assert proxy.cache.getCount() == len(keys)
    assert keys == sorted(keys)
    values = {key: proxy.cache.fetch(key) for key in keys}
    assert {entry["key"]: entry["value"] for entry in proxy.cache.getEntries()} == values
    proxy.cache.clear()
    stats = proxy.cache.getStats()
    assert (stats["entries"], stats["bytes"]) == (0, 0)

    warm, end = (statistics.median(part) for part in (in_use[10:20], in_use[-10:]))
    assert end - warm < GROWTH_BYTES, f"seed {SEED}: {in_use}"
    _until_as_before(clients[0].server, descriptors)
    assert (supervisord.pid, proxy.supervisor.getProcessInfo("sleeper")["pid"]) == pids
    assert proxy.supervisor.getState() == {"statecode": 1, "statename": "RUNNING"}
    _say_nothing_of_ours(supervisord)


@pytest.mark.tracebacks
@pytest.mark.parametrize(("method", "params"), SUPERVISORS_OWN_500, ids=str)
def test_supervisor_answers_500_to_some_calls_by_itself(
    start: StartSupervisord, method: str, params: tuple[Any, ...]
) -> None:
    server = Server(start(), inet=False)
    body = xmlrpc.client.dumps(params, method).encode()
    assert server.ask("POST", "/RPC2", [f"Content-Length: {len(body)}"], body).status == 500
    assert server.supervisord.unix().cache.getCount() == 0
    assert "supervisor_cache" not in server.supervisord.log.partition("Traceback")[2]


# HTTP


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    sections = {"cache": {"max_request_bytes": "8KB", "max_value_bytes": "8KB", "allowed_hosts": "ops.example.com"}}
    with running(sections, login=False) as one, running(sections, login=True) as other:
        yield [Server(one, inet=True), Server(one, inet=False), Server(other, inet=True), Server(other, inet=False)]
        for supervisord in (one, other):
            _say_nothing_of_ours(supervisord)
            assert supervisord.unix().supervisor.getState()["statecode"] == 1


PATHS = [
    "/RPC2",
    "/RPC2/",
    "/nonsense",
    "/cache/",
    "/cache/v1/entries/k",
    "/",
    "/%63ache/",
    "/logtail/x",
    "/a%00b",
    "*",
]
LINES = [
    *(
        "Content-Length: 5",
        "Content-Length:5",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length",
        "Content-Length:",
    ),
    *("Content-Length: \u0665", "content-length: 99999999999", "Content-Length: 5, 5", "Content-Length : 7"),
    *("Transfer-Encoding: chunked", "transfer-encoding:x", "Expect: 100-continue", "Connection: close"),
    *(
        "Connection: keep-alive",
        "Host: localhost",
        "Host: evil.example",
        "Host: ",
        "Host: [::1",
        "Host: ]",
        "Host: [",
        "Host",
    ),
    *(
        "Origin: null",
        "Origin: http://localhost",
        "Origin: http://[",
        "Origin: http://\u00e9",
        "Origin",
        "Origin: \x00",
    ),
    *("Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: \u0130", "sec-fetch-site"),
    *(
        ": no name",
        ":",
        "no colon",
        " folded",
        "\tfolded",
        "X: \r y",
        "X: \n y",
        "X:\x0b\x0c\x1c\u2028",
        "\u00e9: \u00e9",
    ),
    *("Authorization: Basic", "Authorization: Basic =", "Authorization: Basic \u00e9", "X: " + "x" * 5000),
]
# Any of these, as the last header, is enough for the guard.
SURELY_REFUSED = [
    *(
        "Content-Length: abc",
        "Content-Length: -5",
        "Content-Length: 99999",
        "Content-Length:99999",
        "Content-Length: +5",
    ),
    *(
        "Transfer-Encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "Origin: null",
        "Origin: https://foreign.example",
    ),
    *("Sec-Fetch-Site: cross-site", "sec-fetch-site:same-site"),
]
REQUEST_LINES = [
    *(
        "GET",
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/",
        "GET / HTTP/9.9",
        "GET / http/1.1",
        "/ GET HTTP/1.1",
    ),
    *(" GET / HTTP/1.1", "GET\t/\tHTTP/1.1", "\x00", "GET /\u00e9 HTTP/1.1", "GET /%ff%fe HTTP/1.1", "GET /% HTTP/1.1"),
    *(
        "GET http://evil.example/cache/ HTTP/1.1",
        "CONNECT localhost:1 HTTP/1.1",
        "GET /x;y?z HTTP/1.1",
        "get /RPC2 HTTP/1.0",
    ),
    *("POST /RPC2", "POST /RPC2 HTTP/0.9", "POST /" + "x" * 9000 + " HTTP/1.1", "PRI * HTTP/2.0"),
]


def _lines(chance: random.Random) -> list[str]:
    return [chance.choice(LINES) for _ in range(chance.randrange(6))]


def _smuggled(key: str) -> bytes:
    body = xmlrpc.client.dumps((key, True), "cache.store").encode()
    return post(body, LOGIN)


def _random_head(server: Server, chance: random.Random) -> bytes:
    method = chance.choice(["GET", "POST", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "post", "X"])
    line = f"{method} {chance.choice(PATHS)} HTTP/1.1"
    if chance.random() < 0.2:
        line = chance.choice(REQUEST_LINES)
    login = server.login if chance.random() < 0.7 else []
    lines = [*login, *_lines(chance)]
    chance.shuffle(lines)
    head = "\r\n".join([line, *lines, "", ""]).encode()
    if chance.random() < 0.1:
        at = chance.randrange(len(head))
        head = head[:at] + chance.choice([b"\xff", b"\r\n", b"\r", b"\n", b"\x00", b"\r\n\r\n"]) + head[at:]
    return head


def _refused_head(server: Server, chance: random.Random) -> bytes:
    # No line that would be folded into the request line, which ends the connection before anybody looks.
    lines = [f"Host: {server.host}", *server.login, *_lines(chance), chance.choice(SURELY_REFUSED)]
    method = chance.choice(["POST", "PUT", "DELETE", "PATCH"])
    return request(method, chance.choice(PATHS), lines)


def _in_parts(chance: random.Random, data: bytes) -> Iterator[bytes]:
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 0, 0, 1, 2, 5])))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        yield data[start:end]


def _is_supervisors_own(data: bytes) -> bool:
    return bool(PAGES_OF_SUPERVISOR.match(data) or BROKEN_LOGIN.search(data))


def _until_as_before(server: Server, descriptors: int) -> None:
    until(lambda: server.supervisord.descriptors() <= descriptors, f"the descriptors are as before; seed {SEED}")


def _send_and_end(server: Server, chance: random.Random, data: bytes) -> list[Reply]:
    with server.connect() as connection:
        for part in _in_parts(chance, data):
            connection.send(part)
        if chance.random() < 0.2:
            return []
        connection.finish()
        return connection.rest()


def test_three_thousand_random_headers_do_no_harm(servers: list[Server]) -> None:
    chance = random.Random(SEED)
    before = [server.supervisord.descriptors() for server in servers]
    warm = [0] * len(servers)
    for number in range(HEADERS):
        at = chance.randrange(len(servers))
        server = servers[at]
        refused = chance.random() < 0.4
        if refused:
            data = _refused_head(server, chance) + _smuggled(f"smuggled/{number}") * chance.randrange(1, 3)
        else:
            data = _random_head(server, chance)
            body = chance.choice([b"", b"12345", COUNT, b"\r\n\r\n", b"x" * 5000])
            data = chance.choice([data + body, data * 3, data[: chance.randrange(len(data))]])
        try:
            replies = _send_and_end(server, chance, data)
            for reply in replies:
                assert reply.status != 500 or _is_supervisors_own(data)
            if refused and replies:
                assert [reply.status in {400, 403, 411, 413, 421} for reply in replies] == [True]
            if refused or number % 50 == 0:
                length = f"Content-Length: {len(COUNT)}"
                assert _answer(server.ask("POST", "/RPC2", [length], COUNT)) == 0
        except Exception as error:
            raise AssertionError(f"seed {SEED}, request {number} to {at}: {error}\n{data[:3000]!r}") from error
        if number == HEADERS // 3:
            warm = [server.supervisord.resident_kilobytes() for server in servers]
    for server, descriptors in zip(servers, before, strict=True):
        _until_as_before(server, descriptors)
    for server, kilobytes in zip(servers, warm, strict=True):
        assert server.supervisord.resident_kilobytes() - kilobytes < GROWTH_KILOBYTES, f"seed {SEED}"
        assert server.supervisord.unix().cache.getKeys() == [], f"seed {SEED}"
        _say_nothing_of_ours(server.supervisord)


@pytest.mark.parametrize("at", range(4))
def test_requests_in_one_segment_are_answered_one_by_one_until_one_is_refused(servers: list[Server], at: int) -> None:
    server = servers[at]
    sound = post(COUNT, *server.login)
    refused = post(COUNT, *server.login, f"Host: {server.host}", "Origin: null")
    with server.connect() as connection:
        connection.send(sound * 20 + refused + _smuggled("k") * 5)
        connection.finish()
        replies = connection.rest()
    assert [reply.status for reply in replies] == [200] * 20 + [403]
    assert server.supervisord.unix().cache.getKeys() == []


@pytest.mark.parametrize("at", range(4))
def test_headers_that_come_byte_by_byte_are_judged_like_others(servers: list[Server], at: int) -> None:
    server = servers[at]
    sound = post(COUNT, *server.login)
    refused = request("POST", "/RPC2", [*server.login, f"Host: {server.host}", "Origin: null"])
    with server.connect() as slow, server.connect() as slower:
        for one, other in zip(sound.ljust(len(refused)), refused.ljust(len(sound)), strict=True):
            slow.send(bytes([one]))
            slower.send(bytes([other]))
            assert Server.ask(server, "GET", "/nonsense", [f"Host: {server.host}"]).status == 404
        _assert_status(slow, 200)
        _assert_status(slower, 403)


def _assert_status(connection: Connection, status: int) -> None:
    reply = connection.reply()
    assert reply is not None
    assert reply.status == status


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("line", ["X: " + "x" * 2_000_000, "\r\n".join(["X: y"] * 300_000)], ids=["long", "many"])
def test_two_megabytes_of_headers_are_judged_like_others(servers: list[Server], at: int, line: str) -> None:
    server = servers[at]
    descriptors = server.supervisord.descriptors()
    with server.connect() as connection:
        connection.send(post(COUNT, *server.login, line))
        _assert_status(connection, 200)
        connection.send(post(COUNT, *server.login, line, f"Host: {server.host}", "Origin: null"))
        _assert_status(connection, 403)
        assert connection.is_closed()
    _until_as_before(server, descriptors)


@pytest.mark.parametrize("at", range(4))
def test_connections_that_are_cut_leave_nothing_behind(servers: list[Server], at: int) -> None:
    server = servers[at]
    descriptors = server.supervisord.descriptors()
    body = xmlrpc.client.dumps(("half", True), "cache.store").encode()
    whole = post(body, *server.login, f"Host: {server.host}")
    for size in range(0, len(whole), 7):
        with server.connect() as connection:
            connection.send(whole[:size])
            if size % 2:
                connection.finish()
                assert connection.is_closed()
    _until_as_before(server, descriptors)
    assert server.supervisord.unix().cache.getKeys() == []
