# SPDX-License-Identifier: Apache-2.0
"""A workshop for images: keys, trust, trees and bundles made by hand, good or hostile, and the real children run on them."""

import hashlib
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

from edgeheal.guard import child, importer
from edgeheal.image import bundle, codec, tree
from edgeheal.image.bundle import IndexRow
from edgeheal.image.reader import BundleReader
from edgeheal.image.records import pack, unpack
from edgeheal.trust import envelope, sign
from edgeheal.trust.document import AppTrust, Role, Trust
from edgeheal.trust.envelope import Envelope

REPO = str(Path(__file__).resolve().parents[2])


def key(name):
    return sign.from_seed(hashlib.sha256(name.encode()).digest())


ROOT, RELEASE, RELEASE2, OPERATOR, TECHNICIAN, STRANGER = (key(n) for n in ("root", "release", "release2", "operator", "technician", "stranger"))


def make_trust(n=1, *, root=(ROOT,), release=(RELEASE,), threshold=1, signed_by=None, floors=None, ids=(), keys=(), keep=(), app_release=None):
    roles = {
        "root": Role(1, tuple(sorted(k.public for k in root))),
        "release": Role(threshold, tuple(sorted(k.public for k in release))),
        "operator": Role(1, (OPERATOR.public,)),
        "technician": Role(1, (TECHNICIAN.public,)),
    }
    apps = {app: AppTrust(None, floor) for app, floor in (floors or {}).items()}
    for app, k in (app_release or {}).items():
        apps[app] = AppTrust(Role(1, (k.public,)), apps[app].floor if app in apps else (0, 0))
    one = Trust(n, roles, apps, frozenset(ids), frozenset(keys), frozenset(keep)).envelope()
    for k in signed_by or root:
        one = k.sign(one)
    return one


FILES = {
    "bin/app": (b"#!/bin/sh\nexec sleep 1000\n", True),
    "lib/data.txt": (b"x" * 5000, False),
    "etc/empty": (b"", False),
    "lib/copy.txt": (b"x" * 5000, False),
}


def rows_of(files, links=(), folders=()):
    rows = [tree.Row(p, tree.EXECUTABLE if x else tree.FILE, len(d), hashlib.sha256(d).digest()) for p, (d, x) in files.items()]
    rows += [tree.Row(p, tree.LINK, 0, b"", t) for p, t in links] + [tree.Row(p, tree.FOLDER) for p in folders]
    return tuple(sorted(rows, key=lambda r: r.path.encode()))


def manifest_of(rows, tree_bytes, **fields):
    plain = {
        "v": 1, "app": "demo", "version": "1.0", "security_counter": 3, "device": ["gateway"], "run": {"argv": ["bin/app"]},
        "tree": [hashlib.sha256(tree_bytes).digest(), len(tree_bytes), len(rows), sum(r.size for r in rows)],
    } | fields  # fmt: skip
    return plain


class Made:
    """A bundle's parts, to be joined well or badly."""

    def __init__(self, files=None, *, links=(), folders=(), keys=(RELEASE,), trust=(), tree_bytes=None, rows=None, codecs=codec.DEFLATE, body=None, **fields):
        self.files = FILES if files is None else files
        self.rows = rows_of(self.files, links, folders) if rows is None else rows
        self.tree_bytes = tree.encode(self.rows) if tree_bytes is None else tree_bytes
        from edgeheal.trust.canonical import pack as canonical

        self.body = canonical(manifest_of(self.rows, self.tree_bytes, **fields)) if body is None else body
        one = Envelope(envelope.MANIFEST, self.body)
        for k in keys:
            one = k.sign(one)
        self.envelope = one
        self.trust = b"".join(envelope.encode(t) for t in trust)
        self.index, self.payload = [], []
        contents = {hashlib.sha256(d).digest(): d for d, _ in self.files.values()}
        self.add(0, self.tree_bytes, codec.DEFLATE)
        for c in tree.contents(self.rows):
            if c.size and c.digest in contents:
                self.add(c.number, contents[c.digest], codecs)

    def add(self, number, data, how, base=None):
        how, data = codec.squeeze(data, how)
        self.index.append(IndexRow(number, how, len(data), base))
        self.payload.append(data)

    @property
    def id(self):
        return self.envelope.id

    def parts(self):
        return [self.trust, envelope.encode(self.envelope), bundle.encode_index(self.index), *self.payload]

    def bytes(self):
        trust, signed, index, *payload = self.parts()
        return bundle.encode_head(bundle.Head(len(trust), len(signed), len(index))) + trust + signed + index + b"".join(payload)


class Heard(child.Answers):
    """Answers kept in a list."""

    def __init__(self, kept):
        super().__init__(-1)
        self.kept = kept

    def give(self, kind, values):
        self.kept.append({"k": kind} | values)


class Device:
    """Staging and store in a folder, with the real children."""

    def __init__(self, folder, trust=None):
        self.folder = folder
        self.staging, self.store = folder / "staging", folder / "store"
        self.staging.mkdir()
        self.store.mkdir()
        self.trust = trust or make_trust()
        self.floors, self.blocked, self.device = {}, [], ["gateway"]
        self.interpreters, self.apps = ["/usr/bin/python3"], ["demo"]
        self.answers = []

    def child(self, module, request, data=None, *, pipe=False, seconds=60):
        words = [sys.executable, "-I", "-c", f"import sys; sys.path[:0]=[{REPO!r}]; from edgeheal.guard.{module} import main; sys.exit(main(sys.argv[1:]))"]
        path = self.folder / f"passed-{os.getpid()}"
        fds = []
        if data is not None:
            path.write_bytes(data)
            fds = [os.open(path, os.O_RDONLY)]

        def third():
            if fds:
                os.dup2(fds[0], 3)

        done = subprocess.run(words, input=pack(request), capture_output=True, timeout=seconds, preexec_fn=third, pass_fds=(3,) if fds else (), check=False)
        for fd in fds:
            os.close(fd)
        assert done.returncode == 0, done.stderr.decode()
        self.answers = list(split(done.stdout))
        self.stderr = done.stderr
        return self.answers[-1]

    def request(self, **more):
        return {
            "staging": str(self.staging), "store": str(self.store), "trust": envelope.encode(self.trust), "device": self.device, "apps": self.apps,
            "floors": self.floors, "blocked": self.blocked, "interpreters": self.interpreters, "quota": 0,
        } | more  # fmt: skip

    def take(self, data, **more):
        """The importer's last answer."""
        return self.child("importer", self.request(**more), data)

    def take_here(self, data, **more):
        """As `take`, in this process: for many hostile bundles."""
        answers = Heard(self.answers)
        child.carry_out(lambda asked, to: importer.Import(asked, BundleReader(io.BytesIO(data).read), to).run(), self.request(**more), answers)
        return self.answers[-1]

    def keep(self, image, app="demo", **more):
        """The storing child's last answer."""
        return self.child("storer", {"mode": "store", "staging": str(self.staging), "store": str(self.store), "app": app, "id": image} | more)

    def install(self, made, **more):
        done = self.take(made.bytes(), **more)
        assert done["k"] == "done", done
        done = self.keep(done["id"])
        assert done["k"] == "done", done
        return done

    def judge(self, made_envelope, **more):
        request = {
            "mode": "manifest", "trust": envelope.encode(self.trust), "trust_k": b"", "app": "", "id": b"", "device": self.device, "floor": [0, 0],
            "blocked": self.blocked, "interpreters": self.interpreters, "keep": False,
        } | more  # fmt: skip
        return self.child("verifier", request, made_envelope)

    def tree(self, image, app="demo"):
        return self.store / app / image.hex()

    def prove(self, image, mode="quick"):
        return self.child("verifier", {"mode": mode, "tree": str(self.tree(image)), "id": image})

    def left(self):
        """Everything below staging, as relative paths."""
        return sorted(str(p.relative_to(self.staging)) for p in self.staging.rglob("*"))


def split(data):
    while data:
        length = struct.unpack_from("!I", data)[0]
        yield unpack(data[4 : 4 + length])
        data = data[4 + length :]
