"""nginx in front, with the configuration that the documentation shows."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import Visits, chromium
from tests.conftest import missing
from tests.examples import blocks
from tests.harness import START_SECONDS, Supervisord, free_port, running, until

DOCUMENT = Path(__file__).parents[2] / "docs" / "http.md"
NAME = "ops.example.com"
# All that is not the documentation's: where it runs, and the certificate.
CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {name};
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
{location}
    }}
}}
"""


def documented(port: int) -> str:
    """The block of the documentation, for a supervisord at ``port``."""
    (block,) = (found.code for found in blocks(DOCUMENT) if found.language == "nginx")
    assert block.count("127.0.0.1:9001") == 1
    return block.replace("127.0.0.1:9001", f"127.0.0.1:{port}")


@contextlib.contextmanager
def nginx(folder: Path, supervisord: Supervisord) -> Iterator[str]:
    """Run nginx in front of ``supervisord``; answer its URL."""
    for needed in ("nginx", "openssl"):
        if shutil.which(needed) is None:
            missing(needed)
    certify = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={NAME}", "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem"),
    ]  # fmt: skip
    subprocess.run(certify, check=True, capture_output=True, timeout=START_SECONDS)
    port = free_port()
    text = CONFIGURATION.format(folder=folder, port=port, name=NAME, location=documented(supervisord.port))
    (folder / "nginx.conf").write_text(text)
    with (folder / "errors").open("w") as errors:
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    try:
        until(lambda: (folder / "nginx.pid").exists() or process.poll() is not None, "nginx starts")
        assert process.poll() is None, (folder / "errors").read_text()
        yield f"https://{NAME}:{port}/markers/cache"
    finally:
        process.terminate()
        process.wait(START_SECONDS)


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    with running({"cache": {"http": "true", "allowed_hosts": NAME}}, login=False) as one:
        yield one
        assert "Traceback" not in one.log


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, supervisord: Supervisord) -> Iterator[str]:
    with nginx(tmp_path_factory.mktemp("nginx"), supervisord) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(NAME) as found:
        yield found


def test_the_page_reads_and_writes_and_follows_through_nginx(
    browser: Browser, supervisord: Supervisord, front: str
) -> None:
    cache = supervisord.unix().cache
    visits = Visits(browser)
    try:
        # Without the slash at the end, for the redirection must not lose the prefix.
        page = visits.page(front, ignore_https_errors=True)
        assert page.url == f"{front}/"
        expect(page.locator("#contact")).to_have_text("live")
        page.get_by_role("button", name="Add entry").click()
        page.locator("#edit-key").fill("a/b")
        page.locator("#edit-value").fill("from the page")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#entries .key")).to_have_text(["a/b"])
        assert cache.fetch("a/b") == "from the page"
        cache.store("a/b", "from elsewhere")
        expect(page.locator("#entries td[data-label=Value]")).to_have_text("from elsewhere")
        page.locator("[data-control=delete]").click()
        page.locator("#delete").click()
        expect(page.locator("#entries tr")).to_have_count(0)
        assert cache.getKeys() == []
    finally:
        visits.close()
    assert visits.faults == []


def test_each_event_arrives_before_the_next_one_happens(supervisord: Supervisord, front: str) -> None:
    cache = supervisord.unix().cache
    port = str(urlsplit(front).port)
    # For the stream to be open once the first event is here.
    since = cache.getRevision()
    cache.store("k", 0)
    command = [
        "curl",
        "-skN",
        "--resolve",
        f"{NAME}:{port}:127.0.0.1",
        "-H",
        f"Last-Event-ID: {since}",
        f"{front}/v1/stream",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        for number in range(1, 4):
            line = next(line for line in process.stdout if line.startswith("data:"))
            assert json.loads(line.removeprefix("data:"))[0]["entry"]["value"] == number - 1
            cache.store("k", number)
    finally:
        process.terminate()
        process.communicate(timeout=START_SECONDS)
