# SPDX-License-Identifier: Apache-2.0
"""`edgeheal agent` and `edgeheal guard`: become the resident process, leaving the command line's memory behind.

Duty: exec a light interpreter. Invariant: nothing of the command line stays resident.
"""

import argparse
import os
import sys
import sysconfig

from edgeheal.cli import common
from edgeheal.core.program import argv


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both verbs."""
    guard = subparsers.add_parser("guard", help="run the guard", description="The privileged half: starts apps, watches them, carries out what is allowed.")
    guard.add_argument("--root", default=os.environ.get("EDGEHEAL_ROOT", "/"), metavar="DIR", help="the device lives below DIR (default: /)")
    _log_level(guard)
    guard.set_defaults(run=run_guard)
    agent = subparsers.add_parser("agent", help="run the agent", description="The unprivileged half: senses, decides, journals, reports.")
    agent.add_argument("--root", default=os.environ.get("EDGEHEAL_ROOT", "/"), metavar="DIR", help="the device lives below DIR (default: /)")
    _log_level(agent)
    agent.set_defaults(run=run_agent)


def _log_level(parser: argparse.ArgumentParser) -> None:
    levels = ("error", "warning", "info", "debug")
    said = os.environ.get("EDGEHEAL_LOG_LEVEL", "")
    parser.add_argument("--log-level", default=said if said in levels else "info", choices=levels, help="what is told on stderr (default: info)")


def package_parent() -> str:
    """The folder that holds the package, by its real name: what is resident goes on with the files of its own version when a link is turned to the next."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def third_parties() -> list[str]:
    """The folders that hold what the agent and the children import."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *[p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]]
    return list(dict.fromkeys(map(os.path.realpath, folders)))


def run_guard(args: argparse.Namespace) -> int:
    """Become the guard."""
    root = common.layout(args).root
    libraries = ":".join(third_parties())
    os.environ["EDGEHEAL_LOG_LEVEL"] = args.log_level  # for an agent that it starts, too
    words = argv(sys.executable, [package_parent()], "edgeheal.guard.main", "--root", root, "--libraries", libraries)
    os.execv(words[0], words)  # noqa: S606 - our own interpreter
    return 1


def run_agent(args: argparse.Namespace) -> int:
    """Become the agent."""
    root = common.layout(args).root
    words = argv(sys.executable, [package_parent(), *third_parties()], "edgeheal.agent.main", "--root", root, "--log-level", args.log_level)
    os.execv(words[0], words)  # noqa: S606 - our own interpreter
    return 1
