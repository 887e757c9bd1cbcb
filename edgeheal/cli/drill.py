# SPDX-License-Identifier: Apache-2.0
"""`edgeheal drill list | run NAME...`: break something on purpose, on a device in a temporary folder.

Duty: name the drills of `lab.scenes` and play them with `lab.demo`. Invariant: no real device is touched; there is no `--root`.
"""

import argparse
from typing import Any

from edgeheal.cli import common
from edgeheal.core.errors import UsageError

EXAMPLES = """examples:
  edgeheal drill list
  edgeheal drill run kill hang
  edgeheal drill run bad-upgrade --json
"""


def add(subparsers: Any) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "drill", help="break something on purpose, in a safe place", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    listing = words.add_parser("list", help="the drills there are")
    playing = words.add_parser("run", help="play drills; exit status 0 only if every one healed as it should")
    playing.add_argument("name", nargs="+", metavar="NAME", help="see `edgeheal drill list`")
    for one, run in ((listing, _list), (playing, _run)):
        common.options(one, root=False)
        one.set_defaults(run=run)


def _known() -> dict[str, str]:
    from edgeheal.lab.scenes import SCENES  # the lab is loaded for its own verb only

    return {name: (scene.__doc__ or "").strip() for name, scene in SCENES.items()}


def _list(args: argparse.Namespace) -> int:
    known = _known()
    if args.json:
        common.put_json([{"name": name, "what": what} for name, what in known.items()])
        return 0
    for name, what in known.items():
        common.put(f"{name:<16} {what}")
    return 0


def _run(args: argparse.Namespace) -> int:
    from edgeheal.lab import demo

    unknown = [name for name in args.name if name not in _known()]
    if unknown:
        raise UsageError(f"no such drill: {', '.join(unknown)}", hint="see `edgeheal drill list`")
    return demo.main([*(["--json"] if args.json else []), *args.name])
