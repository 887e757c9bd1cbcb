# SPDX-License-Identifier: Apache-2.0
"""`edgeheal status`, and `edgeheal` alone: what runs, what is wrong, the next step.

Duty: ask the agent, else the guard, else the files; render, or print the document. `--check` answers by exit code for monitors.
"""

import argparse
import shutil
import time
from typing import Any

from edgeheal.cli import common, render
from edgeheal.cli.ask import ask
from edgeheal.core.errors import AgentUnreachableError

HEALTHY, UNHEALTHY = 0, 10
EXAMPLES = """examples:
  edgeheal status
  edgeheal status --json
  edgeheal status --check --wait 30s    exit 0 once all is well, 10 if it is not by then
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "status", help="what runs, what is wrong, the next step", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common.options(parser)
    parser.add_argument("--check", action="store_true", help="exit 0 when all is well, 10 when not, 3 when nobody answers")
    parser.add_argument("--wait", metavar="T", default="", help="with --check: wait up to T (such as 30s) for it to be well")
    parser.add_argument("--next", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def document(args: argparse.Namespace) -> dict[str, Any]:
    """The status document, from whoever answers."""
    layout = common.layout(args)
    try:
        answer = ask(layout.control_socket, "status")
    except AgentUnreachableError:
        from edgeheal.cli import offline

        return offline.status(layout)
    return {k: v for k, v in answer.items() if k not in ("id", "ok")}


def run(args: argparse.Namespace) -> int:
    """Print it, or check it."""
    if args.check:
        return check(args)
    doc = document(args)
    if args.json:
        common.put_json(doc)
    else:
        if not args.next and doc["shown"] == "OK":
            doc["next"] = ""
        for line in render.status(doc, width()):
            common.put(line)
    return 0


def check(args: argparse.Namespace) -> int:
    """The exit code for monitors and scripts."""
    end = time.monotonic() + (common.seconds_of(args.wait) if args.wait else 0.0)
    while True:
        doc = document(args)
        well = doc["shown"] in ("OK", "PAUSED") and all(row["wanted"] != "running" or row["pid"] for row in doc["apps"])
        left = end - time.monotonic()
        if well or left <= 0:
            break
        time.sleep(min(0.25, left))
    code = HEALTHY if well else UNHEALTHY
    if not well and doc["guard"] == "gone":
        code = AgentUnreachableError.exit_code
    if args.json:
        common.put_json({"well": well, "shown": doc["shown"], "exit_code": code})
    else:
        common.put(doc["shown"])
    return code


def width() -> int:
    """Columns of the terminal, 80 without one."""
    return shutil.get_terminal_size((80, 24)).columns
