"""What an event listener costs a ``store`` that it does not listen for."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from tests.harness import program, running, until

from benchmarks.figures import Figure, Section
from benchmarks.timing import in_turns, milliseconds, ratio
from benchmarks.wire import Wire, body, request

# It is ready for an event that does not come.
_LISTENER = """
[eventlistener:idle]
command = sh -c "echo READY; exec sleep 100000"
events = {}
startsecs = 0
"""
_STRINGS = "<param><value><string>{}</string></value></param>"
_STORE = request(body("cache.store", _STRINGS.format("release") + _STRINGS.format("2026.11.3")))


@contextmanager
def _connected(more: str) -> Iterator[Wire]:
    with running(more=more) as supervisord, closing(Wire(supervisord.socket_path)) as wire:
        proxy = supervisord.unix()
        until(lambda: proxy.supervisor.getAllProcessInfo()[0]["statename"] == "RUNNING", "the process runs")
        yield wire


def beside_none(*, quick: bool) -> Section:
    """``store`` with an idle listener to other events beside one without a listener."""
    turns = 400 if quick else 4000
    # As many processes, for each costs every round of the loop a little.
    with (
        _connected(program("idle", "sleep 100000")) as none,
        _connected(_LISTENER.format("TICK_3600")) as tick,
        _connected(_LISTENER.format("CACHE_CLEAR")) as clear,
    ):
        wires = [none, tick, clear]
        without, *others = in_turns([partial(wire.call, _STORE) for wire in wires], turns)
    figures = [
        Figure(
            f"store, a listener to {event} / none",
            ratio(samples, without),
            detail=f"{milliseconds(samples):.3f} ms beside {milliseconds(without):.3f} ms",
        )
        for event, samples in zip(("TICK_3600", "CACHE_CLEAR"), others, strict=True)
    ]
    method = (
        f"Three supervisords with one idle process each, asked call by call in turns, {turns} each, requests built "
        "beforehand; medians. No event comes that is listened to."
    )
    return Section("A store beside listeners to other events", method, figures)
