# SPDX-License-Identifier: Apache-2.0
"""What the link is told at its start: plain values out of `[device]` and `[link]` of the config.

Duty: one frozen value. It reads no file but the password's, when a connection is made.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """`version` auto, 5 or 3.1.1; `encoding` msgpack or json; `stored_by` controller or broker; empty paths and names: not given."""

    host: str
    tenant: str
    device: str
    port: int = 8883
    tls: bool = True
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password_file: str = ""
    version: str = "auto"
    heartbeat_s: float = 300.0
    keep_alive_s: int = 240
    encoding: str = "msgpack"
    stored_by: str = "controller"
    connect_s: float = 10.0
    backoff_first_s: float = 1.0
    backoff_cap_s: float = 300.0
    useful_after_s: float = 300.0

    @property
    def detect_s(self) -> float:
        """How long a silent broker can go unnoticed: 1.5 x keep-alive."""
        return 1.5 * self.keep_alive_s
