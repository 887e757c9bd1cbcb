# SPDX-License-Identifier: Apache-2.0
"""`edgeheal key`: make keys, make and sign trust versions, show either.

Duty: the offline half of trust, on an operator's machine. It changes no device.
Invariants: a private key is written 0600 and never over another; a trust version is written only if it decodes, and the command
says whose signatures are still missing.
"""

import argparse
import getpass
import os
import sys
from typing import TYPE_CHECKING, Any

from edgeheal.cli import common, files
from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError, TrustError, UsageError

if TYPE_CHECKING:
    from edgeheal.trust.document import Role, Trust
    from edgeheal.trust.envelope import Envelope

ROLES = ("root", "release", "operator", "technician")
_EXAMPLES = """examples:
  edgeheal key new --role root -o root.key
  edgeheal key new --role release -o release.key
  edgeheal key trust --root-key root.key --release release.key -o 00001.eht
  edgeheal key trust --from 00001.eht --root-key root.key --revoke-id ID -o 00002.eht
  edgeheal key sign 00002.eht --key second-root.key
  edgeheal key show 00002.eht
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `key` with its verbs."""
    parser = subparsers.add_parser("key", help="make and show keys and trust", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="key_verb", metavar="VERB", required=True)
    _add_new(verbs)
    _add_trust(verbs)
    sign = verbs.add_parser("sign", help="add a root signature to a trust version")
    sign.add_argument("file", help="the .eht file; its last version is signed")
    sign.add_argument("--key", required=True, action="append", metavar="FILE", help="a root's private key (may be said again)")
    sign.add_argument("--password-file", metavar="FILE", help="password of encrypted keys")
    sign.add_argument("--from", dest="base", metavar="EHT", help="the version before, to say what is still missing")
    common.options(sign, root=False)
    sign.set_defaults(run=run_sign)
    show = verbs.add_parser("show", help="what a key or trust file says; without a file: what this device trusts")
    show.add_argument("file", nargs="*", help="key, public key or .eht file")
    common.options(show)
    show.set_defaults(run=run_show)


def _add_new(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    new = verbs.add_parser("new", help="make an Ed25519 key pair: FILE (private, 0600) and FILE.pub")
    new.add_argument("--role", choices=ROLES, default="release", help="what it is for; names the file unless -o does (default: release)")
    new.add_argument("-o", "--output", metavar="FILE", help="where the private key goes (default: ROLE.key)")
    new.add_argument("--password-file", metavar="FILE", help="encrypt it with the first line of FILE (- asks on a terminal)")
    common.options(new, root=False)
    new.set_defaults(run=run_new)


def _add_trust(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    trust = verbs.add_parser(
        "trust", help="make trust version 1, or the version after --from", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    trust.add_argument("--from", dest="base", metavar="EHT", help="the newest version so far; what is not said again stays as it is there")
    trust.add_argument("--root-key", action="append", default=[], metavar="FILE", help="private root key: signs; and stands in the root role of version 1")
    for role in ROLES:
        trust.add_argument(f"--{role}", action="append", default=[], metavar="KEY", help=f"a key of the {role} role: file or 64 hex digits (may be said again)")
    trust.add_argument("--threshold", action="append", default=[], metavar="ROLE=N", help="so many of a role's keys must sign (default: 1, or as in --from)")
    trust.add_argument("--app-release", action="append", default=[], metavar="APP=KEY", help="a release key for one app alone")
    trust.add_argument("--floor", action="append", default=[], metavar="APP=EPOCH:N", help="the app's security floor")
    trust.add_argument("--revoke-id", action="append", default=[], metavar="HEX", help="an image id that must not run")
    trust.add_argument("--revoke-key", action="append", default=[], metavar="KEY", help="a key that must not count")
    trust.add_argument("--keep", action="append", default=[], metavar="HEX", help="a revoked image id that may run on where nothing else is admitted")
    trust.add_argument("--password-file", metavar="FILE", help="password of encrypted keys")
    trust.add_argument("-o", "--output", required=True, metavar="EHT")
    common.options(trust, root=False)
    trust.set_defaults(run=run_trust)


def password(path: str | None) -> bytes | None:
    """The password in a file's first line, or asked for on a terminal with `-`."""
    if path is None:
        return None
    if path == "-":
        if not sys.stdin.isatty():
            raise UsageError("a password can be asked for on a terminal only", hint="put it in a file and name that")
        return getpass.getpass("password: ").encode()
    return files.read(path, 4096).split(b"\n", 1)[0].rstrip(b"\r")


def run_new(args: argparse.Namespace) -> int:
    """`key new`."""
    from edgeheal.trust import sign

    path = args.output or f"{args.role}.key"
    key = sign.new()
    files.write(path, [key.pem(password(args.password_file))], mode=0o600, replace=False)
    files.write(f"{path}.pub", [key.public_pem()], replace=False)
    if args.json:
        common.put_json({"role": args.role, "key": key.public, "private": path, "public": f"{path}.pub"})
    else:
        common.put(f"{args.role} key {key.public.hex()}")
        common.say(f"private {path} (keep it off the devices), public {path}.pub")
        common.say("next: edgeheal key trust --root-key ROOT --release RELEASE -o 00001.eht")
    return 0


def run_trust(args: argparse.Namespace) -> int:
    """`key trust`."""
    from edgeheal.trust import document, sign

    signing = [sign.load(files.read(path, 16_384), password(args.password_file), place=path) for path in args.root_key]
    base = _last(args.base) if args.base else None
    held = document.decode(base.body, shared_keys=True) if base else None
    if held is None and not (args.root_key or args.root):
        raise UsageError("version 1 needs --root-key", hint="make one with `edgeheal key new --role root -o root.key`")
    trust = _document(args, held, [key.public for key in signing])
    envelope = trust.envelope()
    document.decode(envelope.body)
    for key in signing:
        envelope = key.sign(envelope)
    _write(args, envelope, trust, held)
    return 0


def _document(args: argparse.Namespace, held: "Trust | None", own: list[bytes]) -> "Trust":
    from edgeheal.trust.document import AppTrust, Trust

    roles = dict(held.roles) if held else {}
    if held is None and not args.root:
        roles["root"] = _role(own, 1)
    for role in ROLES:
        said = [_public(word) for word in getattr(args, role)]
        if said:
            roles[role] = _role(said, roles[role].threshold if role in roles else 1)
    for word in args.threshold:
        role, number = _pair(word, "--threshold", "ROLE=N")
        if role not in roles:
            raise UsageError(f"{role} has no keys here", place="--threshold", hint=f"name one with --{role}")
        roles[role] = _role(list(roles[role].keys), _number(number, "--threshold"))
    apps = dict(held.apps) if held else {}
    own_keys: dict[str, list[bytes]] = {}
    for word in args.app_release:
        app, key = _pair(word, "--app-release", "APP=KEY")
        own_keys.setdefault(app, []).append(_public(key))
    for app, keys in own_keys.items():
        apps[app] = AppTrust(_role(keys, 1), apps[app].floor if app in apps else (0, 0))
    for word in args.floor:
        app, floor = _pair(word, "--floor", "APP=EPOCH:N")
        epoch, counter = _pair(floor, "--floor", "APP=EPOCH:N", ":")
        apps[app] = AppTrust(apps[app].release if app in apps else None, (_number(epoch, "--floor"), _number(counter, "--floor")))
    ids = (held.revoked_ids if held else frozenset()) | {_digest(word, "--revoke-id") for word in [*args.revoke_id, *args.keep]}
    keys_out = (held.revoked_keys if held else frozenset()) | {_public(word) for word in args.revoke_key}
    keep = (held.keep if held else frozenset()) | {_digest(word, "--keep") for word in args.keep}
    return Trust(held.n + 1 if held else 1, roles, apps, ids, keys_out, keep)


def _role(keys: list[bytes], threshold: int) -> "Role":
    from edgeheal.trust.document import Role

    return Role(threshold, tuple(sorted(set(keys))))


def run_sign(args: argparse.Namespace) -> int:
    """`key sign`."""
    from edgeheal.trust import document, envelope, sign

    data = files.read(args.file, envelope.MAX_CHAIN)
    chain = list(envelope.decode_chain(data))
    if not chain:
        raise TrustError("holds no trust document", place=args.file)
    last = chain[-1]
    for path in args.key:
        last = sign.load(files.read(path, 16_384), password(args.password_file), place=path).sign(last)
    trust = document.decode(last.body, shared_keys=True)
    base = chain[-2] if len(chain) > 1 else _last(args.base) if args.base else None
    held = document.decode(base.body, shared_keys=True) if base else None
    args.output = args.file
    _write(args, last, trust, held, before=chain[:-1])
    return 0


def _write(args: argparse.Namespace, envelope: "Envelope", trust: "Trust", held: "Trust | None", before: "list[Envelope] | None" = None) -> None:
    from edgeheal.trust.envelope import encode
    from edgeheal.trust.verify import signers

    files.write(args.output, [encode(one) for one in [*(before or []), envelope]])
    by = signers(envelope)
    missing = [text for text in (_missing(trust, by), _missing(held, by) if held else "") if text]
    if args.json:
        common.put_json({"file": args.output, "n": trust.n, "signatures": len(by), "complete": not missing, "missing": missing, "trust": trust.to_plain()})
        return
    common.put(f"trust version {trust.n}: {args.output}, {len(by)} signature{'s' if len(by) != 1 else ''}")
    for text in missing:
        common.say(f"  still missing: {text}")
    if missing:
        common.say(f"next: edgeheal key sign {args.output} --key ROOT-KEY")


def _missing(trust: "Trust", by: frozenset[bytes]) -> str:
    role = trust.role("root")
    if role is None or trust.judge(by, "root") == reasons.OK:
        return ""
    have = len(by.intersection(role.keys) - trust.revoked_keys)
    return f"{role.threshold - have} more of the {len(role.keys)} root keys of version {trust.n}"


def run_show(args: argparse.Namespace) -> int:
    """`key show`."""
    shown: list[dict[str, Any]] = []
    for path in args.file or _device_files(args):
        shown += _show(path)
    if args.json:
        common.put_json(shown)
    else:
        for one in shown:
            _put(one)
    return 0


def _device_files(args: argparse.Namespace) -> list[str]:
    layout = common.layout(args)
    found: list[str] = []
    for folder in (layout.vendor_trust, layout.trust):
        try:
            found += sorted(f"{folder}/{name}" for name in os.listdir(folder) if name.endswith(".eht"))
        except PermissionError:
            common.say(f"edgeheal: {folder} can be read by root only")
        except OSError:
            continue
    if not found:
        raise TrustError("no trust document on this device", place=layout.vendor_trust, hint="put 00001.eht there; make it with `edgeheal key trust`")
    return found


def _show(path: str) -> list[dict[str, Any]]:
    from edgeheal.trust import document, envelope, sign
    from edgeheal.trust.verify import signers

    data = files.read(path, envelope.MAX_CHAIN)
    if b"-----BEGIN" in data[:64] or len(data.strip()) == 64:
        private = b"PRIVATE KEY" in data[:64]
        return [{"file": path, "kind": "private key" if private else "public key", "key": sign.load_public(data, place=path)}]
    try:
        chain = envelope.decode_chain(data)
    except EdgeHealError as fault:
        raise TrustError("is neither a key nor a trust file", reason=reasons.MALFORMED, place=path, hint=fault.message) from None
    shown: list[dict[str, Any]] = []
    for one in chain:
        trust = document.decode(one.body, shared_keys=True)
        by = signers(one)
        shown.append(
            {"file": path, "kind": "trust", "n": trust.n, "signed_by": sorted(by), "self_signed": trust.judge(by, "root") == reasons.OK} | trust.to_plain()
        )
    return shown


def _put(one: dict[str, Any]) -> None:
    if one["kind"] != "trust":
        common.put(f"{one['file']}: {one['kind']} {one['key'].hex()}")
        return
    state = "" if one["self_signed"] else "   NOT signed by enough of its own root keys"
    common.put(f"{one['file']}: trust version {one['n']}, {len(one['signed_by'])} signatures{state}")
    for role, (threshold, keys) in sorted(one["roles"].items(), key=lambda item: ROLES.index(item[0])):
        common.put(f"  {role:<11}{threshold} of {len(keys)}  {'  '.join(key.hex()[:16] for key in keys)}")
    for app, said in sorted(one["apps"].items()):
        own = f"  release {said['release'][0]} of {len(said['release'][1])}" if "release" in said else ""
        common.put(f"  app {app}: floor {said['floor'][0]}:{said['floor'][1]}{own}")
    for what in ("ids", "keys", "keep"):
        if one["revoked"][what]:
            common.put(f"  {'kept' if what == 'keep' else 'revoked ' + what}  {'  '.join(x.hex()[:16] for x in one['revoked'][what])}")


def _last(path: str) -> "Envelope":
    from edgeheal.trust import envelope

    chain = envelope.decode_chain(files.read(path, envelope.MAX_CHAIN))
    if not chain:
        raise TrustError("holds no trust document", place=path)
    return chain[-1]


def _public(word: str) -> bytes:
    from edgeheal.trust import sign

    if len(word) == 64 and all(c in "0123456789abcdefABCDEF" for c in word):
        return bytes.fromhex(word)
    return sign.load_public(files.read(word, 16_384), place=word)


def _pair(word: str, option: str, form: str, sign: str = "=") -> tuple[str, str]:
    left, found, right = word.partition(sign)
    if not found or not left or not right:
        raise UsageError(f"{word!r} is not {form}", place=option, hint=f"write {form}")
    return left, right


def _number(word: str, option: str) -> int:
    if not word.isdecimal() or len(word) > 10:
        raise UsageError(f"{word!r} is no number", place=option, hint="write a whole number")
    return int(word)


def _digest(word: str, option: str) -> bytes:
    if len(word) != 64 or any(c not in "0123456789abcdefABCDEF" for c in word):
        raise UsageError(f"{word[:70]!r} is no image id", place=option, hint="64 hex digits, as `edgeheal image inspect` shows")
    return bytes.fromhex(word)
