# SPDX-License-Identifier: Apache-2.0
"""`edgeheal fleet tail | devices | incidents | command`: what the fleet reports, live or as it was stored; a signed command to a device.

Duty: options and output; layouts are `fleet.views`', sources `fleet.watching`'s. Reads only, but for `command` (`cli.fleet_command`).
"""

import argparse
import json
import sys
import time

from edgeheal.cli import broker_options, common, fleet_command
from edgeheal.core.errors import UsageError
from edgeheal.fleet import views, watching
from edgeheal.fleet.store import Store
from edgeheal.fleet.watching import Heard
from edgeheal.wire import birth, results, summary

EXAMPLES = """examples:
  edgeheal fleet tail --broker localhost:1883                what happens, as it happens
  edgeheal fleet tail --store fleet.db --last 50 --no-follow  what was stored last
  edgeheal fleet devices --store fleet.db                    who is there, with what
  edgeheal fleet incidents --store fleet.db --open           what is still open
  edgeheal fleet command gw-0417 restart modbus-gw --key operator.key --broker localhost:1883
"""
LIVE_S = 2.0


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb with its words."""
    parser = subparsers.add_parser("fleet", help="what the fleet reports", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    tail = _word(words, "tail", "incidents and results as they come", _tail)
    tail.add_argument("--last", type=int, default=20, metavar="N", help="begin with the newest N of the store (default: 20)")
    tail.add_argument("--no-follow", action="store_true", help="end after what is there")
    tail.add_argument("--seconds", type=float, default=0.0, metavar="S", help="end after S seconds")
    tail.add_argument("--device", default="", metavar="ID", help="one device only")
    _word(words, "devices", "who is there, with what", _devices)
    incidents = _word(words, "incidents", "incidents by when they changed, newest first", _incidents)
    incidents.add_argument("--device", default="", metavar="ID", help="one device only")
    incidents.add_argument("--open", action="store_true", help="only those that are not resolved")
    incidents.add_argument("--most", type=int, default=100, metavar="N", help="at most N (default: 100)")
    fleet_command.add(words)


def _word(words: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, run: object) -> argparse.ArgumentParser:
    parser = words.add_parser(name, help=text)
    broker_options.add(parser)
    parser.add_argument("--store", metavar="FILE", help="out of a controller's database, not from the broker")
    parser.add_argument("--json", action="store_true", help="JSON on stdout; `tail`: one object a line")
    parser.set_defaults(run=run)
    return parser


def _tail(args: argparse.Namespace) -> int:
    if args.store:
        store = Store(args.store, writable=False)
        source = watching.kept(store, last=max(0, args.last), follow=not args.no_follow)
        places = {row["device"]: row["place"] or "" for row in store.devices()}
    else:
        said = broker_options.config(args)
        seconds = args.seconds or (LIVE_S if args.no_follow else 0.0)
        source = watching.live(broker_options.address(args, said), broker_options.tenant(args, said), seconds=seconds)
        places = {}
    shown = _Tail(as_json=args.json, device=args.device, places=places)
    end = time.monotonic() + args.seconds if args.seconds else 0.0
    for heard in source:
        shown.take(heard)
        if end and time.monotonic() >= end:
            break
    shown.finish()
    return 0


class _Tail:
    """Shows what is heard."""

    def __init__(self, *, as_json: bool, device: str, places: dict[str, str]) -> None:
        """`device`: only this one; `places`: where devices stand, as far as it is known already."""
        self._as_json = as_json
        self._device = device
        self._places = places
        self._folding = views.Folding()

    def take(self, heard: Heard | None) -> None:
        """One thing heard, or a moment to do our own."""
        now = time.time()
        if heard is None:
            self._lines(self._folding.ended(now))
            return
        said, device = heard.said, heard.device
        if isinstance(said, birth.Birth):
            self._places[device] = said.place or self._places.get(device, "")
        elif self._device not in ("", device):
            return
        elif isinstance(said, summary.Record):
            self._incident(heard, said, now)
        elif isinstance(said, results.ResultRecord):
            self._document({"result": views.result_document(device, said, received=heard.received)})
            self._lines([views.result_line(device, said, received=heard.received)])

    def _incident(self, heard: Heard, record: summary.Record, now: float) -> None:
        place = self._places.get(heard.device, "")
        if not record.incident.number:
            if record.standin is not None:
                self._document({"standin": views.standin_document(record.standin) | {"device": heard.device}})
                self._lines([views.standin_line(heard.device, record.standin, received=heard.received)])
            return
        self._document({"incident": views.incident_document(heard.device, record, received=heard.received, size=heard.size, place=place)})
        if not self._as_json and self._folding.take(record, now):
            self._lines([views.incident_line(heard.device, record, received=heard.received, place=place)])

    def finish(self) -> None:
        """Tell what is still held back."""
        self._lines(self._folding.ended(time.time(), all_of_them=True))

    def _document(self, document: dict[str, object]) -> None:
        if self._as_json:
            sys.stdout.write(json.dumps(document, separators=(",", ":")) + "\n")
            sys.stdout.flush()

    def _lines(self, lines: list[str]) -> None:
        if not self._as_json:
            for line in lines:
                common.put(line)
            sys.stdout.flush()


def _devices(args: argparse.Namespace) -> int:
    now = time.time()
    if args.store:
        store = Store(args.store, writable=False)
        rows = store.devices()
        store.close()
    else:
        rows = _live_devices(args, now)
    documents = [views.device_document(row, now) for row in rows]
    if args.json:
        common.put_json(documents)
        return 0
    if not documents:
        common.say("no device has said anything yet")
    for line in views.device_lines(documents) if documents else ():
        common.put(line)
    return 0


def _live_devices(args: argparse.Namespace, now: float) -> list[dict[str, object]]:
    """Retained births, taken from the broker; a will keeps what the birth before it said, if it came in the same moment."""
    said = broker_options.config(args)
    found: dict[str, dict[str, object]] = {}
    for heard in watching.live(broker_options.address(args, said), broker_options.tenant(args, said), seconds=LIVE_S):
        if heard is None:
            if found:
                break
            continue
        if isinstance(heard.said, birth.Birth):
            since = float(heard.said.at_s or now)
            found[heard.device] = {
                "device": heard.device, "online": heard.said.online, "session": heard.said.session, "since": since, "seen": now, "twin": None,
                "place": heard.said.place, "birth": birth.encode(heard.said), "health": None,
            }  # fmt: skip
    return [found[name] for name in sorted(found)]


def _incidents(args: argparse.Namespace) -> int:
    if not args.store:
        said = broker_options.config(args)
        path = said.controller.store if said is not None else ""
        if not path:
            raise UsageError("incidents are kept in a controller's store", hint="say --store FILE, or use `edgeheal fleet tail` for what happens now")
    store = Store(args.store or path, writable=False)
    rows = store.incidents(device=args.device, open_only=args.open, most=max(1, args.most))
    places = {row["device"]: row["place"] or "" for row in store.devices()}
    store.close()
    documents = []
    lines = []
    for row in rows:
        record = summary.read(row["raw"])
        place = places.get(row["device"], "")
        documents.append(views.incident_document(row["device"], record, received=row["updated"], size=len(row["raw"]), place=place))
        lines.append(views.incident_line(row["device"], record, received=row["updated"], place=place))
    if args.json:
        common.put_json(documents)
        return 0
    for line in lines:
        common.put(line)
    if not lines:
        common.say("no incidents")
    return 0
