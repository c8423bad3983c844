"""What this host asks etcd to change: a transaction for each batch, by a few threads with a connection each."""

import threading
import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import NamedTuple, TypeAlias

from supervisor_cache.core.answer import Answer
from supervisor_cache.core.engine import Outcome
from supervisor_cache.core.entry import CLEAR, Batch
from supervisor_cache.engines.etcd.gateway import (
    Client,
    Cluster,
    DeniedError,
    GatewayError,
    Json,
    LostError,
    StoppedError,
    UnreachedError,
    encoded,
    end_of,
    named,
    number,
)
from supervisor_cache.engines.etcd.leasing import Lease, Spent, granted
from supervisor_cache.engines.etcd.records import CHANGE, ENTRIES, Hold, change_record, entry_record

_NOT_FOUND = 5
_NO_ROOM = 8
# Seconds between two tries of what must happen.
_PAUSE = 0.3
# Seconds between two tries of what changes nothing.
_AGAIN = 0.05
# Spent leases above which who takes one gives one back, or entries that are renewed all the time would pile them up.
_MOST_SPENT = 100


class Job:
    """One write on its way.

    Attributes:
        number: Unique among all writes of this host.
        batch: What to change.
        holds: By key, what keeps an entry whose TTL or owner stays as it was.
        ttl: Seconds of the lease for what ends by itself; 0 for none.
        patient: Whether to go on trying where surely nothing has happened.
        must: Whether to go on until it has happened: something has ended, and stays so.
        end: When it has to be answered, on the monotonic clock.
        answer: What came of it.
        is_sent: Whether it may have happened.
        is_over: Whether it has been answered.
        is_through: Set once its thread has done with it.
    """

    def __init__(
        self, number: str, batch: Batch, holds: Mapping[str, Hold], ttl: int, end: float, *, patient: bool, must: bool
    ) -> None:
        self.number = number
        self.batch = batch
        self.holds = holds
        self.ttl = ttl
        self.end = end
        self.patient = patient
        self.must = must
        self.answer: Answer[Outcome] = Answer()
        self.is_sent = False
        self.is_over = False
        self.is_through = threading.Event()
        self._lock = threading.Lock()

    def begin(self) -> bool:
        """Take note that it is being sent; False where it has been given up."""
        with self._lock:
            self.is_sent = not self.is_over
            return self.is_sent

    def give_up(self) -> bool:
        """Have it not be sent any more; answer whether it may have been."""
        with self._lock:
            self.is_over = True
            return self.is_sent


class Committed:
    """etcd has taken a batch, with this revision."""

    def __init__(self, revision: int) -> None:
        self.revision = revision


class Overtaken:
    """etcd has another revision of an entry than the batch relied on.

    Attributes:
        revision: Of the newest change of this cache.
    """

    def __init__(self, revision: int) -> None:
        self.revision = revision


class Full:
    """etcd has no room, and may have taken the batch all the same: this very write may be what has filled it.

    Attributes:
        error: That it answered.
        revision: Of the newest change of this cache, afterwards: if it has taken the batch, then not later.
    """

    def __init__(self, error: DeniedError, revision: int) -> None:
        self.error = error
        self.revision = revision


Result: TypeAlias = Committed | Overtaken | Full | GatewayError


class Done(NamedTuple):
    """What came of a job."""

    job: Job
    outcome: Result


class Writer:
    """The threads that write.

    Args:
        cluster: The members.
        lease: Of what processes own.
        spent: Leases that keep nothing any more.
        prefix: Of the cache, as bytes.
        host: This one.
        timeout: Seconds that a request may take.
        done: Takes what came of each job, in one of the threads.
    """

    def __init__(
        self,
        cluster: Cluster,
        lease: Lease,
        spent: Spent,
        prefix: bytes,
        host: str,
        timeout: float,
        done: Callable[[Done], None],
    ) -> None:
        self._cluster = cluster
        self._lease = lease
        self._spent = spent
        self._entries = prefix + ENTRIES
        self._change = encoded(prefix + CHANGE)
        self._host = host
        self._timeout = timeout
        self._done = done
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()

    def put(self, job: Job) -> None:
        """Have ``job`` done."""
        self._jobs.put(job)

    def stop(self, threads: int) -> None:
        """Have so many threads end."""
        for _ in range(threads):
            self._jobs.put(None)

    def run(self) -> None:
        """Do one job after the other, until `stop`."""
        client = self._cluster.client()
        while (job := self._jobs.get()) is not None and not self._cluster.stopped.is_set():
            outcome = self._outcome(client, job)
            if outcome is None and not self._cluster.stopped.wait(_PAUSE):
                # It must happen, and others have their turn before it is tried again.
                self._jobs.put(job)
                continue
            if outcome is not None:
                self._done(Done(job, outcome))
            job.is_through.set()
            if job.ttl and len(self._spent) > _MOST_SPENT:
                self._spent.revoke_one(client)
        client.close()

    def _outcome(self, client: Client, job: Job) -> Result | None:
        """Do a job once; answer what came of it, or None for one that must happen, and has not."""
        try:
            return self._commit(client, job)
        except StoppedError as error:
            return error
        except GatewayError as error:
            if job.must:
                return None
            if isinstance(error, DeniedError) and error.code == _NO_ROOM and job.is_sent:
                return self._full(client, job, error)
            return error
        except Exception as error:  # noqa: BLE001 - what etcd answers may be anything, and its caller waits
            client.close()
            if job.must:
                return None
            return LostError(f"{client.member}: what it answers is not etcd's: {named(error)}")

    def _commit(self, client: Client, job: Job) -> Committed | Overtaken:
        lease = granted(client, job.ttl, self._left(job)) if _needs_lease(job) else 0
        try:
            answer = self._send_owned(client, job, lease)
        except UnreachedError as error:
            if lease and not (isinstance(error, DeniedError) and error.code == _NO_ROOM):
                self._spent.add([lease])  # surely nothing was bound to it
            raise
        if answer.get("succeeded") is True:
            return Committed(number(answer["header"], "revision"))
        if lease:
            self._spent.add([lease])
        return Overtaken(_newest(answer))

    def _send_owned(self, client: Client, job: Job, lease: int) -> Json:
        own = self._lease.ensure(client, self._left(job)) if _needs_own(job) else 0
        if not job.begin():
            raise UnreachedError("it was given up")
        try:
            return self._send(client, job, lease, own)
        except DeniedError as error:
            if not own or error.code != _NOT_FOUND:
                raise
            # The lease of the processes has ended in the meantime: this host was cut off.
            self._lease.gone(own)
            return self._send(client, job, lease, self._lease.ensure(client, self._left(job)))

    def _full(self, client: Client, job: Job, error: DeniedError) -> Result:
        try:
            answer = client.call("/v3/kv/range", {"key": self._change, "keys_only": True}, self._left(job))
            kvs = answer.get("kvs", [])
            return Full(error, number(kvs[0], "mod_revision")) if kvs else error
        except Exception:  # noqa: BLE001 - what etcd answers may be anything, and its caller waits
            return LostError(str(error))

    def _send(self, client: Client, job: Job, lease: int, own: int) -> Json:
        body = self._transaction(job, lease, own)
        while True:
            try:
                return client.call("/v3/kv/txn", body, self._left(job), patient=job.patient)
            except LostError as error:
                if job.batch.mutations:
                    raise
                # It only asks, and does so again.
                if self._cluster.stopped.wait(_AGAIN):
                    raise UnreachedError(str(error)) from None

    def _left(self, job: Job) -> float:
        if job.must:
            return self._timeout
        left = job.end - time.monotonic()
        if left <= 0:
            raise UnreachedError("no time was left")
        return left

    def _transaction(self, job: Job, lease: int, own: int) -> Json:
        batch = job.batch
        newest: Json = {"request_range": {"key": self._change, "keys_only": True}}
        success: list[Json] = []
        for kind, key, entry in batch.mutations:
            if kind == CLEAR:
                every: Json = {"key": encoded(self._entries), "range_end": encoded(end_of(self._entries))}
                success.append({"request_delete_range": every})
            elif entry is None:
                success.append({"request_delete_range": {"key": self._name(key)}})
            else:
                hold = job.holds.get(key)
                if hold is None:
                    pid = entry.owner.pid
                    hold = Hold(own, self._host, pid) if pid else Hold(lease if entry.expires else 0)
                put: Json = {"key": self._name(key), "value": encoded(entry_record(entry, hold))}
                if hold.lease:
                    put["lease"] = str(hold.lease)
                success.append({"request_put": put})
        if success:
            record = change_record(batch, job.number, self._host)
            success.append({"request_put": {"key": self._change, "value": encoded(record)}})
        else:
            # It only asks whether what it relied on holds. Without a read etcd would answer from one member's copy.
            success.append(newest)
        return {"compare": self._comparison(batch), "success": success, "failure": [newest]}

    def _comparison(self, batch: Batch) -> list[Json]:
        relied: list[Json] = [
            {"key": self._name(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
            for key, revision in batch.relied.items()
        ]
        if batch.prefix is not None:
            # Nothing has come that the copy does not have.
            start = self._entries + batch.prefix.encode()
            newer = {"target": "MOD", "result": "LESS", "mod_revision": str(batch.seen + 1)}
            relied.append({"key": encoded(start), "range_end": encoded(end_of(start)), **newer})
        return relied

    def _name(self, key: str) -> str:
        return encoded(self._entries + key.encode())


def _needs_lease(job: Job) -> bool:
    return bool(job.ttl) and any(
        entry is not None and entry.expires and not entry.owner.pid and key not in job.holds
        for _, key, entry in job.batch.mutations
    )


def _needs_own(job: Job) -> bool:
    return any(entry is not None and entry.owner.pid and key not in job.holds for _, key, entry in job.batch.mutations)


def _newest(answer: Json) -> int:
    kvs = answer["responses"][0]["response_range"].get("kvs", [])
    return number(kvs[0], "mod_revision") if kvs else 0
