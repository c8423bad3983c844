"""The start of supervisord, with and without the plugin."""

import contextlib
import statistics
import subprocess
import time

from tests.harness import Sections, Supervisord

from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import milliseconds
from benchmarks.wire import TIMEOUT_SECONDS, Wire, body, request

_GET_STATE = request(body("supervisor.getState"))
_POLL_SECONDS = 0.001


def _start(sections: Sections) -> float:
    """Answer the seconds from exec to the first answer."""
    supervisord = Supervisord(sections)
    supervisord.write_configuration()
    command = [str(supervisord.binaries / "supervisord"), "-c", str(supervisord.configuration)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _first_answer(supervisord, process)
        return time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()
        supervisord.close()


def _first_answer(supervisord: Supervisord, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), contextlib.closing(Wire(supervisord.socket_path)) as wire:
            wire.call(_GET_STATE)
            return
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"supervisord did not start: {supervisord.log}")


def with_and_without(*, quick: bool) -> Section:
    """From exec to the first answer, with and without the plugin, in turns."""
    starts = 3 if quick else 20
    with_plugin, without = [], []
    for _ in range(starts):
        without.append(_start({}))
        with_plugin.append(_start({"cache": {}}))
    longer = statistics.median(one - other for one, other in zip(with_plugin, without, strict=True)) * 1000
    detail = f"{milliseconds(with_plugin):.0f} ms beside {milliseconds(without):.0f} ms"
    figures = [Figure("longer with the plugin", longer, "ms", Goal(Side.AT_MOST, 50), detail)]
    method = f"From exec to the first answer over the unix socket, {starts} starts each, in turns; medians."
    return Section("Start of supervisord", method, figures)
