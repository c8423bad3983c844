"""etcd's JSON gateway over ``http.client``: one connection per thread, ended from any other by shutting it down.

See the etcd documentation, "gRPC gateway": bytes are base64, 64-bit integers are strings, and what is zero is left out.
"""

import base64
import contextlib
import ctypes
import http.client
import io
import json
import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from supervisor_cache.engines.etcd.options import Options

Json = dict[str, Any]

# Of gRPC.
_NO_PERMISSION = 7
_UNAUTHENTICATED = 16
# With these etcd has done nothing: a wrong request, no such lease, no permission, no room, compacted, not known.
_NOTHING_DONE = frozenset({3, 5, _NO_PERMISSION, 8, 9, 11, 12, _UNAUTHENTICATED})
# A token that tells the user by itself was made before some user or role was changed.
_OUTDATED = "revision of auth store is old"
# Where users have to log in etcd takes a CN for one, and its gateway refuses whatever comes with one, in plain text.
_NAMED_CERTIFICATE = "CommonName of client sending a request against gateway"
_NO_LEADER = "etcdserver: no leader"
# A member without a leader refuses at once what it would else keep until its own time-out, and ends watches.
_HEADERS = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}
_HTTP_OK = 200
_LEAST_SECONDS = 0.05
# Of those that nothing comes of, until all have been tried again.
_PAUSE = 0.1
# Of one answer, or one message of a watch. etcd takes 1.5 MiB in one request, and tells many of them at once.
_MOST_BYTES = 32 * 1024 * 1024
_MOST_OF_A_REFUSAL = 64 * 1024
# Characters of what etcd says that are passed on.
_MOST_TEXT = 300
_MOST_NUMBER = 2**63
_TOKEN = re.compile("[!-~]{1,16000}")
# Seconds of silence after which a connection is tried, between two tries, and how many of them. What stands between
# forgets idle connections, and a watch says nothing where nothing changes.
_KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
# Seconds that a name server has to answer. Whoever looks up a name asks for it with and without a domain, and is asked
# again soon; the C library would ask twice each time, for 5 s.
_LOOKUP_SECONDS = 1
_RES_NORELOAD = 0x02000000


class GatewayError(Exception):
    """Base of what goes wrong between this host and etcd."""


class UnreachedError(GatewayError):
    """Surely nothing has happened: no member could be asked, or it said so."""


class LostError(GatewayError):
    """It may have happened or not."""


class TooMuchError(LostError):
    """What comes is more than is read."""


class DeniedError(UnreachedError):
    """etcd has refused, and done nothing.

    Attributes:
        code: Of gRPC.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class StoppedError(UnreachedError):
    """This side is ending."""


def encoded(data: bytes) -> str:
    """Write bytes as the gateway takes them."""
    return base64.b64encode(data).decode("ascii")


def decoded(text: object) -> bytes:
    """Read bytes as the gateway writes them; raises `ValueError`."""
    if not isinstance(text, str):
        raise ValueError("no text")  # noqa: TRY004 - one error for whatever is wrong
    return base64.b64decode(text, validate=True)


def number(found: Json, name: str) -> int:
    """Read a 64-bit integer that is not negative; 0 where it is left out. Raises `ValueError`, or `TypeError`."""
    read = int(found.get(name, 0))
    if not 0 <= read < _MOST_NUMBER:
        raise ValueError(f"{name} is out of range")
    return read


def end_of(prefix: bytes) -> bytes:
    """Answer the end of the range of all keys that start with ``prefix``, whose last byte is no 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Cluster:
    """What all threads know of the members.

    Args:
        options: See `Options`.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.stopped = threading.Event()
        self._place = 0
        self._lock = threading.Lock()
        self._token = ""
        self._clients: list[Client] = []

    def client(self) -> "Client":
        """Make the client of one thread."""
        made = Client(self)
        with self._lock:
            self._clients.append(made)
        return made

    def stop(self) -> None:
        """End whatever any client waits for, now and from now on."""
        self.stopped.set()
        for client in self._clients:
            client.shutdown()

    def close(self) -> None:
        """Let go of all connections; no thread uses one any more.

        A descriptor that is left would outlive a reload, which closes it by its number, and later close another's.
        """
        for client in self._clients:
            client.close()

    def member(self) -> str:
        """The member that is asked first."""
        return self.options.members[self._place % len(self.options.members)]

    def failed(self, member: str) -> None:
        """Have the next one be asked first from now on."""
        with self._lock:
            if member == self.member():
                self._place += 1

    def context(self) -> ssl.SSLContext | None:
        """Answer what TLS needs; read anew for each connection, for certificates are renewed. None without TLS.

        Raises:
            UnreachedError: A file cannot be used.
        """
        options = self.options
        if not options.ca_file:
            return None
        name = "etcd_ca_file"
        try:
            context = ssl.create_default_context(cafile=options.ca_file)
            if options.cert_file:
                name = "etcd_cert_file and its key"
                # Nobody is asked for the password of a key.
                context.load_cert_chain(options.cert_file, options.key_file or None, "")
        except (OSError, ValueError) as error:
            raise UnreachedError(f"{name} cannot be used: {error}") from None
        return context

    def token(self, ask: Callable[[str, Json], Json]) -> str:
        """Answer the token of the user, asking for one where there is none; empty where nobody logs in.

        Raises:
            UnreachedError: There is none; what it was for has surely not happened.
        """
        options = self.options
        if options.user and not self._token:
            try:
                password = Path(options.password_file).read_text("utf-8").strip()
            except (OSError, ValueError) as error:
                raise UnreachedError(f"etcd_password_file cannot be read: {error}") from None
            try:
                token = ask("/v3/auth/authenticate", {"name": options.user, "password": password}).get("token")
            except LostError as error:
                raise UnreachedError(f"no login: {error}") from None
            if not isinstance(token, str) or not _TOKEN.fullmatch(token):
                raise UnreachedError("etcd's answer to a login has no token")
            self._token = token
        return self._token

    def forget_token(self) -> None:
        """Have the next request log in again."""
        self._token = ""


class _Source(io.RawIOBase):
    """What a connection reads, until a moment that may change.

    A time-out of the socket alone begins anew with each byte.
    """

    def __init__(self, connection: "_Plain", raw: io.RawIOBase, sock: socket.socket) -> None:
        self._connection = connection
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        """As it says."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read some; raises `TimeoutError` where the time is over."""
        left = self._connection.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


class _Plain(http.client.HTTPConnection):
    """A connection without TLS.

    Attributes:
        end: When what is being read has to be there, on the monotonic clock.
        used: The socket, which `sock` is not any more where the answer ends with the connection.
    """

    # That of its base is one; it is not told to be.
    _create_connection: Callable[..., socket.socket]

    def __init__(self, member: str) -> None:
        super().__init__(member)
        self.end = 0.0
        self.used: socket.socket | None = None
        self.response_class = self._response  # type: ignore[assignment]  # it is only called

    def _response(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *args, **kwargs)
        self.used = sock
        response.fp = io.BufferedReader(_Source(self, response.fp.detach(), sock))
        return response


class _Tls(_Plain):
    """A connection with TLS. That of the library cannot be ended while it shakes hands."""

    def __init__(self, member: str, context: ssl.SSLContext) -> None:
        super().__init__(member)
        self._context = context

    def connect(self) -> None:
        """Connect, and shake hands."""
        super().connect()
        made = self._context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = made
        made.do_handshake()


class Client:
    """Asks the members, one after the other; used by one thread.

    Attributes:
        member: That the connection goes to.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._connection: _Plain | None = None
        self._dialing: socket.socket | None = None
        self._only = ""
        self.member = ""

    def call(self, path: str, body: Json, seconds: float, *, patient: bool = False, only: str = "") -> Json:
        """Ask one member, or another where surely nothing came of it.

        Args:
            path: Of the gateway.
            body: What is asked.
            seconds: How long it may take.
            patient: Whether to try all members again until then.
            only: The one member to ask; empty for any.

        Raises:
            UnreachedError: Surely nothing has happened.
            LostError: It may have happened.
        """
        end = time.monotonic() + seconds
        self._only = only
        if only:
            return self._ask_logged_in(path, body, end, seconds)
        members = len(self._cluster.options.members)
        tries = 0
        while True:
            tries += 1
            left = end - time.monotonic()
            # Of what is left, a connection may take the part of those who have not been tried.
            share = left / (members - (tries - 1) % members)
            try:
                return self._ask_logged_in(path, body, end, share)
            except StoppedError:
                raise
            except DeniedError as error:
                if _NO_LEADER not in str(error):
                    raise
                refused: UnreachedError = error
            except UnreachedError as error:
                refused = error
            self._cluster.failed(self.member)
            self.close()
            if time.monotonic() >= end or (tries >= members and not patient):
                raise refused
            if tries % members == 0 and self._cluster.stopped.wait(_PAUSE):
                raise StoppedError("ended")

    def stream(self, path: str, body: Json, seconds: float) -> Iterator[Json]:
        """Ask one member for a stream of objects; each may take ``seconds``. Raises as `call` does."""
        share = seconds / len(self._cluster.options.members)
        try:
            yield from lines(self._send(path, body, self._headers(time.monotonic() + seconds, share), seconds, share))
        except DeniedError as error:
            if error.code == _UNAUTHENTICATED:
                self._cluster.forget_token()
            self._cluster.failed(self.member)
            raise
        except UnreachedError:
            self._cluster.failed(self.member)
            raise

    def wait_until(self, end: float) -> None:
        """Have the stream go on until ``end``, on the monotonic clock; `shutdown` ends it before."""
        if self._connection is not None:
            self._connection.end = end

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def shutdown(self) -> None:
        """End what the connection waits for, its being made included; from any thread."""
        connection = self._connection
        sockets = (None, None) if connection is None else (connection.sock, connection.used)
        for found in (self._dialing, *sockets):
            if found is not None:
                with contextlib.suppress(OSError):
                    found.shutdown(socket.SHUT_RDWR)

    def _dial(self, address: tuple[str, int], seconds: float, _source: object = None) -> socket.socket:
        """Connect as `socket.create_connection` does, but so that `shutdown` ends it."""
        failure: OSError = OSError("no address")
        if self._cluster.stopped.is_set():
            raise OSError("ended")
        _hurry_lookup()
        for family, kind, protocol, _, place in socket.getaddrinfo(*address, 0, socket.SOCK_STREAM):
            made = self._dialing = socket.socket(family, kind, protocol)
            try:
                if self._cluster.stopped.is_set():
                    raise OSError("ended")
                made.settimeout(seconds)
                _keep_alive(made)
                made.connect(place)
            except OSError as error:
                made.close()
                failure = error
            else:
                return made
            finally:
                self._dialing = None
        raise failure

    def _headers(self, end: float, share: float) -> dict[str, str]:
        def ask(path: str, body: Json) -> Json:
            return self._ask(path, body, _HEADERS, end, share)

        token = self._cluster.token(ask)
        return {**_HEADERS, "Authorization": token} if token else _HEADERS

    def _ask_logged_in(self, path: str, body: Json, end: float, share: float) -> Json:
        try:
            return self._ask(path, body, self._headers(end, share), end, share)
        except DeniedError as error:
            # A token is good for some minutes, and only for the member that gave it.
            is_refused = error.code == _UNAUTHENTICATED or _OUTDATED in str(error)
            if not is_refused or not self._cluster.options.user:
                raise
        self._cluster.forget_token()
        return self._ask(path, body, self._headers(end, share), end, share)

    def _ask(self, path: str, body: Json, headers: dict[str, str], end: float, share: float) -> Json:
        response = self._send(path, body, headers, end - time.monotonic(), share)
        try:
            data = _read(response, _MOST_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost(error) from None
        try:
            answer: object = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._lost(ValueError("its answer is no JSON object"))
        return answer

    def _send(
        self, path: str, body: Json, headers: dict[str, str], seconds: float, share: float
    ) -> http.client.HTTPResponse:
        connection = self._connected(share)
        seconds = max(_LEAST_SECONDS, seconds)
        connection.sock.settimeout(seconds)
        connection.end = time.monotonic() + seconds
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != _HTTP_OK:
                raise self._denial(response.status, _read(response, _MOST_OF_A_REFUSAL))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost(error) from None
        return response

    def _connected(self, seconds: float) -> _Plain:
        member = self._only or self._cluster.member()
        if self._connection is not None and (member != self.member or _is_dropped(self._connection)):
            self.close()
        if self._connection is None:
            self.member = member
            context = self._cluster.context()
            made = self._connection = _Plain(member) if context is None else _Tls(member, context)
            made._create_connection = self._dial  # noqa: SLF001 - declared above
            made.timeout = max(_LEAST_SECONDS, seconds)
            try:
                made.connect()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                raise UnreachedError(f"{member}: {error}") from None
        if self._cluster.stopped.is_set():
            raise StoppedError("ended")
        return self._connection

    def _lost(self, error: Exception) -> GatewayError:
        self._cluster.failed(self.member)
        self.close()
        if self._cluster.stopped.is_set():
            return LostError("ended")
        return LostError(f"{self.member}: {said(error)}")

    def _denial(self, status: int, body: bytes) -> GatewayError:
        try:
            told = json.loads(body)
            text, code = str(told["error"])[:_MOST_TEXT], int(told["code"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            text = body[:_MOST_TEXT].decode(errors="replace").strip()
            if _NAMED_CERTIFICATE in text:
                self.close()  # the next one may have another certificate
                return DeniedError(f"{self.member}: etcd_cert_file must have no CN: {text}", _NO_PERMISSION)
            return LostError(f"{self.member}: HTTP status {status}: {text}")
        if code in _NOTHING_DONE or _NO_LEADER in text:
            return DeniedError(f"{self.member}: {text}", code)
        return LostError(f"{self.member}: {text}")


def _is_dropped(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side has closed the connection, or said what nobody has asked for."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def said(error: object) -> str:
    """Answer what an error says, in a length that can be shown."""
    return (str(error) or type(error).__name__)[:_MOST_TEXT]


def named(error: Exception) -> str:
    """Answer the kind of an error, and what it says."""
    return f"{type(error).__name__} ({said(error)})"


class _Lookups(ctypes.Structure):
    """The beginning of glibc's ``struct __res_state``."""

    _fields_ = (("retrans", ctypes.c_int), ("retry", ctypes.c_int), ("options", ctypes.c_ulong))


def _hurry_lookup() -> None:
    """Have this thread give up soon on a name server that says nothing.

    No lookup can be ended from outside, and none may outlive a generation of supervisord: a reload closes the
    descriptor under it, and it would close in turn whatever has got that number by then. Python has no word for this.
    What glibc goes by in each thread is read from the file anew each time, and then kept from being read again.
    Another C library is left alone.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):
        if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            library = ctypes.CDLL(None)
            library["__res_init"]()
            find = library["__res_state"]
            find.restype = ctypes.POINTER(_Lookups)
            state = find().contents
            state.retrans, state.retry = _LOOKUP_SECONDS, 1
            state.options |= _RES_NORELOAD


def _keep_alive(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)  # not every system has them
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    """Read an answer; raises `ValueError` where it is longer than ``most``, or ends before it should."""
    data = response.read(most)
    if len(data) == most:
        raise ValueError("its answer is too long")
    if response.length:
        raise ValueError("its answer is cut off")
    return data


def lines(response: http.client.HTTPResponse) -> Iterator[Json]:
    """Read the objects of a stream, until it ends.

    Raises:
        TooMuchError: One of them is too long.
        LostError: It was cut off, or what comes is no stream of objects.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        while data := response.read1(1 << 20):
            first, *others = data.split(b"\n")
            pieces.append(first)
            size += len(first)
            for other in others:
                line = b"".join(pieces)
                pieces, size = [other], len(other)
                found = json.loads(line) if line.strip() else {}
                if not isinstance(found, dict):
                    raise LostError("what comes is no JSON object")
                if found:
                    yield found
            if size > _MOST_BYTES:
                raise TooMuchError("what comes is too long")
    except (ValueError, RecursionError):
        raise LostError("what comes is no JSON") from None
    except (OSError, http.client.HTTPException) as error:
        raise LostError(said(error)) from None
