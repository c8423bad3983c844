"""Writes over the JSON interface."""

import base64
import http.client
import json
from collections.abc import Callable
from typing import Any, final
from urllib.parse import quote, urlencode

from tests.e2e.prober import UnixConnection
from tests.e2e.soak.records import Add, Outcome, text
from tests.e2e.soak.workers import CUT
from tests.e2e.soak.writers import FOREVER, SECONDS, Caller
from tests.harness import PASSWORD, USER


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
