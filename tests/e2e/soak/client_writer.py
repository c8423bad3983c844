"""Writes with the Python client."""

from collections.abc import Callable
from typing import Any, final

from supervisor_cache import CacheError, InvalidArgumentsError, UnknownOutcomeError, UnreachableError, connect
from supervisor_cache.client.cache import CacheClient
from tests.e2e.soak.records import Add, Outcome
from tests.e2e.soak.writers import FOREVER, SECONDS, Caller
from tests.harness import PASSWORD, USER


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
