# SPDX-License-Identifier: Apache-2.0
"""`edgeheal logs APP` and `edgeheal probe APP`: what an app wrote, and whether it answers now. Both work with the agent dead.

Duty: read the log by the guard's descriptor; run the probes that the guard can run, and ask HTTP and TCP ones from here.
Invariant: what an app wrote is escaped and masked on its way to the screen.
"""

import argparse
import os
import sys
import time
from typing import Any

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.cli import common
from edgeheal.core import reasons
from edgeheal.core.app import ProbeSpec
from edgeheal.core.errors import GuardError
from edgeheal.core.kinds import Verdict
from edgeheal.core.mask import Masker
from edgeheal.wire import guard_frames, guard_signals

TAIL_BYTES = 16_384
TAIL_MOST = 4 << 20
FOLLOW_S = 0.25


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both verbs."""
    logs = subparsers.add_parser("logs", help="what an app wrote")
    common.options(logs)
    logs.add_argument("app")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it writes")
    logs.add_argument("-n", "--lines", type=int, default=40, help="so many of its last lines (default: 40)")
    logs.set_defaults(run=run_logs)
    probe = subparsers.add_parser("probe", help="run an app's probes now")
    common.options(probe)
    probe.add_argument("app")
    probe.set_defaults(run=run_probe)


def run_logs(args: argparse.Namespace) -> int:
    """The tail, then what comes."""
    with GuardDoor(common.layout(args).guard_socket) as door:
        answer = door.ask(guard_frames.OPEN_LOG, app=args.app)
    if answer.reason != reasons.OK or answer.fd < 0:
        raise GuardError(f"no log of {args.app}: {reasons.word(answer.reason)}", reason=answer.reason, hint="see `edgeheal status` for the apps that exist")
    masker = Masker()
    try:
        end = os.fstat(answer.fd).st_size
        at = max(0, end - TAIL_BYTES)
        lines = os.pread(answer.fd, end - at, at).lstrip(b"\0").split(b"\n")  # its beginning may have been freed
        for line in lines[-(args.lines + 1) :]:
            _put(line, masker, as_json=args.json)
        while args.follow:
            sys.stdout.flush()
            time.sleep(FOLLOW_S)
            size = os.fstat(answer.fd).st_size
            end = max(0 if size < end else end, size - TAIL_MOST)  # it began anew; or it runs away from us
            fresh = os.pread(answer.fd, size - end, end)
            end += len(fresh) - len(fresh := fresh.lstrip(b"\0"))
            cut = fresh.rfind(b"\n") + 1
            for line in fresh[:cut].split(b"\n")[:-1]:
                _put(line, masker, as_json=args.json)
            end += cut
    finally:
        os.close(answer.fd)
    return 0


def _put(line: bytes, masker: Masker, *, as_json: bool) -> None:
    if not line:
        return
    text = masker.fit(line, 2_000)
    if as_json:
        common.put_json({"line": text})
    else:
        common.put(text)


def run_probe(args: argparse.Namespace) -> int:
    """Each probe of the running image, once."""
    layout = common.layout(args)
    with GuardDoor(layout.guard_socket) as door:
        seen = [guard_signals.Words().app_row(row) for row in door.ask(guard_frames.STATUS, app=args.app).rows if len(row) == guard_frames.APP_ROW.size]
        row = next((r for r in seen if r.app == args.app), None)
        if row is None:
            raise GuardError(f"no app {args.app} here", reason=reasons.NO_SUCH_APP, hint="see `edgeheal status` for the apps that exist")
        answers = [_ask(door, args.app, index, probe) for index, probe in enumerate(_probes(layout, args.app, row.image))]
    if args.json:
        common.put_json(answers)
    for answer in answers if not args.json else []:
        common.put(f"{answer['probe']:<16} {answer['kind']:<10} {answer['answer']:<8} {answer['took_ms']} ms  {answer['why']}".rstrip())
    if not answers:
        common.say(f"{args.app} has no probes: its image names none")
    return 0 if all(a["answer"] == "yes" for a in answers) else 1


def _probes(layout: Any, app: str, image: str) -> tuple[ProbeSpec, ...]:
    from edgeheal.adapters.catalog import Catalog, DeviceWords

    return Catalog(lambda _: None, layout.tree).spec(app, image, DeviceWords()).probes


def _ask(door: GuardDoor, app: str, index: int, probe: ProbeSpec) -> dict[str, Any]:
    began = time.monotonic()
    if probe.kind in ("http", "tcp"):
        from edgeheal.adapters.probes.once import once

        verdict, code = once(probe)
    elif probe.kind == "heartbeat":
        verdict, code = Verdict.UNKNOWN, 0
    else:
        got = door.ask(guard_frames.PROBE, app=app, a=index)
        verdict, code = (Verdict(got.a) if got.reason == reasons.OK or got.b else Verdict.UNKNOWN), got.reason
    words = {Verdict.YES: "yes", Verdict.NO: "no", Verdict.UNKNOWN: "unknown"}
    why = "" if verdict is Verdict.YES or not code else (reasons.word(code) if code < 120 else f"status {code}")
    return {"probe": probe.name, "kind": probe.kind, "answer": words[verdict], "took_ms": round((time.monotonic() - began) * 1000), "why": why}
