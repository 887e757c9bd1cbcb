# SPDX-License-Identifier: Apache-2.0
"""The shipped Mosquitto config and ACL, run by a real Mosquitto: who may say and hear what."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from edgeheal.lab.broker import free_port, mosquitto_path
from edgeheal.lab.certificates import Authority

SHIPPED = Path(__file__).parents[2] / "packaging/mosquitto"
pytestmark = pytest.mark.skipif(not (mosquitto_path() and shutil.which("mosquitto_pub")), reason="mosquitto and its clients are not installed")
NOT_AUTHORIZED = 135  # MQTT 5, 3.4.2.1


class Fleet:
    """The broker of the shipped files; only paths, port and user are this test's."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder / "ca")
        self.known = {}
        self.port = free_port()
        cert, key = self.authority.issue("localhost", server=True)
        text = (SHIPPED / "mosquitto.conf").read_text()
        for shipped, ours in {
            "listener 8883": f"listener {self.port} 127.0.0.1",
            "/etc/mosquitto/certs/ca.pem": self.authority.ca,
            "/etc/mosquitto/certs/broker.pem": cert,
            "/etc/mosquitto/certs/broker.key": key,
            "/etc/mosquitto/edgeheal.acl": str(SHIPPED / "acl"),
            "/var/lib/mosquitto/": f"{folder}/",
        }.items():
            assert shipped in text
            text = text.replace(shipped, ours)
        conf = folder / "mosquitto.conf"
        conf.write_text(f"{text}user {pwd.getpwuid(os.getuid()).pw_name}\n")
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen([mosquitto_path(), "-c", str(conf)], stdout=self.log, stderr=self.log)
        self.wait()

    def wait(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)
        raise AssertionError("mosquitto does not listen")

    def words(self, tool, user, *words):
        if user not in self.known:
            self.known[user] = self.authority.issue(user)
        cert, key = self.known[user]
        return [tool, "-V", "5", "-h", "localhost", "-p", str(self.port), "--cafile", self.authority.ca, "--cert", cert, "--key", key, *words]

    def may_write(self, user, topic):
        """The broker's own answer to a publish at QoS 1."""
        done = subprocess.run(
            self.words("mosquitto_pub", user, "-q", "1", "-t", topic, "-m", "x", "-d"), capture_output=True, text=True, timeout=30, check=False
        )
        assert "sending CONNECT" in done.stdout, done
        refused = f"RC:{NOT_AUTHORIZED}" in done.stdout.replace("Reason code ", "RC:") or "Not authorized" in done.stdout + done.stderr
        return not refused and done.returncode == 0

    def hears(self, user, asked, topic):
        """Whether a retained message at `topic`, put there by one who may, comes to `user` who asks for `asked`."""
        words = self.words("mosquitto_sub", user, "-t", asked, "-C", "1", "-W", "3", "-F", "%t")
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return topic in done.stdout.split()

    def keep(self, user, topic):
        subprocess.run(self.words("mosquitto_pub", user, "-q", "1", "-r", "-t", topic, "-m", "x"), timeout=30, check=True)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    one = Fleet(tmp_path_factory.mktemp("broker"))
    one.keep("operator", "eh/1/default/box-1/down/cmd")
    one.keep("operator", "eh/1/default/box-2/down/cmd")
    one.keep("box-1", "eh/1/default/box-1/up/state")
    one.keep("box-2", "eh/1/default/box-2/up/state")
    one.keep("controller", "eh/1/default/_ctl/state")
    yield one
    one.process.terminate()
    one.process.wait(20)
    one.log.close()


@pytest.mark.parametrize(
    ("user", "topic", "may"),
    [
        ("box-1", "eh/1/default/box-1/up/incident", True),
        ("box-1", "eh/1/default/box-1/up/evidence/k/1", True),
        ("box-1", "eh/1/default/box-2/up/incident", False),
        ("box-1", "eh/1/default/box-1/down/cmd", False),
        ("box-1", "eh/1/default/box-1/down/stored", False),
        ("box-1", "eh/1/default/_ctl/state", False),
        ("box-1", "eh/1/other/box-1/up/incident", False),
        ("box-1", "any/thing", False),
        ("controller", "eh/1/default/box-1/down/stored", True),
        ("controller", "eh/1/default/_ctl/state", True),
        ("controller", "eh/1/default/box-1/down/cmd", False),
        ("controller", "eh/1/default/box-1/down/policy", False),
        ("controller", "eh/1/default/box-1/up/incident", False),
        ("operator", "eh/1/default/box-1/down/cmd", True),
        ("operator", "eh/1/default/box-1/down/policy", True),
        ("operator", "eh/1/default/box-1/down/stored", False),
        ("operator", "eh/1/default/box-1/up/incident", False),
    ],
)
def test_nobody_publishes_as_another(fleet, user, topic, may):
    assert fleet.may_write(user, topic) is may


@pytest.mark.parametrize(
    ("user", "asked", "topic", "may"),
    [
        ("box-1", "eh/1/default/box-1/down/#", "eh/1/default/box-1/down/cmd", True),
        ("box-1", "eh/1/default/box-1/up/state", "eh/1/default/box-1/up/state", True),
        ("box-1", "eh/1/default/_ctl/state", "eh/1/default/_ctl/state", True),
        ("box-1", "eh/1/default/box-2/down/#", "eh/1/default/box-2/down/cmd", False),
        ("box-1", "eh/1/default/box-2/up/#", "eh/1/default/box-2/up/state", False),
        ("controller", "eh/1/default/box-2/up/#", "eh/1/default/box-2/up/state", True),
        ("controller", "eh/1/default/+/down/#", "eh/1/default/box-2/down/cmd", False),
    ],
)
def test_nobody_reads_what_is_for_another(fleet, user, asked, topic, may):
    assert fleet.hears(user, asked, topic) is may


def test_a_wildcard_hears_no_more_than_its_own(fleet):
    words = fleet.words("mosquitto_sub", "box-1", "-t", "#", "-W", "2", "-F", "%t")
    heard = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout.split()
    assert set(heard) <= {"eh/1/default/box-1/down/cmd", "eh/1/default/box-1/up/state", "eh/1/default/_ctl/state"}


def test_without_a_certificate_nobody_comes_in(fleet):
    words = ["mosquitto_pub", "-h", "localhost", "-p", str(fleet.port), "--cafile", fleet.authority.ca, "-t", "x", "-m", "x"]
    assert subprocess.run(words, capture_output=True, timeout=30, check=False).returncode != 0


@pytest.mark.parametrize("name", ["+", "#"])
def test_a_name_that_is_a_wildcard_gains_nothing(fleet, name):
    assert not fleet.may_write(name, "eh/1/default/box-1/up/incident")
    assert not fleet.hears(name, "eh/1/default/box-1/down/cmd", "eh/1/default/box-1/down/cmd")
