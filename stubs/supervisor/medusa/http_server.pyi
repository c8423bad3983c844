from socket import socket

class http_channel:
    current_request: object
    ac_out_buffer: bytes
    socket: socket
    def set_terminator(self, term: bytes | int | None) -> None: ...
    def close_when_done(self) -> None: ...

class http_request:
    channel: http_channel
    command: str
    uri: str
    header: list[str]
    responses: dict[int, str]
    def __setitem__(self, key: str, value: object) -> None: ...
    def error(self, code: int) -> None: ...
