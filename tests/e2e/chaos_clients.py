"""Those who use the caches of several hosts while all goes wrong, and write down what they were told."""

import http.client
import random
import threading
import time
import xmlrpc.client
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from typing import Any, Final, NamedTuple, final

from tests.e2e.nemesis import Host
from tests.e2e.prober import UnixConnection
from tests.linearizability import MISSING, REFUSED, Operation

KEYS = 24
COUNTERS = 4
LOCKS = 2
LOCK_TTL = 2
# Seconds after which a client does not wait for an answer any more.
PATIENCE = 8.0
SLOW = 1.0
# Seconds after which other keys are used.
PERIOD = 60.0
UNKNOWN: Final = object()
GONE: Final = object()

_BAD_ARGUMENTS, _SHUTDOWN, _BAD_NAME, _UNAVAILABLE, _UNKNOWN_OUTCOME = 3, 6, 10, 204, 206
_HISTORY_GONE = 203
_READS = {"fetch", "getEntry", "getRevision"}


class Call(NamedTuple):
    """One call, as `Operation` has it, and the note by which etcd knows it; empty for a read."""

    operation: Operation
    note: str
    host: Host
    was_away: bool


@final
class Records:
    """What all clients know, and what they have been told."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.complaints: list[str] = []
        # Revisions of each key that somebody has seen.
        self.seen: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=4))
        self.begun = time.monotonic()

    def period(self) -> int:
        return int((time.monotonic() - self.begun) / PERIOD)


class Client:
    """A session of one client with one host, one call after the other."""

    def __init__(self, name: str, host: Host, records: Records) -> None:
        self.name = name
        self.host = host
        self.records = records
        self._connection = UnixConnection(host.socket_path, PATIENCE)
        self._count = 0
        self._floor = 0
        self._life = host.life

    def call(self, kind: str, key: str, *arguments: Any, **options: Any) -> Any:
        """Call, and write it down; answer the result, `MISSING`, `REFUSED` or `UNKNOWN`."""
        note = ""
        given: tuple[Any, ...] = (key, *arguments) if key else arguments
        if kind not in _READS:
            self._count += 1
            note = f"{self.name}.{self._count}"
            given = (*given, {"note": note, **options})
        if self._life != self.host.life:
            # A mirror may be behind what the copy has shown before.
            self._life, self._floor = self.host.life, 0
        begun = time.monotonic()
        result = self.ask(kind, given)
        ended = time.monotonic()
        if kind == "getEntry" and isinstance(result, dict):
            result = (result["value"], result["revision"])
        if kind == "getRevision":
            if isinstance(result, str):
                self._see_revision(result, begun)
            return result
        if kind in _READS and result is UNKNOWN:
            return result
        is_known = result is not UNKNOWN
        operation = Operation(
            f"{self.name}/{self._life}",
            begun,
            ended if is_known else None,
            key,
            kind,
            arguments,
            result if is_known else None,
            stale=kind in _READS,
        )
        self.records.calls.append(Call(operation, note, self.host, self.host.was_away(begun, ended)))
        self._learn(key, kind, result)
        if note and is_known and ended - begun > SLOW:
            # What took long may have been answered before its time.
            self.call("getRevision", "")
        return result

    def _learn(self, key: str, kind: str, result: Any) -> None:
        revision = result[1] if isinstance(result, tuple) else result if kind not in _READS else None
        if isinstance(revision, str) and revision:
            self._floor = max(self._floor, int(revision))
            if revision not in self.records.seen[key]:
                self.records.seen[key].append(revision)

    def _see_revision(self, revision: str, begun: float) -> None:
        if int(revision) < self._floor:
            self.records.complaints.append(f"{begun:.6f} {self.name}: revision {revision} after {self._floor}")
        self._floor = max(self._floor, int(revision))

    def ask(self, kind: str, arguments: tuple[Any, ...]) -> Any:
        """Call; answer as `call` does, and `GONE` where the history is."""
        body = xmlrpc.client.dumps(arguments, f"cache.{kind}")
        if self._connection.sock is None:
            try:
                self._connection.connect()
            except OSError:
                # Nobody has heard of it.
                time.sleep(0.05)
                return REFUSED
        try:
            self._connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return UNKNOWN
        if response.status != http.client.OK:
            self.records.complaints.append(f"{self.name}: {kind}{arguments} is answered with {response.status}")
            return UNKNOWN
        try:
            return xmlrpc.client.loads(text)[0][0]
        except xmlrpc.client.Fault as fault:
            return self._refusal(kind, arguments, fault)

    def _refusal(self, kind: str, arguments: tuple[Any, ...], fault: xmlrpc.client.Fault) -> Any:
        if fault.faultCode == _BAD_NAME and kind in _READS:
            return MISSING
        if fault.faultCode == _HISTORY_GONE:
            return GONE
        if fault.faultCode in {_UNAVAILABLE, _SHUTDOWN}:
            return REFUSED
        if fault.faultCode == _BAD_ARGUMENTS and "owner" in arguments[-1]:
            # The process has just been killed.
            return REFUSED
        if fault.faultCode == _UNKNOWN_OUTCOME:
            return UNKNOWN
        self.records.complaints.append(f"{self.name}: {kind}{arguments}: {fault.faultString}")
        return UNKNOWN

    def close(self) -> None:
        self._connection.close()


class Worker(threading.Thread, ABC):
    """A client that does one thing after the other until it is told to end."""

    def __init__(self, name: str, host: Host, records: Records, seed: int) -> None:
        super().__init__(name=name)
        self.over = threading.Event()
        self._dice = random.Random(seed)
        self._client = Client(name, host, records)
        self._records = records

    def run(self) -> None:
        try:
            while not self.over.wait(self._dice.uniform(0, 0.08)):
                self.act()
        except Exception as error:  # noqa: BLE001 - told at the end
            self._records.complaints.append(f"{self.name}: {error!r}")
        finally:
            self._client.close()

    @abstractmethod
    def act(self) -> None:
        """Do the next thing."""


@final
class Writer(Worker):
    """Calls whatever there is, with values that nobody else has."""

    def __init__(self, name: str, host: Host, records: Records, seed: int) -> None:
        super().__init__(name, host, records, seed)
        self._number = 0

    def act(self) -> None:
        dice = self._dice
        if dice.random() < 0.05:
            self._client.call("getRevision", "")
            return
        if dice.random() < 0.1:
            key = f"n/{self._records.period()}/{dice.randrange(COUNTERS)}"
            counts: list[tuple[Any, ...]] = [("increment", key, dice.randint(-2, 5)), ("fetch", key)]
            self._client.call(*dice.choice(counts))
            return
        if dice.random() < 0.02:
            self._client.call("store", f"own/{self._client.host.name}/{dice.randrange(3)}", 1, owner="ticker")
            return
        key = f"k/{self._records.period()}/{dice.randrange(KEYS)}"
        self._number += 1
        value = f"{self.name}:{self._number}"
        revision = dice.choice([*self._records.seen[key], ""])
        calls: list[tuple[int, tuple[Any, ...]]] = [
            (4, ("store", key, value)),
            (3, ("add", key, value)),
            (6, ("storeIf", key, value, self._newest(key) if dice.random() < 0.6 else revision)),
            (2, ("deleteIf", key, revision or "1")),
            (2, ("delete", key)),
            (2, ("touch", key, 100_000.0)),
            (1, ("touchIf", key, 100_000.0, revision)),
            (4, ("fetch", key)),
            (8, ("getEntry", key)),
        ]
        self._client.call(*dice.choices([call for _, call in calls], [weight for weight, _ in calls])[0])

    def _newest(self, key: str) -> str:
        seen = self._records.seen[key]
        return seen[-1] if seen else ""


@final
class Resource:
    """What a lock protects: it takes no write with a smaller revision than the largest so far."""

    def __init__(self) -> None:
        self.accepted: list[tuple[int, str]] = []
        self.refused = 0
        self._largest = 0
        self._lock = threading.Lock()

    def write(self, revision: str, holder: str) -> bool:
        """Answer whether it was accepted."""
        with self._lock:
            if int(revision) < self._largest:
                self.refused += 1
                return False
            self._largest = int(revision)
            self.accepted.append((self._largest, holder))
            return True


@final
class Locker(Worker):
    """Takes a lock, writes to what it protects, and sometimes sleeps while the lock ends."""

    def __init__(self, name: str, host: Host, records: Records, seed: int, resources: list[Resource]) -> None:
        super().__init__(name, host, records, seed)
        self._resources = resources

    def act(self) -> None:
        dice, number = self._dice, self._dice.randrange(LOCKS)
        key = f"lock/{self._records.period()}/{number}"
        kind = dice.choice([("add",), ("storeIf", "")])
        revision = self._client.call(kind[0], key, self.name, *kind[1:], ttl=LOCK_TTL)
        while isinstance(revision, str) and revision and not self.over.is_set():
            self.over.wait(LOCK_TTL + 2.5 if dice.random() < 0.1 else dice.uniform(0, 0.5))
            if not self._resources[number].write(revision, self.name):
                return
            if dice.random() < 0.3:
                self._client.call("deleteIf", key, revision)
                return
            if dice.random() < 0.5:
                revision = self._client.call("touchIf", key, float(LOCK_TTL), revision)
            else:
                revision = self._client.call("storeIf", key, self.name, revision, ttl=LOCK_TTL)
        self.over.wait(dice.uniform(0, 0.5))


class Span(NamedTuple):
    """What a host has told of the changes after one revision, up to another one."""

    since: int
    until: int
    changes: list[tuple[int, str]]


@final
class Follower(Worker):
    """Waits for changes, and asks for them from where it stands."""

    def __init__(self, name: str, host: Host, records: Records, seed: int) -> None:
        super().__init__(name, host, records, seed)
        self.spans: list[Span] = []
        self._since = ""

    def act(self) -> None:
        if not self._since:
            revision = self._client.ask("getRevision", ())
            self._since = revision if isinstance(revision, str) else ""
            return
        self._client.ask("wait", (self._since, 1.0))
        changes = self._client.ask("getChanges", (self._since,))
        if changes is GONE:
            self._since = ""
        elif isinstance(changes, list) and changes:
            told = [(int(change["revision"]), change["key"]) for change in changes]
            self.spans.append(Span(int(self._since), told[-1][0], told))
            self._since = changes[-1]["revision"]
