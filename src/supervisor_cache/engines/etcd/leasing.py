"""The lease of what the processes of this supervisord own: kept alive while it runs, and gone soon after it."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable

from supervisor_cache.engines.etcd.gateway import (
    Client,
    DeniedError,
    GatewayError,
    LostError,
    UnreachedError,
    number,
    said,
)

# So often within the TTL of the lease it is kept alive.
_TIMES = 3


class Lease:
    """One lease, made when it is needed first.

    Args:
        ttl: Seconds after which etcd ends it, if it is not kept alive.
        timeout: Seconds that a request may take.

    Attributes:
        number: Of etcd; 0 where there is none.
    """

    def __init__(self, ttl: int, timeout: float) -> None:
        self.number = 0
        self.ttl = ttl
        self._timeout = timeout
        self._lock = threading.Lock()
        # When it was asked for, or asked to be kept, the last time that etcd did so.
        self._kept = 0.0

    def ensure(self, client: Client, seconds: float) -> int:
        """Answer its number, asking etcd for one where there is none; raises as `granted` does."""
        with self._lock:
            if not self.number:
                self._kept = time.monotonic()
                self.number = granted(client, self.ttl, seconds)
            return self.number

    def left(self) -> float:
        """Answer the seconds until etcd ends it, if it is not kept alive meanwhile; -1 where there is none."""
        return max(0.0, self._kept + self.ttl - time.monotonic()) if self.number else -1.0

    def gone(self, lease: int) -> None:
        """Take note that etcd does not know ``lease`` any more."""
        with self._lock:
            if self.number == lease:
                self.number = 0

    def keep_alive(self, client: Client) -> None:
        """Do what is due; to be called about once a second. Raises as `Client.call` does."""
        lease, now = self.number, time.monotonic()
        if not lease or now < self._kept + self.ttl / _TIMES:
            return
        try:
            answer = client.call("/v3/lease/keepalive", {"ID": str(lease)}, min(self._timeout, self.ttl / _TIMES))
        except DeniedError:
            self.gone(lease)
            raise
        result = answer.get("result", {})
        if number(result if isinstance(result, dict) else {}, "TTL") <= 0:
            self.gone(lease)
            return
        self._kept = now

    def revoke(self, client: Client, seconds: float) -> None:
        """End it, and with it all that the processes of this supervisord own; if that fails, etcd does in time."""
        with self._lock:
            lease, self.number = self.number, 0
        if lease:
            with contextlib.suppress(GatewayError):
                client.call("/v3/lease/revoke", {"ID": str(lease)}, seconds)


class Spent:
    """Leases that keep nothing any more. etcd would hold each until its time is over, which may be in years.

    Args:
        seconds: That the end of one may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._leases: deque[int] = deque()

    def add(self, leases: Iterable[int]) -> None:
        """Take note of some; from any thread."""
        self._leases.extend(leases)

    def __len__(self) -> int:
        return len(self._leases)

    def revoke_one(self, client: Client) -> bool:
        """Have etcd forget one of them; answer whether it has. What fails ends by itself."""
        with contextlib.suppress(Exception):  # IndexError: another thread was faster
            client.call("/v3/lease/revoke", {"ID": str(self._leases.popleft())}, self._seconds)
            return True
        return False


def granted(client: Client, ttl: int, seconds: float) -> int:
    """Ask for a lease.

    Raises:
        UnreachedError: There is none that is known of; whatever etcd has granted keeps nothing.
    """
    try:
        lease = number(client.call("/v3/lease/grant", {"TTL": str(ttl)}, seconds, patient=True), "ID")
    except (LostError, ValueError, TypeError) as error:
        raise UnreachedError(f"no lease: {said(error)}") from None
    if not lease:
        raise UnreachedError(f"no lease: {client.member} answers with none")
    return lease
