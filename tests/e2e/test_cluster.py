"""The cluster, the proxy and the network that other tests rely on do what those tests take them to do."""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import final

import pytest

from tests.cluster import Cluster, Refused, encoded
from tests.harness import until
from tests.netns import Direction, Namespace, Network
from tests.proxy import Proxy

SECONDS = 0.5


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    shared.wait_healthy()
    shared.delete("", prefix=True)
    return shared


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    with Proxy(cluster.endpoints[0]) as one:
        yield one


@final
class Client:
    """One connection to a gateway, which it keeps."""

    def __init__(self, endpoint: str) -> None:
        self.connection = http.client.HTTPConnection(endpoint, timeout=SECONDS)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def put(self, key: str) -> None:
        """Put; OSError where no reply comes."""
        body = json.dumps({"key": encoded(key), "value": encoded("v")})
        try:
            self.connection.request("POST", "/v3/kv/put", body)
            assert self.connection.getresponse().read()
        except http.client.HTTPException as error:
            raise ConnectionError(repr(error)) from error


def has_port(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), SECONDS):
        return True
    return False


def test_what_is_put_is_there_with_its_revisions_until_it_is_deleted(cluster: Cluster) -> None:
    before = cluster.revision()
    assert cluster.put("a", "1") == before + 1
    assert cluster.put("a", "ä") == before + 2
    assert cluster.put("b") == before + 3
    found = cluster.get("a")
    assert found == ("a", "ä", before + 1, before + 2, 2, 0)
    assert [pair.key for pair in cluster.range()] == ["a", "b"]
    assert [pair.key for pair in cluster.range("b")] == ["b"]
    assert cluster.get("c") is None
    assert cluster.delete("a") == 1
    assert cluster.delete("a") == 0
    assert cluster.revision() == before + 4


def test_a_transaction_does_one_thing_or_the_other(cluster: Cluster) -> None:
    missing = [{"key": encoded("k"), "target": "MOD", "mod_revision": "0"}]
    put = [{"request_put": {"key": encoded("k"), "value": encoded("v")}}]
    assert cluster.txn(missing, put).get("succeeded") is True
    assert cluster.txn(missing, [], put).get("succeeded") is None
    found = cluster.get("k")
    assert found is not None
    assert found.version == 2


def test_what_has_a_lease_ends_with_it(cluster: Cluster) -> None:
    lease = cluster.grant(60)
    cluster.put("k", "v", lease=lease)
    assert [pair.lease for pair in cluster.range("k")] == [lease]
    assert cluster.leases() == [lease]
    cluster.revoke(lease)
    assert cluster.get("k") is None
    assert cluster.leases() == []


def test_what_was_compacted_cannot_be_had(cluster: Cluster) -> None:
    first = cluster.put("k", "1")
    last = cluster.put("k", "2")
    old = {"key": encoded("k"), "revision": str(first)}
    assert cluster.call("/v3/kv/range", old)["kvs"][0]["value"] == encoded("1")
    cluster.compact(last)
    cluster.defragment()
    with pytest.raises(Refused, match="compacted"):
        cluster.call("/v3/kv/range", old)


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_another_member_leads_within_a_second_or_two_of_the_loss_of_one(cluster: Cluster, fault: str) -> None:
    lost = cluster.leader()
    began = time.monotonic()
    getattr(cluster, fault)(lost)
    assert cluster.leader() != lost
    assert time.monotonic() - began < 4
    revision = cluster.put("k", "without it")
    if fault == "kill":
        cluster.start(lost)
    else:
        cluster.resume(lost)
    cluster.wait_healthy()
    assert [pair.mod_revision for pair in cluster.range("k", member=lost)] == [revision]


def test_without_a_majority_nothing_is_taken_and_one_member_still_tells_what_it_has(cluster: Cluster) -> None:
    cluster.put("k", "v")
    leader = cluster.leader()
    lost = [leader, (leader + 1) % 3]
    left = ({0, 1, 2} - set(lost)).pop()
    until(lambda: cluster.range("k", member=left, serializable=True), "it has all")
    for number in lost:
        cluster.kill(number)
    with pytest.raises((OSError, Refused)):
        cluster.put("k", "w")
    assert [pair.value for pair in cluster.range("k", member=left, serializable=True)] == ["v"]
    for number in lost:
        cluster.start(number)
    cluster.wait_healthy()


def test_who_shows_no_certificate_of_the_authority_is_not_heard_and_who_logs_in_has_his_prefix(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1, tls=True, login=True, prefix="mine/") as cluster:
        cluster.put("theirs", "v")
        endpoint = cluster.endpoints[0]
        anonymous = ssl.create_default_context(cafile=str(cluster.ca_file))
        known = ssl.create_default_context(cafile=str(cluster.ca_file))
        known.load_cert_chain(cluster.cert_file, cluster.key_file)

        def post(context: ssl.SSLContext, path: str, body: dict[str, str], token: str = "") -> tuple[int, bytes]:
            connection = http.client.HTTPSConnection(endpoint, timeout=2, context=context)
            with contextlib.closing(connection):
                connection.request("POST", path, json.dumps(body), {"Authorization": token} if token else {})
                response = connection.getresponse()
                return response.status, response.read()

        with pytest.raises(OSError, match=r"certificate|reset|closed|EOF|pipe"):
            post(anonymous, "/v3/kv/range", {"key": encoded("mine/a")})
        status, reply = post(known, "/v3/auth/authenticate", {"name": cluster.user, "password": cluster.password})
        assert status == 200
        token = json.loads(reply)["token"]
        mine, theirs = ({"key": encoded(key), "value": ""} for key in ("mine/a", "theirs"))
        assert post(known, "/v3/kv/put", mine, token)[0] == 200
        status, reply = post(known, "/v3/kv/put", theirs, token)
        assert (status, b"permission denied" in reply) == (403, True)
        assert post(known, "/v3/kv/put", mine)[0] == 403
        assert post(known, "/v3/kv/put", mine, "token.1")[0] == 401
        assert [pair.key for pair in cluster.range()] == ["mine/a", "theirs"]


def test_who_asks_with_a_token_that_is_too_old_logs_in_anew(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1, login=True, options=["--auth-token-ttl", "1"]) as cluster:
        cluster.put("k", "v")
        token = cluster.authenticate(cluster.user, cluster.password)
        connection = http.client.HTTPConnection(cluster.endpoints[0], timeout=2)

        def is_refused() -> bool:
            time.sleep(1.5)  # each use keeps it alive
            connection.request(
                "POST", "/v3/kv/range", json.dumps({"key": encoded("cache/k")}), {"Authorization": token}
            )
            response = connection.getresponse()
            return bool(response.read()) and response.status == 401

        with contextlib.closing(connection):
            until(is_refused, "the token ends")
        assert [pair.value for pair in cluster.range("k")] == ["v"]


def test_a_proxy_forwards_and_counts(cluster: Cluster, proxy: Proxy) -> None:
    with Client(proxy.endpoint) as one, Client(proxy.endpoint) as other:
        one.put("a")
        one.put("b")
        other.put("c")
        assert (proxy.accepted, proxy.open) == (2, 2)
    assert [pair.key for pair in cluster.range()] == ["a", "b", "c"]
    until(lambda: proxy.open == 0, "the connections end on both sides")


def test_a_proxy_that_refuses_has_no_connection_and_takes_none(cluster: Cluster, proxy: Proxy) -> None:
    with Client(proxy.endpoint) as client:
        client.put("a")
        proxy.refuse()
        assert proxy.open == 0
        with pytest.raises(ConnectionResetError):
            client.put("b")
    with Client(proxy.endpoint) as client, pytest.raises(ConnectionRefusedError):
        client.put("b")
    proxy.heal()
    with Client(proxy.endpoint) as client:
        client.put("c")
    assert [pair.key for pair in cluster.range()] == ["a", "c"]


def test_a_proxy_that_cuts_takes_new_connections(cluster: Cluster, proxy: Proxy) -> None:
    with Client(proxy.endpoint) as client:
        client.put("a")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.put("b")
    with Client(proxy.endpoint) as client:
        client.put("c")
    assert [pair.key for pair in cluster.range()] == ["a", "c"]


def test_what_hangs_arrives_late(cluster: Cluster, proxy: Proxy) -> None:
    with Client(proxy.endpoint) as old, Client(proxy.endpoint) as new:
        old.put("a")
        proxy.hang()
        for key, client in {"b": old, "c": new}.items():
            with pytest.raises(TimeoutError):
                client.put(key)
        assert [pair.key for pair in cluster.range()] == ["a"]
        proxy.heal()
        until(lambda: len(cluster.range()) == 3, "what was sent arrives")
    assert proxy.accepted == 2


def test_without_replies_the_request_counts_and_the_connection_does_not_come_back(
    cluster: Cluster, proxy: Proxy
) -> None:
    with Client(proxy.endpoint) as client:
        client.put("a")
        proxy.drop_replies()
        with pytest.raises(TimeoutError):
            client.put("b")
        assert [pair.key for pair in cluster.range()] == ["a", "b"]
        proxy.heal()
        assert proxy.open == 0
    with Client(proxy.endpoint) as client:
        client.put("c")


def test_without_requests_nothing_happens_then_or_later(cluster: Cluster, proxy: Proxy) -> None:
    with Client(proxy.endpoint) as client:
        client.put("a")
        proxy.drop_requests()
        with pytest.raises(TimeoutError):
            client.put("b")
        proxy.heal()
        assert proxy.open == 0
    with Client(proxy.endpoint) as client:
        client.put("c")
    assert [pair.key for pair in cluster.range()] == ["a", "c"]


def test_a_proxy_to_nobody_resets(cluster: Cluster, proxy: Proxy) -> None:
    cluster.kill(0)
    with Client(proxy.endpoint) as client, pytest.raises(ConnectionError):
        client.put("a")
    cluster.start(0)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(3) as one:
        yield one


@pytest.fixture
def server(network: Network) -> Iterator[tuple[Namespace, Namespace, socket.socket]]:
    """Two hosts, and a socket of the second that takes datagrams."""
    here, there, _ = network.hosts
    with there.inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver:
        receiver.bind((there.address, 5000))
        receiver.settimeout(SECONDS)
        yield here, there, receiver
    there.heal()


def arrives(sender: Namespace, receiver: socket.socket) -> bool:
    with sender.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"x", receiver.getsockname())
    with contextlib.suppress(TimeoutError):
        return receiver.recv(1) == b"x"
    return False


def test_a_network_is_seen_from_its_hosts_alone(network: Network) -> None:
    here, there, _ = network.hosts
    with there.inside(), socket.create_server((there.address, 5001)):
        assert has_port(there.address, 5001)
        with here.inside():
            assert has_port(there.address, 5001)
    assert "10.77." not in subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout
    assert here.address in here.run(["ip", "address"]).stdout


@pytest.mark.parametrize(
    ("direction", "comes", "goes"), [("both", False, False), ("in", False, True), ("out", True, False)]
)
def test_a_link_is_cut_in_one_direction_or_both_and_heals(
    server: tuple[Namespace, Namespace, socket.socket], direction: Direction, *, comes: bool, goes: bool
) -> None:
    here, there, receiver = server
    with here.inside():
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with back:
        back.bind((here.address, 5000))
        back.settimeout(SECONDS)
        assert arrives(here, receiver)
        there.cut(direction)
        assert (arrives(here, receiver), arrives(there, back)) == (comes, goes)
        there.heal()
        assert (arrives(here, receiver), arrives(there, back)) == (True, True)


def test_a_host_is_lost_to_one_other_in_one_direction(
    network: Network, server: tuple[Namespace, Namespace, socket.socket]
) -> None:
    here, there, receiver = server
    third = network.hosts[2]
    with here.inside():
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with back:
        back.bind((here.address, 5003))
        back.settimeout(SECONDS)
        here.lose(there)
        assert (arrives(here, receiver), arrives(there, back), arrives(third, receiver)) == (False, True, True)
        here.heal()
        assert arrives(here, receiver)


def test_a_connection_outlives_a_cut_and_what_was_sent_arrives(network: Network) -> None:
    here, there, _ = network.hosts
    with there.inside():
        listener = socket.create_server((there.address, 5002))
    with here.inside():
        sender = socket.create_connection((there.address, 5002), SECONDS)
    with sender, listener, listener.accept()[0] as receiver:
        receiver.settimeout(SECONDS)
        there.cut()
        sender.sendall(b"x")
        with pytest.raises(TimeoutError):
            receiver.recv(1)
        there.heal()
        receiver.settimeout(10)
        assert receiver.recv(1) == b"x"


def test_nothing_of_a_network_is_left_behind() -> None:
    with Network(2) as network:
        host = network.hosts[0]
        process = host.popen(["sh", "-c", "sleep 1000 & echo started; sleep 1000"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert str(process.pid) in host.run(["ip", "netns", "pids", host.name]).stdout.split()
        host.cut()
    assert process.returncode == -9
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert host.name not in left


def test_members_on_hosts_of_their_own_lose_the_one_that_is_cut_off(network: Network, tmp_path: Path) -> None:
    with Cluster(tmp_path, places=network.hosts) as cluster:
        cluster.put("k", "1")
        lost = cluster.leader()
        network.hosts[lost].cut()
        until(lambda: cluster.leader() != lost, "another one leads")
        other = next(number for number in range(3) if number != lost)
        revision = cluster.call("/v3/kv/put", {"key": encoded("k"), "value": encoded("2")}, member=other)
        # It does not know better, and says what it has where that is asked for.
        assert [pair.value for pair in cluster.range("k", member=lost, serializable=True)] == ["1"]
        network.hosts[lost].heal()
        cluster.wait_healthy()
        (pair,) = cluster.range("k", member=lost)
        assert pair.mod_revision == int(revision["header"]["revision"])
