# SPDX-License-Identifier: Apache-2.0
"""`edgeheal controller`: take what devices send, store it, acknowledge it.

Duty: options, start, stop in order. The work is `fleet.controller`'s.
"""

import argparse

from edgeheal.cli import broker_options
from edgeheal.config.schema import Controller as Said
from edgeheal.wire.topics import level

EXAMPLES = """examples:
  edgeheal controller --broker localhost:1883 --store fleet.db
  edgeheal controller --config /etc/edgeheal/controller.toml
  edgeheal controller --broker mqtt.example.com --ca ca.pem --cert controller.pem --client-key controller.key --tenant acme --store /var/lib/fleet.db
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = subparsers.add_parser("controller", help="run the fleet's controller", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    broker_options.add(parser)
    parser.add_argument("--store", metavar="FILE", help="its database, made when it is not there (default: [controller] store)")
    parser.add_argument("--name", default="controller", metavar="NAME", help="tells controllers of one tenant apart (default: controller)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    from edgeheal.adapters.manager import Manager
    from edgeheal.fleet.controller import Controller, ControllerSettings

    said = broker_options.config(args)
    own = said.controller if said is not None else Said()
    settings = ControllerSettings(
        broker_options.address(args, said), level(broker_options.tenant(args, said), "tenant"), args.store or own.store, level(args.name, "name"),
        own.batch, own.batch_wait_ms, own.retention_s,
    )  # fmt: skip
    controller = Controller(settings)
    controller.handle_signals()
    manager = Manager()
    manager.ready()  # its store is open; a broker that is away is no reason to be started again
    controller.run()
    manager.ending()
    return 0
