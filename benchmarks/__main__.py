"""Run the benchmarks, show their figures, and write them to ``RESULTS.md``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    blocking,
    bulk,
    calls,
    chart,
    client,
    durable,
    events,
    local,
    machine,
    memory,
    page,
    shared,
    startup,
    supervision,
    waiting,
    web,
)
from benchmarks.figures import Section

RESULTS = Path(__file__).with_name("RESULTS.md")

BENCHMARKS: dict[str, Callable[..., Section]] = {
    "calls": calls.beside_nothing,
    "release-1": calls.beside_release_1,
    "bulk": bulk.beside_multicall,
    "memory": memory.per_entry,
    "startup": startup.with_and_without,
    "sqlite": durable.beside_memory,
    "load": durable.loading,
    "slow-disk": durable.slow_disk,
    "local": local.lookups,
    "events": events.beside_none,
    "wait": waiting.until_the_answer,
    "wait-cost": waiting.beside_idle,
    "http-value": web.one_value,
    "http-entries": web.all_entries,
    "http-stream": web.to_the_stream,
    "http-returning": web.many_that_come_back,
    "command": client.starting,
    "client": client.calling,
    "supervision": supervision.restarting,
    "blocking": blocking.longest_waits,
    "blocking-sqlite": blocking.longest_waits_on_sqlite,
    "page": page.with_many,
    "shared": shared.beside_a_script,
    "shared-wait": shared.to_another_host,
    "shared-many": shared.many_hosts,
}


def main(arguments: Sequence[str]) -> int:
    """Run what is named, or all. The status is 0 also where a goal is missed: it is only marked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="few repetitions; the figures are rough")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    sections = []
    for name in chosen.names or BENCHMARKS:
        section = BENCHMARKS[name](quick=chosen.quick)
        print(section.text(), flush=True)
        sections.append(section)
    if chosen.quick or chosen.names:
        print(f"\n{RESULTS.name} is left alone: only a full run writes it")
    else:
        RESULTS.write_text(_document(sections), encoding="utf-8")
        print(f"\nwritten to {RESULTS}")
        chart.main()
    return 0


def _document(sections: Sequence[Section]) -> str:
    lines = [f"| {name} | {value} |" for name, value in machine.describe().items()]
    head = (
        "# Figures\n\nWritten by `make bench`, on real supervisord processes. Speed is a ratio within one run, both "
        "sides in turns.\nNothing fails where a goal is missed: it is marked.\n"
    )
    return "\n".join([head, "| | |\n| --- | --- |", *lines, "", *(section.markdown() for section in sections)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
