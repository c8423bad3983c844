"""Which characters survive XML-RPC, and how text of unknown origin is shown in faults and logs."""

import re

# No characters of XML 1.0, lone surrogates among them, and CR, which is one, but a parser hands it back as LF. Listed,
# and not what is left of those that are: that would take ten times as long to compile.
_NOT_XML = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
_NOT_ONE_LINE = re.compile("[\x00-\x1f\ud800-\udfff\ufffe\uffff]")

# Printable ASCII that neither JSON nor XML escapes.
_PLAIN = re.compile(r"[ !#-%'-;=?-\[\]-~]*")

SHOWN_CHARACTERS = 200

is_plain = _PLAIN.fullmatch


def misfit(text: str) -> str | None:
    """Name the first character of ``text`` that cannot be carried, or answer None."""
    found = _NOT_XML.search(text)
    return None if found is None else _named(found)


def misfit_in_line(text: str) -> str | None:
    """Like `misfit`, for text that must be one line: TAB and LF do not fit either."""
    found = _NOT_ONE_LINE.search(text)
    return None if found is None else _named(found)


def _named(found: re.Match[str]) -> str:
    return f"character U+{ord(found.group()):04X} at position {found.start()}"


def utf8_length(text: str) -> int:
    """Count the bytes of ``text`` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def xml_text_size(text: str) -> int:
    """Count the bytes of ``text`` inside an XML element, escaped as Python's marshaller does it."""
    return utf8_length(text) + xml_growth(text)


def xml_growth(text: str) -> int:
    """Count the bytes by which escaping makes ``text`` longer inside an XML element."""
    if "&" in text or "<" in text or ">" in text:
        return 4 * text.count("&") + 3 * (text.count("<") + text.count(">"))
    return 0


def shown(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """Show ``text`` as an ASCII ``repr`` of at most ``characters`` characters, safe for a log or a terminal."""
    literal = ascii(text[:characters])
    return literal if len(literal) <= characters else literal[: characters - 3] + "..."
