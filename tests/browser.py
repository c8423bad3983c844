"""A real browser for a test, and what pages in it must not do whatever they are shown."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from tests.conftest import missing
from tests.harness import START_SECONDS

PATIENCE_MILLISECONDS = START_SECONDS * 1000
# What Chromium says of each answer that is no success; which answers there are is the page's business.
_STATUSES = "Failed to load resource:"

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@contextlib.contextmanager
def chromium(*names: str) -> Iterator[Browser]:
    """Run a browser for the length of a ``with``, to which ``names`` are this machine, and there is no other."""
    program = shutil.which("chromium")
    if program is None:
        missing("chromium")
    rules = [*(f"MAP {name} 127.0.0.1" for name in names), "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"]
    arguments = ["--no-sandbox", f"--host-resolver-rules={', '.join(rules)}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Visits:
    """Pages of one test, and what is wrong with them: dialogs of the browser, errors, requests to elsewhere."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.faults: list[str] = []

    def page(self, url: str, **options: Any) -> Page:
        """Open ``url`` as a visitor who has not been here before."""
        context = self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        self._contexts.append(context)
        own = urlsplit(url).netloc

        def console(message: ConsoleMessage) -> None:
            # Violations of the content security policy are among them.
            if message.type in {"error", "warning"} and not message.text.startswith(_STATUSES):
                self.faults.append(f"console: {message.text}")

        def dialog(opened: Dialog) -> None:
            self.faults.append(f"dialog: {opened.message}")
            opened.dismiss()

        def request(asked: Request) -> None:
            parts = urlsplit(asked.url)
            if parts.scheme != "data" and parts.netloc != own:
                self.faults.append(f"request: {asked.url}")

        context.on("console", console)
        context.on("dialog", dialog)
        context.on("request", request)
        context.on("weberror", lambda found: self.faults.append(f"error: {found.error}"))
        page = context.new_page()
        page.goto(url)
        return page

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()
