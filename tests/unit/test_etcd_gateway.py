"""What a connection to etcd makes of answers that are none, of refusals, and of being ended."""

import ctypes
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from supervisor_cache.engines.etcd.gateway import (
    Client,
    Cluster,
    DeniedError,
    LostError,
    StoppedError,
    UnreachedError,
    _hurry_lookup,
    end_of,
    number,
)
from supervisor_cache.engines.etcd.leasing import Lease
from supervisor_cache.engines.etcd.options import Options
from tests.e2e.stub import Peer, Script, Stub
from tests.e2e.stub import http as reply

SECONDS = 10.0
UNAUTHENTICATED = reply(
    json.dumps({"error": "etcdserver: invalid auth token", "code": 16}).encode(), "401 Unauthorized"
)

Connect = Callable[..., tuple[Cluster, Client]]


def answers(*told: Any) -> Script:
    """Answer with these objects, then with the last one again."""

    def script(peer: Peer) -> None:
        left = list(told)
        while peer.request() is not None:
            one = left.pop(0) if len(left) > 1 else left[0]
            peer.send(one if isinstance(one, bytes) else reply(json.dumps(one).encode()))

    return script


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to stubs."""
    clients: list[Client] = []

    def connect(*stubs: Stub, **options: Any) -> tuple[Cluster, Client]:
        members = tuple(stub.url.removeprefix("http://") for stub in stubs)
        cluster = Cluster(Options(members, **options))
        clients.append(cluster.client())
        return cluster, clients[-1]

    yield connect
    for client in clients:
        client.close()


def test_a_connection_is_used_again_and_made_anew_where_etcd_has_closed_it(connect: Connect) -> None:
    closing = reply(b'{"closing": 1}', "200 OK", "Connection: close")
    with Stub(answers({"first": 1}, closing, {"third": 1})) as stub:
        _, client = connect(stub)
        assert [client.call("/v3/x", {}, SECONDS) for _ in range(2)] == [{"first": 1}, {"closing": 1}]
        assert stub.connections == 1
        # The next connection begins the script anew.
        assert client.call("/v3/x", {}, SECONDS) == {"first": 1}
        assert stub.connections == 2


@pytest.mark.parametrize("body", [b"[1]", b"no JSON", b"[" * 100_000, b""])
def test_an_answer_that_is_no_object_may_have_been_carried_out(connect: Connect, body: bytes) -> None:
    with Stub(answers(reply(body))) as stub:
        _, client = connect(stub)
        with pytest.raises(LostError, match="its answer is no JSON object"):
            client.call("/v3/x", {}, SECONDS)


def test_an_error_is_sure_to_have_done_nothing_only_where_its_code_says_so(connect: Connect) -> None:
    for code, kind in ((3, DeniedError), (5, DeniedError), (13, LostError), (14, LostError)):
        with Stub(answers(reply(json.dumps({"error": "why", "code": code}).encode(), "400 Bad Request"))) as stub:
            _, client = connect(stub)
            with pytest.raises(kind, match="why"):
                client.call("/v3/x", {}, SECONDS)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"error": "x"}', b'{"error": "x", "code": "y"}', b'{"error": 1, "code": 1e999}']
)
def test_an_error_that_is_none_of_etcds_may_have_done_anything(connect: Connect, body: bytes) -> None:
    with Stub(answers(reply(body, "500 Internal Server Error"))) as stub:
        _, client = connect(stub)
        with pytest.raises(LostError, match="HTTP status 500"):
            client.call("/v3/x", {}, SECONDS)


def test_a_member_without_a_leader_is_passed_over(connect: Connect) -> None:
    lost = reply(json.dumps({"error": "etcdserver: no leader", "code": 14}).encode(), "503 Service Unavailable")
    with Stub(answers(lost)) as leaderless, Stub(answers({"told": 1})) as well:
        cluster, client = connect(leaderless, well)
        assert client.call("/v3/x", {}, SECONDS) == {"told": 1}
        assert cluster.member() == well.url.removeprefix("http://")
        # That another thread has failed there, too, does not lead back.
        cluster.failed(leaderless.url.removeprefix("http://"))
        assert cluster.member() == well.url.removeprefix("http://")


def test_who_is_ended_asks_nobody_any_more(connect: Connect) -> None:
    with Stub(answers({"told": 1})) as stub:
        cluster, client = connect(stub)
        client.call("/v3/x", {}, SECONDS)
        cluster.stopped.set()
        with pytest.raises(StoppedError):
            client.call("/v3/x", {}, SECONDS)
        _, unconnected = connect(stub)
        unconnected._cluster.stopped.set()
        with pytest.raises(UnreachedError, match="ended"):
            unconnected.call("/v3/x", {}, SECONDS)
        assert len(stub.requests) == 1


def test_who_is_ended_between_two_tries_does_not_go_on(connect: Connect) -> None:
    lost = reply(json.dumps({"error": "etcdserver: no leader", "code": 14}).encode(), "503 Service Unavailable")
    cluster: Cluster

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(lost)
            cluster.stopped.set()

    with Stub(script) as stub:
        cluster, client = connect(stub)
        with pytest.raises(UnreachedError):
            client.call("/v3/x", {}, SECONDS, patient=True)
        assert len(stub.requests) == 1


def test_who_is_ended_while_a_name_is_looked_up_connects_to_nobody(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def ended_meanwhile(*args: Any) -> Any:
        found = look_up(*args)
        cluster.stop()
        return found

    with Stub(answers({"told": 1})) as stub:
        cluster, client = connect(stub)
        monkeypatch.setattr(socket, "getaddrinfo", ended_meanwhile)
        with pytest.raises(UnreachedError, match="ended"):
            client.call("/v3/x", {}, SECONDS)
        assert stub.requests == []


def test_an_answer_that_is_being_read_ends_with_its_connection(connect: Connect) -> None:
    cluster: Cluster

    def script(peer: Peer) -> None:
        peer.request()
        cluster.stop()
        peer.hang()

    with Stub(script) as stub:
        cluster, client = connect(stub)
        with pytest.raises(LostError, match=r"^ended$"):
            client.call("/v3/x", {}, 1000 * SECONDS)


class TestALogin:
    """The password is read from its file, and the token used until it is refused."""

    @pytest.fixture
    def password_file(self, tmp_path: Path) -> str:
        path = tmp_path / "password"
        path.write_text("secret\n")
        return str(path)

    def test_a_token_that_is_refused_is_asked_for_once_more(self, connect: Connect, password_file: str) -> None:
        script = answers({"token": "old"}, UNAUTHENTICATED, {"token": "new"}, {"told": 1})
        with Stub(script) as stub:
            _, client = connect(stub, user="u", password_file=password_file)
            assert client.call("/v3/x", {}, SECONDS) == {"told": 1}
            authorizations = [
                line for head in stub.requests for line in head.split(b"\r\n") if b"Authorization" in line
            ]
            assert authorizations == [b"Authorization: old", b"Authorization: new"]

    def test_who_is_refused_again_is_told_so(self, connect: Connect, password_file: str) -> None:
        script = answers({"token": "old"}, UNAUTHENTICATED, {"token": "new"}, UNAUTHENTICATED)
        with Stub(script) as stub:
            _, client = connect(stub, user="u", password_file=password_file)
            with pytest.raises(DeniedError, match="invalid auth token"):
                client.call("/v3/x", {}, SECONDS)

    def test_without_a_login_a_refusal_is_final(self, connect: Connect) -> None:
        with Stub(answers(UNAUTHENTICATED)) as stub:
            _, client = connect(stub)
            with pytest.raises(DeniedError):
                client.call("/v3/x", {}, SECONDS)
            assert len(stub.requests) == 1

    def test_a_watch_that_is_refused_has_the_next_one_log_in(self, connect: Connect, password_file: str) -> None:
        denied = reply(json.dumps({"error": "permission denied", "code": 7}).encode(), "403 Forbidden")
        script = answers({"token": "old"}, UNAUTHENTICATED, {"token": "new"}, denied, denied)
        with Stub(script) as stub:
            cluster, client = connect(stub, user="u", password_file=password_file)
            with pytest.raises(DeniedError):
                list(client.stream("/v3/watch", {}, SECONDS))
            assert cluster.token(lambda _path, _body: {"token": "another"}) == "another"
            cluster.forget_token()
            with pytest.raises(DeniedError, match="permission denied"):
                list(client.stream("/v3/watch", {}, SECONDS))
            # A refusal that is none of the token's leaves it.
            assert cluster.token(lambda _path, _body: {"token": "another"}) == "new"

    @pytest.mark.parametrize("token", [None, 5, "", "a b", "x" * 20_000])
    def test_an_answer_without_a_token_is_no_login(self, connect: Connect, password_file: str, token: Any) -> None:
        with Stub(answers({"token": token})) as stub:
            _, client = connect(stub, user="u", password_file=password_file)
            with pytest.raises(UnreachedError, match="etcd's answer to a login has no token"):
                client.call("/v3/x", {}, SECONDS)

    def test_a_password_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "binary").write_bytes(b"\xff")
        for name in ("missing", "binary"):
            cluster = Cluster(Options(("127.0.0.1:1",), user="u", password_file=str(tmp_path / name)))
            with pytest.raises(UnreachedError, match="etcd_password_file cannot be read: "):
                cluster.token(lambda _path, _body: {})


def test_a_certificate_of_an_authority_is_enough_where_none_is_shown(tmp_path: Path) -> None:
    from tests.certificates import Certificates  # noqa: PLC0415 - it needs a program

    certificates = Certificates(tmp_path / "tls", ["127.0.0.1"])
    assert Cluster(Options(("127.0.0.1:1",), ca_file=str(certificates.ca_file))).context() is not None
    assert Cluster(Options(("127.0.0.1:1",))).context() is None
    missing = Options(("127.0.0.1:1",), ca_file=str(certificates.ca_file), cert_file=str(tmp_path / "missing"))
    with pytest.raises(UnreachedError, match="etcd_cert_file and its key cannot be used"):
        Cluster(missing).context()
    with pytest.raises(UnreachedError, match="etcd_ca_file cannot be used"):
        Cluster(Options(("127.0.0.1:1",), ca_file=str(tmp_path / "missing"))).context()


class TestAStream:
    """Objects, one on each line, until it ends."""

    def stream(self, connect: Connect, body: bytes) -> list[Any]:
        with Stub(answers(reply(body))) as stub:
            _, client = connect(stub)
            return list(client.stream("/v3/watch", {}, SECONDS))

    def test_what_comes_in_pieces_is_put_together_and_its_end_is_one(self, connect: Connect) -> None:
        def script(peer: Peer) -> None:
            peer.request()
            body = b'{"a": 1}\n\n{}\n{"b": "' + b"x" * 3 + b'"}\n'
            peer.drip(reply(body), 0.001)

        with Stub(script) as stub:
            _, client = connect(stub)
            assert list(client.stream("/v3/watch", {}, SECONDS)) == [{"a": 1}, {"b": "xxx"}]

    @pytest.mark.parametrize(
        ("body", "why"), [(b"[1]\n", "no JSON object"), (b"{\n", "no JSON"), (b"[" * 100_000 + b"\n", "no JSON")]
    )
    def test_what_is_no_object_ends_it(self, connect: Connect, body: bytes, why: str) -> None:
        with pytest.raises(LostError, match=why):
            self.stream(connect, body)

    def test_nobody_waits_for_one_that_is_not_there(self, connect: Connect) -> None:
        with Stub(answers({})) as stub:
            _, client = connect(stub)
            client.wait_until(time.monotonic() + SECONDS)
            client.shutdown()
            assert client.call("/v3/x", {}, SECONDS) == {}


def test_a_connection_is_kept_alive_as_far_as_the_system_can(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_KEEPIDLE")
    with Stub(answers({"told": 1})) as stub:
        _, client = connect(stub)
        assert client.call("/v3/x", {}, SECONDS) == {"told": 1}
        connection = client._connection
        assert isinstance(connection, http.client.HTTPConnection)
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_a_number_of_etcd_is_a_text_that_is_not_negative() -> None:
    assert [number({"n": text}, "n") for text in ("0", "5", str(2**63 - 1), 7)] == [0, 5, 2**63 - 1, 7]
    assert number({}, "n") == 0
    for wrong in ("-1", str(2**63), "x"):
        with pytest.raises(ValueError, match=r"."):
            number({"n": wrong}, "n")
    assert end_of(b"/p/") == b"/p0"


class Leases:
    """Answers what a lease asks for."""

    def __init__(self, *told: Any) -> None:
        self._told = list(told)
        self.asked: list[tuple[str, Any]] = []

    def call(self, path: str, body: Any, *_: Any, **__: Any) -> Any:
        self.asked.append((path, body))
        told = self._told.pop(0)
        if isinstance(told, Exception):
            raise told
        return told


class TestALease:
    """It is asked for when it is needed, kept alive, and asked for anew once it has ended."""

    def lease(self, *told: Any) -> tuple[Lease, Any]:
        lease = Lease(15, SECONDS)
        client: Any = Leases({"ID": "5"}, *told)
        assert lease.ensure(client, SECONDS) == 5
        lease._kept -= lease.ttl / 2
        return lease, client

    def test_it_is_asked_for_once(self) -> None:
        lease, client = self.lease()
        assert lease.ensure(client, SECONDS) == 5
        assert client.asked == [("/v3/lease/grant", {"TTL": "15"})]

    def test_one_that_is_alive_is_left_alone_until_it_is_due(self) -> None:
        lease, client = self.lease({"result": {"TTL": "15"}})
        lease.keep_alive(client)
        lease.keep_alive(client)
        assert [path for path, _ in client.asked[1:]] == ["/v3/lease/keepalive"]
        assert lease.number == 5

    def test_it_tells_how_long_etcd_keeps_it(self) -> None:
        assert Lease(15, SECONDS).left() == -1.0
        lease, client = self.lease({"result": {"TTL": "15"}})
        assert 0.0 < lease.left() <= lease.ttl / 2
        lease.keep_alive(client)
        assert lease.ttl / 2 < lease.left() <= lease.ttl
        lease._kept -= 2 * lease.ttl
        assert lease.left() == 0.0

    @pytest.mark.parametrize("told", [{"result": {"TTL": "0"}}, {"result": {}}, {"result": 5}, {}])
    def test_one_that_has_ended_is_asked_for_anew(self, told: Any) -> None:
        lease, client = self.lease(told, {"ID": "6"})
        lease.keep_alive(client)
        assert lease.number == 0
        assert lease.ensure(client, SECONDS) == 6

    def test_one_that_etcd_does_not_know_is_asked_for_anew(self) -> None:
        lease, client = self.lease(DeniedError("requested lease not found", 5), {"ID": "6"})
        with pytest.raises(DeniedError):
            lease.keep_alive(client)
        assert lease.ensure(client, SECONDS) == 6

    def test_that_an_older_one_has_ended_is_no_news(self) -> None:
        lease, _ = self.lease()
        lease.gone(4)
        assert lease.number == 5
        lease.gone(5)
        assert lease.number == 0

    def test_it_is_given_back_once_whatever_comes_of_that(self) -> None:
        lease, client = self.lease(LostError("lost"))
        lease.revoke(client, SECONDS)
        lease.revoke(client, SECONDS)
        assert client.asked[1:] == [("/v3/lease/revoke", {"ID": "5"})]


@pytest.mark.parametrize("library", [None, "musl 1.2", ValueError("unrecognized configuration name")])
def test_another_c_library_than_that_which_is_known_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, library: Any
) -> None:
    def named(name: str) -> str | None:
        assert name == "CS_GNU_LIBC_VERSION"
        if isinstance(library, Exception):
            raise library
        answer: str | None = library
        return answer

    monkeypatch.setattr(os, "confstr", named)
    monkeypatch.setattr(ctypes, "CDLL", None)
    _hurry_lookup()


def test_what_a_lookup_goes_by_is_set_in_its_thread_alone_and_stays() -> None:
    def asked() -> tuple[int, int]:
        socket.getaddrinfo("localhost", 1, 0, socket.SOCK_STREAM)
        find = ctypes.CDLL(None)["__res_state"]
        find.restype = ctypes.POINTER(ctypes.c_int)
        state = find()
        return state[0], state[1]

    if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
        pytest.skip("another C library is left alone")
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other:
        before = other.submit(asked).result()
        for _ in range(2):
            pool.submit(_hurry_lookup).result()
            assert pool.submit(asked).result() == (1, 1)
        assert other.submit(asked).result() == before != (1, 1)
