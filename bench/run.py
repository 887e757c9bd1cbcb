# SPDX-License-Identifier: Apache-2.0
"""Run one bench by name: `bench/NAME.py` has `run() -> dict`; its figures go to stdout, talk to stderr.

Duty: find, run, print. It measures nothing itself.
"""

import argparse
import importlib.util
import json
import os
import sys
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))


def names() -> dict[str, str]:
    """Bench -> first line of its docstring, of all files here that have a `run`."""
    found = {}
    for file in sorted(os.listdir(HERE)):
        name, ext = os.path.splitext(file)
        if ext != ".py" or name == "run":
            continue
        with open(f"{HERE}/{file}", encoding="utf-8") as text:
            source = text.read()
        if "\ndef run(" in source:
            found[name] = source.split('"""', 2)[1].split("\n")[0] if '"""' in source else ""
    return found


def load(name: str) -> Any:
    """The bench's module."""
    sys.path.insert(0, HERE)
    spec = importlib.util.spec_from_file_location(name, f"{HERE}/{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"scripts/bench: cannot load bench/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def lines(figures: Any, indent: str = "") -> list[str]:
    """Figures as indented lines, for people."""
    out = []
    for key, value in figures.items():
        if isinstance(value, dict):
            out += [f"{indent}{key}", *lines(value, indent + "  ")]
        else:
            out.append(f"{indent}{key:<32} {value:.3f}" if isinstance(value, float) else f"{indent}{key:<32} {value}")
    return out


def main() -> int:
    """List, or run one."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="measure, beside peers in the same run")
    parser.add_argument("name", nargs="?", help="which; without one, list them")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    known = names()
    if args.name is None:
        for name, line in known.items():
            print(f"{name:<14} {line}")
        return 0
    if args.name not in known:
        print(f"scripts/bench: no bench {args.name}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    figures = load(args.name).run()
    print(json.dumps(figures) if args.json else "\n".join(lines(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
