"""What is refused before Supervisor looks at it: a look at the headers alone, on every path of every server."""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from supervisor.medusa.http_server import http_channel, http_request
from supervisor.medusa.xmlrpc_handler import collector

from supervisor_cache.core.text import shown
from supervisor_cache.http.replies import SAFETY
from supervisor_cache.server.log import Log, contain

_LENGTH = re.compile("[0-9]+")
_MOST_DIGITS = 18
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+?)\.?(?::[0-9]*)?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]+)", re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN_SITES = frozenset({"cross-site", "same-site"})
# With this Supervisor's own page starts and stops processes, whatever the method.
_ACTION = "action="
# At the start of a line, lower case; also without the colon that belongs there.
_FIELD = re.compile(
    "\n[ \t]*(content-length|transfer-encoding|origin|sec-fetch-site|sec-fetch-dest|host)"
    "[ \t]*(?::[ \t]*([^\n]*))?(?![^\n])"
)

_HEADER_END = b"\r\n\r\n"
# A larger body than this is cut off.
_MOST_DISCARDED = 16 * 1024 * 1024

_REMEMBERED = 256
_REMEMBERED_CHARACTERS = 1024

BAD_REQUEST = 400
FORBIDDEN = 403
LENGTH_REQUIRED = 411
TOO_LARGE = 413
MISDIRECTED = 421
_REASONS = {MISDIRECTED: "Misdirected Request"}
_EXPLANATIONS = {
    BAD_REQUEST: "its Content-Length is no number, or there are two that differ",
    FORBIDDEN: "a browser sends it for another site (Origin, Sec-Fetch-Site; allowed_hosts admits further names)",
    LENGTH_REQUIRED: "it has a Transfer-Encoding, which Supervisor cannot read",
    TOO_LARGE: "its body is larger than max_request_bytes",
    MISDIRECTED: "its Host is no name of this server (allowed_hosts admits further names)",
}


class Policy(NamedTuple):
    """What the guard of one server goes by.

    Attributes:
        max_request_bytes: The largest body of a request.
        allowed_hosts: Names, each with or without a port, under which browsers may ask for this server.
        local_hosts: Names of this host.
        guarded_paths: Paths on which ``Host`` counts for every request.
        open_inet: Whether the server is reached over inet and asks for no password, so that the ``Host`` is all
            that tells another site's name that has been made to point here.
    """

    max_request_bytes: int
    allowed_hosts: Collection[str]
    local_hosts: Collection[str]
    guarded_paths: tuple[str, ...]
    open_inet: bool


def local_hosts() -> frozenset[str]:
    """The names of this host, without asking the network."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, name.partition(".")[0]} - {""})


def verdict(policy: Policy, method: str, path: str, header: Iterable[str]) -> int | None:
    """Judge a request by its headers: None, or the HTTP status with which it is refused."""
    fields = _fields(header)
    status = _judge_length(policy, method, path, fields)
    if status is None and ("origin" in fields or policy.open_inet):
        status = _judge_host(policy, path, fields)
    if status is None and method not in _SAFE_METHODS and ("origin" in fields or "sec-fetch-site" in fields):
        status = _judge_origin(policy, fields)
    if status is None and "sec-fetch-site" in fields and _ACTION in unquote_plus(path):
        status = _judge_action(fields)
    return status


def _fields(header: Iterable[str]) -> dict[str, list[str]]:
    # One search over all lines: this runs at every request.
    fields: dict[str, list[str]] = {}
    for name, value in _FIELD.findall("\n" + "\n".join(header).lower()):
        fields.setdefault(name, []).append(value.rstrip(" \t"))
    return fields


def _judge_host(policy: Policy, path: str, fields: dict[str, list[str]]) -> int | None:
    counts = policy.open_inet and ("origin" in fields or path.startswith(policy.guarded_paths))
    if counts and not _are_own_hosts(fields.get("host", ()), [*policy.allowed_hosts, *policy.local_hosts]):
        return MISDIRECTED
    return None


def _judge_origin(policy: Policy, fields: dict[str, list[str]]) -> int | None:
    if not _FOREIGN_SITES.isdisjoint(fields.get("sec-fetch-site", ())):
        return FORBIDDEN
    hosts = fields.get("host", ())
    if all(_is_own_origin(origin, hosts, policy.allowed_hosts) for origin in fields.get("origin", ())):
        return None
    return FORBIDDEN


def _judge_action(fields: dict[str, list[str]]) -> int | None:
    # A link that somebody follows is a document; what stands in another site's page is not, and nobody sees it.
    is_foreign = not _FOREIGN_SITES.isdisjoint(fields["sec-fetch-site"])
    return FORBIDDEN if is_foreign and fields.get("sec-fetch-dest") != ["document"] else None


def _judge_length(policy: Policy, method: str, path: str, fields: dict[str, list[str]]) -> int | None:
    if "transfer-encoding" in fields:
        # Supervisor cannot read a chunked body; it would take the chunks for further requests.
        return LENGTH_REQUIRED
    lengths = fields.get("content-length")
    if lengths is None:
        return None
    digits = lengths[0]
    if not _LENGTH.fullmatch(digits) or any(other != digits for other in lengths[1:]):
        return BAD_REQUEST
    digits = digits.lstrip("0")
    if not digits and method == "POST" and path.startswith("/RPC2"):
        # Supervisor would collect all that follows, without end.
        return BAD_REQUEST
    too_large = len(digits) > _MOST_DIGITS or int(digits or "0") > policy.max_request_bytes
    return TOO_LARGE if too_large else None


def _are_own_hosts(hosts: Sequence[str], allowed: Collection[str]) -> bool:
    if len(hosts) != 1:
        return False
    found = _HOST.fullmatch(hosts[0].lower())
    if found is None:
        return False
    name = found[1]
    # Addresses need not be among them.
    if name in {entry.partition(":")[0].removesuffix(".") for entry in allowed}:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_own_origin(origin: str, hosts: Sequence[str], allowed: Collection[str]) -> bool:
    found = _ORIGIN.fullmatch(origin)
    if found is None:  # "null" among them
        return False
    default = _DEFAULT_PORTS[found[1].lower()]
    place = found[2].lower().removesuffix(default)
    own = [*allowed, *hosts] if len(hosts) == 1 else allowed
    return place in {host.lower().removesuffix(default) for host in own}


class RequestGuard:
    """Stands before all handlers of one HTTP server, and takes the requests that are to be refused."""

    def __init__(self, policy: Policy, log: Log) -> None:
        self._policy = policy
        self._log = log
        # Of the request that was matched last; Supervisor has it handled at once.
        self._status: int | None = None
        # A client sends the same header again and again, and every request comes through here.
        self._admitted: set[tuple[str, ...]] = set()

    def match(self, request: http_request) -> bool:
        """Whether to refuse ``request``. If judging fails, only what a browser alone sends is refused."""
        try:
            asked = (request.command, request.uri, *request.header)
            if asked in self._admitted:
                return False
            self._status = verdict(self._policy, request.command, request.uri, request.header)
            if self._status is None:
                self._remember(asked)
        except Exception as error:  # noqa: BLE001 - supervision first: supervisorctl must get through
            self._log.failure("the request guard's match", error)
            self._status = FORBIDDEN if _from_browser(request) else None
        return self._status is not None

    def _remember(self, asked: tuple[str, ...]) -> None:
        if sum(map(len, asked)) <= _REMEMBERED_CHARACTERS:
            if len(self._admitted) >= _REMEMBERED:
                self._admitted.clear()
            self._admitted.add(asked)

    def handle_request(self, request: http_request) -> None:
        """Refuse ``request`` unread, and close the connection."""
        left = contain(self._log, "the request guard's handle_request", 0, self._refuse, request)
        close_unread(request.channel, left)

    def _refuse(self, request: http_request) -> int:
        # What follows is the body, unread: with the usual terminator it would be taken for further requests.
        request.channel.set_terminator(None)
        request.responses = {**request.responses, **_REASONS}
        request["Connection"] = "close"
        for name, value in SAFETY.items():
            request[name] = value
        status = self._status or FORBIDDEN
        self._log.repeated(
            f"refused with {status}", f"a request to {shown(request.uri, 100)} was refused: {_EXPLANATIONS[status]}"
        )
        request.error(status)
        return 0 if status == LENGTH_REQUIRED else announced(request)


def announced(request: http_request) -> int:
    """Answer how long the body of ``request`` is, as it says; 0 where nobody can tell."""
    lengths = _fields(request.header).get("content-length", [""])
    return int(lengths[0]) if re.fullmatch("[0-9]{1,9}", lengths[0]) else 0


def close_unread(channel: http_channel, left: int) -> None:
    """Close a connection on which an answer has been sent, and ``left`` bytes of a body not been read.

    Closed in both directions at once, it would break while the client is still sending, and the answer would go unseen.
    So what was announced is taken, and forgotten.
    """
    if 0 < left <= _MOST_DISCARDED and not channel.ac_out_buffer:
        due = channel.producer_fifo.list
        if due and due[-1] is None:
            # The client has asked for it (Connection: close, HTTP/1.0): Supervisor would close as soon as it can.
            del due[-1]
        channel.current_request = _Discard(channel)
        channel.set_terminator(left)
        with contextlib.suppress(OSError):
            channel.socket.shutdown(socket.SHUT_WR)
    else:
        channel.close_when_done()


class _Discard:
    """Takes the body of a refused request in place of that request, and forgets it."""

    def __init__(self, channel: http_channel) -> None:
        self._channel = channel

    def collect_incoming_data(self, data: bytes) -> None:
        """Forget ``data``."""

    def found_terminator(self) -> None:
        """The client has sent all of it."""
        self._channel.close_when_done()


def hold_deferred(socket_map: Mapping[int, Any]) -> None:
    """Take in nothing behind XML-RPC requests whose replies are deferred.

    Supervisor would take what follows for more of that request's body, without end, and parse it once more. It is
    forgotten instead, and the connection closed behind the reply, so that the client sends it once more.
    """
    for channel in list(socket_map.values()):
        request: Any = getattr(channel, "current_request", None)
        # The collector of a request whose body is still being read waits for so many bytes.
        if type(getattr(request, "collector", None)) is collector and channel.get_terminator() == _HEADER_END:
            request.collector = _Behind(request)


class _Behind:
    """Takes what a client sends behind a request whose reply is still due."""

    def __init__(self, request: http_request) -> None:
        self._request = request

    def collect_incoming_data(self, _data: bytes) -> None:
        """Forget it, and all that follows, also while the reply goes out."""
        channel: Any = self._request.channel
        channel.set_terminator(None)
        channel.collect_incoming_data = _forget
        self._request.header.insert(0, "Connection: close")
        self._request["Connection"] = "close"

    def found_terminator(self) -> None:
        """Likewise, of a header that is empty."""
        self.collect_incoming_data(b"")


def _forget(_data: bytes) -> None:
    """Nobody is to answer it."""


def _from_browser(request: http_request) -> bool:
    return any(line.lower().startswith(("origin", "sec-fetch-")) for line in request.header)
