"""The options that stand before the command: which supervisord, and which cache of it."""

import os
import stat
import sys

from supervisor_cache.client.cache import CacheClient
from supervisor_cache.commands.arguments import Usage, UsageError, Words
from supervisor_cache.commands.durations import seconds
from supervisor_cache.commands.failures import USAGE as USAGE_STATUS
from supervisor_cache.commands.failures import FailureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor_cache.client.transport import Transport

USAGE = Usage(
    ("[COMMAND]", "[ARGUMENT...]"),
    ("help", "version"),
    {
        "user": "NAME",
        "password-file": "PATH",
        "namespace": "NAME",
        "configuration": "PATH",
        "local": "PATH",
        "timeout": "TIME",
    },
    {"url": "URL"},
)
_DEFAULT_TIMEOUT = 5.0


class Globals:
    """What was typed before the command.

    Args:
        words: What was typed.

    Attributes:
        namespace: The name of the cache.
        timeout: Seconds for one call.

    Raises:
        UsageError: Options exclude each other.
    """

    def __init__(self, words: Words) -> None:
        values = words.values
        self.namespace = values.get("namespace", "cache")
        self.timeout = seconds(values["timeout"], "--timeout") if "timeout" in values else _DEFAULT_TIMEOUT
        self._urls = words.lists.get("url", [])
        self._user = values.get("user")
        self._password_file = values.get("password-file")
        self._configuration = values.get("configuration")
        self._local = values.get("local")
        self._password: str | None = None
        if not self.namespace.isascii() or not self.namespace.replace("-", "_").isidentifier():
            raise UsageError("--namespace must be a letter, then letters, digits, _ and -")
        if (self._user is None) != (self._password_file is None):
            raise UsageError("--user and --password-file go together")
        if self._user is not None and not self._urls:
            raise UsageError("--user and --password-file go with --url: a password goes to the URL of the same source")
        if self._local is not None and (self._urls or self._configuration):
            raise UsageError("--local asks no server: it goes with neither --url nor --configuration")

    def connect(
        self, url: str | None = None, *, local_reads: bool = False, timeout: float | None = None
    ) -> CacheClient:
        """Answer the cache that is meant.

        Args:
            url: One of several; by default the one that was given, or what the environment or a file says.
            local_reads: Whether the command may read a database.
            timeout: Seconds for one call; by default what was typed.

        Raises:
            UsageError: A database was named, and the command does not read one.
            CacheError: Nobody knows which supervisord.
        """
        if self._local is not None:
            if not local_reads:
                raise UsageError("--local is for fetch, keys, items, entry and count")
            from supervisor_cache.cli.local import connect_local  # noqa: PLC0415 - seldom needed

            return connect_local(self._local)
        return CacheClient(self.transport(url, timeout=timeout))

    def transport(self, url: str | None = None, *, timeout: float | None = None) -> "Transport":
        """Answer what calls the methods; arguments as for `connect`."""
        from supervisor_cache.client import address  # noqa: PLC0415 - not for --local
        from supervisor_cache.client.transport import Transport  # noqa: PLC0415 - likewise

        given = url or (self._urls[0] if self._urls else None)
        if self._password is None and self._password_file is not None:
            # Once: what came from standard input is not there a second time.
            self._password = _password(self._password_file)
        found = address.find(given, self._user, self._password, configuration=self._configuration)
        return Transport(found, self.namespace, timeout or self.timeout)


def _password(path: str) -> str:
    """Read a password: the first line of a file that others cannot read."""
    subject = "--password-file"
    if path == "-" and sys.stdin is None:
        raise FailureError(USAGE_STATUS, f"{path}: there is no standard input", subject)
    try:
        with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IROTH:
                raise FailureError(USAGE_STATUS, f"{path}: others can read it: chmod o-r", subject)
            return file.readline(64 * 1024).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise FailureError(USAGE_STATUS, f"{path}: not UTF-8", subject) from None
    except OSError as error:
        raise FailureError(USAGE_STATUS, f"{path}: {error.strerror}", subject) from None
    except ValueError as error:
        raise FailureError(USAGE_STATUS, f"{path}: {error}", subject) from None
