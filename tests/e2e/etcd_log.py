"""All that has happened to a cache in etcd, as its watch tells it from the first revision on."""

import contextlib
import http.client
import json
import threading
from typing import Any, NamedTuple, final

from tests.cluster import Cluster, decoded, encoded, prefix_end

SECONDS = 10.0


class Revision(NamedTuple):
    """What one transaction, or the end of a lease, has changed.

    Attributes:
        number: Of etcd.
        note: Of the call; empty where a lease has ended.
        told: What the cache says of it beside the entries; empty where a lease has ended.
        records: By key, what is kept there afterwards; None where nothing is.
    """

    number: int
    note: str
    told: dict[str, Any]
    records: dict[str, Any]


@final
class EtcdLog:
    """Reads it piece by piece: before a compaction takes the next piece away, and at the end.

    Args:
        cluster: Whose members are asked where they can be reached whatever is cut.
        prefix: Of the cache, with its slash.
    """

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.revisions: list[Revision] = []
        self.position = 0
        self._cluster = cluster
        self._prefix = prefix
        self._lock = threading.Lock()

    def read(self, until: int, member: int) -> None:
        """Read up to a revision at which something was changed; raises `OSError` where the member does not answer."""
        with self._lock, self._cluster.members[member].inside():
            place = self._cluster.members[member]
            connection = http.client.HTTPConnection(place.host, place.client, timeout=SECONDS)
            with contextlib.closing(connection):
                try:
                    self._read(connection, until)
                except http.client.HTTPException as error:
                    raise ConnectionError(repr(error)) from error

    def _read(self, connection: http.client.HTTPConnection, until: int) -> None:
        wanted = {
            "key": encoded(self._prefix),
            "range_end": prefix_end(self._prefix),
            "start_revision": str(self.position + 1),
        }
        if self.position >= until:
            return
        connection.request("POST", "/v3/watch", json.dumps({"create_request": wanted}))
        response = connection.getresponse()
        while self.position < until:
            result = json.loads(response.readline() or b"{}").get("result")
            if result is None or result.get("canceled"):
                raise ConnectionError(f"the watch has ended: {result}")
            self._take(result.get("events", []))

    def _take(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            kv = event["kv"]
            number = int(kv["mod_revision"])
            if number > self.position:
                self.position = number
                self.revisions.append(Revision(number, "", {}, {}))
            name = decoded(kv["key"]).removeprefix(self._prefix)
            value: Any = None if event.get("type") == "DELETE" else json.loads(decoded(kv["value"]))
            newest = self.revisions[-1]
            if name == "c":
                self.revisions[-1] = newest._replace(note=value["note"], told=value)
            else:
                newest.records[name.removeprefix("e/")] = value
