# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing (atheris, where it is installed) of every parser that meets bytes from outside; Hypothesis does the same in the tests.

Each target runs in its own process for BENCH_FUZZ_S seconds (default 20). `untyped` counts ends that were neither a value nor a typed error.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TARGETS = (
    "config", "image_toml", "bundle", "manifest", "tree", "index", "patch", "inflate", "envelope", "summary", "command", "policy", "guard_event",
    "notify", "records",
)  # fmt: skip


def run() -> dict[str, Any]:
    """The figures; {"skipped": why} without atheris."""
    if importlib.util.find_spec("atheris") is None:
        return {"skipped": "atheris is not installed (pip install atheris, CPython up to 3.13)"}
    seconds = os.environ.get("BENCH_FUZZ_S", "20")
    found: dict[str, Any] = {}
    untyped = 0
    with tempfile.TemporaryDirectory(prefix="bench-fuzz-") as folder:
        for name in TARGETS:
            words = [sys.executable, str(HERE / "fuzz_one.py"), name, seconds, folder]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            runs = re.search(r"stat::number_of_executed_units: *(\d+)", done.stderr)
            found[name] = {"runs": int(runs[1]) if runs else 0, "ok": done.returncode == 0}
            if done.returncode:
                untyped += 1
                found[name]["said"] = _said(done.stderr + done.stdout)
    return {"untyped": untyped, "seconds_each": int(seconds), "targets": found}


def _said(text: str) -> str:
    """The exception's own lines."""
    lines = [line for line in text.splitlines() if "Error" in line or "Exception" in line or "File" in line]
    return " | ".join(lines[-6:])[-600:]
