# SPDX-License-Identifier: Apache-2.0
"""`edgeheal app config set | restore` and `edgeheal app secret set`: an app's config and secrets, at the guard's door.

Duty: read the content, hand it over as a sealed descriptor. Invariant: a secret comes from stdin only and is shown nowhere.
"""

import argparse
import getpass
import sys

from edgeheal.cli import common, door, files, refusal
from edgeheal.core.errors import UsageError
from edgeheal.wire import guard_frames as f

MOST_CONFIG = 4 * 1024 * 1024
MOST_SECRET = 64 * 1024
LONG_S = 120.0


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `app`."""
    parser = subparsers.add_parser("app", help="an app's config and secrets", description="An app's config and secrets.")
    kinds = parser.add_subparsers(dest="app_kind", metavar="config|secret", required=True)
    config = kinds.add_parser("config", help="its config").add_subparsers(dest="app_verb", metavar="VERB", required=True)
    put = config.add_parser("set", help="a new live config; the image's own check is asked first")
    put.add_argument("app", metavar="APP")
    put.add_argument("file", metavar="FILE", help="the content, or - for stdin")
    common.options(put)
    put.set_defaults(run=run_set)
    back = config.add_parser("restore", help="the last config that was known good, and a restart")
    back.add_argument("app", metavar="APP")
    common.options(back)
    back.set_defaults(run=run_restore)
    secret = kinds.add_parser("secret", help="its secrets").add_subparsers(dest="app_verb", metavar="VERB", required=True)
    hide = secret.add_parser("set", help="a secret, read from stdin; the app finds it as a file in EDGEHEAL_SECRETS")
    hide.add_argument("app", metavar="APP")
    hide.add_argument("name", metavar="NAME")
    common.options(hide)
    hide.set_defaults(run=run_secret)


def _done(args: argparse.Namespace, said: str) -> int:
    if args.json:
        common.put_json({"app": args.app, "done": said})
    else:
        common.put(f"{args.app}: {said}")
    return 0


def run_set(args: argparse.Namespace) -> int:
    """`app config set`."""
    data = files.read(args.file, MOST_CONFIG)
    with door.opened(args, LONG_S) as guard, door.memory(data) as fd:
        refusal.check(guard.ask(f.SET_CONFIG, app=args.app, fd=fd, timeout_s=LONG_S).reason, f"config of {args.app}")
    return _done(args, "config set")


def run_restore(args: argparse.Namespace) -> int:
    """`app config restore`."""
    with door.opened(args, LONG_S) as guard:
        refusal.check(guard.ask(f.RESTORE_CONFIG, app=args.app, timeout_s=LONG_S).reason, f"config of {args.app}")
    return _done(args, "last known good config restored")


def run_secret(args: argparse.Namespace) -> int:
    """`app secret set`."""
    if len(args.name.encode()) > 32:
        raise UsageError("a secret's name is at most 32 bytes", hint="choose a shorter name")
    data = getpass.getpass("secret: ").encode() if sys.stdin.isatty() else files.read("-", MOST_SECRET)
    with door.opened(args, LONG_S) as guard, door.memory(data) as fd:
        refusal.check(guard.ask(f.SET_SECRET, app=args.app, image=args.name.encode(), fd=fd, timeout_s=LONG_S).reason, f"secret of {args.app}")
    return _done(args, f"secret {args.name} set; it is read at the app's next start")
