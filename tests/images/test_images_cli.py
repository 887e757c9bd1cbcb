# SPDX-License-Identifier: Apache-2.0
"""`edgeheal key` and `edgeheal image`: what a person types, what it says, what it exits with."""

import json
import os
import stat

import pytest

from edgeheal.cli.main import main


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """A folder with keys, trust and a small app; `run(*words)` -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    assert run("key", "new", "--role", "root")[0] == run("key", "new")[0] == 0
    assert run("key", "trust", "--root-key", "root.key", "--release", "release.key.pub", "-o", "00001.eht")[0] == 0
    (tmp_path / "app/files/bin").mkdir(parents=True)
    (tmp_path / "app/files/bin/run").write_text("#!/bin/sh\nexec sleep 9\n")
    (tmp_path / "app/files/bin/run").chmod(0o755)
    (tmp_path / "app/files/data").write_bytes(b"d" * 3000)
    (tmp_path / "app/image.toml").write_text('app = "demo"\nversion = "1.0"\nsecurity_counter = 1\ndevice = ["gateway"]\n\n[run]\nargv = ["bin/run"]\n')
    run.here = tmp_path
    return run


def test_a_key_is_private_and_never_overwritten(bench):
    assert stat.S_IMODE(os.stat("release.key").st_mode) == 0o600
    before = (bench.here / "release.key").read_bytes()
    code, _, err = bench("key", "new")
    assert (code, before) == (2, (bench.here / "release.key").read_bytes())
    assert "exists already" in err


def test_build_sign_verify_inspect(bench):
    code, out, err = bench("image", "build", "app")
    assert code == 0
    assert "demo 1.0" in out
    assert "image sign demo-1.0.ehi" in err
    assert bench("image", "verify", "demo-1.0.ehi", "--trust", "00001.eht")[0] == 6
    assert bench("image", "sign", "demo-1.0.ehi", "--key", "release.key")[0] == 0
    code, out, _ = bench("image", "verify", "demo-1.0.ehi", "--trust", "00001.eht", "--json")
    assert (code, json.loads(out)["ok"], json.loads(out)["objects"]) == (0, True, 2)
    code, out, _ = bench("image", "inspect", "demo-1.0.ehi", "--files", "--json")
    shown = json.loads(out)
    assert [f["path"] for f in shown["files"]] == ["bin/run", "data"]
    assert shown["manifest"]["run"]["argv"] == ["bin/run"]
    assert "bin/run" in bench("image", "inspect", "demo-1.0.ehi", "--files")[1]


def test_building_twice_gives_the_same_bytes_and_build_signs_as_sign_does(bench):
    assert bench("image", "build", "app", "-o", "a.ehi")[0] == bench("image", "build", "app/image.toml", "-o", "b.ehi", "--key", "release.key")[0] == 0
    assert bench("image", "sign", "a.ehi", "--key", "release.key")[0] == 0
    assert (bench.here / "a.ehi").read_bytes() == (bench.here / "b.ehi").read_bytes()


@pytest.mark.parametrize("codec", ["stored", "deflate", "lzma2"])
def test_each_codec_can_be_read_back(bench, codec):
    with (bench.here / "app/files/large").open("wb") as file:
        for i in range(3000):
            file.write(b"%08d" % i * 128)
    assert bench("image", "build", "app", "--key", "release.key", "--codec", codec, "-o", "x.ehi")[0] == 0
    assert bench("image", "verify", "x.ehi", "--trust", "00001.eht")[0] == 0


def test_the_devices_own_word_and_trust_have_their_exit_codes(bench):
    bench("image", "build", "app", "--key", "release.key", "-o", "x.ehi")
    assert bench("image", "verify", "x.ehi", "--trust", "00001.eht", "--device", "toaster")[0] == 4
    image = json.loads(bench("image", "inspect", "x.ehi", "--json")[1])["id"]
    assert bench("key", "trust", "--from", "00001.eht", "--root-key", "root.key", "--revoke-id", image, "-o", "00002.eht")[0] == 0
    (bench.here / "chain.eht").write_bytes((bench.here / "00001.eht").read_bytes() + (bench.here / "00002.eht").read_bytes())
    code, _, err = bench("image", "verify", "x.ehi", "--trust", "chain.eht")
    assert (code, "revoked" in err) == (6, True)
    assert bench("image", "sign", "x.ehi", "--key", "release.key", "--trust", "chain.eht")[0] == 0
    assert bench("image", "verify", "x.ehi", "--trust", "00001.eht")[0] == 6
    data = bytearray((bench.here / "x.ehi").read_bytes())
    data[-5] ^= 1
    (bench.here / "y.ehi").write_bytes(data)
    assert bench("image", "inspect", "y.ehi")[0] == 0
    code, out, _ = bench("image", "verify", "y.ehi", "--trust", "00001.eht", "--json")
    assert (code, json.loads(out)["error"]["exit_code"]) == (6, 6)
    bench("image", "build", "app", "--key", "release.key", "-o", "z.ehi", "--set-version", "2")
    data = bytearray((bench.here / "z.ehi").read_bytes())
    data[-5] ^= 1
    (bench.here / "z.ehi").write_bytes(data)
    code, _, err = bench("image", "verify", "z.ehi", "--trust", "00001.eht")
    assert (code, "object 2" in err) == (1, True)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda files: os.symlink("/etc/passwd", files / "l"), "target is absolute"),
        (lambda files: os.symlink("../../x", files / "l"), "leaves the tree"),
        (lambda files: os.mkfifo(files / "f"), "no file, folder or link"),
        (lambda files: (files / "bin/run").chmod(0o4755), "setuid"),
        (lambda files: (files / "e\u0301").write_text(""), "NFC"),
        (lambda files: (files / "a\nb").write_text(""), "control"),
        (lambda files: (files / "DATA").write_text("x"), "case"),
        (lambda files: (files / "bin/run").chmod(0o644), "is not executable"),
        (lambda files: (files / "bin/run").unlink(), "is not in the image"),
    ],
)
def test_what_an_image_cannot_say_is_refused_by_name(bench, spoil, words):
    spoil(bench.here / "app/files")
    code, _, err = bench("image", "build", "app")
    assert code == 1
    assert words in err
    assert "next:" in err
    assert not list(bench.here.glob("*.ehi"))


def test_an_error_in_image_toml_shows_file_line_and_nearest_key(bench):
    toml = bench.here / "app/image.toml"
    toml.write_text(toml.read_text() + "strat_ms = 5\n")
    code, _, err = bench("image", "build", "app")
    assert code == 1
    assert "app/image.toml:8: run.strat_ms: unknown field" in err
    assert "start_ms" in err


def test_files_can_be_left_out(bench):
    (bench.here / "app/files/__pycache__").mkdir()
    (bench.here / "app/files/__pycache__/x.pyc").write_bytes(b"x")
    assert bench("image", "build", "app", "-o", "x.ehi", "--exclude", "__pycache__")[0] == 0
    assert "pyc" not in bench("image", "inspect", "x.ehi", "--files")[1]


def test_a_rotation_says_whose_signatures_are_missing(bench):
    bench("key", "new", "--role", "root", "-o", "root2.key")
    code, _, err = bench("key", "trust", "--from", "00001.eht", "--root-key", "root2.key", "--root", "root2.key.pub", "-o", "00002.eht")
    assert (code, "1 more of the 1 root keys of version 1" in err) == (0, True)
    code, out, _ = bench("key", "sign", "00002.eht", "--key", "root.key", "--from", "00001.eht", "--json")
    assert (code, json.loads(out)["complete"]) == (0, True)
    (bench.here / "chain.eht").write_bytes((bench.here / "00001.eht").read_bytes() + (bench.here / "00002.eht").read_bytes())
    bench("image", "build", "app", "--key", "release.key", "-o", "x.ehi")
    assert bench("image", "verify", "x.ehi", "--trust", "chain.eht")[0] == 0
    code, out, _ = bench("key", "show", "chain.eht", "--json")
    assert [one["n"] for one in json.loads(out)] == [1, 2]
    assert "trust version 2" in bench("key", "show", "00002.eht")[1]


@pytest.mark.parametrize(
    "words",
    [
        ("key", "trust", "--release", "release.key", "-o", "x.eht"),
        ("key", "trust", "--root-key", "root.key", "--threshold", "operator=2", "-o", "x.eht"),
        ("key", "trust", "--root-key", "root.key", "--threshold", "root=two", "-o", "x.eht"),
        ("key", "trust", "--root-key", "none.key", "-o", "x.eht"),
        ("key", "trust", "--root-key", "root.key", "--revoke-id", "abc", "-o", "x.eht"),
        ("key", "trust", "--root-key", "root.key", "--floor", "demo", "-o", "x.eht"),
        ("image", "build", "nowhere"),
        ("image", "verify", "nowhere.ehi", "--trust", "00001.eht"),
        ("image", "inspect", "nowhere.ehi"),
    ],
)
def test_wrong_words_are_usage_errors_with_a_next_step(bench, words):
    code, _, err = bench(*words)
    assert code == 2
    assert "next:" in err


def test_hostile_files_are_typed_errors(bench):
    (bench.here / "x").write_bytes(b"\x93" * 100)
    for words in (("image", "inspect", "x"), ("image", "sign", "x", "--key", "release.key"), ("image", "verify", "x", "--trust", "00001.eht")):
        assert bench(*words)[0] == 1
    for words in (("key", "show", "x"), ("image", "verify", "x", "--trust", "x"), ("key", "sign", "x", "--key", "root.key")):
        assert bench(*words)[0] == 6
    assert bench("key", "trust", "--root-key", "root.key", "--release", "root.key", "-o", "y.eht")[0] == 6


def test_an_encrypted_key_needs_its_password(bench):
    (bench.here / "word").write_text("secret\n")
    assert bench("key", "new", "-o", "locked.key", "--password-file", "word")[0] == 0
    assert bench("image", "build", "app", "--key", "locked.key")[0] == 6
    assert bench("image", "build", "app", "--key", "locked.key", "--password-file", "word")[0] == 0


def test_a_threshold_of_two_is_met_by_two_people_in_turn(bench):
    bench("key", "new", "-o", "second.key")
    assert (
        bench("key", "trust", "--root-key", "root.key", "--release", "release.key", "--release", "second.key", "--threshold", "release=2", "-o", "two.eht")[0]
        == 0
    )
    bench("image", "build", "app", "--key", "release.key", "-o", "x.ehi")
    code, _, err = bench("image", "verify", "x.ehi", "--trust", "two.eht")
    assert (code, "too few signatures" in err) == (6, True)
    bench("image", "sign", "x.ehi", "--key", "second.key")
    assert bench("image", "verify", "x.ehi", "--trust", "two.eht")[0] == 0
