"""From what was typed to what is done.

click shows the help, completes words and draws progress bars, and is imported for these alone: to import it takes as
long as to ask supervisord. What is typed is taken apart as supervisorctl's commands do it.
"""

import os
import sys

from supervisor_cache import __version__
from supervisor_cache.cli.globals import USAGE, Globals
from supervisor_cache.cli.own import OWN, Own
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.commands import failures
from supervisor_cache.commands.arguments import UsageError, Words, take_apart
from supervisor_cache.commands.output import Out, OutputError
from supervisor_cache.commands.running import guarded, run, with_usage
from supervisor_cache.commands.verbs import VERBS, Verb

COMMAND = "supervisor-cache"
COMPLETE_VARIABLE = "_SUPERVISOR_CACHE_COMPLETE"
_HELP = "--help"


def dispatch(typed: list[str]) -> int:
    """Do what was typed, and answer the exit status."""
    if COMPLETE_VARIABLE in os.environ:
        return _click([])
    usage = f"{COMMAND} [OPTION]... COMMAND [ARGUMENT]... (--help lists them all)"
    return with_usage(lambda: guarded(lambda: _dispatch(typed), COMMAND, ""), COMMAND, usage)


def _dispatch(typed: list[str]) -> int:
    words = take_apart(USAGE, typed)
    if "version" in words.flags:
        Out(sys.stdout).say(__version__)
        return 0
    name, *rest = words.arguments or [""]
    if "help" in words.flags or name in {"", "help"}:
        _click([*rest[:1], _HELP])
        return 0 if name or "help" in words.flags else failures.USAGE
    if rest[:1] == [_HELP]:
        return _click([name, _HELP])
    verb = next((verb for verb in VERBS if verb.name == name), None)
    if verb is not None:
        return _run_verb(verb, rest, words)
    own = OWN.get(name)
    if own is not None:
        return _run_own(name, own, rest, words)
    import difflib  # noqa: PLC0415 - takes time

    near = difflib.get_close_matches(name, [*(verb.name for verb in VERBS), *OWN], 1)
    hint = f"did you mean {near[0]}?" if near else f"{COMMAND} --help lists all"
    raise failures.FailureError(failures.USAGE, f"no such command: {name}; {hint}")


def _run_verb(verb: Verb, typed: list[str], words: Words) -> int:
    options = Globals(words)
    hosts = words.lists.get("url", [])
    if len(hosts) > 1:
        if not verb.is_read:
            raise UsageError(f"several --url are for commands that only read, and {verb.name} does not")
        from supervisor_cache.cli.hosts import run_on_all  # noqa: PLC0415 - seldom needed

        return run_on_all(verb, typed, options, hosts)

    def connect() -> CacheClient:
        return options.connect(local_reads=verb.is_read)

    out = Out(sys.stdout, tables=True)
    return run(verb, verb.name, typed, connect, options.namespace, out, called=f"{COMMAND} {verb.name}")


def _run_own(name: str, own: Own, typed: list[str], words: Words) -> int:
    options = Globals(words)
    if len(words.lists.get("url", [])) > 1 or "local" in words.values:
        raise UsageError(f"{name} takes neither several --url nor --local")

    def work() -> int:
        given = take_apart(own.usage, typed)
        about = (given.arguments or [""])[0] or name
        return guarded(lambda: own.load()(options, given), about, options.namespace)

    return with_usage(work, name, own.usage.line(f"{COMMAND} {name}"))


def _click(typed: list[str]) -> int:
    from supervisor_cache.cli.app import show  # noqa: PLC0415 - seldom needed

    try:
        return show(typed)
    except OSError as error:
        raise OutputError(error) from None
