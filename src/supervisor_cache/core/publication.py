"""What a process publishes about itself: one message, and what it may change."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from supervisor_cache.core.codec import parse_message, to_ascii_json
from supervisor_cache.core.entry import DELETE, STORE, Mutation, Owner
from supervisor_cache.core.keys import MAX_KEY_BYTES, checked_key
from supervisor_cache.core.plan import Plan, Terms, View, admit_all, key_of, measured
from supervisor_cache.core.text import shown
from supervisor_cache.core.values import check_value
from supervisor_cache.errors import InvalidArgumentsError, InvalidKeyError, LimitExceededError

PREFIX = "process/"
MAX_MESSAGE_BYTES = 64 * 1024
MAX_ENTRIES = 100
MAX_BYTES = 64 * 1024


class Publication(NamedTuple):
    """One message of a process.

    Attributes:
        store: Values by key, both without the process's prefix.
        delete: Keys, likewise.
    """

    store: Mapping[str, Any]
    delete: list[Any]


def read(body: bytes) -> Publication:
    """Read the JSON of a message.

    Raises:
        InvalidArgumentsError: It is not JSON in UTF-8, or not of the shape ``{"store": {...}, "delete": [...]}``.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidArgumentsError("not UTF-8") from None
    message: Any = parse_message(text, "store")
    if not isinstance(message, dict) or not message.keys() <= {"store", "delete"} or not message:
        raise InvalidArgumentsError('a publication is an object with "store", "delete" or both')
    store, delete = message.get("store", {}), message.get("delete", [])
    if not isinstance(store, dict) or not isinstance(delete, list):
        raise InvalidArgumentsError('"store" must be an object and "delete" an array')
    for key, value in store.items():
        try:
            check_value(value)
        except InvalidArgumentsError as error:
            raise InvalidArgumentsError(f"store[{shown(key, 40)}]{error.text.removeprefix('value')}") from None
    return Publication(store, delete)


def publish(view: View, owner: Owner, publication: Publication) -> "Plan[int | None]":
    """Store and delete what ``publication`` says below the prefix of ``owner``, who owns what is stored.

    Answers the new revision; None where nothing had to be changed.

    Raises:
        InvalidKeyError: A key can be none, or would lead out of the prefix.
        InvalidArgumentsError: A value cannot be stored, or a key is to be stored and deleted.
        LimitExceededError: The process would have too many entries, or too many bytes, or the cache would.
    """
    prefix = f"{PREFIX}{owner.name}/"
    terms = Terms(owner=owner)
    puts: list[Mutation] = []
    for key, value in publication.store.items():
        name = _name(view, prefix, key)
        puts.append((STORE, name, measured(view, name, value, terms)))
    stored = {name for _, name, _ in puts}
    deleted = dict.fromkeys(_name(view, prefix, key) for key in publication.delete)
    if not stored.isdisjoint(deleted):
        raise InvalidArgumentsError("a key is to be stored and deleted at once")
    gone: list[Mutation] = [(DELETE, name, None) for name in deleted if name in view.entries.by_key]
    _check_share(view, prefix, puts, deleted)
    admit_all(view, [*puts, *gone])
    return Plan(lambda revision: revision if puts or gone else None, [*puts, *gone])


def _name(view: View, prefix: str, key: object) -> str:
    return key_of(view, prefix + _check_relative(key))


def _check_relative(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidKeyError("a key must be a string")
    if any(segment in {"", ".", ".."} for segment in key.split("/")):
        raise InvalidKeyError(f"key {shown(key)} has a segment that is empty, . or ..")
    return checked_key(key, MAX_KEY_BYTES)


def _check_share(view: View, prefix: str, puts: list[Mutation], deleted: Mapping[str, None]) -> None:
    sizes = {
        name: entry.size for name in view.entries.keys(prefix) if (entry := view.entries.by_key.get(name)) is not None
    }
    sizes.update({name: entry.size for _, name, entry in puts if entry is not None})
    for name in deleted:
        sizes.pop(name, None)
    if len(sizes) > MAX_ENTRIES:
        raise LimitExceededError(f"the process would have {len(sizes)} entries; at most {MAX_ENTRIES} are allowed")
    if sum(sizes.values()) > MAX_BYTES:
        raise LimitExceededError(f"the process would have {sum(sizes.values())} bytes; at most {MAX_BYTES} are allowed")


def message(namespace: str, store: Mapping[str, Any], delete: Iterable[str]) -> str:
    """Write a message, as ASCII in which the marks of Supervisor cannot occur.

    Raises:
        InvalidArgumentsError: A value cannot be stored, or an argument is of another kind.
        InvalidKeyError: A key can be none.
    """
    if not isinstance(store, Mapping):
        raise InvalidArgumentsError("store must be a mapping")
    if isinstance(delete, str):
        raise InvalidArgumentsError("delete must be several keys, not one string")
    body: dict[str, Any] = {"store": dict(store)} if store else {}
    keys = list(delete)
    if keys:
        body["delete"] = keys
    # What the other side would refuse, it would drop without a word to this process.
    check_value(body)
    for key in [*store, *keys]:
        _check_relative(key)
    return f"{namespace} {to_ascii_json(body)}".replace("<", "\\u003c")
