"""Which strings are keys, prefixes and notes."""

from supervisor_cache.core.text import misfit_in_line, shown, utf8_length
from supervisor_cache.errors import InvalidArgumentsError, InvalidKeyError

MAX_NOTE_BYTES = 1024
# What max_key_bytes can be set to.
MAX_KEY_BYTES = 64 * 1024


def checked_key(key: object, max_bytes: int) -> str:
    """Answer ``key`` if it can be one.

    Raises:
        InvalidKeyError: It is no string, empty, longer than ``max_bytes`` of UTF-8, or has a character that
            XML 1.0 forbids, a TAB, a CR or an LF.
    """
    if type(key) is str and 0 < len(key) <= max_bytes and key.isascii() and key.isprintable():  # the usual case
        return key
    if not isinstance(key, str):
        raise InvalidKeyError("a key must be a string")
    if not key:
        raise InvalidKeyError("a key must not be empty")
    bad = misfit_in_line(key)
    if bad is not None:
        raise InvalidKeyError(f"key {shown(key)} has {bad}, which keys may not have")
    if utf8_length(key) > max_bytes:
        raise InvalidKeyError(f"key {shown(key)} has {utf8_length(key)} bytes; max_key_bytes is {max_bytes}")
    return key


def checked_prefix(prefix: object, name: str = "prefix") -> str:
    """Answer ``prefix`` if keys can start with it; the empty one is allowed.

    Raises:
        InvalidArgumentsError: It is no string, or has a character or a length that no key can have.
    """
    if not isinstance(prefix, str):
        raise InvalidArgumentsError(f"{name} must be a string")
    bad = misfit_in_line(prefix)
    if bad is not None:
        raise InvalidArgumentsError(f"{name} {shown(prefix)} has {bad}, which keys may not have")
    if utf8_length(prefix) > MAX_KEY_BYTES:
        raise InvalidArgumentsError(f"{name} {shown(prefix)} has {utf8_length(prefix)} bytes; no key has so many")
    return prefix


def checked_note(note: object) -> str:
    """Answer ``note`` if it can be one: a single line of at most 1 KiB of UTF-8, or empty.

    Raises:
        InvalidArgumentsError: It cannot.
    """
    if not isinstance(note, str):
        raise InvalidArgumentsError("note must be a string")
    bad = misfit_in_line(note)
    if bad is not None:
        raise InvalidArgumentsError(f"note has {bad}, which notes may not have")
    if utf8_length(note) > MAX_NOTE_BYTES:
        raise InvalidArgumentsError(f"note has {utf8_length(note)} bytes; at most {MAX_NOTE_BYTES} are allowed")
    return note
