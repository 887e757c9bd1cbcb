# SPDX-License-Identifier: Apache-2.0
"""What people do to a device, at the guard's own door: start, stop, restart, rollback, pause, approve, config, secrets, signed tokens.

Duty: arguments, questions to the guard, answers in words. It works with the agent dead and without a network.
Invariants: what happens to the data is said before it happens; done is what the guard answered; a secret is read from stdin, never an argument.
"""

import argparse
import syslog

from edgeheal.cli import common, device_app, device_rollback, device_token, door, refusal
from edgeheal.cli.ask import ask
from edgeheal.cli.device_image import add as add_image
from edgeheal.core import reasons
from edgeheal.core.errors import AgentUnreachableError, NoSuchIncidentError
from edgeheal.core.ids import normalise, short_id
from edgeheal.wire import guard_frames as f

__all__ = ["add", "add_image"]

_DAY = 86_400


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    for verb, line in (("start", "start an app and want it running"), ("restart", "restart an app; what is wanted does not change")):
        one = subparsers.add_parser(verb, help=line, description=f"{line[0].upper()}{line[1:]}.")
        one.add_argument("app", nargs="?", default="", metavar="APP", help="which app (default: the only one)")
        common.options(one)
        one.set_defaults(run=run_start if verb == "start" else run_restart)
    stop = subparsers.add_parser("stop", help="stop an app and want it stopped", description="Stop an app; it stays stopped, also over a reboot.")
    stop.add_argument("app", nargs="?", default="", metavar="APP", help="which app (default: the only one)")
    stop.add_argument("--for", dest="seconds", type=door.seconds, default=0, metavar="TIME", help="only so long: 30m, 2h, 1d (default: until it is started)")
    common.options(stop)
    stop.set_defaults(run=run_stop)
    pause = subparsers.add_parser(
        "pause", help="stop all remedies for a while", description="Nothing is repaired by itself until the pause ends. It always ends."
    )
    pause.add_argument("app", nargs="?", default="", metavar="APP", help="only this app (default: all)")
    pause.add_argument("--for", dest="seconds", type=door.seconds, required=True, metavar="TIME", help="how long: 30m, 2h, 1d; at most 30d")
    pause.add_argument("--reason", default="", metavar="TEXT", help="why, for the system's log")
    common.options(pause)
    pause.set_defaults(run=run_pause)
    resume = subparsers.add_parser("resume", help="end a pause", description="Remedies work again.")
    resume.add_argument("app", nargs="?", default="", metavar="APP", help="only this app (default: all)")
    common.options(resume)
    resume.set_defaults(run=run_resume)
    for verb, line in (("approve", "let a waiting remedy be carried out"), ("reject", "let a waiting remedy not be carried out")):
        one = subparsers.add_parser(verb, help=line, description=f"{line[0].upper()}{line[1:]}.")
        one.add_argument("incident", metavar="ID", help="the incident's id, as `edgeheal status` shows it")
        common.options(one)
        one.set_defaults(run=run_answer, answer=f.APPROVE if verb == "approve" else f.REJECT)
    device_rollback.add(subparsers)
    device_token.add(subparsers)
    device_app.add(subparsers)


def _done(args: argparse.Namespace, app: str, said: str, **more: object) -> int:
    if args.json:
        common.put_json({"app": app, "done": said} | more)
    else:
        common.put(f"{app or 'all apps'}: {said}")
    return 0


def run_start(args: argparse.Namespace) -> int:
    """`start`."""
    with door.opened(args) as guard:
        app = door.the_app(guard, args.app)
        refusal.check(guard.ask(f.START, app=app).reason, f"start {app}")
    return _done(args, app, "started")


def run_stop(args: argparse.Namespace) -> int:
    """`stop`."""
    with door.opened(args, 120) as guard:
        app = door.the_app(guard, args.app)
        until = guard.hello.box_s + args.seconds if args.seconds else 0
        refusal.check(guard.ask(f.STOP, app=app, a=until).reason, f"stop {app}")
    return _done(args, app, f"stopped{_for(args.seconds)}", seconds=args.seconds)


def run_restart(args: argparse.Namespace) -> int:
    """`restart`."""
    with door.opened(args, 120) as guard:
        app = door.the_app(guard, args.app)
        refusal.check(guard.ask(f.RESTART, app=app).reason, f"restart {app}")
    return _done(args, app, "restarted")


def run_pause(args: argparse.Namespace) -> int:
    """`pause`."""
    with door.opened(args) as guard:
        refusal.check(guard.ask(f.PAUSE, app=args.app, a=args.seconds).reason, f"pause {args.app}".strip())
    syslog.openlog("edgeheal")
    syslog.syslog(syslog.LOG_NOTICE, f"{door.me()} paused {args.app or 'all apps'}{_for(args.seconds)}: {args.reason or 'no reason given'}")
    return _done(args, args.app, f"paused{_for(args.seconds)}; apps run on, nothing is repaired by itself", seconds=args.seconds)


def run_resume(args: argparse.Namespace) -> int:
    """`resume`."""
    with door.opened(args) as guard:
        refusal.check(guard.ask(f.RESUME, app=args.app).reason, f"resume {args.app}".strip())
    return _done(args, args.app, "resumed")


def run_answer(args: argparse.Namespace) -> int:
    """`approve` and `reject`."""
    what = f.VERBS[args.answer]
    with door.opened(args) as guard:
        ident, waits = _waiting(args)
        answer = guard.ask(args.answer, image=ident.encode()[:32])  # also of an unknown one: who may not is told so first
    if answer.reason == reasons.NOT_RUNNING:  # nobody is there to hear it
        raise AgentUnreachableError("the agent does not run: nothing waits for an answer", hint="is `edgeheal agent` running? try `edgeheal doctor`")
    refusal.check(answer.reason, f"{what} {args.incident}")
    if not waits:
        raise NoSuchIncidentError(f"nothing of {args.incident} waits for an answer", hint="see `edgeheal incidents --open`")
    if args.json:
        common.put_json({"incident": args.incident, "done": what})
    else:
        common.put(f"{args.incident}: {'approved' if args.answer == f.APPROVE else 'rejected'}")
    return 0


def _waiting(args: argparse.Namespace) -> tuple[str, bool]:
    """(the incident's id, whether it waits for an answer) as the agent knows it; what was said where it does not answer."""
    try:
        found = ask(common.layout(args).control_socket, "incidents", open=True)["incidents"]
    except AgentUnreachableError:
        return args.incident, True
    wanted = normalise(args.incident)
    fitting = [one for one in found if wanted and short_id(bytes.fromhex(one["session"]), one["number"], 6).startswith(wanted)]
    return (fitting[-1]["id"], fitting[-1]["need"] == "APPROVE") if fitting else (args.incident, False)


def _for(seconds: int) -> str:
    """` for 2 h`, or nothing."""
    if not seconds:
        return ""
    for unit, length in (("d", _DAY), ("h", 3_600), ("min", 60)):
        if seconds % length == 0:
            return f" for {seconds // length} {unit}"
    return f" for {seconds} s"
