# SPDX-License-Identifier: Apache-2.0
"""As root with separate uids: who owns what, who may write where, and what an app's folder cannot do to root."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from monitor_box import APART, Box, image, until

from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, GOOD
from edgeheal.wire import guard_frames as f

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root and separate uids")]
AGENT, IMPORT, STORE, VERIFY, CHECK = 60701, 60702, 60703, 60704, 60705


@pytest.fixture
def apart():
    folder = Path(tempfile.mkdtemp(prefix="apart"))
    folder.chmod(0o755)
    with Box(folder, users=APART) as box:
        yield box.start()
    shutil.rmtree(folder, ignore_errors=True)


def test_install_trial_good_and_rollback_with_everybody_his_own_uid(apart):
    assert apart.door().hello.boundary == "full"
    one = apart.good(image("1.0", config={"path": "demo.conf"}))
    run = apart.runs()[-1]
    assert run["uid"] not in (0, AGENT, IMPORT, STORE, VERIFY, CHECK)
    tree = apart.layout.tree("demo", one.id.hex())
    for path in (tree, f"{tree}/files/app.py", f"{tree}/manifest"):
        assert os.stat(path).st_uid == STORE
    assert stat.S_IMODE(os.stat(f"{tree}/files/app.py").st_mode) == 0o444
    assert stat.S_IMODE(os.stat(apart.layout.guard).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(apart.layout.app_data("demo")).st_mode) == 0o700
    assert os.stat(apart.layout.app_data("demo")).st_uid == run["uid"]
    assert os.listdir(apart.layout.staging) == []
    two = image("2.0", mode="crash")
    assert apart.install(two) == 0
    until(lambda: apart.state(two) == BAD and apart.phase() == f.PHASE_RUNNING, 15, "the rollback")
    assert apart.running() == one.id
    assert apart.state(one) == GOOD


def test_a_data_copy_of_hostile_contents_stays_in_the_apps_own_hands(apart, tmp_path):
    """Links, a fifo and foreign targets in the data of v1: the copy for v2 follows nothing and root touches nothing."""
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    apart.good(image("1.0", data={"schema": 3}))
    uid = apart.runs()[-1]["uid"]
    data = Path(apart.layout.app_data("demo")) / "1"
    (data / "link").symlink_to(secret)
    (data / "up").symlink_to("../../../..")
    os.mkfifo(data / "pipe")
    os.lchown(data / "link", uid, uid)
    assert apart.install(image("2.0", data={"schema": 4})) == 0
    until(lambda: apart.runs(generation=2), 15, "v2 on its own generation")
    copied = Path(apart.layout.app_data("demo")) / "2"
    assert os.readlink(copied / "link") == str(secret)
    assert not (copied / "pipe").exists()
    assert {p.lstat().st_uid for p in copied.iterdir()} == {uid}
    assert secret.read_text() == "root's"


def test_a_config_path_that_the_app_made_a_link_is_not_followed(apart, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    apart.good(image("1.0", config={"path": "etc/demo.conf"}))
    data = Path(apart.layout.app_data("demo")) / "1"
    shutil.rmtree(data / "etc", ignore_errors=True)
    (data / "etc").symlink_to(tmp_path)
    source = apart.folder / "config"
    source.write_bytes(b"evil=1")
    with source.open("rb") as file:
        assert apart.ask(f.SET_CONFIG, app="demo", fd=file.fileno()).reason != 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["victim"]
    assert victim.read_text() == "untouched"


def test_the_agents_uid_has_no_way_to_the_peoples_door(apart):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(AGENT)
            os.setuid(AGENT)
            try:
                os.close(os.open(apart.layout.guard, os.O_RDONLY))
            except PermissionError:
                code = 0
            import socket

            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                sock.connect(apart.layout.guard_socket)
                code = 2
            except PermissionError:
                pass
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert stat.S_IMODE(os.stat(apart.layout.guard_agent_socket).st_mode) == 0o600


def test_checks_run_as_the_checks_own_user_and_say_yes_no_or_could_not_tell(apart):
    folder = Path(apart.layout.checks) / "required.d"
    folder.mkdir(parents=True)
    check = folder / "10-who"
    for line, verdict in (("id -u | grep -q 60705", 1), ("exit 1", 0), ("exit 3", 2)):
        check.write_text(f"#!/bin/sh\n{line}\n")
        check.chmod(0o755)
        assert apart.ask(f.CHECKS).a == verdict
    check.chmod(0o757)
    answer = apart.ask(f.CHECKS)
    assert (answer.a, answer.reason) == (2, reasons.UNREADABLE), "others could have written it"
