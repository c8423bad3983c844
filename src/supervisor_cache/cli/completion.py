"""``completion``: what a shell has to read."""

import sys

from supervisor_cache.cli.app import source
from supervisor_cache.cli.globals import Globals
from supervisor_cache.commands.arguments import Words
from supervisor_cache.commands.output import Out


def run(_options: Globals, words: Words) -> None:
    """Print it."""
    Out(sys.stdout).say(source(words.arguments[0]).rstrip("\n"))
