# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import subprocess
import sys

import crash_samples as samples
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.adapters.logs.readers.shape import Crash
from edgeheal.adapters.logs.traces import LINES_MOST, Traces


def crashes(text: str) -> list[Crash]:
    traces = Traces()
    found = [traces.feed(line)[1] for line in text.splitlines()]
    return [crash for crash in (*found, traces.flush()) if crash is not None]


def only(text: str) -> Crash:
    (crash,) = crashes(text)
    return crash


@pytest.mark.parametrize("language", samples.TRIPLES)
def test_two_versions_of_one_crash_group_and_another_crash_does_not(language):
    one, next_version, other = (only(text) for text in samples.TRIPLES[language])
    assert one.error
    assert one.frames
    assert (one.error, one.frames) == (next_version.error, next_version.frames)
    assert (one.error, one.frames) != (other.error, other.frames)


@pytest.mark.parametrize(
    ("text", "error", "frames"),
    [
        (samples.PY, "JSONDecodeError", ("reader.py:_parse", "reader.py:once", "gateway.py:main", "gateway.py:<module>")),
        (samples.PY_CHAINED, "RuntimeError", ("a.py:high", "a.py:<module>")),
        (samples.PY_FATAL, "Segmentation fault", ("native.py:peek", "gateway.py:main")),
        (samples.ASAN, "AddressSanitizer:heap-use-after-free", ("port.c:frame_checksum", "port.c:read_frame", "main.c:main")),
        (samples.GLIBC, "double free or corruption (fasttop)", ("drop_frame", "main")),
        (samples.GLIBC_OTHER, "malloc(): corrupted top size", ()),
        (samples.ASSERT, "assert length < MAX_FRAME", ("port.c:read_frame",)),
        (samples.JAVA, "NullPointerException", ("com.acme.gw.Modbus.decode", "com.acme.gw.Modbus.lambda$read", "com.acme.gw.Poller.run")),
        (samples.JAVA_OTHER, "IOException", ("com.acme.gw.Store.append", "com.acme.gw.Poller.run")),
        (samples.JAVA_FATAL, "SIGSEGV", ("libserial.so:readBytes",)),
        (samples.GO, "index out of range [#] with length #", ("modbus.(*Port).decode", "modbus.(*Port).Read", "main.poll.func1")),
        (samples.NODE, "TypeError", ("reader.js:Reader.decode", "poller.js:<anonymous>", "poller.js:poll")),
        (samples.NODE_OTHER, "Error ENOSPC", ("store.js:Store.append", "poller.js:<anonymous>")),
        (samples.NODE_HEAP, "heap out of memory", ()),
        (samples.RUST, "index out of bounds: the len is # but the index is #", ("gw::modbus::Port::decode", "gw::poll::{{closure}}")),
        (samples.RUST_OTHER, "called '..' on a '..' value", ("config.rs",)),
    ],
)
def test_a_crash_is_named_by_its_error_and_its_own_frames_top_first(text, error, frames):
    crash = only(text)
    assert (crash.error, crash.frames) == (error, frames)


def test_crashes_one_after_another_are_all_found():
    text = "".join(triple[0] + "fine again\n" for triple in samples.TRIPLES.values())
    assert len(crashes(text)) == len(samples.TRIPLES)


@pytest.mark.parametrize(
    "line",
    [
        "look at this",
        "    at the end of the day",
        "panic button pressed",
        "ERROR: cannot resolve host",
        "goroutine pool started",
        "no error: fine (5)",
        "  File saved",
        "free(): ok? no"[0:6],
    ],
)
def test_ordinary_lines_belong_to_no_trace(line):
    traces = Traces()
    part, crash = traces.feed(line)
    assert (part, crash, traces.flush()) == (False, None, None)


def test_a_real_python_crash_is_understood(tmp_path):
    (tmp_path / "app.py").write_text("def low(x):\n    return 1 // x\n\ndef high():\n    return low(0)\n\nhigh()\n")
    done = subprocess.run([sys.executable, str(tmp_path / "app.py")], capture_output=True, text=True, check=False)
    assert only(done.stderr).frames == ("app.py:low", "app.py:high", "app.py:<module>")
    assert only(done.stderr).error == "ZeroDivisionError"


NODE = "function decode(f) {{{pad}\n  return f.payload.length;\n}}\nclass Reader {{\n  read() {{ return decode(undefined); }}\n}}\nnew Reader().read();\n"
RUST = 'fn decode(v: &[u8], i: usize) -> u8 {{{pad}\n    v[i]\n}}\nfn main() {{\n    let n = std::env::args().count();\n    println!("{{}}", decode(&[1, 2], n + 4));\n}}\n'
JAVA = "class Gw {{{pad}\n  static int decode(int[] a, int i) {{ return a[i]; }}\n  public static void main(String[] s) {{ Runnable r = () -> decode(new int[2], 7); r.run(); }}\n}}\n"
REAL = {
    "node": ("app.js", NODE, [["node", "app.js"]], "TypeError", ("app.js:decode", "app.js:Reader.read", "app.js:<anonymous>")),
    "rust": (
        "app.rs",
        RUST,
        [["rustc", "-g", "--crate-name", "app", "-o", "app", "app.rs"], ["./app"]],
        "index out of bounds: the len is # but the index is #",
        ("app::decode", "app::main"),
    ),
    "java": ("Gw.java", JAVA, [["java", "Gw.java"]], "ArrayIndexOutOfBoundsException", ("Gw.decode", "Gw.lambda$main", "Gw.main")),
}


@pytest.mark.slow
@pytest.mark.parametrize("language", REAL)
def test_real_crashes_of_other_languages_group_over_two_versions(tmp_path, language):
    name, source, commands, error, frames = REAL[language]
    if shutil.which(commands[0][0]) is None:
        pytest.skip(f"no {commands[0][0]} here")
    for version, pad in enumerate(("", "\n\n")):
        folder = tmp_path / f"v{version}"
        folder.mkdir()
        (folder / name).write_text(source.format(pad=pad))
        for command in commands:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "RUST_BACKTRACE": "1"})
        crash = only(done.stderr)
        assert crash.error == error
        assert crash.frames[: len(frames)] == frames, done.stderr


@pytest.mark.parametrize("call", ["int *p = malloc(4); free(p); free(p); return *p;", "char b[4]; memset(b + (argc - 1), 1, 9 * argc); return b[2];"])
def test_a_real_sanitizer_report_is_understood(tmp_path, call):
    source = tmp_path / "bad.c"
    source.write_text(f"#include <stdlib.h>\n#include <string.h>\nint work(int argc) {{ {call} }}\nint main(int argc, char **argv) {{ return work(argc); }}\n")
    built = [
        subprocess.run(["gcc", "-g", "-O0", *flags, "-fsanitize=address", "-o", tmp_path / name, source], capture_output=True, check=False)
        if _has_gcc()
        else None
        for name, flags in (("one", []), ("two", ["-DX", "-fno-omit-frame-pointer"]))
    ]
    if None in built or any(b.returncode for b in built):
        pytest.skip("no gcc with AddressSanitizer here")
    one, two = (
        only(subprocess.run([tmp_path / name], capture_output=True, text=True, check=False, env={"ASAN_OPTIONS": "detect_leaks=0"}).stderr)
        for name in ("one", "two")
    )
    assert one.frames[:2] == ("bad.c:work", "bad.c:main")
    assert (one.error, one.frames) == (two.error, two.frames)


def _has_gcc() -> bool:
    try:
        return subprocess.run(["gcc", "--version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_an_endless_trace_is_bounded():
    traces = Traces()
    traces.feed("Traceback (most recent call last):")
    ends = [traces.feed(f'  File "f{n}.py", line 1, in g')[1] for n in range(3 * LINES_MOST)]
    assert sum(end is not None for end in ends) <= 3
    traces.flush()
    assert len([e for e in ends if e][0].frames) <= 6


@given(st.lists(st.sampled_from([line for t in samples.TRIPLES.values() for text in t for line in text.splitlines()] + ["", "x", "    ", "}"]), max_size=80))
def test_any_mixture_of_traces_ends_in_crashes_not_in_errors(lines):
    for crash in crashes("\n".join(lines)):
        assert len(crash.frames) <= 6
        assert "0x" not in "".join(crash.frames)


@given(st.text(max_size=300))
def test_any_text_is_taken(text):
    crashes(text)
    for head in ("Traceback (most recent call last):\n", "panic: \n", "==1==ERROR: AddressSanitizer: x\n", "    at a (b.js:1:2)\n"):
        crashes(head + text)
