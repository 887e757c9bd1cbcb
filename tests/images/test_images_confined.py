# SPDX-License-Identifier: Apache-2.0
"""What reads bytes from outside may call little of the kernel: the filter as bytes, for every machine, and in force in the real children."""

import errno
import os
import struct
import subprocess
import sys

import pytest
from workshop import REPO, Made, split

from edgeheal.core import reasons
from edgeheal.guard import seccomp
from edgeheal.image.records import pack

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# socket, connect, execve, ptrace, kill, mount, setuid, unshare, bpf, io_uring_setup, fchown
FORBIDDEN = {0: (41, 42, 59, 101, 62, 165, 105, 272, 321, 425, 93), 1: (198, 203, 221, 117, 129, 40, 146, 97, 280, 425, 55),
             2: (281, 283, 11, 26, 37, 21, 213, 337, 386, 425, 207)}  # fmt: skip


def verdict(program, arch, number, *arguments):
    """What the kernel would say: a classic BPF machine of the four instructions that are used."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
    at = value = 0
    while True:
        code, yes, no, k = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, k)
        elif code == 0x15:
            at += yes if value == k else no
        elif code == 0x45:
            at += yes if value & k else no
        else:
            assert code == 0x06, hex(code)
            return k


@pytest.mark.parametrize("machine", sorted(set(seccomp.MACHINES.values())))
@pytest.mark.parametrize("writes", [False, True])
def test_on_each_machine_only_what_is_listed_is_allowed(machine, writes):
    arch, column = machine
    program = seccomp.program(arch, column, writes=writes)
    denied = ERRNO | errno.EPERM
    for number in FORBIDDEN[column]:
        assert verdict(program, arch, number) == denied, number
    assert verdict(program, arch ^ 1, (0, 63, 3)[column]) == denied, "another machine's calls"
    assert verdict(program, arch, (0, 63, 3)[column]) == ALLOW
    openat, clone, clone3 = (257, 56, 322)[column], (56, 220, 120)[column], 435
    assert verdict(program, arch, openat, 0, 0, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT, os.O_RDONLY | os.O_TRUNC):
        assert verdict(program, arch, openat, 0, 0, flags) == (ALLOW if writes else denied)
    assert verdict(program, arch, (263, 35, 328)[column]) == (ALLOW if writes else denied), "unlinkat"
    assert verdict(program, arch, clone, 0x3D0F00) == ALLOW, "a thread"
    assert verdict(program, arch, clone, 0x10000000 | 17) == denied, "a user namespace"
    assert verdict(program, arch, clone3) == ERRNO | errno.ENOSYS
    assert verdict(program, arch, (16, 29, 54)[column], 0, 0x5412) == denied, "typing into somebody's terminal"
    assert len(program) // 8 < 4096


needs = pytest.mark.skipif(not seccomp.supported(), reason="no list of calls for this machine, or a kernel without filters")


def run(body, confined):
    """A child whose work is `body`; its last answer."""
    libraries = [p for p in sys.path if p.endswith("site-packages")]
    lines = [
        f"import sys, os; sys.path[:0]={[REPO, *libraries]!r}", "from edgeheal.guard import child", "def work(asked, answers):", f"    {body}", "    return {}",
        f"sys.exit(child.run(work, confined={confined!r}))",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-I", "-c", "\n".join(lines)], input=pack({"x": 1}), capture_output=True, timeout=30, check=False)
    return list(split(done.stdout))[-1]


CALLS = [
    "import socket; socket.socket(socket.AF_UNIX)", "os.execv('/bin/true', ['true'])", "os.kill(os.getppid(), 0)", "os.setuid(0)",
    "import ctypes; ctypes.CDLL(None).unshare(0x10000000) and os.kill(os.getppid(), 0)",
]  # fmt: skip


@needs
@pytest.mark.parametrize("body", CALLS)
@pytest.mark.parametrize("confined", ["reads", "writes"])
def test_a_forbidden_call_fails_and_the_guard_hears_a_typed_error(body, confined):
    answer = run(body, confined)
    assert (answer["k"], answer["reason"]) == ("error", reasons.UNREADABLE)
    assert "not permitted" in answer["message"]


@needs
def test_a_reader_cannot_write_and_what_it_forks_or_begins_is_confined_too(tmp_path):
    there = tmp_path / "there"
    there.write_text("x")
    for how in (f"open({str(tmp_path / 'new')!r}, 'w')", f"open({str(there)!r}, 'r+')", f"os.unlink({str(there)!r})"):
        assert run(how, "reads")["reason"] == reasons.UNREADABLE
    assert run(f"open({str(there)!r}).read()", "reads")["k"] == "done"
    assert run(f"open({str(there)!r}, 'w').write('y')", "writes")["k"] == "done"
    forked = "p = os.fork(); p or os._exit(7 if 'Seccomp:\\t2' in open('/proc/self/status').read() else 8); assert os.waitpid(p, 0)[1] == 7 << 8"
    assert run(forked, "reads")["k"] == "done"
    threaded = "import threading; s = []; t = threading.Thread(target=lambda: s.append(open('/proc/thread-self/status').read())); t.start(); t.join(); assert 'Seccomp:\\t2' in s[0]"
    assert run(threaded, "reads")["k"] == "done"


@needs
@pytest.mark.parametrize("module", ["importer", "storer", "verifier", "boot_child"])
def test_the_children_that_read_bytes_from_outside_are_confined_before_they_read_their_request(module):
    words = [sys.executable, "-I", "-c", f"import sys; sys.path[:0]={[REPO]!r}; from edgeheal.guard.{module} import main; main([])"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        for _ in range(2000):
            with open(f"/proc/{child.pid}/status", encoding="ascii") as status:
                if "\nSeccomp:\t2\n" in status.read():
                    break
            try:
                child.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError("it ended")
        else:
            raise AssertionError(f"{module} reads unconfined")
        child.stdin.close()
        assert list(split(child.stdout.read()))[-1]["reason"] == reasons.MALFORMED


def test_an_unknown_machine_goes_on_without(monkeypatch, device):
    monkeypatch.setattr(seccomp, "MACHINES", {})
    assert not seccomp.supported()
    assert seccomp.confine(writes=True) is False
    assert device.take(Made().bytes())["k"] == "done"
