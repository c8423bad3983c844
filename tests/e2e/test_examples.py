"""Each example of README.md and docs/ does what the page says: see `tests.examples`; docs/uses is beside this."""

from pathlib import Path

import pytest

from tests.examples import NOT_RUN, PAGES, blocks, is_run, matches, name, read

BLOCKS = {page: list(blocks(page)) for page in PAGES}
ITS_OWN = [page for page in PAGES if page.parent.name != "uses" and any(map(is_run, BLOCKS[page]))]


@pytest.mark.parametrize("page", ITS_OWN, ids=name)
def test_a_page_does_what_it_says(page: Path) -> None:
    read(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_block_says_what_it_is_and_is_run(page: Path) -> None:
    for block in BLOCKS[page]:
        assert block.language, f"{block}: no language; and what is indented by four spaces has none"
        assert is_run(block) or (block.page, block.first_line) in NOT_RUN, f"{block}: nothing runs it"


def test_what_is_not_run_is_there() -> None:
    there = {(block.page, block.first_line) for found in BLOCKS.values() for block in found}
    assert NOT_RUN.keys() <= there


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a ... c\n", "a b c\n", True),
        ("a ...\n", "a b\nc\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nd\n", True),
        ("a\n", "a\nb\n", False),
    ],
)
def test_three_dots_stand_for_anything(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) == same
