"""What another site's page tries in the browser of somebody who is logged in here."""

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import dumps

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser import PATIENCE_MILLISECONDS, chromium
from tests.e2e.raw import Server, request
from tests.harness import PASSWORD, USER, Supervisord, program, running, until

SECRET = "very-secret-value"
EVIL = "evil.example"
SECTIONS = {"cache": {"http": "true"}}
ACTIONS = ["?action=stopall", "index.html?action=stop&processname=sleeper", "?%61ction=restart&processname=sleeper"]
STORE = dumps(("taken", True), "cache.store")
READS = [
    "",
    "v1/entries",
    "v1/entries/k",
    "v1/values/k",
    "v1/changes?since=0",
    "v1/stats",
    "metrics",
    "v1/openapi.json",
]
WRITES = [
    ("PUT", "cache/v1/entries/taken", "text/plain", "x"),
    ("PUT", "cache/v1/entries/taken", "application/json", "1"),
    ("DELETE", "cache/v1/entries/k", "text/plain", ""),
    ("POST", "cache/v1/increment", "application/json", '{"key": "taken"}'),
    ("POST", "cache/v1/increment", "text/plain", '{"key": "taken"}'),
    ("POST", "cache/v1/touch", "text/plain", '{"key": "k", "ttl": 1}'),
    ("POST", "cache/v1/batch", "text/plain", '{"store": {"taken": 1}, "delete": ["k"]}'),
    ("POST", "cache/v1/batch", "application/x-www-form-urlencoded", '{"store": {"taken": 1}}'),
    ("POST", "RPC2", "text/xml", STORE),
    ("POST", "RPC2", "text/plain", STORE),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(EVIL) as found:
        yield found


@pytest.fixture(scope="module", params=[True, False], ids=["password", "open"])
def victim(request: pytest.FixtureRequest) -> Iterator[Supervisord]:
    with running(SECTIONS, program("sleeper"), login=request.param) as supervisord:
        yield supervisord
        assert "Traceback" not in supervisord.log


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture(scope="module")
def attacker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("attacker")
    (folder / "index.html").write_text("<!DOCTYPE html><title>nice</title>")
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(params=["127.0.0.1", EVIL], ids=["same site", "cross site"])
def evil(request: pytest.FixtureRequest, browser: Browser, victim: Supervisord, attacker: int) -> Iterator[Page]:
    """The attacker's page, in a browser that has been at the victim's: another port of its host, or another site."""
    victim.unix().cache.clear()
    victim.unix().cache.store("k", SECRET)
    context = browser.new_context(http_credentials={"username": USER, "password": PASSWORD, "origin": victim.inet_url})
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    with contextlib.closing(context):
        own = context.new_page()
        own.goto(f"{victim.inet_url}/cache/")
        own.locator("#entries tr").wait_for()
        page = context.new_page()
        page.goto(f"http://{request.param}:{attacker}/")
        before = victim.unix().cache.getRevision()
        yield page
        assert victim.unix().cache.getRevision() == before
        assert victim.unix().cache.getItems() == {"k": SECRET}
        assert victim.is_up()


FETCH = """async ([url, options]) => {
    try {
        const response = await fetch(url, {credentials: "include", ...options});
        return [response.type, response.status, await response.text()];
    } catch (error) { return ["refused", 0, String(error)]; }
}"""


@pytest.mark.parametrize("path", ACTIONS)
def test_what_stands_in_a_page_does_nothing_on_supervisors_own(evil: Page, victim: Supervisord, path: str) -> None:
    pid = victim.process("sleeper")["pid"]
    url = f"{victim.inet_url}/{path}"
    answered = evil.evaluate(
        """async (url) => {
            const ends = (element) => new Promise((done) => {
                element.onload = element.onerror = done;
                element.src = url;
                document.body.append(element);
                setTimeout(done, 2000);
            });
            await ends(document.createElement("img"));
            await ends(document.createElement("iframe"));
            await ends(document.createElement("script"));
            try { await fetch(url, {mode: "no-cors", credentials: "include"}); } catch (error) { return "refused"; }
            return "answered";
        }""",
        url,
    )
    # Whatever the answer was, it did nothing.
    assert answered in {"answered", "refused"}
    assert victim.process("sleeper")["statename"] == "RUNNING"
    assert victim.process("sleeper")["pid"] == pid
    assert "was refused" in victim.log


def test_a_link_that_somebody_follows_is_supervisors_as_ever(browser: Browser, victim: Supervisord) -> None:
    pid = victim.process("sleeper")["pid"]
    context = browser.new_context(http_credentials={"username": USER, "password": PASSWORD, "origin": victim.inet_url})
    with contextlib.closing(context):
        page = context.new_page()
        page.goto(f"{victim.inet_url}/?action=restart&processname=sleeper")
    until(lambda: victim.process("sleeper")["pid"] not in {0, pid}, "it is restarted")


def test_the_victims_own_page_may_do_what_the_attackers_may_not(
    browser: Browser, victim: Supervisord, attacker: int
) -> None:
    assert attacker != victim.port
    victim.unix().cache.clear()
    page = browser.new_page(http_credentials={"username": USER, "password": PASSWORD})
    with contextlib.closing(page):
        page.goto(f"{victim.inet_url}/cache/")
        options = {"method": "PUT", "body": "x", "headers": {"Content-Type": "text/plain"}}
        assert page.evaluate(FETCH, [f"{victim.inet_url}/cache/v1/entries/own", options])[:2] == ["basic", 201]
        assert victim.unix().cache.fetch("own") == "x"


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_no_fetch_reads(evil: Page, victim: Supervisord, mode: str) -> None:
    for path in READS:
        kind, status, text = evil.evaluate(FETCH, [f"{victim.inet_url}/cache/{path}", {"mode": mode}])
        assert (kind, status) in {("refused", 0), ("opaque", 0)}
        assert SECRET not in text


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_no_fetch_writes(evil: Page, victim: Supervisord, mode: str) -> None:
    for method, path, kind, body in WRITES:
        for keepalive in (False, True):
            options = {
                "mode": mode, "method": method, "headers": {"Content-Type": kind}, "body": body, "keepalive": keepalive
            }  # fmt: skip
            found = evil.evaluate(FETCH, [f"{victim.inet_url}/{path}", options])
            assert found[0] in {"refused", "opaque"}, (method, path, kind)
            assert "taken" not in victim.unix().cache.getKeys(), (method, path, kind)


@pytest.mark.parametrize("encoding", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_no_form_writes(evil: Page, victim: Supervisord, encoding: str) -> None:
    attackers = evil.url
    for path in ("cache/v1/batch", "cache/v1/increment", "RPC2", "cache/v1/entries/taken"):
        evil.goto(attackers)
        post_form(evil, victim, path, encoding)


def post_form(evil: Page, victim: Supervisord, path: str, encoding: str) -> None:
    with evil.expect_navigation(), evil.expect_response(lambda reply: reply.url.endswith(path)) as told:
        evil.evaluate(
            """([url, encoding]) => {
                const form = document.createElement("form");
                Object.assign(form, {method: "post", action: url, enctype: encoding});
                // Around the = that a form puts between name and value, it is JSON.
                const field = Object.assign(document.createElement("input"), {
                    name: '{"store": {"taken": 1}, "options": {"note": "', value: '"}}',
                });
                form.append(field); document.body.append(form); form.submit();
            }""",
            [f"{victim.inet_url}/{path}", encoding],
        )
    assert told.value.status == 403


def test_no_element_reads_or_frames(evil: Page, victim: Supervisord) -> None:
    found = evil.evaluate(
        """async ([base, paths]) => {
            const loaded = [];
            const tries = paths.flatMap((path) => [
                ["img", "src"], ["script", "src"], ["link", "href"],
                ["object", "data"], ["embed", "src"], ["video", "src"],
            ].map(([name, attribute]) => new Promise((done) => {
                const made = document.createElement(name);
                if (name === "link") made.rel = "stylesheet";
                made.onload = made.onloadeddata = () => {
                    if (!["object", "embed"].includes(name)) loaded.push(`${name} ${path}`);
                    done();
                };
                made.onerror = done;
                setTimeout(done, 1000);
                made[attribute] = base + path;
                document.body.append(made);
            })));
            await Promise.all(tries);
            return loaded;
        }""",
        [f"{victim.inet_url}/cache/", [*READS, "static/app.js", "static/style.css"]],
    )
    # Those of the same site may be loaded by it, for what they say is in the package: nothing of the cache.
    assert [one for one in found if "static/" not in one] == []
    assert evil.evaluate("document.documentElement.innerText").find(SECRET) < 0


def test_no_frame_shows_it(evil: Page, victim: Supervisord) -> None:
    for path in ("", "v1/values/k", "v1/entries"):
        url = f"{victim.inet_url}/cache/{path}"
        evil.evaluate("(url) => document.body.append(Object.assign(document.createElement('iframe'), {src: url}))", url)
    until(lambda: evil.title() and len(evil.frames) > 3, "the frames are there")
    evil.wait_for_timeout(500)
    for frame in evil.frames[1:]:
        assert SECRET not in frame.content()
        assert "namespace" not in frame.content()


def test_no_stream_socket_beacon_or_window_reads_or_writes(evil: Page, victim: Supervisord) -> None:
    found = evil.evaluate(
        """async (base) => {
            const first = (made, events) => new Promise((done) => {
                for (const name of events) made["on" + name] = () => done(name);
            });
            const told = {};
            told.stream = await first(
                new EventSource(base + "cache/v1/stream?since=0", {withCredentials: true}),
                ["open", "message", "error"]);
            told.socket = await first(
                new WebSocket(base.replace("http", "ws") + "cache/v1/stream"), ["open", "message", "error"]);
            for (const path of ["cache/v1/batch", "cache/v1/increment", "RPC2"])
                for (const type of ["text/plain", "application/x-www-form-urlencoded"])
                    navigator.sendBeacon(base + path, new Blob(['{"key": "taken", "store": {"taken": 1}}'], {type}));
            const opened = window.open(base + "cache/");
            await new Promise((done) => setTimeout(done, 500));
            try { told.window = opened.document.body.innerText; } catch { told.window = "refused"; }
            return told;
        }""",
        f"{victim.inet_url}/",
    )
    assert found == {"stream": "error", "socket": "error", "window": "refused"}


def test_a_name_that_has_been_made_to_point_here_is_refused(browser: Browser) -> None:
    with running(SECTIONS, login=False) as supervisord:
        supervisord.unix().cache.store("k", SECRET)
        context: BrowserContext = browser.new_context()
        with contextlib.closing(context):
            page = context.new_page()
            for path in READS:
                answer = page.goto(f"http://{EVIL}:{supervisord.port}/cache/{path}")
                assert answer is not None
                assert answer.status == 421
                assert SECRET not in page.content()
        with Server(supervisord, inet=True).connect() as connection:
            connection.send(request("PUT", "/cache/v1/entries/k", [f"Host: {EVIL}:{supervisord.port}"], b"x"))
            reply = connection.reply()
            assert reply is not None
            assert reply.status == 421
        assert supervisord.unix().cache.getItems() == {"k": SECRET}
