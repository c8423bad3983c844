"""The chart of the README shows the figures of RESULTS.md."""

import re
import xml.etree.ElementTree as ET

import pytest
from benchmarks import chart

RESULTS = chart.RESULTS.read_text()
PEERS = """
## A lookup in a process of the same host

| what | figure | goal |  | detail |
| --- | ---: | --- | --- | --- |
| local.get / dict.get | 2.29 | at most 3 | met | 110 ns beside 49 ns |
| uwsgi.cache_get | 410.20 ns |  |  | 3.7 times a local get |
| diskcache | 15240.00 ns |  |  | 138.5 times a local get |
"""


@pytest.mark.parametrize("look", chart.LOOKS)
def test_the_chart_is_that_of_the_results(look: str) -> None:
    assert chart.path(look).read_text() == chart.svg(RESULTS, chart.LOOKS[look]), "python -m benchmarks.chart"


@pytest.mark.parametrize("look", chart.LOOKS)
def test_each_figure_of_the_chart_is_in_the_results(look: str) -> None:
    found = chart.bars(RESULTS, [*chart.LOOKUPS, *chart.CALLS])
    # Its own are there whatever peers could be installed.
    assert {source.label for source in (*chart.LOOKUPS, *chart.CALLS) if source.is_ours} <= {bar.label for bar in found}
    texts = [text.text for text in ET.fromstring(chart.path(look).read_text()).iterfind(".//{*}text")]
    for bar in found:
        assert bar.label in texts
        assert chart.shown(bar.nanoseconds) in texts


def test_a_bar_is_a_row_or_what_its_detail_says() -> None:
    assert chart.bars(PEERS, chart.LOOKUPS) == [
        ("a dict", 49.0, False),
        ("open_local(), with SQLite storage", 110.0, True),
        ("uWSGI's cache", 410.2, False),
        ("diskcache", 15240.0, False),
    ]


def test_a_longer_time_has_a_longer_bar_that_fits() -> None:
    drawn = ET.fromstring(chart.svg(RESULTS, chart.LOOKS["light"]))
    widths = [float(bar.attrib["width"]) for bar in drawn.iterfind(".//{*}rect")]
    found = chart.bars(RESULTS, chart.LOOKUPS), chart.bars(RESULTS, chart.CALLS)
    assert len(widths) == sum(map(len, found))
    for panel in found:
        here, widths = widths[: len(panel)], widths[len(panel) :]
        pairs = sorted(zip((bar.nanoseconds for bar in panel), here, strict=True))
        assert [width for _, width in pairs] == sorted(width for _, width in pairs)
        assert pairs[0][1] > 0
        assert pairs[-1][1] <= chart._WIDTH - chart._LEFT - chart._RIGHT


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(49, "49 ns"), (110, "110 ns"), (1_510, "1.5 µs"), (15_240, "15 µs"), (506_000, "0.51 ms"), (5_140_000, "5.1 ms")],
)
def test_a_time_is_short(nanoseconds: float, text: str) -> None:
    assert chart.shown(nanoseconds) == text
    assert re.fullmatch(r"[0-9.]{1,4} (ns|µs|ms)", text)
