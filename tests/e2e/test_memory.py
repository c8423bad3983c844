"""What nested values take in supervisord's memory: about what they have as text, not as Python objects."""

import xmlrpc.client
from typing import Any

from tests.conftest import StartSupervisord
from tests.e2e.raw import Server, post

KIB = 1024
VALUES = 255
DEPTH = 31
VALUE_BYTES = 64 * KIB
MOST_GROWTH_KILOBYTES = 80 * KIB
NAME = "value/000"


def nested(depth: int) -> list[Any]:
    return [] if depth == 1 else [nested(depth - 1)]


def test_a_full_cache_of_nested_arrays_takes_little_more_than_its_text(start: StartSupervisord) -> None:
    # As Python objects each of these values takes 3 MB, forty times its JSON.
    chain = nested(DEPTH - 1)
    value = [chain] * ((VALUE_BYTES - 2) // (2 * (DEPTH - 1) + 1))
    body = xmlrpc.client.dumps((NAME, value), "cache.store")
    supervisord = start({"cache": {"max_request_bytes": "2MB"}})
    with Server(supervisord, inet=False).connect() as connection:

        def store(number: int) -> None:
            connection.send(post(body.replace(NAME, f"value/{number:03}").encode()))
            reply = connection.reply()
            assert reply is not None
            assert xmlrpc.client.loads(reply.body) == ((True,), None)

        # What parsing takes while it lasts is none of this, and there from the first call on.
        store(0)
        before = supervisord.resident_kilobytes()
        for number in range(1, VALUES):
            store(number)
        grown = supervisord.resident_kilobytes() - before
    cache = supervisord.unix().cache
    assert cache.getCount() == VALUES
    assert cache.getStats()["bytes"] > 0.99 * VALUES * VALUE_BYTES
    assert cache.fetch(f"value/{VALUES - 1:03}") == value
    assert grown < MOST_GROWTH_KILOBYTES
