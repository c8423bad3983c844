"""The strings of one ``[rpcinterface:NAME]`` section, read into settings; every error is found here, at start."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from supervisor_cache.core.keys import MAX_KEY_BYTES
from supervisor_cache.core.limits import KIB, MIB, Limits
from supervisor_cache.core.text import shown

# An attribute of the dictionary in which Supervisor's multicall looks up namespaces would hide the namespace.
_DICTIONARY = frozenset(name for name in dir(dict) if not name.startswith("_"))
_SUPERVISOR = frozenset({"supervisor", "system", "images", "stylesheets"})
# Supervisor's handlers take every path that begins so.
_PATH_STARTS = ("RPC2", "logtail", "mainlogtail")
_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]*")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SIZE = re.compile("([0-9]{1,12})(KB|MB|GB)?", re.IGNORECASE)
_UNITS = {"": 1, "KB": KIB, "MB": MIB, "GB": KIB * MIB}
_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0")


class Settings(NamedTuple):
    """What one section says; each field is the option of that name.

    Attributes:
        storage: The kind of storage.
        limits: What the cache admits.
        max_watchers: How many clients may wait at once.
        max_request_bytes: Of the body of one HTTP request to any path of this supervisord.
        read_only: Sections of the HTTP servers on which writes are refused.
        allowed_hosts: Further names under which browsers may ask for this supervisord.
        publish: Patterns of the processes, ``GROUP:NAME``, that may publish.
        log_changes: Whether each change is logged.
    """

    storage: str = "memory"
    limits: Limits = Limits()
    max_watchers: int = 100
    max_request_bytes: int = MIB
    read_only: frozenset[str] = frozenset()
    allowed_hosts: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    log_changes: bool = False


class SettingsError(ValueError):
    """A section is wrong.

    Attributes:
        lines: One for each thing that is wrong: section, option, value, and what is allowed.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def read_settings(namespace: str, options: Mapping[str, str], servers: Collection[str]) -> Settings:
    """Read the section of ``namespace``.

    Args:
        namespace: What stands after ``rpcinterface:``.
        options: Its options, but for the factory.
        servers: The sections of the HTTP servers of this configuration.

    Raises:
        SettingsError: Something in it is wrong.
    """
    section = f"[rpcinterface:{namespace}]"
    readers = _readers(servers)
    wrong = []
    problem = _name_problem(namespace)
    if problem:
        wrong.append(f"{ascii(section)[1:-1]}: {problem}")
    found: dict[str, Any] = {}
    for option, text in options.items():
        reader = readers.get(option)
        try:
            if reader is None:
                raise ValueError(f"unknown option; known are {', '.join(sorted(readers))}")
            found[option] = reader(text.strip())
        except ValueError as error:
            wrong.append(f"{ascii(section)[1:-1]} {ascii(option)[1:-1]} = {shown(text)}: {error}")
    if wrong:
        raise SettingsError(wrong)
    limits = Limits(**{name: found.pop(name) for name in Limits._fields if name in found})
    return Settings(limits=limits, **found)


def _name_problem(namespace: str) -> str:
    if not _NAME.fullmatch(namespace):
        return "the name must be a letter, then letters, digits, _ and -"
    if namespace in _SUPERVISOR or namespace.startswith(_PATH_STARTS):
        return "the name is one that Supervisor uses itself; choose another"
    if namespace in _DICTIONARY:
        return "the name would break system.multicall; choose another"
    return ""


def _readers(servers: Collection[str]) -> dict[str, Callable[[str], Any]]:
    return {
        "storage": _storage,
        "max_entries": _count(1, 1_000_000),
        "max_key_bytes": _bytes(1, MAX_KEY_BYTES),
        "max_value_bytes": _bytes(1, 16 * MIB),
        "max_total_bytes": _bytes(KIB, KIB * MIB),
        "max_changes": _count(0, 1_000_000),
        "max_watchers": _count(0, 10_000),
        "max_request_bytes": _bytes(4 * KIB, 64 * MIB),
        "read_only": _servers(servers),
        "allowed_hosts": _hosts,
        "publish": _processes,
        "log_changes": _boolean,
    }


def _storage(text: str) -> str:
    if text != "memory":
        raise ValueError("must be memory")
    return text


def _count(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def _bytes(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        found = _SIZE.fullmatch(text)
        size = int(found[1]) * _UNITS[(found[2] or "").upper()] if found else -1
        if not least <= size <= most:
            raise ValueError(f"must be a size from {_as_size(least)} to {_as_size(most)}, as 1000, 64KB or 16MB")
        return size

    return read


def _as_size(number: int) -> str:
    for unit in ("GB", "MB", "KB"):
        if number % _UNITS[unit] == 0:
            return f"{number // _UNITS[unit]}{unit}"
    return str(number)


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("must be true or false")


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _servers(servers: Collection[str]) -> Callable[[str], frozenset[str]]:
    def read(text: str) -> frozenset[str]:
        named = frozenset(_words(text))
        if not named <= set(servers):
            raise ValueError(f"must name HTTP servers of this configuration: {', '.join(sorted(servers))}")
        return named

    return read


def _processes(text: str) -> tuple[str, ...]:
    patterns = _words(text)
    if not all(re.fullmatch("[^:]+:[^:]+", pattern) for pattern in patterns):
        raise ValueError("must be patterns of GROUP:NAME, as web:* or worker:worker_00")
    return tuple(patterns)


def _hosts(text: str) -> tuple[str, ...]:
    hosts = _words(text)
    if not all(_HOST.fullmatch(host) for host in hosts):
        raise ValueError("must be host names, as ops.example.com or ops.example.com:8443")
    return tuple(host.lower() for host in hosts)
