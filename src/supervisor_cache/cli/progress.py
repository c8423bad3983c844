"""A bar for people who wait."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar, where standard error is a terminal; answers what is told of each step."""
    if length == 0 or not (sys.stderr and sys.stderr.isatty()):
        yield lambda _: None
        return
    import click  # noqa: PLC0415 - for a terminal alone

    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
