"""The web page in a real browser, over real supervisords."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from importlib import resources
from typing import Any
from xmlrpc.client import DateTime, Fault

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser import Visits, chromium
from tests.cluster import Cluster
from tests.conftest import StartSupervisord
from tests.harness import PASSWORD, USER, Supervisord, free_port, program, running, until

HTTP = {"http": "true"}
SECTIONS = {"cache": HTTP}
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
LONG = "it goes on " * 40
HOSTILE = {
    "an image": "<img src=x onerror=alert(1)>",
    "a script": "<script>alert(1)</script>",
    "an end of what is around it": "</td></table></script><svg onload=alert(1)>\"'><b>",
    "a URL": "javascript:alert(1)",
    "a link": '<a href="https://elsewhere.example/">x</a><link rel=stylesheet href=//elsewhere.example/x.css>',
    "a template": "{{constructor.constructor('alert(1)')()}}${alert(1)}%3Cscript%3E&lt;b&gt;",
    "turned around": "user\u202egnp.exe\u2066\u200f",
    "a selector": '"]#entries *, \\',
    "names of objects": "__proto__",
    "a path": "../..//./?a=b&c=d#e",
    "beyond the BMP": "\U0001f600\uffee\U00010000 e\u0301\u0301\u0301",
    "without a space": "w" * 1000,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    made = Visits(browser)
    yield made
    made.close()
    assert made.faults == []


@pytest.fixture(scope="module")
def shared() -> Iterator[Supervisord]:
    with running(SECTIONS, program("worker"), login=False) as supervisord:
        yield supervisord
        assert "Traceback" not in supervisord.log


@pytest.fixture
def page(visits: Visits, shared: Supervisord, cache: Any) -> Page:
    assert cache.getCount() == 0
    return live(visits.page(url(shared)))


def url(supervisord: Supervisord) -> str:
    return f"{supervisord.inet_url}/cache/"


def live(page: Page) -> Page:
    expect(page.locator("#contact")).to_have_text("live")
    return page


def row(page: Page, key: str) -> Locator:
    # By what is shown, which is what a user goes by.
    shown = page.locator(".key", has_text=re.compile(f"^{re.escape(key)}$"))
    return page.locator("#entries tr").filter(has=shown)


def cell(page: Page, key: str, label: str) -> Locator:
    return row(page, key).locator(f'td[data-label="{label}"]')


def keys(page: Page) -> Locator:
    return page.locator("#entries .key")


def button(page: Page, key: str, name: str) -> Locator:
    return row(page, key).get_by_role("button", name=f"{name} {key}", exact=True)


def edit(page: Page, key: str) -> None:
    button(page, key, "Edit").click()
    expect(page.locator("#editor")).to_be_visible()


def add(page: Page, key: str, value: str, kind: str = "text", *, ttl: str = "", note: str = "") -> None:
    """Fill the dialog, and save."""
    page.get_by_role("button", name="Add entry").click()
    editor = page.get_by_role("dialog", name="Add entry")
    editor.get_by_label("Key", exact=True).fill(key)
    editor.get_by_label("Type").select_option(kind)
    editor.get_by_label("Value").fill(value)
    editor.get_by_label("Ends in").fill(ttl)
    editor.get_by_label("Note").fill(note)
    editor.get_by_role("button", name="Save").click()


def gone(page: Page) -> None:
    expect(page.locator("dialog[open]")).to_have_count(0)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"))


# Entries


def test_entries_are_there_in_order_with_all_that_is_known_of_them(
    visits: Visits, shared: Supervisord, cache: Any
) -> None:
    cache.store("release", "2026.11.3")
    cache.store("leader", "web-1", {"owner": "worker", "note": "since the last deploy", "ttl": 7200})
    cache.store("Zeta", True)  # noqa: FBT003 - a value
    page = live(visits.page(url(shared)))
    expect(keys(page)).to_have_text(["Zeta", "leader", "release"])
    expect(cell(page, "release", "Value")).to_have_text("2026.11.3")
    expect(cell(page, "Zeta", "Value")).to_have_text("true")
    expect(cell(page, "leader", "Owner")).to_have_text("worker:worker")
    expect(cell(page, "leader", "Note")).to_have_text("since the last deploy")
    expect(cell(page, "leader", "Ends in")).to_have_text(re.compile(r"^(2h|1h 59m)$"))
    expect(cell(page, "leader", "Revision")).to_have_text(cache.getEntry("leader")["revision"])
    expect(page.locator("#count")).to_have_text("3 entries")


def test_an_empty_cache_says_so(page: Page) -> None:
    expect(page.locator("#nothing")).to_have_text("There is nothing here.")


def test_what_changes_appears_without_reloading_in_each_page_that_is_open(
    visits: Visits, shared: Supervisord, cache: Any
) -> None:
    pages = [live(visits.page(url(shared))) for _ in range(2)]
    for page in pages:
        page.evaluate("window.before = true")

    def everywhere(key: str, label: str, text: str | re.Pattern[str]) -> None:
        for page in pages:
            expect(cell(page, key, label)).to_have_text(text)

    cache.store("release", "1")
    everywhere("release", "Value", "1")
    cache.store("release", "2", {"note": "hurry"})
    everywhere("release", "Value", "2")
    everywhere("release", "Note", "hurry")
    cache.touch("release", 3600)
    everywhere("release", "Ends in", re.compile("59m|1h"))
    cache.storeMany({"a": 1, "b": 2, "short": 3}, {"ttl": 1})
    for page in pages:
        expect(keys(page)).to_have_text(["release"])
    cache.store("kept", "k")
    cache.delete("release")
    for page in pages:
        expect(keys(page)).to_have_text(["kept"])
    cache.clear()
    for page in pages:
        expect(keys(page)).to_have_count(0)
        expect(page.locator("#nothing")).to_be_visible()
        assert page.evaluate("window.before") is True


def test_what_has_changed_stands_out_for_a_moment(page: Page, cache: Any) -> None:
    page.evaluate(
        """() => new MutationObserver((all) => {
            for (const one of all) for (const made of one.addedNodes)
                if (made.classList?.contains("fresh")) window.fresh = made.dataset.key;
        }).observe(document.getElementById("entries"), {childList: true})"""
    )
    cache.store("new", "1")
    expect(row(page, "new")).to_be_visible()
    assert page.evaluate("window.fresh") == "new"
    expect(page.locator("tr.fresh")).to_have_count(0)


def test_a_large_value_that_a_stream_does_not_carry_is_fetched(page: Page, cache: Any) -> None:
    cache.store("large", "x" * 20000)
    row(page, "large").locator("summary").click()
    expect(row(page, "large").locator("pre")).to_have_text("x" * 20000)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "true or false"),
        (12, "integer"),
        (12.0, "decimal"),
        (0.5, "decimal"),
        (DateTime("20261103T12:00:00"), "date and time"),
        ("true", None),
    ],
)
def test_what_is_no_text_looks_different_and_says_what_it_is(
    page: Page, cache: Any, value: object, kind: str | None
) -> None:
    cache.storeMany({"k": value, "text": "x"})
    colour = "one => getComputedStyle(one).color"
    shown, text = cell(page, "k", "Value").locator(".value"), cell(page, "text", "Value").locator(".value")
    expect(shown).to_have_count(1)
    assert shown.get_attribute("title") == kind
    assert (shown.evaluate(colour) != text.evaluate(colour)) == (kind is not None)


def test_one_entry_is_one(page: Page, cache: Any) -> None:
    cache.store("k", 1)
    expect(page.locator("#count")).to_have_text("1 entry")
    page.get_by_label("Keys that start with").fill("x")
    expect(page.locator("#count")).to_have_text("0 of 1 entry")


def test_a_column_leaves_room_for_the_others(visits: Visits, shared: Supervisord, cache: Any) -> None:
    cache.store("key/" * 60, "word " * 30)
    page = live(visits.page(url(shared), viewport={"width": 1280, "height": 800}))
    expect(page.locator("#entries tr")).to_have_count(1)
    width = "one => one.getBoundingClientRect().width"
    assert page.locator('td[data-label="Value"]').evaluate(width) > 250
    page.get_by_role("tab", name="Changes").click()
    expect(page.locator("#changes tr").first).to_be_visible()
    server = page.locator('#changes td[data-label="By"]').first
    server.evaluate("one => { one.textContent = 'inet_http_server' }")
    assert (
        server.evaluate(
            "one => { const all = document.createRange(); all.selectNodeContents(one); "
            "return all.getClientRects().length }"
        )
        == 1
    )


def test_the_filter_works_as_one_types(page: Page, cache: Any) -> None:
    cache.storeMany({"config/a": 1, "config/b": 2, "contact": 3, "x": 4})
    expect(keys(page)).to_have_count(4)
    page.get_by_label("Keys that start with").press_sequentially("con")
    expect(keys(page)).to_have_text(["config/a", "config/b", "contact"])
    page.get_by_label("Keys that start with").press_sequentially("f")
    expect(keys(page)).to_have_text(["config/a", "config/b"])
    expect(page.locator("#count")).to_have_text("2 of 4 entries")
    cache.storeMany({"config/c": 5, "y": 6})
    expect(page.locator("#count")).to_have_text("3 of 6 entries")
    expect(keys(page)).to_have_text(["config/a", "config/b", "config/c"])
    page.get_by_label("Keys that start with").press("z")
    expect(page.locator("#nothing")).to_have_text("No key starts so.")
    page.get_by_label("Keys that start with").fill("")
    expect(keys(page)).to_have_count(6)


def test_more_entries_than_fit_come_as_one_scrolls(page: Page, cache: Any) -> None:
    cache.storeMany({f"k{number:04}": number for number in range(1000)})
    expect(page.locator("#count")).to_have_text("1000 entries")
    assert keys(page).count() < 1000
    # Both at one moment: rows may come between two looks.
    shown_if_more = "document.querySelector('#more').hidden ? null : document.querySelectorAll('#entries tr').length"
    while (shown := page.evaluate(shown_if_more)) is not None:
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        expect(keys(page).nth(shown)).to_be_attached()
    expect(keys(page)).to_have_text([f"k{number:04}" for number in range(1000)])


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (LONG, LONG.strip()),
        ("first\nsecond", "first\nsecond"),
        (
            {"servers": ["web-1", "web-2"], "weights": {"web-1": 10, "web-2": 20}},
            json.dumps({"servers": ["web-1", "web-2"], "weights": {"web-1": 10, "web-2": 20}}, indent=2),
        ),
    ],
    ids=["long", "lines", "structured"],
)
def test_a_value_that_is_long_or_structured_unfolds(page: Page, cache: Any, value: object, whole: str) -> None:
    cache.store("k", value)
    expect(row(page, "k").locator("summary")).to_be_visible()
    expect(row(page, "k").locator("pre")).to_have_count(0)
    row(page, "k").locator("summary").click()
    shown = row(page, "k").locator("pre")
    expect(shown).to_be_visible()
    assert shown.inner_text().strip() == whole
    cache.store("another", 1)
    cache.touch("k", 0, {"note": "seen"})
    expect(cell(page, "k", "Note")).to_have_text("seen")
    expect(shown).to_be_visible()


WHOLE_DOUBLES = {
    "whole": (2.0, "2.0"),
    "negative zero": (-0.0, "-0.0"),
    "large": (1e300, "1e+300"),
    "beyond what an integer may be": (4294967296.0, "4294967296.0"),
    "fraction": (0.1, "0.1"),
    "integer": (2, "2"),
    "in a list": ([1, 2.0], "[1,2.0]"),
    "of the names that are used here": ({"rawJSON": "2.0", "expires": 3.0}, '{"rawJSON":"2.0","expires":3.0}'),
}


@pytest.mark.parametrize(("value", "shown"), WHOLE_DOUBLES.values(), ids=WHOLE_DOUBLES)
def test_a_double_is_shown_as_one(
    visits: Visits, shared: Supervisord, page: Page, cache: Any, value: object, shown: str
) -> None:
    cache.store("k", value)
    # As it comes over the stream, and as it is listed.
    expect(cell(page, "k", "Value")).to_have_text(shown)
    expect(cell(page, "k", "Ends in")).to_have_text("")
    expect(cell(live(visits.page(url(shared))), "k", "Value")).to_have_text(shown)
    # And stays what it is where it is edited.
    edit(page, "k")
    page.get_by_role("button", name="Save").click()
    gone(page)
    assert typed(cache.fetch("k")) == typed(value)


def test_a_double_in_a_structure_is_shown_as_one_wherever_it_is(page: Page, cache: Any) -> None:
    value = {"load": [2.0, 0.5, 3], "deep": {"x" * 40: 1.0}}
    whole = json.dumps(value, indent=2)
    cache.store("k", value)
    row(page, "k").locator("summary").click()
    assert row(page, "k").locator("pre").inner_text().strip() == whole
    edit(page, "k")
    expect(page.locator("#edit-value")).to_have_value(whole)
    cache.store("k", value, {"note": "theirs"})
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict-value")).to_have_text(whole)
    page.get_by_role("button", name="Overwrite it with mine").click()
    gone(page)
    assert typed(cache.fetch("k")) == typed(value)


def test_a_browser_that_cannot_show_a_double_as_one_edits_it_as_one(
    visits: Visits, shared: Supervisord, cache: Any
) -> None:
    cache.store("k", 2.0)
    cache.store("list", [2.0, 1])
    page = visits.page(url(shared))
    page.add_init_script("delete JSON.rawJSON; delete JSON.isRawJSON")
    page.reload()
    live(page)
    expect(cell(page, "k", "Value")).to_have_text("2")
    for key, kind, text in (("k", "decimal", "2.0"), ("list", "json", "[2.0,1]")):
        edit(page, key)
        expect(page.locator("#edit-type")).to_have_value(kind)
        expect(page.locator("#edit-value")).to_have_value(text)
        page.get_by_role("button", name="Save").click()
        gone(page)
    assert typed(cache.fetch("k")) == typed(2.0)
    assert typed(cache.fetch("list")) == typed([2.0, 1])


def test_age_and_the_time_that_is_left_count(page: Page, cache: Any) -> None:
    cache.store("k", 1, {"ttl": 50})
    age, ends = cell(page, "k", "Age"), cell(page, "k", "Ends in")
    expect(age).to_have_text(re.compile(r"^\d+s$"))
    before = int(age.inner_text()[:-1]), int(ends.inner_text()[:-1])
    expect(age).not_to_have_text(f"{before[0]}s")
    expect(ends).not_to_have_text(f"{before[1]}s")
    assert int(age.inner_text()[:-1]) > before[0]
    assert int(ends.inner_text()[:-1]) < before[1] <= 50


# Writing


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", "plain", "plain"),
        ("text", "12", "12"),
        ("text", "", ""),
        ("text", " two\nlines ", " two\nlines "),
        ("text", "ü €\U0001f600", "ü €\U0001f600"),
        ("integer", "-12", -12),
        ("decimal", "2.0", 2.0),
        ("decimal", "2", 2.0),
        ("decimal", "1e300", 1e300),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("date", "2026-11-03 12:00:00", DateTime("20261103T12:00:00")),
        ("json", '{"a": [1, 2.0, true, "x"], "b": {}}', {"a": [1, 2.0, True, "x"], "b": {}}),
    ],
)
def test_what_is_added_is_what_others_fetch(page: Page, cache: Any, kind: str, text: str, value: object) -> None:
    before = cache.getRevision()
    add(page, "some/key", text, kind)
    gone(page)
    expect(row(page, "some/key")).to_be_visible()
    assert typed(cache.fetch("some/key")) == typed(value)
    # And unchanged when it is edited and only saved.
    edit(page, "some/key")
    assert page.get_by_label("Type").input_value() == kind
    page.get_by_role("button", name="Save").click()
    gone(page)
    assert len(cache.getChanges(before)) == 2
    assert typed(cache.fetch("some/key")) == typed(value)


def typed(value: object) -> object:
    if isinstance(value, list):
        return [typed(one) for one in value]
    if isinstance(value, dict):
        return {name: typed(one) for name, one in value.items()}
    return type(value).__name__, str(value)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("7 d", 604800)])
def test_an_entry_is_added_with_a_time_to_live_and_a_note(page: Page, cache: Any, text: str, seconds: int) -> None:
    add(page, "maintenance", "on", ttl=text, note="the switch: ask Ada")
    gone(page)
    entry = cache.getEntry("maintenance")
    assert entry["expires"] - entry["modified"] == pytest.approx(seconds, abs=0.1)
    assert entry["note"] == "the switch: ask Ada"


def test_a_new_entry_begins_with_what_is_filtered_for(page: Page, cache: Any) -> None:
    page.get_by_label("Keys that start with").fill("config/")
    page.get_by_role("button", name="Add entry").click()
    expect(page.locator("#edit-key")).to_have_value("config/")
    page.locator("#edit-key").press_sequentially("new")
    page.locator("#edit-key").press("Enter")
    gone(page)
    expect(keys(page)).to_have_text(["config/new"])
    assert cache.fetch("config/new") == ""


def test_an_edit_keeps_type_note_owner_and_end(page: Page, shared: Supervisord, cache: Any) -> None:
    until(lambda: shared.process("worker")["statename"] == "RUNNING", "the process runs")
    cache.store("load", 2.0, {"owner": "worker", "note": "of the first core", "ttl": 3600})
    before = cache.getEntry("load")
    edit(page, "load")
    shown = float(page.locator("#edit-ttl").input_value()[:-1])
    page.get_by_role("textbox", name="Value").fill("3")
    # For the time in the dialog to count.
    page.wait_for_timeout(3000)
    with page.expect_request(lambda request: request.method == "PUT") as asked:
        page.get_by_role("button", name="Save").click()
    gone(page)
    after = cache.getEntry("load")
    assert typed(after["value"]) == typed(3.0)
    assert {name: after[name] for name in ("owner", "note")} == {name: before[name] for name in ("owner", "note")}
    sent = re.search(r"[?&]ttl=([0-9.]+)", asked.value.url)
    assert sent is not None
    assert float(sent[1]) < shown - 2
    assert after["expires"]


def test_an_edit_takes_the_time_to_live_away_or_sets_another(page: Page, cache: Any) -> None:
    cache.store("k", "v", {"ttl": 3600})
    edit(page, "k")
    page.locator("#edit-ttl").fill("")
    page.get_by_role("button", name="Save").click()
    gone(page)
    assert cache.getEntry("k")["expires"] == 0
    expect(cell(page, "k", "Ends in")).to_have_text("")
    edit(page, "k")
    page.locator("#edit-ttl").fill("1h")
    page.get_by_role("button", name="Save").click()
    gone(page)
    entry = cache.getEntry("k")
    assert entry["expires"] - entry["modified"] == pytest.approx(3600, abs=0.1)


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("integer", "twelve", "An integer"),
        ("integer", "1.5", "An integer"),
        ("integer", "4294967296", "32"),
        ("decimal", "1,5", "A decimal"),
        ("decimal", "1e999", ""),
        ("boolean", "yes", "true or false"),
        ("date", "tomorrow", ""),
        ("json", "{", "Not JSON"),
        ("json", "null", ""),
        ("json", '{"$dateTime": "never"}', ""),
        ("text", "x" * 70000, "max_value_bytes"),
    ],
)
def test_a_wrong_value_is_told_in_the_dialog_and_changes_nothing(
    page: Page, cache: Any, kind: str, text: str, told: str
) -> None:
    revision = cache.getRevision()
    add(page, "k", text, kind)
    expect(page.locator("#editor-problem")).to_contain_text(told)
    expect(page.locator("#editor-problem")).not_to_be_empty()
    expect(page.locator("#editor")).to_be_visible()
    assert cache.getRevision() == revision
    page.get_by_label("Type").select_option("text")
    page.get_by_role("textbox", name="Value").fill("right")
    page.get_by_role("button", name="Save").click()
    gone(page)
    assert cache.fetch("k") == "right"


@pytest.mark.parametrize(
    ("field", "text"), [("ttl", "soon"), ("ttl", "-1"), ("ttl", "0"), ("ttl", "999999d"), ("key", "x" * 2000)]
)
def test_a_wrong_key_or_time_to_live_is_told_in_the_dialog_and_changes_nothing(
    page: Page, cache: Any, field: str, text: str
) -> None:
    revision = cache.getRevision()
    add(page, text if field == "key" else "k", "v", ttl=text if field == "ttl" else "")
    expect(page.locator("#editor-problem")).not_to_be_empty()
    expect(page.locator("#editor-problem")).to_be_visible()
    assert cache.getRevision() == revision
    page.get_by_role("button", name="Cancel").click()
    gone(page)


def test_an_entry_is_deleted_after_a_question(page: Page, cache: Any) -> None:
    cache.storeMany({"k": 1, "other": 2})
    before = cache.getRevision()
    button(page, "k", "Delete").click()
    expect(page.get_by_role("dialog", name="Delete this entry?")).to_contain_text("k")
    page.get_by_role("button", name="Keep").click()
    gone(page)
    assert cache.getKeys() == ["k", "other"]
    button(page, "k", "Delete").click()
    page.get_by_role("textbox", name="Note").fill("ada: not needed")
    page.locator("#delete").click()
    gone(page)
    expect(keys(page)).to_have_text(["other"])
    assert cache.getKeys() == ["other"]
    # The next one has a note of its own.
    button(page, "other", "Delete").click()
    page.locator("#delete").click()
    gone(page)
    notes = [change["note"] for change in cache.getChanges(before) if change["kind"] == "delete"]
    assert notes == ["ada: not needed", ""]


# Conflicts


def test_what_somebody_else_has_changed_is_only_overwritten_when_one_says_so(page: Page, cache: Any) -> None:
    cache.store("k", "old")
    edit(page, "k")
    cache.store("k", "theirs", {"note": "I was here"})
    page.get_by_role("textbox", name="Value").fill("mine")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict-text")).to_contain_text("changed this entry")
    expect(page.locator("#conflict-text")).to_contain_text("I was here")
    expect(page.locator("#conflict-value")).to_have_text("theirs")
    assert cache.fetch("k") == "theirs"
    # Once more, while one thinks about it.
    cache.store("k", "theirs again")
    page.get_by_role("button", name="Overwrite it with mine").click()
    expect(page.locator("#conflict-value")).to_have_text("theirs again")
    assert cache.fetch("k") == "theirs again"
    page.get_by_role("button", name="Overwrite it with mine").click()
    gone(page)
    assert cache.fetch("k") == "mine"


def test_what_somebody_else_has_changed_can_be_taken_and_edited(page: Page, cache: Any) -> None:
    cache.store("k", "old")
    edit(page, "k")
    cache.store("k", 2.0, {"note": "theirs"})
    page.get_by_role("textbox", name="Value").fill("mine")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Take theirs").click()
    expect(page.locator("#edit-value")).to_have_value("2.0")
    expect(page.locator("#edit-type")).to_have_value("decimal")
    expect(page.locator("#edit-note")).to_have_value("theirs")
    expect(page.locator("#conflict")).to_be_hidden()
    assert typed(cache.fetch("k")) == typed(2.0)
    page.get_by_role("textbox", name="Value").fill("3.5")
    page.get_by_role("button", name="Save").click()
    gone(page)
    assert cache.fetch("k") == 3.5


def test_what_somebody_else_has_deleted_only_comes_back_when_one_says_so(page: Page, cache: Any) -> None:
    cache.store("k", "old")
    edit(page, "k")
    cache.delete("k")
    page.get_by_role("textbox", name="Value").fill("mine")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict-text")).to_contain_text("deleted")
    assert cache.getKeys() == []
    page.get_by_role("button", name="Overwrite it with mine").click()
    gone(page)
    assert cache.fetch("k") == "mine"


def test_what_somebody_else_has_added_is_only_overwritten_when_one_says_so(page: Page, cache: Any) -> None:
    page.get_by_role("button", name="Add entry").click()
    page.locator("#edit-key").fill("k")
    page.locator("#edit-value").fill("mine")
    cache.store("k", ["theirs"])
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict-text")).to_contain_text("already")
    assert cache.fetch("k") == ["theirs"]
    page.get_by_role("button", name="Cancel").click()
    gone(page)
    assert cache.fetch("k") == ["theirs"]
    add(page, "k", "mine")
    page.get_by_role("button", name="Overwrite it with mine").click()
    gone(page)
    assert cache.fetch("k") == "mine"


def test_another_key_after_a_conflict_is_judged_by_itself(page: Page, cache: Any) -> None:
    cache.storeMany({"one": "theirs", "two": "theirs"})
    add(page, "one", "mine")
    expect(page.locator("#conflict")).to_be_visible()
    page.locator("#edit-key").fill("two")
    overwrite = page.get_by_role("button", name="Overwrite it with mine")
    if overwrite.is_visible():
        overwrite.click()
    else:
        page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict")).to_be_visible()
    assert cache.getItems() == {"one": "theirs", "two": "theirs"}


def test_what_somebody_else_has_changed_is_only_deleted_when_one_says_so(page: Page, cache: Any) -> None:
    cache.store("k", "old")
    button(page, "k", "Delete").click()
    cache.store("k", "theirs")
    page.locator("#delete").click()
    expect(page.locator("#question-problem")).to_contain_text("changed")
    assert cache.fetch("k") == "theirs"
    expect(cell(page, "k", "Value")).to_have_text("theirs")
    page.locator("#delete").click()
    gone(page)
    assert cache.getKeys() == []


def test_what_somebody_else_has_deleted_is_not_asked_about(page: Page, cache: Any) -> None:
    cache.store("k", "old")
    button(page, "k", "Delete").click()
    cache.delete("k")
    expect(keys(page)).to_have_count(0)
    page.locator("#delete").click()
    gone(page)
    assert cache.getKeys() == []


def test_what_cannot_be_taken_is_told_in_the_dialog(page: Page, cache: Any) -> None:
    cache.store("k", "old")
    edit(page, "k")
    cache.store("k", "theirs")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict-value")).to_have_text("theirs")
    cache.delete("k")
    page.get_by_role("button", name="Take theirs").click()
    expect(page.locator("#editor-problem")).to_contain_text("no such key")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_conflict_that_cannot_be_shown_is_no_choice(page: Page, cache: Any) -> None:
    cache.store("k", "old")
    edit(page, "k")
    cache.store("k", "theirs")
    page.route(
        re.compile("/v1/entries"), lambda route: route.abort() if route.request.method == "GET" else route.continue_()
    )
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#editor-problem")).to_contain_text("cannot be reached")
    expect(page.locator("#conflict")).to_be_hidden()
    page.unroute_all()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict-value")).to_have_text("theirs")


def test_who_edits_another_while_the_first_is_fetched_edits_the_other(page: Page, cache: Any) -> None:
    # Both of one revision, so that no conflict would tell.
    cache.storeMany({"a": "of a", "b": "of b"})
    expect(keys(page)).to_have_count(2)
    held: list[Route] = []
    page.route(re.compile(r"/v1/values\?key=a$"), lambda route: held.append(route))  # noqa: PLW0108 - it is marked
    button(page, "a", "Edit").click()
    until(lambda: bool(page.evaluate("1") and held), "the first is asked for")
    edit(page, "b")
    with page.expect_response(re.compile(r"/v1/entries\?key=a$")):
        held[0].continue_()
    page.wait_for_timeout(300)
    expect(page.locator("#edit-key")).to_have_value("b")
    expect(page.locator("#edit-value")).to_have_value("of b")
    page.get_by_role("button", name="Save").click()
    gone(page)
    assert cache.fetchMany(["a", "b"]) == {"a": "of a", "b": "of b"}


def test_what_is_saved_late_closes_no_other_dialog(page: Page, cache: Any) -> None:
    held: list[Route] = []
    page.route(re.compile(r"/v1/entries\?key=slow$"), lambda route: held.append(route))  # noqa: PLW0108 - it is marked
    add(page, "slow", "1")
    until(lambda: bool(page.evaluate("1") and held), "it is being saved")
    page.get_by_role("button", name="Cancel").click()
    add(page, "fast", "2")
    gone(page)
    page.get_by_role("button", name="Add entry").click()
    with page.expect_response(re.compile(r"/v1/entries\?key=slow$")):
        held[0].continue_()
    expect(row(page, "slow")).to_have_count(1)
    page.wait_for_timeout(300)
    expect(page.locator("#editor")).to_be_visible()
    assert cache.getKeys() == ["fast", "slow"]


def test_a_double_click_saves_once(page: Page, cache: Any) -> None:
    before = cache.getRevision()
    page.get_by_role("button", name="Add entry").click()
    page.locator("#edit-key").fill("k")
    page.get_by_role("button", name="Save").dblclick()
    gone(page)
    assert [change["kind"] for change in cache.getChanges(before)] == ["store"]
    expect(page.locator("#conflict")).to_be_hidden()


# Changes


def test_changes_are_shown_newest_first_as_they_happen_and_filtered(page: Page, cache: Any) -> None:
    cache.store("config/a", 1, {"note": "why"})
    expect(keys(page)).to_have_count(1)
    page.get_by_role("tab", name="Changes").click()
    shown = page.locator("#changes tr")
    expect(shown.first).to_contain_text("store")
    expect(shown.first).to_contain_text("config/a")
    expect(shown.first).to_contain_text("why")
    expect(shown.first).to_contain_text("unix_http_server")
    cache.store("x", 1)
    cache.delete("config/a")
    expect(shown.first).to_contain_text("delete")
    expect(shown.nth(1).locator(".key")).to_have_text("x")
    page.get_by_label("Keys that start with").fill("config/")
    expect(shown.first.locator(".key")).to_have_text("config/a")
    expect(shown.filter(has=page.locator(".key", has_text=re.compile("^x$")))).to_have_count(0)
    before = shown.count()
    cache.storeMany({"config/b": 1, "y": 1})
    expect(shown).to_have_count(before + 1)
    expect(shown.first.locator(".key")).to_have_text("config/b")
    cache.clear()
    expect(shown.first).to_contain_text("(all)")


def test_no_change_is_missing_or_shown_twice_however_many_happen_meanwhile(page: Page, cache: Any) -> None:
    before = cache.getRevision()
    for number in range(30):
        cache.store("k", number)
        if number == 10:
            page.get_by_role("tab", name="Changes").click()
    expected = [change["revision"] for change in cache.getChanges(before)][::-1]
    shown = page.locator("#changes .revision")
    expect(shown.first).to_have_text(expected[0])
    assert shown.all_inner_texts()[: len(expected)] == expected


def test_older_changes_come_as_one_asks_for_them(visits: Visits, start: StartSupervisord) -> None:
    # One of its own: in the history of the other are all that was cleared before each test.
    supervisord = start({"cache": HTTP}, login=False)
    page, cache = live(visits.page(url(supervisord))), supervisord.unix().cache
    for number in range(150):
        cache.store("old/k", number)
    before = cache.getRevision()
    cache.store("new", 1)
    page.get_by_role("tab", name="Changes").click()
    page.get_by_label("Keys that start with").fill("old/")
    shown, more = page.locator("#changes tr", has_text="old/k"), page.locator("#more-changes")
    expect(shown).to_have_count(100)
    expect(shown.first.locator(".revision")).to_have_text(before)
    more.click()
    expect(shown).to_have_count(150)
    expect(more).to_be_hidden()
    expect(page.locator("#panel-changes")).to_be_focused()
    page.get_by_label("Keys that start with").fill("new")
    expect(more).to_be_hidden()


# The server


def test_trouble_with_the_storage_is_shown_while_it_lasts(visits: Visits, start: StartSupervisord) -> None:
    supervisord = start({"cache": {**HTTP, "storage": "sqlite:cache.db"}}, login=False)
    page = live(visits.page(url(supervisord)))
    expect(page.locator("#storage")).to_contain_text("Storage: sqlite. ")
    with contextlib.closing(sqlite3.connect(supervisord.folder / "cache.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Fault, match="UNAVAILABLE"):
            supervisord.unix().cache.store("k", 1)
        expect(page.locator("#storage")).to_contain_text("Storage: sqlite: degraded, database is locked")
    assert supervisord.unix().cache.store("k", 1) is True
    expect(page.locator("#storage")).to_contain_text("Storage: sqlite. ")


def test_the_page_shows_how_a_shared_cache_is_reached(
    visits: Visits, start: StartSupervisord, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Cluster(tmp_path_factory.mktemp("etcd"), members=1) as cluster:
        (member,) = cluster.endpoints
        away = f"127.0.0.1:{free_port()}"
        section = {**HTTP, "storage": f"etcd://{member},{away}/page"}
        supervisord = start({"cache": section}, program("worker"), login=False)
        supervisord.wait_for_storage()
        supervisord.unix().cache.store("k", 1, {"owner": "worker"})
        page = live(visits.page(url(supervisord)))
        lease = supervisord.storage()["lease"]
        expect(page.locator("#storage")).to_contain_text(f"Storage: etcd at {member}, or else {away}, lease {lease}. ")
        cluster.kill(0)
        told = re.compile(rf"Storage: etcd at {member}, {away}, a copy that is \d+ s old, .*: degraded, no contact")
        expect(page.locator("#storage")).to_contain_text(told, timeout=20_000)


def test_a_reload_a_stop_and_a_start_are_told_and_overcome(visits: Visits, start: StartSupervisord) -> None:
    supervisord = start({"cache": {**HTTP, "storage": "memory"}}, login=False)
    supervisord.unix().cache.store("k", "before")
    page = live(visits.page(url(supervisord)))
    page.evaluate("window.before = true")
    page.evaluate(
        """() => { window.states = [];
        new MutationObserver(() => window.states.push(document.getElementById("contact").dataset.state))
            .observe(document.getElementById("contact"), {attributes: true}) }"""
    )
    supervisord.reload()
    until(lambda: page.evaluate("window.states.includes('lost')"), "the page tells that the connection is lost")
    live(page)
    supervisord.unix().cache.store("k", "after the reload")
    expect(cell(page, "k", "Value")).to_have_text("after the reload")

    supervisord.stop()
    expect(page.locator("#contact")).to_contain_text("connection lost")
    button(page, "k", "Edit").click()
    expect(page.locator("#problem")).to_contain_text("cannot be reached")
    supervisord.start()
    supervisord.unix().cache.store("new", "after the start")
    live(page)
    # Memory has gone with the process.
    expect(keys(page)).to_have_text(["new"])
    expect(cell(page, "new", "Value")).to_have_text("after the start")
    expect(page.locator("#problem")).to_be_hidden()
    page.get_by_role("tab", name="Changes").click()
    expect(page.locator("#changes tr")).to_have_count(1)
    supervisord.unix().cache.delete("new")
    expect(page.locator("#changes tr")).to_have_count(2)
    assert page.evaluate("window.before") is True


def test_changes_that_cannot_be_read_are_not_said_to_be_none_and_come_with_the_connection(
    visits: Visits, start: StartSupervisord
) -> None:
    supervisord = start({"cache": HTTP}, login=False)
    supervisord.unix().cache.store("k", "v")
    page = live(visits.page(url(supervisord)))
    page.route(re.compile("/v1/changes"), lambda route: route.abort())
    page.get_by_role("tab", name="Changes").click()
    expect(page.locator("#problem")).to_contain_text("cannot be read")
    expect(page.locator("#no-changes")).to_be_hidden()
    page.unroute_all()
    supervisord.reload()
    expect(page.locator("#changes tr")).to_have_count(1)
    expect(page.locator("#problem")).to_be_hidden()


def test_a_page_that_is_opened_at_its_changes_forgets_them_with_the_memory(
    visits: Visits, start: StartSupervisord
) -> None:
    supervisord = start({"cache": {**HTTP, "storage": "memory"}}, login=False)
    supervisord.unix().cache.store("old", 1)
    page = live(visits.page(url(supervisord)))
    page.get_by_role("tab", name="Changes").click()
    expect(page.locator("#changes .key")).to_have_text(["old"])
    supervisord.stop()
    expect(page.locator("#contact")).to_contain_text("connection lost")
    supervisord.start()
    supervisord.unix().cache.store("new", 1)
    expect(page.locator("#changes .key")).to_have_text(["new"])


def test_what_cannot_be_saved_for_want_of_a_server_is_told_in_the_dialog(
    visits: Visits, start: StartSupervisord
) -> None:
    supervisord = start(SECTIONS, login=False)
    page = live(visits.page(url(supervisord)))
    page.get_by_role("button", name="Add entry").click()
    page.locator("#edit-key").fill("k")
    supervisord.stop()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#editor-problem")).to_contain_text("cannot be reached")
    supervisord.start()
    page.get_by_role("button", name="Save").click()
    gone(page)
    assert supervisord.unix().cache.fetch("k") == ""


def test_who_finds_no_place_is_told_why_and_gets_the_next_that_is_free(visits: Visits, start: StartSupervisord) -> None:
    # One place for each server.
    supervisord = start({"cache": {**HTTP, "max_watchers": "2"}}, login=False)
    supervisord.unix().cache.store("k", "v")
    first = live(visits.page(url(supervisord)))
    second = visits.page(url(supervisord))
    expect(second.locator("#problem")).to_contain_text("max_watchers")
    expect(second.locator("#contact")).to_have_attribute("data-state", "lost")
    expect(keys(second)).to_have_text(["k"])
    first.close()
    live(second)
    expect(second.locator("#problem")).to_be_hidden()
    supervisord.unix().cache.store("another", "v")
    expect(keys(second)).to_have_text(["another", "k"])


def test_a_server_that_only_reads_has_no_controls(visits: Visits, start: StartSupervisord) -> None:
    supervisord = start({"cache": {**HTTP, "read_only": "inet_http_server"}}, login=False)
    supervisord.unix().cache.store("k", "v")
    page = live(visits.page(url(supervisord)))
    expect(keys(page)).to_have_text(["k"])
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.locator("#storage")).to_contain_text("only reads")
    supervisord.unix().cache.store("k", "w")
    expect(cell(page, "k", "Value")).to_have_text("w")
    expect(page.get_by_role("button")).to_have_count(0)


def test_what_a_reload_has_made_of_a_server_shows(visits: Visits, start: StartSupervisord) -> None:
    supervisord = start(SECTIONS, login=False)
    supervisord.unix().cache.store("k", "v")
    page = live(visits.page(url(supervisord)))
    expect(button(page, "k", "Edit")).to_be_visible()
    supervisord.sections["cache"]["read_only"] = "inet_http_server"
    supervisord.reload()
    expect(button(page, "k", "Edit")).to_have_count(0)
    expect(page.get_by_role("button", name="Add entry")).to_have_count(0)
    expect(keys(page)).to_have_text(["k"])
    del supervisord.sections["cache"]["read_only"]
    supervisord.reload()
    expect(button(page, "k", "Edit")).to_be_visible()


def test_only_a_server_that_has_supervisors_pages_leads_back_to_them(
    visits: Visits, start: StartSupervisord, shared: Supervisord
) -> None:
    confined = start({"cache": {**HTTP, "confine": "inet_http_server"}}, login=False)
    page = live(visits.page(url(confined)))
    expect(page.get_by_role("link")).to_have_count(0)
    page = live(visits.page(url(shared)))
    page.get_by_role("link", name="Supervisor").click()
    expect(page).to_have_title("Supervisor Status")


def test_the_page_works_behind_a_password(visits: Visits, start: StartSupervisord) -> None:
    supervisord = start(SECTIONS)
    page = live(visits.page(url(supervisord), http_credentials={"username": USER, "password": PASSWORD}))
    add(page, "k", "v")
    gone(page)
    expect(keys(page)).to_have_text(["k"])
    assert supervisord.unix().cache.fetch("k") == "v"


def test_nothing_is_shown_to_who_has_no_password(browser: Browser, start: StartSupervisord) -> None:
    supervisord = start(SECTIONS)
    supervisord.unix().cache.store("secret", "very")
    page = browser.new_page(http_credentials={"username": USER, "password": "wrong"})
    try:
        answer = page.goto(url(supervisord))
        assert answer is not None
        assert answer.status == 401
        assert "secret" not in page.content()
    finally:
        page.close()


# What is hostile


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_whatever_it_is_it_is_text(page: Page, cache: Any, text: str) -> None:
    for value in (text, {text: [text] * 20}):
        cache.store(text, value, {"note": text})
        shown = page.locator("#entries tr")
        expect(shown).to_have_count(1)
        expect(shown.locator("td[data-label=Revision]")).to_have_text(cache.getEntry(text)["revision"])
        expect(shown.locator(".missing")).to_have_count(0)
        assert shown.locator(".key").text_content() == text
        assert shown.locator("td[data-label=Note]").text_content() == text
        if shown.locator("summary").count():
            shown.locator("summary").click()
            whole = shown.locator("pre").text_content()
            assert whole is not None
            assert (whole == text) if value == text else (whole.count("\n") == 23)
        else:
            assert shown.locator(".value").text_content() == text
    page.get_by_label("Keys that start with").fill(text)
    expect(page.locator("#entries tr")).to_have_count(1)
    page.get_by_role("tab", name="Changes").click()
    assert page.locator("#changes .key").first.text_content() == text
    page.get_by_role("tab", name="Entries").click()
    page.locator("[data-control=delete]").click()
    assert page.locator("#question-key").text_content() == text
    page.get_by_role("button", name="Keep").click()
    page.locator("[data-control=edit]").click()
    expect(page.locator("#editor")).to_be_visible()
    assert page.locator("#edit-note").input_value() == text
    cache.store(text, text, {"note": text})
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict-value")).to_have_text(text)
    page.get_by_role("button", name="Take theirs").click()
    expect(page.locator("#edit-value")).to_have_value(text)
    page.get_by_role("button", name="Save").click()
    gone(page)
    assert cache.getItems() == {text: text}
    assert page.evaluate("document.querySelectorAll('main img, main script, main a, main b, main svg').length") == 0


def test_what_is_empty_says_so(page: Page, cache: Any) -> None:
    cache.store("k", "")
    expect(cell(page, "k", "Value")).to_have_text("empty")
    cache.store("k", "empty")
    expect(row(page, "k").locator(".missing")).to_have_count(0)


def test_markup_that_got_into_the_page_would_do_nothing(browser: Browser, shared: Supervisord) -> None:
    page = browser.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    try:
        page.goto(url(shared))
        page.evaluate(
            """() => {
                document.body.innerHTML += "<img src=x onerror='window.taken = 1'>";
                document.body.innerHTML += "<a id=go href='javascript:window.taken = 2'>x</a>";
                const script = document.createElement("script");
                script.textContent = "window.taken = 3";
                document.body.append(script);
            }"""
        )
        page.locator("#go").click()
        # Each look at the page lets its messages in.
        until(lambda: page.title() and sum("Content Security Policy" in one for one in told) >= 3, "all three refused")
        assert page.evaluate("window.taken") is None
    finally:
        page.close()


# For everybody


def offences(page: Page) -> list[str]:
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}" for one in found["violations"]]


@pytest.mark.parametrize(
    "look",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
        {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
    ],
    ids=["light", "dark", "narrow", "narrow and dark"],
)
def test_axe_finds_nothing_wrong(visits: Visits, shared: Supervisord, cache: Any, look: dict[str, Any]) -> None:
    page = live(visits.page(url(shared), reduced_motion="reduce", **look))
    assert offences(page) == []
    cache.store("maintenance", "on", {"ttl": 50, "note": "moving", "owner": "worker"})
    cache.storeMany({"empty": "", "long": LONG, "struct": {"a": list(range(20))}, "n": 12})
    row(page, "struct").locator("summary").click()
    expect(page.locator("tr.fresh")).to_have_count(0)
    assert offences(page) == []
    page.evaluate("document.querySelectorAll('#entries tr').forEach((one) => one.classList.add('fresh'))")
    assert offences(page) == []
    page.evaluate("document.querySelectorAll('#entries tr').forEach((one) => one.classList.remove('fresh'))")
    page.get_by_label("Keys that start with").fill("m")
    edit(page, "maintenance")
    page.get_by_label("Type").select_option("integer")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#editor-problem")).to_be_visible()
    assert offences(page) == []
    page.get_by_label("Type").select_option("text")
    cache.store("maintenance", "off")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#conflict")).to_be_visible()
    assert offences(page) == []
    page.get_by_role("button", name="Cancel").click()
    button(page, "maintenance", "Delete").click()
    cache.store("maintenance", "on")
    page.locator("#delete").click()
    expect(page.locator("#question-problem")).to_be_visible()
    assert offences(page) == []
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("tab", name="Changes").click()
    expect(page.locator("#changes tr").first).to_be_visible()
    assert offences(page) == []


def test_everything_can_be_done_with_the_keyboard(page: Page, cache: Any) -> None:
    cache.storeMany({"a": LONG, "b": 2})
    expect(keys(page)).to_have_count(2)

    def tab_to(what: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if focused(page) == what:
                return
        raise AssertionError(f"no way to {what}")

    tab_to("back")
    tab_to("filter")
    tab_to("add")
    page.keyboard.press("Enter")
    expect(page.locator("#edit-key")).to_be_focused()
    page.keyboard.type("c")
    tab_to("edit-type")
    page.keyboard.type("int")
    tab_to("edit-value")
    page.keyboard.type("3")
    tab_to("save")
    page.keyboard.press("Enter")
    gone(page)
    expect(page.locator("#add")).to_be_focused()
    assert cache.fetch("c") == 3

    tab_to("tab-entries")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-changes")).to_be_focused()
    expect(page.locator("#panel-changes")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#panel-entries")).to_be_visible()

    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(row(page, "a").locator("summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row(page, "a").locator("pre")).to_be_visible()
    tab_to("Edit b")
    page.keyboard.press("Enter")
    expect(page.locator("#edit-value")).to_be_focused()
    page.keyboard.press("Escape")
    gone(page)
    expect(button(page, "b", "Edit")).to_be_focused()
    tab_to("Delete b")
    page.keyboard.press("Enter")
    expect(page.locator("#keep")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    gone(page)
    expect(keys(page)).to_have_text(["a", "c"])
    until(lambda: focused(page) == "Delete c", "the focus goes to what has taken the place")


@pytest.mark.parametrize(("opener", "dialog"), [("Add", "editor"), ("Edit", "editor"), ("Delete", "question")])
def test_a_dialog_that_closes_takes_the_focus_from_nobody(page: Page, cache: Any, opener: str, dialog: str) -> None:
    cache.store("a", 1)
    expect(keys(page)).to_have_count(1)
    (page.locator("#add") if opener == "Add" else button(page, "a", opener)).click()
    expect(page.locator(f"#{dialog}")).to_be_visible()
    # The browser tells of its end a moment later, and a key may have been pressed by then.
    page.evaluate(
        """dialog => new Promise(resolve => {
            document.getElementById(dialog).addEventListener("close", () => setTimeout(resolve))
            document.getElementById(dialog).close()
            document.getElementById("tab-entries").focus()
        })""",
        dialog,
    )
    assert focused(page) == "tab-entries"


def test_focus_stays_where_it_is_while_entries_come_and_go_and_change(page: Page, cache: Any) -> None:
    cache.storeMany({"a": 1, "b": 2, "c": 3})
    button(page, "b", "Edit").focus()
    cache.store("aa", 1)
    expect(keys(page)).to_have_count(4)
    expect(button(page, "b", "Edit")).to_be_focused()
    cache.store("b", "other")
    expect(cell(page, "b", "Value")).to_have_text("other")
    expect(button(page, "b", "Edit")).to_be_focused()
    cache.delete("a")
    expect(keys(page)).to_have_text(["aa", "b", "c"])
    expect(button(page, "b", "Edit")).to_be_focused()
    cache.delete("b")
    expect(keys(page)).to_have_text(["aa", "c"])
    expect(button(page, "c", "Edit")).to_be_focused()
    cache.clear()
    expect(keys(page)).to_have_count(0)
    expect(page.get_by_label("Keys that start with")).to_be_focused()


def test_focus_comes_back_from_a_dialog_behind_which_the_row_was_made_anew(page: Page, cache: Any) -> None:
    cache.storeMany({"a": 1, "b": 2})
    edit(page, "b")
    cache.storeMany({"a": 3, "b": 4, "aa": 5})
    expect(cell(page, "b", "Value")).to_have_text("4")
    page.keyboard.press("Escape")
    gone(page)
    expect(button(page, "b", "Edit")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save").click()
    gone(page)
    expect(button(page, "b", "Edit")).to_be_focused()


def test_what_is_selected_stays_selected_while_others_change(page: Page, cache: Any) -> None:
    cache.storeMany({"a": "copied", "b": 2})
    cell(page, "a", "Value").locator(".value").select_text()
    cache.store("c", 1)
    cache.store("b", 5)
    expect(cell(page, "b", "Value")).to_have_text("5")
    assert page.evaluate("getSelection().toString()") == "copied"


@pytest.mark.parametrize("width", [320, 390, 600, 740, 900, 1024, 1400])
def test_no_width_needs_scrolling_sideways(visits: Visits, shared: Supervisord, cache: Any, width: int) -> None:
    cache.store("w" * 300, "v" * 300, {"note": "n" * 300, "owner": "worker", "ttl": 86399})
    cache.store("long", {"word": "w" * 500, "list": list(range(50))})
    page = live(visits.page(url(shared), viewport={"width": width, "height": 700}))

    def too_wide() -> int:
        return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    expect(keys(page)).to_have_count(2)
    row(page, "long").locator("summary").click()
    assert too_wide() <= 0
    for one in page.locator("#entries button").all():
        box = one.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    page.locator("[data-control=delete]").last.click()
    assert too_wide() <= 0
    page.get_by_role("button", name="Keep").click()
    page.locator("[data-control=edit]").last.click()
    expect(page.locator("#editor")).to_be_visible()
    assert too_wide() <= 0
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("tab", name="Changes").click()
    expect(page.locator("#changes tr").first).to_be_visible()
    assert too_wide() <= 0


def test_a_fault_of_the_server_is_told(visits: Visits, start: StartSupervisord) -> None:
    supervisord = start({"cache": {**HTTP, "max_entries": "1"}}, login=False)
    page = live(visits.page(url(supervisord)))
    add(page, "one", "1")
    gone(page)
    add(page, "two", "2")
    expect(page.locator("#editor-problem")).to_contain_text("max_entries")
    with pytest.raises(Fault):
        supervisord.unix().cache.fetch("two")
