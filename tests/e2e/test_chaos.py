"""Three hosts and three members of etcd in a network of their own, where all goes wrong at once: what holds anyhow.

``CHAOS_SECONDS`` says how long, ``CHAOS_SEED`` what is decided by chance; when things happen, chance decides anew.
"""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Cluster
from tests.conftest import StartSupervisord
from tests.e2e import prober
from tests.e2e.chaos_clients import LOCKS, Call, Follower, Locker, Records, Resource, Worker, Writer
from tests.e2e.etcd_log import EtcdLog
from tests.e2e.nemesis import Host, Nemesis
from tests.harness import program, until
from tests.linearizability import REFUSED, Operation, check
from tests.netns import Network

SECONDS = float(os.environ.get("CHAOS_SECONDS", "25"))
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))
PREFIX = "/chaos/"
WRITERS = 3
TIMEOUT_SECONDS = 2.0
LEASE_SECONDS = 5
# A busy machine may make anything later by this.
ALLOWANCE = 1.0
_PUTS = {"store", "add", "storeIf"}
_PAGE = 500


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(6) as network:
        yield network


@pytest.fixture
def cluster(network: Network, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "etcd", places=network.hosts[:3]) as cluster:
        yield cluster


@pytest.fixture
def hosts(
    network: Network, cluster: Cluster, make_supervisord: StartSupervisord, tmp_path: Path
) -> Iterator[list[Host]]:
    made = []
    for number, place in enumerate(network.hosts[3:]):
        options = {
            "storage": f"etcd://{','.join(cluster.endpoints)}{PREFIX[:-1]}",
            "etcd_timeout": str(TIMEOUT_SECONDS),
            "etcd_lease_ttl": str(LEASE_SECONDS),
        }
        if number == 0:
            options["mirror"] = "mirror.db"
        ticker = program("ticker", "sh -c 'echo $$ >> %(here)s/lives; exec sleep 1000'")
        supervisord = make_supervisord({"cache": options}, ticker)
        supervisord.waits = False
        host = Host(f"host{number}", place, supervisord)
        host.start()
        made.append(host)
    for host in made:
        host.supervisord.wait_for_storage()
    yield made
    for host in made:
        (tmp_path / f"{host.name}.log").write_text(host.supervisord.log)


class Killer(threading.Thread):
    """Kills the supervised process of a host again and again, and sees how soon there is another one."""

    def __init__(self, host: Host, seed: int) -> None:
        super().__init__()
        self.over = threading.Event()
        self.waits: list[float] = []
        self._host = host
        self._dice = random.Random(seed)

    def run(self) -> None:
        while not self.over.wait(self._dice.uniform(0.1, 1.5)):
            count, _ = self._host.newest_life()
            begun = time.monotonic()
            if not count or self._host.was_away(begun, begun):
                continue
            supervisord = self._host.supervisord.pid
            before = prober.delayed(supervisord)
            self._host.kill_process()
            while self._host.newest_life()[0] == count and not self._host.was_away(begun, time.monotonic()):
                time.sleep(0.005)
                if time.monotonic() - begun > 60:
                    break
            ended = time.monotonic()
            late = prober.delayed(supervisord) - before
            if not self._host.was_away(begun, ended):
                self.waits.append(ended - begun - max(0.0, late))


@contextlib.contextmanager
def probed(hosts: list[Host], folder: Path) -> Iterator[list[Path]]:
    """Have each supervisord asked for its state all the while; answer where that is written down."""
    outputs = [folder / f"{host.name}.probes" for host in hosts]
    processes = [
        subprocess.Popen([sys.executable, "-m", prober.__name__, host.socket_path, str(output)])
        for host, output in zip(hosts, outputs, strict=True)
    ]
    try:
        yield outputs
    finally:
        for process in processes:
            process.kill()
            process.wait()


def waits_of(host: Host, output: Path) -> list[float]:
    """How long it took where something could be expected, without what neither of both had a processor for."""
    lines = [line.split() for line in output.read_text().splitlines()]
    probes = [(float(begun), float(ended), answered, float(late)) for begun, ended, answered, late in lines]
    counted = [probe for probe in probes if not host.was_away(probe[0] - 0.1, probe[1])]
    assert [probe for probe in counted if probe[2] != "1"] == [], host.name
    return [max(0.0, ended - begun - max(0.0, late)) for begun, ended, _, late in counted]


class Everything(NamedTuple):
    records: Records
    workers: list[Worker]
    resources: list[Resource]
    killers: list[Killer]
    nemesis: Nemesis


# What has to hold


def resolved(calls: list[Call], log: EtcdLog) -> list[Operation]:
    """The history, with what etcd itself says of those calls whose callers do not know what came of them.

    What has not happened is left out, and each end of a lease is a deletion that nobody has asked for.
    """
    happened = {revision.note for revision in log.revisions}
    history = [
        call.operation
        for call in calls
        if not call.operation.key.startswith("own/") and (call.operation.returned is not None or call.note in happened)
    ]
    for revision in log.revisions:
        if not revision.told:
            history += [Operation("etcd", 0.0, None, key, "delete") for key in revision.records]
    return history


def assert_counted(calls: list[Call], log: EtcdLog) -> None:
    """What has happened did so once, what was refused never, and all of it in the order in which it was asked."""
    found: dict[str, list[int]] = defaultdict(list)
    for revision in log.revisions:
        if revision.note:
            found[revision.note].append(revision.number)
    assert {note: numbers for note, numbers in found.items() if len(numbers) > 1} == {}, "something happened twice"
    writes = [call for call in calls if call.note]
    happened = [call for call in writes if call.note in found]
    assert [call for call in happened if call.operation.result is REFUSED] == [], "refused, and happened"
    no = [call for call in happened if call.operation.result == "" or call.operation.result is False]
    assert no == [], "answered no, and happened"
    for call in writes:
        result = call.operation.result
        if isinstance(result, str) and result:
            assert found[call.note] == [int(result)], call
        elif call.operation.kind in {"store", "increment"} and result not in {None, REFUSED}:
            assert call.note in found, call
    asked = sorted(happened, key=lambda call: call.operation.call)
    returned = sorted(
        (call for call in happened if call.operation.returned is not None),
        key=lambda call: call.operation.returned or 0.0,
    )
    newest = place = 0
    for call in asked:
        while place < len(returned) and (returned[place].operation.returned or 0.0) < call.operation.call:
            newest = max(newest, found[returned[place].note][0])
            place += 1
        assert found[call.note][0] > newest, f"{call} before what was answered earlier"


def assert_nothing_lost(calls: list[Call], kept: dict[str, dict[str, Any]]) -> None:
    """Each write that was acknowledged, and that nothing can have replaced, is there."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for call in calls:
        if call.note and call.operation.key.startswith(("k/", "n/")) and call.operation.result is not REFUSED:
            by_key[call.operation.key].append(call.operation)
    for key, operations in by_key.items():
        for one in operations:
            if one.kind not in _PUTS or one.returned is None or not one.result:
                continue
            later = [
                each for each in operations if each is not one and (each.returned is None or each.returned > one.call)
            ]
            if not later:
                assert kept[key]["value"] == one.arguments[0], (key, one)


def entries_of(cache: Any) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    while page := cache.getEntries("", entries[-1]["key"] if entries else "", _PAGE):
        entries += page
    return entries


def changes_of(cache: Any, since: str) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    while page := cache.getChanges(changes[-1]["revision"] if changes else since, "", _PAGE):
        changes += page
    return changes


def kept_in(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Answer what etcd holds, as the cache tells it."""
    found = {}
    for pair in cluster.range(f"{PREFIX}e/"):
        record = json.loads(pair.value)
        found[pair.key.removeprefix(f"{PREFIX}e/")] = {
            "value": record["value"],
            "revision": str(pair.mod_revision),
            "modified": record["modified"],
            "expires": record["expires"],
            "owner": record.get("owner", ""),
            "note": record.get("note", ""),
        }
    return found


def wait_for_agreement(cluster: Cluster, hosts: list[Host]) -> None:
    """Wait until all is well, and all copies are at etcd's own revision."""

    def agree() -> bool:
        newest = cluster.revision()
        storages = [host.supervisord.storage() for host in hosts]
        revisions = {host.supervisord.unix().cache.getStats()["revision"] for host in hosts}
        return revisions == {str(newest)} and {storage["state"] for storage in storages} == {"ok"}

    until(agree, "all copies are whole")


def own(host: Host) -> None:
    """Store what the supervised process owns, which lives from now on."""
    until(lambda: host.supervisord.process("ticker")["statename"] == "RUNNING", "it runs")
    host.supervisord.unix().cache.store(f"own/{host.name}/last", 1, {"owner": "ticker"})


def assert_owned_by_the_living(cluster: Cluster, hosts: list[Host]) -> None:
    """What a process owned that has ended is gone, once its lease has had time to end."""
    ticking = {host.name: host.newest_life()[1] for host in hosts}
    records = {
        pair.key.removeprefix(f"{PREFIX}e/own/"): json.loads(pair.value) for pair in cluster.range(f"{PREFIX}e/own/")
    }
    assert [key for key, record in records.items() if record["pid"] != ticking[key.partition("/")[0]]] == []


def assert_same_changes(hosts: list[Host], log: EtcdLog) -> int:
    """What copies tell of the past is the same, as far as they tell of the same, and what etcd says; how much it is."""
    told = {}
    for host in hosts:
        cache = host.supervisord.unix().cache
        since = cache.getStats()["history"]["since"]
        for change in changes_of(cache, since):
            told[host.name, int(change["revision"]), change["key"]] = change
        numbers = {revision for name, revision, _ in told if name == host.name}
        expected = {each.number for each in log.revisions if each.number > int(since) and each.records}
        assert numbers == expected, (host.name, since, sorted(numbers ^ expected))
    for (name, number, key), change in told.items():
        for host in hosts:
            other = told.get((host.name, number, key))
            if other is not None:
                # When a lease has ended each of them says as it has seen it.
                ignored = {"modified"} if change["kind"] in {"expire", "release"} else set()
                assert {**change, **dict.fromkeys(ignored)} == {**other, **dict.fromkeys(ignored)}, (name, host.name)
    return len(told)


def assert_followed(everything: Everything, log: EtcdLog) -> None:
    """Who asked for the changes from where he stood has missed none, as long as he was told that there are no more."""
    expected = [(each.number, key) for each in log.revisions for key in each.records]
    numbers = [number for number, _ in expected]
    for worker in everything.workers:
        if isinstance(worker, Follower):
            assert worker.spans
            for span in worker.spans:
                start, end = bisect_right(numbers, span.since), bisect_right(numbers, span.until)
                assert sorted(span.changes) == sorted(expected[start:end]), (worker.name, span.since, span.until)


def assert_fenced(resources: list[Resource]) -> None:
    for resource in resources:
        numbers = [number for number, _ in resource.accepted]
        assert numbers == sorted(numbers)
        assert len(set(resource.accepted)) == len(set(numbers)), "two held a lock at one revision"


def wreak(seconds: float, seed: int, cluster: Cluster, network: Network, hosts: list[Host], log: EtcdLog) -> Everything:
    """Have clients call while all goes wrong; answer when all is well again."""
    records = Records()
    resources = [Resource() for _ in range(LOCKS)]
    workers: list[Worker] = []
    for host in hosts:
        for number in range(WRITERS):
            workers.append(Writer(f"{host.name}-{number}", host, records, seed + len(workers)))
        workers.append(Follower(f"{host.name}-follow", host, records, seed + len(workers)))
        workers.append(Locker(f"{host.name}-lock", host, records, seed + len(workers), resources))
    killers = [Killer(host, seed + number) for number, host in enumerate(hosts)]
    nemesis = Nemesis(seed, cluster, network.hosts[:3], hosts, log)
    threads: list[Worker | Killer] = [*workers, *killers]
    for thread in threads:
        thread.start()
    try:
        nemesis.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not nemesis.failures:
            time.sleep(0.1)
    finally:
        nemesis.end()
        try:
            if nemesis.failures:
                raise nemesis.failures[0]
            wait_until_well(cluster, hosts)
            well = time.monotonic()
            until(lambda: written_since(well, records) == {host.name for host in hosts}, "all of them write", 10)
        finally:
            for thread in threads:
                thread.over.set()
            for thread in threads:
                thread.join()
    return Everything(records, workers, resources, killers, nemesis)


def written_since(start: float, records: Records) -> set[str]:
    """Answer the hosts through which something has been stored after that."""
    newest = records.calls[-200:]
    return {call.host.name for call in newest if call.operation.call > start and call.operation.result is True}


def wait_until_well(cluster: Cluster, hosts: list[Host]) -> None:
    cluster.wait_healthy()
    for host in hosts:
        host.supervisord.wait_for_storage()


def summary(everything: Everything, waits: list[float], changes: int, resources: list[Resource]) -> str:
    calls = everything.records.calls
    results = Counter(
        "unknown"
        if call.operation.returned is None
        else "refused"
        if call.operation.result is REFUSED
        else "acknowledged"
        for call in calls
    )
    restarts = [wait for killer in everything.killers for wait in killer.waits]
    probes = statistics.quantiles(waits, n=100)
    return (
        f"chaos: seed {SEED}, {SECONDS:g} s: {len(calls)} operations, {results['acknowledged']} acknowledged, "
        f"{results['refused']} refused, {results['unknown']} unknown; {everything.nemesis.faults} faults; "
        f"{changes} changes compared; {sum(len(each.accepted) for each in resources)} fenced writes, "
        f"{sum(each.refused for each in resources)} refused; "
        f"{len(restarts)} processes restarted, the last within {max(restarts, default=0) * 1000:.0f} ms; "
        f"getState {probes[98] * 1000:.1f} ms at the 99th percentile, {max(waits) * 1000:.0f} ms at most"
    )


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print, whatever pytest keeps to itself."""
    with capsys.disabled():
        print(text, flush=True)  # noqa: T201


def test_what_holds_while_all_goes_wrong(
    network: Network, cluster: Cluster, hosts: list[Host], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EtcdLog(cluster, PREFIX)
    say(capsys, f"\nCHAOS_SEED={SEED}")
    with probed(hosts, tmp_path) as outputs:
        everything = wreak(SECONDS, SEED, cluster, network, hosts, log)
    for host in hosts:
        own(host)
    # By then each lock, and what the dead owned, has ended.
    time.sleep(LEASE_SECONDS + 2)
    wait_for_agreement(cluster, hosts)
    log.read(cluster.revision(), 0)
    calls = everything.records.calls
    (tmp_path / "calls").write_text("\n".join(f"{call.note} {call.was_away} {call.operation}" for call in calls))
    (tmp_path / "log").write_text("\n".join(map(str, log.revisions)))
    (tmp_path / "faults").write_text("\n".join(everything.nemesis.said))
    kept = kept_in(cluster)
    changes = assert_same_changes(hosts, log)
    waits = [wait for host, output in zip(hosts, outputs, strict=True) for wait in waits_of(host, output)]
    say(capsys, summary(everything, waits, changes, everything.resources))
    assert everything.records.complaints == []
    for host in hosts:
        entries = {entry.pop("key"): entry for entry in entries_of(host.supervisord.unix().cache)}
        assert entries == kept, host.name
    assert_owned_by_the_living(cluster, hosts)
    assert {f"own/{host.name}/last" for host in hosts} <= kept.keys()
    assert_counted(calls, log)
    assert_nothing_lost(calls, kept)
    assert_followed(everything, log)
    assert_fenced(everything.resources)
    last = [
        Operation(
            "etcd", time.monotonic(), time.monotonic(), key, "getEntry", (), (record["value"], record["revision"])
        )
        for key, record in kept.items()
        if not key.startswith("own/")
    ]
    violation = check([*resolved(calls, log), *last])
    assert violation is None, str(violation)
    slow = [
        call
        for call in calls
        if call.operation.returned is not None
        and not call.was_away
        and call.operation.returned - call.operation.call > TIMEOUT_SECONDS + 2 * ALLOWANCE
    ]
    assert slow == []
    assert max(waits) < ALLOWANCE
    assert max((wait for killer in everything.killers for wait in killer.waits), default=0.0) < 1 + ALLOWANCE
