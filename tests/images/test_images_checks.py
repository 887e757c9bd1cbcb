# SPDX-License-Identifier: Apache-2.0
"""Start checks, memory, speed, and the children under uids of their own."""

import os
import resource
import shutil
import subprocess
import sys
import time

import pytest
from workshop import REPO, Device, Made, split

from edgeheal.core import reasons
from edgeheal.guard import importer as importer_child
from edgeheal.guard import storer, verifier
from edgeheal.image import bundle
from edgeheal.image.records import pack
from edgeheal.trust import envelope

MIB = 1024 * 1024


@pytest.fixture
def installed(device):
    made = Made(links=(("bin/alias", "app"),), folders=("empty",))
    device.install(made)
    return device, made, device.tree(made.id)


def replaced(path, data, mode=0o444):
    os.chmod(path.parent, 0o755)
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("spoil", "quick"),
    [
        (lambda t: replaced(t / "files/lib/data.txt", b"y" * 5000), True),
        (lambda t: (t / "files/lib/data.txt").chmod(0o644), True),
        (lambda t: os.truncate(t / "files/lib/copy.txt", 4), True),
        (lambda t: (t / "files/bin/app").unlink(), True),
        (lambda t: ((t / "files/bin/alias").unlink(), os.symlink("../lib", t / "files/bin/alias")), True),
        (lambda t: (t / "files/empty").rmdir(), True),
        (lambda t: (shutil.rmtree(t / "files/lib"), os.symlink("/usr/lib", t / "files/lib")), True),
        (lambda t: (t / "manifest").chmod(0o644) or (t / "manifest").write_bytes(b""), True),
        (lambda t: (t / "tree").chmod(0o644) or os.truncate(t / "tree", 10), True),
        (lambda t: shutil.rmtree(t), True),
        (lambda t: same_look(t / "files/lib/data.txt"), False),
    ],
)  # fmt: skip
def test_rot_is_found_and_named(installed, spoil, quick):
    device, made, top = installed
    spoil(top)
    assert (device.prove(made.id)["reason"] == reasons.ROT) is quick
    done = device.prove(made.id, "full")
    assert done["reason"] == reasons.ROT
    assert done["what"]


def same_look(path):
    """Other content under the same size, mode and time: only a full check sees it."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"q")
    path.chmod(0o444)
    os.utime(path, (status.st_mtime, status.st_mtime))


def test_what_cannot_be_read_is_not_rot(installed):
    device, made, _ = installed
    done = device.child("verifier", {"mode": "quick", "tree": str(device.store) + "/" + "x" * 300, "id": made.id})
    assert done["reason"] == reasons.UNREADABLE


def big(device, megabytes):
    """A bundle of random files, on disk, without holding it in memory."""
    source = device.folder / "files"
    source.mkdir()
    block = os.urandom(MIB)
    for i in range(megabytes // 50):
        with (source / f"big{i}").open("wb") as file:
            for n in range(50):
                file.write(n.to_bytes(4, "big") + block[4:] if i % 2 else bytes(MIB))
                file.write(i.to_bytes(4, "big"))
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (device.folder / "image.toml").write_text('app = "demo"\nversion = "1"\nsecurity_counter = 3\ndevice = ["gateway"]\n[run]\nargv = ["run"]\n')
    from workshop import RELEASE

    from edgeheal.trust import sign

    (device.folder / "k").write_bytes(RELEASE.pem())
    assert sign.load(RELEASE.pem()).public == RELEASE.public
    words = [
        sys.executable,
        "-m",
        "edgeheal.cli.main",
        "image",
        "build",
        str(device.folder),
        "--key",
        str(device.folder / "k"),
        "-o",
        str(device.folder / "b.ehi"),
    ]
    done = subprocess.run(words, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": REPO})
    assert done.returncode == 0
    shutil.rmtree(source)
    return device.folder / "b.ehi"


MEASURE = """
import os, resource, subprocess, sys
fd = os.open(sys.argv[3], os.O_RDONLY)
if fd != 3:
    os.dup2(fd, 3)
os.set_inheritable(3, True)
done = subprocess.run([sys.executable, "-I", "-S", "-c", sys.argv[1]], stdin=open(sys.argv[2], "rb"), stdout=subprocess.PIPE, close_fds=False)
sys.stderr.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.stdout.buffer.write(done.stdout)
"""


def measured(device, module, request, passed):
    """(peak RSS in MiB, last answer) of one child, started as the guard starts it."""
    import sysconfig

    folders = [REPO, sysconfig.get_path("purelib")]
    code = f"import sys; sys.path[:0]={folders!r}; from edgeheal.guard.{module} import main; sys.exit(main(sys.argv[1:]))"
    (device.folder / "request").write_bytes(pack(request))
    done = subprocess.run([sys.executable, "-c", MEASURE, code, str(device.folder / "request"), str(passed)], capture_output=True, check=True)
    return int(done.stderr) / 1024, list(split(done.stdout))[-1]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_image(device):
    bundle = big(device, 200)
    peak, done = measured(device, "importer", device.request(), bundle)
    assert done["k"] == "done", done
    assert done["bytes"] > 200_000_000
    assert peak <= 40, f"{peak:.1f} MiB"
    request = {"mode": "store", "staging": str(device.staging), "store": str(device.store), "app": "demo", "id": done["id"]}
    peak, kept = measured(device, "storer", request, bundle)
    assert kept["k"] == "done", kept
    assert peak <= 40, f"{peak:.1f} MiB"


def test_memory_stays_bounded_with_the_widest_tree(device):
    files = {f"{i % 40:02}/{i:05}{'x' * 40}": (b"%d" % i, False) for i in range(32_000)} | {"app": (b"#!", True)}
    made = Made(files, run={"argv": ["app"]})
    path = device.folder / "wide.ehi"
    trust, signed, index, first, *_ = made.parts()
    path.write_bytes(bundle.encode_head(bundle.Head(0, len(signed), len(index))) + trust + signed + index + first)
    peak, error = measured(device, "importer", device.request(), path)
    assert (error["reason"], error["part"], error["object"]) == (reasons.TRUNCATED, "object", 1)
    assert peak <= 40, f"{peak:.1f} MiB"


def test_a_verifying_child_is_short_lived(device):
    made = Made()
    path = device.folder / "manifest"
    path.write_bytes(envelope.encode(made.envelope))
    request = {
        "mode": "manifest",
        "trust": envelope.encode(device.trust),
        "trust_k": b"",
        "device": ["gateway"],
        "floor": [0, 0],
        "blocked": [],
        "interpreters": [],
    }
    took = []
    for _ in range(5):
        began = time.monotonic()
        peak, done = measured(device, "verifier", request, path)
        took.append(time.monotonic() - began)
        assert done["reason"] == reasons.OK
    assert peak < 32
    assert min(took) < 1.0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the children run under uids of their own")
def test_the_children_work_under_uids_of_their_own(tmp_path):
    importer, store = 64_101, 64_102
    os.chmod(tmp_path, 0o755)
    for parent in list(tmp_path.parents)[:2]:
        os.chmod(parent, 0o755)
    device = Device(tmp_path)
    os.chown(device.staging, store, importer)
    os.chmod(device.staging, 0o1770)
    os.chown(device.store, store, store)
    made = Made()
    (tmp_path / "b").write_bytes(made.bytes())

    def as_user(uid, module, request):
        """The child's main in a fork that has become `uid`: the interpreter itself need not be readable by others."""
        (tmp_path / "request").write_bytes(pack(request))
        (tmp_path / "request").chmod(0o644)
        said = os.open(tmp_path / "answers", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        pid = os.fork()
        if pid == 0:
            code = 9
            try:
                asked, passed = os.open(tmp_path / "request", os.O_RDONLY), os.open(tmp_path / "b", os.O_RDONLY)
                for fd, to in ((os.dup(asked), 0), (os.dup(said), 1), (os.dup(passed), 3)):
                    os.dup2(fd, to)
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                code = module.main()
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        data = (tmp_path / "answers").read_bytes()
        os.close(said)
        return list(split(data))[-1]

    done = as_user(importer, importer_child, device.request())
    assert done["k"] == "done", done
    staged = device.staging / made.id.hex()
    assert {p.stat().st_uid for p in staged.rglob("*")} == {importer}
    assert {p.stat().st_mode & 0o077 for p in staged.rglob("*")} == {0}
    assert as_user(store, storer, {"mode": "store", "staging": str(device.staging), "store": str(device.store), "app": "demo", "id": made.id})["k"] == "error"
    for path in [staged, *staged.rglob("*")]:
        os.chown(path, store, store)
    done = as_user(store, storer, {"mode": "store", "staging": str(device.staging), "store": str(device.store), "app": "demo", "id": made.id})
    assert done["k"] == "done", done
    assert {p.lstat().st_uid for p in device.tree(made.id).rglob("*")} == {store}
    assert as_user(64_103, verifier, {"mode": "full", "tree": str(device.tree(made.id)), "id": made.id})["reason"] == reasons.OK


def test_limits_of_a_child_end_in_a_typed_error(device):
    made = Made({"bin/app": (b"#!", True), "big": (os.urandom(300_000), False)})
    (device.folder / "b").write_bytes(made.bytes())
    code = f"import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)); sys.path[:0]={[REPO, *sys.path]!r}; from edgeheal.guard.importer import main; sys.exit(main())"
    with (device.folder / "b").open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.dup2({file.fileno()}, 3); {code}"],
            input=pack(device.request()),
            capture_output=True,
            pass_fds=(file.fileno(),),
            check=True,
        )
    error = list(split(done.stdout))[-1]
    assert (error["k"], error["reason"], error["part"]) == ("error", reasons.NO_SPACE, "object")
    assert resource.RLIM_INFINITY
    assert device.take(made.bytes())["k"] == "done"
