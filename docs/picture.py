# SPDX-License-Identifier: Apache-2.0
"""A terminal picture of a real run of the demo: `python docs/picture.py [SCENE...]` plays it and writes docs/demo.svg.

`--text FILE` takes the output of a run that was kept. Invariant: every line of the picture was printed by the demo; nothing is added.
"""

import argparse
import html
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LINE, COLUMN = 18, 7.85


def svg(text: str) -> str:
    """The text as a terminal."""
    lines = text.rstrip().split("\n")
    width, height = round(max(map(len, lines)) * COLUMN) + 32, len(lines) * LINE + 32
    rows = [f'<text x="16" y="{28 + n * LINE}" xml:space="preserve">{html.escape(line)}</text>' for n, line in enumerate(lines)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    style = "<style>text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#d7dce2}</style>"
    return "\n".join([head, style, '<rect width="100%" height="100%" rx="8" fill="#14181d"/>', *rows, "</svg>"]) + "\n"


def main() -> int:
    """Play, render, write."""
    parser = argparse.ArgumentParser(description="render a run of the demo as docs/demo.svg")
    parser.add_argument("--text", metavar="FILE", help="the output of a run that was kept")
    parser.add_argument("scene", nargs="*", help="only these scenes")
    args = parser.parse_args()
    if args.text:
        with open(args.text, encoding="utf-8") as file:
            text = file.read()
    else:
        words = [sys.executable, "-m", "edgeheal.lab.demo", *args.scene]
        done = subprocess.run(words, cwd=os.path.dirname(HERE), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.stderr.write(done.stderr)
            return 1
        text = done.stdout
    with open(f"{HERE}/demo.svg", "w", encoding="utf-8") as file:
        file.write(svg(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
