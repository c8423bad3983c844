"""What ``supervisor.rpcinterface_factory`` names in ``supervisord.conf``."""

from supervisor.supervisord import Supervisor

from supervisor_cache.server.rpc import API_VERSION, CacheNamespaceRPCInterface
from supervisor_cache.server.runtime import RUNTIME

__all__ = ["API_VERSION", "CacheNamespaceRPCInterface", "make_cache_rpcinterface"]


def make_cache_rpcinterface(supervisord: Supervisor, /, **_options: str) -> CacheNamespaceRPCInterface:
    """Make one RPC interface; Supervisor calls this for each HTTP server and section.

    The options are read from supervisord, with those of all sections, so that each error is found at the first call.
    """
    return RUNTIME.interface(supervisord, make_cache_rpcinterface)
