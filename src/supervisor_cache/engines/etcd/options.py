"""What a section says of an etcd cluster."""

from typing import NamedTuple


class Options(NamedTuple):
    """How the cluster is reached.

    Attributes:
        members: ``HOST:PORT`` of each, in the order in which they are tried.
        prefix: What all keys of this cache start with; begins and ends with a slash.
        timeout: Seconds that a write may wait.
        lease_ttl: Seconds after which a host that is gone gives up what its processes owned.
        ca_file: Of the authority that the members' certificates are signed by; with it TLS is used.
        cert_file: Of the certificate that is shown to them.
        key_file: Of its key.
        user: Who logs in; empty for nobody.
        password_file: Where the password is.
    """

    members: tuple[str, ...] = ()
    prefix: str = "/"
    timeout: float = 3.0
    lease_ttl: int = 15
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    user: str = ""
    password_file: str = ""
