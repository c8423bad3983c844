"""Small runtime markers inside ``supervisord``, as key/value pairs.

Importing this package imports nothing but the errors: what runs inside ``supervisord`` is named in its
configuration file (``supervisor_cache.rpcinterface`` and ``supervisor_cache.controllerplugin``), and what processes use
is imported when it is asked for.
"""

from supervisor_cache.errors import (
    AccessDeniedError,
    AddressError,
    CacheError,
    ClientError,
    HistoryGoneError,
    InvalidArgumentsError,
    InvalidKeyError,
    InvalidReplyError,
    LimitExceededError,
    LockLostError,
    LockTimeoutError,
    NoSocketError,
    NoSuchKeyError,
    NoSuchNamespaceError,
    ReadOnlyError,
    RejectedError,
    ShutdownError,
    UnavailableError,
    UnknownOutcomeError,
    UnreachableError,
    WrongTypeError,
)

TYPE_CHECKING = False  # typing's own takes time to import
if TYPE_CHECKING:
    from supervisor_cache.client.connecting import connect
    from supervisor_cache.client.local import open_local
    from supervisor_cache.client.publishing import publish

__version__ = "2.0.0"

__all__ = [
    "AccessDeniedError",
    "AddressError",
    "CacheError",
    "ClientError",
    "HistoryGoneError",
    "InvalidArgumentsError",
    "InvalidKeyError",
    "InvalidReplyError",
    "LimitExceededError",
    "LockLostError",
    "LockTimeoutError",
    "NoSocketError",
    "NoSuchKeyError",
    "NoSuchNamespaceError",
    "ReadOnlyError",
    "RejectedError",
    "ShutdownError",
    "UnavailableError",
    "UnknownOutcomeError",
    "UnreachableError",
    "WrongTypeError",
    "__version__",
    "connect",
    "open_local",
    "publish",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    if name == "connect":
        from supervisor_cache.client.connecting import connect  # noqa: PLC0415 - see above

        return connect
    if name == "publish":
        from supervisor_cache.client.publishing import publish  # noqa: PLC0415 - see above

        return publish
    if name == "open_local":
        from supervisor_cache.client.local import open_local  # noqa: PLC0415 - see above

        return open_local
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
