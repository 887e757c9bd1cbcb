# SPDX-License-Identifier: Apache-2.0
"""`edgeheal doctor`: what is wrong with this installation, each line with the next step; `--archive FILE`: the same, with evidence, for support.

Duty: run the checks of `cli.doctor_checks`, tell; hand over to `cli.doctor_archive`. It changes nothing. Exit 0 when all is well, 1 when not.
"""

import argparse
from typing import Any

from edgeheal.cli import common
from edgeheal.cli.doctor_checks import Finding, all_of

EXAMPLES = """examples:
  edgeheal doctor
  edgeheal doctor --json
  edgeheal doctor --archive case.tar.gz    secrets are masked; look at manifest.json in it before you send it
"""


def add(subparsers: Any) -> None:
    """Add the verb."""
    parser = subparsers.add_parser("doctor", help="what is wrong with this installation", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", metavar="FILE", default="", help="write a support archive (.tar.gz): an allow-list, secrets masked, with a manifest")
    common.options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The verb."""
    layout = common.layout(args)
    if args.archive:
        from edgeheal.cli import doctor_archive

        return doctor_archive.run(layout, args.archive, as_json=args.json)
    found = all_of(layout)
    ill = [f for f in found if f.step]
    if args.json:
        common.put_json(document(found))
        return 1 if ill else 0
    for one in found:
        common.put(f"{'WRONG' if one.step else 'ok':<6} {one.what:<8} {one.says}")
        if one.step:
            common.put(f"       next: {one.step}")
    return 1 if ill else 0


def document(found: list[Finding]) -> dict[str, Any]:
    """For `--json` and the archive."""
    return {
        "ok": not any(f.step for f in found),
        "findings": [{"what": f.what, "ok": not f.step, "says": f.says, "next": f.step} for f in found],
    }
