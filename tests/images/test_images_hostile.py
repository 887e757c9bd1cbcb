# SPDX-License-Identifier: Apache-2.0
"""Hostile and damaged bundles: each ends in one typed error with its part, and nothing but proven objects is left."""

import hashlib
import os
import shutil
import struct
import threading

import msgpack
import pytest
from workshop import FILES, RELEASE, STRANGER, Made, rows_of

from edgeheal.core import reasons
from edgeheal.image import bundle, codec, patch, tree
from edgeheal.image.bundle import IndexRow
from edgeheal.trust import envelope
from edgeheal.trust.envelope import Envelope

PARTS = {"magic", "trust", "envelope", "manifest", "index", "tree", "object", "payload", "space"}


def refused(device, data, here=True):
    """The error of a device with empty staging, with everything that every refusal promises."""
    for one in device.staging.iterdir():
        shutil.rmtree(one)
    error = device.take_here(data) if here else device.take(data)
    assert error["k"] == "error", "accepted"
    assert error["reason"] in reasons.WORDS
    assert error["reason"] not in (reasons.OK, reasons.INTERNAL), error
    assert error["part"] in PARTS, error
    assert error["hint"]
    assert error["message"]
    for path in device.left():
        assert path.count("/") == 0 or path.split("/")[1] in ("manifest", "tree", "objects", "trust")
    assert not list(device.store.rglob("*"))
    return error


def proven_only(device, made):
    """Every object that a refusal left is the content that its number stands for."""
    by_name = {str(c.number): c.digest for c in tree.contents(made.rows)}
    for folder in device.staging.glob("*/objects"):
        for file in folder.iterdir():
            assert hashlib.sha256(file.read_bytes()).digest() == by_name[file.name]


def sample(codecs=codec.DEFLATE):
    return Made({f"f{i}": (bytes([i]) * 700 + os.urandom(64), i == 0) for i in range(12)}, run={"argv": ["f0"]}, codecs=codecs)


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_no_flipped_bit_is_accepted(device, bit):
    made = sample(codec.STORED)
    data = bytearray(made.bytes())
    tree_at = len(data) - sum(map(len, made.payload))
    places = sorted({*range(20), *range(20, tree_at, 4), *range(tree_at + len(made.payload[0]), len(data), len(data) // 70)})
    assert len(places) > 130
    for place in places:
        data[place] ^= 1 << bit
        refused(device, bytes(data))
        proven_only(device, made)
        data[place] ^= 1 << bit
    assert device.take_here(bytes(data))["k"] == "done"


def test_whatever_bit_flips_what_is_kept_is_what_was_signed(device):
    """A deflate stream can say one content in more than one way, and padding bits say nothing: only contents count."""
    made = sample()
    data = made.bytes()
    for place in range(len(data) - sum(map(len, made.payload)), len(data), 13):
        device.take_here(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        proven_only(device, made)
    assert device.take_here(data)["k"] == "done"
    assert device.keep(made.id)["k"] == "done"
    assert device.prove(made.id, "full")["reason"] == reasons.OK


def test_no_cut_is_accepted_and_the_part_is_named(device):
    made = sample()
    data = made.bytes()
    seen = set()
    for length in sorted({*range(25), *range(25, len(data), len(data) // 60)}):
        error = refused(device, data[:length])
        assert error["reason"] == reasons.TRUNCATED, (length, error)
        seen.add(error["part"])
        if error["part"] == "object":
            assert error["object"] > 0
    assert seen >= {"magic", "envelope", "index", "object"}
    proven_only(device, made)


def test_one_byte_after_the_end_is_an_error(device):
    assert refused(device, sample().bytes() + b"\0")["reason"] == reasons.TRAILING


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 4096, b"PK\x03\x04" + b"\0" * 100, b"\x89EHI\n\x1a\x01" + b"\0" * 60, bundle.MAGIC[:-1] + b"\x02" + b"\0" * 40, b"\x7fELF" * 9]
)
def test_what_is_no_bundle_is_refused_at_the_magic(device, data):
    error = refused(device, data)
    assert error["part"] == "magic"
    assert error["reason"] in (reasons.BAD_MAGIC, reasons.UNKNOWN_VERSION, reasons.TRUNCATED)


@pytest.mark.parametrize("lengths", [(2**32 - 1, 0, 0), (0, 2**32 - 1, 0), (0, 0, 2**32 - 1), (65_537, 0, 0), (0, 73_729, 0), (0, 0, 2_097_153)])
def test_announced_lengths_are_bounded_before_anything_is_read(device, lengths):
    assert refused(device, bundle.MAGIC + struct.pack("!III", *lengths) + b"\0" * 100)["reason"] == reasons.TOO_LARGE


def forged(made, index=None, payload=None):
    if index is not None:
        made.index = index
    if payload is not None:
        made.payload = payload
    return made.bytes()


def test_lies_in_the_index_end_in_a_typed_error(device):
    made = Made()
    rows = list(made.index)
    zero, one, two = rows
    lies = [
        [one, zero, two], [zero, zero, one], [zero, one, two, IndexRow(9, 0, 0)], [zero, one, two._replace(codec=3)], [zero, one._replace(codec=2), two],
        [zero, one._replace(length=one.length + 1), two], [zero, one._replace(length=one.length - 1), two], [zero, one._replace(length=2**40), two],
        [zero, one._replace(base=b"x"), two], [zero, one._replace(base=b"x" * 32), two], [zero._replace(base=b"x" * 32), one, two],
        [zero, one._replace(number=-1), two], [zero, one, two._replace(number=2)], [zero._replace(codec=0), one, two], [], [one, two],
    ]  # fmt: skip
    for lie in lies:
        refused(device, forged(Made(), lie))
    for raw in (b"", b"\xc0", b"\x91\xc0", b"\x90" * 2, msgpack.packb([[0, 1, True, None]]), msgpack.packb({"a": 1}), b"\xdd\xff\xff\xff\xff", b"\x91" * 2000):
        trust, signed, _, *payload = Made().parts()
        refused(device, bundle.encode_head(bundle.Head(0, len(signed), len(raw))) + trust + signed + raw + b"".join(payload))


def test_an_object_that_neither_bundle_nor_store_has_is_named(device):
    made = Made()
    made.index, made.payload = made.index[:2], made.payload[:2]
    error = refused(device, made.bytes())
    assert (error["reason"], error["part"], error["object"]) == (reasons.MISSING_OBJECT, "object", 3)
    assert device.left()


def test_a_bomb_is_not_inflated_past_its_declared_size(device):
    for how in (codec.DEFLATE, codec.LZMA2):
        made = Made()
        _, bomb = codec.squeeze(b"\0" * 30_000_000, how)
        made.index[2] = IndexRow(made.index[2].number, how, min(len(bomb), bundle.most_length(5000)))
        made.payload[2] = bomb[: made.index[2].length]
        assert refused(device, made.bytes())["reason"] == reasons.BAD_OBJECT


def patched(device, raw, size=5000):
    """An image whose second content is said to be a patch of an installed one."""
    base = b"x" * 5000
    new = base[:2500] + b"inserted" + base[2508:]
    made = Made(FILES | {"lib/data.txt": (new, False)}, version="2")
    made.index, made.payload = made.index[:1], made.payload[:1]
    number = next(c.number for c in tree.contents(made.rows) if c.digest == hashlib.sha256(new).digest())
    good = patch.make(base, new)
    made.add(number, good if raw is None else raw, codec.DEFLATE, hashlib.sha256(base).digest())
    assert size
    return made, good


def test_a_patch_copies_from_a_held_content(device):
    device.install(Made())
    made, _ = patched(device, None)
    done = device.take_here(made.bytes())
    assert (done["k"], done["written"]) == ("done", 1), done
    assert device.keep(made.id)["k"] == "done"
    assert device.prove(made.id, "full")["reason"] == reasons.OK


def test_the_tree_itself_may_be_a_patch(device):
    one, two = Made(), Made(FILES | {"z": (b"z", False)}, version="2")
    device.install(one)
    two.index, two.payload = [], []
    two.add(0, patch.make(one.tree_bytes, two.tree_bytes), codec.DEFLATE, hashlib.sha256(one.tree_bytes).digest())
    two.add(next(c.number for c in tree.contents(two.rows) if c.size == 1), b"z", codec.STORED)
    assert device.take_here(two.bytes())["k"] == "done"


def test_hostile_patches_end_in_a_typed_error(device):
    device.install(Made())

    def u(*words):
        return b"".join(struct.pack("!I", x) if isinstance(x, int) else x for x in words)

    _, good = patched(device, None)
    for raw in (
        u(0, 0, 0), u(0, 0, 5001), u(0, 5001, 1), u(0, 4999, 2), u(0, 2**32 - 1, 2**32 - 1), u(2**32 - 1), u(4, b"ab"), u(4, b"abcd"), u(0, 0, 5000) * 2,
        u(0, 0, 4999), good[:-1], good[:-8], good + b"\0", good + u(0, 0, 1), b"", u(1, b"x", 0, 0) * 600, good + u(0, 0, 0),
    ):  # fmt: skip
        made, _ = patched(device, raw)
        error = device.take_here(made.bytes())
        assert (error["k"], error["part"]) == ("error", "object"), raw
        assert error["reason"] in (reasons.BAD_OBJECT, reasons.BAD_INDEX), error


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ([["x", 2, "../../outside"], ["x/key", 0, 3, hashlib.sha256(b"key").digest()]], "leaves the tree"),
        ([["x", 2, "y"], ["x/key", 0, 3, hashlib.sha256(b"key").digest()]], "leads through"),
        ([["x", 2, "/etc"]], "absolute"),
        ([["a/../b", 0, 3, hashlib.sha256(b"key").digest()]], "component"),
        ([["/etc/key", 0, 3, hashlib.sha256(b"key").digest()]], "absolute"),
        ([["a\\b", 0, 3, hashlib.sha256(b"key").digest()]], "backslash"),
        ([["a\nb", 0, 3, hashlib.sha256(b"key").digest()]], "control"),
        ([["e\u0301", 0, 3, hashlib.sha256(b"key").digest()]], "NFC"),
        ([["KEY", 0, 3, hashlib.sha256(b"key").digest()], ["key", 0, 3, hashlib.sha256(b"key").digest()]], "case"),
        ([["D/a", 0, 3, hashlib.sha256(b"key").digest()], ["d/b", 0, 3, hashlib.sha256(b"key").digest()]], "case"),
        ([["strasse", 3], ["stra\u00dfe", 3]], "case"),
        ([["key", 0, 3, hashlib.sha256(b"key").digest()], ["key", 0, 3, hashlib.sha256(b"key").digest()]], "twice"),
        ([["a/b", 2, "../c/../../outside"]], "after it went down"),
        ([["l", 2, "d/../../x"]], "after it went down"),
        ([["hard", 4, "/etc/hostname"]], "cannot be said"),
        ([["dev", 5, 1, 3]], "cannot be said"),
        ([["setuid", 0, 3, hashlib.sha256(b"key").digest(), 0o4755]], "cannot be said"),
        ([["/".join("d" * 33), 3]], "levels"),
        ([["n" * 256, 3]], "component longer"),
        ([["b", 3], ["a", 3]], "ascending"),
        ([["d", 3], ["d/x", 3]], "leads through"),
        ([["", 3]], "empty"),
        ([], "empty"),
        ([["a", 0, 0, hashlib.sha256(b"key").digest()]], "contradict"),
        ([["a", 0, 2**30 + 1, hashlib.sha256(b"key").digest()]], "size"),
        ([["a", True, 3, hashlib.sha256(b"key").digest()]], "kind"),
        ([[7, 3]], "not a text"),
        ("tree", "does not decode"),
        ([3], "not a list"),
    ],
)
def test_fc_sec_1_a_signed_tree_cannot_say_a_way_out_and_nothing_is_left(device, raw, word):
    good = rows_of(FILES)
    made = Made(rows=good, tree_bytes=msgpack.packb(raw))
    error = refused(device, made.bytes())
    assert (error["reason"], error["part"]) == (reasons.BAD_TREE, "tree")
    assert word in error["message"], error["message"]
    assert device.left() == []


def test_one_content_with_two_sizes_is_refused(device):
    rows = (tree.Row("a", 0, 3, hashlib.sha256(b"key").digest()), tree.Row("b", 0, 4, hashlib.sha256(b"key").digest()), *rows_of({"c": (b"#!", True)}))
    made = Made({"c": (b"#!", True)}, tree_bytes=tree.encode(rows), tree=tree_of(rows), run={"argv": ["c"]})
    error = refused(device, made.bytes())
    assert (error["reason"], error["part"]) == (reasons.BAD_TREE, "tree")
    assert "two sizes" in error["message"]


def tree_of(rows):
    said = tree.reference(rows, tree.encode(rows))
    return [said.digest, said.size_bytes, said.rows, said.total_bytes]


def test_fc_sec_1_two_images_in_sequence_do_not_meet(device, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    first = Made({"bin/app": (b"#!", True)}, links=(("x", "bin"),))
    device.install(first)
    second = Made({"bin/app": (b"#!", True), "x/key": (b"key", False)}, version="2")
    device.install(second)
    assert os.listdir(device.tree(first.id) / "files/bin") == ["app"]
    assert (device.tree(second.id) / "files/x/key").read_bytes() == b"key"
    assert not os.listdir(outside)


def test_fc_sec_1_a_folder_that_is_a_link_in_staging_is_not_followed(device, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    made = Made()
    os.symlink(outside, device.staging / made.id.hex())
    assert device.take(made.bytes())["k"] == "error"
    os.unlink(device.staging / made.id.hex())
    (device.staging / made.id.hex()).mkdir()
    os.symlink(outside, device.staging / made.id.hex() / "objects")
    assert device.take(made.bytes())["k"] == "error"
    assert os.listdir(outside) == []


def test_fc_sec_1_a_folder_swapped_for_a_link_while_the_children_write(device, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    made = Made({f"lib/d{i % 7}/f{i:03}": (b"%d" % i * 50, True) for i in range(120)}, run={"argv": ["lib/d0/f000"]})
    data = made.bytes()
    stop = threading.Event()
    swaps = [0]

    def swap():
        top = device.staging / made.id.hex()
        while not stop.is_set():
            for name in ("objects", "files", "files/lib"):
                try:
                    os.rename(top / name, top / (name + ".kept"))
                    os.symlink(outside, top / name)
                    os.unlink(top / name)
                    os.rename(top / (name + ".kept"), top / name)
                    swaps[0] += 1
                except OSError:
                    continue

    other = threading.Thread(target=swap)
    other.start()
    try:
        for _ in range(100):
            assert device.take(data)["k"] in ("done", "error")
            assert device.keep(made.id)["k"] in ("done", "error")
            shutil.rmtree(device.tree(made.id), ignore_errors=True)
            if swaps[0] > 1000:
                break
    finally:
        stop.set()
        other.join(10)
    assert swaps[0] > 1000
    assert sorted(os.listdir(outside)) == ["victim"]
    assert (outside / "victim").read_text() == "untouched"


def test_a_fifo_or_device_in_staging_stops_nobody(device):
    made = Made()
    device.take(made.bytes())
    os.unlink(device.staging / made.id.hex() / "objects/1")
    os.mkfifo(device.staging / made.id.hex() / "objects/1")
    assert device.keep(made.id)["k"] == "error"
    device.staging.joinpath(made.id.hex(), "files/bin/app").unlink(missing_ok=True)
    assert device.take(made.bytes())["k"] == "done"


def test_an_app_or_image_that_was_not_asked_for_is_refused(device):
    made = Made()
    assert device.take_here(made.bytes(), apps=["other"])["reason"] == reasons.NO_SUCH_APP
    assert device.take_here(made.bytes(), only=b"x" * 32)["reason"] == reasons.NO_SUCH_IMAGE
    assert device.take_here(made.bytes(), quota=100)["reason"] == reasons.TOO_LARGE
    assert device.take_here(made.bytes(), left=100)["reason"] == reasons.NO_SPACE


def test_programs_that_are_not_in_the_image_are_refused_before_anything_is_written(device):
    error = refused(device, Made(run={"argv": ["bin/none"]}).bytes())
    assert (error["reason"], error["part"]) == (reasons.BAD_MANIFEST, "manifest")
    assert refused(device, Made(run={"argv": ["lib/data.txt"]}).bytes())["reason"] == reasons.BAD_MANIFEST
    assert device.left() == []


def test_signatures_by_strangers_nobody_or_twice_do_not_count(device):
    assert refused(device, Made(keys=()).bytes())["reason"] == reasons.UNKNOWN_KEY
    assert refused(device, Made(keys=(STRANGER,)).bytes())["reason"] == reasons.UNKNOWN_KEY
    made = Made()
    key, signature = made.envelope.signatures[0]
    raw = msgpack.packb([made.envelope.type, made.body, {}])[:-1] + b"\x82" + (msgpack.packb(key) + msgpack.packb(signature)) * 2
    index = bundle.encode_index(made.index)
    data = bundle.encode_head(bundle.Head(0, len(raw), len(index))) + raw + index + b"".join(made.payload)
    assert refused(device, data)["reason"] == reasons.MALFORMED


def test_another_type_of_signed_document_is_no_manifest(device):
    made = Made()
    made.envelope = RELEASE.sign(Envelope(envelope.COMMAND, made.body))
    assert refused(device, made.bytes())["reason"] == reasons.WRONG_TYPE
    one = Made()
    one.envelope = Envelope(envelope.MANIFEST, one.body, RELEASE.sign(Envelope(envelope.COMMAND, one.body)).signatures)
    assert refused(device, one.bytes())["reason"] == reasons.BAD_SIGNATURE


def test_a_device_without_room_says_so_before_it_writes(device):
    error = device.take_here(Made(tree=[hashlib.sha256(b"").digest(), 10, 1, 8 * 1024**3]).bytes(), quota=10**9)
    assert (error["reason"], error["part"]) == (reasons.TOO_LARGE, "space")
    assert device.left() == []


@pytest.mark.parametrize(("free", "left"), [(1_000_000, []), (1_100_000, ["manifest", "objects", "tree"])])
def test_a_full_medium_is_refused_in_the_order_of_proof(device, monkeypatch, free, left):
    """Too little for the lists: nothing is made. Enough for them and not for the contents: no content is written."""
    real = os.statvfs(device.staging)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 1, *real[2:4], free, *real[5:])))
    made = Made({"bin/app": (b"#!", True), "big": (os.urandom(200_000), False)})
    error = device.take_here(made.bytes())
    assert (error["reason"], error["part"]) == (reasons.NO_SPACE, "space")
    assert [p.removeprefix(made.id.hex() + "/") for p in device.left()[1:]] == left


def test_a_copy_past_the_end_of_its_base_is_refused_before_it_is_read():
    with pytest.raises(patch.PatchError, match="past the end"):
        list(patch.apply([struct.pack("!III", 0, 9, 2)], lambda o, n: b"x" * n, 10, 100))
