# SPDX-License-Identifier: Apache-2.0
"""Helpers of the guard: whatever one does, who asked gets exactly one answer, in time, and nothing is left behind."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from edgeheal.core import kinds, kinds_light, reasons
from edgeheal.guard.children import Children
from edgeheal.guard.loop import Loop
from edgeheal.image.records import pack
from tests.guard.conftest import PYTHON

GOOD = """
    from edgeheal.guard import child
    import os
    def work(request, answers):
        answers.give("progress", {"step": 1, "done": 1, "total": 2})
        return {"echo": request["word"], "uid": os.getuid(), "fd": os.read(3, 5) if request.get("fd") else b"", "cwd": os.getcwd()}
    def main(_):
        return child.run(work)
"""


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", PYTHON)
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.geteuid() and str(parent) not in ("/", "/tmp"):
            parent.chmod(0o755)
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    loop = Loop(())
    children = Children(loop, [package, str(tmp_path)])

    def run(body, request=None, **words):
        (tmp_path / "helper_under_test.py").write_text(textwrap.dedent(body))
        frames, ends = [], []
        children.run("helper_under_test", request or {}, ends.append, on_frame=frames.append, **words)
        end = time.monotonic() + 20
        while not ends or not children.idle():
            loop.turn(0.1)
            assert time.monotonic() < end
        loop.turn(0.01)
        assert len(ends) == 1
        return ends[0], frames

    return run


def test_request_progress_answer_and_descriptor(helpers, tmp_path):
    (tmp_path / "passed").write_bytes(b"12345678")
    fd = os.open(tmp_path / "passed", os.O_RDONLY)
    done, frames = helpers(GOOD, {"word": "x", "fd": True}, fd=fd)
    os.close(fd)
    assert (done["k"], done["echo"], done["fd"], done["cwd"]) == ("done", "x", b"12345", "/")
    assert [frame["step"] for frame in frames] == [1]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def main(_): return 3", reasons.EXIT_NONZERO),
        ("import os\ndef main(_): os.kill(os.getpid(), 9)", reasons.KILLED),
        ("import os\ndef main(_): os.write(1, b'\\0\\0\\0\\4junk')", reasons.MALFORMED),
        ("import os\ndef main(_): os.write(1, b'\\xff\\xff\\xff\\xff')", reasons.MALFORMED),
        ("import time\ndef main(_): time.sleep(60)", reasons.TIMEOUT),
        ("import os,time\ndef main(_): os.close(1); time.sleep(60)", reasons.TIMEOUT),
        ("def main(_): raise ValueError('x')", reasons.EXIT_NONZERO),
        ("x = bytearray(2 << 30)\ndef main(_): return 0", reasons.EXIT_NONZERO),
    ],
    ids=["says nothing", "dies", "talks junk", "too long", "hangs", "hangs silently", "raises", "greedy"],
)
def test_a_helper_that_misbehaves_is_one_error_with_its_reason(helpers, body, reason):
    before = set(os.listdir("/proc/self/fd"))
    began = time.monotonic()
    end, _ = helpers(body, deadline_s=1.5)
    assert (end["k"], end["reason"]) == ("error", reason)
    assert end["message"]
    assert end["hint"]
    assert time.monotonic() - began < 12
    assert set(os.listdir("/proc/self/fd")) <= before


def test_its_forks_go_with_it(helpers, tmp_path):
    body = f"import os,time\ndef main(_):\n    if os.fork() == 0:\n        open({str(tmp_path / 'kid')!r}, 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
    end, _ = helpers(body, deadline_s=1.0)
    assert end["reason"] == reasons.TIMEOUT
    kid = int((tmp_path / "kid").read_text())
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{kid}") and open(f"/proc/{kid}/stat").read().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline


def test_a_request_that_is_too_large_starts_nothing(helpers):
    end, _ = helpers(GOOD, {"word": "x" * 70_000})
    assert end["reason"] == reasons.TOO_LARGE


@pytest.mark.root
def test_it_runs_as_who_it_shall_and_can_read_no_more(helpers):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    end, _ = helpers(
        "import os\nfrom edgeheal.guard import child\ndef main(_): return child.run(lambda r, a: {'uid': os.getuid(), 'groups': os.getgroups()})",
        uid=65534,
        gid=65534,
    )
    assert end["uid"] == 65534
    assert end["groups"] == []


def test_the_light_numbers_are_the_kinds(monkeypatch):
    light = [v for name, v in vars(kinds_light).items() if name.startswith("BY_")]
    assert light == [int(by) for by in kinds.By]


def test_a_helper_whose_guard_is_gone_ends_without_a_word(tmp_path):
    (tmp_path / "orphan.py").write_text(textwrap.dedent(GOOD) + "\nmain(())\n")
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "orphan.py")], input=pack({"word": "x"}), stdout=write, stderr=subprocess.PIPE, env={"PYTHONPATH": package}, timeout=30
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
