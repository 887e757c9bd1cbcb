# SPDX-License-Identifier: Apache-2.0
"""How a light Python process of ours is started: isolated, without site, with just the folders it needs on its path.

Duty: make the argument vector. It starts nothing. Source: `python -I -S` costs about 8 MB resident, with site and its hooks more.
Light on purpose: the resident guard imports it.
"""


def argv(python: str, folders: "list[str]", module: str, *words: str) -> "list[str]":
    """The argument vector that runs `module.main(words)` with `folders` first on its import path."""
    code = f"import sys; sys.path[:0]={folders!r}; from {module} import main; sys.exit(main(sys.argv[1:]))"
    return [python, "-I", "-S", "-c", code, *words]
