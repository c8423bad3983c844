"""An RPC extension that calls our factory itself, so that no section names it."""

from supervisor.supervisord import Supervisor

from supervisor_cache.rpcinterface import CacheNamespaceRPCInterface, make_cache_rpcinterface


def make_wrapped(supervisord: Supervisor, **options: str) -> CacheNamespaceRPCInterface:
    return make_cache_rpcinterface(supervisord, **options)
