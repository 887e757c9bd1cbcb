# SPDX-License-Identifier: Apache-2.0
"""`edgeheal setup`: give this device its identity: names, broker, a key made here, a certificate, trust version 1. And take it away again.

Duty: ask on a terminal, or take options; hand over to `cli.setup_files`; say what was done and what comes next.
Invariants: said again it changes nothing; a private key that is there is kept; nothing is written before everything was found right; what was set up
on another machine is not taken over silently; no prompt without a terminal.
"""

import argparse
import os
import socket
import sys

from edgeheal.cli import common, setup_files
from edgeheal.config.last_good import in_force
from edgeheal.config.schema import Config
from edgeheal.core.errors import EdgeHealError, UsageError
from edgeheal.core.layout import Layout
from edgeheal.wire.topics import level

EXAMPLES = """examples:
  edgeheal setup                                                   asks for what it needs
  edgeheal setup --device gw-0417 --tenant acme --broker mqtt.example.com --ca ca.pem --trust 00001.eht
                                                                   makes a key and a request: keys/device.csr
  edgeheal setup --cert gw-0417.pem                                the certificate that the CA made of it; later: its successor
  edgeheal setup --device gw-0417 --broker mqtt.example.com --cert gw.pem --key gw.key    a key of your own PKI
  edgeheal setup --forget                                          before this disk is copied to other machines
"""
TLS_PORT, PLAIN_PORT = 8_883, 1_883


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser("setup", help="give this device its identity", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", metavar="ID", help="the device's id: also its MQTT user name and the certificate's common name")
    parser.add_argument("--tenant", metavar="NAME", help="whose it is (default: default)")
    parser.add_argument("--place", metavar="TEXT", help="where it stands, for people")
    parser.add_argument("--class", dest="classes", action="append", metavar="CLASS", help="what kind of device images must be for (may be said again)")
    parser.add_argument("--broker", metavar="HOST[:PORT]", help="the broker; an empty one: no fleet")
    parser.add_argument("--no-tls", action="store_true", help="no encryption (a broker on this box, a bench)")
    parser.add_argument("--ca", metavar="FILE", help="certificates that the broker's is checked against (default: the system's)")
    parser.add_argument("--cert", metavar="FILE", help="this device's certificate")
    parser.add_argument("--key", metavar="FILE", help="its private key, of your own PKI (default: one is made here and never leaves)")
    parser.add_argument("--password-file", metavar="FILE", help="a password for brokers that want one")
    parser.add_argument("--trust", metavar="EHT", help="trust version 1: whose signatures count here")
    parser.add_argument("--adopt", action="store_true", help="this is the same device although board or card were changed: keep its identity")
    parser.add_argument("--forget", action="store_true", help="take names, key, certificate and memory away; apps, images and trust stay")
    common.options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The verb."""
    layout = common.layout(args)
    if args.forget:
        return _tell(args, setup_files.forget(layout))
    before = _before(layout)
    wanted = _wanted(args, before, ask=sys.stdin.isatty() and sys.stdout.isatty() and not args.json)
    return _tell(args, setup_files.apply(layout, wanted))


def _before(layout: Layout) -> Config:
    """What is configured so far; the defaults where that cannot be read."""
    try:
        return in_force(layout, layout.agent, keep=False).config
    except EdgeHealError:
        return Config()


def _wanted(args: argparse.Namespace, before: Config, *, ask: bool) -> setup_files.Wanted:
    """Options, else answers on a terminal, else what is configured already."""
    device = args.device or before.device.id
    if ask and args.device is None:
        device = _ask("device id", device or socket.gethostname().split(".")[0])
    if not device:
        raise UsageError("this device has no id yet", place="--device", hint="say --device ID (letters, digits, '.', '_', '-')")
    tenant = _said(args.tenant, "tenant", before.device.tenant, ask=ask)
    broker = _said(args.broker, "broker (HOST[:PORT], empty: no fleet)", _address(before), ask=ask)
    host, port = _host_port(broker, tls=not args.no_tls)
    tls = before.link.tls if args.broker is None and before.link.host and not args.no_tls else not args.no_tls
    given = {name: getattr(args, name) or "" for name in ("ca", "cert", "key", "trust")}
    if ask and not any(given.values()):
        given |= _asked_files(tls=tls and bool(host))
    for path in (*given.values(), args.password_file):
        if path and not os.path.isfile(path):
            raise UsageError("no such file", place=path, hint="check the name")
    return setup_files.Wanted(
        device=level(device, "device id"), tenant=level(tenant or "default", "tenant"), place=before.device.place if args.place is None else args.place,
        classes=tuple(args.classes or before.device.classes), host=host, port=port, tls=tls, password=args.password_file or "", adopt=args.adopt,
        **given,
    )  # fmt: skip


def _asked_files(*, tls: bool) -> dict[str, str]:
    """Files by name; an empty answer is always good."""
    found = dict.fromkeys(("ca", "cert", "key", "trust"), "")
    if tls:
        found["ca"] = _ask("CA of the broker, a file (empty: the system's)", "")
        found["cert"] = _ask("this device's certificate, a file (empty: a request is made)", "")
        found["key"] = _ask("its private key, a file (empty: the one made here)", "") if found["cert"] else ""
    found["trust"] = _ask("trust version 1, a file (empty: later)", "")
    return found


def _address(before: Config) -> str:
    link = before.link
    return f"{f'[{link.host}]' if ':' in link.host else link.host}:{link.port}" if link.host else ""


def _said(option: str | None, what: str, before: str, *, ask: bool) -> str:
    if option is not None:
        return option
    return _ask(what, before) if ask else before


def _ask(what: str, before: str) -> str:
    """A question on the terminal; Enter keeps what stands in brackets."""
    sys.stderr.write(f"{what}{f' [{before}]' if before else ''}: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() or before


def _host_port(broker: str, *, tls: bool) -> tuple[str, int]:
    """`host`, `host:1883`, `[::1]:8883`."""
    if not broker:
        return "", TLS_PORT if tls else PLAIN_PORT
    host, colon, port = broker.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.endswith("]")):
        host, port = broker, str(TLS_PORT if tls else PLAIN_PORT)
    if not 0 < int(port) < 65_536:
        raise UsageError(f"{port} is no port", place="--broker")
    return host.strip("[]"), int(port)


def _tell(args: argparse.Namespace, done: setup_files.Done) -> int:
    if args.json:
        common.put_json(done.plain())
        return 0
    for word, lines in (("done", done.done), ("kept", done.kept)):
        for line in lines:
            common.put(f"{word:<5} {line}")
    for number, line in enumerate(done.next, 1):
        common.put(f"next {number}  {line}")
    return 0
