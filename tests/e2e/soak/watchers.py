"""Who follows the changes, by every way there is to be told of them."""

import abc
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import xmlrpc.client
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, final

from supervisor_cache import CacheError, connect
from supervisor_cache.core.history import Change
from tests.e2e.raw import Connection, Server
from tests.e2e.soak.host import Host
from tests.e2e.soak.records import Digest, Records, Replay, plain
from tests.e2e.soak.workers import CUT, Gate, Worker
from tests.e2e.web import Stream, Web
from tests.harness import OWN_BINARIES, START_SECONDS

_BY_REVISION = itemgetter("revision")
_PAGE = 500
_PAUSE = 0.02


class Watcher(threading.Thread, abc.ABC):
    """Follows all changes from the start of the run on, over all that happens, until it is over.

    Args:
        name: Of it.
        host: Whom it asks.
        records: Where to complain.
        gate: When it is over.
        since: The revision of the start.
    """

    def __init__(self, name: str, host: Host, records: Records, gate: Gate, since: int) -> None:
        super().__init__(name=name, daemon=True)
        self.digest = Digest()
        self._host = host
        self._records = records
        self._gate = gate
        self._since = since

    def run(self) -> None:
        while not self._gate.over.is_set():
            begun, cuts = time.monotonic(), self._host.cuts
            try:
                self.follow()
            except (*CUT, CacheError, xmlrpc.client.ProtocolError) as error:
                # What is cut while nobody asks shows at the next call, however long ago that was.
                if not self._host.was_away(begun, time.monotonic()) and cuts == self._host.cuts and not self.is_over:
                    self._records.complain(f"{self.name}: {error!r}, and supervisord was there all the time")
                self._gate.over.wait(_PAUSE)
            except Exception as error:  # noqa: BLE001 - told at the end
                self._records.complain(f"{self.name} gives up: {error!r}")
                return

    @property
    def is_over(self) -> bool:
        return self._gate.over.is_set()

    @abc.abstractmethod
    def follow(self) -> None:
        """Follow until a connection is cut."""

    def wake(self) -> None:
        """Have it see that it is over."""


@final
class HistoryWatcher(Watcher):
    """Makes the cache anew from what ``wait`` and ``getChanges`` tell."""

    def __init__(self, name: str, host: Host, records: Records, gate: Gate, since: int) -> None:
        super().__init__(name, host, records, gate, since)
        self.replay = Replay(records)
        self.digest = self.replay.digest

    def follow(self) -> None:
        proxy = self._host.proxy(inet=False)
        try:
            while not self.is_over:
                proxy.cache.wait(str(self._since), 1.0)
                for revision, changes in groupby(proxy.cache.getChanges(str(self._since), "", _PAGE), _BY_REVISION):
                    self.replay.apply(list(changes))
                    self._since = int(revision)
        finally:
            proxy("close")()


@final
class ClientWatcher(Watcher):
    """Uses ``watch`` of the Python client, which goes on by itself."""

    def follow(self) -> None:
        with connect(self._host.supervisord.unix_url) as cache:
            watch = cache.watch(since=self._since, timeout=0.5)
            while not self.is_over:
                for change in watch:
                    self._take(change)
                    self._since = watch.revision
                    if self._gate.over.is_set():
                        return

    def _take(self, change: Change) -> None:
        if change.kind == "reset":
            raise AssertionError(f"a reset at {change.revision}")
        self.digest.add(str(change.revision), change.kind, change.key)


@final
class PollWatcher(Watcher):
    """Asks the JSON interface, and has it wait."""

    def follow(self) -> None:
        web = Web(Server(self._host.supervisord, inet=True))
        with web.server.connect() as connection:
            while not self.is_over:
                connection.send(web.request("GET", f"v1/changes?since={self._since}&wait=1&limit={_PAGE}"))
                reply = connection.reply()
                if reply is None or len(reply.body) < int(reply.headers["content-length"]):
                    raise ConnectionResetError("it is cut")
                assert reply.status == http.client.OK, reply
                answer = json.loads(reply.body)
                for change in answer["changes"]:
                    self.digest.add(change["revision"], change["kind"], change["key"])
                self._since = int(answer["revision"])


@final
class StreamWatcher(Watcher):
    """Keeps a copy of all entries from what a stream tells.

    Args:
        inet: By which server.
        slow: Seconds that it needs for each revision.
    """

    def __init__(
        self, name: str, host: Host, records: Records, gate: Gate, since: int, *, inet: bool, slow: float = 0.0
    ) -> None:
        super().__init__(name, host, records, gate, since)
        self.entries: dict[str, dict[str, Any]] = {}
        self._web = Web(Server(host.supervisord, inet=inet))
        self._connection: Connection | None = None
        self._slow = slow

    def follow(self) -> None:
        self._connection = self._web.server.connect()
        with Stream(self._web, "", (f"Last-Event-ID: {self._since}",), self._connection) as stream:
            if not stream.head or not stream._until(b"\n\n"):
                raise ConnectionResetError("it is cut")
            assert stream.status == http.client.OK, stream.head
            for event in stream.rest():
                if event.name == ":":
                    continue
                assert not event.name, f"{event.name} at {event.number}"
                for change in event.data:
                    self._take(change)
                self._since = int(event.number)
                if self._slow:
                    time.sleep(self._slow)
        raise ConnectionResetError("it is cut")

    def _take(self, change: dict[str, Any]) -> None:
        self.digest.add(change["revision"], change["kind"], change["key"])
        if change["kind"] == "clear":
            self.entries.clear()
        elif change["entry"] is None:
            self.entries.pop(change["key"], None)
        else:
            self.entries[change["key"]] = change["entry"]

    def wake(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection._socket.shutdown(socket.SHUT_RDWR)


@final
class CommandWatcher(Watcher):
    """Reads what ``supervisor-cache watch`` prints, which goes on by itself."""

    def __init__(self, name: str, host: Host, records: Records, gate: Gate, since: int) -> None:
        super().__init__(name, host, records, gate, since)
        command = [str(OWN_BINARIES / "supervisor-cache"), "--url", host.supervisord.unix_url]
        with (host.folder / "watch.err").open("w") as errors:
            self._process = subprocess.Popen(
                [*command, "watch", "--json", "--since", str(since)], stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def follow(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                change = json.loads(line)
                self.digest.add(change["revision"], change["kind"], change["key"])
        if not self.is_over:
            raise AssertionError("it has ended")

    def wake(self) -> None:
        self._process.kill()
        self._process.wait()


@final
class Waiter(Worker):
    """Waits for what seldom comes, for a while, by XML-RPC."""

    def act(self) -> None:
        begun, cuts = time.monotonic(), self._host.cuts
        proxy = self._host.proxy(inet=self._dice.random() < 0.5)
        try:
            since, seconds = proxy.cache.getRevision(), self._dice.uniform(0, 2)
            told = proxy.cache.wait(since, seconds, self._dice.choice(["", "shared/", "never/"]))
            if told["changed"] and int(told["revision"]) <= int(since):
                self._records.complain(f"{self.name}: {told} after {since}")
        except (*CUT, xmlrpc.client.ProtocolError) as error:
            if cuts == self._host.cuts and not self._host.was_away(begun, time.monotonic()):
                self._records.complain(f"{self.name}: {error!r}, and supervisord was there all the time")
            self._gate.over.wait(_PAUSE)
        finally:
            proxy("close")()


@final
class Reader:
    """A process that reads the database."""

    def __init__(self, path: Path, seed: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.soak.reader", str(path), seed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> dict[str, Any]:
        """Have it say what it sees."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "a reader has ended"
        told: dict[str, Any] = json.loads(line)
        return told

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(START_SECONDS)


def canonical(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Answer entries by key, with values as JSON has them."""
    return {entry["key"]: {**entry, "value": plain(entry["value"])} for entry in entries}
