# SPDX-License-Identifier: Apache-2.0
"""First identity: made by questions or by flags, right permissions, said twice changes nothing; a copied disk carries none; a certificate that ends is
warned of and replaced without a restart."""

import datetime as dt
import json
import os
import pty
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import verb_stage
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from monitor_box import REPO, until

from edgeheal.adapters import identity
from edgeheal.cli.main import main
from edgeheal.core.layout import Layout
from edgeheal.lab.certificates import Authority
from edgeheal.trust import certificate, envelope


class Maker(Authority):
    """The lab's authority, which signs what a device asks for, too."""

    def sign(self, csr, *, days=90, name=None):
        asked = x509.load_pem_x509_csr(Path(csr).read_bytes())
        assert asked.is_signature_valid
        now = dt.datetime.now(dt.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if name else asked.subject
        made = x509.CertificateBuilder(
            subject_name=subject, issuer_name=self._name, public_key=asked.public_key(), serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(days=1), not_valid_after=now + dt.timedelta(days=days),
        ).sign(self._key, hashes.SHA256())  # fmt: skip
        path = self._folder / f"{made.serial_number}.pem"
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return str(path), made.serial_number


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path / "ca")


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    return Layout(str(tmp_path / "root"))


def setup(layout, *words):
    return main(["setup", "--root", layout.root, "--json", *words])


def said(capsys):
    return json.loads(capsys.readouterr().out)


def prints(layout):
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_mode, p.read_bytes()) for p in Path(layout.root).rglob("*") if p.is_file()}


FLAGS = ("--device", "gw-7", "--tenant", "acme", "--broker", "mqtt.example.com", "--class", "gateway", "--place", "pump house")


def test_a_key_is_made_on_the_device_its_request_signed_and_the_certificate_taken(layout, maker, capsys):
    assert setup(layout, *FLAGS, "--ca", maker.ca) == 0
    first = said(capsys)
    assert first["csr"]
    assert first["certificate"] is None
    key = Path(first["key"])
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o711
    asked = x509.load_pem_x509_csr(Path(first["csr"]).read_bytes())
    assert asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "gw-7"
    before = prints(layout)
    assert setup(layout, *FLAGS, "--ca", maker.ca) == 0
    assert said(capsys)["done"] == []
    assert prints(layout) == before, "said twice, nothing changes"
    cert, _ = maker.sign(first["csr"])
    assert setup(layout, "--cert", cert) == 0, "names and broker are known already"
    second = said(capsys)
    assert second["certificate"]["subject"] == "gw-7"
    assert second["device"] == "gw-7"
    assert second["broker"] == "mqtt.example.com:8883"
    assert main(["config", "show", "--root", layout.root, "--json", "link", "device"]) == 0
    values = said(capsys)["values"]
    assert values["link.cert"]["value"] == second["certificate"]["file"]
    assert values["link.key"]["value"] == str(key)
    assert values["device.place"]["value"] == "pump house"
    assert values["link.ca"]["value"].endswith("keys/ca.pem")


def test_what_is_wrong_is_refused_before_anything_is_written(layout, maker, capsys):
    assert setup(layout, *FLAGS) == 0
    csr = said(capsys)["csr"]
    before = prints(layout)
    other, other_key = maker.issue("gw-7")
    gone, _ = maker.sign(csr, days=-0.5)
    named, _ = maker.sign(csr, name="gw-8")
    broken = Path(layout.root) / "broken.pem"
    broken.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    (Path(layout.root) / "two.eht").write_bytes(b"no trust")
    wrong = (
        (6, "another key", ["--cert", other]), (6, "ended", ["--cert", gone]), (6, "another name", ["--cert", named]), (6, "no certificate", ["--cert", str(broken)]),
        (6, "no key of that", ["--key", other, "--cert", other]), (2, "no file", ["--cert", "/nowhere.pem"]), (2, "no port", ["--broker", "a:99999"]),
        (1, "no device id", ["--device", "gw/7"]), (6, "no trust", ["--trust", str(Path(layout.root) / "two.eht")]),
        (1, "a place that the config refuses", ["--place", "x" * 500]),
    )  # fmt: skip
    broken_now = prints(layout)
    for code, why, words in wrong:
        got = setup(layout, *words)
        assert got == code, (why, capsys.readouterr())
        assert said(capsys)["error"]["hint"], why
    assert prints(layout) == broken_now
    assert all(before[p] == broken_now[p] for p in before)
    assert setup(layout, "--key", other_key, "--cert", other) == 0, "a key of one's own PKI comes with its certificate"
    assert said(capsys)["certificate"]["subject"] == "gw-7"


def test_trust_version_one_is_proven_and_never_overwritten(layout, tmp_path, capsys):
    from workshop import OPERATOR, ROOT, make_trust

    (tmp_path / "1.eht").write_bytes(envelope.encode(make_trust()))
    (tmp_path / "other.eht").write_bytes(envelope.encode(make_trust(ids=(bytes(32),))))
    (tmp_path / "forged.eht").write_bytes(envelope.encode(make_trust(signed_by=(OPERATOR,))))
    assert ROOT.public != OPERATOR.public
    assert setup(layout, "--device", "gw-7", "--trust", str(tmp_path / "forged.eht")) == 6
    assert not os.path.exists(layout.vendor_trust)
    capsys.readouterr()
    for _ in range(2):
        assert setup(layout, "--device", "gw-7", "--trust", str(tmp_path / "1.eht")) == 0
        assert said(capsys)["trust"] == f"{layout.vendor_trust}/00001.eht"
    assert setup(layout, "--device", "gw-7", "--trust", str(tmp_path / "other.eht")) == 6
    assert (Path(layout.vendor_trust) / "00001.eht").read_bytes() == (tmp_path / "1.eht").read_bytes()


def test_on_a_terminal_it_asks_and_without_one_it_never_does(layout):
    words = [sys.executable, "-m", "edgeheal.cli.main", "setup", "--root", layout.root]
    env = os.environ | {"PYTHONPATH": REPO}
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=30, check=False)
    assert done.returncode == 2
    assert b"--device" in done.stderr
    master, slave = pty.openpty()
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=env, close_fds=True)
    os.close(slave)
    heard, answers = b"", [(b"device id", b"gw-9\n"), (b"tenant", b"\n"), (b"broker (HOST", b"mqtt.example.com:1884\n"), (b"CA of", b"\n")]
    answers += [(b"certificate", b"\n"), (b"trust", b"\n")]
    end = time.monotonic() + 30
    with suppress(OSError):
        while time.monotonic() < end:
            heard += os.read(master, 4096)
            if answers and answers[0][0] in heard and heard.rstrip().endswith(b":"):
                os.write(master, answers.pop(0)[1])
    assert process.wait(10) == 0, heard
    os.close(master)
    text = Path(layout.identity_config).read_text()
    assert 'id = "gw-9"' in text
    assert 'tenant = "default"' in text
    assert "port = 1884" in text


def test_a_disk_that_was_made_to_forget_carries_no_identity(layout, maker, capsys):
    cert, key = maker.issue("gw-7")
    assert setup(layout, *FLAGS, "--cert", cert, "--key", key) == 0
    secret = Path(key).read_bytes()
    for name in ("journal", "spool", "learned"):
        (Path(layout.agent) / name).mkdir(parents=True)
        (Path(layout.agent) / name / "x").write_text("gw-7")
    capsys.readouterr()
    assert main(["setup", "--forget", "--root", layout.root]) == 0
    left = prints(layout)
    assert not [p for p, (_, _, data) in left.items() if b"gw-7" in data or secret in data]
    assert setup(layout) == 2, "it has no name any more"
    assert setup(layout, "--device", "gw-8", "--broker", "mqtt.example.com") == 0


def test_a_copied_disk_is_another_machine_until_somebody_says_otherwise(layout, capsys):
    assert setup(layout, *FLAGS) == 0
    record = json.loads(Path(layout.identity).read_text())
    record["marks"] = {kind: ["0" * 16] for kind in record["marks"]}
    Path(layout.identity).write_text(json.dumps(record))
    capsys.readouterr()
    assert setup(layout, *FLAGS) == 4
    assert "another machine" in said(capsys)["error"]["message"]
    assert main(["doctor", "--root", layout.root, "--json"]) == 1
    assert "setup" in next(f for f in said(capsys)["findings"] if f["what"] == "identity")["next"]
    assert setup(layout, *FLAGS, "--adopt") == 0
    assert identity.fault(layout) == ""


@pytest.mark.parametrize(
    ("kept", "now", "verdict"),
    [
        ({"card": ("a", "b"), "machine": ("m",)}, {"card": ("b", "c"), "machine": ("n",)}, ""),
        ({"card": ("a",), "machine": ("m",)}, {"card": ("b",), "machine": ("m",)}, "card"),
        ({"board": ("s",), "card": ("a",)}, {"board": ("s",), "card": ("b",)}, ""),
        ({"board": ("s",), "card": ("a",)}, {"board": ("t",), "card": ("a",)}, "board"),
        ({"machine": ("m",)}, {"machine": ("n",)}, "machine"),
        ({"machine": ("m",)}, {}, ""),
        ({}, {"card": ("a",)}, ""),
    ],
    ids=[
        "one card changed",
        "cloned with its machine id",
        "new card, same board",
        "card moved to another board",
        "no hardware mark",
        "unreadable",
        "never set up",
    ],
)
def test_the_strongest_mark_that_both_have_decides(kept, now, verdict):
    assert identity.foreign(kept, now) == verdict


def test_marks_are_hashes_and_containers_cards_do_not_count(tmp_path):
    net = tmp_path / "sys/class/net"
    for name, address, kind, real in (
        ("eth0", "02:11:22:33:44:55", "0", True),
        ("veth1", "02:11:22:33:44:66", "0", False),
        ("wlan0", "02:11:22:33:44:77", "1", True),
    ):
        (net / name).mkdir(parents=True)
        (net / name / "address").write_text(address)
        (net / name / "addr_assign_type").write_text(kind)
        if real:
            (net / name / "device").mkdir()
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/serial-number").write_bytes(b"10000000abcdef01\0")
    found = identity.marks(str(tmp_path))
    assert {k: len(v) for k, v in found.items()} == {"board": 1, "card": 1}
    assert "02:11" not in json.dumps(found)


# -- with a real agent


class Listener:
    """A TLS server that speaks as much MQTT 5 as keeps a device content, and notes whose certificate was shown."""

    def __init__(self, maker):
        cert, key = maker.issue("broker", server=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.context.load_verify_locations(maker.ca)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.serials = []
        self.held = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while self.socket.fileno() >= 0:
            with suppress(OSError):
                sock, _ = self.socket.accept()
                tls = self.context.wrap_socket(sock, server_side=True)
                self.serials.append(int(tls.getpeercert()["serialNumber"], 16))
                self.held.append(tls)
                threading.Thread(target=self.speak, args=(tls,), daemon=True).start()

    def speak(self, sock):
        with suppress(OSError, ValueError, IndexError), sock.makefile("rb") as stream:
            while head := stream.read(1):
                size = shift = 0
                while (byte := stream.read(1)[0]) & 0x80:
                    size, shift = size | (byte & 0x7F) << shift, shift + 7
                body = stream.read(size | byte << shift)
                kind = head[0] & 0xF0
                if kind == 0x10:
                    sock.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK
                elif kind == 0x80:
                    sock.sendall(b"\x90\x04" + body[:2] + b"\x00\x01")  # SUBACK, QoS 1
                elif kind == 0xC0:
                    sock.sendall(b"\xd0\x00")  # PINGRESP
                elif kind == 0x30 and head[0] & 0x06:
                    at = 2 + int.from_bytes(body[:2], "big")
                    sock.sendall(b"\x40\x02" + body[at : at + 2])  # PUBACK

    def close(self):
        self.socket.close()
        for sock in self.held:
            sock.close()


@pytest.fixture
def stage(monkeypatch, maker):
    listener = Listener(maker)
    monkeypatch.setattr(verb_stage, "LINK", "")
    made = verb_stage.VerbStage()
    try:
        made.box.start()
        yield made, listener
    finally:
        made.close()
        listener.close()


@pytest.mark.system
def test_a_certificate_that_ends_is_told_and_its_successor_taken_by_the_agent_that_runs(stage, maker):
    device, listener = stage
    flags = ["setup", "--device", "gw-1", "--tenant", "acme", "--broker", f"127.0.0.1:{listener.port}", "--ca", maker.ca]
    first = json.loads(device.run(flags).out)
    if verb_stage.ROOT:
        assert os.stat(first["key"]).st_uid == verb_stage.AGENT
    ending, serial = maker.sign(first["csr"], days=9.5)
    assert device.run(["setup", "--cert", ending]).code == 0
    device.start_agent()
    until(lambda: serial in listener.serials, 20, "the agent to come with its certificate")
    told = until(lambda: [i for i in json.loads(device.run(["incidents"]).out) if i["symptom"] == "AGENT_SELF"], 20, "the warning")
    assert any("ends in 9 d" in e["text"] for e in told[0]["evidence"]), told
    assert told[0]["severity"] != "CRITICAL"
    assert "expires" in device.run(["doctor"], json=False).out or "ends" in device.run(["doctor"], json=False).out
    successor, newer = maker.sign(first["csr"], days=400)
    pid = device.agent.pid
    assert device.run(["setup", "--cert", successor]).code == 0
    until(lambda: newer in listener.serials, 20, "the agent to come with the new one")
    assert device.agent.poll() is None
    assert device.agent.pid == pid
    until(lambda: "identity: expires" in (device.folder / "agent.log").read_text().split("trouble-over", 1)[-1], 20, "the warning to be over")


@pytest.mark.system
def test_the_agent_of_a_copied_disk_does_not_speak_under_the_others_name(stage, maker):
    device, listener = stage
    cert, key = maker.issue("gw-1")
    flags = ["setup", "--device", "gw-1", "--broker", f"127.0.0.1:{listener.port}", "--ca", maker.ca, "--cert", cert, "--key", key]
    assert device.run(flags).code == 0
    record = json.loads(Path(device.box.layout.identity).read_text())
    record["marks"] = {kind: ["0" * 16] for kind in record["marks"]}
    Path(device.box.layout.identity).write_text(json.dumps(record))
    device.start_agent()
    told = until(lambda: [i for i in json.loads(device.run(["incidents"]).out) if i["symptom"] == "TWIN"], 20, "the incident")
    assert "another machine" in json.dumps(told[0]["evidence"])
    assert listener.serials == []
    assert device.run([*flags, "--adopt"]).code == 0
    until(lambda: listener.serials, 20, "the agent to come, now that somebody said it is the same device")


def test_the_reader_of_certificates_agrees_with_the_library_and_refuses_noise(maker):
    cert, key = maker.issue("gw-1")
    data = Path(cert).read_bytes()
    one, known = certificate.read(data), x509.load_pem_x509_certificate(data)
    assert one.subject == "gw-1"
    assert one.ends == int(known.not_valid_after_utc.timestamp())
    assert one.begins == int(known.not_valid_before_utc.timestamp())
    assert one.spki == known.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = known.public_bytes(serialization.Encoding.DER)
    from edgeheal.core.errors import TrustError

    for at in range(0, len(der), 3):
        for value in (0x00, 0x80, 0xFF, der[at] ^ 1):
            with suppress(TrustError):
                certificate.read(der[:at] + bytes([value]) + der[at + 1 :])
        with suppress(TrustError):
            certificate.read(der[:at])
    for year in (1950, 1999, 2000, 2024, 2049, 2100, 2400):
        for month, day in ((1, 1), (2, 28), (3, 1), (12, 31)):
            assert certificate._days(year, month, day) == (dt.date(year, month, day) - dt.date(1970, 1, 1)).days
