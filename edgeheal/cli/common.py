# SPDX-License-Identifier: Apache-2.0
"""What every verb of the command line shares: root, --json, errors, data on stdout and talk on stderr.

Duty: options, output and exit codes. Invariant: stdout carries data only; no colour without a terminal; no prompt.
"""

import argparse
import json
import os
import sys
from typing import Any

from edgeheal.core.errors import EdgeHealError, UsageError
from edgeheal.core.layout import Layout


def options(parser: argparse.ArgumentParser, *, root: bool = True) -> None:
    """Add `--root` and `--json` to a verb. `EDGEHEAL_ROOT` is the default root."""
    if root:
        parser.add_argument("--root", default=os.environ.get("EDGEHEAL_ROOT", "/"), metavar="DIR", help="the device lives below DIR (default: /)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def layout(args: argparse.Namespace) -> Layout:
    """The layout below `--root`."""
    return Layout(os.path.abspath(args.root))


def put_json(value: Any) -> None:
    """One JSON document on stdout; bytes as hex."""
    json.dump(value, sys.stdout, default=_plain, separators=(",", ":") if not sys.stdout.isatty() else None, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(type(value).__name__)


def put(text: str = "") -> None:
    """A line of data on stdout; what the terminal cannot show is escaped, never an error."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def say(text: str) -> None:
    """A line of talk on stderr."""
    encoding = sys.stderr.encoding or "ascii"
    sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def fail(error: EdgeHealError, *, as_json: bool) -> int:
    """Tell an error with its next step; its exit code."""
    if as_json:
        put_json({"error": {"id": error.message_id, "message": str(error), "place": error.place, "hint": error.hint, "exit_code": error.exit_code}})
    say(f"edgeheal: {error}")
    say(f"  next: {error.hint}")
    return error.exit_code


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def seconds_of(text: str) -> float:
    """`30s`, `2h`, `1d`: a length of time with its unit; UsageError for anything else."""
    for unit in sorted(_UNITS, key=len, reverse=True):
        number = text.removesuffix(unit)
        if number != text and number.isdigit():
            return int(number) * _UNITS[unit]
    raise UsageError(f"{text!r} is no length of time", hint="write a number and its unit: 30s, 5m, 2h, 1d")
