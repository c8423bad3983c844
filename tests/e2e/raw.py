"""HTTP as bytes: what no well-behaved client would send."""

import base64
import contextlib
import socket
from collections.abc import Iterable
from typing import NamedTuple, final

from tests.harness import PASSWORD, USER, Supervisord

SECONDS = 10.0
LOGIN = "Authorization: Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@final
class Connection:
    """One connection to a server. Whatever the other end does to it, nothing raises but a time-out."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(SECONDS)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._buffer = b""
        self._ended = False

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send ``data``, or as much of it as the other end takes."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reply(self) -> Reply | None:
        """Read the next reply; None where the connection ends before its headers do."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        return Reply(int(status.split()[1]), headers, self._body(headers))

    def is_closed(self) -> bool:
        """Wait until the other end closes; whether it has sent nothing more before."""
        while self._more():
            pass
        return not self._buffer

    def rest(self) -> list[Reply]:
        """Read all further replies until the other end closes."""
        replies = []
        while (reply := self.reply()) is not None:
            replies.append(reply)
        return replies

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return self._chunks()
        length = headers.get("content-length")
        while length is None or len(self._buffer) < int(length):
            if not self._more():
                break
        size = len(self._buffer) if length is None else int(length)
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer and self._more():
                pass
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            size = int(line or b"0", 16)
            while len(self._buffer) < size + 2 and self._more():
                pass
            body, self._buffer = body + self._buffer[:size], self._buffer[size + 2 :]
            if not size:
                return body

    def _more(self) -> bool:
        if self._ended:
            return False
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        self._buffer += data
        self._ended = not data
        return bool(data)


class Server(NamedTuple):
    """One HTTP server of a supervisord."""

    supervisord: Supervisord
    inet: bool

    @property
    def host(self) -> str:
        """What a client that knows its address puts into ``Host``."""
        return f"127.0.0.1:{self.supervisord.port}" if self.inet else "localhost"

    @property
    def login(self) -> list[str]:
        """The header that it wants, if it wants one."""
        return [LOGIN] if self.inet and self.supervisord.login else []

    def connect(self) -> Connection:
        if self.inet:
            return Connection(("127.0.0.1", self.supervisord.port))
        return Connection(str(self.supervisord.socket_path))

    def ask(self, method: str, path: str, headers: Iterable[str] = (), body: bytes = b"") -> Reply:
        """Send one request on a connection of its own. Only the headers that are given are sent, and a login."""
        with self.connect() as connection:
            connection.send(request(method, path, [*self.login, *headers], body))
            reply = connection.reply()
        assert reply is not None
        return reply


def request(method: str, path: str, headers: Iterable[str] = (), body: bytes = b"") -> bytes:
    """Put a request together, with these headers and no others."""
    lines = [f"{method} {path} HTTP/1.1", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def post(body: bytes, *headers: str, path: str = "/RPC2") -> bytes:
    """Put together what an XML-RPC client sends."""
    return request("POST", path, [*headers, f"Content-Length: {len(body)}"], body)
