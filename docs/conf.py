"""How Sphinx builds the documentation: `make docs`."""

from sphinx.application import Sphinx

from supervisor_cache import __version__

project = "supervisor_cache"
author = "The supervisor_cache contributors"
release = version = __version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
# So that a link to a heading means the same here and where a code host shows the page.
myst_heading_anchors = 4
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["own.css"]
html_title = "supervisor_cache"
html_favicon = "../src/supervisor_cache/http/static/icon.svg"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

CHAPTERS = {
    "Begin": "start",
    "Uses": "uses/maintenance uses/release uses/deploy-lock uses/leader uses/status uses/feature-flag uses/changes "
    "uses/dashboard",
    "Ways to use it": "client command http processes reading",
    "Running it": "storage shared operating security upgrading",
    "More": "reference architecture",
}


def add_chapters(_app: Sphinx, page: str, source: list[str]) -> None:
    """Have the front page lead to all others. Not in the page itself: a code host would show what only Sphinx knows."""
    if page == "index":
        for caption, pages in CHAPTERS.items():
            lines = "\n".join(pages.split())
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def setup(app: Sphinx) -> None:
    """Tell Sphinx of it."""
    app.connect("source-read", add_chapters)
