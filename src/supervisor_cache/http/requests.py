"""What a client asks: its path, its query, its header lines."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from supervisor_cache.errors import InvalidArgumentsError, InvalidKeyError

_ETAG = re.compile(r'\s*((?:W/)?"([\x21\x23-\x7e]*)"|\*)\s*(?:,|$)')
_MOST_FIELDS = 20
# Segments of a path that clients leave out.
_TAKEN_AWAY = frozenset({"", ".", ".."})
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


class Refused(Exception):  # noqa: N818 - it is an answer
    """A request is answered with a status that no error of the cache stands for.

    Attributes:
        status: The HTTP status.
        detail: Why.
        headers: What the reply has beside.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


class Target(NamedTuple):
    """What stands behind the method, taken apart.

    Attributes:
        path: Still percent-encoded.
        query: The query, still percent-encoded.
    """

    path: str
    query: str


class Asked(NamedTuple):
    """One request.

    Attributes:
        method: ``GET``, ...
        path: Below ``/NAME/``, still percent-encoded.
        query: The query, still percent-encoded.
        headers: Values by name in lower case; several lines of one name are joined by a comma.
        body: What was sent.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    def parameters(self, *known: str) -> dict[str, str]:
        """Read the query.

        Raises:
            InvalidArgumentsError: It has what is not ``known``, something twice, or is not UTF-8.
        """
        found: dict[str, str] = {}
        if not self.query:
            return found
        _check_escapes(self.query)
        try:
            pairs = parse_qsl(
                self.query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MOST_FIELDS
            )
        except ValueError:
            raise InvalidArgumentsError("the query cannot be read: it must be name=value&..., in UTF-8") from None
        for name, value in pairs:
            if name not in known:
                raise InvalidArgumentsError(
                    f"unknown parameter {name[:40]!a}; known {'are' if known else 'is none'} {', '.join(known)}"
                )
            if name in found:
                raise InvalidArgumentsError(f"parameter {name} stands twice")
            found[name] = value
        return found

    def media_type(self) -> str:
        """Answer the type of the body, lower case, without parameters; raises `Refused` for one that is not UTF-8."""
        kind, *parameters = self.headers.get("content-type", "").lower().split(";")
        for parameter in parameters:
            name, _, value = parameter.strip().partition("=")
            if name == "charset" and value.strip('"') not in {"utf-8", "utf8", "us-ascii"}:
                raise Refused(415, "the body must be UTF-8")
        return kind.strip()

    def tags(self, name: str) -> list[str] | None:
        """Read ``if-match`` or ``if-none-match``: revisions, or ``*``; None where there is none.

        A weak tag is left out of ``if-match``, for it matches nothing there.

        Raises:
            InvalidArgumentsError: It is no list of tags.
        """
        text = self.headers.get(name)
        if text is None:
            return None
        found: list[str] = []
        place = 0
        while place < len(text):
            tag = _ETAG.match(text, place)
            if tag is None:
                break
            if not (tag[1].startswith("W/") and name == "if-match"):
                found.append("*" if tag[2] is None else tag[2])
            place = tag.end()
        if place < len(text) or not place:
            raise InvalidArgumentsError(f'{name} must be "REVISION", a list of them, or *')
        return found


def target_of(request_line: str) -> Target:
    """Take the target of a request line apart, as it was sent."""
    rest = request_line.partition(" ")[2]
    target, _, version = rest.rpartition(" ")
    path, _, query = (target if version.startswith("HTTP/") else rest).partition("?")
    return Target(path, query.partition("#")[0] if query else query)


def headers_of(lines: Iterable[str]) -> dict[str, str]:
    """Answer header lines by name in lower case."""
    found: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), []).append(value.strip())
    return {name: ", ".join(values) for name, values in found.items()}


def key_in_path(text: str) -> str:
    """Answer the key that stands in a path.

    Raises:
        InvalidKeyError: It is not UTF-8, or has a segment that clients would take away.
    """
    _check_escapes(text)
    key = text
    if "%" in text:
        try:
            key = unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise InvalidKeyError("the key in the path is not UTF-8") from None
    if not _TAKEN_AWAY.isdisjoint(key.split("/")):
        raise InvalidKeyError("keys with empty, . or .. segments go in ?key=")
    return key


def _check_escapes(text: str) -> None:
    if not text.isascii() or ("%" in text and _BAD_ESCAPE.search(text)):
        raise InvalidArgumentsError("path and query must be percent-encoded UTF-8")
