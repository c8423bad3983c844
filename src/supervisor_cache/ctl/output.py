"""How answers are shown, to people and to pipes."""

import contextlib
import datetime as dt
import sys
from typing import Any, TextIO
from xmlrpc.client import DateTime

from supervisor_cache.core.codec import to_json


class UnshowableError(Exception):
    """An answer cannot be shown as it was asked for."""


def printable(text: str) -> str:
    r"""Escape what a terminal would not show as itself, ``\x1b`` among it; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def native(value: Any) -> Any:
    """Replace the `DateTime` of ``xmlrpc.client`` by the one of ``datetime``, however deep."""
    if isinstance(value, DateTime):
        return dt.datetime.strptime(value.value, "%Y%m%dT%H:%M:%S")  # noqa: DTZ007 - XML-RPC's has no zone
    if isinstance(value, list):
        return [native(item) for item in value]
    if isinstance(value, dict):
        return {name: native(item) for name, item in value.items()}
    return value


def as_json(value: Any) -> str:
    """Show a value as compact JSON.

    Raises:
        UnshowableError: It is none: an older release stores what JSON does not have.
    """
    try:
        return to_json(native(value))
    except (TypeError, ValueError) as error:
        raise UnshowableError(f"not JSON: {error}") from None


def bare(value: Any) -> str:
    """Show a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


def moment(seconds: float) -> str:
    """Show seconds since the epoch in local time."""
    return dt.datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def write(stream: TextIO | None, text: str) -> None:
    """Write a line: escaped to a terminal, as UTF-8 to anything else, whatever the locale; to a closed one, nothing."""
    if stream is None:
        return
    line = (printable(text) if stream.isatty() else text) + "\n"
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(line)
    else:
        stream.flush()
        buffer.write(line.encode("utf-8", "backslashreplace"))
        buffer.flush()


def complain(subject: str, reason: str) -> None:
    """Say on stderr what went wrong, in one line."""
    line = printable(f"{subject}: ERROR ({reason})").replace("\n", "\\n").replace("\t", "\\t")
    say_on_stderr(line)


def say_on_stderr(line: str) -> None:
    """Write a line to stderr; where that is closed, full or without a reader, nobody can be told."""
    if sys.stderr is None:
        return
    encoding = sys.stderr.encoding or "ascii"
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
