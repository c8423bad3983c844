"""Waiting for what a key holds."""

import math
import time
from collections.abc import Callable

from supervisor_cache.client.absence import is_absence
from supervisor_cache.client.cache import CacheClient
from supervisor_cache.client.records import Entry
from supervisor_cache.errors import CacheError, NoSuchKeyError

# Seconds for which a lost connection is made anew, how long to wait in between, and at most in one call.
_PATIENCE = 10.0
_PAUSE = 0.3
_LONGEST_WAIT = 600.0


def wait_for(
    cache: CacheClient, key: str, holds: Callable[[Entry | None], bool], timeout: float
) -> tuple[bool, Entry | None]:
    """Wait until ``holds`` is true of the entry of ``key``, None where there is none.

    A reload of supervisord cuts the connection; for `_PATIENCE` seconds it is made anew.

    Returns:
        Whether it held within ``timeout`` seconds, and the entry as it was then.
    """
    end = time.monotonic() + timeout
    cut = math.inf
    has_answered = False
    while True:
        try:
            revision = cache.get_revision()
            has_answered = True
            entry = entry_of(cache, key)
            if holds(entry):
                return True, entry
            left = end - time.monotonic()
            if left <= 0:
                return False, entry
            cut = math.inf
            cache.wait(revision, min(left, _LONGEST_WAIT), key)
        except CacheError as error:
            now = time.monotonic()
            cut = min(cut, now + _PATIENCE)
            if not (is_absence(error) and has_answered) or now > min(cut, end):
                raise
            time.sleep(_PAUSE)


def entry_of(cache: CacheClient, key: str) -> Entry | None:
    """Answer the entry of ``key``; None where there is none."""
    try:
        return cache.get_entry(key)
    except NoSuchKeyError:
        return None
