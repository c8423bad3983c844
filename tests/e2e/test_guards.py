"""What is refused by its headers alone, before Supervisor or anybody else reads it, and what is not."""

import socket
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartSupervisord
from tests.e2e.raw import LOGIN, Reply, Server, post, request
from tests.harness import PASSWORD, USER, running, until

KIB = 1024
LIMIT = 16 * KIB
SECTIONS = {
    "cache": {"max_request_bytes": "8KB", "allowed_hosts": "ops.example.com, dash.example.com:8443"},
    "other": {"max_request_bytes": "16KB"},
}
PATHS = ["/", "/RPC2", "/RPC2/", "/nonsense", "/logtail/x", "/mainlogtail", "/cache/", "/cache/v1/entries/k", "/other/"]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
CHANGING = ["POST", "PUT", "DELETE", "PATCH", "MKCOL", "post"]
OF_THE_GUARD = {403, 411, 413, 421}

COUNT = xmlrpc.client.dumps((), "cache.getCount").encode()
STORE = xmlrpc.client.dumps(("behind", True), "cache.store").encode()
SMUGGLED = post(xmlrpc.client.dumps(("smuggled", True), "cache.store").encode())


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with running(SECTIONS, login=False) as one, running(SECTIONS, login=True) as other:
        yield {"open": Server(one, inet=True), "password": Server(other, inet=True), "unix": Server(other, inet=False)}
        for supervisord in (one, other):
            assert "Traceback" not in supervisord.log
            assert "CRIT supervisor_cache" not in supervisord.log


@pytest.fixture(params=["open", "password", "unix"])
def server(servers: dict[str, Server], request: pytest.FixtureRequest) -> Server:
    return servers[request.param]


@pytest.fixture
def open_server(servers: dict[str, Server]) -> Server:
    return servers["open"]


@pytest.fixture(params=["password", "unix"])
def guarded_server(servers: dict[str, Server], request: pytest.FixtureRequest) -> Server:
    return servers[request.param]


def assert_refused(server: Server, status: int, method: str, path: str, headers: list[str], body: bytes = b"") -> None:
    """Check that the answer comes without a body, that the connection is closed, and that nothing has happened."""
    with server.connect() as connection:
        connection.send(request(method, path, headers, body))
        reply = connection.reply()
        assert reply is not None
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert connection.is_closed()


def own(server: Server) -> list[str]:
    return [f"Host: {server.host}", f"Origin: http://{server.host}"]


def answers_the_count(reply: Reply) -> bool:
    return reply.status == 200 and type(xmlrpc.client.loads(reply.body)[0][0]) is int


def padded(size: int) -> bytes:
    return COUNT + b" " * (size - len(COUNT))


# Lengths


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_a_body_over_the_limit_is_refused_unread_on_any_path(server: Server, method: str, path: str) -> None:
    headers = [f"Host: {server.host}", f"Content-Length: {LIMIT + 1}"]
    assert_refused(server, 413, method, path, headers)


def test_a_body_of_exactly_the_limit_is_read(server: Server) -> None:
    assert answers_the_count(server.ask("POST", "/RPC2", [f"Content-Length: {LIMIT}"], padded(LIMIT)))


def test_a_body_of_one_byte_more_is_not(server: Server) -> None:
    assert_refused(server, 413, "POST", "/RPC2", [*server.login, f"Content-Length: {LIMIT + 1}"])


def test_the_largest_limit_of_all_sections_holds_for_each(server: Server) -> None:
    assert answers_the_count(server.ask("POST", "/RPC2", [f"Content-Length: {LIMIT - 1}"], padded(LIMIT - 1)))


def test_the_default_limit_is_a_megabyte(start: StartSupervisord) -> None:
    server = Server(start(), inet=True)
    size = 1024 * KIB
    assert answers_the_count(server.ask("POST", "/RPC2", [f"Content-Length: {size}"], padded(size)))
    assert_refused(server, 413, "POST", "/RPC2", [f"Content-Length: {size + 1}"])


def test_a_reload_brings_the_new_limit_and_the_new_names_to_each_server(start: StartSupervisord) -> None:
    supervisord = start({"cache": {"max_request_bytes": "8KB"}}, login=False)
    supervisord.sections["cache"] = {"max_request_bytes": "4KB", "allowed_hosts": "new.example.com"}
    supervisord.reload()
    for server in (Server(supervisord, inet=True), Server(supervisord, inet=False)):
        assert_refused(server, 413, "POST", "/RPC2", [f"Content-Length: {4 * KIB + 1}"])
        assert answers_the_count(server.ask("POST", "/RPC2", [f"Content-Length: {4 * KIB}"], padded(4 * KIB)))
        assert (
            server.ask("POST", "/nonsense", ["Host: new.example.com", "Origin: http://new.example.com"]).status != 421
        )


@pytest.mark.parametrize("path", ["/RPC2", "/cache/v1/entries/k", "/cache/v1/values/k"])
@pytest.mark.parametrize("ends", [[], ["Connection: close"], ["Connection: Keep-Alive"]], ids=str)
def test_the_answer_reaches_a_client_that_sends_all_of_a_body_that_is_refused(
    server: Server, path: str, ends: list[str]
) -> None:
    size = 4096 * KIB
    headers = [*server.login, f"Host: {server.host}", *ends, f"Content-Length: {size}"]
    asked = request("PUT" if "v1" in path else "POST", path, headers)
    for sent in (asked, asked.replace(b"HTTP/1.1", b"HTTP/1.0")):
        with server.connect() as connection:
            connection._socket.sendall(sent)
            for _ in range(size // (64 * KIB)):
                connection._socket.sendall(b"x" * 64 * KIB)
            reply = connection.reply()
            assert reply is not None
            assert reply.status == 413
            assert connection.is_closed()


@pytest.mark.parametrize(
    "behind",
    [
        b"x" * 4096 * KIB + b"\r\n\r\n" + b"x" * KIB,
        b"\r\n\r\n",
        request("POST", "/RPC2", [f"Content-Length: {LIMIT + 1}"]) + b"x" * LIMIT,
        request("POST", "/RPC2", [f"Content-Length: {len(STORE)}"], STORE),
    ],
    ids=["no request", "nothing", "too large", "a request"],
)
def test_what_comes_behind_a_request_whose_reply_is_deferred_is_not_taken_in(server: Server, behind: bytes) -> None:
    cache = server.supervisord.unix().cache
    cache.delete("behind")
    wait = xmlrpc.client.dumps((cache.getRevision(), 30.0), "cache.wait").encode()
    memory = server.supervisord.resident_kilobytes()
    with server.connect() as connection:
        connection.send(request("POST", "/RPC2", [*server.login, f"Content-Length: {len(wait)}"], wait) + behind)
        until(lambda: cache.getStats()["watchers"] == 1, "it waits")
        connection.send(behind)
        cache.store("k", 1)
        reply = connection.reply()
        assert reply is not None
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        answer: Any = xmlrpc.client.loads(reply.body)[0][0]
        assert answer["changed"] is True
        connection.send(behind)
        assert connection.is_closed()
    assert cache.fetchMany(["behind"]) == {}
    cache.delete("k")
    assert server.supervisord.resident_kilobytes() - memory < 4096
    assert "unmarshallable" not in server.supervisord.log


def test_blank_lines_behind_a_request_whose_reply_is_deferred_are_none(server: Server) -> None:
    cache = server.supervisord.unix().cache
    wait = xmlrpc.client.dumps((cache.getRevision(), 30.0), "cache.wait").encode()
    asked = request("POST", "/RPC2", [*server.login, f"Content-Length: {len(wait)}"], wait) + b"\r\n"
    with server.connect() as connection:
        connection.send(asked)
        until(lambda: cache.getStats()["watchers"] == 1, "it waits")
        cache.store("k", 1)
        reply = connection.reply()
        assert reply is not None
        assert "connection" not in reply.headers
        cache.delete("k")
        connection.send(request("POST", "/RPC2", [*server.login, f"Content-Length: {len(COUNT)}"], COUNT))
        reply = connection.reply()
        assert reply is not None
        assert answers_the_count(reply)


@pytest.mark.parametrize("length", ["9" * 18, "9" * 19, "1" + "0" * 30, "9" * 300], ids=len)
def test_a_length_of_many_digits_is_too_large_like_any_other(server: Server, length: str) -> None:
    assert_refused(server, 413, "POST", "/RPC2", [*server.login, f"Content-Length: {length}"])


NO_LENGTHS = [
    *("-1", "+5", "abc", "", " ", "5,5", "5, 6", "5 5", "0x10", "1e3", "5.0", "1_000", "--5", "5;q=1", '"5"', "five"),
    *("\u0665", "\u00b2", "\uff15", "5\u00a0", "5\x0b", "5\x1f", "5\x85", "\u20035"),
]


@pytest.mark.parametrize("length", NO_LENGTHS, ids=ascii)
def test_a_length_that_is_no_number_is_a_bad_request(server: Server, length: str) -> None:
    for path in PATHS:
        assert_refused(server, 400, "POST", path, [f"Host: {server.host}", f"Content-Length: {length}"], b"12345")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "content-length: abc"],
        ["Content-Length: abc", "Content-Length: 5"],
        ["Content-Length:5", "Content-Length: 6"],
        ["Content-Length", "Content-Length: 5"],
        ["Content-Length: 5", " 5 x"],
        ["Content-Length : 5", "Content-Length: 6"],
    ],
    ids=str,
)
def test_lengths_that_contradict_each_other_are_a_bad_request(server: Server, lines: list[str]) -> None:
    assert_refused(server, 400, "POST", "/RPC2", [*server.login, *lines])


@pytest.mark.parametrize(
    "lines",
    [
        [f"Content-Length:{LIMIT + 1}"],
        [f"Content-Length :  {LIMIT + 1}  "],
        [f"CONTENT-LENGTH:\t{LIMIT + 1}"],
        [f"content-length: {LIMIT + 1}", f"Content-Length: {LIMIT + 1}"],
        ["Content-Length: 16", " 385"],
        ["Content-Length:", f" {LIMIT + 1}"],
    ],
    ids=str,
)
def test_a_length_counts_however_it_is_written(server: Server, lines: list[str]) -> None:
    assert_refused(server, 413, "POST", "/RPC2", [*server.login, *lines])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked", "identity", "", "\u0663"])
def test_a_body_in_chunks_is_refused_for_supervisor_cannot_read_it(server: Server, path: str, coding: str) -> None:
    headers = [f"Host: {server.host}", f"Transfer-Encoding: {coding}"]
    assert_refused(server, 411, "POST", path, headers)
    assert_refused(server, 411, "POST", path, [*headers, "Content-Length: 5"])


def test_memory_does_not_grow_with_what_follows_a_length_of_zero(open_server: Server) -> None:
    before = open_server.supervisord.resident_kilobytes()
    with open_server.connect() as connection:
        connection.send(request("POST", "/RPC2", ["Content-Length: 0"]))
        for _ in range(24):
            connection.send(b"x" * KIB * KIB)
        open_server.supervisord.inet(None, None).cache.getCount()
        assert open_server.supervisord.resident_kilobytes() - before < 8 * KIB


# What comes after a refused request


REFUSALS = [
    (413, [f"Content-Length: {LIMIT + 1}"]),
    (400, ["Content-Length: abc"]),
    (411, ["Transfer-Encoding: chunked"]),
    (403, ["Host: localhost", "Origin: null", "Content-Length: 5"]),
    (403, ["Host: localhost", "Sec-Fetch-Site: cross-site"]),
]


@pytest.mark.parametrize(("status", "headers"), REFUSALS, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_the_body_of_a_refused_request_is_never_run(server: Server, status: int, headers: list[str], path: str) -> None:
    smuggled = SMUGGLED.replace(b"\r\n", f"\r\n{LOGIN}\r\n".encode(), 1)
    assert_refused(server, status, "POST", path, [*server.login, *headers], smuggled)
    with server.connect() as connection:
        connection.send(request("POST", path, [*server.login, *headers]))
        connection.send(smuggled)
        connection.send(smuggled)
        assert [reply.status for reply in connection.rest()] in ([status], [])
    assert server.supervisord.unix().cache.getKeys() == []


# Foreign origins


FOREIGN = [
    "null",
    "",
    "https://evil.example",
    "http://evil.example",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:1",
    "http://{host}.evil.example",
    "http://{host}@evil.example",
    "http://evil.example@{host}",
    "http://{host}/",
    "http://{host}/path",
    "http://{host}?",
    "http://{host}#",
    "http://{host} http://evil.example",
    "http://evil.example http://{host}",
    "http://{host}, http://evil.example",
    "ftp://{host}",
    "file://",
    "chrome-extension://{host}",
    "{host}",
    "//{host}",
    "http://",
    "http:{host}",
    "http://{host}\u0000",
    "http://{host}\u00e9",
    "https://ops.example.com.evil.example",
    "https://ops.example.com:8443",
    "https://dash.example.com",
    "https://dash.example.com:84430",
    "https://xdash.example.com:8443",
]


@pytest.mark.parametrize("origin", FOREIGN, ids=ascii)
def test_a_foreign_origin_may_not_change_anything(server: Server, origin: str) -> None:
    line = "Origin: " + origin.format(host=server.host.replace("localhost", "localhost:9001"))
    host = f"Host: {server.host.replace('localhost', 'localhost:9001')}"
    for path in PATHS:
        assert_refused(server, 403, "POST", path, [*server.login, host, line])


@pytest.mark.parametrize("method", CHANGING)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "line", ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]
)
def test_no_method_that_changes_anything_may_come_from_elsewhere(
    server: Server, method: str, path: str, line: str
) -> None:
    assert_refused(server, 403, method, path, [*server.login, f"Host: {server.host}", line])


@pytest.mark.parametrize(
    "lines",
    [
        ["Sec-Fetch-Site: cross-site"],
        ["sec-fetch-site:same-site"],
        ["SEC-FETCH-SITE: Cross-Site"],
        ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site:", " cross-site"],
    ],
    ids=str,
)
def test_what_a_browser_calls_another_site_is_refused(server: Server, lines: list[str]) -> None:
    assert_refused(server, 403, "POST", "/RPC2", [*server.login, *own(server), *lines])


def test_one_foreign_origin_among_several_is_enough(server: Server) -> None:
    for lines in ([*own(server), "Origin: null"], ["Origin: null", *own(server)]):
        assert_refused(server, 403, "POST", "/RPC2", [*server.login, *lines])


def test_an_origin_is_not_the_own_for_being_one_of_two_hosts(server: Server) -> None:
    for hosts in ([server.host, "evil.example"], ["evil.example", server.host]):
        lines = [*server.login, *(f"Host: {host}" for host in hosts), "Origin: http://evil.example"]
        with server.connect() as connection:
            connection.send(post(COUNT, *lines))
            reply = connection.reply()
        assert reply is not None
        assert reply.status in {400, 403, 421}


OWN = [
    ("{host}", "http://{host}"),
    ("{host}", "HTTP://{host}"),
    ("{host}", "https://{host}"),
    ("127.0.0.1", "http://127.0.0.1"),
    ("127.0.0.1", "http://127.0.0.1:80"),
    ("127.0.0.1:80", "http://127.0.0.1"),
    ("127.0.0.1:443", "https://127.0.0.1"),
    ("127.0.0.1", "https://127.0.0.1:443"),
    ("localhost:9001", "http://localhost:9001"),
    ("LocalHost:9001", "http://localhost:9001"),
    ("[::1]:9001", "http://[::1]:9001"),
    ("[::1]", "http://[::1]:80"),
    ("ops.example.com", "https://ops.example.com"),
    ("ops.example.com:9001", "http://ops.example.com:9001"),
    ("127.0.0.1:9001", "https://ops.example.com"),
    ("127.0.0.1:9001", "https://ops.example.com:443"),
    ("127.0.0.1:9001", "http://OPS.example.COM:80"),
    ("127.0.0.1:9001", "https://dash.example.com:8443"),
    ("127.0.0.1:9001", "http://dash.example.com:8443"),
]


@pytest.mark.parametrize(("host", "origin"), OWN, ids=str)
def test_the_own_origin_may_change_what_it_likes(server: Server, host: str, origin: str) -> None:
    lines = [f"Host: {host.format(host=server.host)}", f"Origin: {origin.format(host=server.host)}"]
    length = f"Content-Length: {len(COUNT)}"
    assert answers_the_count(server.ask("POST", "/RPC2", [*lines, length], COUNT))
    assert answers_the_count(server.ask("POST", "/RPC2", [*lines, "Sec-Fetch-Site: same-origin", length], COUNT))
    for path in PATHS:
        for method in CHANGING:
            # Supervisor itself answers 411 to a POST without a length.
            assert server.ask(method, path, lines).status not in OF_THE_GUARD - {411}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9001"])
def test_with_a_password_or_a_unix_socket_the_name_is_no_matter(guarded_server: Server, host: str) -> None:
    for path in ("/cache/", "/other/x", "/nonsense"):
        for method in METHODS:
            lines = [f"Host: {host}", f"Origin: http://{host}"]
            assert guarded_server.ask(method, path, lines).status not in OF_THE_GUARD
            assert guarded_server.ask(method, path).status not in OF_THE_GUARD
    lines = [f"Host: {host}", f"Origin: http://{host}", f"Content-Length: {len(COUNT)}"]
    assert answers_the_count(guarded_server.ask("POST", "/RPC2", lines, COUNT))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_anybody_may_link_to_what_only_reads(server: Server, method: str) -> None:
    for path in ("/", "/nonsense", "/cache/"):
        for line in ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: http://evil.example"):
            assert server.ask(method, path, [f"Host: {server.host}", line]).status not in OF_THE_GUARD


# Names that have been made to point here


STRANGE_HOSTS = [
    ["Host: evil.example"],
    ["Host: evil.example:9001"],
    ["Host: localhost.evil.example"],
    ["Host: 127.0.0.1.evil.example"],
    ["Host: xlocalhost"],
    ["Host: 127.1"],
    ["Host: 2130706433"],
    ["Host: 0x7f000001"],
    ["Host: 127.0.0.01"],
    ["Host: localhost, evil.example"],
    ["Host: evil.example, localhost"],
    ["Host: localhost evil.example"],
    ["Host: evil.example:localhost"],
    ["Host: localhost@evil.example"],
    ["Host: localhost:80@evil.example"],
    ["Host: 127.0.0.1:80:evil.example"],
    ["Host: [evil.example]"],
    ["Host: [::1].evil.example"],
    ["Host: [localhost]"],
    ["Host: http://localhost"],
    ["Host: localhost/"],
    ["Host: ops.example.com.evil.example"],
    ["Host: xops.example.com"],
    ["Host: \u0661.1.1.1"],
    ["Host: "],
    ["Host: ."],
    ["Host: :80"],
    ["Host: []"],
    [],
    ["Host"],
    ["Host: localhost", "Host: localhost"],
    ["Host: localhost", "Host: evil.example"],
    ["Host: evil.example", "host: localhost"],
    ["Host: localhost", "Host: "],
]


@pytest.mark.parametrize("lines", STRANGE_HOSTS, ids=ascii)
def test_an_open_server_is_not_asked_under_a_name_that_is_not_its_own(open_server: Server, lines: list[str]) -> None:
    assert_refused(open_server, 421, "GET", "/cache/", lines)
    origin = "Origin: http://" + (lines[0].removeprefix("Host: ") if lines else "evil.example")
    assert_refused(open_server, 421, "POST", "/RPC2", [*lines, origin, f"Content-Length: {len(COUNT)}"], COUNT)
    assert_refused(open_server, 421, "GET", "/", [*lines, origin])


@pytest.mark.parametrize("method", [*METHODS, *CHANGING])
@pytest.mark.parametrize("path", ["/cache/", "/cache/v1/entries/k", "/other/", "/%63ache/", "/cache/?x=1"])
def test_on_the_own_paths_of_an_open_server_the_name_counts_for_any_method(
    open_server: Server, method: str, path: str
) -> None:
    assert_refused(open_server, 421, method, path, ["Host: evil.example"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
def test_on_any_path_of_an_open_server_the_name_counts_for_what_has_an_origin(
    open_server: Server, method: str, path: str
) -> None:
    assert_refused(open_server, 421, method, path, ["Host: evil.example", "Origin: http://evil.example"])


LOCAL = socket.gethostname()
FINE_HOSTS = [
    *("127.0.0.1", "127.0.0.1:9001", "192.168.1.5", "10.0.0.1:80", "[::1]", "[::1]:9001", "[2001:DB8::1]:80"),
    *("localhost", "LOCALHOST:9001", "localhost.", "localhost.:9001", LOCAL, LOCAL.upper(), f"{LOCAL}:9001"),
    *("ops.example.com", "ops.example.com:1234", "OPS.Example.com.", "dash.example.com", "dash.example.com:8443"),
]


@pytest.mark.parametrize("host", FINE_HOSTS)
def test_an_open_server_is_asked_under_its_addresses_and_names(open_server: Server, host: str) -> None:
    lines = [f"Host: {host}", f"Origin: http://{host}"]
    for method in METHODS:
        assert open_server.ask(method, "/cache/", [f"Host: {host}"]).status not in OF_THE_GUARD
        assert open_server.ask(method, "/nonsense", lines).status not in OF_THE_GUARD
    length = f"Content-Length: {len(COUNT)}"
    assert answers_the_count(open_server.ask("POST", "/RPC2", [*lines, length], COUNT))


@pytest.mark.parametrize("lines", STRANGE_HOSTS, ids=ascii)
def test_clients_that_are_no_browsers_may_call_an_open_server_what_they_like(
    open_server: Server, lines: list[str]
) -> None:
    length = f"Content-Length: {len(COUNT)}"
    assert answers_the_count(open_server.ask("POST", "/RPC2", [*lines, length], COUNT))


# Those whom none of this concerns


def test_supervisorctl_is_not_touched(servers: dict[str, Server]) -> None:
    for server in (servers["open"], servers["password"]):
        supervisord = server.supervisord
        for url, options in (("", ()), (supervisord.inet_url, ("-u", USER, "-p", PASSWORD))):
            assert supervisord.ctl("cache_count", url=url, options=options).stdout == "0\n"
            assert supervisord.ctl("pid", url=url, options=options).stdout == f"{supervisord.pid}\n"


def test_plain_clients_are_not_touched(servers: dict[str, Server]) -> None:
    for name, login in (("open", ""), ("password", f"{USER}:{PASSWORD.replace(' ', '%20')}@")):
        with xmlrpc.client.ServerProxy(f"http://{login}{servers[name].host}/RPC2") as proxy:
            assert proxy.cache.getCount() == 0


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a_client_needs_no_header_but_its_length(server: Server, version: str) -> None:
    with server.connect() as connection:
        whole = request("POST", "/RPC2", [*server.login, f"Content-Length: {len(COUNT)}"], COUNT)
        connection.send(whole.replace(b"HTTP/1.1", version.encode(), 1))
        reply = connection.reply()
    assert reply is not None
    assert answers_the_count(reply)


def test_a_connection_serves_many_requests(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(3):
            connection.send(post(COUNT, *server.login))
            reply = connection.reply()
            assert reply is not None
            assert answers_the_count(reply)


def test_the_page_of_supervisor_is_not_touched(server: Server) -> None:
    reply = server.ask("GET", "/", [f"Host: {server.host}", "Sec-Fetch-Site: none"])
    assert reply.status == 200
    assert b"Supervisor" in reply.body


# The password


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("login", [[], ["Authorization: Basic b3BlcmF0b3I6d3Jvbmc="], ["Authorization: Bearer x"]])
def test_the_password_is_asked_of_those_who_pass(servers: dict[str, Server], path: str, login: list[str]) -> None:
    server = servers["password"]
    with server.connect() as connection:
        connection.send(request("POST", path, [*login, *own(server), f"Content-Length: {len(COUNT)}"], COUNT))
        reply = connection.reply()
    assert reply is not None
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Basic realm="default"'


@pytest.mark.parametrize(("status", "headers"), REFUSALS, ids=str)
def test_those_who_do_not_pass_are_refused_with_and_without_the_password(
    servers: dict[str, Server], status: int, headers: list[str]
) -> None:
    server = servers["password"]
    for login in ([], [LOGIN], ["Authorization: Basic b3BlcmF0b3I6d3Jvbmc="]):
        assert_refused(server, status, "POST", "/RPC2", [*login, *headers])
