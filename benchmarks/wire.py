"""Requests built beforehand, over a bare unix socket: the client itself takes next to no time."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_END_OF_HEADER = b"\r\n\r\n"
_FAULT = re.compile(rb"<name>faultCode</name>\s*<value><int>(\d+)</int>")
TIMEOUT_SECONDS = 120


def body(method: str, params: str = "") -> bytes:
    """Build the body of a call; ``params`` is XML already."""
    name = f"<methodName>{method}</methodName>"
    return f"<?xml version='1.0'?>\n<methodCall>{name}<params>{params}</params></methodCall>".encode()


def request(content: bytes) -> bytes:
    """Build the whole HTTP request."""
    header = (
        f"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return header.encode() + content


def outcome(reply: bytes) -> str:
    """Say in a word what a reply is: ``answer``, or the fault with its code."""
    found = _FAULT.search(reply[:2000])
    return "answer" if found is None else f"fault {int(found[1])}"


class Wire:
    """One persistent connection."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_SECONDS)
        self._socket.connect(str(path))

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def call(self, content: bytes) -> bytes:
        """Send a request and answer the body of the reply.

        Raises:
            RuntimeError: The reply is anything but 200, or the connection is closed.
        """
        self.send(content)
        return self.receive()

    def send(self, content: bytes) -> None:
        """Send a request, whose reply `receive` answers."""
        self._socket.sendall(content)

    def receive(self) -> bytes:
        """Answer the body of a reply; raises as `call` does."""
        received = bytearray()
        while (end := received.find(_END_OF_HEADER)) < 0:
            received += self._receive()
        found = _LENGTH.search(received, 0, end)
        if found is None or not received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"not an answer: {bytes(received[:200])!r}")
        total = end + len(_END_OF_HEADER) + int(found[1])
        while len(received) < total:
            received += self._receive()
        return bytes(received[end + len(_END_OF_HEADER) : total])

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise RuntimeError("supervisord has closed the connection")
        return data


@contextmanager
def held(path: Path, count: int, content: bytes) -> Iterator[None]:
    """Hold ``count`` connections for the length of a ``with``; each has sent ``content``, and never reads a reply.

    Supervisor has read all of them by then, if ``content`` is of less than 4 KiB, which it reads at once.
    """
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(closing(Wire(path))).send(content)
        # Supervisor accepts one connection in each round: the one that comes last is answered last.
        with closing(Wire(path)) as last:
            last.call(request(body("supervisor.getState")))
        yield
