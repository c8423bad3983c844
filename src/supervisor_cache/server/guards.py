"""What is refused before Supervisor looks at it: a look at the headers alone, on every path of every server."""

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from supervisor.medusa.http_server import http_request

from supervisor_cache.server.log import Log, contain

_LENGTH = re.compile("[0-9]+")
_MOST_DIGITS = 18
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+?)\.?(?::[0-9]*)?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]+)", re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN_SITES = frozenset({"cross-site", "same-site"})
_FIELDS = frozenset({"content-length", "transfer-encoding", "origin", "sec-fetch-site", "host"})

BAD_REQUEST = 400
FORBIDDEN = 403
LENGTH_REQUIRED = 411
TOO_LARGE = 413
MISDIRECTED = 421
_REASONS = {MISDIRECTED: "Misdirected Request"}


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
    guarded_paths: Sequence[str]
    open_inet: bool


def local_hosts() -> frozenset[str]:
    """The names of this host, without asking the network."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, name.partition(".")[0]} - {""})


def verdict(policy: Policy, method: str, path: str, header: Iterable[str]) -> int | None:
    """Judge a request by its headers: None, or the HTTP status with which it is refused."""
    fields = _fields(header)
    status = _judge_length(policy, method, path, fields)
    if status is not None:
        return status
    origins = fields.get("origin", ())
    hosts = fields.get("host", ())
    host_counts = policy.open_inet and (origins or path.startswith(tuple(policy.guarded_paths)))
    if host_counts and not _are_own_hosts(hosts, [*policy.allowed_hosts, *policy.local_hosts]):
        return MISDIRECTED
    if method not in _SAFE_METHODS:
        if any(site.lower() in _FOREIGN_SITES for site in fields.get("sec-fetch-site", ())):
            return FORBIDDEN
        if any(not _is_own_origin(origin, hosts, policy.allowed_hosts) for origin in origins):
            return FORBIDDEN
    return None


def _fields(header: Iterable[str]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for line in header:
        name, _, value = line.partition(":")
        folded = name.lower().strip(" \t")
        if folded in _FIELDS:
            fields.setdefault(folded, []).append(value.strip(" \t"))
    return fields


def _judge_length(policy: Policy, method: str, path: str, fields: dict[str, list[str]]) -> int | None:
    if "transfer-encoding" in fields:
        # Supervisor cannot read a chunked body; it would take the chunks for further requests.
        return LENGTH_REQUIRED
    lengths = fields.get("content-length")
    if lengths is None:
        return None
    if not all(map(_LENGTH.fullmatch, lengths)) or len(set(lengths)) > 1:
        return BAD_REQUEST
    digits = lengths[0].lstrip("0")
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
    if name in {_without_port(entry) for entry in allowed}:
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


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].removesuffix(".")


class RequestGuard:
    """Stands before all handlers of one HTTP server, and takes the requests that are to be refused."""

    def __init__(self, policy: Policy, log: Log) -> None:
        self._policy = policy
        self._log = log
        # Of the request that was matched last; Supervisor has it handled at once.
        self._status: int | None = None

    def match(self, request: http_request) -> bool:
        """Whether to refuse ``request``. If judging fails, only what a browser alone sends is refused."""
        try:
            self._status = verdict(self._policy, request.command, request.uri, request.header)
        except Exception as error:  # noqa: BLE001 - supervision first: supervisorctl must get through
            self._log.failure("the request guard's match", error)
            self._status = FORBIDDEN if _from_browser(request) else None
        return self._status is not None

    def handle_request(self, request: http_request) -> None:
        """Refuse ``request`` unread, and close the connection."""
        contain(self._log, "the request guard's handle_request", None, self._refuse, request)
        request.channel.close_when_done()

    def _refuse(self, request: http_request) -> None:
        # What follows is the body, unread: with the usual terminator it would be taken for further requests.
        request.channel.set_terminator(None)
        request.responses = {**request.responses, **_REASONS}
        request["Connection"] = "close"
        request.error(self._status or FORBIDDEN)


def _from_browser(request: http_request) -> bool:
    return any(line.lower().startswith(("origin", "sec-fetch-")) for line in request.header)
