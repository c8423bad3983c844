"""Writes by every interface there is."""

import base64
import datetime as dt
import http.client
import json
import subprocess
import xmlrpc.client
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, final
from urllib.parse import quote, urlencode

from supervisor_cache import CacheError, InvalidArgumentsError, UnknownOutcomeError, UnreachableError, connect
from supervisor_cache.client.cache import CacheClient
from tests.e2e.prober import UnixConnection
from tests.e2e.soak.host import Host, Mortal
from tests.e2e.soak.records import Add, Outcome, Records, text
from tests.e2e.soak.workers import CUT, Gate, Writer
from tests.harness import OWN_BINARIES, PASSWORD, START_SECONDS, USER

OWN_KEYS, SHARED_KEYS, CONFIGURED = 12, 6, "config/state"
# Longer than any run, and so short that it ends while all rest.
FOREVER, SOON = 1_000_000.0, (0.2, 2.0)
_BAD_ARGUMENTS = 3
_INTEGERS = (-(2**31), 2**31 - 1)
SECONDS = 30.0


class Caller(Writer):
    """A writer that chooses from all that can be written; how, is another one's business."""

    def __init__(
        self, name: str, host: Host, records: Records, gate: Gate, seed: int, pause: float, owners: list[Mortal]
    ) -> None:
        super().__init__(name, host, records, gate, seed, pause)
        self._owners = owners
        # What it has seen of shared keys, for conditions that sometimes hold.
        self._revisions: dict[str, str] = {}

    def act(self) -> None:
        (kind,) = self._dice.choices(list(self._kinds), [weight for weight, _ in self._kinds.values()])
        self._kinds[kind][1]()

    @property
    @abstractmethod
    def _kinds(self) -> dict[str, tuple[float, Callable[[], None]]]:
        """What it can do: how often, and how."""

    def _own(self) -> str:
        return f"{self.name}/{self._dice.randrange(OWN_KEYS)}"

    def _shared(self) -> str:
        return f"shared/{self._dice.randrange(SHARED_KEYS)}"

    def _value(self) -> Any:
        dice = self._dice
        values: list[Any] = [
            f"{self.name} {self._number} \u20ac",
            "x" * dice.choice((0, 10, 300, 10_000)),
            dice.randint(*_INTEGERS),
            dice.random() < 0.5,
            float(dice.randrange(1000)),
            [self._number, ["a", {}]],
            {"number": self._number, "of": self.name},
        ]
        return dice.choice(values)

    def _soon(self) -> float:
        return round(self._dice.uniform(*SOON), 3)


@final
class RpcWriter(Caller):
    """Calls the methods over XML-RPC, with a connection that it keeps."""

    def __init__(self, *args: Any, inet: bool) -> None:
        super().__init__(*args)
        self._inet = inet
        self._proxy: Any = None

    @property
    def _kinds(self) -> dict[str, tuple[float, Callable[[], None]]]:
        return {
            "store": (10, self._store),
            "date": (1, self._store_date),
            "ttl": (4, self._store_for_a_while),
            "owned": (3, self._store_owned),
            "many": (4, self._store_many),
            "add": (2, self._add),
            "storeIf": (4, self._store_if),
            "increment": (4, self._increment),
            "touch": (2, self._touch),
            "delete": (2, self._delete),
            "deleteIf": (2, self._delete_if),
            "deleteMany": (1, self._delete_many),
            "deletePrefix": (0.5, self._delete_prefix),
            "if_changed": (1, self._store_if_changed),
            "clear": (0.02, self._clear),
            "config": (0.3, self._configure),
        }

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call, and answer the result; None where the outcome is known to be no, or not known, and written down."""
        if self._proxy is None:
            self._proxy = self._host.proxy(inet=self._inet)
        try:
            return getattr(self._proxy.cache, method)(*arguments, {"note": self._note, **options})
        except xmlrpc.client.Fault as fault:
            self.end(Outcome.REFUSED)
            # Its owner has just been killed.
            if fault.faultCode != _BAD_ARGUMENTS or "owner" not in options:
                self._records.complain(f"{self._note}: {method}{arguments}: {fault.faultString}")
        except (*CUT, xmlrpc.client.ProtocolError) as error:
            self.end_unclear(error)
        return None

    def _done(self, answer: Any) -> None:
        """Take note of an answer that tells whether it was done, perhaps with the revision."""
        if answer is not None:
            self.end(Outcome.DONE if answer else Outcome.REFUSED, answer if isinstance(answer, str) else "")

    def _store(self) -> None:
        key, value = self._own(), self._value()
        self.begin({key: value})
        self._done(self._call("store", key, value))

    def _store_date(self) -> None:
        key, value = self._own(), dt.datetime(2026, 11, 3, 12, 0, self._dice.randrange(60))  # noqa: DTZ001 - it has no zone
        self.begin({key: value})
        self._done(self._call("store", key, xmlrpc.client.DateTime(value)))

    def _store_for_a_while(self) -> None:
        key, value = f"{self.name}/ttl/{self._dice.randrange(100)}", self._value()
        self.begin({key: value})
        self._done(self._call("store", key, value, ttl=self._soon()))

    def _store_owned(self) -> None:
        owner = self._dice.choice(self._owners)
        pid, key = owner.newest()[1], f"owned/{owner.name}/{self._dice.randrange(3)}"
        if pid:
            self.begin({key: pid})
            self._done(self._call("store", key, pid, owner=owner.name, pid=pid))

    def _store_many(self) -> None:
        items = {self._own(): self._value() for _ in range(self._dice.randint(1, 10))}
        self.begin(items)
        self._done(self._call("storeMany", items))

    def _add(self) -> None:
        key, value = self._shared(), self._value()
        self.begin({key: value})
        self._done(self._remembered(key, self._call("add", key, value)))

    def _remembered(self, key: str, answer: Any) -> Any:
        if answer:
            self._revisions[key] = answer
        return answer

    def _store_if(self) -> None:
        key, value = self._shared(), self._value()
        self.begin({key: value})
        self._done(self._remembered(key, self._call("storeIf", key, value, self._revisions.get(key, ""))))

    def _increment(self) -> None:
        key, delta = f"counter/{self._dice.randrange(4)}", self._dice.randint(-2, 5)
        self.begin({key: Add(delta)})
        # None where nothing is known; 0 is an answer as good as any.
        answer = self._call("increment", key, delta)
        self._done(None if answer is None else True)

    def _touch(self) -> None:
        key = self._own()
        self.begin()
        self._done(self._call("touch", key, FOREVER))

    def _delete(self) -> None:
        key = self._own()
        self.begin()
        if self._call("delete", key):
            self.end(Outcome.PERHAPS)

    def _delete_if(self) -> None:
        key = self._shared()
        self.begin()
        self._done(self._call("deleteIf", key, self._revisions.get(key, "1")))

    def _delete_many(self) -> None:
        keys = [self._own() for _ in range(3)]
        self.begin()
        self._done(self._call("deleteMany", keys))

    def _delete_prefix(self) -> None:
        self.begin()
        self._done(self._call("deletePrefix", f"{self.name}/ttl/"))

    def _store_if_changed(self) -> None:
        key, value = f"{self.name}/same", self._number // 20
        self.begin({key: value})
        if self._call("store", key, value, if_changed=True):
            self.end(Outcome.PERHAPS)

    def _clear(self) -> None:
        self.begin()
        self._done(self._call("clear"))

    def _configure(self) -> None:
        self.begin({CONFIGURED: self._number})
        self._done(self._call("store", CONFIGURED, self._number))

    def disconnect(self) -> None:
        if self._proxy is not None:
            self._proxy("close")()
            self._proxy = None


@final
class ClientWriter(Caller):
    """Uses the Python client."""

    def __init__(self, *args: Any, inet: bool) -> None:
        super().__init__(*args)
        supervisord = self._host.supervisord
        login = {"user": USER, "password": PASSWORD} if inet else {}
        self._url, self._login = supervisord.inet_url if inet else supervisord.unix_url, login
        self._cache: CacheClient | None = None

    @property
    def _kinds(self) -> dict[str, tuple[float, Callable[[], None]]]:
        return {
            "store": (10, self._store),
            "ttl": (3, self._store_for_a_while),
            "owned": (2, self._store_owned),
            "update": (3, self._update),
            "add": (2, self._add),
            "store_if": (4, self._store_if),
            "increment": (3, self._increment),
            "touch": (2, self._touch),
            "delete": (2, self._delete),
        }

    def _call(self, call: Callable[[CacheClient], Any], *, owned: bool = False) -> Any:
        if self._cache is None:
            self._cache = connect(self._url, timeout=SECONDS, **self._login)
        try:
            return call(self._cache)
        except UnknownOutcomeError as error:
            self.end_unclear(error)
        except UnreachableError as error:
            # Certainly not stored.
            self.end(Outcome.REFUSED)
            self._records.counts["unreachable"] += 1
            self.look_for_a_reason(error)
        except InvalidArgumentsError as error:
            self.end(Outcome.REFUSED)
            # Its owner has just been killed.
            if not owned:
                self._records.complain(f"{self._note}: {error}")
        except CacheError as error:
            self.end(Outcome.REFUSED)
            self._records.complain(f"{self._note}: {error!r}")
        return None

    def _is_taken(self, call: Callable[[CacheClient], int | None]) -> int | None:
        """Call what answers the new revision, or None where there is none."""
        answer = self._call(lambda cache: call(cache) or 0)
        if answer is not None:
            self.end(Outcome.DONE if answer else Outcome.REFUSED, str(answer) if answer else "")
        return answer or None

    def _is_done(
        self, call: Callable[[CacheClient], object], outcome: Outcome = Outcome.DONE, *, owned: bool = False
    ) -> None:
        """Call what raises where it is not done."""

        def done(cache: CacheClient) -> bool:
            call(cache)
            return True

        if self._call(done, owned=owned):
            self.end(outcome)

    def _store(self) -> None:
        key, value = self._own(), self._value()
        note = self.begin({key: value})
        self._is_done(lambda cache: cache.store(key, value, note=note))

    def _store_for_a_while(self) -> None:
        key, value, ttl = f"{self.name}/ttl/{self._dice.randrange(100)}", self._value(), self._soon()
        note = self.begin({key: value})
        self._is_done(lambda cache: cache.store(key, value, note=note, ttl=ttl))

    def _store_owned(self) -> None:
        owner = self._dice.choice(self._owners)
        pid, key = owner.newest()[1], f"owned/{owner.name}/{self._dice.randrange(3)}"
        if pid:
            note = self.begin({key: pid})
            self._is_done(lambda cache: cache.store(key, pid, note=note, owner=owner.name, pid=pid), owned=True)

    def _update(self) -> None:
        items = {self._own(): self._value() for _ in range(self._dice.randint(1, 10))}
        note = self.begin(dict(items))
        self._is_taken(lambda cache: cache.store_many(items, note=note))

    def _add(self) -> None:
        key, value = self._shared(), self._value()
        note = self.begin({key: value})
        taken = self._is_taken(lambda cache: cache.add(key, value, note=note))
        self._revisions[key] = str(taken or self._revisions.get(key, "1"))

    def _store_if(self) -> None:
        key, value = self._shared(), self._value()
        note = self.begin({key: value})
        revision = self._revisions.get(key)
        taken = self._is_taken(lambda cache: cache.store_if(key, value, int(revision) if revision else None, note=note))
        self._revisions[key] = str(taken or "")

    def _increment(self) -> None:
        key, delta = f"counter/{self._dice.randrange(4)}", self._dice.randint(-2, 5)
        note = self.begin({key: Add(delta)})
        self._is_done(lambda cache: cache.increment(key, delta, note=note))

    def _touch(self) -> None:
        key = self._own()
        note = self.begin()
        self._is_taken(lambda cache: cache.touch(key, FOREVER, note=note))

    def _delete(self) -> None:
        key = self._own()
        note = self.begin()
        self._is_done(lambda cache: cache.delete(key, note=note), Outcome.PERHAPS)

    def disconnect(self) -> None:
        if self._cache is not None:
            self._cache.close()
            self._cache = None


@final
class JsonWriter(Caller):
    """Uses the JSON interface, with a connection that it keeps."""

    def __init__(self, *args: Any, inet: bool) -> None:
        super().__init__(*args)
        self._inet = inet
        self._connection: http.client.HTTPConnection | None = None

    @property
    def _kinds(self) -> dict[str, tuple[float, Callable[[], None]]]:
        return {
            "put": (8, self._put),
            "ttl": (3, self._put_for_a_while),
            "owned": (2, self._put_owned),
            "create": (2, self._create),
            "match": (4, self._put_if),
            "batch": (4, self._batch),
            "increment": (3, self._increment),
            "touch": (2, self._touch),
            "delete": (2, self._delete),
        }

    def _ask(self, method: str, path: str, value: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request, and answer status and body; status 0 where there is no answer, which is written down."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            sent = {"Content-Type": "application/json", **self._login(), **headers}
            body = None if value is None else text(value).encode()
            self._connection.request(method, f"/cache/v1/{path}", body, sent)
            response = self._connection.getresponse()
            answer = response.read()
        except CUT as error:
            self.end_unclear(error)
            return 0, None
        return response.status, json.loads(answer) if answer else None

    def _connect(self) -> http.client.HTTPConnection:
        supervisord = self._host.supervisord
        if self._inet:
            return http.client.HTTPConnection("127.0.0.1", supervisord.port, timeout=SECONDS)
        return UnixConnection(str(supervisord.socket_path), SECONDS)

    def _login(self) -> dict[str, str]:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return {"Authorization": f"Basic {login}"} if self._inet else {}

    def _settle(self, asked: tuple[int, Any], *no: int, outcome: Outcome = Outcome.DONE) -> str:
        """Take note of an answer, which may be ``no`` with these statuses; answer the revision where there is one."""
        status, answer = asked
        revision = answer.get("revision", "") if isinstance(answer, dict) else ""
        if status in {200, 201, 204}:
            self.end(outcome, revision if outcome is Outcome.DONE else "")
        elif status:
            self.end(Outcome.REFUSED)
            if status not in no:
                self._records.complain(f"{self._note}: {status} {answer}")
        return str(revision)

    def _path(self, key: str, **query: object) -> str:
        return f"entries/{quote(key)}?{urlencode({'note': self._note, **query})}"

    def _put(self) -> None:
        key, value = self._own(), self._value()
        self.begin({key: value})
        self._settle(self._ask("PUT", self._path(key), value))

    def _put_for_a_while(self) -> None:
        key, value = f"{self.name}/ttl/{self._dice.randrange(100)}", self._value()
        self.begin({key: value})
        self._settle(self._ask("PUT", self._path(key, ttl=self._soon()), value))

    def _put_owned(self) -> None:
        owner = self._dice.choice(self._owners)
        pid, key = owner.newest()[1], f"owned/{owner.name}/{self._dice.randrange(3)}"
        if pid:
            self.begin({key: pid})
            self._settle(self._ask("PUT", self._path(key, owner=owner.name, pid=pid), pid), 400)

    def _create(self) -> None:
        key, value = self._shared(), self._value()
        self.begin({key: value})
        headers = {"If-None-Match": "*"}
        self._revisions[key] = self._settle(self._ask("PUT", self._path(key), value, **headers), 412)

    def _put_if(self) -> None:
        key, value = self._shared(), self._value()
        self.begin({key: value})
        headers = {"If-Match": f'"{self._revisions.get(key) or 1}"'}
        self._revisions[key] = self._settle(self._ask("PUT", self._path(key), value, **headers), 412)

    def _batch(self) -> None:
        items = {self._own(): self._value() for _ in range(self._dice.randint(1, 10))}
        self.begin(items)
        shared = self._shared()
        gone = [shared] if self._dice.random() < 0.2 else []
        batch = {
            "store": items,
            "delete": gone,
            "if": {shared: self._revisions.get(shared) or "1"} if gone else {},
            "options": {"note": self._note},
        }
        self._settle(self._ask("POST", "batch", batch), 412)

    def _increment(self) -> None:
        key, delta = f"counter/{self._dice.randrange(4)}", self._dice.randint(-2, 5)
        self.begin({key: Add(delta)})
        self._settle(self._ask("POST", "increment", {"key": key, "delta": delta, "note": self._note}))

    def _touch(self) -> None:
        key = self._own()
        self.begin()
        self._settle(self._ask("POST", "touch", {"key": key, "ttl": FOREVER, "note": self._note}), 404)

    def _delete(self) -> None:
        key = self._own()
        self.begin()
        self._settle(self._ask("DELETE", self._path(key)), outcome=Outcome.PERHAPS)

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Program(Caller):
    """Writes with a program, started anew for each write."""

    program: Path
    before: tuple[str, ...] = ()
    prefix = ""

    @property
    def _kinds(self) -> dict[str, tuple[float, Callable[[], None]]]:
        return {
            "store": (6, self._store),
            "json": (3, self._store_json),
            "ttl": (2, self._store_for_a_while),
            "increment": (2, self._increment),
            "delete": (1, self._delete),
        }

    def _run(self, verb: str, *arguments: str) -> bool:
        """Run it; answer whether it ended well. What it came to otherwise is written down."""
        command = [str(self.program), *self._options(), f"{self.prefix}{verb}", "--note", self._note, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=START_SECONDS * 2, check=False
        )
        if done.returncode:
            self.end_unclear(f"{verb} {arguments}: {done.returncode} {done.stdout} {done.stderr}")
        return not done.returncode

    @abstractmethod
    def _options(self) -> list[str]:
        """Those that say whom to ask."""

    def _store(self) -> None:
        key, value = self._own(), f"{self._number} 'a b' \"c\" \\"
        self.begin({key: value})
        if self._run("store", key, value):
            self.end(Outcome.DONE)

    def _store_json(self) -> None:
        key, value = self._own(), self._value()
        self.begin({key: value})
        if self._run("store", "--json", key, json.dumps(value)):
            self.end(Outcome.DONE)

    def _store_for_a_while(self) -> None:
        key, value = f"{self.name}/ttl/{self._dice.randrange(10)}", str(self._number)
        self.begin({key: value})
        if self._run("store", "--ttl", str(self._soon()), key, value):
            self.end(Outcome.DONE)

    def _increment(self) -> None:
        key, delta = f"counter/{self._dice.randrange(4)}", self._dice.randint(1, 5)
        self.begin({key: Add(delta)})
        if self._run("increment", key, str(delta)):
            self.end(Outcome.DONE)

    def _delete(self) -> None:
        key = self._own()
        self.begin()
        if self._run("delete", key):
            self.end(Outcome.PERHAPS)


@final
class CtlWriter(_Program):
    """``supervisorctl``."""

    program = OWN_BINARIES / "supervisorctl"
    prefix = "cache_"

    def _options(self) -> list[str]:
        return ["-c", str(self._host.supervisord.configuration)]


@final
class CommandWriter(_Program):
    """``supervisor-cache``."""

    program = OWN_BINARIES / "supervisor-cache"

    def _options(self) -> list[str]:
        return ["--url", self._host.supervisord.unix_url]
