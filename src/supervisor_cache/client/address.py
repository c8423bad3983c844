"""Where a supervisord is asked, and with which password."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from supervisor_cache.core.text import shown
from supervisor_cache.errors import AddressError

URL_VARIABLE = "SUPERVISOR_SERVER_URL"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_USABLE_TEXT = re.compile("[\x21-\x7e]+")
# An IPv6 address, perhaps with a zone, or labels of a length that can be looked up.
_USABLE_HOST = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*(%[^\s/]+)?|([^\s./:]{1,63}\.)*[^\s./:]{1,63}\.?", re.IGNORECASE)
# Of one line of a header.
_USABLE_LOGIN = re.compile("[^\x00-\x1f\x7f]*")


class Address(NamedTuple):
    """One HTTP server of a supervisord.

    Attributes:
        url: As it was given.
        scheme: ``unix``, ``http`` or ``https``.
        host: Name or address; empty for ``unix``.
        port: Number; 0 for ``unix``.
        path: Of the socket, for ``unix``; else of the XML-RPC interface.
        user: For the server's password; None for none.
        password: Likewise.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str
    user: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"<Address {self.url!r}>"


def read(url: str, user: str | None = None, password: str | None = None) -> Address:
    """Take ``url`` apart.

    Args:
        url: ``unix:///PATH``, ``http://HOST:PORT`` or ``https://HOST:PORT``, with a path where a proxy in front wants
            one.
        user: The server's user, None for none.
        password: Goes with it.

    Raises:
        AddressError: It is none of these, or holds a password itself, or one of user and password is missing.
    """
    _check_login(user, password)
    if url.startswith("unix://"):
        path = os.path.expanduser(url.removeprefix("unix://"))
        if not path or "\0" in path:
            raise AddressError(f"url {shown(url)}: unix:// needs a path")
        return Address(url, "unix", "", 0, path, user, password)
    parts = _split(url)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or parts.query or parts.fragment:
        raise AddressError(f"url {shown(url)}: must be unix://PATH, http://HOST:PORT or https://HOST:PORT")
    if "@" in parts.netloc:
        raise AddressError("the url holds a password: give user and password apart")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    host = host and unquote(host)
    if (
        not host
        or not _USABLE_HOST.fullmatch(host)
        or ("[" in parts.netloc and ":" not in host)  # Python 3.10 takes any text between brackets
        or port == 0
        or (port is None and re.search(r":[^\]]*$", parts.netloc))
    ):
        raise AddressError(f"url {shown(url)}: host or port is missing or wrong")
    try:
        host.encode("idna")
    except UnicodeError:
        raise AddressError(f"url {shown(url)}: the host can be none") from None
    path = parts.path.rstrip("/")
    if not path.endswith("/RPC2"):
        path += "/RPC2"
    return Address(url, parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], path, user, password)


def _split(url: str) -> SplitResult | None:
    if not _USABLE_TEXT.fullmatch(url):
        return None
    try:
        return urlsplit(url)
    except ValueError:  # half a pair of brackets, or something else than an address between them
        return None


def _check_login(user: str | None, password: str | None) -> None:
    if (user is None) != (password is None):
        raise AddressError("user and password go together")
    for name, text in (("user", user), ("password", password)):
        if text is not None and not _USABLE_LOGIN.fullmatch(text):
            raise AddressError(f"the {name} has a character that no header carries")
    if user is not None and ":" in user:
        raise AddressError("a user has no colon in it")


def find(
    url: str | None = None,
    user: str | None = None,
    password: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    configuration: str | None = None,
) -> Address:
    """Find the supervisord to ask: the one of the arguments, of the environment, or of supervisorctl.

    A user and password go to the URL from the same source alone.

    Args:
        url: See `read`.
        user: Goes with ``url``.
        password: Goes with ``url``.
        environment: Where `SUPERVISOR_SERVER_URL`, ``SUPERVISOR_USERNAME`` and ``SUPERVISOR_PASSWORD`` are looked up;
            by default that of this process.
        configuration: The file with the ``[supervisorctl]`` section; None for where supervisorctl looks. Named, it
            comes before the environment.

    Raises:
        AddressError: There is none in any of these places, a URL is wrong, or a user and password came without one.
    """
    if url is not None:
        return read(url, user, password)
    if user is not None or password is not None:
        raise AddressError("user and password go with a url of their own")
    variables = os.environ if environment is None else environment
    if configuration is None and variables.get(URL_VARIABLE):
        # The environment of a process that Supervisor started may have empty ones.
        return read(
            variables[URL_VARIABLE],
            variables.get("SUPERVISOR_USERNAME") or None,
            variables.get("SUPERVISOR_PASSWORD") or None,
        )
    from supervisor_cache.client.configuration import find_server  # noqa: PLC0415 - takes time, and is seldom needed

    found = find_server(configuration, variables)
    if found is None:
        raise AddressError(f"which supervisord? No url was given, {URL_VARIABLE} is not set, no configuration file")
    return read(*found)
