"""Calls over HTTP: one connection per thread, a limit on the time of each call, and no write that happens twice."""

import http.client
import io
import os
import select
import socket
import threading
import time
import weakref
from base64 import b64encode
from contextlib import suppress
from typing import Any
from xml.parsers import expat
from xmlrpc.client import Fault, Unmarshaller, dumps

from supervisor_cache.client.address import Address
from supervisor_cache.client.faults import is_cut, of_raised, of_status
from supervisor_cache.errors import CacheError, InvalidReplyError, UnknownOutcomeError

# supervisord's own replies are about 1 MB at most, but for a single entry, which may take some more.
MAX_REPLY_BYTES = 64 * 1024 * 1024
_OK = 200
_REDIRECTED = 300
_FAILED = 500
_PIECE = 256 * 1024
_CLOSED = "this client is closed"


class _Reader(io.RawIOBase):
    """Reads one reply from a socket, until the call's time is over."""

    def __init__(self, connection: "_Socket") -> None:
        self._connection = connection
        self._room = MAX_REPLY_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.set_time_left()
        size = self._connection.socket.recv_into(buffer)
        # Counted here, where headers and whatever stands between chunks go by, too.
        self._room -= size
        if self._room < 0:
            raise _UnreadableError(f"it has more than {MAX_REPLY_BYTES} bytes")
        return size

    def close(self) -> None:
        super().close()
        self._connection.on_read()


class _UnreadableError(http.client.HTTPException):
    """Raised where a reply is none of HTTP's."""


class _Socket:
    """What `http.client` needs of a socket; all that is done with it ends by `end`, however slowly bytes drip in."""

    def __init__(self, connected: socket.socket, end: float) -> None:
        self.socket = connected
        self.end = end
        self._reader: _Reader | None = None
        self._is_closed = False

    def set_time_left(self) -> None:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)

    def sendall(self, data: Any) -> None:
        # Not the socket's own: where it is encrypted, each piece would have all the time.
        left = memoryview(data)
        while left:
            self.set_time_left()
            left = left[self.socket.send(left) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._reader = _Reader(self)
        return io.BufferedReader(self._reader, 64 * 1024)

    def close(self) -> None:
        """Close it once the reply is read: `http.client` lets go of it before, where no further one shall follow."""
        self._is_closed = True
        if self._reader is None or self._reader.closed:
            self.socket.close()

    def on_read(self) -> None:
        if self._is_closed:
            self.socket.close()

    def is_stale(self) -> bool:
        """Whether the other side has closed it: between two calls there is nothing to be read."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))


class _Connection(http.client.HTTPConnection):
    """One connection to an `Address`."""

    sock: Any

    def __init__(self, address: Address, end: float) -> None:
        super().__init__(address.host or "localhost", address.port or None)
        self._address = address
        self._end = end
        self._is_over = False

    def connect(self) -> None:
        if self._address.scheme == "unix":
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connected.settimeout(self._left())
                connected.connect(self._address.path)
            except BaseException:
                connected.close()
                raise
        else:
            connected = self._connected()
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._address.scheme == "https":
                connected.settimeout(self._left())
                connected = _encrypted(connected, self._address.host)
        self.sock = _Socket(connected, self._end)
        if self._is_over:
            self.close()
            raise ConnectionAbortedError(_CLOSED)

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _connected(self) -> socket.socket:
        """Connect to the first address of the host that answers, in the time that is left for all of them."""
        places = socket.getaddrinfo(self._address.host, self._address.port, 0, socket.SOCK_STREAM)
        for place in places:
            family, kind, protocol, _, where = place
            connected = socket.socket(family, kind, protocol)
            try:
                connected.settimeout(self._left())
                connected.connect(where)
            except BaseException as error:
                connected.close()
                if not isinstance(error, OSError) or place is places[-1]:
                    raise
            else:
                return connected
        raise OSError("the host has no address")

    def begin(self, end: float) -> bool:
        """Begin a call that has to end by ``end``; answer whether the connection is there."""
        self._end = end
        taken = self.sock  # which `end_now` takes away, whenever it comes
        if taken is None or taken.is_stale():
            return False
        taken.end = end
        return True

    def end_now(self) -> None:
        """Close it, whoever is using it."""
        self._is_over = True
        taken = self.sock
        if taken is not None:
            with suppress(OSError):
                taken.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def __del__(self) -> None:
        # A thread has ended, and its connection with it.
        with suppress(Exception):
            self.close()


def _encrypted(connected: socket.socket, host: str) -> socket.socket:
    import ssl  # noqa: PLC0415 - seldom needed

    try:
        return ssl.create_default_context().wrap_socket(connected, server_hostname=host)
    except BaseException:
        connected.close()
        raise


class Transport:
    """Calls the methods of one namespace of a supervisord. Any number of threads may share it, and it survives a fork.

    Args:
        address: Where it is asked.
        namespace: What stands after ``rpcinterface:``.
        timeout: Seconds for one call, from connecting to the last byte of its answer.
    """

    def __init__(self, address: Address, namespace: str, timeout: float) -> None:
        self.url = address.url
        self._address = address
        self._namespace = namespace
        self._timeout = timeout
        self._pid = os.getpid()
        self._own = threading.local()
        self._all: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False
        self._headers = {"Content-Type": "text/xml", "Accept": "text/xml", "User-Agent": "supervisor_cache"}
        if address.user is not None:
            login = f"{address.user}:{address.password}".encode("utf-8", "surrogateescape")
            self._headers["Authorization"] = f"Basic {b64encode(login).decode()}"

    def call(self, method: str, args: tuple[Any, ...] = (), *, write: bool = False, patience: float = 0.0) -> Any:
        """See `supervisor_cache.client.caller.Caller`."""
        return self.call_any(f"{self._namespace}.{method}", args, write=write, patience=patience)

    def call_any(self, method: str, args: tuple[Any, ...] = (), *, write: bool = False, patience: float = 0.0) -> Any:
        """Call a method of any namespace, as ``supervisor.getState``."""
        if self._closed:
            raise ValueError(_CLOSED)
        body = dumps(args, method).encode("utf-8", "surrogatepass")
        end = time.monotonic() + self._timeout + patience
        try:
            reply = self._post(body, end, write=write)
        except (http.client.HTTPException, OSError) as error:
            raise of_raised(error, self.url, method) from None
        try:
            return _answer(reply)
        except Fault as fault:
            raised = of_raised(fault, self.url, method)
        except Exception as error:  # noqa: BLE001 - whatever a parser makes of whatever was sent
            raised = InvalidReplyError(self.url, f"unreadable reply: {ascii(str(error))[1:-1]}")
        raise _unclear(raised, write=write and isinstance(raised, InvalidReplyError))

    def close(self) -> None:
        """Let go of all connections, also of those on which a call is under way, which then fails."""
        if self._pid != os.getpid():
            self._after_fork()  # or the parent's would be shut down
        with self._lock:
            self._closed = True
            connections = list(self._all)
        for connection in connections:
            connection.end_now()

    def _post(self, body: bytes, end: float, *, write: bool) -> bytes:
        while True:
            connection, is_new = self._connection(end)
            whole = False
            try:
                connection.request("POST", self._address.path if self._address.port else "/RPC2", body, self._headers)
                whole = True
                status, words, reply = _receive(connection)
            except (http.client.HTTPException, OSError) as error:
                told = None if whole else _told_early(connection)
                connection.close()
                if told is not None:
                    raise of_status(*told, self.url) from None
                # A request that is not whole is not carried out.
                happened = write and whole
                if is_cut(error) and not (is_new or happened or self._closed):
                    continue
                raise _unclear(of_raised(error, self.url, ""), write=happened) from None
            except BaseException:
                connection.close()
                raise
            if status != _OK:
                connection.close()
                raise _unclear(
                    of_status(status, words, self.url), write=write and (status < _REDIRECTED or status >= _FAILED)
                )
            return reply

    def _connection(self, end: float) -> tuple[_Connection, bool]:
        """Answer this thread's connection, and whether it is a new one."""
        if self._pid != os.getpid():
            self._after_fork()
        connection: _Connection | None = getattr(self._own, "connection", None)
        if connection is not None:
            if connection.begin(end):
                return connection, False
            connection.close()
        connection = self._own.connection = _Connection(self._address, end)
        with self._lock:
            if self._closed:
                raise ValueError(_CLOSED)
            self._all.add(connection)
        return connection, True

    def _after_fork(self) -> None:
        # The parent's connections are its own; another thread of it may have held the lock.
        self._own, self._all, self._lock = threading.local(), weakref.WeakSet(), threading.Lock()
        self._pid = os.getpid()


def _unclear(error: CacheError, *, write: bool) -> CacheError:
    return UnknownOutcomeError(f"it may be stored or not: {error.text}") if write else error


def _told_early(connection: _Connection) -> tuple[int, str] | None:
    """Answer status and words of a server that did not want to hear all of a request."""
    if connection.sock is None:
        return None
    with suppress(http.client.HTTPException, OSError):
        status, words, _ = _receive(connection)
        if status != _OK:
            return status, words
    return None


def _answer(reply: bytes) -> Any:
    """Answer what a reply says; raises its `Fault`, or any other exception where it is none."""
    target = Unmarshaller(use_builtin_types=True)
    target.xml(None, None)  # type: ignore[arg-type] # expat has decoded it
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_entities
    parser.StartElementHandler = target.start
    parser.EndElementHandler = target.end
    parser.CharacterDataHandler = target.data
    parser.Parse(reply, True)  # noqa: FBT003 - expat's
    (answer,) = target.close()
    return answer


def _refuse_entities(*_: object) -> None:
    # A few bytes of them can stand for gigabytes.
    raise ValueError("it has a document type")


def _receive(connection: _Connection) -> tuple[int, str, bytes]:
    response = connection.getresponse()
    with response:
        pieces: list[bytes] = []
        try:
            while piece := response.read(_PIECE):
                pieces.append(piece)
        except ValueError:
            raise _UnreadableError("it has a chunk of less than nothing") from None
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return response.status, ascii(response.reason)[1:-1], b"".join(pieces)
