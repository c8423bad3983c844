"""The struct of options that a write takes as its last argument, and other arguments that many calls share."""

import re
from typing import Any, NamedTuple

from supervisor_cache.core.keys import checked_note
from supervisor_cache.core.text import shown
from supervisor_cache.errors import InvalidArgumentsError

_REVISION = re.compile("[0-9]{1,20}", re.ASCII)

MAX_TTL = 10 * 366 * 86_400
# Below the 30 minutes after which Supervisor closes the connection of a silent client.
MAX_TIMEOUT = 1500


class Options(NamedTuple):
    """Options of a write; None for what is not given.

    Attributes:
        ttl: Seconds after which the entry ends.
        owner: The process that it ends with, as ``GROUP:NAME`` or ``NAME``; empty for none.
        pid: The pid that this process must have.
        note: Who and why.
        if_changed: Where the entry is there already and equal, do nothing.
    """

    ttl: float | None = None
    owner: str | None = None
    pid: int | None = None
    note: str | None = None
    if_changed: bool = False


NONE = Options()
_OF_A_STORE = Options._fields
_OF_A_TOUCH = ("owner", "pid", "note")
_OF_A_DELETE = ("note",)


def store_options(struct: object) -> Options:
    """Read the options of a write that stores.

    Raises:
        InvalidArgumentsError: An option is unknown or has a wrong value.
    """
    return NONE if struct == "" else _read(struct, _OF_A_STORE)


def touch_options(struct: object) -> Options:
    """Read the options of a write that keeps the value; raises as `store_options` does."""
    return NONE if struct == "" else _read(struct, _OF_A_TOUCH)


def delete_options(struct: object) -> Options:
    """Read the options of a write that deletes; raises as `store_options` does."""
    return NONE if struct == "" else _read(struct, _OF_A_DELETE)


def _read(struct: object, known: tuple[str, ...]) -> Options:
    if not isinstance(struct, dict):
        raise InvalidArgumentsError("options must be a struct")
    for name in struct:
        if name not in known:
            raise InvalidArgumentsError(f"unknown option {shown(str(name))}; this call knows {', '.join(known)}")
    given = dict(struct)
    if "ttl" in given:
        given["ttl"] = checked_ttl(given["ttl"])
    if "note" in given:
        given["note"] = checked_note(given["note"])
    _check_owner(given)
    if type(given.get("if_changed", False)) is not bool:
        raise InvalidArgumentsError("option if_changed must be a boolean")
    return Options(**given)


def _check_owner(given: dict[str, Any]) -> None:
    if not isinstance(given.get("owner", ""), str):
        raise InvalidArgumentsError("option owner must be a string")
    if "pid" in given:
        pid = given["pid"]
        if type(pid) is not int or pid <= 0:
            raise InvalidArgumentsError("option pid must be an integer above 0")
        if not given.get("owner"):
            raise InvalidArgumentsError("option pid goes with owner")


def checked_ttl(ttl: object, *, may_be_zero: bool = False) -> float:
    """Read a number of seconds above 0, or of at least that, and of at most `MAX_TTL`.

    Raises:
        InvalidArgumentsError: It is none.
    """
    is_one = type(ttl) in {int, float} and 0 <= ttl <= MAX_TTL  # type: ignore[operator]  # a number by now
    if not is_one or not (ttl or may_be_zero):
        bounds = "of at least 0" if may_be_zero else "above 0"
        raise InvalidArgumentsError(f"ttl must be a number of seconds {bounds}, and at most {MAX_TTL}")
    return float(ttl)  # type: ignore[arg-type]  # likewise


def checked_timeout(timeout: object) -> float:
    """Read how many seconds to wait, from 0 to `MAX_TIMEOUT`.

    Raises:
        InvalidArgumentsError: It is none.
    """
    if type(timeout) not in {int, float} or not 0 <= timeout <= MAX_TIMEOUT:  # type: ignore[operator]
        raise InvalidArgumentsError(f"timeout must be a number of seconds from 0 to {MAX_TIMEOUT}")
    return float(timeout)  # type: ignore[arg-type]


def checked_revision(revision: object) -> int:
    """Read a revision as the methods hand it out: a decimal string, ``''`` (as 0) for "must not exist".

    Raises:
        InvalidArgumentsError: It is none.
    """
    if not isinstance(revision, str):
        raise InvalidArgumentsError("revision must be a string")
    if revision and not _REVISION.fullmatch(revision):
        raise InvalidArgumentsError(f"revision {shown(revision)} is no decimal number")
    return int(revision or "0")


def checked_limit(limit: object) -> int:
    """Read a number of entries; 0 for all.

    Raises:
        InvalidArgumentsError: It is no integer of at least 0.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise InvalidArgumentsError("limit must be an integer of at least 0")
    return limit
