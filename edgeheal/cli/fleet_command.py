# SPDX-License-Identifier: Apache-2.0
"""`edgeheal fleet command DEVICE ACTION [APP]`: sign a command on this machine, send it, tell what became of it.

Duty: body, signatures, publish, wait for results. The controller holds no key; neither key nor counter leaves this machine.
Invariants: never retained; expires; the command counter rises with every command of a key (`KEY.counter` beside the key).
"""

import argparse
import contextlib
import secrets
import time

from edgeheal.cli import broker_options, common, files
from edgeheal.core import reasons
from edgeheal.core.errors import AgentUnreachableError, EdgeHealError, LinkError, RefusedByPolicyError, TrustError, UsageError
from edgeheal.core.kinds import ActionCode, ResultState
from edgeheal.fleet import views
from edgeheal.fleet.session import Session
from edgeheal.fleet.watching import heard
from edgeheal.trust import envelope
from edgeheal.wire import birth, commands, results, topics
from edgeheal.wire.results import ResultRecord

ACTIONS = {code.name.lower().replace("_", "-"): code for code in ActionCode}
FINAL = (ResultState.DONE, ResultState.FAILED, ResultState.REFUSED, ResultState.EXPIRED)
BIRTH_S = 3.0


def add(words: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the word."""
    parser = words.add_parser("command", help="sign a command here and send it to a device")
    broker_options.add(parser)
    parser.add_argument("device", help="the device's id")
    parser.add_argument("action", choices=sorted(ACTIONS), help="what it is to do")
    parser.add_argument("app", nargs="?", default="", help="the app")
    parser.add_argument("--key", required=True, action="append", metavar="FILE", help="a private key that signs (may be said again: an approval each)")
    parser.add_argument("--key-password-file", metavar="FILE", help="password of encrypted keys")
    parser.add_argument("--image", default="", metavar="HEX", help="the image's id, where the action names one")
    parser.add_argument("--for", dest="seconds", type=int, default=0, metavar="S", help="how long (pause)")
    parser.add_argument("--text", default="", metavar="TEXT", help="what else the action needs: an incident's id to approve or reject")
    parser.add_argument("--expires", type=int, default=600, metavar="S", help="seconds after which it is void (default: 600)")
    parser.add_argument("--nonce", default="", metavar="HEX", help="the device's boot nonce (default: as its birth says)")
    parser.add_argument("--counter", type=int, default=0, metavar="N", help="the command counter (default: kept beside the key)")
    parser.add_argument("--wait", type=float, default=30.0, metavar="S", help="how long to wait for its result (default: 30)")
    parser.add_argument("-o", "--output", default="", metavar="FILE", help="write it to FILE and send nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sign, send, wait."""
    said = broker_options.config(args) if not args.output or args.config else None
    tenant = broker_options.tenant(args, said)
    action = ACTIONS[args.action]
    if args.output:
        sealed, command = seal(args, tenant, action, _hex(args.nonce, 8, "--nonce"))
        files.write(args.output, [sealed])
        common.say(f"{len(sealed)} bytes, command {command.command_id.hex()}")
        return 0
    session = Session(broker_options.address(args, said), f"eh-command-{secrets.token_hex(5)}", clean=True, keep_alive_s=30)
    try:
        session.subscribe(topics.of(tenant, args.device, topics.UP_STATE), topics.of(tenant, args.device, topics.UP_RESULT))
        nonce = _hex(args.nonce, 8, "--nonce") or (_boot_nonce(session, args.device) if action in commands.GRAVE else b"")
        sealed, command = seal(args, tenant, action, nonce)
        session.publish(topics.of(tenant, args.device, topics.DOWN_COMMAND), sealed, expiry_s=args.expires)
        steps = _results(session, command.command_id, args.wait)
    finally:
        session.close()
    return _tell(args, sealed, command, steps)


def seal(args: argparse.Namespace, tenant: str, action: ActionCode, nonce: bytes) -> tuple[bytes, commands.Command]:
    """The signed command and its value."""
    from edgeheal.cli.key import password
    from edgeheal.trust import sign

    keys = [sign.load(files.read(path, 16_384), password(args.key_password_file), place=path) for path in args.key]
    now = int(time.time())
    command = commands.Command(
        command_id=secrets.token_bytes(16), tenant=tenant, device=args.device, action=action, issued=now, expires=now + args.expires,
        by=keys[0].public[:8], counter=args.counter or next_counter(args.key[0], now), app=args.app, image=_hex(args.image, 32, "--image"),
        seconds=args.seconds, text=args.text, nonce=nonce,
    )  # fmt: skip
    sealed = envelope.Envelope(envelope.COMMAND, commands.encode_body(command))
    for key in keys:
        sealed = key.sign(sealed)
    return envelope.encode(sealed), command


def next_counter(key_path: str, now: int) -> int:
    """The key's next counter: the time, or one more than the last; kept beside the key where that can be written."""
    path = f"{key_path}.counter"
    last = 0
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        last = int(file.read(32))
    counter = max(now, last + 1)
    with contextlib.suppress(OSError, EdgeHealError):
        files.write(path, [str(counter).encode()], mode=0o600)
    return counter


def _hex(text: str, length: int, what: str) -> bytes:
    if not text:
        return b""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != length:
        raise UsageError(f"expected {2 * length} hex digits", place=what)
    return value


def _boot_nonce(session: Session, device: str) -> bytes:
    """The nonce in the device's retained birth."""
    end = time.monotonic() + BIRTH_S
    while (left := end - time.monotonic()) > 0:
        for message in session.wait(left):
            session.acknowledge([message.mid] if message.mid else [])  # in order: some brokers hang up otherwise
            found = heard(message, 0.0)
            if found is not None and isinstance(found.said, birth.Birth) and found.said.nonce:
                return found.said.nonce
    raise AgentUnreachableError(f"{device} has not said its boot nonce", hint="a grave command needs it: is the device online? else say --nonce HEX")


def _results(session: Session, command_id: bytes, seconds: float) -> list[ResultRecord]:
    """The steps of the command's life, until the last or `seconds` are over."""
    steps: dict[tuple[bytes, int], ResultRecord] = {}
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 or session.waiting():
        if left < -5:
            raise LinkError("the broker did not take the command")
        for message in session.wait(max(0.1, left)):
            session.acknowledge([message.mid] if message.mid else [])
            found = heard(message, 0.0)
            if found is not None and isinstance(found.said, ResultRecord) and found.said.result.command == command_id:
                steps[found.said.session, found.said.seq] = found.said
                if found.said.result.state in FINAL:
                    return list(steps.values())
    return list(steps.values())


def _tell(args: argparse.Namespace, sealed: bytes, command: commands.Command, steps: list[ResultRecord]) -> int:
    now = time.time()
    if args.json:
        documents = [views.result_document(args.device, s, received=now) for s in steps]
        common.put_json({"command": command.command_id.hex(), "bytes": len(sealed), "counter": command.counter, "results": documents})
    else:
        for step in steps:
            common.put(views.result_line(args.device, step, received=now))
    last = steps[-1].result if steps else None
    if last is None:
        common.say(f"sent ({len(sealed)} bytes); {args.device} has not answered within {args.wait:.0f} s")
        return AgentUnreachableError.exit_code
    return exit_code(last)


def exit_code(result: results.Result) -> int:
    """The command line's code for a command's last step."""
    if result.state == ResultState.REFUSED:
        return TrustError.exit_code if 40 <= result.reason < 60 else RefusedByPolicyError.exit_code
    if result.state == ResultState.EXPIRED:
        return RefusedByPolicyError.exit_code
    if result.state == ResultState.FAILED:
        return 7 if result.reason == reasons.IN_DOUBT else 1
    return 0
