"""A real etcd cluster for a test: its life, its faults, and ways to ask it beside the cache."""

import base64
import contextlib
import http.client
import json
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, final

from tests.certificates import Certificates
from tests.conftest import missing
from tests.harness import START_SECONDS, free_port, until
from tests.netns import Namespace

ROOT_PASSWORD = "root of the cluster"
# A member that hangs must not hold a test up: another one is asked.
REPLY_SECONDS = 2.0
# What is asked of a member that is only starting may never be answered.
PROBE_SECONDS = 0.25
HEARTBEAT_MILLISECONDS = 50
ELECTION_MILLISECONDS = 500
_UNAUTHORIZED = 401
_AUTHENTICATE = "/v3/auth/authenticate"
_ANSWERED = 200

Body = Mapping[str, Any]


class Refused(Exception):  # noqa: N818  # as etcd says no, and all is well
    """A member has answered with an error."""


class Pair(NamedTuple):
    """A key as etcd has it."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    version: int
    lease: int


def encoded(text: str) -> str:
    """Write text as the gateway has keys and values."""
    return base64.b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    """Read a key or a value of the gateway."""
    return base64.b64decode(text).decode(errors="surrogateescape")


def prefix_end(prefix: str) -> str:
    """Answer what follows the keys that begin with ``prefix``, as the gateway has keys; all do with an empty one."""
    key = prefix.encode()
    return base64.b64encode(key[:-1] + bytes([key[-1] + 1]) if key else b"\0").decode()


@cache
def _unsafe() -> list[str]:
    """What spares it the disk, where it can: its data outlive its process, and nothing else is asked of them here."""
    flags = ["--unsafe-no-fsync"]
    done = subprocess.run(["etcd", *flags, "--version"], capture_output=True, timeout=START_SECONDS, check=False)
    return flags if done.returncode == 0 else []


@final
class Member:
    """One etcd process, or the place where there will be one again."""

    def __init__(self, name: str, folder: Path, place: Namespace | None) -> None:
        self.name = name
        self.place = place
        self.host = "127.0.0.1" if place is None else place.address
        # In a namespace of its own, ports are free.
        self.client, self.peer = (free_port(), free_port()) if place is None else (2379, 2380)
        self.data = folder / name
        self.log_file = folder / f"{name}.log"
        self.is_paused = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.client}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Where it can be reached whatever is cut: on its own host."""
        return contextlib.nullcontext() if self.place is None else self.place.inside()

    def assert_running(self) -> None:
        assert self.is_running, self.log_file.read_text(errors="replace")[-4000:]

    def answers_peers(self) -> bool:
        """Whether it answers other members."""
        self.assert_running()
        connection = http.client.HTTPConnection(self.host, self.peer, timeout=PROBE_SECONDS)
        with self.inside(), contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/version")
            return connection.getresponse().status == _ANSWERED
        return False

    def start(self, arguments: Sequence[str]) -> None:
        """Start it, with the data that it has."""
        assert not self.is_running
        with self.log_file.open("ab") as log, self.inside():
            self._process = subprocess.Popen(
                ["etcd", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.is_paused = False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; to one that has ended, nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with signal 9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)


@final
class Cluster:
    """Members of etcd, for the length of a ``with``. What they say is in ``folder``, and stays there.

    Its own helpers ask a member that runs, as root where there is a login, and are not what a test is about.

    Args:
        folder: For data, logs and certificates.
        members: How many.
        tls: Whether clients need TLS and the certificate ``cert_file``.
        login: Whether auth is enabled: ``user`` with ``password`` may then read and write below ``prefix``.
        prefix: Of the keys that ``user`` may use.
        places: Network namespaces for the members, one each; without them they are on loopback.
        options: Further command-line options of etcd.
        syncs: Whether they wait for the disk, as they do outside of tests.
    """

    user = "cache"
    password = "password of the cache"

    def __init__(
        self,
        folder: Path,
        members: int = 3,
        *,
        tls: bool = False,
        login: bool = False,
        prefix: str = "cache/",
        places: Sequence[Namespace] = (),
        options: Sequence[str] = (),
        syncs: bool = False,
    ) -> None:
        if shutil.which("etcd") is None:
            missing("etcd")
        assert len(places) in {0, members}
        self.folder = folder
        self.prefix = prefix
        hosts: Sequence[Namespace | None] = places or [None] * members
        self.members = [Member(f"etcd{number}", folder, place) for number, place in enumerate(hosts)]
        self.certificates = Certificates(folder / "tls", [member.host for member in self.members]) if tls else None
        self._has_login = login
        self._options = [*([] if syncs else _unsafe()), *options]
        self._token = ""

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    @property
    def ca_file(self) -> Path:
        return self._certified().ca_file

    @property
    def cert_file(self) -> Path:
        return self._certified().cert_file

    @property
    def key_file(self) -> Path:
        return self._certified().key_file

    def _certified(self) -> Certificates:
        assert self.certificates is not None, "a cluster without TLS"
        return self.certificates

    def __enter__(self) -> "Cluster":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for number, member in enumerate(self.members):
                self.start(number)
                # The next one asks it for the cluster, and where it listens but does not answer yet waits 2 s for it.
                until(member.answers_peers, f"{member.name} starts")
            self.wait_healthy()
            if self._has_login:
                self._enable_login()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all members."""
        for member in self.members:
            member.kill()

    # Faults.

    def start(self, number: int) -> None:
        """Start a member, with the data that it had; `wait_healthy` waits for it."""
        member = self.members[number]
        scheme = "http" if self.certificates is None else "https"
        addresses = f"{scheme}://{member.endpoint}"
        peers = [f"{each.name}=http://{each.host}:{each.peer}" for each in self.members]
        own = peers[number].partition("=")[2]
        arguments = [
            "--name", member.name, "--data-dir", str(member.data),
            "--listen-client-urls", addresses, "--advertise-client-urls", addresses,
            "--listen-peer-urls", own, "--initial-advertise-peer-urls", own,
            "--initial-cluster", ",".join(peers), "--initial-cluster-state", "new",
            "--heartbeat-interval", str(HEARTBEAT_MILLISECONDS), "--election-timeout", str(ELECTION_MILLISECONDS),
            "--logger", "zap", "--log-outputs", "stderr", "--bcrypt-cost", "4",
        ]  # fmt: skip
        if self.certificates is not None:
            arguments += [
                "--client-cert-auth", "--trusted-ca-file", str(self.certificates.ca_file),
                "--cert-file", str(self.certificates.server_cert_file),
                "--key-file", str(self.certificates.server_key_file),
            ]  # fmt: skip
        member.start([*arguments, *self._options])

    def kill(self, number: int) -> None:
        """End a member with signal 9."""
        self.members[number].kill()

    def pause(self, number: int) -> None:
        """Stop a member in its tracks: its connections stay, and nobody answers."""
        self.members[number].signal(signal.SIGSTOP)
        self.members[number].is_paused = True

    def resume(self, number: int) -> None:
        """Have a paused member go on."""
        self.members[number].signal(signal.SIGCONT)
        self.members[number].is_paused = False

    def _serving(self) -> list[int]:
        return [number for number, each in enumerate(self.members) if each.is_running and not each.is_paused]

    def leader(self) -> int:
        """Answer which member leads, once there is one that a majority follows."""
        found: list[int] = []

        def is_followed() -> bool:
            states = {number: state for number in self._serving() if (state := self._status(number))}
            leads = [number for number, state in states.items() if state["leader"] == state["header"]["member_id"]]
            # One that was replaced may not know it yet.
            found[:] = sorted(leads, key=lambda number: int(states[number]["raftTerm"]))[-1:]
            followers = [1 for state in states.values() if found and state["leader"] == states[found[0]]["leader"]]
            return len(followers) > len(self.members) // 2

        until(is_followed, "a majority has a leader")
        return found[0]

    def _status(self, number: int) -> dict[str, Any]:
        """Answer what a member says of itself; nothing where it does not answer, or follows nobody."""
        with contextlib.suppress(OSError, Refused):
            state = self.call("/v3/maintenance/status", {}, member=number)
            return state if "leader" in state else {}
        return {}

    def wait_healthy(self) -> None:
        """Wait until each member that runs says that all is well, and a majority follows one of them."""
        for number in self._serving():
            until(partial(self._is_healthy, number), f"{self.members[number].name} is well")
        self.leader()

    def _is_healthy(self, number: int) -> bool:
        member = self.members[number]
        member.assert_running()
        try:
            status, reply = self._ask(member, "GET", "/health", seconds=PROBE_SECONDS)
        except OSError:
            return False
        return status == _ANSWERED and json.loads(reply).get("health") == "true"

    # The gateway.

    def call(self, path: str, body: Body, *, member: int | None = None) -> dict[str, Any]:
        """Post to the gateway of one member; without one, of the first that runs and takes the connection.

        Raises:
            Refused: It answers with an error.
            OSError: It does not answer.
        """
        asked = self.members[self._reachable() if member is None else member]
        status, reply = self._post(asked, path, body)
        if status == _UNAUTHORIZED and path != _AUTHENTICATE:
            # A member that was started anew knows no token of earlier times.
            self._token = self.authenticate("root", ROOT_PASSWORD)
            status, reply = self._post(asked, path, body)
        if status != _ANSWERED:
            raise Refused(f"{path}: {status} {reply.decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(reply)
        return answer

    def _post(self, member: Member, path: str, body: Body) -> tuple[int, bytes]:
        headers = {"Authorization": self._token} if self._token and path != _AUTHENTICATE else {}
        return self._ask(member, "POST", path, json.dumps(body).encode(), headers)

    def _reachable(self) -> int:
        """Answer the first member that answers."""
        for number in self._serving():
            with contextlib.suppress(OSError):
                self._ask(self.members[number], "GET", "/version", seconds=PROBE_SECONDS)
                return number
        raise ConnectionError("no member answers")

    def _ask(
        self,
        member: Member,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = REPLY_SECONDS,
    ) -> tuple[int, bytes]:
        with member.inside():
            if self.certificates is None:
                connection = http.client.HTTPConnection(member.host, member.client, timeout=seconds)
            else:
                connection = http.client.HTTPSConnection(
                    member.host, member.client, timeout=seconds, context=self.certificates.context()
                )
            with contextlib.closing(connection):
                try:
                    connection.request(method, path, body, dict(headers or {}))
                    response = connection.getresponse()
                    return response.status, response.read()
                except http.client.HTTPException as error:
                    raise ConnectionError(repr(error)) from error

    # Login.

    def _enable_login(self) -> None:
        for name, password in (("root", ROOT_PASSWORD), (self.user, self.password)):
            self.call("/v3/auth/user/add", {"name": name, "password": password})
            self.call("/v3/auth/role/add", {"name": name})
            self.call("/v3/auth/user/grant", {"user": name, "role": name})
        self.permit(self.prefix)
        self.call("/v3/auth/enable", {})
        self._token = self.authenticate("root", ROOT_PASSWORD)

    def permit(self, prefix: str) -> None:
        """Let ``user`` read and write what begins with ``prefix``, too."""
        permission = {"permType": "READWRITE", "key": encoded(prefix), "range_end": prefix_end(prefix)}
        self.call("/v3/auth/role/grant", {"name": self.user, "perm": permission})

    def authenticate(self, user: str, password: str) -> str:
        """Answer a token for ``user``, to be sent as ``Authorization``."""
        return str(self.call(_AUTHENTICATE, {"name": user, "password": password})["token"])

    # Keys.

    def put(self, key: str, value: str = "", *, lease: int = 0) -> int:
        """Put; answer the revision."""
        return _revision(self.call("/v3/kv/put", {"key": encoded(key), "value": encoded(value), "lease": str(lease)}))

    def get(self, key: str) -> Pair | None:
        """Answer what is there."""
        return next(iter(self._pairs({"key": encoded(key)})), None)

    def range(self, prefix: str = "", *, member: int | None = None, serializable: bool = False) -> list[Pair]:
        """Answer what begins with ``prefix``; as one member has it by itself where ``serializable``."""
        wanted = {"key": encoded(prefix or "\0"), "range_end": prefix_end(prefix), "serializable": serializable}
        return self._pairs(wanted, member)

    def _pairs(self, wanted: Body, member: int | None = None) -> list[Pair]:
        return [
            Pair(
                decoded(found["key"]),
                decoded(found.get("value", "")),
                *(int(found.get(name, 0)) for name in ("create_revision", "mod_revision", "version", "lease")),
            )
            for found in self.call("/v3/kv/range", wanted, member=member).get("kvs", [])
        ]

    def revision(self) -> int:
        """Answer the newest revision of the cluster."""
        return _revision(self.call("/v3/kv/range", {"key": encoded("\0"), "count_only": True}))

    def delete(self, key: str, *, prefix: bool = False) -> int:
        """Delete a key, or all that begins with it; answer how many there were."""
        wanted = {"key": encoded(key or "\0"), **({"range_end": prefix_end(key)} if prefix else {})}
        return int(self.call("/v3/kv/deleterange", wanted).get("deleted", 0))

    def txn(self, compare: Sequence[Body], success: Sequence[Body], failure: Sequence[Body] = ()) -> dict[str, Any]:
        """Post a transaction, as the gateway has it (`encoded`); its answer says ``succeeded`` where it did."""
        return self.call("/v3/kv/txn", {"compare": [*compare], "success": [*success], "failure": [*failure]})

    def compact(self, revision: int) -> None:
        """Have the cluster forget what was before ``revision``."""
        self.call("/v3/kv/compaction", {"revision": str(revision), "physical": True})

    def defragment(self) -> None:
        """Have each member that runs give back room on its disk."""
        for number in self._serving():
            self.call("/v3/maintenance/defragment", {}, member=number)

    # Leases.

    def grant(self, seconds: int) -> int:
        """Take a lease; answer its ID."""
        return int(self.call("/v3/lease/grant", {"TTL": str(seconds)})["ID"])

    def revoke(self, lease: int) -> None:
        """End a lease, and what depends on it."""
        self.call("/v3/lease/revoke", {"ID": str(lease)})

    def leases(self) -> list[int]:
        """Answer the IDs of all leases."""
        return [int(lease["ID"]) for lease in self.call("/v3/lease/leases", {}).get("leases", [])]


def _revision(answer: Body) -> int:
    return int(answer["header"]["revision"])
