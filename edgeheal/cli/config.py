# SPDX-License-Identifier: Apache-2.0
"""`edgeheal config check | show | reload`: is the device's config right, what is in force and why, take the files again.

Duty: read, compare, tell. It changes nothing but by asking agent and guard to read again.
Invariants: `check` lists every problem, not only the first; a broken file is never sent on; no secret is shown (none is in a config).
"""

import argparse
import os
from typing import TYPE_CHECKING, Any

from edgeheal.cli import common
from edgeheal.config.accounts import resolve
from edgeheal.config.files import Text, read_file, read_layers
from edgeheal.config.flat import UNSAID, Row, rows
from edgeheal.config.load import Loaded, load, load_texts
from edgeheal.config.problem import Problem
from edgeheal.config.references import references
from edgeheal.config.schema import Config
from edgeheal.core.errors import AgentUnreachableError, ConfigError, RefusedByPolicyError, UsageError
from edgeheal.core.layout import Layout

if TYPE_CHECKING:
    from edgeheal.config.changes import Change

EXAMPLES = """examples:
  edgeheal config check                     every problem in the files, with file, line and nearest valid form
  edgeheal config check new.toml            would this do as /etc/edgeheal/edgeheal.toml?
  edgeheal config show --origin             every value, and where it was said
  edgeheal config show link remedies        two tables only
  edgeheal config reload --diff             what a reload would change, and what it would touch
  edgeheal config reload                    take the files; a broken one leaves what is in force
"""


def add(subparsers: Any) -> None:
    """Add the verb."""
    parser = subparsers.add_parser("config", help="check or show the device's config", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    check = words.add_parser("check", help="every problem in the files")
    check.add_argument("file", nargs="?", metavar="FILE", help="check FILE as if it were edgeheal.toml")
    show = words.add_parser("show", help="every value")
    show.add_argument("tables", nargs="*", metavar="TABLE", help="only these tables, or keys, such as `link` or `apps.gw`")
    show.add_argument("--origin", action="store_true", help="and the file and line that said it")
    reload = words.add_parser("reload", help="read the files again")
    reload.add_argument("--diff", action="store_true", help="only say what would change")
    for one, run in ((check, _check), (show, _show), (reload, _reload)):
        common.options(one)
        one.set_defaults(run=run)


def _check(args: argparse.Namespace) -> int:
    layout = common.layout(args)
    loaded = _as_main(layout, args.file) if args.file else load(layout)
    problems = loaded.problems
    if loaded.config is not None and not args.file:
        problems += resolve(loaded.config, loaded.origins)[1] + references(loaded.config, loaded.origins)
    if args.json:
        common.put_json({"ok": not problems, "files": [t.path for t in loaded.texts], "problems": [p.to_plain() for p in problems]})
        return 1 if problems else 0
    for problem in problems:
        _put_problem(problem)
    if problems:
        common.say(f"edgeheal: {len(problems)} problem{'s' if len(problems) > 1 else ''}; what was in force stays in force")
        return 1
    files = ", ".join(t.path for t in loaded.texts) or "no file: the defaults"
    common.put(f"ok: {files}")
    return 0


def _as_main(layout: Layout, path: str) -> Loaded:
    """The vendor's files and `path`, without what is in /etc."""
    texts, problems = read_layers(layout)
    vendor = tuple(t for t in texts if t.path.startswith(layout.vendor_config + "/"))
    found = read_file(os.path.abspath(path))
    if found is None:
        raise UsageError("no such file", place=path)
    if isinstance(found, Problem):
        return Loaded(None, {}, (found, *(p for p in problems if p.file.startswith(layout.vendor_config))), vendor)
    return load_texts((*vendor, Text(path, found.text)), layout.etc)


def _put_problem(problem: Problem) -> None:
    common.put(f"{problem.place()}: {problem.sentence()}")
    if problem.nearest or problem.step:
        common.put(f"    {problem.hint()}")


def _show(args: argparse.Namespace) -> int:
    from edgeheal.config.last_good import LAST_GOOD, in_force

    layout = common.layout(args)
    force = in_force(layout, layout.agent, keep=False)
    if force.source == LAST_GOOD:
        common.say(f"edgeheal: the files are broken ({force.problems[0].place()}); this is the last good config")
    chosen = [r for r in rows(force.config) if _chosen(r, args.tables)]
    if args.tables and not chosen:
        raise UsageError(f"no such table or key: {' '.join(args.tables)}", hint="`edgeheal config show` lists all")
    origins = {k: str(o) for k, o in force.loaded.origins.items()}
    if args.json:
        values = {r.key: {"value": r.plain(), "origin": _origin(r, origins)} for r in chosen}
        common.put_json({"source": force.source, "problems": [p.to_plain() for p in force.problems], "values": values})
        return 0
    _put_rows(chosen, origins if args.origin else None)
    return 0


def _chosen(row: Row, tables: list[str]) -> bool:
    return not tables or any(row.key == t or row.key.startswith(f"{t}.") for t in tables)


def _origin(row: Row, origins: dict[str, str]) -> str:
    """Where it was said; an app's limit may come from the device's table."""
    inherited = row.key.split(".", 2)[2] if row.key.startswith("apps.") and ".limits." in row.key else ""
    return origins.get(row.key) or origins.get(inherited) or "default"


def _put_rows(chosen: list[Row], origins: dict[str, str] | None) -> None:
    table = None
    for row in chosen:
        if row.table != table:
            table = row.table
            if table:
                common.put(f"\n[{table}]")
        line = f"{row.name} = {row.shown}" if row.shown != UNSAID else f"# {row.name} is unsaid"
        common.put(f"{line:<44} # {_origin(row, origins)}" if origins is not None else line)


def _reload(args: argparse.Namespace) -> int:
    from edgeheal.config.changes import changes, touched

    layout = common.layout(args)
    loaded = load(layout)
    problems = loaded.problems or (resolve(loaded.config, loaded.origins)[1] if loaded.config else ())
    if loaded.config is None or problems:
        if args.json:
            common.put_json({"ok": False, "problems": [p.to_plain() for p in problems], "changes": []})
        else:
            for problem in problems:
                _put_problem(problem)
            common.say("edgeheal: not taken; what was in force stays in force")
        return 1
    found = changes(_before(layout), loaded.config)
    answer: dict[str, Any] = {"ok": True, "problems": [], "changes": [_plain(c) for c in found], "touches": sorted(touched(found)), "taken": []}
    if not args.diff:
        answer["taken"] = _take(layout)
    if args.json:
        common.put_json(answer)
        return 0
    for change in found:
        common.put(str(change))
    if not found:
        common.put("no difference")
    if answer["taken"]:
        common.say(f"edgeheal: taken by {' and '.join(answer['taken'])}")
    for word in sorted(touched(found)):
        if word.startswith("restart of"):
            common.say(f"edgeheal: some of it takes effect at the next {word}")
    return 0


def _before(layout: Layout) -> Config:
    """What was in force: the last good copy, or the defaults where there never was one."""
    from edgeheal.config.last_good import read_copy

    texts, _ = read_copy(layout.agent)
    before = load_texts(texts, layout.etc).config if texts is not None else None
    return before or Config()


def _plain(change: "Change") -> dict[str, str]:
    return {"key": change.key, "old": change.old, "new": change.new, "touches": change.touches}


def _take(layout: Layout) -> list[str]:
    """Ask the guard, then the agent, to read the files; who took them. Either may be down, not both."""
    from edgeheal.cli.ask import ask

    taken: list[str] = []
    faults: list[str] = []
    try:
        _ask_guard(layout)
        taken.append("guard")
    except AgentUnreachableError as fault:
        faults.append(str(fault))
    try:
        ask(layout.control_socket, "reload")
        taken.append("agent")
    except AgentUnreachableError as fault:
        faults.append(str(fault))
    if not taken:
        raise AgentUnreachableError("; ".join(faults))
    for line in faults:
        common.say(f"edgeheal: {line}")
    return taken


def _ask_guard(layout: Layout) -> None:
    from edgeheal.adapters.guard_client import GuardDoor
    from edgeheal.core import reasons
    from edgeheal.wire import guard_frames

    with GuardDoor(layout.guard_socket) as door:
        answer = door.ask(guard_frames.RELOAD_CONFIG)
    if answer.reason == reasons.NOT_ALLOWED:
        raise RefusedByPolicyError("only root may have the config read again", hint="say it as root")
    if answer.reason != reasons.OK:
        raise ConfigError(f"the guard did not take it: {reasons.word(answer.reason)}", hint="run `edgeheal config check` as root, where users are looked up")
