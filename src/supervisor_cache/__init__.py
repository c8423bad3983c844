"""Small runtime markers inside ``supervisord``, as key/value pairs.

Importing this package imports nothing but the errors: what runs inside ``supervisord`` is named in its
configuration file (``supervisor_cache.rpcinterface`` and ``supervisor_cache.controllerplugin``).
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
]
