"""The JSON interface: what each path and method means, as a function of a request."""

import re
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from supervisor_cache.core import operations
from supervisor_cache.core.answer import Answer
from supervisor_cache.core.cache import Operation
from supervisor_cache.core.codec import from_json, parse_message
from supervisor_cache.core.entry import Entry
from supervisor_cache.core.history import Change
from supervisor_cache.core.keys import checked_key, checked_prefix
from supervisor_cache.core.limits import MAX_REPLY_BYTES, MAX_REPLY_ENTRIES
from supervisor_cache.core.options import checked_revision, checked_timeout, checked_ttl, touch_options
from supervisor_cache.errors import (
    CacheError,
    FullError,
    InvalidArgumentsError,
    LimitExceededError,
    NoSuchKeyError,
    OutOfRangeError,
    ReadOnlyError,
    ShutdownError,
    UnavailableError,
)
from supervisor_cache.http import openapi, page
from supervisor_cache.http.clients import Client
from supervisor_cache.http.metrics import CONTENT_TYPE as METRICS
from supervisor_cache.http.metrics import metrics
from supervisor_cache.http.replies import JSON, TEXT, Reply, answer, as_json, problem, problem_of
from supervisor_cache.http.requests import Asked, Refused, key_in_path
from supervisor_cache.http.shapes import change_json, entry_json, value_json
from supervisor_cache.http.watching import Watchers
from supervisor_cache.server.namespace import Namespace

T = TypeVar("T")

# Of a listing, and of changes, where a request names no limit.
_PAGE = 500
_ANY_LENGTH = 2**31
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?")
_OPTIONS = ("ttl", "owner", "pid", "note", "if_changed")
_SPARE = 1024


class Host(Protocol):
    """What is asked of the running supervisord."""

    def shutting_down(self) -> bool:
        """Whether it is on its way out; a reload does not count."""

    def identification(self) -> str:
        """The fixed string of its configuration file."""


class Routes:
    """One cache as seen through one HTTP server.

    Args:
        namespace: The cache.
        server: The section of the HTTP server.
        host: The running supervisord.
        watchers: Those who wait for its changes.
    """

    def __init__(self, namespace: Namespace, server: str, host: Host, watchers: Watchers) -> None:
        self._namespace = namespace
        self._cache = namespace.cache
        self._server = server
        self._host = host
        self._watchers = watchers
        self._paths: dict[str, dict[str, Callable[[Asked, Client], None]]] = {
            "": {"GET": self._page},
            "v1/entries": {"GET": self._entries, "PUT": self._put, "DELETE": self._delete},
            "v1/values": {"GET": self._value},
            "v1/increment": {"POST": self._increment},
            "v1/touch": {"POST": self._touch},
            "v1/batch": {"POST": self._batch},
            "v1/changes": {"GET": self._changes},
            "v1/stream": {"GET": self._stream},
            "v1/stats": {"GET": self._stats},
            "v1/openapi.json": {"GET": self._openapi},
            "metrics": {"GET": self._metrics},
        }

    def handle(self, asked: Asked, client: Client) -> None:
        """Answer a request, now or later."""
        try:
            self._handle(asked, client)
        except Refused as refused:
            client.respond(problem(refused.status, refused.detail, refused.headers))
        except CacheError as error:
            client.respond(_told(error))

    def _handle(self, asked: Asked, client: Client) -> None:
        methods = self._methods(asked.path)
        method = methods.get("GET" if asked.method == "HEAD" else asked.method)
        if method is None:
            allowed = ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))
            if asked.method == "OPTIONS":
                client.respond(Reply(204, headers={"Allow": allowed}))
                return
            raise Refused(405, f"only {allowed} here", {"Allow": allowed})
        self._check_running()
        method(asked, client)

    def _methods(self, path: str) -> dict[str, Callable[[Asked, Client], None]]:
        if path.startswith("static/"):
            return {"GET": self._static}
        name = path
        if path.startswith("v1/values/"):
            name = "v1/values"  # and a key
        elif path.startswith("v1/entries/"):
            name = "v1/entries"
        found = self._paths.get(name)
        if found is None:
            raise Refused(404, "there is nothing here; v1/openapi.json says what there is")
        return found

    def _check_running(self) -> None:
        if self._host.shutting_down():
            raise ShutdownError("supervisord is shutting down")

    def _check_readable(self) -> None:
        if self._namespace.refusal:
            raise UnavailableError(self._namespace.refusal)

    # Reading

    def _page(self, asked: Asked, client: Client) -> None:
        asked.parameters()
        client.respond(page.PAGE)

    def _static(self, asked: Asked, client: Client) -> None:
        asked.parameters()
        found = page.FILES.get(asked.path.removeprefix("static/"))
        if found is None:
            raise Refused(404, "there is no such file")
        client.respond(found)

    def _entries(self, asked: Asked, client: Client) -> None:
        self._check_readable()
        key = self._key(asked, "v1/entries", "prefix", "after", "limit")
        if key is not None:
            asked.parameters("key")  # and none of a listing's
            client.respond(self._one(asked, key))
            return
        given = asked.parameters("prefix", "after", "limit")
        asked.tags("if-none-match")  # a listing has no tag, but what is wrong is said
        limit = _count(given, "limit", MAX_REPLY_ENTRIES) or _PAGE
        # Before they are read, for to ask for it can make entries expire: who follows from it on is told of their end.
        revision = self._cache.revision
        found, more = self._cache.page(given.get("prefix", ""), given.get("after", ""), limit, MAX_REPLY_BYTES)
        shown = ",".join([entry_json(self._cache, name, entry) for name, entry in found])
        following = as_json(found[-1][0]).decode() if more else "null"
        text = f'{{"revision":"{revision}","entries":[{shown}],"next":{following}}}'
        client.respond(Reply(200, text.encode()))

    def _one(self, asked: Asked, key: str) -> Reply:
        entry = self._cache.entry(key)
        tag = _tag(entry.revision)
        if _is_known(asked, entry):
            return Reply(304, headers=tag)
        return Reply(200, entry_json(self._cache, key, entry).encode(), JSON, tag)

    def _value(self, asked: Asked, client: Client) -> None:
        self._check_readable()
        key = self._key(asked, "v1/values")
        if key is None:
            raise InvalidArgumentsError("the key is missing: v1/values/KEY, or ?key=")
        entry = self._cache.entry(key)
        tag = _tag(entry.revision)
        if _is_known(asked, entry):
            client.respond(Reply(304, headers=tag, sandboxed=True))
        elif isinstance(entry.packed, str):
            client.respond(Reply(200, entry.packed.encode(), TEXT, tag, sandboxed=True))
        else:
            client.respond(Reply(200, value_json(entry.packed).encode(), JSON, tag, sandboxed=True))

    def _stats(self, asked: Asked, client: Client) -> None:
        asked.parameters()
        stats = self._namespace.stats(self._host.identification())
        writable = self._server not in self._namespace.settings.read_only
        confined = self._server in self._namespace.settings.confine
        here = {"server": self._server, "writable": writable, "confined": confined}
        client.respond(answer(200, {**stats, **here}))

    def _metrics(self, asked: Asked, client: Client) -> None:
        asked.parameters()
        text = metrics(self._namespace, self._host.identification())
        client.respond(Reply(200, text.encode(), METRICS))

    def _openapi(self, asked: Asked, client: Client) -> None:
        asked.parameters()
        client.respond(openapi.reply(self._namespace.name))

    def _changes(self, asked: Asked, client: Client) -> None:
        self._check_readable()
        given = asked.parameters("since", "prefix", "limit", "wait")
        prefix = checked_prefix(given.get("prefix", ""))
        limit = _count(given, "limit", MAX_REPLY_ENTRIES) or _PAGE
        wait = checked_timeout(_number(given, "wait"))
        since = checked_revision(given["since"]) if given.get("since") else self._cache.revision
        is_told, reply = self._changes_after(since, prefix, limit)
        if wait and not is_told:
            with _too_many_watchers():
                self._watchers.poll(client, self._server, prefix, wait, self._settle(since, prefix, limit))
            return
        client.respond(reply)

    def _settle(self, since: int, prefix: str, limit: int) -> Callable[[], Reply]:
        def reply() -> Reply:
            try:
                self._check_running()
                self._check_readable()
                return self._changes_after(since, prefix, limit)[1]
            except CacheError as error:
                return _told(error)

        return reply

    def _changes_after(self, since: int, prefix: str, limit: int) -> tuple[bool, Reply]:
        """Answer whether there are changes, and the reply."""
        found: list[Change] = []
        # In this order: to ask for changes can make entries expire, and what the revision includes must not go untold.
        newest = self._cache.revision
        while True:
            try:
                found = self._cache.changes(str(since), prefix, limit)
                break
            except LimitExceededError:
                if limit == 1:
                    raise
                limit //= 2
        if not found:
            return False, answer(200, {"revision": str(max(since, newest)), "changes": []})
        last = found[-1].revision
        # A commit that would have passed the limit comes next time, whole.
        revision = last if self._cache.changed_since(last, prefix) else max(last, newest)
        shown = ",".join(map(change_json, found))
        return True, Reply(200, f'{{"revision":"{revision}","changes":[{shown}]}}'.encode())

    def _stream(self, asked: Asked, client: Client) -> None:
        self._check_readable()
        given = asked.parameters("prefix", "since")
        prefix = checked_prefix(given.get("prefix", ""))
        last = asked.headers.get("last-event-id") or given.get("since", "")
        since = checked_revision(last) if last else None
        if asked.method == "HEAD":
            client.respond(Reply(200, kind="text/event-stream"))
            return
        with _too_many_watchers():
            self._watchers.stream(client, self._server, prefix, since)

    # Writing

    def _put(self, asked: Asked, client: Client) -> None:
        key = self._key_to_write(asked, *_OPTIONS)
        options = _options(asked.parameters("key", *_OPTIONS))
        # A browser's form could send the other types.
        value = from_json(_text(asked)) if _is_json(asked) else _text(asked)
        matching, new = asked.tags("if-match"), asked.tags("if-none-match")
        old = self._cache.peek(key)
        if new is not None:
            if new != ["*"] or matching is not None:
                raise InvalidArgumentsError("If-None-Match must be *, and goes with no If-Match")
            operation: Operation[int | None] = operations.add
            args: tuple[object, ...] = (key, value, options)
        elif matching is not None:
            revision = _matched(matching, old)
            operation, args = operations.store_if, (key, value, revision, options)
        else:
            operation, args = operations.replace, (key, value, options)
        conditional = new is not None or matching is not None

        def reply(revision: int | None) -> Reply:
            if revision is None and conditional:
                return _failed()
            number = revision if revision is not None or old is None else old.revision
            status = 201 if old is None else 200
            return answer(status, {"key": key, "revision": str(number)}, _tag(number))

        self._write(client, reply, operation, *args)

    def _delete(self, asked: Asked, client: Client) -> None:
        key = self._key_to_write(asked, "note")
        given = asked.parameters("key", "note")
        options = {"note": given["note"]} if given.get("note") else ""
        _refuse_none_match(asked)
        matching = asked.tags("if-match")
        if matching is None:
            self._write(client, lambda _done: Reply(204), operations.delete, key, options)
            return
        revision = _matched(matching, self._cache.peek(key))
        self._write(
            client, lambda done: Reply(204) if done else _failed(), operations.delete_if, key, revision, options
        )

    def _increment(self, asked: Asked, client: Client) -> None:
        self._check_writable()
        _refuse_conditions(asked)
        given = _object(asked, ("key",), ("delta", *_OPTIONS))
        key, delta = given.pop("key"), given.pop("delta", 1)

        def reply(value: int) -> Reply:
            entry = self._cache.peek(key)
            revision = self._cache.revision if entry is None else entry.revision
            return answer(200, {"key": key, "value": value, "revision": str(revision)}, _tag(revision))

        self._write(client, reply, operations.increment, key, delta, given or "")

    def _touch(self, asked: Asked, client: Client) -> None:
        self._check_writable()
        given = _object(asked, ("key", "ttl"), ("owner", "pid", "note"))
        key, ttl = given.pop("key"), given.pop("ttl")
        # What is wrong comes before what does not hold.
        checked_key(key, _ANY_LENGTH)
        checked_ttl(ttl, may_be_zero=True)
        touch_options(given)
        _refuse_none_match(asked)
        matching = asked.tags("if-match")

        def reply(revision: int | None) -> Reply:
            if revision is not None:
                return answer(200, {"key": key, "revision": str(revision)}, _tag(revision))
            if matching is None:
                return _told(NoSuchKeyError(f"no such key: {key!a}"))
            return _failed()

        if matching is None:
            self._write(client, reply, operations.touch, key, ttl, given or "")
        else:
            revision = _matched(matching, self._cache.peek(key))
            self._write(client, reply, operations.touch_if, key, ttl, revision, given or "")

    def _batch(self, asked: Asked, client: Client) -> None:
        self._check_writable()
        _refuse_conditions(asked)
        given = _object(asked, (), ("store", "delete", "if", "options"))
        before = self._cache.revision

        def reply(done: int | list[str] | None) -> Reply:
            if isinstance(done, list):
                return problem(412, "the condition does not hold", keys=done)
            return answer(200, {"revision": str(before if done is None else done)})

        items, keys = given.get("store", {}), given.get("delete", [])
        self._write(client, reply, operations.batch, items, keys, given.get("if", {}), given.get("options", ""))

    def _check_writable(self) -> None:
        self._check_readable()
        if self._server in self._namespace.settings.read_only:
            self._cache.counters.refused += 1
            raise ReadOnlyError(f"{self._server} only reads {self._namespace.name}; option read_only names it")

    def _write(self, client: Client, reply: Callable[[T], Reply], operation: Operation[T], *args: object) -> None:
        done = self._cache.write(operation, self._server, *args)
        if not isinstance(done, Answer):
            client.respond(reply(done))
            return
        pending: Answer[T] = done

        def settle() -> None:
            try:
                client.respond(reply(pending.result()))
            except CacheError as error:
                client.respond(_told(error))

        pending.when_done(settle)

    # Keys

    def _key_to_write(self, asked: Asked, *known: str) -> str:
        self._check_writable()
        key = self._key(asked, "v1/entries", *known)
        if key is None:
            raise InvalidArgumentsError("the key is missing: v1/entries/KEY, or ?key=")
        return checked_key(key, _ANY_LENGTH)

    def _key(self, asked: Asked, start: str, *known: str) -> str | None:
        """Answer the key in the path or in the query; None where there is none."""
        if asked.path.startswith(start + "/"):
            text = asked.path[len(start) + 1 :]
            if not asked.query or "key" not in asked.parameters("key", *known):
                return key_in_path(text)
            if text:
                raise InvalidArgumentsError("the key stands in the path and in the query")
        return asked.parameters("key", *known).get("key")


class _too_many_watchers:  # noqa: N801 - used as a function is
    """Make `LimitExceededError` the status that is for it."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, LimitExceededError):
            raise _TooManyError(error.text) from None


class _TooManyError(LimitExceededError):
    """Too many watch already."""


def _told(error: CacheError) -> Reply:
    status = 413
    if isinstance(error, FullError):
        status = 507
    elif isinstance(error, OutOfRangeError):
        status = 409
    elif isinstance(error, _TooManyError):
        status = 429
    return problem_of(error, too_large=status)


def _tag(revision: int | None) -> dict[str, str]:
    return {"ETag": f'"{revision}"'}


def _is_known(asked: Asked, entry: Entry) -> bool:
    tags = asked.tags("if-none-match")
    return tags is not None and bool({"*", str(entry.revision)} & set(tags))


def _matched(tags: list[str], entry: Entry | None) -> str:
    """Answer the revision that ``If-Match`` asks for; raises `Refused` where the entry has another."""
    if entry is not None and {"*", str(entry.revision)} & set(tags):
        return str(entry.revision)
    raise Refused(412, "no such key" if entry is None else "the entry has another revision")


def _refuse_conditions(asked: Asked) -> None:
    if {"if-match", "if-none-match"} & asked.headers.keys():
        raise InvalidArgumentsError("If-Match and If-None-Match go with neither increment nor batch, which has `if`")


def _refuse_none_match(asked: Asked) -> None:
    if "if-none-match" in asked.headers:
        raise InvalidArgumentsError("If-None-Match goes with PUT and with reading; here it is If-Match")


def _failed() -> Reply:
    return problem(412, "the condition does not hold")


def _is_json(asked: Asked) -> bool:
    kind = asked.media_type()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _text(asked: Asked) -> str:
    try:
        return asked.body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidArgumentsError("the body is not UTF-8") from None


def _object(asked: Asked, needed: tuple[str, ...], known: tuple[str, ...]) -> dict[str, Any]:
    """Read a body that is a JSON object."""
    if not _is_json(asked):
        raise Refused(415, "the body must be JSON, and its Content-Type application/json")
    given: Any = parse_message(_text(asked), "store")
    if not isinstance(given, dict):
        raise InvalidArgumentsError("the body must be an object")
    for name in given:
        if name not in (*needed, *known):
            raise InvalidArgumentsError(f"unknown member {name[:40]!a}; known are {', '.join((*needed, *known))}")
    for name in needed:
        if name not in given:
            raise InvalidArgumentsError(f"{name} is missing")
    return dict(given)


def _options(given: dict[str, str]) -> dict[str, Any] | str:
    options: dict[str, Any] = {name: given[name] for name in ("owner", "note") if given.get(name)}
    if "ttl" in given:
        options["ttl"] = _number(given, "ttl")
    if "pid" in given:
        options["pid"] = _count(given, "pid", 2**31)
    if "if_changed" in given:
        if given["if_changed"] not in {"true", "false"}:
            raise InvalidArgumentsError("if_changed must be true or false")
        options["if_changed"] = given["if_changed"] == "true"
    return options or ""


def _number(given: dict[str, str], name: str) -> float:
    text = given.get(name, "0")
    if not _NUMBER.fullmatch(text):
        raise InvalidArgumentsError(f"{name} must be a number")
    return float(text)


def _count(given: dict[str, str], name: str, most: int) -> int:
    text = given.get(name) or "0"
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) > most:
        raise InvalidArgumentsError(f"{name} must be a whole number of at most {most}")
    return int(text)
