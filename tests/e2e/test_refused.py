"""What a client sees whose body is too large: always the answer, never a broken pipe; and what it costs the others."""

import warnings
import xmlrpc.client
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.raw import Connection, Server, request
from tests.harness import PASSWORD, USER, Supervisord, running

MIB = 1024 * 1024
BIG = 3 * MIB
# The guard takes what was announced up to 16 MiB; more is cut off.
ANNOUNCED = [BIG, 15 * MIB, 100 * MIB]
ROUNDS = 64


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    with running() as supervisord:
        yield supervisord
        assert "Traceback" not in supervisord.log


@pytest.fixture(params=[False, True], ids=["unix", "inet"])
def server(supervisord: Supervisord, request: pytest.FixtureRequest) -> Server:
    return Server(supervisord, inet=request.param)


def proxy(server: Server) -> Any:
    return server.supervisord.inet() if server.inet else server.supervisord.unix()


def refusal(call: Callable[..., Any], *arguments: Any) -> tuple[int, str]:
    """Call what is refused, and answer the HTTP status and its text."""
    with warnings.catch_warnings():
        # Supervisor's transport forgets to close the reply.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            call(*arguments)
        except xmlrpc.client.ProtocolError as error:
            return error.errcode, error.errmsg
    raise AssertionError("it was not refused")


@pytest.mark.parametrize("number", range(10))
def test_a_body_that_is_too_large_shows_as_413_through_supervisors_transport(server: Server, number: int) -> None:
    cache = proxy(server).cache
    assert refusal(cache.store, f"k{number}", "x" * BIG) == (413, "Request Entity Too Large")
    assert cache.getCount() == 0


@pytest.mark.parametrize("number", range(10))
def test_a_body_that_is_too_large_shows_as_413_through_pythons_transport(supervisord: Supervisord, number: int) -> None:
    login = f"{USER}:{PASSWORD.replace(' ', '%20')}"
    with xmlrpc.client.ServerProxy(f"http://{login}@127.0.0.1:{supervisord.port}/RPC2") as plain:
        assert refusal(plain.cache.store, f"k{number}", "x" * BIG) == (413, "Request Entity Too Large")
        assert plain.cache.getCount() == 0


@pytest.mark.parametrize("verb", ["store", "add"])
def test_a_file_that_is_too_large_is_refused_by_the_command_with_413(server: Server, verb: str) -> None:
    path = server.supervisord.folder / "big"
    path.write_text("x" * BIG)
    url = server.supervisord.inet_url if server.inet else server.supervisord.unix_url
    ended = server.supervisord.ctl(
        f"cache_{verb}", "--file", str(path), "k", url=url, options=("-u", USER, "-p", PASSWORD)
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    why = "the request is too large; the option max_request_bytes sets how large one may be"
    assert ended.stderr == f"k: ERROR (LIMIT_EXCEEDED: {why})\n"
    assert proxy(server).cache.getCount() == 0


def refused(server: Server, announced: int) -> Connection:
    connection = server.connect()
    connection.send(request("POST", "/RPC2", [*server.login, f"Content-Length: {announced}"]))
    reply = connection.reply()
    assert reply is not None
    assert reply.status == 413
    return connection


@pytest.mark.parametrize("announced", ANNOUNCED)
def test_who_is_refused_and_sends_on_and_on_costs_no_memory_and_holds_nobody_up(server: Server, announced: int) -> None:
    supervisord = server.supervisord
    other = supervisord.unix()
    other.supervisor.getState()
    before = supervisord.resident_kilobytes()
    with refused(server, announced) as connection:
        for _ in range(ROUNDS):
            connection.send(b"x" * MIB)
            assert other.supervisor.getState()["statename"] == "RUNNING"
        assert connection.is_closed()
    assert supervisord.resident_kilobytes() - before < 8 * 1024


def test_a_request_after_the_refused_body_is_not_run(server: Server) -> None:
    smuggled = xmlrpc.client.dumps(("smuggled", True), "cache.store").encode()
    with refused(server, BIG) as connection:
        connection.send(b"x" * BIG)
        connection.send(request("POST", "/RPC2", [*server.login, f"Content-Length: {len(smuggled)}"], smuggled))
        assert connection.rest() == []
    assert proxy(server).cache.getKeys() == []


def test_those_who_are_refused_and_send_nothing_hold_nobody_up(server: Server) -> None:
    silent = [refused(server, BIG) for _ in range(20)]
    try:
        assert proxy(server).supervisor.getState()["statename"] == "RUNNING"
        assert proxy(server).cache.store("k", "v") is True
        assert proxy(server).cache.clear() is True
        # Half closed: the answer has come whole, and nothing will follow it.
        assert all(connection.is_closed() for connection in silent)
    finally:
        for connection in silent:
            connection.close()
