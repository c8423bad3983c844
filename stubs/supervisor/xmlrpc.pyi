from collections.abc import Callable
from typing import Any
from xmlrpc.client import Transport

from supervisor.http import Handler

class Faults:
    UNKNOWN_METHOD: int
    INCORRECT_PARAMETERS: int
    BAD_ARGUMENTS: int
    SHUTDOWN_STATE: int
    BAD_NAME: int
    FAILED: int

class RPCError(Exception):
    code: int
    text: str
    def __init__(self, code: int, extra: str | None = None) -> None: ...

class SupervisorTransport(Transport):
    def __init__(
        self, username: str | None = None, password: str | None = None, serverurl: str | None = None
    ) -> None: ...

class supervisor_xmlrpc_handler(Handler):
    rpcinterface: object
    def __init__(self, supervisord: object, subinterfaces: list[tuple[str, object]]) -> None: ...
    def loads(self, data: str) -> tuple[tuple[Any, ...] | None, str | None]: ...

class SystemNamespaceRPCInterface:
    def __init__(self, namespaces: list[tuple[str, object]]) -> None: ...
    def listMethods(self) -> list[str]: ...
    def methodHelp(self, name: str) -> str: ...
    def methodSignature(self, name: str) -> list[str]: ...

def xmlrpc_marshal(value: Any) -> str: ...
def traverse(ob: object, method: str, params: tuple[Any, ...]) -> Any: ...
def gettags(comment: str) -> list[tuple[int, str | None, str | None, str | None, str]]: ...
