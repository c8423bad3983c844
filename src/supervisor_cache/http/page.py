"""The files of the page, read once: replacing the package under a running supervisord changes nothing."""

from pathlib import Path

from supervisor_cache.http.replies import Reply

_FOLDER = Path(__file__).with_name("static")
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

PAGE = Reply(200, (_FOLDER / "index.html").read_bytes(), _KINDS[".html"])
FILES = {
    path.name: Reply(200, path.read_bytes(), _KINDS[path.suffix])
    for path in sorted(_FOLDER.iterdir())
    if path.suffix in _KINDS and path.name != "index.html"
}
