# SPDX-License-Identifier: Apache-2.0
"""The two doors: who may what, and what hostile frames cost (their sender a connection, the guard nothing)."""

import array
import contextlib
import os
import random
import socket
import subprocess

import pytest

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.core import reasons
from edgeheal.guard import doors
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import PACKAGE, PYTHON, until


def raw(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(path)
    sock.settimeout(5)
    return sock


def hello(sock):
    sock.send(f.pack_plain(f.HELLO, request=1, a=f.VERSION))
    return sock.recv(f.MAX_FRAME)


def agent_path(box):
    return str(box.root / "run/edgeheal/guard-agent.sock")


def test_every_verb_has_rights_and_nobody_else_s():
    assert set(doors.RIGHTS) == set(f.VERBS)


def test_a_newer_version_is_answered_with_ours_and_the_door_stays_open(box):
    box.app("one")
    box.start()
    with raw(agent_path(box)) as sock:
        frame = bytearray(f.pack_plain(f.HELLO, request=9, a=7))
        frame[0] = 7
        sock.send(bytes(frame) + b"more than we know")
        version, kind, code, number = f.HEAD.unpack_from(answer := sock.recv(f.MAX_FRAME))
        assert (version, kind, code, number) == (f.VERSION, f.ANSWER, reasons.UNKNOWN_VERSION, 9)
        assert f.PLAIN.unpack(answer)[6] == f.VERSION
        assert hello(sock)[2:4] == b"\0\0"


@pytest.mark.parametrize(
    "frame",
    [b"\1", b"", f.pack_plain(f.STATUS)[:-1], f.pack_plain(f.STATUS) + b"x", f.pack_plain(99), b"\0" * 88, b"\xff" * 256, f.pack_plain(f.ANSWER)],
    ids=["short", "empty", "cut", "long", "unknown verb", "zeros", "ones", "an answer"],
)
def test_a_frame_that_is_none_closes_that_connection_only(box, frame):
    box.app("one")
    box.start()
    with raw(agent_path(box)) as good, raw(agent_path(box)) as bad:
        hello(good)
        hello(bad)
        bad.send(frame)
        with contextlib.suppress(ConnectionError):
            assert bad.recv(f.MAX_FRAME) == b""
        good.send(f.pack_plain(f.STATUS, request=2))
        assert good.recv(f.MAX_FRAME)[1] == f.ROW_APP


def test_nothing_is_answered_before_a_greeting(box):
    box.app("one")
    box.start()
    with raw(agent_path(box)) as sock:
        sock.send(f.pack_plain(f.STATUS))
        assert sock.recv(f.MAX_FRAME) == b""


def test_the_agent_s_door_takes_no_word_of_root_s(box):
    box.app("one")
    box.start()
    agent = box.door(agent=True)
    for verb in (f.MARK_GOOD, f.ALLOW, f.DROP, f.SET_CONFIG, f.SET_SECRET, f.OVERRIDE, f.RELOAD_CONFIG, f.TRUST, f.PAUSE, f.RESUME):
        assert agent.ask(verb, app="one").reason == reasons.WRONG_DOOR, f.VERBS[verb]


@pytest.mark.root
def test_a_member_of_the_group_is_let_in_with_few_rights_and_a_stranger_is_not(box):
    if os.geteuid() != 0 or box.plain:
        pytest.skip("needs root and separate uids")
    box.app("one")
    box.start()
    code = (
        f"import sys; sys.path[:0]=[{PACKAGE!r}]\n"
        "from edgeheal.adapters.guard_client import GuardDoor\nfrom edgeheal.core.errors import EdgeHealError\n"
        "try:\n with GuardDoor(sys.argv[1]) as d: print(*[d.ask(v, app='one').reason for v in (2, 5, 19, 38)])\n"
        "except EdgeHealError as e: print(type(e).__name__)\n"
    )

    def visit(path, group):
        done = subprocess.run([PYTHON, "-c", code, path], user=65534, group=65534, extra_groups=group, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    import grp

    users = grp.getgrnam("users").gr_gid
    assert visit(box.people(), [users]) == [str(reasons.OK), str(reasons.ALREADY), str(reasons.NOT_ALLOWED), str(reasons.NOT_ALLOWED)]
    assert visit(box.people(), []) == ["RefusedByPolicyError"]
    assert visit(agent_path(box), [users]) == ["RefusedByPolicyError"]


def test_descriptors_and_greedy_clients_are_bounded_and_memory_stays_flat(box):
    box.app("one")
    box.start()
    rng = random.Random(3)
    storm(box, rng, 300)
    before_fds, before = len(os.listdir(f"/proc/{box.process.pid}/fd")), memory_kib(box.process.pid)
    storm(box, rng, 1_500)
    until(lambda: len(os.listdir(f"/proc/{box.process.pid}/fd")) <= before_fds, what="no descriptor left behind")
    assert memory_kib(box.process.pid) - before < 256
    with GuardDoor(box.people()) as door:
        assert door.ask(f.STATUS).reason == reasons.OK


def storm(box, rng, count):
    """Random frames, half of them well-formed, with up to three descriptors; many never read their answers."""
    sock = None
    with open("/dev/null") as null:
        for _ in range(count):
            if sock is None:
                sock = raw(agent_path(box))
                sock.setblocking(False)
                with contextlib.suppress(OSError):
                    sock.send(f.pack_plain(f.HELLO, request=1, a=1))
            well = rng.random() < 0.7
            verb = rng.choice([f.STATUS, f.PROBE, f.TRUNCATE, f.ORDER, f.HEARTBEAT, f.FOLLOW, f.READY, f.RELOAD, f.OPEN_LOG])
            frame = (
                f.pack_plain(verb, request=rng.getrandbits(31), app=rng.choice(["one", "x", ""]), a=rng.getrandbits(8))
                if well
                else rng.randbytes(rng.randrange(1, 256))
            )
            fds = array.array("i", [null.fileno()] * rng.choice([0, 0, 0, 1, 3]))
            try:
                sock.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
            except OSError:
                sock.close()
                sock = None
            if sock is not None and rng.random() < 0.02:
                sock.close()
                sock = None
    if sock is not None:
        sock.close()


def memory_kib(pid):
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Anonymous:"):
            return int(line.split()[1])
    return 0


def test_too_many_clients_are_sent_away_and_the_others_served(box):
    box.app("one")
    box.start()
    socks = [raw(box.people()) for _ in range(40)]
    try:
        served = 0
        for sock in socks:
            with contextlib.suppress(OSError):
                served += bool(hello(sock))
        assert 20 <= served <= doors.CLIENTS_MOST[1]
    finally:
        for sock in socks:
            sock.close()
    until(box.up)
