# SPDX-License-Identifier: Apache-2.0
"""A real broker as a child process: iotcore (from pip) or Mosquitto, plain or with TLS and client certificates.

Duty: write its config below a folder, start it, kill it, start it again on the same port, end it. Not its duty: certificates
(`lab.certificates`). Invariants: it listens on the loopback only; it is reaped; a port is free again when `end` returns.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edgeheal.core.errors import EdgeHealError

READY_S = 10.0
PAYLOAD_MOST = 262_144


class BrokerError(EdgeHealError):
    """The broker is not installed, or did not start."""

    message_id = "eh-broker"
    hint = "pip install iotcore, or install Mosquitto and say so"


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files; clients must show a certificate of `ca`."""

    ca: str
    cert: str
    key: str


def kinds() -> list[str]:
    """The brokers that can be started here."""
    found = []
    with contextlib.suppress(ImportError):
        import iotcore  # noqa: F401 - looked for, not used: the child imports it

        found.append("iotcore")
    if mosquitto_path():
        found.append("mosquitto")
    return found


def mosquitto_path() -> str:
    """Where Mosquitto is, "" when it is not here."""
    return shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or ""


def free_port() -> int:
    """A TCP port that was free a moment ago on the loopback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Broker:
    """One broker in `folder`. iotcore speaks MQTT 5 and 3.1.1 at ports of their own (`port`, `port_311`), Mosquitto both at one."""

    def __init__(self, folder: Path, kind: str = "iotcore", *, port: int = 0, tls: Tls | None = None, persistent: bool = False, acl: str = "") -> None:
        """`persistent` and `acl` (text of an ACL file; user = name in the certificate) are Mosquitto's alone."""
        if kind == "mosquitto" and not mosquitto_path():
            raise BrokerError("Mosquitto is not installed here")
        self.kind = kind
        self.folder = folder
        self.port = port or free_port()
        self.port_311 = self.port if kind == "mosquitto" else free_port()
        self.tls = tls
        self._persistent = persistent
        self._acl = acl
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        """Started."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ended."""
        self.end()

    def words(self) -> list[str]:
        """The command that runs it in the foreground; its config file is written."""
        if self.kind == "mosquitto":
            config = self.folder / "mosquitto.conf"
            config.write_text(self._mosquitto_config())
            return [mosquitto_path(), "-c", str(config)]
        config = self.folder / "rumqttd.toml"
        config.write_text(self._iotcore_config())
        return [sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "ERROR"]

    def start(self) -> "Broker":
        """Start it and wait until it accepts connections."""
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(self.words(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + READY_S
        ports = {self.port, self.port_311}
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise BrokerError(f"{self.kind} ended with {self.process.returncode}", place=str(self.folder / "broker.log"))
            ports = {port for port in ports if not _accepts(port)}
            if not ports:
                return self
            time.sleep(0.02)
        self.end()
        raise BrokerError(f"{self.kind} did not listen within {READY_S:.0f} s", place=str(self.folder / "broker.log"))

    def kill(self) -> None:
        """SIGKILL, reaped."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def end(self) -> None:
        """SIGTERM, then SIGKILL; reaped in any case."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def _iotcore_config(self) -> str:
        parts = ["id = 0\n[router]\nid = 0\nmax_connections = 10010\nmax_outgoing_packet_count = 200\nmax_segment_size = 10485760\nmax_segment_count = 10\n"]
        for section, port in (("v5", self.port), ("v4", self.port_311)):
            parts.append(f'[{section}.1]\nname = "{section}"\nlisten = "127.0.0.1:{port}"\nnext_connection_delay_ms = 1\n')
            if self.tls is not None:
                parts.append(f'[{section}.1.tls]\ncapath = "{self.tls.ca}"\ncertpath = "{self.tls.cert}"\nkeypath = "{self.tls.key}"\n')
            parts.append(
                f"[{section}.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = {PAYLOAD_MOST}\nmax_inflight_count = 100\ndynamic_filters = true\n"
            )
        return "".join(parts)

    def _mosquitto_config(self) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1", "log_type error", "log_type warning", "max_queued_messages 100000", "max_inflight_messages 100",
            f"persistence {'true' if self._persistent else 'false'}", f"persistence_location {self.folder}/",
        ]  # fmt: skip
        if self.tls is not None:
            lines += [
                f"cafile {self.tls.ca}",
                f"certfile {self.tls.cert}",
                f"keyfile {self.tls.key}",
                "require_certificate true",
                "use_identity_as_username true",
            ]
        lines.append(f"allow_anonymous {'false' if self.tls is not None else 'true'}")
        if self._acl:
            path = self.folder / "acl"
            path.write_text(self._acl)
            lines.append(f"acl_file {path}")
        with contextlib.suppress(KeyError, ImportError):
            import os
            import pwd

            lines.append(f"user {pwd.getpwuid(os.getuid()).pw_name}")
        return "\n".join(lines) + "\n"


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False
