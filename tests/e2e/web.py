"""A client of the JSON interface that hides nothing: each reply as it came."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, final
from urllib.parse import quote

from tests.e2e.raw import Connection, Reply, Server, request

PROBLEM = "application/problem+json"
SECONDS = 30.0


class Web(NamedTuple):
    """One cache on one server."""

    server: Server
    name: str = "cache"

    def ask(self, method: str, path: str, *headers: str, body: bytes | str | None = None, bare: bool = False) -> Reply:
        """Send one request on a connection of its own; ``path`` is below ``/NAME/``, unless it is ``bare``."""
        with self.server.connect() as connection:
            connection.send(self.request(method, path, "Connection: close", *headers, body=body, bare=bare))
            reply = connection.reply()
        assert reply is not None, f"{method} {path}"
        return reply

    def request(
        self, method: str, path: str, *headers: str, body: bytes | str | None = None, bare: bool = False
    ) -> bytes:
        """Put a request together."""
        data = body.encode() if isinstance(body, str) else body
        lines = [f"Host: {self.server.host}", *self.server.login, *headers]
        if data is not None:
            lines.append(f"Content-Length: {len(data)}")
        return request(method, path if bare else f"/{self.name}/{path}", lines, data or b"")

    def get(self, path: str, *headers: str) -> Reply:
        return self.ask("GET", path, *headers)

    def put(self, path: str, body: bytes | str, *headers: str) -> Reply:
        return self.ask("PUT", f"v1/entries{path}", *headers, body=body)

    def put_json(self, path: str, value: object, *headers: str) -> Reply:
        return self.put(path, json.dumps(value), "Content-Type: application/json", *headers)

    def delete(self, path: str, *headers: str) -> Reply:
        return self.ask("DELETE", f"v1/entries{path}", *headers)

    def post(self, path: str, value: object, *headers: str) -> Reply:
        return self.ask("POST", f"v1/{path}", "Content-Type: application/json", *headers, body=json.dumps(value))

    def json(self, path: str) -> Any:
        """Ask for JSON that must be there."""
        reply = self.get(path)
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == "application/json"
        return json.loads(reply.body)

    def stream(self, query: str = "", *headers: str, connection: Connection | None = None) -> "Stream":
        return Stream(self, query, headers, connection)


class Event(NamedTuple):
    """One event of a stream, or one comment, whose name is ``:``."""

    name: str
    number: str
    data: Any


@final
class Stream:
    """A client of the stream of changes."""

    def __init__(
        self, web: Web, query: str = "", headers: Iterable[str] = (), connection: Connection | None = None
    ) -> None:
        self.connection = web.server.connect() if connection is None else connection
        self.connection._socket.settimeout(SECONDS)
        self.connection.send(web.request("GET", f"v1/stream{query}", *headers))
        self.head = ""
        self._read = b""
        self.head = self._until(b"\r\n\r\n").decode()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    def opened(self) -> "Stream":
        """Wait until it has begun."""
        assert self.status == 200, self.head
        assert self._until(b"\n\n") == b"retry: 1000"
        return self

    def next(self) -> Event | None:
        """Read the next event or comment; None where the stream ends."""
        text = self._until(b"\n\n")
        if not text:
            return None
        if text == b":":
            return Event(":", "", None)
        fields = dict(line.split(": ", 1) for line in text.decode().split("\n"))
        return Event(fields.pop("event", ""), fields.pop("id"), json.loads(fields.pop("data")))

    def events(self, number: int) -> list[Event]:
        """Read so many events; comments are left out."""
        found: list[Event] = []
        while len(found) < number:
            event = self.next()
            assert event is not None, f"the stream ended after {len(found)} of {number} events: {found[-3:]}"
            if event.name != ":":
                found.append(event)
        return found

    def rest(self) -> Iterator[Event]:
        """Read on until the other end closes."""
        while (event := self.next()) is not None:
            yield event

    def _until(self, end: bytes) -> bytes:
        connection = self.connection
        start = 0
        while (place := connection._buffer.find(end, start)) < 0:
            start = max(0, len(connection._buffer) - len(end))
            if not connection._more():
                return b""
        found, connection._buffer = connection._buffer[:place], connection._buffer[place + len(end) :]
        return found


def in_path(key: str) -> str:
    """Answer a key as it stands in a path."""
    return "/" + quote(key, safe="/")


def in_query(key: str) -> str:
    """Answer a key as it stands in ``?key=``."""
    return "?key=" + quote(key, safe="")


def problem(reply: Reply, status: int, fault: str = "", code: int = 0) -> Any:
    """Check that a reply is a problem, and answer it."""
    assert reply.status == status, reply
    assert reply.headers["content-type"] == PROBLEM
    told = json.loads(reply.body)
    assert (told["type"], told["status"]) == ("about:blank", status)
    assert told["title"]
    assert told["detail"]
    assert (told.get("fault", ""), told.get("code", 0)) == (fault, code)
    return told
