# SPDX-License-Identifier: Apache-2.0
"""A broker that is reached over IPv6 alone, with a private CA: a whole device tells its incident there."""

import os
import pwd
import signal
import socket
from pathlib import Path

import pytest

from edgeheal.lab.broker import mosquitto_path
from edgeheal.lab.certificates import Authority
from edgeheal.lab.stage import Stage, until

SHIPPED = Path(__file__).parents[2] / "packaging/mosquitto"


def six():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
            return True
    except OSError:
        return False


def listens(port):
    try:
        socket.create_connection(("::1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.system
@pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")
@pytest.mark.skipif(not six(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_an_incident_is_stored_over_ipv6_and_a_private_ca(tmp_path, host):
    try:
        found = {row[4][0] for row in socket.getaddrinfo(host, None)}
    except OSError:  # a box without a file of hosts
        found = set()
    if "::1" not in found:
        pytest.skip(f"{host} has no IPv6 address here")
    with Stage(tmp_path) as stage:
        authority = Authority(tmp_path / "ca")
        cert, key = authority.issue("localhost", server=True)
        text = (SHIPPED / "mosquitto.conf").read_text()
        for shipped, ours in {
            "listener 8883": f"listener {stage.port} ::1", "/etc/mosquitto/certs/ca.pem": authority.ca, "/etc/mosquitto/certs/broker.pem": cert,
            "/etc/mosquitto/certs/broker.key": key, "/etc/mosquitto/edgeheal.acl": str(SHIPPED / "acl"), "/var/lib/mosquitto/": f"{tmp_path}/",
        }.items():  # fmt: skip
            assert shipped in text
            text = text.replace(shipped, ours)
        (tmp_path / "mosquitto.conf").write_text(f"{text}user {pwd.getpwuid(os.getuid()).pw_name}\n")
        stage.launch("broker", [mosquitto_path(), "-c", str(tmp_path / "mosquitto.conf")])
        until(lambda: listens(stage.port), 20, "the broker")
        ours, theirs = authority.issue("box-1"), authority.issue("controller")
        address = f"[{host}]" if ":" in host else host
        link = ["--broker", f"{address}:{stage.port}", "--ca", authority.ca, "--cert", theirs[0], "--client-key", theirs[1], "--tenant", "default"]
        stage.start("controller", "controller", *link, "--store", str(stage.store))
        stage.write_config(
            f'[device]\nid = "box-1"\n[apps.a]\n[link]\nhost = "{host}"\nport = {stage.port}\nca = "{authority.ca}"\ncert = "{ours[0]}"\nkey = "{ours[1]}"\n'
        )
        stage.start("guard", "guard", "--root", str(stage.root))
        until(lambda: (stage.answer("status") or {}).get("agent") == "ok", 60, "the agent to answer")
        (stage.root / "etc/edgeheal/edgeheal.toml").open("a").write("[broken\n")
        stage.programs["guard"].process.send_signal(signal.SIGHUP)

        def told():
            done = stage.edgeheal("fleet", "incidents", "--store", str(stage.store), "--json", check=False)
            return done.returncode == 0 and b"box-1" in done.stdout

        until(told, 40, "the incident in the controller's store", every=0.5)
