"""One question to several supervisords."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor

from supervisor_cache.cli.globals import Globals
from supervisor_cache.client import address
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.commands.arguments import UsageError, Words, take_apart
from supervisor_cache.commands.failures import REFUSED, FailureError, failure_of
from supervisor_cache.commands.output import Out, complain
from supervisor_cache.commands.running import guarded
from supervisor_cache.commands.verbs import Verb
from supervisor_cache.errors import CacheError

_AT_ONCE = 16


def run_on_all(verb: Verb, typed: list[str], options: Globals, urls: list[str]) -> int:
    """Run a verb that reads on each of ``urls``, all at once; each line of an answer begins with the host.

    Returns:
        The largest of the statuses.
    """
    words = take_apart(verb.usage, typed)
    try:
        names = [_name(address.read(url)) for url in urls]
    except CacheError as error:
        raise failure_of(error, options.namespace) from None
    width = max(map(len, names))
    caches = [options.connect(url) for url in urls]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda cache: _ask(verb, words, options.namespace, cache), caches))
    statuses = [0]
    is_terminal = Out(sys.stdout).is_terminal

    def show() -> None:
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, FailureError):
                about = answer.subject if answer.subject in urls else f"{name}: {answer.subject or verb.name}"
                complain(about, answer.reason)
                statuses.append(answer.status)
            elif answer or verb.name == "fetch":
                host = name.ljust(width) if is_terminal else name
                Out(sys.stdout, prefix=f"{host}\t").say(answer)

    return guarded(show, verb.name, options.namespace) or max(statuses)


def _ask(verb: Verb, words: Words, namespace: str, cache: CacheClient) -> str | FailureError:
    """Answer what one of them says, or why it does not."""
    answer = io.StringIO()
    try:
        verb.run(cache, words, Out(answer))
    except CacheError as error:
        failure = failure_of(error, namespace)
        return FailureError(failure.status, failure.reason, failure.subject or (words.arguments or [""])[0])
    except FailureError as failure:
        return failure
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - one host must not lose the answers of the others
        return FailureError(REFUSED, f"it cannot be shown: {error!r}"[:200])
    return answer.getvalue().removesuffix("\n")


def _name(where: address.Address) -> str:
    if where.scheme == "unix":
        return where.path
    return where.host if where.port == 80 else f"{where.host}:{where.port}"  # noqa: PLR2004 - http's own
