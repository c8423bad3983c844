"""The struct of options that a write takes as its last argument."""

import re
from typing import NamedTuple

from supervisor_cache.core.keys import checked_note
from supervisor_cache.core.text import shown
from supervisor_cache.errors import InvalidArgumentsError

_REVISION = re.compile("[0-9]{1,20}", re.ASCII)


class Options(NamedTuple):
    """Options of a write.

    Attributes:
        note: Who and why; None where it is not given.
        if_changed: Where the entry is there already and equal, do nothing.
    """

    note: str | None = None
    if_changed: bool = False


NONE = Options()
_OF_A_STORE = Options._fields
_OF_A_DELETE = ("note",)


def store_options(struct: object) -> Options:
    """Read the options of a write that stores.

    Raises:
        InvalidArgumentsError: An option is unknown or has a wrong value.
    """
    return _read(struct, _OF_A_STORE)


def delete_options(struct: object) -> Options:
    """Read the options of a write that deletes.

    Raises:
        InvalidArgumentsError: An option is unknown or has a wrong value.
    """
    return _read(struct, _OF_A_DELETE)


def _read(struct: object, known: tuple[str, ...]) -> Options:
    if struct == "":  # XML-RPC has no way to leave out an argument in the middle
        return NONE
    if not isinstance(struct, dict):
        raise InvalidArgumentsError("options must be a struct")
    for name in struct:
        if name not in known:
            raise InvalidArgumentsError(f"unknown option {shown(str(name))}; this call knows {', '.join(known)}")
    if_changed = struct.get("if_changed", False)
    if if_changed != "" and not isinstance(if_changed, bool):
        raise InvalidArgumentsError("option if_changed must be a boolean")
    note = struct.get("note")
    return Options(None if note is None else checked_note(note), bool(if_changed))


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
