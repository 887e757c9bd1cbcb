# SPDX-License-Identifier: Apache-2.0
"""Fuzzers for everything that reads bytes from outside: manifest, tree, index, codecs, patches, image.toml. Typed errors only."""

import hashlib

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workshop import FILES, manifest_of, rows_of

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.image import bundle, codec, launch, manifest, patch, paths, source, tree
from edgeheal.image.manifest_plain import to_plain
from edgeheal.image.records import unpack
from edgeheal.trust.canonical import pack

FULL = {
    "min_security_counter": 2, "soak_s": 60, "about": {"revision": "abc"}, "limits": {"memory_kib": 65536, "files": 64},
    "run": {
        "argv": ["bin/app", "-x"], "env": {"LANG": "C"}, "cwd": "lib", "ready": "probe", "start_ms": 5000, "stop_signal": "INT", "stop_ms": 100, "reload": ["bin/app", "r"],
        "heartbeat_ms": 1000, "done": [0, 3], "worker": "child", "devices": ["serial"], "network": True,
    },
    "probes": [
        {"name": "a", "means": "ready", "kind": "http", "target": "http://127.0.0.1:8080/x", "every_ms": 500, "timeout_ms": 100, "misses": 2},
        {"name": "b", "kind": "exec", "target": ["bin/app", "check"]}, {"name": "c", "kind": "freshness", "target": "out/last"}, {"name": "d", "kind": "heartbeat"},
    ],
    "metrics": [{"name": "t", "unit": "C", "exp": -1, "min": -400, "max": 1250, "step_max": 5, "every_ms": 500, "stuck_ms": 3000}],
    "needs": [{"app": "broker"}, {"time": "trusted", "hard": False}],
    "config": {"path": "app.json", "schema": "lib/data.txt", "check": ["bin/app", "--check"], "reload": True},
    "data": {"schema": 3, "migrate": "bin/app", "back": "bin/app", "downgrade": "ask"},
}  # fmt: skip
ROWS = rows_of(FILES)
TREE = tree.encode(ROWS)
PLAIN = manifest_of(ROWS, TREE, **FULL)
ODD = st.sampled_from([None, True, -1, 0, 2**32, 2**63, 1.5, "", "x" * 5000, "\n", "..", "/", b"", [], [[]], {}, {"x": 1}, ["\0"], ["a"] * 100])
PIECE = st.binary(max_size=64)


def reason_of(read, *data):
    """OK, or the reason of an ImageError; any other exception goes through and fails the test."""
    try:
        read(*data)
    except ImageError as fault:
        return fault.reason if fault.hint else reasons.INTERNAL
    return reasons.OK


def test_a_full_manifest_goes_there_and_back():
    said = manifest.from_plain(PLAIN)
    assert manifest.decode(said.body()) == said
    assert manifest.from_plain(to_plain(said)) == said
    record = unpack(launch.packed(said, b"i" * 32))
    assert (record["reload"], record["worker"], record["config"]["check"]) == (["argv", "bin/app", "r"], "child", ["bin/app", "--check"])


def places(value, at=()):
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


def put(value, at, new):
    if not at:
        return new
    if isinstance(value, dict):
        return {k: put(v, at[1:], new) if k == at[0] else v for k, v in value.items()}
    return [put(v, at[1:], new) if i == at[0] else v for i, v in enumerate(value)]


@given(st.sampled_from(list(places(PLAIN))), ODD)
@settings(deadline=None, max_examples=600)
def test_an_odd_value_at_any_field_is_refused_by_name_or_fits(at, odd):
    changed = put(PLAIN, at, odd)
    reason = reason_of(manifest.from_plain, changed)
    assert reason in (reasons.OK, reasons.BAD_MANIFEST, reasons.UNKNOWN_VERSION)
    if reason == reasons.OK:
        assert manifest.decode(manifest.from_plain(changed).body()) == manifest.from_plain(changed)


@pytest.mark.parametrize("at", [p for p in places(PLAIN) if p and not isinstance(p[-1], int)])
def test_every_field_is_named_when_a_neighbour_is_unknown(at):
    inner = PLAIN
    for key in at[:-1]:
        inner = inner[key]
    if not isinstance(inner, dict) or at[:-1] in (("run", "env"), ("about",)):
        return
    changed = put(PLAIN, at[:-1], inner | {f"{at[-1]}x": 1}) if at[:-1] else PLAIN | {f"{at[-1]}x": 1}
    with pytest.raises(ImageError) as error:
        manifest.from_plain(changed)
    assert f"{at[-1]}x" in error.value.place
    assert str(at[-1]) in error.value.hint


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=400)
def test_arbitrary_bytes_are_no_manifest_tree_or_index(data):
    assert reason_of(manifest.decode, data) != reasons.OK
    assert reason_of(tree.decode_rows, data) != reasons.OK
    reason_of(bundle.decode_index, data)
    assert reason_of(bundle.decode_head, data) != reasons.OK


BODY = pack(PLAIN)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
@settings(deadline=None, max_examples=400)
def test_a_changed_manifest_is_typed_or_another_image(place, bits):
    data = BODY[:place] + bytes([BODY[place] ^ bits]) + BODY[place + 1 :]
    if reason_of(manifest.decode, data) == reasons.OK:
        assert manifest.image_id(data) != manifest.image_id(BODY)


@given(st.integers(0, len(TREE) - 1), st.integers(1, 255))
@settings(deadline=None, max_examples=400)
def test_a_changed_tree_is_never_the_one_that_was_signed(place, bits):
    data = TREE[:place] + bytes([TREE[place] ^ bits]) + TREE[place + 1 :]
    reason_of(tree.decode_rows, data)
    assert reason_of(tree.decode, data, tree.reference(ROWS, TREE)) == reasons.BAD_TREE


NAME = st.text(st.characters(codec="utf-8"), min_size=0, max_size=6)
ROW = st.one_of(
    st.tuples(NAME, st.integers(-1, 6), st.integers(-1, 9), st.binary(min_size=31, max_size=33)),
    st.tuples(NAME, st.just(2), st.lists(st.sampled_from(["..", ".", "a", "", "é"]), max_size=4).map("/".join)),
    st.tuples(st.lists(NAME, max_size=4).map("/".join), st.just(3)),
)


@given(st.lists(ROW, max_size=6))
@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])
def test_any_accepted_tree_stays_inside_its_folder(raw):
    data = msgpack.packb([list(row) for row in sorted(raw, key=lambda r: r[0].encode())])
    if reason_of(tree.decode_rows, data) != reasons.OK:
        return
    rows = tree.decode_rows(data)
    assert tree.encode(rows) == data
    links = {row.path: row.target for row in rows if row.kind == tree.LINK}
    for row in rows:
        assert not row.path.startswith("/")
        assert ".." not in row.path.split("/")
        assert not any(row.path.startswith(link + "/") for link in links)
        if row.kind == tree.LINK:
            assert inside(row.path, links)


def inside(path, links):
    """Follow a link as the kernel does, step by step, and see whether it ever goes above the top."""
    here, rest, hops = path.split("/")[:-1], links[path].split("/"), 0
    while rest and hops < 40:
        part = rest.pop(0)
        if part == "..":
            if not here:
                return False
            here.pop()
        elif part not in (".", ""):
            at = "/".join([*here, part])
            if at in links:
                hops += 1
                rest = links[at].split("/") + rest
            else:
                here.append(part)
    return True


@given(
    st.lists(st.sampled_from(["..", ".", "a", "b", "l", "m"]), min_size=1, max_size=5), st.lists(st.sampled_from(["..", "a", "m", "."]), min_size=1, max_size=4)
)
@settings(deadline=None, max_examples=400)
def test_links_through_links_never_lead_out(one, two):
    links = {"l": "/".join(one), "a/b/m": "/".join(two)}
    if all(not paths.link_fault(path, target) for path, target in links.items()):
        assert all(inside(path, links) for path in links)


@given(st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 4), st.integers(-1, 2**33), st.none() | st.binary(min_size=31, max_size=33)), max_size=5))
@settings(deadline=None, max_examples=300)
def test_an_accepted_index_ascends_and_is_bounded(raw):
    data = msgpack.packb([list(row) for row in raw])
    if reason_of(bundle.decode_index, data) == reasons.OK:
        rows = bundle.decode_index(data)
        assert [r.number for r in rows] == sorted({r.number for r in rows})
        assert bundle.encode_index(list(rows)) == data


@given(st.binary(max_size=2000), st.binary(max_size=2000), st.integers(1, 700))
@settings(deadline=None, max_examples=200)
def test_a_patch_makes_what_it_was_made_for(base, new, step):
    base, new = base * 3, new + base[len(base) // 3 :] + new
    made = patch.make(base, new)
    pieces = [made[i : i + step] for i in range(0, len(made), step)]
    assert b"".join(patch.apply(pieces, lambda o, n: base[o : o + n], len(base), len(new))) == new


@given(st.binary(max_size=120), st.integers(0, 400))
@settings(deadline=None, max_examples=400)
def test_a_hostile_patch_is_bounded_and_typed(data, size):
    base = bytes(range(200))
    made = 0
    try:
        for step in patch.apply([data], lambda o, n: base[o : o + n], len(base), size):
            made += len(step)
    except patch.PatchError:
        pass
    assert made <= size


@given(st.sampled_from([codec.STORED, codec.DEFLATE, codec.LZMA2]), st.binary(max_size=3000), st.integers(1, 900), st.integers(0, 4000))
@settings(deadline=None, max_examples=300)
def test_what_was_squeezed_inflates_to_the_same_and_never_past_its_bound(how, data, step, most):
    squeezer = codec.Squeezer(how)
    made = squeezer.feed(data * 3) + squeezer.end()
    pieces = [made[i : i + step] for i in range(0, len(made), step)]
    assert b"".join(codec.inflate(how, pieces, len(data) * 3)) == data * 3
    got = 0
    try:
        for out in codec.inflate(how, pieces, most):
            got += len(out)
    except codec.CodecError:
        assert most < len(data) * 3
    assert got <= most


@given(st.sampled_from([codec.DEFLATE, codec.LZMA2]), st.binary(max_size=400))
@settings(deadline=None, max_examples=400)
def test_garbage_does_not_inflate_untyped(how, data):
    try:
        assert len(b"".join(codec.inflate(how, [data], 10_000))) <= 10_000
    except codec.CodecError:
        pass


TOML = """app = "demo"
version = "1.0"
security_counter = 3
device = ["gateway"]

[run]
argv = ["bin/app"]
start_ms = 5000

[run.env]
A = "1"

[[probes]]
name = "one"
kind = "tcp"
target = "127.0.0.1:80"

[[probes]]
name = "two"
kind = "heartbeat"
"""
REF = tree.reference(ROWS, TREE)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("start_ms = 5000", 'start_ms = "5s"', 8, "run.start_ms: not a whole number but a text"),
        ("start_ms = 5000", "strat_ms = 5000", 8, "run.strat_ms: unknown field"),
        ("start_ms = 5000", "start_ms = 0", 8, "run.start_ms: 0 is not from"),
        ('app = "demo"', 'app = "Demo"', 1, "app: 'Demo' does not fit"),
        ('A = "1"', "A = 1", 11, "run.env.A"),
        ('A = "1"', 'EDGEHEAL_X = "1"', 11, "set by the guard"),
        ('kind = "heartbeat"', 'kind = "heart"', 20, "probes[1].kind"),
        ('"127.0.0.1:80"', '"10.0.0.1:80"', 16, "probes[0].target"),
        ('"127.0.0.1:80"', '"127.0.0.1:80', 16, "Illegal"),
        ('argv = ["bin/app"]', 'argv = ["../app"]', 7, "run.argv[0]"),
        ("security_counter = 3", "security_counter = 3\nsecurity_counter = 4", 4, "overwrite"),
        ("security_counter = 3\n", "", 1, "security_counter: is missing"),
        ('version = "1.0"', 'version = "1.0"\ntree = []', 3, "not written by hand"),
        ('[[probes]]\nname = "two"', '[[probes]]\nname = "one"', 19, "stands there twice"),
        ('kind = "heartbeat"', 'kind = "heartbeat"\n[limits]\nmemory_mb = 3', 22, "limits.memory_mb: unknown field"),
    ],
)  # fmt: skip
def test_an_error_in_image_toml_names_file_line_and_field(old, new, line, words):
    with pytest.raises(ImageError) as error:
        source.to_manifest(TOML.replace(old, new), "image.toml", REF)
    assert f"image.toml:{line}" in str(error.value), str(error.value)
    assert words in str(error.value), str(error.value)
    assert error.value.hint


def test_the_nearest_key_is_offered():
    for wrong, right in (("strat_ms", "start_ms"), ("stop_sig", "stop_signal"), ("enviroment", "env")):
        with pytest.raises(ImageError) as error:
            source.to_manifest(TOML.replace("start_ms", wrong), "image.toml", REF)
        assert right in error.value.hint


@given(st.text(max_size=120))
@settings(deadline=None, max_examples=200)
def test_arbitrary_text_is_no_image_toml(text):
    assert reason_of(source.to_manifest, text, "image.toml", REF) != reasons.OK


def test_a_content_tag_changes_with_the_content():
    assert tree.tag_s(hashlib.sha256(b"a").digest()) != tree.tag_s(hashlib.sha256(b"b").digest())
    assert 946_684_800 <= tree.tag_s(b"\xff" * 32) < 946_684_800 + 2**28
