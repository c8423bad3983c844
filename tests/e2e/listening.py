"""A supervisord with an event listener that keeps what it hears."""

import json
import sys
from pathlib import Path
from urllib.parse import unquote

from tests.conftest import StartSupervisord
from tests.harness import START_SECONDS, Supervisord, until

LISTENER = Path(__file__).with_name("listener.py")


def listening(
    start: StartSupervisord,
    events: str,
    options: dict[str, str] | None = None,
    buffer_size: int = 1000,
    more: str = "",
) -> Supervisord:
    """Start a supervisord with a listener to ``events``, which writes down what it is told."""
    command = f"{sys.executable} {LISTENER} %(here)s/events"
    section = f"\n[eventlistener:listener]\ncommand={command}\nevents={events}\nbuffer_size={buffer_size}\n"
    return start({"cache": options or {}}, section + more)


def received(
    supervisord: Supervisord, count: int, seconds: float = START_SECONDS
) -> list[tuple[str, dict[str, str], str]]:
    """Wait for ``count`` events; answer the type, the header and the value of each that has come."""
    path = supervisord.folder / "events"
    until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"{count} events arrive", seconds)
    events = []
    for line in path.read_text().splitlines():
        name, payload = json.loads(line)
        header, _, value = payload.partition("\n")
        tokens = dict(token.split(":") for token in header.split())
        events.append((name, {token: unquote(text) for token, text in tokens.items()}, value))
    return events
