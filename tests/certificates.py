"""Certificates for a test: an authority, servers and clients."""

import shutil
import ssl
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import final

from tests.conftest import missing
from tests.harness import START_SECONDS

_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@final
class Certificates:
    """A certificate authority, and what it certifies for servers at ``addresses`` and for clients."""

    def __init__(self, folder: Path, addresses: Iterable[str]) -> None:
        if shutil.which("openssl") is None:
            missing("openssl")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.ca_file, ca_key = folder / "ca.pem", folder / "ca-key.pem"
        authority = ["-extensions", "v3_ca", "-keyout", str(ca_key), "-out", str(self.ca_file)]
        self._openssl("req", "-x509", "-days", "2", "-subj", "/CN=authority of the test", *_NEW, *authority)
        names = ",".join(["DNS:localhost", *(f"IP:{address}" for address in sorted({"127.0.0.1", *addresses}))])
        # The gateway of a member is a client of this very member, with the certificate of the server.
        server = f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth"
        self.server_cert_file, self.server_key_file = self._certify("server", server)
        self.cert_file, self.key_file = self._certify("client", "extendedKeyUsage=clientAuth")

    def named(self, name: str) -> tuple[Path, Path]:
        """Certify a client that has a name, which etcd takes for that of a user."""
        return self._certify(name, "extendedKeyUsage=clientAuth", f"/CN={name}")

    def _certify(self, name: str, extensions: str, subject: str = "") -> tuple[Path, Path]:
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        request, options = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        options.write_text(extensions)
        # No CN: etcd would take it for the name of a user.
        self._openssl("req", "-new", "-subj", subject or f"/O={name}", *_NEW, "-keyout", str(key), "-out", str(request))
        signer = ["-CA", str(self.ca_file), "-CAkey", str(self._folder / "ca-key.pem"), "-CAcreateserial"]
        what = ["-days", "2", "-in", str(request), "-extfile", str(options), "-out", str(certificate)]
        self._openssl("x509", "-req", *signer, *what)
        return certificate, key

    @staticmethod
    def _openssl(*arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], capture_output=True, text=True, timeout=START_SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr

    def context(self) -> ssl.SSLContext:
        """What a client connects with."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(self.cert_file, self.key_file)
        return context
