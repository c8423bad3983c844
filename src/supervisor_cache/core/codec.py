"""Values as JSON: how they are measured, kept, and told to whoever does not speak XML-RPC.

A dateTime is ``{"$dateTime": "2026-11-03T12:00:00"}``.
"""

import datetime as dt
import json
import re
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from supervisor_cache.core.text import shown, utf8_length, xml_growth
from supervisor_cache.core.values import (
    DATETIME_NAME,
    MAX_DEPTH,
    MIN_INT,
    STRING_MARKUP,
    MisfitError,
    Value,
    check_value,
    reply_size,
)
from supervisor_cache.errors import InvalidArgumentsError

# A value as an entry keeps it. An array or struct is kept as JSON: as Python objects it can take fifty times the
# memory, and the garbage collector walks through all of them again and again.
Packed: TypeAlias = "str | bool | int | float | dt.datetime | bytes"

# An object that stands for a date; any of the letters of its name may be escaped.
_MAY_BE_DATE = re.compile(re.escape(DATETIME_NAME) + r"|\\u00[2-7]")
# What may be an integer beyond 32 bits.
_MAY_BE_LARGE = re.compile(f"[0-9]{{{len(str(MIN_INT))}}}")
# The two around a string.
QUOTES = 2


def _json_default(value: dt.datetime) -> object:
    # isoformat, for strftime leaves out the leading zeros of a year before 1000.
    return {DATETIME_NAME: value.isoformat(timespec="seconds")}


def _encoder(*, ensure_ascii: bool) -> Callable[[object], str]:
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii,
        check_circular=False,
        allow_nan=False,
        separators=(",", ":"),
        default=_json_default,
    )
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:
        return encoder.encode
    # As `encode` does it, which makes this anew each time: that takes longer than to write a small value.
    quote = json.encoder.encode_basestring_ascii if ensure_ascii else json.encoder.encode_basestring
    chunks = make(None, encoder.default, quote, None, ":", ",", *(False,) * 3)
    return lambda value: quote(value) if type(value) is str else "".join(chunks(value, 0))


_encode = _encoder(ensure_ascii=False)
_encode_ascii = _encoder(ensure_ascii=True)


def to_json(value: Value) -> str:
    """Write a value that `reply_size` accepts as compact JSON."""
    return _encode(value)


def to_ascii_json(value: Value) -> str:
    """Write a value as `to_json` does, with all that is not ASCII escaped."""
    return _encode_ascii(value)


def pack(value: object) -> tuple[Packed, int, int]:
    """Check ``value``, and make of it what is kept.

    Returns:
        The value to keep; its bytes as compact JSON in UTF-8; its bytes in an XML-RPC reply.

    Raises:
        InvalidArgumentsError: The value cannot be stored; the text says where in it, and why.
    """
    if type(value) is str and value.isascii() and value.isprintable():  # the usual case, ten times as fast
        length = len(value)
        escapes = value.count('"') + value.count("\\")
        return value, length + escapes + QUOTES, length + xml_growth(value) + STRING_MARKUP
    in_reply = reply_size(value)
    text = _encode(value)
    if type(value) is list or type(value) is dict:
        packed = text.encode()
        return packed, len(packed), in_reply
    return cast("Packed", value), utf8_length(text), in_reply


def unpack(packed: Packed) -> Value:
    """Answer the value; an array or struct is a new one each time."""
    if type(packed) is not bytes:
        return cast("Value", packed)
    text = packed.decode()
    hook = _datetimes if DATETIME_NAME in text else None
    value: Value = json.loads(text, object_hook=hook)
    return value


def _datetimes(names: dict[str, Any]) -> Any:
    return _datetime(names[DATETIME_NAME]) if len(names) == 1 and DATETIME_NAME in names else names


def from_json(text: str) -> Value:
    """Read a value from JSON.

    A number with a point or an exponent is a double, any other an integer.

    Raises:
        InvalidArgumentsError: ``text`` is no JSON, has a name twice in one object, or holds what cannot be stored:
            null, a number out of range, an object with the one name ``$dateTime`` whose value is no date.
    """
    value = parse_json(text)
    check_value(value)
    return value


def parse_json(text: str) -> Value:
    """Read JSON as `from_json` does, but for what `check_value` refuses: null and what is nested too deep."""
    return _parsed(text, _object)


def parse_message(text: str, member: str) -> Any:
    """Read a message as `parse_json` does a value; its ``member`` has values by key.

    Only in those values does an object stand for a date: a key may be ``$dateTime``, too.
    """
    message: Any = _parsed(text, _names)
    values = message.get(member) if isinstance(message, dict) else None
    if isinstance(values, dict) and _MAY_BE_DATE.search(text):  # seldom, and to walk through all of it takes long
        message[member] = {key: _dated(value, f"{member}[{shown(key, 40)}]") for key, value in values.items()}
    return message


def _parsed(text: str, make: Callable[[list[tuple[str, Any]]], Any]) -> Value:
    # With a function of our own, to read many integers takes four times as long.
    integer = _integer if _MAY_BE_LARGE.search(text) else int
    try:
        value: Value = json.loads(
            text, object_pairs_hook=make, parse_int=integer, parse_constant=_constant, parse_float=float
        )
    except MisfitError as error:
        raise InvalidArgumentsError(f"value: {error.reason}") from None
    except RecursionError:
        raise InvalidArgumentsError(f"value: nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        # json's own message names the place, and no part of the text.
        raise InvalidArgumentsError(f"value: not JSON: {error}") from None
    return value


def _dated(value: Any, where: str) -> Any:
    try:
        return _with_dates(value, MAX_DEPTH + 1)
    except MisfitError as error:
        raise InvalidArgumentsError(f"{where}: {error.reason}") from None


def _with_dates(value: Any, room: int) -> Any:
    if not isinstance(value, list | dict):
        return value
    if not room:
        raise MisfitError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [_with_dates(item, room - 1) for item in value]
    return _datetimes({name: _with_dates(item, room - 1) for name, item in value.items()})


def _names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise MisfitError("a name stands twice in one object")
    return names


def _object(pairs: list[tuple[str, Any]]) -> Any:
    return _datetimes(_names(pairs))


def _datetime(text: object) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(str(text))
    except ValueError:
        moment = None
    # fromisoformat also takes other forms; XML-RPC's has no zone, and no fractions.
    if moment is None or moment.tzinfo is not None or moment.microsecond or moment.isoformat() != text:
        raise MisfitError(f'{DATETIME_NAME} must be a date like "2026-11-03T12:00:00"')
    return moment


def _integer(digits: str) -> int:
    # int() of thousands of digits is slow, and refused by newer Pythons with a text of their own.
    if len(digits) > len(str(MIN_INT)):
        raise MisfitError("an integer beyond 32 bits cannot be stored")
    return int(digits)


def _constant(name: str) -> float:
    raise MisfitError(f"{name} is not JSON")
