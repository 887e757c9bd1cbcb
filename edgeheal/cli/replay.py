# SPDX-License-Identifier: Apache-2.0
"""`edgeheal replay`: run a recording through the engine again, with the same policy, another one, or another signal.

Duty: join recordings (journal) with the engine, compare decision by decision, show what differs. It changes nothing anywhere.
Invariants: without `--policy` and `--fault` the comparison is bit for bit, and any difference is exit code 1; with them
differences are the answer (exit code 0). A recording is somebody else's bytes: bounded, checked, typed errors.
"""

import argparse
import json
import os
from dataclasses import fields
from typing import Any

from edgeheal.cli import common
from edgeheal.cli.replay_screen import Difference, Replayed, list_signals, show
from edgeheal.core import signal as signals
from edgeheal.core.errors import ConfigError, JournalError, UsageError
from edgeheal.core.ids import normalise
from edgeheal.core.layout import Layout
from edgeheal.core.policy import Policy
from edgeheal.core.version import VERSION
from edgeheal.engine import snapshot
from edgeheal.engine.step import step
from edgeheal.journal import recording
from edgeheal.journal.recording import Entry, Recording
from edgeheal.journal.records import unpack_state

POLICY_MOST = 1 << 20
_MISFITS = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)

EXAMPLES = """examples:
  edgeheal replay K7QF                              the recording of this incident on this device
  edgeheal replay case.ehr                          any recording, on any machine: the same decisions?
  edgeheal replay case.ehr --policy edgeheal.toml   what another policy would have done
  edgeheal replay case.ehr --signals                its signals with their numbers
  edgeheal replay case.ehr --fault 812=null         what if signal 812 had never come
  edgeheal replay case.ehr --fault '812={"code": 0}'  what if it had said something else
"""


def add(subparsers: Any) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "replay", help="run a recording again, also with another policy", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", metavar="RECORDING", help="an .ehr file, or an incident's id on this device")
    parser.add_argument("--policy", metavar="FILE", help="an edgeheal.toml, or a policy as JSON, in place of the recorded one")
    parser.add_argument("--fault", metavar="SEQ=JSON", action="append", default=[], help="change fields of signal SEQ, or leave it out (null)")
    parser.add_argument("--signals", action="store_true", help="list the signals with their numbers, run nothing")
    common.options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The verb."""
    path = _find(common.layout(args), args.recording)
    kept = load(path)
    if args.signals:
        return list_signals(kept, as_json=args.json)
    policy = None if args.policy is None else read_policy(args.policy, kept)
    faults = dict(_fault(text) for text in args.fault)
    beyond = [seq for seq in faults if not 1 <= seq <= sum(len(part.entries) for part in kept.parts)]
    if beyond:
        raise UsageError(f"there is no signal {beyond[0]}", place="--fault", hint="see their numbers with `edgeheal replay FILE --signals`")
    replayed = replay(kept, policy=policy, faults=faults)
    show(kept, replayed, as_json=args.json)
    return 1 if replayed.differences and policy is None and not faults else 0


# -- the join of journal and engine


def load(path: str) -> Recording:
    """Read a recording from a file."""
    try:
        with open(path, "rb") as file:
            data = file.read(recording.READ_MOST + 1)
    except OSError as fault:
        raise JournalError(fault.strerror or str(fault), place=path, hint="give an .ehr file") from None
    return recording.read(data, place=path)


def replay(kept: Recording, *, policy: dict[str, Any] | None = None, faults: dict[int, Any] | None = None) -> Replayed:
    """Run all parts. `policy` stands in place of every recorded one; `faults`: seq -> fields to change, or None to leave it out."""
    differences: list[Difference] = []
    seq = decisions = 0
    for part in kept.parts:
        state = _fit(snapshot.from_plain, _fit(unpack_state, part.state, "snapshot"), "snapshot")
        if policy is not None and part.entries:
            state, _ = step(state, signals.PolicyIs(policy), part.entries[0].now)
        for entry in part.entries:
            seq += 1
            signal = _signal(entry, seq, policy, faults or {})
            got: list[Any] = []
            if signal is not None:
                state, effects = _fit(lambda s=signal, e=entry, st=state: step(st, s, e.now), None, f"signal {seq}")
                got = recording.plain_effects(effects)
            decisions += sum(1 for e in got if e[0] != "Wake")
            if not _same(entry.effects, got, exact=kept.header.get("edgeheal") == VERSION):
                differences.append(Difference(seq, entry.now, entry.plain, entry.effects, got))
    return Replayed(seq, tuple(differences), decisions)


def _fit(make: Any, value: Any, what: str) -> Any:
    """What this version can make of a recorded value; a typed error when it cannot."""
    try:
        return make() if value is None else make(value)
    except _MISFITS as fault:
        hint = "it was written by another version, or damaged"
        raise JournalError(f"does not fit this version ({type(fault).__name__}: {fault})"[:300], place=what, hint=hint) from None


def _signal(entry: Entry, seq: int, policy: dict[str, Any] | None, faults: dict[int, Any]) -> signals.Signal | None:
    signal: signals.Signal = _fit(lambda e: e.signal, entry, f"signal {seq}")
    if policy is not None and isinstance(signal, signals.PolicyIs):
        return signals.PolicyIs(policy)
    if seq not in faults:
        return signal
    change = faults[seq]
    if change is None:
        return None
    cls = type(signal) if "kind" not in change else _class(change["kind"])
    known = {f.name for f in fields(cls)}
    base = {f.name: getattr(signal, f.name) for f in fields(signal) if f.name in known}
    for name in change:
        if name != "kind" and name not in known:
            raise UsageError(f"{cls.__name__} has no field {name!r}", place=f"--fault {seq}", hint=f"its fields: {', '.join(sorted(known))}")
    new = {**base, **{k: tuple(v) if isinstance(v, list) else v for k, v in change.items() if k != "kind"}}
    return cls(**new)


def _class(name: Any) -> type[signals.Signal]:
    found = {cls.__name__: cls for cls in signals.SIGNALS}.get(str(name))
    if found is None:
        raise UsageError(f"there is no signal {name!r}", place="--fault", hint=f"one of {', '.join(cls.__name__ for cls in signals.SIGNALS)}")
    return found


def _same(then: Any, now: Any, *, exact: bool) -> bool:
    """Equal; for a recording of another version up to the fields that it knew."""
    if exact or not (isinstance(then, list) and isinstance(now, list)):
        return bool(then == now) and type(then) is type(now)
    top = bool(then) and isinstance(then[0], list)
    if len(then) > len(now) or (top and len(then) != len(now)):
        return False
    return all(_same(a, b, exact=False) for a, b in zip(then, now, strict=False))


# -- what the command line gives


def _find(layout: Layout, word: str) -> str:
    """A file, or the newest recording of an incident's id."""
    if os.path.exists(word) or "/" in word or word.endswith(".ehr"):
        return word
    try:
        names = sorted(n for n in os.listdir(layout.recordings) if n.endswith(f"-{normalise(word)}.ehr"))
    except OSError:
        names = []
    if not names:
        raise JournalError(f"no recording of {word} here", place=layout.recordings, hint="give a file, or an id of `edgeheal incidents`")
    return f"{layout.recordings}/{names[-1]}"


def _fault(text: str) -> tuple[int, Any]:
    number, sign, value = text.partition("=")
    try:
        change = json.loads(value)
    except ValueError:
        change = 0
    if not sign or not number.strip().isdigit() or not (change is None or isinstance(change, dict)):
        raise UsageError(f"cannot read {text!r}", place="--fault", hint="""say it as 812=null, or 812={"code": 0}""")
    return int(number), change


def read_policy(path: str, kept: Recording) -> dict[str, Any]:
    """A policy out of a config file or JSON. The recorded seed stays, so that jitter is no difference."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(POLICY_MOST)
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(str(fault), place=path, hint="give an edgeheal.toml, or a policy as JSON") from None
    plain = _policy_json(text, path) if path.endswith(".json") else _policy_toml(text, path)
    if isinstance(kept.policy, dict) and isinstance(kept.policy.get("seed"), int):
        plain["seed"] = kept.policy["seed"]
    return plain


def _policy_json(text: str, path: str) -> dict[str, Any]:
    """Keys of `Policy.to_plain`; what is not said is the default."""
    try:
        said = json.loads(text)
        plain = {**Policy().to_plain(), **said}
        return Policy.from_plain(plain).to_plain()
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        raise ConfigError(f"no policy: {fault}", place=path, hint="write its keys as `edgeheal replay FILE --json` shows them under policy") from None


def _policy_toml(text: str, path: str) -> dict[str, Any]:
    from edgeheal.config.files import Text
    from edgeheal.config.load import load_texts
    from edgeheal.config.policy import policy_of

    return policy_of(load_texts((Text(path, text),), os.path.dirname(os.path.abspath(path))).require()).to_plain()
