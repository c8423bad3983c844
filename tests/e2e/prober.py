"""Asks a supervisord for its state again and again, as a program of its own, and writes down how long that took."""

import http.client
import os
import socket
import struct
import sys
import time
import xmlrpc.client
from pathlib import Path

SECONDS = 30.0
PAUSE_SECONDS = 0.02


def delayed(pid: int) -> float:
    """Answer for how long the first thread of a process could have run, and had no processor; 0 where nobody tells."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class UnixConnection(http.client.HTTPConnection):
    """Speaks HTTP over a unix socket.

    Args:
        path: Of the socket.
        seconds: That each step may take.
    """

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self.pid = 0
        self._path = path

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(self.timeout)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        # Who listens.
        self.pid, _, _ = struct.unpack("3i", made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self.sock = made


def main() -> None:
    path, output = sys.argv[1:]
    connection = UnixConnection(path, SECONDS)
    body = xmlrpc.client.dumps((), "supervisor.getState")
    with Path(output).open("w", buffering=1) as file:
        while True:
            begun, before = time.monotonic(), delayed(connection.pid) + delayed(os.getpid())
            try:
                connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
                is_answered = connection.getresponse().read().startswith(b"<?xml")
            except (OSError, http.client.HTTPException):
                connection.close()
                is_answered = False
            late = delayed(connection.pid) + delayed(os.getpid()) - before
            file.write(f"{begun} {time.monotonic()} {int(is_answered)} {late}\n")
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
