"""Runs a verb, or anything else that a command does, and tells how it ended."""

import os
import sys
from collections.abc import Callable

from supervisor_cache.client.cache import CacheClient
from supervisor_cache.commands.arguments import UsageError, take_apart
from supervisor_cache.commands.failures import REFUSED, USAGE, FailureError, failure_of
from supervisor_cache.commands.output import Out, OutputError, UnshowableError, complain, say_on_stderr
from supervisor_cache.commands.verbs import Verb
from supervisor_cache.errors import AccessDeniedError, CacheError

# Characters of what nobody has foreseen.
_MOST_SHOWN = 200


def run(
    verb: Verb,
    command: str,
    typed: list[str],
    connect: Callable[[], CacheClient],
    namespace: str,
    out: Out,
    *,
    called: str = "",
    asks_for_password: bool = False,
) -> int:
    """Run ``verb`` as it was typed, and answer the exit status.

    Args:
        verb: What to do.
        command: Its name there.
        typed: The words after it.
        connect: Answers the cache.
        namespace: Its name.
        out: Where the answer is shown.
        called: How the command is called, if not by its name alone.
        asks_for_password: Raise `AccessDeniedError` instead of complaining.
    """
    made: list[CacheClient] = []

    def told() -> int:
        words = take_apart(verb.usage, typed)
        about = (words.arguments or [""])[0] or command
        return guarded(lambda: made.append(connect()), command, namespace) or guarded(
            lambda: verb.run(made[0], words, out), about, namespace, asks_for_password=asks_for_password
        )

    try:
        return with_usage(told, command, verb.usage.line(called or command))
    finally:
        for cache in made:
            cache.close()


def with_usage(work: Callable[[], int], command: str, usage: str) -> int:
    """Do ``work`` and answer its status; where it was called wrongly, say so and show ``usage``."""
    try:
        return work()
    except UsageError as error:
        complain(command, str(error))
        say_on_stderr(f"usage: {usage}")
        return USAGE


def guarded(work: Callable[[], int | None], about: str, namespace: str, *, asks_for_password: bool = False) -> int:
    """Do ``work`` and answer its status, or 0; say on stderr, in one line, what kept it from being done.

    Args:
        work: What to do. It may raise `CacheError`, `FailureError` and what stdout raises.
        about: What it is about, unless an error knows better.
        namespace: See `failure_of`.
        asks_for_password: Raise `AccessDeniedError` instead of complaining.

    Raises:
        UsageError: It was called wrongly.
    """
    try:
        return work() or 0
    except CacheError as error:
        if asks_for_password and isinstance(error, AccessDeniedError):
            raise
        return _fail(failure_of(error, namespace), about)
    except FailureError as failure:
        return _fail(failure, about)
    except UnshowableError as error:
        return _fail(FailureError(REFUSED, str(error)), about)
    except OutputError as failed:
        # A pipe that is closed has seen enough. Either way Python must not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(failed.error, BrokenPipeError):
            return 0
        return _fail(FailureError(REFUSED, failed.error.strerror or str(failed.error), "stdout"), about)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - of what no supervisord of ours answers
        return _fail(FailureError(REFUSED, f"it cannot be shown: {error!r}"[:_MOST_SHOWN]), about)


def _fail(failure: FailureError, about: str) -> int:
    complain(failure.subject or about, failure.reason)
    return failure.status
