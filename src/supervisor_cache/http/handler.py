"""Our place in Supervisor's HTTP servers: requests come in, replies and streams go out."""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from supervisor.http import supervisor_auth_handler
from supervisor.medusa.http_server import http_channel, http_request
from supervisor.xmlrpc import SystemNamespaceRPCInterface, supervisor_xmlrpc_handler

from supervisor_cache.http.replies import REASONS, SAFETY, SANDBOX, Reply, problem
from supervisor_cache.http.requests import Asked, Target, headers_of, target_of
from supervisor_cache.http.routes import Routes
from supervisor_cache.server.guards import announced, close_unread
from supervisor_cache.server.log import Log, contain

_HEADER_END = b"\r\n\r\n"
# Of what is sent at once: Supervisor copies all that is left of a piece for each 4 KB that it sends.
_PIECE = 32 * 1024
_WITH_BODY = frozenset({"PUT", "POST"})
_EMPTY = frozenset({204, 304})
_RPC_PATH = "/RPC2"
# Bytes that are sent before anybody else has a turn.
_AT_ONCE = 256 * 1024
# Bytes that a client may be owed when it asks for more; what it asks for first may be larger.
_MOST_OWED = 4 * 1024 * 1024
# Seconds for the requests that one client has sent at once, which Supervisor has handled one after the other: who has
# had that much is closed behind the next answer. Those that follow within the gap count as sent at once.
_TURN = 0.02
_GAP = 0.05
_REMEMBERED_CHARACTERS = 1024
_LENGTH = re.compile("[0-9]{1,18}", re.ASCII)


class _Bytes:
    """Hands out bytes in pieces; one of Supervisor's producers."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.left = len(data)

    def more(self) -> bytes:
        """Answer the next piece; empty where there is none."""
        start = len(self._data) - self.left
        piece = bytes(self._data[start : start + _PIECE])
        self.left -= len(piece)
        return piece


class CacheHandler:
    """Serves one cache under ``/NAME/`` of one HTTP server."""

    def __init__(self, name: str, routes: Routes, log: Log) -> None:
        self._start = f"/{name}/"
        self._bare = f"/{name}"
        self._routes = routes
        self._log = log
        # The channel that has asked last if there was more behind, how long its requests took, when the last one ended.
        self._turn_of = 0
        self._taken = 0.0
        self._ended = 0.0

    def match(self, request: http_request) -> bool:
        """Whether the request is for this cache: by its path as it was sent."""
        return bool(contain(self._log, "the cache handler's match", False, self._match, request))  # noqa: FBT003 - the answer

    def _match(self, request: http_request) -> bool:
        line = request.request
        place = line.find(" ") + 1
        if not line.startswith(self._bare, place):
            return False
        return line.startswith(self._start, place) or target_of(line).path == self._bare

    def handle_request(self, request: http_request) -> None:
        """Read the body, and answer."""
        contain(self._log, "the cache handler's handle_request", None, self._handle, request)

    def _handle(self, request: http_request) -> None:
        target, headers = _parts_of(request)
        client = HttpClient(request, headers)
        # The guard has looked at it, but takes a LF for the end of a line; there may be several that are the same.
        length = headers.get("content-length", "0").partition(",")[0]
        if target.path == self._bare:
            # Relative: a proxy may have put something in front.
            client.respond_unread(Reply(308, headers={"Location": f"{self._bare[1:]}/"}))
        elif request.command in _WITH_BODY and "content-length" not in headers:
            client.respond_unread(problem(411, "a Content-Length is needed"))
        elif not _LENGTH.fullmatch(length):
            client.respond_unread(problem(400, "its Content-Length is no number"))
        elif int(length):
            if headers.get("expect", "").lower() == "100-continue":
                request.channel.push(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.collector = _Collector(
                request.channel, lambda body: self._answer(request, client, target, headers, body), self._log
            )
            request.channel.set_terminator(int(length))
        else:
            self._answer(request, client, target, headers, b"")

    def _answer(
        self, request: http_request, client: "HttpClient", target: Target, headers: Mapping[str, str], body: bytes
    ) -> None:
        asked = Asked(request.command, target.path[len(self._start) :], target.query, headers, body)
        channel = request.channel
        if channel.ac_in_buffer or channel.channel_number == self._turn_of:
            self._take_turn(asked, client, channel)
        else:
            self._run(asked, client)
        if not client.is_answered:
            # What the client sends before it has its answer.
            request.collector = _Early(client)

    def _take_turn(self, asked: Asked, client: "HttpClient", channel: http_channel) -> None:
        """Answer one of several requests that a client has sent at once."""
        # Of the processor: on a machine that is busy otherwise, nobody is closed for that.
        began = time.thread_time()
        if channel.channel_number != self._turn_of or time.monotonic() - self._ended > _GAP:
            self._turn_of, self._taken = channel.channel_number, 0.0
        elif self._taken > _TURN:
            client.closes = True
        self._run(asked, client)
        self._ended = time.monotonic()
        self._taken += time.thread_time() - began
        if not channel.ac_in_buffer:
            self._turn_of = 0

    def _run(self, asked: Asked, client: "HttpClient") -> None:
        try:
            self._routes.handle(asked, client)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told, and supervisord goes on
            self._log.failure("the JSON interface", error)
            client.respond(problem(500, "internal error; supervisord's log has it"))


class _Collector:
    """Takes the body of one request."""

    def __init__(self, channel: http_channel, done: Callable[[bytes], None], log: Log) -> None:
        self._channel = channel
        self._done = done
        self._log = log
        self._pieces: list[bytes] = []

    def collect_incoming_data(self, data: bytes) -> None:
        """Take a piece."""
        self._pieces.append(data)

    def found_terminator(self) -> None:
        """The body is whole."""
        self._channel.set_terminator(_HEADER_END)
        contain(self._log, "the cache handler's body", None, self._done, b"".join(self._pieces))


class _Early:
    """Takes what comes before an answer has gone out, or behind the last one: there is nobody to answer it."""

    def __init__(self, client: "HttpClient") -> None:
        self._client = client

    def collect_incoming_data(self, _data: bytes) -> None:
        """Forget it."""
        self._client.closes = True

    def found_terminator(self) -> None:
        """Forget it."""
        self._client.closes = True


class HttpClient:
    """Who has sent a request; see `supervisor_cache.http.routes.Client`.

    Attributes:
        closes: Whether the connection is closed behind the answer.
        is_answered: Whether there is one.
    """

    def __init__(self, request: http_request, headers: Mapping[str, str]) -> None:
        self._request = request
        self._channel = request.channel
        self.closes = request.version != "1.1" or "close" in headers.get("connection", "").lower()
        self.is_answered = False

    def is_there(self) -> bool:
        """Whether the connection is."""
        return _is_open(self._channel)

    def respond_unread(self, reply: Reply) -> None:
        """Answer, and close the connection: there may be a body that nobody has read."""
        self.closes = True
        # What follows must not be taken for further requests.
        self._channel.set_terminator(None)
        self._answer(reply)
        if _is_open(self._channel):
            close_unread(self._channel, announced(self._request))

    def respond(self, reply: Reply) -> None:
        """Send an answer."""
        if self.is_answered or not self.is_there():
            return
        self._answer(reply)
        if self.closes and _is_open(self._channel):
            # What is sent behind the last request of a connection is not run.
            self._request.collector = _Early(self)
            self._channel.current_request = self._request
            self._channel.close_when_done()

    def _answer(self, reply: Reply) -> None:
        self.is_answered = True
        channel = self._channel
        body = b"" if self._request.command == "HEAD" or reply.status in _EMPTY else reply.body
        lines = "".join([f"{name}: {value}\r\n" for name, value in reply.headers.items()])
        kind = reply.kind
        if reply.status in _EMPTY:
            kind = ""
        else:
            lines += f"Content-Length: {len(reply.body)}\r\n"
        if self.closes:
            lines += _CLOSE
        # Not logged: Supervisor would call each request an error whose key has that word in it.
        channel.current_request = None
        _send(channel, _head(reply.status, kind, lines, sandboxed=reply.sandboxed) + body)

    def open_stream(self) -> "HttpSink":
        """Send the head of a stream, which ends with the connection."""
        self.is_answered = True
        self._request.collector = _Early(self)
        sink = HttpSink(self._channel)
        # nginx hands each event on at once, then.
        sink.send(_head(200, "text/event-stream", f"{_CLOSE}X-Accel-Buffering: no\r\n"))
        return sink


class HttpSink:
    """A stream on a connection; see `supervisor_cache.http.routes.Sink`."""

    def __init__(self, channel: http_channel) -> None:
        self._channel = channel
        self._unsent: deque[_Bytes] = deque()

    def send(self, data: bytes) -> None:
        """Send ``data``: what fits into the socket at once."""
        if _is_open(self._channel):
            left = _send(self._channel, data)
            if left is not None:
                self._unsent.append(left)

    def owed(self) -> int:
        """How many bytes the client has not taken yet."""
        while self._unsent and not self._unsent[0].left:
            self._unsent.popleft()
        return len(self._channel.ac_out_buffer) + sum(one.left for one in self._unsent)

    def is_there(self) -> bool:
        """Whether the connection is."""
        return _is_open(self._channel)

    def close(self) -> None:
        """Close the connection, whatever the client is still owed."""
        if _is_open(self._channel):
            self._channel.close()


def _parts_of(request: http_request) -> tuple[Target, Mapping[str, str]]:
    line, header = request.request, tuple(request.header)
    # A client sends the same again and again.
    take = _read if len(line) + sum(map(len, header)) <= _REMEMBERED_CHARACTERS else _read.__wrapped__
    return take(line, header)


@lru_cache(128)
def _read(line: str, header: tuple[str, ...]) -> tuple[Target, Mapping[str, str]]:
    return target_of(line), headers_of(header)


def _is_open(channel: http_channel) -> bool:
    found: Any = channel.socket
    return found is not None and found.fileno() >= 0


def _owed(channel: http_channel) -> int:
    return len(channel.ac_out_buffer) + sum(getattr(one, "left", 0) for one in channel.producer_fifo.list)


def _send(channel: http_channel, data: bytes) -> _Bytes | None:
    """Send what the socket takes at once, and leave the rest, which is answered, to Supervisor.

    Supervisor sends 4 KB in each round of its loop.
    """
    sent = 0
    if not channel.ac_out_buffer and not len(channel.producer_fifo):
        try:
            sent = channel.send(data[:_AT_ONCE])
        except OSError:
            channel.close()
            return None
    elif _owed(channel) > _MOST_OWED:
        # It asks for more and more, and takes nothing.
        channel.close()
        return None
    if sent == len(data) or not _is_open(channel):
        return None
    left = _Bytes(data[sent:])
    channel.push_with_producer(left)
    return left


_CLOSE = "Connection: close\r\n"


def _head(status: int, kind: str, lines: str, *, sandboxed: bool = False) -> bytes:
    return f"{_first_lines(status, kind, sandboxed, int(time.time()))}{lines}\r\n".encode("ascii")


@lru_cache(16)
def _first_lines(status: int, kind: str, sandboxed: bool, seconds: int) -> str:  # noqa: FBT001 - only asked for here
    lines = {"Date": formatdate(seconds, usegmt=True), **(SANDBOX if sandboxed else SAFETY)}
    if kind:
        lines["Content-Type"] = kind
    shown = "".join([f"{name}: {value}\r\n" for name, value in lines.items()])
    return f"HTTP/1.1 {status} {REASONS[status]}\r\n{shown}"


class Confinement:
    """Stands before Supervisor's handlers of a server that serves our caches and nothing else.

    Args:
        supervisord: The object that runs.
        interfaces: The RPC interfaces by namespace.
        paths: Starts of the paths that are served.
        log: Where failures go.
    """

    def __init__(self, supervisord: Any, interfaces: dict[str, Any], paths: tuple[str, ...], log: Log) -> None:
        self._paths = paths
        self._log = log
        found: list[tuple[str, Any]] = list(interfaces.items())
        self._rpc = supervisor_xmlrpc_handler(supervisord, [*found, ("system", SystemNamespaceRPCInterface(found))])

    def match(self, request: http_request) -> bool:
        """Whether to take the request: all but those for the caches, which come after. If in doubt, take it."""
        return bool(contain(self._log, "the confinement's match", True, self._match, request))  # noqa: FBT003 - the answer

    def _match(self, request: http_request) -> bool:
        path = target_of(request.request).path
        return not (path.startswith(self._paths) or f"{path}/" in self._paths)

    def handle_request(self, request: http_request) -> None:
        """Answer what is left of Supervisor, and refuse the rest."""
        if request.uri.partition("?")[0] in {_RPC_PATH, f"{_RPC_PATH}/"}:
            self._rpc.handle_request(request)
        else:
            contain(self._log, "the confinement's handle_request", None, self._refuse, request)

    def _refuse(self, request: http_request) -> None:
        client = HttpClient(request, headers_of(request.header))
        client.respond_unread(problem(403, "this server serves the cache, and nothing else of supervisord"))


def with_login(config: dict[str, Any], handler: Any) -> Any:
    """Have ``handler`` ask for the user and password of the server, as Supervisor's own do."""
    if not config["username"]:
        return handler
    login = supervisor_auth_handler({config["username"]: config["password"]}, handler)
    login.authorizer = _Authorizer(login.authorizer)
    return login


class _Authorizer:
    """Supervisor's own, which fails with a 500 where there is no colon between user and password."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def authorize(self, login: list[str]) -> bool:
        """Whether user and password are right."""
        return len(login) > 1 and bool(self._own.authorize(login))
