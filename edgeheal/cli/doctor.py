# SPDX-License-Identifier: Apache-2.0
"""`edgeheal doctor`: what is wrong with this installation, each line with the next step.

Duty: look at config, users, named files, trust, space, guard and agent; tell. It changes nothing. Exit 0 when all is well, 1 when not.
"""

import argparse
import os
from dataclasses import dataclass
from typing import Any

from edgeheal.cli import common
from edgeheal.core.errors import AgentUnreachableError
from edgeheal.core.layout import Layout

SPACE_LEAST = 64_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `step` is what to do, "" where it is well."""

    what: str
    says: str
    step: str = ""


def add(subparsers: Any) -> None:
    """Add the verb."""
    parser = subparsers.add_parser("doctor", help="what is wrong with this installation")
    common.options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The verb."""
    layout = common.layout(args)
    found = [*_config(layout), _trust(layout), _space(layout), _confined(), *_answers(layout)]
    ill = [f for f in found if f.step]
    if args.json:
        common.put_json({"ok": not ill, "findings": [{"what": f.what, "ok": not f.step, "says": f.says, "next": f.step} for f in found]})
        return 1 if ill else 0
    for one in found:
        common.put(f"{'WRONG' if one.step else 'ok':<6} {one.what:<8} {one.says}")
        if one.step:
            common.put(f"       next: {one.step}")
    return 1 if ill else 0


def _config(layout: Layout) -> list[Finding]:
    from edgeheal.config.accounts import resolve
    from edgeheal.config.load import load
    from edgeheal.config.references import references

    loaded = load(layout)
    problems = loaded.problems
    if loaded.config is not None:
        problems += resolve(loaded.config, loaded.origins)[1] + references(loaded.config, loaded.origins)
    if problems:
        return [Finding("config", f"{p.place()}: {p.sentence()}", p.hint()) for p in problems]
    return [Finding("config", ", ".join(t.path for t in loaded.texts) or "no file: the defaults")]


def _trust(layout: Layout) -> Finding:
    for folder in (layout.trust, layout.vendor_trust):
        try:
            if os.listdir(folder):
                return Finding("trust", folder)
        except FileNotFoundError:
            continue
        except OSError as fault:
            return Finding("trust", f"{folder}: {fault.strerror}", "run it as root")
    return Finding("trust", "this device trusts no key: no image can be installed", f"edgeheal key trust ... -o {layout.vendor_trust}/00001.eht")


def _space(layout: Layout) -> Finding:
    try:
        stat = os.statvfs(layout.var)
    except OSError as fault:
        return Finding("space", f"{layout.var}: {fault.strerror}", "start the guard, which makes its folders; is the data partition mounted?")
    free = stat.f_bavail * stat.f_frsize
    return Finding("space", f"{free // 1_000_000} MB free in {layout.var}", f"free space in {layout.var}" if free < SPACE_LEAST else "")


def _confined() -> Finding:
    from edgeheal.guard import seccomp

    says = "what reads images and signatures may make few calls of the kernel (seccomp)" if seccomp.supported() else "none: no list of calls for this machine"
    return Finding("seccomp", says)


def _answers(layout: Layout) -> list[Finding]:
    from edgeheal.adapters.guard_client import GuardDoor
    from edgeheal.cli.ask import ask

    found = []
    try:
        with GuardDoor(layout.guard_socket, timeout_s=5) as door:
            found.append(Finding("guard", f"answers; boundary: {door.hello.boundary}"))
    except AgentUnreachableError as fault:
        found.append(Finding("guard", str(fault), "start it: edgeheal guard"))
    try:
        ask(layout.control_socket, "status")
        found.append(Finding("agent", "answers"))
    except AgentUnreachableError as fault:
        found.append(Finding("agent", str(fault), "the guard starts it; else: edgeheal agent"))
    return found
