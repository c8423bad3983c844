"""A handler for the benchmarks that answers the same few bytes to every ``GET /trivial``."""

from typing import Any

from supervisor import events
from supervisor.supervisord import Supervisor

BODY = b"2026.11.3"


class TrivialHandler:
    """As small as a handler of Supervisor's can be."""

    def match(self, request: Any) -> bool:
        """Whether it is asked for."""
        return bool(request.uri.startswith("/trivial"))

    def handle_request(self, request: Any) -> None:
        """Answer."""
        request["Content-Type"] = "text/plain; charset=utf-8"
        request["Content-Length"] = len(BODY)
        request.push(BODY)
        request.done()


class TrivialRPCInterface:
    """Supervisor wants one."""


def make_trivial_rpcinterface(supervisord: Supervisor, **_options: str) -> TrivialRPCInterface:
    """Install the handler on each server, once they are there; named in the configuration file."""

    def install(_event: events.Event) -> None:
        for _, server in supervisord.options.httpservers:
            server.install_handler(TrivialHandler())

    events.subscribe(events.SupervisorRunningEvent, install)
    return TrivialRPCInterface()
