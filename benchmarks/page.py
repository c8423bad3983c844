"""The page in a browser, with as many entries as a cache has by default."""

import shutil

from playwright.sync_api import sync_playwright
from tests.harness import running

from benchmarks.figures import Figure, Goal, Section, Side

_ENTRIES = 10_000
_TYPED = "config/0123"
# From a key typed to the frame after the one that shows what it has done.
_WATCH = """() => {
    window.longest = 0;
    document.getElementById("filter").addEventListener("input", () => {
        const start = performance.now();
        requestAnimationFrame(() => setTimeout(() => {
            window.longest = Math.max(window.longest, performance.now() - start);
        }));
    }, true);
}"""
_PAINTED = """() => new Promise((done) => {
    const look = () => document.querySelector("#entries tr")
        ? requestAnimationFrame(() => done(performance.now()))
        : requestAnimationFrame(look);
    look();
})"""


def with_many(*, quick: bool) -> Section:
    """Time the first entries to be seen, and the longest time from a key typed in the filter to the next frame."""
    visits = 2 if quick else 10
    title, method = "The page", f"Chromium without a window, {_ENTRIES} entries, {visits} visits; the longest of all."
    program = shutil.which("chromium")
    if program is None:
        return Section(title, f"{method} Left out: chromium is missing.", [])
    first, typed = 0.0, 0.0
    with running({"cache": {"http": "true"}}, login=False) as supervisord, sync_playwright() as playwright:
        for start in range(0, _ENTRIES, 1000):
            items = {f"config/{number:05}": f"value {number}" for number in range(start, start + 1000)}
            supervisord.unix().cache.storeMany(items, {"note": "a note as people write it"})
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(visits):
            page = browser.new_page()
            page.goto(f"{supervisord.inet_url}/cache/", wait_until="commit")
            first = max(first, float(page.evaluate(_PAINTED)))
            page.locator("#contact[data-state=live]").wait_for()
            page.evaluate(_WATCH)
            page.locator("#filter").press_sequentially(_TYPED, delay=50)
            page.wait_for_timeout(200)
            typed = max(typed, float(page.evaluate("window.longest")))
            page.close()
        browser.close()
    return Section(
        title,
        method,
        [
            Figure("from the request to the first entries", first, "ms", Goal(Side.AT_MOST, 1000)),
            Figure("from a key in the filter to the next frame", typed, "ms", Goal(Side.AT_MOST, 100)),
        ],
    )
