"""The strings of one ``[rpcinterface:NAME]`` section, read into settings; every error is found here, at start."""

import grp
import os
import pwd
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from supervisor_cache.core.keys import MAX_KEY_BYTES, checked_prefix
from supervisor_cache.core.limits import KIB, MIB, Limits
from supervisor_cache.core.text import shown
from supervisor_cache.engines.etcd import Options as EtcdOptions
from supervisor_cache.engines.sqlite import Options as SqliteOptions
from supervisor_cache.errors import InvalidArgumentsError

# An attribute of the dictionary in which Supervisor's multicall looks up namespaces would hide the namespace.
_DICTIONARY = frozenset(name for name in dir(dict) if not name.startswith("_"))
_SUPERVISOR = frozenset({"supervisor", "system", "images", "stylesheets"})
# Supervisor's handlers take every path that begins so.
_PATH_STARTS = ("RPC2", "logtail", "mainlogtail")
_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]*")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SIZE = re.compile("([0-9]{1,12})(KB|MB|GB)?", re.IGNORECASE)
_UNITS = {"": 1, "KB": KIB, "MB": MIB, "GB": KIB * MIB}
_OF_SQLITE = {"synchronous": "synchronous", "chmod": "mode", "chown": "owner"}
_OF_ETCD = {
    "etcd_timeout": "timeout",
    "etcd_lease_ttl": "lease_ttl",
    "etcd_ca_file": "ca_file",
    "etcd_cert_file": "cert_file",
    "etcd_key_file": "key_file",
    "etcd_user": "user",
    "etcd_password_file": "password_file",
}
_MEMBER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_ETCD_PREFIX = re.compile(r"/[A-Za-z0-9._/-]{1,200}")
_MOST_PORT = 65535
_OTHERS = 0o077
_MOST_ID = 2**32 - 2
_OWNER_READS_AND_WRITES = 0o600
_OTHERS_READ = 0o644
_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0")


class Settings(NamedTuple):
    """What one section says; each field is the option of that name.

    Attributes:
        database: Path of the SQLite database; empty for none.
        sqlite: How it, or the mirror, is kept.
        etcd: The cluster; None for none.
        mirror: Path of the SQLite database that follows the cluster; empty for none.
        limits: What the cache admits.
        max_watchers: How many clients may wait at once.
        max_request_bytes: Of the body of one HTTP request to any path of this supervisord.
        read_only: Sections of the HTTP servers on which writes are refused.
        allowed_hosts: Further names under which browsers may ask for this supervisord.
        publish: Patterns of the processes, ``GROUP:NAME``, that may publish.
        log_changes: Whether each change is logged.
        http: Whether the page and the JSON interface are served under ``/NAME/``.
        confine: Sections of the HTTP servers that serve this cache and nothing else of supervisord.
        metrics_prefix: Of the entries that appear in the metrics; empty for none.
    """

    database: str = ""
    sqlite: SqliteOptions = SqliteOptions()
    etcd: EtcdOptions | None = None
    mirror: str = ""
    limits: Limits = Limits()
    max_watchers: int = 100
    max_request_bytes: int = MIB
    read_only: frozenset[str] = frozenset()
    allowed_hosts: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    log_changes: bool = False
    http: bool = False
    confine: frozenset[str] = frozenset()
    metrics_prefix: str = ""

    def excess(self) -> Iterator[str]:
        """Tell which limit cannot be reached, for another one comes first."""
        sizes = {**self.limits._asdict(), "max_request_bytes": self.max_request_bytes}
        for larger, smaller in (
            ("max_key_bytes", "max_total_bytes"),
            ("max_value_bytes", "max_total_bytes"),
            ("max_value_bytes", "max_request_bytes"),
        ):
            if sizes[larger] > sizes[smaller]:
                yield f"{larger} is above {smaller}, which comes first"


class SettingsError(ValueError):
    """A section is wrong.

    Attributes:
        lines: One for each thing that is wrong: section, option, value, and what is allowed.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def read_settings(namespace: str, options: Mapping[str, str], servers: Collection[str], here: str) -> Settings:
    """Read the section of ``namespace``.

    Args:
        namespace: What stands after ``rpcinterface:``.
        options: Its options, but for the factory.
        servers: The sections of the HTTP servers of this configuration.
        here: The folder that relative paths start from.

    Raises:
        SettingsError: Something in it is wrong.
    """
    section = f"[rpcinterface:{namespace}]"
    readers = _readers(servers, here)
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
    storage = found.pop("storage", "")
    etcd = {name: found.pop(option) for option, name in _OF_ETCD.items() if option in found}
    if isinstance(storage, EtcdOptions):
        found["etcd"] = storage._replace(**etcd)
    else:
        found["database"] = storage
    wrong = [f"{section} {line}" for line in _mismatches(found, etcd)]
    if wrong:
        raise SettingsError(wrong)
    sqlite = {name: found.pop(option) for option, name in _OF_SQLITE.items() if option in found}
    return Settings(limits=limits, sqlite=SqliteOptions(**sqlite), **found)


def _mismatches(found: dict[str, Any], etcd: dict[str, Any]) -> list[str]:
    """Say what does not go together."""
    if "etcd" not in found:
        known = {name: option for option, name in _OF_ETCD.items()}
        alone = [known[name] for name in etcd] + (["mirror"] if found.get("mirror") else [])
        return [f"{option}: goes with storage = etcd://HOST:PORT/PREFIX alone" for option in alone]
    options: EtcdOptions = found["etcd"]
    wrong = []
    if bool(options.user) != bool(options.password_file):
        wrong.append("etcd_user and etcd_password_file: each needs the other")
    if options.key_file and not options.cert_file:
        wrong.append("etcd_key_file: needs etcd_cert_file")
    if options.cert_file and not options.ca_file:
        wrong.append("etcd_cert_file: needs etcd_ca_file")
    return wrong


def _name_problem(namespace: str) -> str:
    if not _NAME.fullmatch(namespace):
        return "the name must be a letter, then letters, digits, _ and -"
    if namespace in _SUPERVISOR or namespace.startswith(_PATH_STARTS):
        return "the name is one that Supervisor uses itself; choose another"
    if namespace in _DICTIONARY:
        return "the name would break system.multicall; choose another"
    return ""


def _readers(servers: Collection[str], here: str) -> dict[str, Callable[[str], Any]]:
    return {
        "storage": _storage(here),
        "mirror": _path(here),
        "etcd_timeout": _seconds(0.5, 60),
        "etcd_lease_ttl": _count(5, 3600),
        "etcd_ca_file": _readable(here),
        "etcd_cert_file": _readable(here),
        "etcd_key_file": _readable(here),
        "etcd_user": _user,
        "etcd_password_file": _secret(here),
        "synchronous": _one_of("normal", "full"),
        "chmod": _mode,
        "chown": _owner,
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
        "http": _boolean,
        "confine": _servers(servers),
        "metrics_prefix": _prefix,
    }


def _storage(here: str) -> Callable[[str], str | EtcdOptions]:
    def read(text: str) -> str | EtcdOptions:
        """Answer the path of the database, empty for memory, or the cluster."""
        if text == "memory":
            return ""
        kind, _, path = text.partition(":")
        try:
            if kind == "sqlite":
                return _path(here)(path)
            if kind == "etcd":
                return _cluster(path)
        except ValueError:
            pass
        raise ValueError("must be memory, sqlite:PATH or etcd://HOST:PORT[,HOST:PORT...]/PREFIX")

    return read


def _cluster(text: str) -> EtcdOptions:
    if not text.startswith("//"):
        raise ValueError
    hosts, slash, prefix = text[2:].partition("/")
    members = tuple(member.strip() for member in hosts.split(","))
    for member in members:
        found = _MEMBER.fullmatch(member)
        if not found or not 0 < int(found[1]) <= _MOST_PORT:
            raise ValueError
    if len(set(members)) != len(members):
        raise ValueError
    prefix = (slash + prefix).removesuffix("/")
    if not _ETCD_PREFIX.fullmatch(prefix) or "//" in prefix:
        raise ValueError
    return EtcdOptions(members, f"{prefix}/")


def _path(here: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not text or text.endswith("/") or "\0" in text:
            raise ValueError("must be the path of a file")
        return os.path.abspath(os.path.join(here, text))  # noqa: PTH100, PTH118 - text, as sqlite3 takes it

    return read


def _readable(here: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        path = _path(here)(text)
        try:
            # The opening of a pipe would wait for whoever writes to it, and supervisord with it.
            mode = os.stat(path).st_mode  # noqa: PTH116 - text, as above
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ValueError("must be a regular file")
            with open(path, "rb"):  # noqa: PTH123 - likewise
                return path
        except OSError as error:
            raise ValueError(f"must be a file that can be read: {error.strerror}") from None

    return read


def _secret(here: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        path = _readable(here)(text)
        found = os.stat(path)  # noqa: PTH116 - text, as above
        if found.st_mode & _OTHERS:
            raise ValueError("must be a file that only its owner can read: chmod 600")
        if found.st_uid not in {0, os.geteuid()}:
            raise ValueError("must belong to root or to supervisord's user")
        return path

    return read


def _user(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("must be the name of a user of etcd")
    return text


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,4}(?:\.[0-9]{1,3})?", text) or not least <= float(text) <= most:
            raise ValueError(f"must be a number of seconds from {least:g} to {most:g}")
        return float(text)

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return text.lower()

    return read


def _mode(text: str) -> int:
    mode = int(text, 8) if re.fullmatch("[0-7]{3,4}", text) else 0
    if mode & _OWNER_READS_AND_WRITES != _OWNER_READS_AND_WRITES or mode & ~_OTHERS_READ:
        raise ValueError("must be an octal mode that lets the owner read and write, others at most read, as 0640")
    return mode


def _owner(text: str) -> tuple[int, int]:
    user, colon, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        gid = entry.pw_gid
        if colon:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        if not 0 <= gid <= _MOST_ID:
            raise KeyError
    except (KeyError, OverflowError):
        raise ValueError("must be a user of this machine, or USER:GROUP") from None
    if os.geteuid() not in {0, entry.pw_uid}:
        raise ValueError("only root can give files away")
    return entry.pw_uid, gid


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


def _prefix(text: str) -> str:
    try:
        return checked_prefix(text)
    except InvalidArgumentsError:
        raise ValueError("must be what keys start with, as metrics/") from None


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
