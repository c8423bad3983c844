"""A client that means no good: nothing that it sends is taken, or answered with 500, or felt by anybody else."""

from typing import final

from tests.e2e.raw import LOGIN, Connection, Reply, Server, post, request
from tests.e2e.soak.workers import CUT, Worker
from tests.e2e.web import Web

_CALL = b"<?xml version='1.0'?><methodCall><methodName>cache.%s</methodName><params>%s</params></methodCall>"
_BODIES = (
    b"",
    b"\xff\xfe",
    b"<methodCall>",
    b"{" * 5000,
    _CALL % (b"store", b""),
    _CALL % (b"nothing", b""),
    _CALL % (b"store", b"<param><value>k</value></param><param><value><nil/></value></param>"),
    _CALL % (b"store", b"<param><value></value></param><param><value>1</value></param>"),
    _CALL % (b"store", b"<param><value>k</value></param><param>" + b"<value><array><data>" * 500),
    _CALL % (b"fetch", b"<param><value>" + b"k" * 100_000 + b"</value></param>"),
    _CALL % (b"getChanges", b"<param><value>soon</value></param>"),
    _CALL % (b"wait", b"<param><value>0</value></param><param><value><double>nan</double></value></param>"),
)
_PATHS = ("entries/a", "entries/%00", "entries/../x", "entries?limit=nan", "batch", "increment", "changes?since=x", "x")
_LINES = (
    "Content-Type: application/json",
    "Content-Type: text/html",
    "Content-Length: 99999999",
    "Content-Length: -1",
    "Transfer-Encoding: chunked",
    "Origin: http://elsewhere.example",
    "Sec-Fetch-Site: cross-site",
    "If-Match: x",
    "Expect: 100-continue",
)


@final
class Hostile(Worker):
    """Sends one thing after the other that should not be sent, each on a connection of its own."""

    def act(self) -> None:
        dice = self._dice
        server = Server(self._host.supervisord, inet=dice.random() < 0.5)
        try:
            with server.connect() as connection:
                reply = dice.choice([self._call, self._ask, self._cut, self._leave])(server, connection)
        except CUT:
            # It may have gone away, and whoever misbehaves may have to wait.
            return
        if reply is not None and reply.status >= 500:
            self._records.complain(f"{self.name}: {reply}")

    def _call(self, server: Server, connection: Connection) -> Reply | None:
        connection.send(post(self._dice.choice(_BODIES[1:]), *server.login))
        return connection.reply()

    def _ask(self, server: Server, connection: Connection) -> Reply | None:
        method = self._dice.choice(["PUT", "POST", "DELETE", "PATCH", "GET"])
        lines = [*server.login, self._dice.choice(_LINES)]
        body = self._dice.choice((b"", b"{", b'"\\ud800"', b'{"key":1}', b"[" * 3000))
        if not any(line.startswith(("Content-Length", "Transfer")) for line in lines):
            lines.append(f"Content-Length: {len(body)}")
        # What it does is refused in any case: nobody has this condition fulfilled.
        lines.append('If-Match: "1"')
        connection.send(request(method, f"/cache/v1/{self._dice.choice(_PATHS)}", lines, body))
        return None if any("9999" in line for line in lines) else connection.reply()

    def _cut(self, server: Server, connection: Connection) -> Reply | None:
        data = post(self._dice.choice(_BODIES), *server.login)
        connection.send(data[: self._dice.randrange(len(data))])
        return None

    def _leave(self, server: Server, connection: Connection) -> Reply | None:
        # Without reading, or without the password.
        web = Web(server)
        path = self._dice.choice(["v1/stream", "v1/changes?wait=60", "v1/entries", "metrics"])
        connection.send(web.request("GET", path))
        if self._dice.random() < 0.5:
            connection.send(request("DELETE", "/cache/v1/entries/a", [LOGIN[:-4], 'If-Match: "1"']))
        return None
