# SPDX-License-Identifier: Apache-2.0
"""House rules that no linter knows: SPDX lines, reasons for broad excepts, no unfinished work, no words of a workplace, sizes."""

import ast
import os
import re
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3 + r"\b", "not implemented " + "yet", "place" + "holder", "stub" + " for now")))
# words of where it was built, never of what it is
FOREIGN = re.compile(
    "|".join(
        (
            r"\.\./sha" + "red",
            "/wo" + r"rk/",
            r"\bfarm" + "-",
            "pypi" + r"\.org",
            "files\\.python" + "hosted",
            "registry" + r"\.npmjs",
            "helper " + "session",
            r"\bAnth" + "ropic",
            r"\bCl" + r"aude\b",
        )
    )
)
SOURCE = (".py", ".c", ".h", ".sh", ".toml", ".md", ".lock", "")
FUNCTION_MOST = 60
METHODS_MOST = 20
FILE_MOST = 500


def tracked():
    """Files that are, or are about to be, under version control."""
    words = ["git", "-C", TOP, "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=30, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [p for p in done.stdout.splitlines() if os.path.isfile(f"{TOP}/{p}") and not os.path.islink(f"{TOP}/{p}")]


def text_of(path):
    with open(f"{TOP}/{path}", "rb") as file:
        data = file.read(2_000_000)
    return "" if b"\0" in data else data.decode(errors="replace")


def python_files(*under):
    return [p for p in tracked() if p.endswith(".py") and p.startswith(under)]


def test_every_source_file_says_its_licence():
    bare = []
    for path in tracked():
        name = os.path.basename(path)
        script = text_of(path).startswith("#!")
        if (
            (path.endswith((".py", ".c", ".h", ".sh", ".lock")) or script)
            and name != "__init__.py"
            and "SPDX-License-Identifier: Apache-2.0" not in text_of(path)[:400]
        ):
            bare.append(path)
    assert bare == []


def test_every_module_opens_with_its_duty():
    bare = [p for p in python_files("edgeheal/") if os.path.basename(p) != "__init__.py" and not ast.get_docstring(ast.parse(text_of(p)))]
    assert bare == []


def test_no_unfinished_work_is_committed():
    found = [
        f"{p}:{n}"
        for p in tracked()
        if p.startswith(("edgeheal/", "scripts/", "bench/", "docs/", "tests/"))
        for n, line in enumerate(text_of(p).splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_nothing_speaks_of_where_it_was_built():
    found = [f"{p}:{n}: {line.strip()[:80]}" for p in tracked() for n, line in enumerate(text_of(p).splitlines(), 1) if FOREIGN.search(line)]
    assert found == []


def broad_excepts():
    """(place, whether it re-raises or ends the process, its own line) of every broad except in the product."""
    found = []
    for path in python_files("edgeheal/"):
        source = text_of(path)
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = [n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)] if node.type is not None else ["Exception"]
            if set(names) & {"Exception", "BaseException"}:
                again = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(node)) or any(
                    isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "_exit" for n in ast.walk(node)
                )
                found.append((f"{path}:{node.lineno}", again, lines[node.lineno - 1]))
    return found


def test_broad_excepts_stand_at_an_edge_and_say_why():
    swallowing = [(place, line) for place, again, line in broad_excepts() if not again]
    print("broad excepts:", *(place for place, _ in swallowing), sep="\n  ")
    assert [place for place, line in swallowing if not re.search(r"#.*\w+ \w+ \w+", line)] == []
    assert len(swallowing) <= 12


def test_functions_classes_and_files_stay_small():
    large = []
    for path in python_files("edgeheal/"):
        source = text_of(path)
        if source.count("\n") > FILE_MOST:
            large.append(f"{path}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= FUNCTION_MOST:
                large.append(f"{path}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines")
            if isinstance(node, ast.ClassDef):
                public = [f for f in node.body if isinstance(f, ast.FunctionDef) and not f.name.startswith("_")]
                if len(public) > METHODS_MOST:
                    large.append(f"{path}:{node.lineno} {node.name}: {len(public)} public methods")
    assert large == []


def test_no_two_test_files_have_one_name():
    """They are collected by their bare name: the second would stop the whole run."""
    names = [os.path.basename(name) for name in tracked() if os.path.basename(name).startswith("test_") and name.endswith(".py")]
    assert sorted(n for n in set(names) if names.count(n) > 1) == []


def test_no_mocks_of_our_own_code():
    found = [p for p in python_files("tests/") if re.search(r"unittest\.mock|MagicMock|mocker\b", text_of(p)) and not p.endswith("test_style.py")]
    assert found == []


def test_the_locks_are_hashed_and_name_no_host():
    for name in ("requirements-demo.lock", "requirements-test.lock"):
        text = text_of(name)
        pins = re.findall(r"^[a-z0-9][a-z0-9._-]*==\S+ \\$", text, re.MULTILINE)
        assert len(pins) > 5
        assert text.count("--hash=sha256:") >= len(pins)
        assert "://" not in text
    demo = dict(re.findall(r"^(\S+)==(\S+) ", text_of("requirements-demo.lock"), re.MULTILINE))
    test = dict(re.findall(r"^(\S+)==(\S+) ", text_of("requirements-test.lock"), re.MULTILINE))
    assert demo.items() <= test.items()
