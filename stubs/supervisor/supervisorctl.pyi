from typing import Any, TextIO

from supervisor.options import ClientOptions

class Controller:
    options: ClientOptions
    exitstatus: int
    stdout: TextIO
    def output(self, message: str) -> None: ...
    def get_server_proxy(self, namespace: str | None = None) -> Any: ...

class ControllerPluginBase:
    ctl: Controller
    def do_help(self, arg: str) -> None: ...
