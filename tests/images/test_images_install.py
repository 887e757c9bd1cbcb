# SPDX-License-Identifier: Apache-2.0
"""From a bundle to an installed tree, by the real children."""

import os
import stat

from workshop import FILES, RELEASE2, Device, Made, make_trust

from edgeheal.core import reasons
from edgeheal.image import tree
from edgeheal.image.records import unpack
from edgeheal.trust import envelope


def test_a_good_bundle_becomes_a_read_only_tree_with_content_tags(device):
    made = Made(links=(("bin/alias", "app"),), folders=("var/spool",))
    done = device.take(made.bytes())
    assert (done["k"], done["id"], done["app"], done["written"]) == ("done", made.id, "demo", 2)
    assert device.keep(made.id)["k"] == "done"
    top = device.tree(made.id)
    for path, (data, executable) in FILES.items():
        file = top / "files" / path
        status = file.lstat()
        assert file.read_bytes() == data
        assert stat.S_IMODE(status.st_mode) == (0o555 if executable else 0o444)
        assert int(status.st_mtime) == next(tree.tag_s(r.digest) for r in made.rows if r.path == path)
    assert os.readlink(top / "files/bin/alias") == "app"
    assert (top / "files/var/spool").is_dir()
    assert sorted(os.listdir(top)) == ["files", "manifest", "tree"]
    assert device.left() == []
    assert device.prove(made.id)["reason"] == device.prove(made.id, "full")["reason"] == reasons.OK


def test_equal_contents_are_one_inode_and_empty_files_never_linked(device):
    made = Made({"bin/app": (b"#!", True), "a": (b"same", False), "b": (b"same", False), "c": (b"", False), "d": (b"", False), "e": (b"same", True)})
    device.install(made)
    ino = {p: (device.tree(made.id) / "files" / p).stat() for p in "abcde"}
    assert ino["a"].st_ino == ino["b"].st_ino
    assert ino["c"].st_nlink == ino["d"].st_nlink == 1
    assert ino["e"].st_ino != ino["a"].st_ino


def test_what_an_installed_image_holds_is_linked_and_not_written_again(device):
    one, two = Made(), Made(FILES | {"new": (b"new content", False)}, version="2.0")
    device.install(one)
    done = device.take(two.bytes())
    assert (done["written"], done["held"]) == (1, 2)
    assert device.keep(two.id)["linked"] >= 2
    assert (device.tree(one.id) / "files/bin/app").stat().st_ino == (device.tree(two.id) / "files/bin/app").stat().st_ino
    assert device.prove(two.id, "full")["reason"] == reasons.OK


def test_a_damaged_installed_file_is_not_linked_from(device):
    one, two = Made(), Made(version="2.0")
    device.install(one)
    file = device.tree(one.id) / "files/lib/data.txt"
    file.chmod(0o644)
    file.write_bytes(b"y" * 5000)
    done = device.take(two.bytes())
    assert done["k"] == "done"
    assert device.keep(two.id)["reason"] == reasons.MISSING_OBJECT
    assert device.take(two.bytes(), store="")["k"] == "done"
    assert device.keep(two.id)["k"] == "done"
    assert device.prove(two.id, "full")["reason"] == reasons.OK


def test_a_retry_takes_up_what_was_proven(device):
    made = Made({f"f{i:03}": (os.urandom(3000), i == 0) for i in range(40)}, run={"argv": ["f000"]})
    data = made.bytes()
    broken = device.take(data[: len(data) * 2 // 3])
    assert (broken["k"], broken["reason"], broken["part"]) == ("error", reasons.TRUNCATED, "object")
    done = device.take(data)
    assert done["reused"] == broken["object"] - 1 > 10
    assert done["written"] == 40 - done["reused"]
    assert device.keep(made.id)["k"] == "done"


def test_a_damaged_leftover_is_written_again(device):
    made = Made()
    assert device.take(made.bytes())["k"] == "done"
    (device.staging / made.id.hex() / "objects/1").write_bytes(b"garbage")
    done = device.take(made.bytes())
    assert (done["reused"], done["written"]) == (1, 1)


def test_the_storing_child_may_be_cut_anywhere_and_run_again(device):
    made = Made(links=(("l", "bin/app"),))
    device.take(made.bytes())
    staged = device.staging / made.id.hex()
    (staged / "files/bin").mkdir(parents=True)
    os.rename(staged / "objects/1", staged / "files/bin/app")
    (staged / "files/lib").mkdir()
    (staged / "files/lib/copy.txt").write_bytes(b"half")
    (staged / "files/stranger").write_text("from a hostile importer")
    (staged / "extra").mkdir()
    done = device.keep(made.id)
    assert done["k"] == "done", done
    assert not (device.tree(made.id) / "files/stranger").exists()
    assert device.prove(made.id, "full")["reason"] == reasons.OK


def test_an_image_that_stands_already_is_said_so(device):
    made = Made()
    device.install(made)
    device.take(made.bytes())
    assert device.keep(made.id)["reason"] == reasons.ALREADY
    done = device.child("storer", {"mode": "clean", "staging": str(device.staging), "store": str(device.store), "app": "demo", "id": made.id})
    assert done["removed"] > 0
    assert device.left() == []


def test_content_swapped_between_importer_and_storing_child_is_never_installed(device):
    made = Made()
    device.take(made.bytes())
    (device.staging / made.id.hex() / "objects/1").write_bytes(b"#!/bin/sh\nexec evil 100000\n"[:26])
    done = device.keep(made.id)
    assert (done["k"], done["reason"]) == ("error", reasons.BAD_OBJECT)
    assert not device.tree(made.id).exists()


def test_a_spare_is_a_full_bundle_that_installs_elsewhere(device, tmp_path):
    made = Made(folders=("empty",))
    device.install(made)
    done = device.child("storer", {"mode": "spare", "staging": str(device.staging), "store": str(device.store), "app": "demo", "id": made.id})
    data = (device.store / "spare/demo.ehi").read_bytes()
    assert done["bytes"] == len(data)
    assert os.listdir(device.store / "spare") == ["demo.ehi"]
    (tmp_path / "other").mkdir()
    other = Device(tmp_path / "other")
    assert other.take(data)["id"] == made.id
    assert other.keep(made.id)["k"] == "done"


def test_no_spare_is_made_of_rotten_content(device):
    made = Made()
    device.install(made)
    file = device.tree(made.id) / "files/lib/data.txt"
    file.chmod(0o644)
    file.write_bytes(b"z" * 5000)
    done = device.child("storer", {"mode": "spare", "staging": str(device.staging), "store": str(device.store), "app": "demo", "id": made.id})
    assert (done["k"], done["reason"]) == ("error", reasons.ROT)
    assert os.listdir(device.store / "spare") == []


def test_the_launch_record_says_what_the_guard_needs(device):
    probes = [{"name": "h", "kind": "exec", "target": ["bin/app", "x"]}, {"name": "t", "kind": "tcp", "target": "127.0.0.1:80", "means": "ready"}]
    made = Made(
        probes=probes, needs=[{"app": "broker", "hard": False}], run={"argv": ["bin/app", "a b"], "reload": "HUP", "env": {"A": "1"}}, data={"schema": 4}
    )
    done = device.judge(envelope.encode(made.envelope))
    record = unpack(done["launch"])
    assert (done["reason"], record["id"], record["argv"], record["reload"], record["env"]) == (0, made.id, ["bin/app", "a b"], ["signal", "HUP"], {"A": "1"})
    assert record["probes"] == [["h", "live", "exec", ["bin/app", "x"], 10000, 3000, 3], ["t", "ready", "tcp", "127.0.0.1:80", 10000, 3000, 3]]
    assert (record["needs"], record["schema"], record["security"], record["config"]) == ([["app", "broker", False]], 4, 3, None)


def test_new_trust_in_a_bundle_is_walked_and_left_for_the_guard(device):
    second = make_trust(2, release=(RELEASE2,))
    made = Made(keys=(RELEASE2,), trust=(device.trust, second))
    done = device.take(made.bytes())
    assert (done["k"], done["trust"], done["new_trust"]) == ("done", 2, True)
    chain = (device.staging / made.id.hex() / "trust").read_bytes()
    assert chain == envelope.encode(second)
    told = device.child("verifier", {"mode": "trust", "trust": envelope.encode(device.trust), "highest": 1}, chain)
    assert (told["n"], told["links"]) == (2, [[2, 0, len(chain)]])
