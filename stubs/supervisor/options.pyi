from collections.abc import Callable
from typing import Any

from supervisor.http import supervisor_http_server
from supervisor.loggers import Logger

class ServerOptions:
    first: bool
    identifier: str
    mood: int
    here: str | None
    logger: Logger
    rpcinterface_factories: list[tuple[str, Callable[..., Any], dict[str, str]]]
    server_configs: list[dict[str, Any]]
    httpservers: list[tuple[dict[str, Any], supervisor_http_server]]
    def get_socket_map(self) -> dict[int, Any]: ...

class ClientOptions:
    args: list[str]
    interactive: int | None
    serverurl: str
    plugins: list[object]
    plugin_factories: list[tuple[str, Callable[..., Any], dict[str, str]]]

def split_namespec(namespec: str) -> tuple[str, str | None]: ...
