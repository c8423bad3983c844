"""Supervisor's configuration files, as far as a client needs them, and without Supervisor's own modules."""

import configparser
import glob
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from supervisor_cache.errors import AddressError

_DEFAULT_URL = "http://localhost:9001"
_SECTION = "supervisorctl"

Sections = dict[str, dict[str, str]]


class Configuration(NamedTuple):
    """A configuration file with what it includes.

    Attributes:
        path: Of the main file.
        sections: Options by section, as they are written.
        origins: The file that each section stands in.
        notes: What Supervisor would stumble over in the files that are included.
    """

    path: str
    sections: Sections
    origins: dict[str, str]
    notes: list[str]

    @property
    def here(self) -> str:
        """The folder of the main file."""
        return os.path.dirname(os.path.abspath(self.path))


def places() -> list[str]:
    """List where supervisorctl looks for a configuration file, first the one that it prefers."""
    return [
        os.path.join(sys.prefix, "etc", "supervisord.conf"),
        os.path.join(sys.prefix, "supervisord.conf"),
        "supervisord.conf",
        os.path.join("etc", "supervisord.conf"),
        "/etc/supervisord.conf",
        "/etc/supervisor/supervisord.conf",
    ]


def find_server(path: str | None, environment: Mapping[str, str]) -> tuple[str, str | None, str | None] | None:
    """Answer URL, user and password of the ``[supervisorctl]`` section; None where there is no file.

    Args:
        path: Of the file; None for the first of `places` that is there.
        environment: For what a file takes from it.

    Raises:
        AddressError: A file cannot be read, or has no such section.
    """
    path = path or next((one for one in places() if os.path.exists(one)), None)
    if path is None:
        return None
    parser = _parse(path)
    if not parser.has_section(_SECTION):
        raise AddressError(f"{ascii(path)[1:-1]}: there is no [{_SECTION}] section")
    known = expansions(os.path.dirname(os.path.abspath(path)), environment)

    def option(name: str) -> str | None:
        text = parser.get(_SECTION, name, fallback=None)
        return None if text is None else expand(text, known, f"{ascii(path)[1:-1]}: {_SECTION}.{name}")

    url = option("serverurl") or _DEFAULT_URL
    user, password = option("username"), option("password")
    # supervisorctl sends nothing where one is missing.
    return (url, user, password) if user and password else (url, None, None)


def read(path: str, environment: Mapping[str, str]) -> Configuration:
    """Read a configuration file and what it includes.

    Raises:
        AddressError: A file cannot be read.
    """
    parser = _parse(path)
    found = Configuration(path, _sections(parser), {}, [])
    found.origins.update(dict.fromkeys(found.sections, path))
    files = parser.get("include", "files", fallback="")
    known = expansions(found.here, environment)
    for pattern in expand(files, known, "include.files").split():
        matching = sorted(glob.glob(os.path.join(found.here, pattern)))
        if not matching:
            found.notes.append(f"[include] {ascii(pattern)[1:-1]}: matches no file")
        for name in matching:
            for section, options in _sections(_parse(name)).items():
                found.sections[section] = {**found.sections.get(section, {}), **options}
                found.origins[section] = name
    return found


def expansions(here: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Answer what ``%(NAME)s`` stands for in a file of the folder ``here``."""
    names = {f"ENV_{name}": value for name, value in environment.items()}
    return {**names, "here": here, "host_node_name": platform.node()}


def expand(text: str, known: Mapping[str, str], what: str) -> str:
    """Replace each ``%(NAME)s``.

    Raises:
        AddressError: One is not known, or written wrongly; ``what`` is the option.
    """
    try:
        return text % known
    except KeyError as error:
        raise AddressError(f"{what}: nobody knows what %({error.args[0]})s stands for") from None
    except (TypeError, ValueError):
        raise AddressError(f"{what}: a % must be written %%, or %(NAME)s") from None


def _sections(parser: configparser.RawConfigParser) -> Sections:
    return {section: dict(_options(parser, section)) for section in parser.sections()}


def _options(parser: configparser.RawConfigParser, section: str) -> Iterator[tuple[str, str]]:
    for option, text in parser.items(section):
        yield option, text or ""


def _parse(path: str) -> configparser.RawConfigParser:
    # As Supervisor reads them.
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise AddressError(f"{ascii(path)[1:-1]}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AddressError(f"{ascii(path)[1:-1]}: not UTF-8") from None
    except configparser.Error as error:
        words = " ".join(str(error).split())
        raise AddressError(f"{ascii(path)[1:-1]}: {words.encode('ascii', 'backslashreplace').decode()}") from None
    return parser
