"""How a client is made."""

import math

from supervisor_cache.client import address
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.client.transport import Transport
from supervisor_cache.errors import InvalidArgumentsError


def connect(
    url: str | None = None,
    *,
    namespace: str = "cache",
    user: str | None = None,
    password: str | None = None,
    timeout: float = 5.0,
) -> CacheClient:
    """Make a client of one cache. Nobody is asked before the first call.

    Args:
        url: ``unix:///PATH``, ``http://HOST:PORT`` or ``https://HOST:PORT``. By default what the environment names in
            ``SUPERVISOR_SERVER_URL``, as for each process that Supervisor started; else what the configuration file
            does that ``supervisorctl`` would use. User and password then come from there, too.
        namespace: What stands after ``rpcinterface:``.
        user: The server's user; goes with ``url``.
        password: Likewise.
        timeout: Seconds for one call, from connecting to the last byte of its answer.

    Raises:
        AddressError: Nobody says which supervisord, or somebody wrongly.
        InvalidArgumentsError: Another argument is wrong.
    """
    if not 0 < timeout < math.inf:
        raise InvalidArgumentsError("timeout must be a number of seconds above 0")
    if not namespace.isascii() or not namespace.replace("-", "_").isidentifier():
        raise InvalidArgumentsError("namespace must be a letter, then letters, digits, _ and -")
    return CacheClient(Transport(address.find(url, user, password), namespace, timeout))
