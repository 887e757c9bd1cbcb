# SPDX-License-Identifier: Apache-2.0
"""Certificates for a stage: a CA, a broker's, one for each client, by the `openssl` command.

Duty: files below a folder. For demo and tests only: keys are made without a password and live a week.
Invariant: a client's common name is its device id, which is what a broker takes as its user name.
"""

import shutil
import subprocess
from pathlib import Path

from edgeheal.core.errors import EdgeHealError

DAYS = "7"


class CertificateError(EdgeHealError):
    """`openssl` is missing or failed."""

    message_id = "eh-certificate"
    hint = "install openssl, or run without TLS"


class Authority:
    """A small CA in `folder`."""

    def __init__(self, folder: Path) -> None:
        """The CA's key and certificate are made."""
        if shutil.which("openssl") is None:
            raise CertificateError("the openssl command is not here")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._run("req", "-x509", *self._new_key(self._key), "-days", DAYS, "-subj", "/CN=lab-ca", "-out", str(self.ca))

    def issue(self, name: str, *, server: bool = False) -> tuple[str, str]:
        """Paths of certificate and key for `name`; a server's is good for localhost and 127.0.0.1."""
        cert, key, request, extra = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        usage = "serverAuth" if server else "clientAuth"
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n" if server else ""
        extra.write_text(f"basicConstraints=CA:FALSE\nextendedKeyUsage={usage}\n{names}")
        self._run("req", *self._new_key(key), "-subj", f"/CN={name}", "-out", str(request))
        self._run(
            "x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(self._key), "-CAcreateserial", "-days", DAYS,
            "-extfile", str(extra), "-out", str(cert),
        )  # fmt: skip
        return str(cert), str(key)

    def _new_key(self, path: Path) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]

    def _run(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], capture_output=True, check=False, timeout=30)
        if done.returncode != 0:
            raise CertificateError(f"openssl {words[0]}: {done.stderr.decode(errors='replace').strip()[-200:]}")
