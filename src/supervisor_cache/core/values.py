"""Which values can be stored: those that XML-RPC carries to Supervisor and back unchanged.

A value is a string, boolean, 32-bit integer, finite double, dateTime, array (`list`) or struct (`dict` with
string names), at most 32 deep.
"""

import datetime as dt
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from supervisor_cache.core.text import misfit, shown, xml_text_size
from supervisor_cache.errors import InvalidArgumentsError

Value: TypeAlias = "str | bool | int | float | dt.datetime | list[Value] | dict[str, Value]"

MAX_DEPTH = 32
MIN_INT = -(2**31)
MAX_INT = 2**31 - 1
DATETIME_NAME = "$dateTime"

# Bytes of markup that a reply spends on a value of each kind, beside its text.
STRING_MARKUP = len("<value><string></string></value>\n")
_BOOLEAN = len("<value><boolean>1</boolean></value>\n")
_INT = len("<value><int></int></value>\n")
_DOUBLE = len("<value><double></double></value>\n")
_DATETIME = len("<value><dateTime.iso8601>20261103T12:00:00</dateTime.iso8601></value>\n")
_ARRAY = len("<value><array><data>\n</data></array></value>\n")
_STRUCT = len("<value><struct>\n</struct></value>\n")
MEMBER_MARKUP = len("<member>\n<name></name>\n</member>\n")


class MisfitError(Exception):
    """A part of a value cannot be stored; ``path`` leads to it, from the inside out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


def check_value(value: object) -> None:
    """Refuse what cannot be stored; raises as `reply_size` does."""
    reply_size(value)


def reply_size(value: object) -> int:
    """Check ``value`` and count the bytes that it takes in an XML-RPC reply.

    Raises:
        InvalidArgumentsError: The value cannot be stored; the text says where in it, and why.
    """
    try:
        return _MEASURES.get(type(value), _refuse)(value, 0)
    except MisfitError as error:
        where = "".join(reversed(error.path))
        raise InvalidArgumentsError(f"value{where}: {error.reason}") from None


def _refuse(value: object, _depth: int) -> NoReturn:
    raise MisfitError("nil cannot be stored" if value is None else f"a Python {type(value).__name__} cannot be stored")


def _measure_string(value: str, _depth: int) -> int:
    if not value.isprintable():
        bad = misfit(value)
        if bad is not None:
            raise MisfitError(f"{bad} cannot be stored")
    return STRING_MARKUP + xml_text_size(value)


def _measure_boolean(_value: bool, _depth: int) -> int:  # noqa: FBT001 - a value, not a flag
    return _BOOLEAN


def _measure_int(value: int, _depth: int) -> int:
    if not MIN_INT <= value <= MAX_INT:
        raise MisfitError("an integer beyond 32 bits cannot be stored")
    return _INT + len(str(value))


def _measure_double(value: float, _depth: int) -> int:
    if not math.isfinite(value):
        raise MisfitError("a double that is not finite cannot be stored")
    return _DOUBLE + len(repr(value))


def _measure_datetime(value: dt.datetime, _depth: int) -> int:
    if value.tzinfo is not None or value.microsecond:
        raise MisfitError("a dateTime has no time zone and no fraction of a second")
    return _DATETIME


def _measure_array(value: "list[object]", depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise MisfitError(f"nested deeper than {MAX_DEPTH}")
    size = _ARRAY
    if not value:
        return size
    depth += 1
    index = 0
    try:
        for index, item in enumerate(value):  # noqa: B007 - used where a step fails
            size += _MEASURES.get(type(item), _refuse)(item, depth)
    except MisfitError as error:
        error.path.append(f"[{index}]")
        raise
    return size


def _measure_struct(value: "dict[object, object]", depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise MisfitError(f"nested deeper than {MAX_DEPTH}")
    if len(value) == 1 and DATETIME_NAME in value:
        raise MisfitError(f"a struct with the one name {DATETIME_NAME} cannot be stored: as JSON it means a dateTime")
    size = _STRUCT
    name: object = ""
    try:
        for name, item in value.items():
            if type(name) is not str:
                raise MisfitError("its name must be a string")
            bad = misfit(name)
            if bad is not None:
                raise MisfitError(f"its name has {bad}, which cannot be stored")
            size += MEMBER_MARKUP + xml_text_size(name) + _MEASURES.get(type(item), _refuse)(item, depth + 1)
    except MisfitError as error:
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
