"""A server on loopback that answers whatever a test wants, well-formed or not, and counts what it was asked."""

import contextlib
import gc
import shutil
import socket
import ssl
import tempfile
import threading
import time
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.e2e.raw import Server
from tests.harness import Supervisord

# Seconds after which a connection ends in any case, so that a test that fails leaves no thread behind.
PATIENCE = 30.0
PIECE = 1 << 16


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Put a reply together that keeps the connection."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def xml(value: Any) -> bytes:
    """Say what XML-RPC says for an answer, or for a `xmlrpc.client.Fault`."""
    answer = value if isinstance(value, xmlrpc.client.Fault) else (value,)
    return xmlrpc.client.dumps(answer, methodresponse=True, allow_none=True).encode()


def answer(value: Any) -> bytes:
    """A whole and right reply."""
    return http(xml(value), "200 OK", "Content-Type: text/xml")


class Peer:
    """One connection, from the side of the server. What the client does to it raises nothing."""

    def __init__(self, connected: socket.socket, stub: "Stub") -> None:
        self._socket = connected
        self._stub = stub
        self._buffer = b""

    def head(self) -> bytes | None:
        """Read a request up to its body, and count it; None once the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self._stub.count(head)
        return head

    def request(self) -> bytes | None:
        """Read a request, and answer its body; None once the client has closed."""
        head = self.head()
        return None if head is None else self.body(head)

    def body(self, head: bytes) -> bytes | None:
        """Read the body of the request that begins with ``head``; None once the client has closed."""
        lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        length = int(lengths[0])
        while len(self._buffer) < length:
            if not self._more():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def send(self, data: bytes) -> bool:
        """Send ``data``; whether the client took it."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def drip(self, data: bytes, pause: float = 0.05) -> bool:
        """Send a byte at a time; whether the client took them all."""
        for number in range(len(data)):
            if self._stub.is_over.is_set() or not self.send(data[number : number + 1]):
                return False
            time.sleep(pause)
        return True

    def flood(self, data: bytes) -> None:
        """Send ``data`` again and again, until the client has had enough."""
        while not self._stub.is_over.is_set() and self.send(data):
            pass

    def hang(self) -> None:
        """Say nothing more, until the client closes."""
        while self._more():
            self._buffer = b""

    def _more(self) -> bool:
        try:
            data = self._socket.recv(PIECE)
        except OSError:
            return False
        self._buffer += data
        return bool(data)


Script = Callable[[Peer], object]


class Stub:
    """Accepts connections, and has a script deal with each; the connection is closed when that returns.

    Args:
        script: What happens on a connection.
        kind: ``tcp``, ``tcp6`` or ``unix``.
        tls: With which the connections are encrypted; None for not at all.
    """

    def __init__(self, script: Script, kind: str = "tcp", tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self.is_over = threading.Event()
        self._tls = tls
        self._lock = threading.Lock()
        self._connected: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._folder = tempfile.mkdtemp(prefix="sc-")
        if kind == "unix":
            path = str(Path(self._folder) / "s")
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(path)
            self.url = f"unix://{path}"
        else:
            host = "::1" if kind == "tcp6" else "127.0.0.1"
            self._socket = socket.socket(socket.AF_INET6 if kind == "tcp6" else socket.AF_INET, socket.SOCK_STREAM)
            self._socket.bind((host, 0))
            port = self._socket.getsockname()[1]
            self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if kind == 'tcp6' else host}:{port}"
        self._socket.listen(50)
        self._accepting = self._start(self._accept)

    def __enter__(self) -> "Stub":  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE)
        for connected in self._connected:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def count(self, head: bytes) -> None:
        with self._lock:
            self.requests.append(head)

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self.is_over.is_set():
            try:
                connected, _ = self._socket.accept()
            except OSError:
                return
            connected.settimeout(PATIENCE)
            self.connections += 1
            self._connected.append(connected)
            self._threads.append(self._start(lambda connected=connected: self._serve(connected)))  # type: ignore[misc]

    def _serve(self, connected: socket.socket) -> None:
        try:
            if self._tls is not None:
                connected = self._tls.wrap_socket(connected, server_side=True)
            self.script(Peer(connected, self))
        except OSError:
            # A client that does not like the certificate.
            pass
        finally:
            connected.close()


def always(data: bytes) -> Script:
    """A script that answers each request with the same bytes."""

    def script(peer: Peer) -> None:
        while peer.request() is not None and peer.send(data):
            pass

    return script


class Relay(Stub):
    """Stands before a real supervisord, and can lose answers of what has been carried out.

    Attributes:
        loses: Decides, by the body of a request, whether its answer is lost: the connection is closed instead.
        holds: Likewise, but the connection stays, and says nothing.
        refuses: Decides whether a request is not even handed on, and its connection says nothing.
    """

    def __init__(self, supervisord: Supervisord) -> None:
        self.loses: Callable[[bytes], bool] = lambda _: False
        self.holds: Callable[[bytes], bool] = lambda _: False
        self.refuses: Callable[[bytes], bool] = lambda _: False
        self._server = Server(supervisord, inet=False)
        super().__init__(self._relay)

    def __enter__(self) -> "Relay":  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def _relay(self, peer: Peer) -> None:
        while (body := peer.request()) is not None:
            if self.refuses(body):
                peer.hang()
                return
            reply = self._server.ask("POST", "/RPC2", [f"Content-Length: {len(body)}"], body)
            if self.holds(body):
                peer.hang()
                return
            if self.loses(body):
                return
            peer.send(http(reply.body, str(reply.status), "Content-Type: text/xml"))


def own_descriptors() -> int:
    """Count the open descriptors of this process that are in use."""
    gc.collect()  # what failed calls still held
    return len(list(Path("/proc/self/fd").iterdir()))
