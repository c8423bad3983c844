"""Each page of docs/uses does what it says: see `tests.examples`. A file of its own, to run beside the others."""

from pathlib import Path

import pytest

from tests.examples import PAGES, name, read


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "uses"], ids=name)
def test_a_page_does_what_it_says(page: Path) -> None:
    read(page)
