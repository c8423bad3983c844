"""How Sphinx builds the documentation: `make docs`."""

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
