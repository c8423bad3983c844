"""Each example of README.md and docs/ does what the page says: see `tests.examples`."""

import re
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.examples import PAGES, ROOT, RUN, Block, Reader, blocks, lacks, matches

BLOCKS = {page: list(blocks(page)) for page in PAGES}
# What nothing here runs: page and first line, and why.
NOT_RUN = {
    (
        "README.md",
        "make demo     # a supervisord on loopback with two programs: shows each call, then serves the page",
    ): "tests/e2e/test_demo.py, and this is a test",
    ("README.md", "pip install ."): "`make matrix` installs the wheel, under each Python",
    ("docs/architecture.md", " in supervisord                            in other processes"): "drawn",
    (
        "docs/architecture.md",
        " rpc.store ─┐                 1 plan            2 commit           3 apply           4 observe",
    ): "drawn",
    ("docs/start.md", "$ pip install ."): "`make matrix` installs the wheel, under each Python",
    ("docs/command.md", "source <(supervisor-cache completion bash)"): "tests/e2e/test_completion.py, in each shell",
    ("docs/http.md", "location /markers/ {"): "tests/e2e/test_nginx.py",
    ("docs/reading.md", "from supervisor_cache import open_local"): "tests/e2e/test_reading.py, as those below",
    ("docs/reading.md", "sqlite3 -readonly -cmd '.timeout 1000' /var/lib/supervisor/cache.db \\"): "likewise",
    ("docs/reading.md", 'const { DatabaseSync } = require("node:sqlite");'): "likewise",
    ("docs/reading.md", "<?php"): "likewise",
    ("docs/reading.md", 'require "json"'): "likewise",
    ("docs/operating.md", "FROM python:3.13-slim"): "tests/e2e/test_container.py, without an image",
    ("docs/operating.md", "services:"): "likewise",
    ("docs/shared.md", "etcd --auto-compaction-mode periodic --auto-compaction-retention 1h ..."): "etcd's own",
    ("docs/shared.md", "etcdctl role add supervisor"): "etcd's own; tests/cluster.py makes such a role and user",
    ("docs/shared.md", "$ etcdctl get --prefix /supervisor/prod/e/"): "etcd's own",
    ("docs/uses/dashboard.md", "scrape_configs:"): "Prometheus's own; tests/e2e/test_http.py parses the metrics",
}
PROGRAMS = ("curl", "openssl", "sqlite3")


def is_run(block: Block) -> bool:
    return block.language in RUN and (block.page, block.first_line) not in NOT_RUN


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_run, BLOCKS[page]))], ids=name)
def test_a_page_does_what_it_says(page: Path) -> None:
    for program in PROGRAMS:
        if lacks(program) and any(re.search(rf"\b{program}\b", block.code) for block in BLOCKS[page]):
            missing(program)
    reader = Reader()
    try:
        for block in BLOCKS[page]:
            if is_run(block):
                reader.do(block)
    finally:
        reader.close()


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
