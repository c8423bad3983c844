"""An RPC extension for the benchmarks: a method that does nothing, and one that fills the cache.

``noop.accept`` takes any request, so that what it costs is what Supervisor's parser takes.
"""

from pathlib import Path
from typing import Any

from supervisor.supervisord import Supervisor

from benchmarks.states import STATES, fill

_ROOT = Path(__file__).resolve().parent.parent
# What a supervisord needs to have it: lines of its configuration file, and of its environment.
SECTION = """
[rpcinterface:noop]
supervisor.rpcinterface_factory = benchmarks.noop_plugin:make_noop_rpcinterface
"""
ENVIRONMENT = {"PYTHONPATH": str(_ROOT)}


class NoopRPCInterface:
    """The namespace ``noop``."""

    def __init__(self, supervisord: Supervisor) -> None:
        self._supervisord = supervisord

    def accept(self, *_arguments: object) -> bool:
        """Return true, whatever the arguments

        @return boolean  Always true
        """  # noqa: D415 - Supervisor's dialect
        return True

    def prepare(self, state: str) -> str:
        """Fill the cache, from within: over RPC it would take minutes

        @param  string state  One of the states
        @return string        The revision after which all changes are known
        """  # noqa: D415 - Supervisor's dialect
        return fill(self._cache(), STATES[state])

    def _cache(self) -> Any:
        """The RPC interface of the cache, as Supervisor's own handler has it."""
        for _, server in self._supervisord.options.httpservers:
            for handler in vars(server)["handlers"]:
                root = getattr(handler, "rpcinterface", None)
                if root is not None:
                    return root.cache
        raise LookupError("no XML-RPC handler")


def make_noop_rpcinterface(supervisord: Supervisor, **_options: str) -> NoopRPCInterface:
    """Make the RPC interface; named in the configuration file."""
    return NoopRPCInterface(supervisord)
