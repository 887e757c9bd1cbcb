# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a fault: 8 bytes over kind, component, and the normalised top frames (or the mined log template).

Duty: make two occurrences of one fault equal, and two faults different. Format: wire and learning share it.
Invariants: no address, digit, line number or path of a build is in it; frames that every crash has are left out.
"""

import re

from edgeheal.core.digest import blake2b

FRAMES_MOST = 5

_NOISE = re.compile(r"0x[0-9a-fA-F]+|\d+")
_PATH = re.compile(r"(?:[\w.\-+]*/)+")
_SPACE = re.compile(r"\s+")
# frames that throw, abort, unwind or report: they say that it crashed, not where
COMMON = (
    "abort", "raise", "__libc_start", "_start", "gsignal", "__assert_fail", "std::terminate", "__cxa_throw", "__cxa_rethrow", "_Unwind",
    "panic", "rust_begin_unwind", "core::panicking", "std::panicking", "runtime.throw", "runtime.gopanic", "runtime.main", "runtime.goexit",
    "java.lang.Thread.run", "java.lang.Throwable", "__asan", "__sanitizer", "__interceptor", "sys.exit", "runpy", "node:internal",
    "processTicksAndRejections", "pthread_kill", "__stack_chk_fail", "__fortify_fail",
)  # fmt: skip


def normalise(frame: str) -> str:
    """A frame without addresses, digits and folders."""
    return _SPACE.sub(" ", _NOISE.sub("#", _PATH.sub("", frame))).strip()[:120]


def top_frames(frames: tuple[str, ...]) -> tuple[str, ...]:
    """The frames that count, normalised, at most `FRAMES_MOST`; all of them when only common ones are there."""
    own = [n for f in frames if not any(word in f for word in COMMON) and (n := normalise(f))]
    return tuple((own or [normalise(f) for f in frames])[:FRAMES_MOST])


def fingerprint(kind: int, component: str, detail: str = "", frames: tuple[str, ...] = (), template: str = "") -> bytes:
    """8 bytes. `component`: app, or app and sensor; `detail`: exit code, signal, mount; `template` counts only without frames."""
    parts = [str(kind), component, detail]
    if frames:
        parts += top_frames(frames)
    elif template:
        parts.append(normalise(template))
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
