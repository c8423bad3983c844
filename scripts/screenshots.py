"""Take the pictures of the page that the documentation shows."""

import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright
from tests.harness import program, running, until

DOCS = Path(__file__).parents[1] / "docs"
LOOKS: tuple[tuple[str, Literal["light", "dark"], int, int], ...] = (
    ("light", "light", 1280, 620),
    ("dark", "dark", 1280, 620),
    ("narrow", "light", 390, 800),
)


def main() -> int:
    """Write docs/page-*.png."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.stderr.write("chromium is missing\n")
        return 1
    with running({"cache": {"http": "true"}}, program("web") + program("worker"), login=False) as supervisord:
        server = supervisord.unix()
        until(lambda: all(one["statename"] == "RUNNING" for one in server.supervisor.getAllProcessInfo()), "they run")
        cache = server.cache
        cache.storeMany({"config/batch_size": 250, "config/ratio": 0.75, "config/debug": False})
        cache.store("config/servers", {"primary": "db-1", "replicas": ["db-2", "db-3"]}, {"note": "after the move"})
        cache.increment("deploys", 118)
        cache.store("release", "2026.11.4", {"note": "weekly"})
        cache.store("maintenance", "on", {"ttl": 7200, "note": "Ada: new switch in rack 4"})
        cache.store("leader", "web-1", {"owner": "worker"})
        cache.store("process/web:web/status", "serving", {"owner": "web"})
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for name, scheme, width, height in LOOKS:
                page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
                page.goto(f"{supervisord.inet_url}/cache/")
                page.locator("#contact[data-state=live]").wait_for()
                page.locator("#entries tr").last.wait_for()
                page.screenshot(path=DOCS / f"page-{name}.png")
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
