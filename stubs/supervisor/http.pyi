from collections.abc import Mapping
from typing import Any

from supervisor.medusa.http_server import http_request

class NOT_DONE_YET: ...

class Handler:
    def match(self, request: http_request) -> bool: ...
    def handle_request(self, request: http_request) -> None: ...

class supervisor_auth_handler(Handler):
    authorizer: Any
    def __init__(self, users: Mapping[str, str], handler: object) -> None: ...

class supervisor_http_server:
    def install_handler(self, handler: object) -> None: ...
