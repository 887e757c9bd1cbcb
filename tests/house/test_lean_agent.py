# SPDX-License-Identifier: Apache-2.0
"""What the resident agent keeps out of memory is there when it is used, and its values behave as dataclasses do."""

import subprocess
import sys

from tests.house.test_closures import TOP

BEGIN = """
import sys
sys.path[:0] = {folders!r}
from edgeheal.agent import lean
placed = lean.begin()
import edgeheal.agent.assembly, edgeheal.agent.mouth
lean.done(placed)
"""
VALUES = '''
import dataclasses
def make(dataclass):
    @dataclass(frozen=True, slots=True)
    class A:
        """a"""
        x: int
        y: str = "b"
        z: list = dataclasses.field(default_factory=list, compare=False, repr=False)
    @dataclass(slots=True)
    class B(object):
        """b"""
        x: int = 0
        def __repr__(self): return "mine"
    @dataclass(frozen=True)
    class C:
        """c"""
        x: float = 0.0
        def __eq__(self, other): return True
        def __hash__(self): return 7
    return A, B, C
real = make(dataclasses.dataclass)
lean.begin()
from dataclasses import dataclass
assert dataclass is not lean._real
ours = make(dataclass)
lean.done(["inspect"])
def told(kinds):
    A, B, C = kinds
    out = [repr(A(1)), A(1) == A(1), A(1) != A(2), A(1) == A(1, z=[3]), A(1) == B(1), A(1).__eq__(5) is NotImplemented, repr(B(2)), B(2) == B(2), C(1) == C(2)]
    out += [hash(A(1, z=[])) == hash(A(1)), len({A(1), A(1), A(2)}), hash(C()), repr(dataclasses.replace(A(1), x=9)), repr(C(2.5)).rpartition(".")[2]]
    for act in (lambda: setattr(A(1), "x", 2), lambda: delattr(A(1), "x"), lambda: hash(B()), lambda: setattr(C(), "w", 1)):
        try:
            out.append(act())
        except Exception as fault:
            out.append(type(fault).__name__)
    return [str(word).replace("make.<locals>.", "") for word in out]
assert told(real) == told(ours), (told(real), told(ours))
'''
USED = """
late = {"_hashlib", "tokenize", "ipaddress", "traceback", "encodings.idna", "random"} & set(sys.modules)
assert not late, late
assert "SequenceMatcher" not in vars(sys.modules["difflib"])
import hashlib, logging, urllib.parse, tomllib
assert hashlib.sha1(b"").hexdigest().startswith("da39a3ee")
assert logging.getLogger("x").name == "x"
assert urllib.parse.quote("a b") == "a%20b"
assert tomllib.loads("a = 1") == {"a": 1}
rest = lean.Rest()
rest.tick(0)
assert "tomllib._parser" not in sys.modules and rest.due() == 0
assert tomllib.loads("a = 2") == {"a": 2}
try:
    tomllib.loads("a = ")
except tomllib.TOMLDecodeError:
    pass
try:
    hashlib.no_such_thing
except AttributeError:
    pass
"""


def run(code):
    folders = [TOP, *[p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]]
    words = [sys.executable, "-I", "-S", "-c", BEGIN.format(folders=folders) + code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_libraries_import_in_vain_is_loaded_when_it_is_used():
    run(USED)


def test_values_compare_hash_show_and_refuse_as_everywhere():
    run(VALUES)


def test_digests_are_those_of_hashlib():
    import hashlib

    from edgeheal.core import digest

    for data in (b"", b"abc", bytes(range(256)) * 9):
        assert digest.sha256(data).digest() == hashlib.sha256(data).digest()
        assert digest.blake2b(data, digest_size=8).digest() == hashlib.blake2b(data, digest_size=8).digest()
