# SPDX-License-Identifier: Apache-2.0
"""`edgeheal`: finds the verb, imports only its module, runs it, turns typed errors into exit codes.

Duty: the way in. Each verb lives in the module named in `VERBS` and adds itself there with `add(subparsers)`.
Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 refused, 5 approval needed, 6 trust, 7 in doubt, 10 unhealthy, 130 interrupted.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from edgeheal.cli import common
from edgeheal.core.errors import EdgeHealError

# verb -> (module in edgeheal.cli, one line of help); several verbs may share a module
VERBS: dict[str, tuple[str, str]] = {
    "status": ("status", "what runs, what is wrong, the next step (also: `edgeheal` alone)"),
    "incidents": ("incidents", "open and past incidents"),
    "explain": ("incidents", "why: cause, evidence, what was done, what you can do"),
    "watch": ("watch", "status that follows"),
    "logs": ("apps", "what an app wrote"),
    "probe": ("apps", "run an app's probes now"),
    "start": ("device", "start an app and want it running"),
    "stop": ("device", "stop an app and want it stopped"),
    "restart": ("device", "restart an app"),
    "rollback": ("device", "back to the known-good image, also without network and with the agent dead"),
    "approve": ("device", "approve a waiting remedy"),
    "reject": ("device", "reject a waiting remedy"),
    "pause": ("device", "stop all remedies for a while"),
    "resume": ("device", "end a pause"),
    "challenge": ("device", "what a technician's token must answer"),
    "redeem": ("device", "carry out a signed token"),
    "image": ("image", "build, sign, verify, inspect, install, list, mark-good, allow"),
    "key": ("key", "make and show keys and trust"),
    "app": ("device", "an app's config and secrets"),
    "config": ("config", "check or show the device's config"),
    "drill": ("drill", "break something on purpose, in a safe place"),
    "replay": ("replay", "run a recording again, also with another policy"),
    "setup": ("setup", "give this device its identity: names, broker, key, certificate, trust"),
    "doctor": ("doctor", "what is wrong with this installation"),
    "agent": ("processes", "run the agent"),
    "guard": ("processes", "run the guard"),
    "controller": ("controller", "run the fleet's controller"),
    "fleet": ("fleet", "what the fleet reports"),
}

EXAMPLES = """examples:
  edgeheal                                  status and the next step
  edgeheal explain                          the worst open incident
  edgeheal rollback sensor-gw               back to the known-good image
  edgeheal image build ./app --key k.key -o app.ehi
  edgeheal image install app.ehi
  edgeheal fleet tail --broker localhost
"""


def _parser(module_name: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeheal",
        description="Keeps the applications of this gateway alive.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgeheal {_version()}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    if module_name is not None:
        importlib.import_module(f"edgeheal.cli.{module_name}").add(verbs)
    for verb, (_, line) in VERBS.items():
        if verb not in verbs.choices:
            verbs.add_parser(verb, help=line, add_help=False)
    return parser


def _version() -> str:
    from edgeheal.core.version import VERSION

    return VERSION


def _verb(argv: Sequence[str]) -> str | None:
    return next((word for word in argv if not word.startswith("-")), None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the process's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not any(w in ("-h", "--help", "--version") for w in words) and _bare(words):
        words = ["status", "--next", *words]
    words = _options_last(words)
    verb = _verb(words)
    parser = _parser(VERBS[verb][0] if verb in VERBS else None)
    args = parser.parse_args(words)
    as_json = getattr(args, "json", False)
    try:
        return int(args.run(args))
    except EdgeHealError as error:
        return common.fail(error, as_json=as_json)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _options_last(words: list[str]) -> list[str]:
    """`--root DIR` and `--json` may stand before the verb; the verb's own parser takes them, so they are moved behind its words."""
    rest, ahead = list(words), list[str]()
    while rest and (rest[0] == "--json" or rest[0].startswith("--root=") or (rest[0] == "--root" and len(rest) > 1)):
        count = 2 if rest[0] == "--root" else 1
        ahead += rest[:count]
        rest = rest[count:]
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *ahead, *rest[end:]]


def _bare(words: Sequence[str]) -> bool:
    """Whether no verb was said: only `--root DIR` and `--json`."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--root" and rest:
            rest.pop(0)
        elif not (word.startswith("--root=") or word == "--json"):
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
