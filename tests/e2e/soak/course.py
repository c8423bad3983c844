"""All who take part in a soak, its course, and the rests at which everybody must have the same in hand."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, final

from tests.database import assert_integrity
from tests.e2e.raw import Server
from tests.e2e.soak.client_writer import ClientWriter
from tests.e2e.soak.host import Host, Killer, Mortal, Restart, Sample, own_descriptors, sample
from tests.e2e.soak.hostile import Hostile
from tests.e2e.soak.json_writer import JsonWriter
from tests.e2e.soak.plan import HANG_UP, KILL, RELOAD, REST, Step
from tests.e2e.soak.program_writers import CommandWriter, CtlWriter
from tests.e2e.soak.records import UNTOLD, Outcome, Records, as_text, difference, text
from tests.e2e.soak.rpc_writer import RpcWriter
from tests.e2e.soak.watchers import (
    ClientWatcher,
    CommandWatcher,
    HistoryWatcher,
    PollWatcher,
    Reader,
    StreamWatcher,
    Waiter,
    Watcher,
    canonical,
)
from tests.e2e.soak.workers import Gate, Worker, Writer
from tests.e2e.soak.writers import CONFIGURED
from tests.e2e.test_storm import settled_descriptors
from tests.e2e.web import Web
from tests.harness import Supervisord, until

# Processes that are there to be killed, and may own entries.
MORTALS = ("one", "two", "three", "four")
# SQLite keeps one that it must not close while another one holds locks on the same file, and uses it again.
SPARE_DESCRIPTORS = 1
_PAGE = 500
_FAR = 3600.0


@final
class Killing(Worker):
    """Kills processes all the while."""

    def __init__(self, name: str, host: Host, records: Records, gate: Gate, seed: int, mortals: list[Mortal]) -> None:
        super().__init__(name, host, records, gate, seed, 1.0)
        self.killer = Killer(host, mortals, self._dice)

    def act(self) -> None:
        self.killer.kill(self._gate.over)


@final
class Resting(Writer):
    """Writes what ends each rest: when it is told to, and never started as a thread."""

    def act(self) -> None:
        raise AssertionError("it is not started")

    def store(self, cache: Any, key: str, value: Any) -> None:
        note = self.begin({key: value})
        assert cache.store(key, value, {"note": note})
        self.end(Outcome.DONE)


@final
class Soak:
    """All who take part.

    Args:
        supervisord: That runs.
        seed: What decides on all that is random.
        say: Shows a line of progress.
    """

    def __init__(self, supervisord: Supervisord, seed: int, say: Callable[[str], None]) -> None:
        self.host = Host(supervisord)
        self.records = Records()
        self.gate = Gate()
        self.samples: list[Sample] = []
        # At each rest, with nobody but those who watch.
        self.rests: list[Sample] = []
        self.reading: list[list[dict[str, Any]]] = []
        self.done: list[str] = []
        self._say = say
        self._next_line = 60.0
        folder = supervisord.folder
        mortals = {name: Mortal(name, folder / f"lives-{name}") for name in (*MORTALS, "publisher", "configured")}
        since = int(supervisord.unix().cache.getRevision())
        given = (self.host, self.records, self.gate)
        owned = [mortals[name] for name in MORTALS]
        self.killings = [
            Killing("killing-1", *given, seed, owned[:2]),
            Killing("killing-2", *given, seed, [*owned[2:], mortals["publisher"], mortals["configured"]]),
        ]
        self.workers: list[Worker] = [
            *(RpcWriter(f"rpc-{number}", *given, seed, 0.06, owned, inet=bool(number % 2)) for number in range(3)),
            *(ClientWriter(f"client-{number}", *given, seed, 0.06, owned, inet=bool(number)) for number in range(2)),
            *(JsonWriter(f"json-{number}", *given, seed, 0.06, owned, inet=bool(number)) for number in range(2)),
            CtlWriter("ctl", *given, seed, 2.0, owned),
            CommandWriter("command", *given, seed, 2.0, owned),
            *(Waiter(f"waiter-{number}", *given, seed, 0.5) for number in range(3)),
            *(Hostile(f"hostile-{number}", *given, seed, 0.3) for number in range(2)),
            *self.killings,
        ]
        self.history = HistoryWatcher("history", *given, since)
        self.streams = [
            StreamWatcher("stream-unix", *given, since, inet=False),
            StreamWatcher("stream-inet", *given, since, inet=True),
            StreamWatcher("stream-slow", *given, since, inet=True, slow=0.002),
        ]
        self.watchers: list[Watcher] = [
            self.history,
            *self.streams,
            ClientWatcher("client's watch", *given, since),
            PollWatcher("long poll", *given, since),
            CommandWatcher("watch", *given, since),
        ]
        self.readers = [Reader(folder / "cache.db", f"{seed} reader {number}") for number in range(2)]
        self._resting = Resting("resting", *given, seed, 0.0)

    # Its course

    @contextlib.contextmanager
    def goes_on(self) -> Iterator[None]:
        """Have all of them at work for the length of a ``with``."""
        threads = [*self.watchers, *self.workers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.gate.over.set()
            for watcher in self.watchers:
                watcher.wake()
            for thread in threads:
                thread.join(60)
            for reader in self.readers:
                reader.end()
        assert [thread.name for thread in threads if thread.is_alive()] == []

    def run(self, seconds: float, steps: list[Step]) -> None:
        """Do what is planned when it is due, then rest for the last time."""
        start = time.monotonic()
        for step in steps:
            self._wait(start, step.at)
            self._do(step)
        self._wait(start, seconds)
        assert self.records.complaints == []
        self.rest()

    def _wait(self, start: float, until_then: float) -> None:
        while (passed := time.monotonic() - start) < until_then and not self.records.complaints:
            found = sample(self.host)
            if found is not None:
                self.samples.append(found)
            if passed >= self._next_line:
                self._next_line += 60
                self._say(f"{passed / 60:.0f} min: {self.progress()}")
            time.sleep(min(1.0, max(0.0, until_then - passed)))

    def _do(self, step: Step) -> None:
        if self.records.complaints:
            return
        self.done.append(f"{time.monotonic():.3f} {step.what}")
        if step.what == REST:
            self.rest()
        elif step.what == KILL:
            self.host.kill()
        else:
            assert step.what in {RELOAD, HANG_UP}
            self.host.reload(by_signal=step.what == HANG_UP)

    # A rest

    def rest(self) -> None:
        """Have all writing stop, see that everybody has the same in hand and what supervisord takes, and go on."""
        supervisord = self.host.supervisord
        rests = supervisord.folder / "rests"
        rests.touch()
        number = self.gate.close(self.workers)
        cache = supervisord.unix().cache
        # What is about to end by itself, and what a process has printed last.
        until(lambda: not self._is_about_to_end(cache), "what has a TTL ends")
        until(lambda: self._all_run(supervisord.unix()), "all processes run")
        self._resting.store(cache, CONFIGURED, f"at rest {number}")
        self._resting.store(cache, f"rest/{number}", number)
        self._agree(cache, f"rest/{number}")
        until(lambda: (supervisord.folder / "seen").read_text() == f"at rest {number}", "on-change has told of it")
        assert_integrity(supervisord.folder / "cache.db")
        self.reading.append([reader.ask() for reader in self.readers])
        settled_descriptors(supervisord)
        first = next((rest.descriptors for rest in self.rests if rest.life == self.host.lives), 0)
        if first:
            # What clients have just closed, supervisord closes when its loop comes to it.
            with _telling(self.host.open_files):
                until(lambda: own_descriptors(self.host) <= first + SPARE_DESCRIPTORS, f"as few as {first} descriptors")
        found = sample(self.host)
        assert found is not None
        self.rests.append(found)
        rests.unlink()
        self.gate.open()

    def _is_about_to_end(self, cache: Any) -> bool:
        return any(0 < entry["expires"] < time.time() + _FAR for entry in entries_of(cache))

    def _all_run(self, proxy: Any) -> bool:
        return all(process["statename"] == "RUNNING" for process in proxy.supervisor.getAllProcessInfo())

    def _agree(self, cache: Any, sentinel: str) -> None:
        """Wait until all views are the same; what a process has printed last may still be on its way."""
        differences: list[str] = ["nobody has looked"]

        def agree() -> bool:
            differences[:] = self._differences(cache, sentinel)
            return not differences

        with _telling(lambda: "\n".join(differences)):
            until(agree, "all views are the same")

    def _differences(self, cache: Any, sentinel: str) -> list[str]:
        if self.records.complaints:
            return self.records.complaints
        revision = cache.getRevision()
        found = canonical(entries_of(cache))
        expected = as_text(found)
        views = {"JSON": json_entries(Web(Server(self.host.supervisord, inet=True)))}
        for number, reader in enumerate(self.readers):
            views[f"local reader {number}"] = reader.ask()["entries"]
        said = [line for name, view in views.items() for line in difference(name, as_text(view), expected)]
        for stream in self.streams:
            # A large value is left out of what is told.
            entries = dict(stream.entries)
            told = {
                key: {**entry, "value": entry.get("value", found.get(key, entry).get("value"))}
                for key, entry in entries.items()
            }
            said += difference(stream.name, as_text(told), expected)
        said += self._history_differs(found)
        said += self._listener_differs(found, sentinel)
        told_of = self.history.digest.told()
        said += [
            f"{watcher.name}: was told {watcher.digest.told()} instead of {told_of}"
            for watcher in self.watchers
            if watcher.digest.told() != told_of
        ]
        said += [f"lost: {note}" for note in self.records.lost()[:10]]
        living = {str(process["pid"]) for process in self.host.supervisord.unix().supervisor.getAllProcessInfo()}
        said += [
            f"the owner of {key} is no more: {entry}"
            for key, entry in found.items()
            if key.startswith("owned/") and str(entry["value"]) not in living
        ]
        if cache.getRevision() != revision:
            said.append("it still changes")
        return said

    def _history_differs(self, found: dict[str, dict[str, Any]]) -> list[str]:
        known = {
            key: text([one.revision, one.note, found.get(key, {}).get("value") if one.value is UNTOLD else one.value])
            for key, one in list(self.history.replay.entries.items())
        }
        return difference(
            "history", known, {key: text([one["revision"], one["note"], one["value"]]) for key, one in found.items()}
        )

    def _listener_differs(self, found: dict[str, dict[str, Any]], sentinel: str) -> list[str]:
        path = self.host.folder / "copy"
        newest, _, state = json.loads(path.read_text()) if path.exists() else ("", 0, {})
        if newest != sentinel:
            return [f"listener: is at {newest}"]
        values = {key: text(entry["value"]) for key, entry in found.items()}
        # What XML-RPC carries as a date, the listener that catches up cannot write as JSON.
        return difference("listener", {key: text(value) for key, value in state.items()}, values)

    # What is told of it

    @property
    def restarts(self) -> list[Restart]:
        return [restart for killing in self.killings for restart in killing.killer.restarts]

    def progress(self) -> str:
        counts, newest = self.records.counts, self.samples[-1] if self.samples else None
        late = [restart.seconds for restart in self.restarts]
        takes = f"{newest.kilobytes / 1024:.1f} MB, {newest.descriptors} descriptors" if newest else "away"
        log = max((one.log_bytes for one in self.samples), default=0) / 2**20
        return (
            f"{counts[Outcome.DONE.value]} writes acknowledged, {counts[Outcome.PERHAPS.value]} unclear, "
            f"{counts[Outcome.REFUSED.value]} refused; {self.history.digest.changes} changes; {late_text(late)}; "
            f"{takes}, a log of {log:.0f} MB at most; "
            f"{len(self.host.away)} reloads and kills"
        )

    def summary(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.history.replay.kinds.most_common())
        acts = ", ".join(f"{worker.name} {worker.acts}" for worker in self.workers)
        rests = ", ".join(f"{one.kilobytes / 1024:.1f} MB and {one.descriptors}" for one in self.rests)
        lookups = sum(told["lookups"] for told in self.reading[-1]) if self.reading else 0
        return (
            f"{self.progress()}\nchanges: {kinds}\nacts: {acts}\n"
            f"at rest, memory and descriptors: {rests}\nlocal readers: {lookups} lookups"
        )


@contextlib.contextmanager
def _telling(what: Callable[[], str]) -> Iterator[None]:
    """Have a failure tell more."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{error}\n{what()}") from None


def late_text(seconds: list[float]) -> str:
    """Say how late restarts were."""
    if len(seconds) < 2:
        return f"{len(seconds)} restarts"
    ms = [value * 1000 for value in seconds]
    late = statistics.quantiles(ms, n=100, method="inclusive")[-1]
    return f"{len(ms)} restarts after {statistics.median(ms):.0f} ms, 99 % within {late:.0f}, at most {max(ms):.0f}"


def entries_of(cache: Any) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    while page := cache.getEntries("", entries[-1]["key"] if entries else "", _PAGE):
        entries += page
    return entries


def json_entries(web: Web) -> dict[str, dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = web.json(f"v1/entries?limit={_PAGE}&after={after}")
        entries += page["entries"]
        after = page["next"]
    return {entry["key"]: entry for entry in entries}
