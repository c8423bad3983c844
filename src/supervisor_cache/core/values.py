"""Which values can be stored: those that XML-RPC carries to Supervisor and back unchanged.

A value is a string, boolean, 32-bit integer, finite double, dateTime, array (`list`) or struct (`dict` with
string names), at most 32 deep. As JSON, a dateTime is ``{"$dateTime": "2026-11-03T12:00:00"}``.
"""

import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any, TypeAlias

from supervisor_cache.core.text import misfit, shown, utf8_length, xml_text_size
from supervisor_cache.errors import InvalidArgumentsError

Value: TypeAlias = "str | bool | int | float | dt.datetime | list[Value] | dict[str, Value]"

MAX_DEPTH = 32
MIN_INT = -(2**31)
MAX_INT = 2**31 - 1
DATETIME_NAME = "$dateTime"
_DATETIME_FORMAT = "%Y-%m-%dT%H:%M:%S"

# Bytes of markup that a reply spends on a value of each kind, beside its text.
_STRING = len("<value><string></string></value>\n")
_BOOLEAN = len("<value><boolean>1</boolean></value>\n")
_INT = len("<value><int></int></value>\n")
_DOUBLE = len("<value><double></double></value>\n")
_DATETIME = len("<value><dateTime.iso8601>20261103T12:00:00</dateTime.iso8601></value>\n")
_ARRAY = len("<value><array><data>\n</data></array></value>\n")
_STRUCT = len("<value><struct>\n</struct></value>\n")
_MEMBER = len("<member>\n<name></name>\n</member>\n")


class _MisfitError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


def reply_size(value: object) -> int:
    """Check ``value`` and count the bytes that it takes in an XML-RPC reply.

    Raises:
        InvalidArgumentsError: The value cannot be stored; the text says where in it, and why.
    """
    try:
        return _measure(value, 0)
    except _MisfitError as error:
        where = "".join(reversed(error.path))
        raise InvalidArgumentsError(f"value{where}: {error.reason}") from None


def member_size(name: str) -> int:
    """Count the bytes that the member ``name`` of a struct adds to a reply, beside its value."""
    return _MEMBER + xml_text_size(name)


def _measure(value: object, depth: int) -> int:
    measure = _MEASURES.get(type(value))
    if measure is None:
        raise _MisfitError(_refusal(value))
    return measure(value, depth)


def _refusal(value: object) -> str:
    if value is None:
        return "nil cannot be stored"
    return f"a Python {type(value).__name__} cannot be stored"


def _measure_string(value: str, _depth: int) -> int:
    bad = misfit(value)
    if bad is not None:
        raise _MisfitError(f"{bad} cannot be stored")
    return _STRING + xml_text_size(value)


def _measure_boolean(_value: bool, _depth: int) -> int:  # noqa: FBT001 - a value, not a flag
    return _BOOLEAN


def _measure_int(value: int, _depth: int) -> int:
    if not MIN_INT <= value <= MAX_INT:
        raise _MisfitError("an integer beyond 32 bits cannot be stored")
    return _INT + len(str(value))


def _measure_double(value: float, _depth: int) -> int:
    if not math.isfinite(value):
        raise _MisfitError("a double that is not finite cannot be stored")
    return _DOUBLE + len(repr(value))


def _measure_datetime(value: dt.datetime, _depth: int) -> int:
    if value.tzinfo is not None or value.microsecond:
        raise _MisfitError("a dateTime has no time zone and no fraction of a second")
    return _DATETIME


def _measure_array(value: "list[object]", depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise _MisfitError(f"nested deeper than {MAX_DEPTH}")
    size = _ARRAY
    index = 0
    try:
        for index, item in enumerate(value):  # noqa: B007 - used where a step fails
            size += _measure(item, depth + 1)
    except _MisfitError as error:
        error.path.append(f"[{index}]")
        raise
    return size


def _measure_struct(value: "dict[object, object]", depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise _MisfitError(f"nested deeper than {MAX_DEPTH}")
    if len(value) == 1 and DATETIME_NAME in value:
        raise _MisfitError(f"a struct with the one name {DATETIME_NAME} cannot be stored: as JSON it means a dateTime")
    size = _STRUCT
    name: object = ""
    try:
        for name, item in value.items():
            if type(name) is not str:
                raise _MisfitError("its name must be a string")
            bad = misfit(name)
            if bad is not None:
                raise _MisfitError(f"its name has {bad}, which cannot be stored")
            size += member_size(name) + _measure(item, depth + 1)
    except _MisfitError as error:
        error.path.append(f"[{shown(str(name), 40)}]")
        raise
    return size


_MEASURES: dict[type, Callable[[Any, int], int]] = {
    str: _measure_string,
    bool: _measure_boolean,
    int: _measure_int,
    float: _measure_double,
    dt.datetime: _measure_datetime,
    list: _measure_array,
    dict: _measure_struct,
}


def _json_default(value: dt.datetime) -> object:
    # isoformat, for strftime leaves out the leading zeros of a year before 1000.
    return {DATETIME_NAME: value.isoformat(timespec="seconds")}


def _encoder(*, ensure_ascii: bool) -> Callable[[object], str]:
    return json.JSONEncoder(
        ensure_ascii=ensure_ascii,
        check_circular=False,
        allow_nan=False,
        separators=(",", ":"),
        default=_json_default,
    ).encode


_encode = _encoder(ensure_ascii=False)
_encode_ascii = _encoder(ensure_ascii=True)


def to_json(value: Value) -> str:
    """Write a value that `reply_size` accepts as compact JSON."""
    return _encode(value)


def to_ascii_json(value: Value) -> str:
    """Write a value as `to_json` does, with all that is not ASCII escaped."""
    return _encode_ascii(value)


def json_size(value: Value) -> int:
    """Count the bytes of a value as compact JSON in UTF-8."""
    return utf8_length(_encode(value))


def from_json(text: str) -> Value:
    """Read a value from JSON.

    A number with a point or an exponent is a double, any other an integer.

    Raises:
        InvalidArgumentsError: ``text`` is no JSON, has a name twice in one object, or holds what cannot be stored:
            null, a number out of range, an object with the one name ``$dateTime`` whose value is no date.
    """
    try:
        value: Value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant, parse_float=float
        )
    except _MisfitError as error:
        raise InvalidArgumentsError(f"value: {error.reason}") from None
    except RecursionError:
        raise InvalidArgumentsError(f"value: nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        # json's own message names the place, and no part of the text.
        raise InvalidArgumentsError(f"value: not JSON: {error}") from None
    reply_size(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> Any:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise _MisfitError("a name stands twice in one object")
    if len(names) == 1 and DATETIME_NAME in names:
        return _datetime(names[DATETIME_NAME])
    return names


def _datetime(text: object) -> dt.datetime:
    try:
        moment = dt.datetime.strptime(str(text), _DATETIME_FORMAT)  # noqa: DTZ007 - XML-RPC's has no zone
    except ValueError:
        moment = None
    if moment is None or moment.isoformat() != text:  # strptime also takes "2026-1-3T1:2:3"
        raise _MisfitError(f'{DATETIME_NAME} must be a date like "2026-11-03T12:00:00"')
    return moment


def _integer(digits: str) -> int:
    # int() of thousands of digits is slow, and refused by newer Pythons with a text of their own.
    if len(digits) > len(str(MIN_INT)):
        raise _MisfitError("an integer beyond 32 bits cannot be stored")
    return int(digits)


def _constant(name: str) -> float:
    raise _MisfitError(f"{name} is not JSON")
