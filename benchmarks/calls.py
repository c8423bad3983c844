"""One ``fetch``, one ``store``, beside a call that does nothing and beside release 1.1.0."""

from contextlib import closing
from pathlib import Path
from typing import Any

from tests.harness import running

from benchmarks import noop_plugin
from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import Call, in_turns, milliseconds, ratio
from benchmarks.wire import Wire, body, request

PEER = Path(__file__).resolve().parent.parent / ".venv-1.1.0" / "bin"

_STRINGS = "<param><value><string>{}</string></value></param>"
_FETCH = request(body("cache.fetch", _STRINGS.format("release")))
STORE = request(body("cache.store", _STRINGS.format("release") + _STRINGS.format("2026.11.3")))
_VERSION = request(body("supervisor.getAPIVersion"))


def figure(what: str, goal: float | None, ours: list[float], theirs: list[float]) -> Figure:
    """Answer how many times longer one call takes than another."""
    return Figure(
        what,
        ratio(ours, theirs),
        goal=None if goal is None else Goal(Side.AT_MOST, goal),
        detail=f"{milliseconds(ours):.3f} ms beside {milliseconds(theirs):.3f} ms",
    )


def _fetch(proxy: Any) -> Call:
    return lambda: proxy.cache.fetch("release")


def _store(proxy: Any) -> Call:
    return lambda: proxy.cache.store("release", "2026.11.3")


def beside_nothing(*, quick: bool) -> Section:
    """``fetch`` and ``store`` beside a bare ``supervisor.getAPIVersion`` on the same connection.

    What its two arguments cost any method, Supervisor reads them and the client writes them, is shown beside ``store``.
    """
    turns = 400 if quick else 4000
    plugin = running(more=noop_plugin.SECTION, environment=noop_plugin.ENVIRONMENT)
    with plugin as supervisord, closing(Wire(supervisord.socket_path)) as wire:
        proxy = supervisord.unix()
        proxy.cache.store("release", "2026.11.3")

        def accept() -> object:
            return proxy.noop.accept("release", "2026.11.3")

        calls = [proxy.supervisor.getAPIVersion, _fetch(proxy), _store(proxy), accept]
        bare, fetch, store, alike = in_turns(calls, turns)
        built = [lambda: wire.call(_VERSION), lambda: wire.call(_FETCH), lambda: wire.call(STORE)]
        wire_bare, wire_fetch, wire_store = in_turns(built, turns)
    figures = [
        figure("fetch / supervisor.getAPIVersion", 1.05, fetch, bare),
        figure("store / supervisor.getAPIVersion", 1.08, store, bare),
        figure("of it, what any method with two strings takes", None, alike, bare),
        figure("store / a method with two strings that does nothing", None, store, alike),
        figure("fetch, requests built beforehand", None, wire_fetch, wire_bare),
        figure("store, requests built beforehand", None, wire_store, wire_bare),
    ]
    method = (
        f"Call by call in turns on one connection over the unix socket, {turns} each; medians. `ServerProxy` is what "
        "users have; requests built beforehand take the client out of both, so that what is left weighs more."
    )
    return Section("One call beside a call that does nothing", method, figures)


def beside_release_1(*, quick: bool) -> Section:
    """``fetch`` and ``store`` beside release 1.1.0 in a supervisord of its own."""
    turns = 400 if quick else 4000
    with running() as supervisord, running(binaries=PEER) as peer:
        ours, theirs = supervisord.unix(), peer.unix()
        version = theirs.cache.getAPIVersion()
        for proxy in (ours, theirs):
            proxy.cache.store("release", "2026.11.3")
        bare = [proxy.supervisor.getAPIVersion for proxy in (ours, theirs)]
        samples = in_turns([_fetch(ours), _fetch(theirs), _store(ours), _store(theirs), *bare], turns)
    figures = [
        figure("fetch / fetch of 1.1.0", 1.05, samples[0], samples[1]),
        figure("store / store of 1.1.0", 1.05, samples[2], samples[3]),
        figure("supervisor.getAPIVersion, what every call pays", None, samples[4], samples[5]),
        figure("there: store of 1.1.0 / supervisor.getAPIVersion", None, samples[3], samples[5]),
    ]
    method = (
        f"Two supervisords, asked call by call in turns by one client, {turns} each; medians. "
        f"The other one's `cache.getAPIVersion` says {version}."
    )
    return Section("One call beside release 1.1.0", method, figures)
