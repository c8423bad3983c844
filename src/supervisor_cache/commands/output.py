"""How answers are shown, to people and to pipes."""

import contextlib
import datetime as dt
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

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
    if type(value).__name__ == "DateTime":  # not imported for this alone
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


class OutputError(Exception):
    """Raised where nothing can be shown: standard output is full, or nobody reads it any more.

    Attributes:
        error: What the system says.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Out:
    """Where a command shows its answer.

    Args:
        stream: Where to; None where that is closed.
        show: How a value is shown to people; None for bare.
        tables: Whether several columns are lined up on a terminal.
        prefix: What each line begins with.

    Attributes:
        show: As given.
        is_terminal: Whether people look at it.
    """

    def __init__(
        self,
        stream: TextIO | None,
        show: Callable[[Any], str] | None = None,
        *,
        tables: bool = False,
        prefix: str = "",
    ) -> None:
        self._stream = stream
        self.show = show
        self.is_terminal = stream is not None and stream.isatty()
        self._tables = tables and self.is_terminal
        self._prefix = prefix

    def say(self, text: str) -> None:
        """Show a line."""
        if self._prefix:
            text = "\n".join(self._prefix + line for line in text.split("\n"))
        write(self._stream, text)

    def rows(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Show lines of several columns: separated by tabs, or lined up below a header."""
        if not self._tables:
            for row in rows:
                self.say("\t".join(row))
            return
        shown = [[_one_line(cell) for cell in row] for row in rows]
        if not shown:
            return
        widths = [max(map(_width, column)) for column in zip(header, *shown, strict=True)]
        for row in (header, *shown):
            cells = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
            self.say("  ".join(cells).rstrip())


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _width(text: str) -> int:
    """Count the columns that a terminal takes for ``text``."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def write(stream: TextIO | None, text: str) -> None:
    """Write a line: escaped to a terminal, as UTF-8 to anything else, whatever the locale; to a closed one, nothing."""
    if stream is None:
        return
    line = (printable(text) if stream.isatty() else text) + "\n"
    buffer = getattr(stream, "buffer", None)
    try:
        if buffer is None:
            stream.write(line)
        else:
            stream.flush()
            buffer.write(line.encode("utf-8", "backslashreplace"))
            buffer.flush()
    except OSError as error:
        raise OutputError(error) from None


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
