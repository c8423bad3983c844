"""Random calls through either of two supervisords that share one cache, against a plain dictionary."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from xmlrpc.client import Fault

import pytest

from tests.cluster import Cluster
from tests.harness import Supervisord, program, running, until

# Random sequences, and calls in each.
SEQUENCES = int(os.environ.get("SHARED_SEQUENCES", "8"))
STEPS = 150
KEYS: Final = ["a", "b", "ab", "a/b", "\u00e4", "\U0010ffff"]
PREFIXES: Final = ["a", "ab", "a/", "\u00e4", "nothing"]
VALUES: Final[list[Any]] = ["v", "", 1, 0, -1, True, False, 1.0, [], [1, [True]], {"n": 1.0}, "x" * 50]
WRONG: Final[list[Any]] = [{"$dateTime": "x"}, float("nan"), "x" * 70]
NOTES: Final = ["", "ops: deploy", "\u00e9"]
LIMITS: Final = {"max_entries": "5", "max_value_bytes": "64", "max_changes": "100000"}


class Stored(NamedTuple):
    """What the model knows of an entry."""

    value: Any
    note: str
    owner: str
    is_timed: bool
    revision: int


class Host:
    """One of those that share the cache."""

    def __init__(self, supervisord: Supervisord, name: str) -> None:
        self.supervisord = supervisord
        self.cache = supervisord.unix().cache
        self.process = name

    def catch_up(self, revision: int) -> None:
        """Wait until it knows all up to ``revision``."""
        until(lambda: int(self.cache.getRevision()) >= revision, "its copy has it")


class Machine:
    """The model: a dictionary and every change. What a call refuses must change nothing."""

    def __init__(self, hosts: list[Host], seed: int) -> None:
        self.chance = random.Random(seed)
        self.hosts = hosts
        self.model: dict[str, Stored] = {}
        self.revision = max(int(host.cache.getRevision()) for host in hosts)
        self.start = str(self.revision)
        self.changes: list[tuple[str, str, str]] = []

    def run(self) -> None:
        """Call at random."""
        steps: list[tuple[int, Callable[[Host], None]]] = [
            *((6, self.store), (4, self.store_many), (4, self.add), (5, self.store_if), (5, self.increment)),
            *((4, self.touch), (3, self.delete), (4, self.delete_if), (3, self.delete_many), (3, self.delete_prefix)),
            *((1, self.clear), (1, self.process_ends), (2, self.refused)),
        ]
        weights, acts = [weight for weight, _ in steps], [act for _, act in steps]
        for _ in range(STEPS):
            # Whether or not its copy has what the other one has just written: only what it answers counts.
            self.chance.choices(acts, weights)[0](self.chance.choice(self.hosts))
            if self.chance.random() < 0.3:
                self.compare()
        self.compare()

    # What is told and read

    def took(self, kind: str, keys: list[str], note: str) -> None:
        """Take note of a commit, whose revision the next look tells."""
        self.changes += [(kind, key, note) for key in keys]

    def compare(self) -> None:
        """See that both show what the model has."""
        for host in self.hosts:
            host.catch_up(self.revision)
            entries = {entry["key"]: entry for entry in host.cache.getEntries()}
            assert list(entries) == sorted(self.model)
            for key, stored in self.model.items():
                entry = entries[key]
                assert repr(entry["value"]) == repr(stored.value)
                found = (entry["note"], entry["owner"], entry["expires"] > 0, int(entry["revision"]))
                assert found == stored[1:]
            told = host.cache.getChanges(self.start)
            assert [(change["kind"], change["key"], change["note"]) for change in told] == self.changes
            revisions = [int(change["revision"]) for change in told]
            assert revisions == sorted(revisions)

    def newest(self, host: Host) -> int:
        """Answer the revision of what has just been written through ``host``; larger than any before."""
        found = int(host.cache.getRevision())
        assert found > self.revision
        self.revision = found
        return found

    # What is asked

    def options(self, host: Host) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.chance.random() < 0.3:
            options["note"] = self.chance.choice(NOTES)
        if self.chance.random() < 0.2:
            # None of them ends within the test.
            options["ttl"] = self.chance.choice([600, 3600.5])
        if self.chance.random() < 0.2:
            options["owner"] = host.process
        return options

    def stored(self, value: Any, options: dict[str, Any], revision: int, old: Stored | None = None) -> Stored:
        """What storing ``value`` leads to; what is not given is as in ``old``."""
        before = old or Stored(None, "", "", is_timed=False, revision=0)
        return Stored(
            value,
            options.get("note", before.note),
            options.get("owner", before.owner),
            "ttl" in options or before.is_timed,
            revision,
        )

    def is_full(self, keys: set[str]) -> bool:
        return len(self.model.keys() | keys) > max(int(LIMITS["max_entries"]), len(self.model))

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Answer what a call does, or the code of its fault."""
        try:
            return call()
        except Fault as fault:
            return f"fault {fault.faultCode}"

    def seen(self, host: Host, *keys: str) -> None:
        """Have a limit, which goes by the copy of ``host``, be decided by what there is."""
        if self.is_full(set(keys)) or len(self.model) >= int(LIMITS["max_entries"]):
            host.catch_up(self.revision)

    def expect(self, host: Host, answer: Any, expected: Any, items: dict[str, Stored], note: str) -> None:
        if self.is_full(set(items)):
            assert answer == "fault 201"
            return
        revision = self.newest(host)
        assert answer == (str(revision) if expected is None else expected)
        self.model.update({key: stored._replace(revision=revision) for key, stored in items.items()})
        self.took("store", list(items), note)

    def store(self, host: Host) -> None:
        key, value, options = self.chance.choice(KEYS), self.chance.choice(VALUES), self.options(host)
        self.seen(host, key)
        answer = self.attempt(lambda: host.cache.store(key, value, options))
        self.expect(host, answer, True, {key: self.stored(value, options, 0)}, options.get("note", ""))  # noqa: FBT003 - the answer

    def store_many(self, host: Host) -> None:
        keys, options = self.chance.sample(KEYS, self.chance.randint(1, 3)), self.options(host)
        items = {key: self.chance.choice(VALUES) for key in keys}
        self.seen(host, *keys)
        answer = self.attempt(lambda: host.cache.storeMany(items, options))
        stored = {key: self.stored(value, options, 0) for key, value in items.items()}
        self.expect(host, answer, None, stored, options.get("note", ""))

    def add(self, host: Host) -> None:
        key, value, options = self.chance.choice(KEYS), self.chance.choice(VALUES), self.options(host)
        self.seen(host, key)
        answer = self.attempt(lambda: host.cache.add(key, value, options))
        if key in self.model:
            assert answer == ""
        else:
            self.expect(host, answer, None, {key: self.stored(value, options, 0)}, options.get("note", ""))

    def asked_revision(self, key: str) -> tuple[str, bool]:
        """Answer a revision to ask for, and whether it is the right one."""
        right = str(self.model[key].revision) if key in self.model else ""
        asked = self.chance.choice([right, right, "", "1", str(self.revision)])
        return asked, asked == right

    def store_if(self, host: Host) -> None:
        key, value, options = self.chance.choice(KEYS), self.chance.choice(VALUES), self.options(host)
        asked, is_right = self.asked_revision(key)
        self.seen(host, key)
        answer = self.attempt(lambda: host.cache.storeIf(key, value, asked, options))
        if is_right:
            self.expect(host, answer, None, {key: self.stored(value, options, 0)}, options.get("note", ""))
        else:
            assert answer == ""

    def increment(self, host: Host) -> None:
        key, delta, options = self.chance.choice(KEYS), self.chance.choice([1, -5]), self.options(host)
        self.seen(host, key)
        answer = self.attempt(lambda: host.cache.increment(key, delta, options))
        old = self.model.get(key)
        before = 0 if old is None else old.value
        if type(before) is not int:
            assert answer == "fault 202"
        else:
            total = before + delta
            self.expect(host, answer, total, {key: self.stored(total, options, 0, old)}, options.get("note", ""))

    def touch(self, host: Host) -> None:
        key, ttl, note = self.chance.choice(KEYS), self.chance.choice([0, 600, 7200]), self.chance.choice(NOTES)
        is_conditional = self.chance.random() < 0.5
        asked, is_right = self.asked_revision(key)
        if is_conditional:
            answer = self.attempt(lambda: host.cache.touchIf(key, ttl, asked, {"note": note}))
        else:
            answer = self.attempt(lambda: host.cache.touch(key, ttl, {"note": note}))
        if key not in self.model or (is_conditional and not is_right):
            assert answer == ""
            return
        revision = self.newest(host)
        assert answer == str(revision)
        self.model[key] = self.model[key]._replace(note=note, is_timed=ttl > 0, revision=revision)
        self.took("touch", [key], note)

    def gone(self, host: Host, kind: str, keys: list[str], note: str = "") -> None:
        if keys:
            self.newest(host)
            self.took(kind, [""] if kind == "clear" else keys, note)
        for key in keys:
            del self.model[key]

    def delete(self, host: Host) -> None:
        key, note = self.chance.choice(KEYS), self.chance.choice(NOTES)
        assert host.cache.delete(key, {"note": note}) is True
        self.gone(host, "delete", [key] if key in self.model else [], note)

    def delete_if(self, host: Host) -> None:
        key = self.chance.choice(KEYS)
        asked, is_right = self.asked_revision(key)
        assert host.cache.deleteIf(key, asked) is is_right
        self.gone(host, "delete", [key] if is_right and key in self.model else [])

    def delete_many(self, host: Host) -> None:
        keys = self.chance.sample(KEYS, 3)
        there = [key for key in keys if key in self.model]
        assert host.cache.deleteMany(keys) == len(there)
        self.gone(host, "delete", there)

    def delete_prefix(self, host: Host) -> None:
        prefix = self.chance.choice(PREFIXES)
        there = sorted(key for key in self.model if key.startswith(prefix))
        assert host.cache.deletePrefix(prefix) == len(there)
        self.gone(host, "delete", there)

    def clear(self, host: Host) -> None:
        assert host.cache.clear({"note": "all"}) is True
        self.gone(host, "clear", list(self.model), "all")

    def process_ends(self, host: Host) -> None:
        """Have the process of a host end, and start it anew."""
        host.catch_up(self.revision)
        there = sorted(key for key, stored in self.model.items() if stored.owner == host.process)
        host.supervisord.unix().supervisor.stopProcess(host.process)
        assert not [entry for entry in host.cache.getEntries() if entry["owner"] == host.process]
        until(lambda: host.cache.getStats()["storage"]["pending"] == 0, "what it owned is released")
        self.gone(host, "release", there)
        host.supervisord.unix().supervisor.startProcess(host.process)

    def refused(self, host: Host) -> None:
        key, value = self.chance.choice(KEYS), self.chance.choice(WRONG)
        options = self.chance.choice([{}, {"ttl": 0}, {"ttl": 1.5}, {"tll": 5}, {"owner": "nobody"}, {"note": "a\n"}])
        host.catch_up(self.revision)
        is_long = value == "x" * 70
        answer = self.attempt(lambda: host.cache.store(key, value, options))
        assert answer in ({"fault 201", "fault 3"} if is_long else {"fault 3"})


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    folder: Path = tmp_path_factory.mktemp("etcd")
    with Cluster(folder, members=1) as cluster:
        section = {"storage": f"etcd://{cluster.endpoints[0]}/machine", **LIMITS}
        with (
            running({"cache": section}, program("one")) as one,
            running({"cache": section}, program("other")) as other,
        ):
            for supervisord in (one, other):
                supervisord.wait_for_storage()
            yield [Host(one, "one:one"), Host(other, "other:other")]
            for supervisord in (one, other):
                assert "Traceback" not in supervisord.log


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_whoever_is_asked_a_shared_cache_is_one_dictionary(hosts: list[Host], seed: int) -> None:
    hosts[0].cache.clear()
    for host in hosts:
        until(lambda host=host: host.cache.getCount() == 0, "both are empty")  # type: ignore[misc]
        until(lambda host=host: host.supervisord.process(host.process)["pid"], "its process runs")  # type: ignore[misc]
    Machine(hosts, seed).run()
