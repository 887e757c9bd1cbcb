# SPDX-License-Identifier: Apache-2.0
"""`edgeheal challenge` and `edgeheal redeem TOKEN`: signed words at the box, without a network.

Duty: show what a token must answer; hand a token to the guard, as a file or as lines of text. It judges no signature.
Invariant: a token that is refused says why, and nothing is spent by it.
"""

import argparse
import os

from edgeheal.cli import common, door, files, refusal
from edgeheal.core import reasons
from edgeheal.core.errors import UsageError
from edgeheal.core.kinds import ActionCode
from edgeheal.wire import guard_frames as f
from edgeheal.wire import token_lines

MOST_TOKEN = 1_048_576
MOST_WORD = 73_728
LONG_S = 900.0


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both verbs."""
    challenge = subparsers.add_parser(
        "challenge", help="what a token must answer", description="What a signed token for this box, since this boot, must carry."
    )
    common.options(challenge)
    challenge.set_defaults(run=run_challenge)
    redeem = subparsers.add_parser("redeem", help="carry out a signed token", description="Hand a signed token to the guard; it is carried out once.")
    redeem.add_argument("token", metavar="TOKEN", help="a file, - for stdin, or the lines themselves in quotes")
    common.options(redeem)
    redeem.set_defaults(run=run_redeem)


def run_challenge(args: argparse.Namespace) -> int:
    """`challenge`."""
    with door.opened(args) as guard:
        answer = guard.ask(f.CHALLENGE)
        refusal.check(answer.reason, "challenge")
    nonce = answer.a.to_bytes(8, "big").hex()
    if args.json:
        common.put_json({"nonce": nonce, "counter": answer.b})
        return 0
    common.put(f"nonce    {nonce[:4]} {nonce[4:8]} {nonce[8:12]} {nonce[12:]}")
    common.put(f"counter  above {answer.b}")
    common.say("a token for this box: edgeheal fleet command DEVICE ACTION APP --nonce NONCE --counter N --key FILE -o TOKEN")
    return 0


def run_redeem(args: argparse.Namespace) -> int:
    """`redeem`."""
    data = _token(args.token)
    if len(data) > MOST_WORD:
        raise UsageError(f"a token of {len(data)} bytes; at most {MOST_WORD}", hint="is this the right file?")
    with door.opened(args, LONG_S) as guard, door.memory(data) as fd:
        answer = guard.ask(f.PRESENT, fd=fd, timeout_s=LONG_S)
    action = ActionCode(answer.a).name.lower().replace("_", "-") if answer.a in set(ActionCode) else "token"
    command = answer.image[:16].hex()
    if args.json:
        common.put_json({"action": action, "app": answer.app, "command": command, "counter": answer.b, "reason": reasons.word(answer.reason)})
        return 0 if answer.reason == reasons.OK else refusal.error(answer.reason, "redeem").exit_code
    refusal.check(answer.reason, f"{action} {answer.app}".strip())
    common.put(f"{action} {answer.app}: done".replace(" :", ":"))
    return 0


def _token(said: str) -> bytes:
    """The envelope's bytes: a file's content, or text lines."""
    if said != "-" and not os.path.exists(said) and "EH" in said:
        return token_lines.decode(said)
    data = files.read(said, MOST_TOKEN)
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return data
    return token_lines.decode(text) if "EH" in text else data
