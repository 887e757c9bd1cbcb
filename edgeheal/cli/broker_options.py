# SPDX-License-Identifier: Apache-2.0
"""Which broker, which tenant, which store: the options that the fleet's verbs share, or the `[link]` and `[controller]` of a config.

Duty: options -> `fleet.session.Address`, tenant, path. Invariant: a password never stands in an argument.
"""

import argparse
import os

from edgeheal.config.files import Text, read_file
from edgeheal.config.load import load, load_texts
from edgeheal.config.schema import Config
from edgeheal.core.errors import ConfigError, UsageError
from edgeheal.core.layout import Layout
from edgeheal.fleet.session import Address


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the broker is."""
    parser.add_argument("--broker", metavar="HOST[:PORT]", help="the broker (default: [link] of the config)")
    parser.add_argument("--tenant", metavar="NAME", help="whose devices (default: [device] tenant, else `default`)")
    parser.add_argument("--ca", metavar="FILE", help="check the broker's certificate against these; means TLS")
    parser.add_argument("--cert", metavar="FILE", help="our certificate; means TLS")
    parser.add_argument("--client-key", metavar="FILE", help="its private key")
    parser.add_argument("--tls", action="store_true", help="TLS with the system's certificates")
    parser.add_argument("--user", metavar="NAME", help="user name")
    parser.add_argument("--password-file", metavar="FILE", help="a file that holds the password")
    parser.add_argument("--mqtt", choices=("auto", "5", "3.1.1"), default="auto", help="MQTT version (default: auto: 5, else 3.1.1)")
    parser.add_argument("--config", metavar="FILE", help="read [link], [device] and [controller] from FILE")
    parser.add_argument("--root", default=os.environ.get("EDGEHEAL_ROOT", "/"), metavar="DIR", help=argparse.SUPPRESS)


def config(args: argparse.Namespace) -> Config | None:
    """The config that was named, or this machine's; None when there is none and none was named."""
    if args.config:
        text = read_file(args.config)
        if text is None:
            raise ConfigError("there is no such file", place=args.config)
        if not isinstance(text, Text):
            raise ConfigError(text.sentence(), place=text.place(), hint=text.hint())
        return load_texts((text,), os.path.dirname(os.path.abspath(args.config))).require()
    if args.broker:
        return None
    return load(Layout(os.path.abspath(args.root))).require()


def address(args: argparse.Namespace, said: Config | None) -> Address:
    """Where the broker is."""
    if args.broker:
        host, _, port = args.broker.rpartition(":") if args.broker.rpartition(":")[2].isdecimal() and ":" in args.broker else (args.broker, "", "")
        tls = args.tls or bool(args.ca or args.cert)
        number = int(port) if port else 8_883 if tls else 1_883
        if not 0 < number < 65_536:
            raise UsageError(f"{number} is no port", place="--broker")
        return Address(
            host.strip("[]"), number, tls, args.ca or "", args.cert or "", args.client_key or "", args.user or "", args.password_file or "", args.mqtt
        )
    if said is None or not said.link.host:
        raise UsageError("no broker is named", hint="say --broker HOST:PORT, or set [link] host in the config")
    link = said.link
    return Address(
        link.host, link.port, link.tls, args.ca or link.ca, args.cert or link.cert, args.client_key or link.key, args.user or link.user,
        args.password_file or link.password_file, args.mqtt if args.mqtt != "auto" else link.version,
    )  # fmt: skip


def tenant(args: argparse.Namespace, said: Config | None) -> str:
    """Whose devices."""
    return str(args.tenant or (said.device.tenant if said is not None else "default"))
