"""Trouble with etcd, on a real cluster: supervision goes on, reads go on, and no write says what is not so."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, final
from xmlrpc.client import Fault

import pytest

from supervisor_cache import open_local
from tests.certificates import Certificates
from tests.cluster import Cluster, encoded, prefix_end
from tests.conftest import StartSupervisord
from tests.database import assert_serves
from tests.e2e import observer
from tests.e2e.raw import Server
from tests.e2e.web import Web
from tests.harness import Supervisord, program, until
from tests.proxy import Proxy

LEASE_SECONDS = 5
TIMEOUT = 1.0
# A loaded machine may take so much longer.
SLACK = 1.0
WORST_ANSWER = 0.3
WRITERS = 20
StartHost = Callable[..., Supervisord]


@final
class Network:
    """A cluster, and what stands between it and a supervisord."""

    def __init__(self, cluster: Cluster, proxies: list[Proxy]) -> None:
        self.cluster = cluster
        self.proxies = proxies

    @property
    def members(self) -> str:
        return ",".join(proxy.endpoint for proxy in self.proxies)

    def all(self, fault: str) -> None:
        """Have a fault on every way to the cluster."""
        for proxy in self.proxies:
            getattr(proxy, fault)()

    def numbers(self) -> range:
        return range(len(self.cluster.members))

    def restore(self) -> None:
        """Have all be well again."""
        for number, member in enumerate(self.cluster.members):
            if not member.is_running:
                self.cluster.start(number)
            elif member.is_paused:
                self.cluster.resume(number)
        self.all("heal")
        self.cluster.wait_healthy()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
def network(cluster: Cluster) -> Iterator[Network]:
    with contextlib.ExitStack() as stack:
        found = Network(cluster, [stack.enter_context(Proxy(endpoint)) for endpoint in cluster.endpoints])
        yield found
        found.restore()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A prefix that no other test uses."""
    return f"/trouble/{abs(hash(request.node.name))}"


@pytest.fixture
def start_host(start: StartSupervisord, network: Network, prefix: str) -> StartHost:
    """Start supervisords behind the proxies, or with ``direct`` beside them."""

    def start_host(more: str = "", *, direct: bool = False, **options: str) -> Supervisord:
        members = ",".join(network.cluster.endpoints) if direct else network.members
        section = {
            "storage": f"etcd://{members}{prefix}",
            "etcd_timeout": str(TIMEOUT),
            "etcd_lease_ttl": str(LEASE_SECONDS),
        }
        host = start({"cache": {**section, **options}}, more)
        host.wait_for_storage()
        return host

    return start_host


class Wrote(NamedTuple):
    """What came of a write: ``stored``, or the name of the fault."""

    key: str
    outcome: str
    seconds: float


def fault_of(call: Callable[[], object]) -> str:
    """Answer the name of the fault that ``call`` ends in; empty for none."""
    try:
        call()
    except Fault as fault:
        return fault.faultString.partition(":")[0]
    return ""


def wrote(cache: Any, key: str, value: object = 1) -> Wrote:
    began = time.monotonic()
    outcome = fault_of(lambda: cache.store(key, value)) or "stored"
    return Wrote(key, outcome, time.monotonic() - began)


@contextlib.contextmanager
def writing(host: Supervisord, writers: int = WRITERS) -> Iterator[list[Wrote]]:
    """Have many clients write, each key once; what came of it is all there at the end."""
    found: list[Wrote] = []
    ending = threading.Event()

    def write(writer: int) -> None:
        cache = host.unix().cache
        count = 0
        while not ending.wait(0.03):
            found.append(wrote(cache, f"w/{writer}/{count}"))
            count += 1

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        ending.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def observed(host: Supervisord) -> Iterator[None]:
    """Have another client ask supervisord itself all the while; it must not wait."""
    command = [sys.executable, observer.__file__, host.unix_url, str(host.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            told = process.communicate()[0]
    asked, worst = json.loads(told)
    assert asked
    assert worst < WORST_ANSWER


def crash(host: Supervisord, name: str = "web") -> None:
    """Kill a process; it must run again at once."""
    before = host.process(name)["pid"]
    os.kill(before, signal.SIGKILL)
    killed = time.time()
    until(lambda: host.process(name)["pid"] not in {0, before}, f"{name} runs again", 5)
    # Supervisor tells whole seconds.
    assert host.process(name)["start"] - killed < 1
    assert time.time() - killed < 1 + SLACK


def keys_in(cluster: Cluster, prefix: str) -> set[str]:
    """Answer the keys of the cache, as etcd has them."""
    start = f"{prefix}/e/"
    return {pair.key.removeprefix(start) for pair in cluster.range(start)}


def assert_true(writes: list[Wrote], cluster: Cluster, prefix: str) -> None:
    """Compare what was said of writes with what etcd has."""
    there = keys_in(cluster, prefix)
    outcomes = {write.outcome for write in writes}
    assert outcomes <= {"stored", "UNAVAILABLE", "UNKNOWN_OUTCOME"}
    assert {write.key for write in writes if write.outcome == "stored"} <= there
    assert not {write.key for write in writes if write.outcome == "UNAVAILABLE"} & there
    assert max(write.seconds for write in writes) < TIMEOUT + SLACK


def killed(network: Network) -> None:
    for number in network.numbers():
        network.cluster.kill(number)


def majority_killed(network: Network) -> None:
    for number in list(network.numbers())[:2]:
        network.cluster.kill(number)


def hanging(network: Network) -> None:
    for number in network.numbers():
        network.cluster.pause(number)


def majority_hanging(network: Network) -> None:
    for number in list(network.numbers())[:2]:
        network.cluster.pause(number)


def refusing(network: Network) -> None:
    network.all("refuse")


def silent(network: Network) -> None:
    network.all("hang")


def deaf(network: Network) -> None:
    network.all("drop_requests")


def mute(network: Network) -> None:
    network.all("drop_replies")


LASTING = [killed, majority_killed, hanging, majority_hanging, refusing, silent, deaf, mute]
GONE = [killed, hanging, silent]


@pytest.mark.parametrize("fault", LASTING)
def test_a_loss_of_etcd_is_told_and_nothing_else_is_lost(
    start_host: StartHost, network: Network, prefix: str, fault: Callable[[Network], None]
) -> None:
    # A proxy before a member that is gone would take connections.
    host = start_host(program("web"), direct=fault in {killed, majority_killed}, max_entries="100000")
    cache = host.unix().cache
    cache.storeMany({"a": 1, "b": [2.5, "é"]})
    expected = cache.getItems()
    with observed(host), writing(host) as writes:
        until(lambda: len(writes) > 2 * WRITERS, "all write")
        fault(network)
        crash(host)
        until(lambda: host.storage()["state"] == "degraded", "it is told", 8)
        first = host.storage()
        assert first["detail"]
        time.sleep(0.5)
        assert host.storage()["age"] >= first["age"] + 0.4
        assert {key: cache.fetch(key) for key in expected} == expected
        crash(host)
        lost = wrote(cache, "lost")
        count = len(writes)
        network.restore()
        until(lambda: host.storage()["state"] == "ok", "it is all right again", 8)
        until(lambda: any(write.outcome == "stored" for write in writes[count:]), "writes work again")
        crash(host)
    assert lost.outcome != "stored"
    assert wrote(cache, "after").outcome == "stored"
    assert_true([*writes, lost], network.cluster, prefix)
    time.sleep(0.5)
    assert_true([*writes, lost], network.cluster, prefix)
    there = keys_in(network.cluster, prefix)
    until(lambda: set(cache.getKeys("", "", 0)) == there, "the copy is whole")
    assert host.storage()["age"] < 3


def test_a_member_that_hangs_or_is_slow_costs_a_moment(start_host: StartHost, network: Network, prefix: str) -> None:
    host = start_host(program("web"), max_entries="100000")

    def listened_to() -> int:
        return [proxy.endpoint for proxy in network.proxies].index(host.storage()["member"])

    with observed(host), writing(host, 5) as writes:
        until(lambda: writes, "they write")
        network.cluster.pause(listened_to())
        crash(host)
        time.sleep(3)
        count = len(writes)
        until(lambda: len(writes) > count + 20, "they write")
        assert {write.outcome for write in writes[count + 5 :]} == {"stored"}
        assert host.storage()["state"] == "ok"
        network.restore()
        until(lambda: host.storage()["member"], "one tells")
        slow = network.proxies[listened_to()]
        for _ in range(5):
            slow.hang()
            time.sleep(0.25)
            slow.heal()
            time.sleep(0.1)
        for _ in range(10):
            network.all("cut")
            time.sleep(0.05)
        crash(host)
        until(lambda: host.storage()["state"] == "ok", "it is all right")
    assert_true(writes, network.cluster, prefix)


def test_a_write_whose_reply_is_lost_is_done_where_the_watch_tells_it(start_host: StartHost, network: Network) -> None:
    host = start_host(etcd_timeout="6")
    cache = host.unix().cache
    for number, proxy in enumerate(network.proxies):
        cache.store("before", number)
        if proxy.endpoint == host.storage()["member"]:
            break
    else:
        raise AssertionError
    # What tells of changes hears nothing either, and is given up for another member in time.
    proxy.drop_replies()
    assert wrote(cache, "k").outcome == "stored"
    assert cache.fetch("k") == 1


def test_an_etcd_that_is_full_has_nothing_that_was_refused(start: StartSupervisord, tmp_path: Path) -> None:
    options = ["--quota-backend-bytes", "4000000"]
    with Cluster(tmp_path / "etcd", members=1, options=options) as cluster:
        section = {"storage": f"etcd://{cluster.endpoints[0]}/p", "etcd_timeout": "2"}
        host = start({"cache": section})
        host.wait_for_storage()
        found: list[Wrote] = []

        def fill(writer: int) -> None:
            cache = host.unix().cache
            while not found or found[-1].outcome == "stored":
                found.append(wrote(cache, f"{writer}/{len(found)}", "x" * 20_000))

        writers = [threading.Thread(target=fill, args=(writer,)) for writer in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        cache = host.unix().cache
        found.append(wrote(cache, "more", "x" * 20_000))
        assert found[-1].outcome == "UNAVAILABLE"
        there = keys_in(cluster, "/p")
        assert {write.key for write in found if write.outcome == "stored"} <= there
        assert not {write.key for write in found if write.outcome == "UNAVAILABLE"} & there
        # It is read all the same.
        assert set(cache.getKeys()) == there
        assert host.storage()["state"] == "ok"


# The life of supervisord


def threads(host: Supervisord) -> int:
    return len(list(Path(f"/proc/{host.pid}/task").iterdir()))


def seconds_of(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


@pytest.mark.parametrize("fault", GONE)
def test_a_reload_and_a_shutdown_without_etcd_are_as_fast_and_leave_nothing_behind(
    start_host: StartHost, network: Network, fault: Callable[[Network], None]
) -> None:
    host = start_host(program("web"))
    cache = host.unix().cache
    cache.store("k", 1)
    cache.store("owned", 1, {"owner": "web"})
    usual = min(seconds_of(host.reload) for _ in range(2))
    host.wait_for_storage()
    descriptors, running = host.descriptors(), threads(host)
    fault(network)
    for _ in range(3):
        clients = [threading.Thread(target=give_up, args=(host,)) for _ in range(6)]
        for client in clients:
            client.start()
        time.sleep(0.2)
        assert seconds_of(host.reload) < usual + SLACK
        for client in clients:
            client.join()
        assert host.unix().cache.fetch("k") == 1
        crash(host)
    assert threads(host) <= running
    network.restore()
    host.wait_for_storage()
    cache = host.unix().cache
    until(lambda: wrote(cache, "k").outcome == "stored", "writes work again", 5)
    host.reload()
    host.wait_for_storage()
    assert host.descriptors() <= descriptors + 2
    assert threads(host) == running
    fault(network)
    assert seconds_of(host.stop) < 2 + SLACK
    network.restore()
    host.start()
    host.wait_for_storage()
    assert host.unix().cache.fetch("k") == 1


def give_up(host: Supervisord) -> None:
    """Write, and care for nothing that comes of it."""
    with contextlib.suppress(Exception):
        host.unix().cache.store("pending", 1)


def test_a_supervisord_that_was_killed_starts_anew_with_or_without_etcd(
    start_host: StartHost, network: Network
) -> None:
    host = start_host()
    host.unix().cache.store("k", 1)
    host.kill()
    host.start()
    host.wait_for_storage()
    assert host.unix().cache.fetch("k") == 1
    network.all("hang")
    host.kill()
    host.start()
    cache = host.unix().cache
    assert fault_of(lambda: cache.fetch("k")) == fault_of(lambda: cache.store("k", 2)) == "UNAVAILABLE"
    until(lambda: "timed out" in host.storage()["detail"], "it is told why")
    assert host.storage()["state"] == "unavailable"
    network.restore()
    host.wait_for_storage()
    assert cache.fetch("k") == 1
    assert cache.store("k", 2) is True


# Another history


def listener(host_folder: Path) -> str:
    """Describe an event listener that writes down what it hears."""
    command = f"{sys.executable} {Path(__file__).parent / 'listener.py'} {host_folder}/heard"
    return f"\n[eventlistener:l]\ncommand={command}\nevents=CACHE\nbuffer_size=1000\n"


def heard(folder: Path) -> list[tuple[str, int]]:
    """Answer what a listener has heard: the keys, and ``seq``."""
    path = folder / "heard"
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        header = dict(token.split(":") for token in json.loads(line)[1].splitlines()[0].split())
        found.append((header["key"], int(header["seq"])))
    return found


@contextlib.contextmanager
def following(host: Supervisord) -> Iterator[Any]:
    """Have a client wait, and another follow the stream; both are to be told of a reset."""
    woken: list[Any] = []
    since = host.unix().cache.getRevision()

    def wait() -> None:
        woken.append(host.unix().cache.wait(since, 60, "nothing of that/"))

    thread = threading.Thread(target=wait)
    with Web(Server(host, inet=False)).stream().opened() as stream:
        thread.start()
        until(lambda: host.unix().cache.getStats()["watchers"] == 2, "both wait")
        yield since
        while (event := stream.next()) is not None and event.name != "reset":
            pass
        assert event is not None
        thread.join(5)
        assert woken
        assert woken[0]["changed"]


def test_a_copy_that_missed_more_than_etcd_remembers_is_made_anew(
    start_host: StartHost, network: Network, tmp_path: Path
) -> None:
    host, other = start_host(listener(tmp_path), http="true"), start_host(direct=True).unix().cache
    cache = host.unix().cache
    cache.storeMany({"kept": 1, "changed": 1, "gone": 1})
    until(lambda: len(heard(tmp_path)) == 3, "they are heard of")
    with following(host) as since:
        network.all("refuse")
        other.storeMany({"changed": 2, "new": 1})
        other.delete("gone")
        network.cluster.compact(network.cluster.revision())
        network.restore()
        until(lambda: "new" in cache.getKeys(), "the copy is right")
    assert cache.getEntries() == other.getEntries()
    assert fault_of(lambda: cache.getChanges(since)) == "HISTORY_GONE"
    since = cache.getRevision()
    assert cache.store("more", 1) is True
    assert [change["key"] for change in cache.getChanges(since)] == ["more"]
    until(lambda: heard(tmp_path)[-1][0] == "more", "it is heard of")
    assert [seq for _, seq in heard(tmp_path)] == [1, 2, 3, 5]


@pytest.mark.parametrize("how", ["empty", "older", "older and written to"])
def test_an_etcd_that_is_set_up_anew_counts_as_it_is(start: StartSupervisord, tmp_path: Path, how: str) -> None:
    with Cluster(tmp_path / "etcd", members=1) as cluster, Proxy(cluster.endpoints[0]) as proxy:
        member = cluster.members[0]
        section = {"storage": f"etcd://{proxy.endpoint}/p", "etcd_timeout": "1", "http": "true"}
        host = start({"cache": section})
        host.wait_for_storage()
        cache = host.unix().cache
        cache.storeMany({"old": 1, "same": 1})
        cluster.kill(0)
        copied = tmp_path / "copied"
        shutil.copytree(member.data, copied)
        cluster.start(0)
        cluster.wait_healthy()
        until(lambda: wrote(cache, "newer", "lost").outcome == "stored", "it is written", 8)
        cache.storeMany({"more": 1, "same": 2})
        with following(host):
            proxy.refuse()
            cluster.kill(0)
            shutil.rmtree(member.data)
            if how != "empty":
                shutil.move(copied, member.data)
            cluster.start(0)
            cluster.wait_healthy()
            if how == "older and written to":
                # Past the revision of the copy.
                while cluster.revision() < int(cache.getRevision()) + 5:
                    cluster.put("/other", "x")
            proxy.heal()
            expected = {} if how == "empty" else {"old": 1, "same": 1}
            until(lambda: host.storage()["state"] == "ok" and cache.getItems() == expected, "it follows", 10)
        assert cache.store("again", 1) is True
        assert cache.getItems() == {**expected, "again": 1}


# Time and owners


def test_what_is_over_is_not_shown_while_nobody_tells_and_comes_back_if_it_is_not(
    start_host: StartHost, network: Network
) -> None:
    host, other = start_host(), start_host(direct=True).unix().cache
    cache = host.unix().cache
    cache.store("ends", 1, {"ttl": 3})
    cache.store("renewed", 1, {"ttl": 3})
    cache.store("kept", 1)
    network.all("refuse")
    assert other.touch("renewed", 1000)
    assert cache.getKeys() == ["ends", "kept", "renewed"]
    until(lambda: cache.getKeys() == ["kept"], "what is over is not shown", 3 + 3 + SLACK)
    assert host.storage()["state"] == "degraded"
    network.restore()
    until(lambda: cache.getKeys() == ["kept", "renewed"], "what etcd has is there again", 5)
    assert cache.getEntries() == other.getEntries()


def test_a_process_that_ends_without_etcd_has_its_entries_no_more(
    start_host: StartHost, network: Network, prefix: str
) -> None:
    more = program("web") + "".join(program(f"p{number}") for number in range(6))
    host, other = start_host(more), start_host(direct=True).unix().cache
    cache = host.unix().cache
    cache.store("owned", 1, {"owner": "web"})
    for number in range(6):
        cache.store(f"owned/{number}", 1, {"owner": f"p{number}"})
    cache.store("kept", 1)
    network.all("hang")
    os.kill(host.process("web")["pid"], signal.SIGKILL)
    for number in range(6):
        os.kill(host.process(f"p{number}")["pid"], signal.SIGKILL)
    until(lambda: cache.getKeys() == ["kept"], "they are gone here", 1 + SLACK)
    network.restore()
    until(lambda: other.getKeys() == ["kept"], "they are gone there", 2 + SLACK)
    until(lambda: keys_in(network.cluster, prefix) == {"kept"}, "they are gone in etcd", 2)
    until(lambda: wrote(cache, "again").outcome == "stored", "writes work again", 3)


def test_a_host_that_is_cut_off_for_long_loses_what_its_processes_own(start_host: StartHost, network: Network) -> None:
    host, other = start_host(program("web")), start_host(direct=True).unix().cache
    cache = host.unix().cache
    first = cache.add("owned", 1, {"owner": "web"})
    lease = host.storage()["lease"]
    network.all("hang")
    began = time.monotonic()
    until(lambda: other.getKeys() == [], "the lease ends", LEASE_SECONDS + 3)
    assert time.monotonic() - began > LEASE_SECONDS / 2
    # An election in between.
    leader = network.cluster.leader()
    network.cluster.kill(leader)
    network.restore()
    until(lambda: cache.getKeys() == [], "it is told here as well", 5)
    host.wait_for_storage()
    assert int(cache.add("owned", 2, {"owner": "web"})) > int(first)
    assert host.storage()["lease"] not in {"", lease}
    until(lambda: other.getItems() == {"owned": 2}, "it is told there")
    time.sleep(LEASE_SECONDS)
    assert other.getItems() == {"owned": 2}


def test_an_election_takes_nothing_from_those_who_are_there(start_host: StartHost, network: Network) -> None:
    host = start_host(program("web"), etcd_timeout="5")
    cache = host.unix().cache
    cache.store("owned", 1, {"owner": "web"})
    cache.store("timed", 1, {"ttl": 20})
    since = cache.getRevision()
    for _ in range(2):
        leader = network.cluster.leader()
        network.cluster.kill(leader)
        until(lambda: wrote(cache, "k").outcome == "stored", "writes work again")
        network.restore()
    time.sleep(LEASE_SECONDS)
    assert cache.getKeys() == ["k", "owned", "timed"]
    assert {change["kind"] for change in cache.getChanges(since)} == {"store"}


# The mirror


def mirrored(path: Path, cache: Any) -> bool:
    """Whether a local reader finds what the cache answers."""
    with contextlib.closing(open_local(path)) as local:
        return bool(dict(local.items()) == cache.getItems())


def test_a_mirror_follows_and_serves_a_start_without_etcd(
    start_host: StartHost, network: Network, tmp_path: Path
) -> None:
    path = tmp_path / "mirror.db"
    host, other = start_host(program("web"), mirror=str(path)), start_host(direct=True).unix().cache
    cache = host.unix().cache
    cache.storeMany({"a": 1, "b": "é"})
    cache.store("timed", 1, {"ttl": 1000})
    cache.store("owned", 1, {"owner": "web"})
    other.store("c", 3)
    until(lambda: "c" in cache.getKeys(), "it arrives")
    until(lambda: mirrored(path, cache), "the mirror follows")
    assert_serves(path, cache)
    host.reload()
    host.wait_for_storage()
    cache = host.unix().cache
    cache.delete("b")
    until(lambda: mirrored(path, cache), "the mirror follows")
    cache.store("owned", 1, {"owner": "web"})
    network.all("refuse")
    web = host.process("web")["pid"]
    host.kill()
    os.kill(web, signal.SIGKILL)
    with contextlib.closing(open_local(path)) as local:
        assert local["a"] == 1
    other.storeMany({"a": 2, "d": 4})
    host.start()
    cache = host.unix().cache
    assert cache.getItems() == {"a": 1, "c": 3, "timed": 1}
    assert wrote(cache, "new").outcome == "UNAVAILABLE"
    until(lambda: host.storage()["state"] == "degraded", "it is told")
    assert host.storage()["detail"]
    host.reload()
    cache = host.unix().cache
    assert cache.getItems() == {"a": 1, "c": 3, "timed": 1}
    network.restore()
    host.wait_for_storage()
    until(lambda: cache.getItems() == other.getItems(), "etcd counts")
    until(lambda: "owned" not in other.getKeys(), "the lease of the earlier life ends", LEASE_SECONDS + 3)
    assert wrote(cache, "new").outcome == "stored"
    until(lambda: mirrored(path, cache), "the mirror follows")
    assert_serves(path, cache)


def test_trouble_with_a_mirror_is_not_the_caches(start_host: StartHost, tmp_path: Path) -> None:
    folder = tmp_path / "mirrors"
    folder.mkdir()
    path = folder / "mirror.db"
    host = start_host(mirror=str(path))
    cache = host.unix().cache
    cache.store("k", 0)
    shutil.rmtree(folder)
    for number in range(20):
        assert wrote(cache, "k", number).outcome == "stored"
    assert host.storage()["state"] == "ok"
    host.reload()
    host.wait_for_storage()
    assert host.unix().cache.store("k", 100) is True
    assert host.storage()["state"] == "ok"
    assert host.storage()["mirror"]["state"] != "ok"
    folder.mkdir()
    until(lambda: host.storage()["mirror"]["state"] == "ok", "it is written anew", 15)
    until(lambda: mirrored(path, host.unix().cache), "the mirror follows")
    for broken in (b"no database", b""):
        path.unlink()
        path.write_bytes(broken)
        host.reload()
        host.wait_for_storage()
        assert host.unix().cache.store("k", 101) is True
        until(lambda: mirrored(path, host.unix().cache), "the mirror follows")
    del host.sections["cache"]["mirror"]
    host.reload()
    host.wait_for_storage()
    assert "mirror" not in host.storage()
    assert host.unix().cache.store("k", 102) is True
    host.sections["cache"]["mirror"] = str(path)
    host.reload()
    host.wait_for_storage()
    assert host.unix().cache.fetch("k") == 102
    until(lambda: mirrored(path, host.unix().cache), "the mirror follows")
    assert_serves(path, host.unix().cache)


# Login and certificates


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("guarded"), members=1, tls=True, login=True, prefix="/mine/") as cluster:
        yield cluster


def secret(folder: Path, text: str) -> Path:
    path = folder / "password"
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return path


def section_of(cluster: Cluster, folder: Path) -> dict[str, str]:
    for name, source in (("ca", cluster.ca_file), ("cert", cluster.cert_file), ("key", cluster.key_file)):
        shutil.copy(source, folder / f"{name}.pem")
    return {
        "storage": f"etcd://{cluster.endpoints[0]}/mine/cache",
        "etcd_timeout": "1",
        "etcd_ca_file": str(folder / "ca.pem"),
        "etcd_cert_file": str(folder / "cert.pem"),
        "etcd_key_file": str(folder / "key.pem"),
        "etcd_user": cluster.user,
        "etcd_password_file": str(secret(folder, cluster.password)),
    }


def spoil(path: Path, content: bytes) -> Callable[[], object]:
    """Replace a file; answer what puts it right."""
    right = path.read_bytes()
    path.write_bytes(content)
    return lambda: path.write_bytes(right)


def another_authority(_cluster: Cluster, folder: Path) -> Callable[[], object]:
    other = Certificates(folder / "other", [])
    return spoil(folder / "ca.pem", other.ca_file.read_bytes())


def another_certificate(_cluster: Cluster, folder: Path) -> Callable[[], object]:
    other = Certificates(folder / "other", [])
    certificate = spoil(folder / "cert.pem", other.cert_file.read_bytes())
    key = spoil(folder / "key.pem", other.key_file.read_bytes())
    return lambda: (certificate(), key())


def locked_key(_cluster: Cluster, folder: Path) -> Callable[[], object]:
    key = folder / "key.pem"
    command = ["openssl", "ec", "-aes128", "-passout", "pass:unknown", "-in", str(key), "-out", str(folder / "locked")]
    subprocess.run(command, check=True, capture_output=True)
    return spoil(key, (folder / "locked").read_bytes())


def no_permission(cluster: Cluster, _folder: Path) -> Callable[[], object]:
    role = {"role": cluster.user, "key": encoded("/mine/"), "range_end": prefix_end("/mine/")}
    cluster.call("/v3/auth/role/revoke", role)
    return lambda: cluster.permit("/mine/")


Trouble = Callable[[Cluster, Path], Callable[[], object]]
DENIALS: dict[str, tuple[Trouble, str]] = {
    "a wrong password": (lambda _, folder: spoil(folder / "password", b"very wrong"), "authentication failed"),
    "no password": (lambda _, folder: spoil(folder / "password", b""), "authentication failed|empty|password"),
    "another authority": (another_authority, "certificate verify failed"),
    "another certificate": (another_certificate, "certificate|alert"),
    "a bad authority": (lambda _, folder: spoil(folder / "ca.pem", b"no certificate"), "etcd_ca_file"),
    "a bad certificate": (lambda _, folder: spoil(folder / "cert.pem", b"no certificate"), "etcd_cert_file"),
    "a locked key": (locked_key, "etcd_cert_file"),
    "no permission": (no_permission, "permission denied"),
}


# What ends a host that has been let in already.
LATER = {"another authority", "a bad certificate", "no permission"}


def assert_discreet(host: Supervisord, *passwords: str) -> None:
    """See that what is told has no password in it."""
    told = json.dumps(host.storage()) + host.log + (host.folder / "output").read_text()
    assert not [password for password in passwords if password in told]


@pytest.mark.parametrize("trouble", DENIALS)
def test_who_is_not_let_in_says_why_and_comes_in_as_soon_as_it_is_put_right(
    start: StartSupervisord, guarded: Cluster, tmp_path: Path, trouble: str
) -> None:
    section = section_of(guarded, tmp_path)
    cause, text = DENIALS[trouble]
    put_right = cause(guarded, tmp_path)
    try:
        host = start({"cache": section})
        cache = host.unix().cache
        until(lambda: re.search(text, host.storage()["detail"]), "it is told why", 5)
        assert host.storage()["state"] == "unavailable"
        assert fault_of(lambda: cache.fetch("k")) == fault_of(lambda: cache.store("k", 1)) == "UNAVAILABLE"
    finally:
        put_right()
    until(lambda: host.storage()["state"] == "ok", "it comes in", 5)
    assert wrote(cache, "k").outcome == "stored"
    if trouble not in LATER:
        assert_discreet(host, guarded.password, "very wrong")
        return
    put_right = cause(guarded, tmp_path)
    try:
        # Connections that stand go on.
        guarded.kill(0)
        guarded.start(0)
        guarded.wait_healthy()
        until(lambda: re.search(text, host.storage()["detail"]), f"it is told why, not {host.storage()}", 10)
        until(lambda: host.storage()["state"] == "degraded", "it is told", 5)
        assert cache.fetch("k") == 1
        assert wrote(cache, "not").outcome in {"UNAVAILABLE", "UNKNOWN_OUTCOME"}
    finally:
        put_right()
    until(lambda: host.storage()["state"] == "ok", f"it comes in again, not {host.storage()}", 5)
    until(lambda: wrote(cache, "again").outcome == "stored", "writes work again", 5)
    assert "not" not in cache.getKeys()


def test_a_login_outlives_its_token(start: StartSupervisord, tmp_path: Path) -> None:
    options = ["--auth-token-ttl", "2"]
    with Cluster(tmp_path / "etcd", members=1, login=True, prefix="/mine/", options=options) as cluster:
        section = {
            "storage": f"etcd://{cluster.endpoints[0]}/mine/cache",
            "etcd_timeout": "1",
            "etcd_user": cluster.user,
            "etcd_password_file": str(secret(tmp_path, cluster.password)),
        }
        host = start({"cache": section}, program("web"))
        host.wait_for_storage()
        cache = host.unix().cache
        cache.store("owned", 1, {"owner": "web"})
        for number in range(2):
            assert wrote(cache, "k", number).outcome == "stored"
            time.sleep(3)
        assert host.storage()["state"] == "ok"
        # The password is changed in etcd first, which forgets the token.
        cluster.call("/v3/auth/user/changepw", {"name": cluster.user, "password": "another password"})
        until(lambda: "authentication failed" in host.storage()["detail"], "it is told why", 10)
        until(lambda: host.storage()["state"] == "degraded", "it is told", 5)
        assert wrote(cache, "k", 4).outcome == "UNAVAILABLE"
        assert cache.fetch("k") == 1
        secret(tmp_path, "another password")
        until(lambda: host.storage()["state"] == "ok", "it comes in again", 5)
        cluster.kill(0)
        cluster.start(0)
        cluster.wait_healthy()
        until(lambda: wrote(cache, "k", 5).outcome == "stored", "writes work again", 5)
        until(lambda: host.storage()["state"] == "ok", "it is all right", 5)
        assert cache.getItems() == {"owned": 1, "k": 5}
        assert_discreet(host, cluster.password, "another password")


def test_a_login_outlives_a_change_of_users_whatever_the_kind_of_its_token(
    start: StartSupervisord, tmp_path: Path
) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    for command in (
        ["genrsa", "-out", str(private), "2048"],
        ["rsa", "-in", str(private), "-pubout", "-out", str(public)],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    options = ["--auth-token", f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m"]
    with Cluster(tmp_path / "etcd", members=1, login=True, prefix="/mine/", options=options) as cluster:
        section = {
            "storage": f"etcd://{cluster.endpoints[0]}/mine/cache",
            "etcd_user": cluster.user,
            "etcd_password_file": str(secret(tmp_path, cluster.password)),
        }
        host = start({"cache": section})
        host.wait_for_storage()
        cache = host.unix().cache
        assert wrote(cache, "k", 1).outcome == "stored"
        cluster.call("/v3/auth/role/add", {"name": "another"})
        assert wrote(cache, "k", 2).outcome == "stored"
