"""What a cache says of itself in OpenMetrics."""

from collections.abc import Iterable, Iterator
from typing import Any

from supervisor_cache.core.engine import State
from supervisor_cache.core.limits import MAX_REPLY_BYTES, MAX_REPLY_ENTRIES
from supervisor_cache.server.namespace import Namespace

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# Entries under metrics_prefix.
MAX_ENTRIES = 100

_COUNTERS = {
    "hits": "Keys that were asked for by name and found.",
    "misses": "Keys that were asked for by name and not found.",
    "writes": "Commits.",
    "refused": "Writes that ended in an error.",
    "expired": "Entries whose end has come.",
    "published": "Messages of processes that were applied.",
    "publications_dropped": "Messages of processes that were not.",
}
_LIMITS = ("max_entries", "max_total_bytes", "max_changes", "max_watchers")


def metrics(namespace: Namespace, identification: str) -> str:
    """Answer the text of all metrics of one cache."""
    stats = namespace.stats(identification)
    labels = {"namespace": namespace.name}
    lines: list[str] = []

    def add(name: str, kind: str, text: str, samples: Iterable[tuple[dict[str, str], Any]], unit: str = "") -> None:
        full = f"supervisor_cache_{name}"
        lines.append(f"# TYPE {full} {kind}")
        if unit:
            lines.append(f"# UNIT {full} {unit}")
        lines.append(f"# HELP {full} {text}")
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        lines.extend(f"{full}{suffix}{_labels({**labels, **more})} {_number(value)}" for more, value in samples)

    add("entries", "gauge", "Entries.", [({}, stats["entries"])])
    add("size_bytes", "gauge", "Keys, values and notes.", [({}, namespace.cache.size)], "bytes")
    add("history_changes", "gauge", "Changes that are kept.", [({}, stats["history"]["changes"])])
    add("watchers", "gauge", "Clients that wait for a change.", [({}, stats["watchers"])])
    add("limit", "gauge", "Limits, by option.", [({"option": name}, stats["limits"][name]) for name in _LIMITS])
    add("revision", "gauge", "The newest revision.", [({}, namespace.cache.revision)])
    add("uptime_seconds", "gauge", "Since the cache was made.", [({}, stats["uptime"])], "seconds")
    state = str(stats["storage"]["state"])
    add(
        "storage_state",
        "stateset",
        "State of the storage.",
        [({"supervisor_cache_storage_state": one.value}, one.value == state) for one in State],
    )
    for name, text in _COUNTERS.items():
        add(name, "counter", text, [({}, stats[name])])
    add("supervisord", "info", "Which supervisord.", [({"identification": identification}, 1)])
    if namespace.settings.metrics_prefix and not namespace.refusal:
        add("entry", "gauge", "Entries under metrics_prefix that are numbers or booleans.", _entries(namespace))
    return "\n".join([*lines, "# EOF", ""])


def _entries(namespace: Namespace) -> Iterator[tuple[dict[str, str], Any]]:
    shown, after, more = 0, "", True
    while more:
        found, more = namespace.cache.page(namespace.settings.metrics_prefix, after, MAX_REPLY_ENTRIES, MAX_REPLY_BYTES)
        for key, entry in found:
            if isinstance(entry.packed, bool | int | float):
                yield {"key": key}, entry.packed
                shown += 1
                if shown == MAX_ENTRIES:
                    return
            after = key


def _labels(labels: dict[str, str]) -> str:
    shown = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{','.join(shown)}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else repr(value)
