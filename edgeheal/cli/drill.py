# SPDX-License-Identifier: Apache-2.0
"""`edgeheal drill list | run NAME...`: break something on purpose, on a device in a temporary folder; or on this box, within limits.

Duty: name the drills of `lab.scenes` and play them with `lab.demo`; with `--on-this-box` those of `lab.on_box`, after consent.
Invariants: without `--on-this-box` no real device is touched; with it nothing happens before somebody said yes, and nothing after the time limit.
"""

import argparse
import sys
import syslog
from typing import Any

from edgeheal.cli import common, door
from edgeheal.core.errors import RefusedByPolicyError, UsageError
from edgeheal.core.layout import Layout

EXAMPLES = """examples:
  edgeheal drill list
  edgeheal drill run kill hang
  edgeheal drill run bad-upgrade --json
  edgeheal drill run kill hang --on-this-box --app historian --for 10m --yes    a real app of this box is hurt, and must heal
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
    playing.add_argument("--on-this-box", action="store_true", help="hurt an app of this box (kill, hang, agent-killed); it must be well and known good")
    playing.add_argument("--app", default="", metavar="APP", help="with --on-this-box: which app (default: the only one)")
    playing.add_argument("--for", dest="seconds", type=door.seconds, default=600, metavar="TIME", help="with --on-this-box: over by then (default: 10m)")
    playing.add_argument("--yes", action="store_true", help="with --on-this-box: consent, where nobody can be asked")
    common.options(listing, root=False)
    common.options(playing)
    listing.set_defaults(run=_list)
    playing.set_defaults(run=_run)


def _known() -> dict[str, str]:
    from edgeheal.lab.scenes import SCENES  # the lab is loaded for its own verb only

    return {name: (scene.__doc__ or "").strip() for name, scene in SCENES.items()}


def _list(args: argparse.Namespace) -> int:
    from edgeheal.lab.on_box import DRILLS

    known = _known()
    if args.json:
        common.put_json([{"name": name, "what": what, "here": name in DRILLS} for name, what in known.items()])
        return 0
    for name, what in known.items():
        common.put(f"{name:<16} {what}{'  (also --on-this-box)' if name in DRILLS else ''}")
    return 0


def _run(args: argparse.Namespace) -> int:
    from edgeheal.lab import demo

    unknown = [name for name in args.name if name not in _known()]
    if unknown:
        raise UsageError(f"no such drill: {', '.join(unknown)}", hint="see `edgeheal drill list`")
    if args.on_this_box:
        return _here(args)
    return demo.main([*(["--json"] if args.json else []), *args.name])


def _here(args: argparse.Namespace) -> int:
    """On this box, after consent."""
    from edgeheal.config.last_good import in_force
    from edgeheal.lab import demo, on_box

    layout = common.layout(args)
    other = [name for name in args.name if name not in on_box.DRILLS]
    if other:
        raise UsageError(f"not on a box: {', '.join(other)}", hint=f"there: {', '.join(on_box.DRILLS)}")
    config = in_force(layout, layout.agent, keep=False).config
    app, _, _ = on_box.choose(on_box.OnBox(layout.root), config, args.app)
    _consent(args, layout, app, config.device.id or "this device")
    syslog.openlog("edgeheal")
    syslog.syslog(syslog.LOG_NOTICE, f"{door.me()} drills {app}: {' '.join(args.name)}, for at most {args.seconds} s")
    results = on_box.play(layout.root, config, args.name, app, float(args.seconds))
    if args.json:
        common.put_json({"scenes": [r.to_json() | {"note": r.note} for r in results], "lost": 0, "doubled": 0})
    for result in results if not args.json else []:
        common.put(f"{result.name}: {demo.verdict(result).strip()}")
    return 0 if all(r.ok for r in results) else 1


def _consent(args: argparse.Namespace, layout: Layout, app: str, device: str) -> None:
    """Nothing is hurt before somebody said yes."""
    if args.yes:
        return
    if args.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RefusedByPolicyError("a drill on a real box needs consent", hint="say --yes")
    sys.stderr.write(f"{app} of {device} ({layout.root}) will be hurt: {', '.join(args.name)}. The fleet will see its incidents. Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedByPolicyError("not consented", hint="say y, or --yes")
