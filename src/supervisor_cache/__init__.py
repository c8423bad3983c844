"""Small runtime markers inside ``supervisord``, as key/value pairs.

Importing this package imports nothing but the errors: what runs inside ``supervisord`` is named in its
configuration file (``supervisor_cache.rpcinterface`` and ``supervisor_cache.controllerplugin``), and what processes use
is imported when it is asked for.
"""

from supervisor_cache.errors import (
    CacheError,
    HistoryGoneError,
    InvalidArgumentsError,
    InvalidKeyError,
    LimitExceededError,
    NoSuchKeyError,
    ReadOnlyError,
    ShutdownError,
    UnavailableError,
    WrongTypeError,
)

TYPE_CHECKING = False  # typing's own takes time to import
if TYPE_CHECKING:
    from supervisor_cache.client.publishing import publish

__version__ = "2.0.0.dev0"

__all__ = [
    "CacheError",
    "HistoryGoneError",
    "InvalidArgumentsError",
    "InvalidKeyError",
    "LimitExceededError",
    "NoSuchKeyError",
    "ReadOnlyError",
    "ShutdownError",
    "UnavailableError",
    "WrongTypeError",
    "__version__",
    "publish",
]


def __getattr__(name: str) -> object:
    if name == "publish":
        from supervisor_cache.client.publishing import publish  # noqa: PLC0415 - see above

        return publish
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
