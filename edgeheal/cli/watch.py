# SPDX-License-Identifier: Apache-2.0
"""`edgeheal watch`: status that follows. Redraws only the cells that changed; `--json` prints events, one a line.

Duty: follow the agent's events and keep a screen. Invariants: on no terminal it prints lines instead of a screen; a full screen is
at most 24 lines of 80 columns, so that a serial line at 9600 baud shows it in two seconds.
"""

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Iterator

from edgeheal.cli import common, render
from edgeheal.cli.ask import watch
from edgeheal.cli.status import document, width

HOME, CLEAR, LINE_END = "\x1b[H", "\x1b[2J", "\x1b[K"


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser("watch", help="status that follows")
    common.options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Follow until the reader stops or the agent ends."""
    path = common.layout(args).control_socket
    if args.json:
        for event in watch(path):  # the first line is the agent's answer: from there on nothing is missed
            said = event if "event" in event else {"event": "watching"}
            sys.stdout.write(json.dumps(said, separators=(",", ":")) + "\n")
            sys.stdout.flush()
        return 3
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        for event in watch(path):
            if event.get("event") == "incident":
                common.put(f"{time.strftime('%H:%M:%S')} {event['id']} {render.clean(event['says'])}")
            elif event.get("event") == "app":
                common.put(f"{time.strftime('%H:%M:%S')} {event['app']} {event['state']} {render.clean(event['version'])}")
            sys.stdout.flush()
        return 3
    return follow(args)


def follow(args: argparse.Namespace) -> int:
    """The screen: drawn once, then only what changed."""
    import termios
    import tty

    stdin = sys.stdin.fileno()
    saved = termios.tcgetattr(stdin) if sys.stdin.isatty() else None
    shown: list[str] = []
    try:
        if saved is not None:
            tty.setcbreak(stdin)
        sys.stdout.write(CLEAR)
        while True:
            lines = ["$ edgeheal watch".ljust(width() - 22) + "[q]uit [e]xplain", *render.status(document(args), width())]
            sys.stdout.write("".join(changes(shown, lines)))
            sys.stdout.flush()
            shown = lines
            ready, _, _ = select.select([stdin] if saved is not None else [], [], [], 1.0)
            key = os.read(stdin, 1) if ready else b""
            if key in (b"q", b"\x03"):
                return 0
            if key == b"e":
                return _explain(args)
    finally:
        if saved is not None:
            termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
        sys.stdout.write(f"\x1b[{len(shown) + 1};1H")


def _explain(args: argparse.Namespace) -> int:
    from edgeheal.cli import incidents

    sys.stdout.write(HOME + CLEAR)
    args.incident = ""
    return incidents.run_explain(args)


def changes(old: list[str], new: list[str]) -> Iterator[str]:
    """What to send so that a screen showing `old` shows `new`: only the stretches of lines that differ."""
    for number in range(max(len(old), len(new))):
        before = old[number] if number < len(old) else ""
        after = new[number] if number < len(new) else ""
        if before == after:
            continue
        start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
        yield f"\x1b[{number + 1};{start + 1}H{after[start:]}" + (LINE_END if len(after) < len(before) else "")
