"""Writes over XML-RPC."""

import datetime as dt
import xmlrpc.client
from collections.abc import Callable
from typing import Any, final

from tests.e2e.soak.records import Add, Outcome
from tests.e2e.soak.workers import CUT
from tests.e2e.soak.writers import CONFIGURED, FOREVER, Caller

_BAD_ARGUMENTS = 3


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
