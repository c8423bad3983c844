"""Many entries in one call, beside ``system.multicall``."""

from typing import Any

from tests.harness import running

from benchmarks.figures import Figure, Goal, Section, Side
from benchmarks.timing import in_turns, milliseconds, ratio

_COUNT = 1000


def _multicall(proxy: Any, keys: list[str]) -> Any:
    return proxy.system.multicall([{"methodName": "cache.fetch", "params": [key]} for key in keys])


def _figure(what: str, at_least: float, multicall: list[float], ours: list[float]) -> Figure:
    detail = f"{milliseconds(ours):.1f} ms beside {milliseconds(multicall):.1f} ms"
    return Figure(what, ratio(multicall, ours), goal=Goal(Side.AT_LEAST, at_least), detail=detail)


def beside_multicall(*, quick: bool) -> Section:
    """``fetchMany`` and ``getItems`` of 1,000 entries beside ``system.multicall`` of 1,000 ``fetch``."""
    turns = 5 if quick else 40
    with running() as supervisord:
        proxy = supervisord.unix()
        items = {f"host/{number:04}/release": f"2026.11.{number}" for number in range(_COUNT)}
        proxy.cache.storeMany(items)
        keys = list(items)
        calls = [
            lambda: _multicall(proxy, keys),
            lambda: proxy.cache.fetchMany(keys),
            proxy.cache.getItems,
        ]
        multicall, many, all_items = in_turns(calls, turns, warm_up=2)
    figures = [
        _figure("multicall of fetch / fetchMany", 2, multicall, many),
        _figure("multicall of fetch / getItems", 3, multicall, all_items),
    ]
    method = f"{_COUNT} entries with short strings, in turns on one connection, {turns} each; medians."
    return Section("Many entries in one call", method, figures)
