# SPDX-License-Identifier: Apache-2.0
"""Whatever a file holds: a config or typed problems, never an untyped error, and always an end."""

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeheal.config.decode import all_keys
from edgeheal.config.files import Text, _text
from edgeheal.config.flat import UNSAID, rows
from edgeheal.config.kinds import BudgetKind, Celsius, Kibibytes, Millis, Misread, Number, Permille, Seconds, Size
from edgeheal.config.lines import locate
from edgeheal.config.load import load_texts
from edgeheal.config.problem import Problem
from edgeheal.core.policy import Budget

KEYS = all_keys()
VALUE = st.one_of(
    st.text(max_size=20).map(lambda t: '"' + t.replace("\\", "").replace('"', "").replace("\n", "") + '"'),
    st.integers().map(str), st.floats().map(str), st.sampled_from(["true", "[]", "{}", "inf", "1e999", "1979-05-27", '"10ss"', "[[1], 2]", "'x'", "0x10"]),
    st.tuples(st.integers(-5, 10**9), st.sampled_from(["", "ms", "s", "m", "h", "d", "kB", "MB", "%", "C", "ss"])).map(lambda p: f'"{p[0]}{p[1]}"'),
)  # fmt: skip
LINE = st.tuples(st.sampled_from([*KEYS, "NAME", "a.b.c", "link", "apps.NAME", "remedies.restart"]), VALUE).map(
    lambda p: f"{p[0].replace('NAME', 'gw')} = {p[1]}"
)


def check(text):
    loaded = load_texts((Text("f.toml", text),), "/etc/edgeheal")
    assert (loaded.config is None) == bool(loaded.problems)
    for problem in loaded.problems:
        assert isinstance(problem, Problem)
        assert "\n" not in problem.sentence() + problem.hint()
        assert problem.sentence().isprintable()
        assert 0 <= problem.line <= text.count("\n") + 1
    return loaded


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_ends_in_a_config_or_typed_problems(text):
    check(text)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINE, max_size=12).map("\n".join))
def test_any_lines_of_known_keys_end_in_a_config_or_typed_problems(text):
    loaded = check(text)
    if loaded.config is not None:
        for row in rows(loaded.config):
            assert row.shown == UNSAID or tomllib.loads(f"v = {row.shown}")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_text_or_a_typed_problem(data):
    found = _text("f.toml", data)
    if isinstance(found, Text):
        check(found.text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab.=[]{}\"'#\\\n ,1", max_size=120))
def test_the_search_for_lines_ends_for_any_text(text):
    locate(text)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([Millis(0, 10**11), Seconds(0, 10**9), Size(0, 10**15), Kibibytes(0, 10**12)]), st.integers(0, 10**8))
def test_what_a_quantity_shows_it_reads_back(kind, value):
    assert kind.read(tomllib.loads(f"v = {kind.show(value)}")["v"], "") == value


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([Millis(10, 86_400_000), Seconds(5, 86_400), Size(1_000, 10**9), Kibibytes(16, 10**6), Permille(1, 900), Celsius(20, 150), Number(1, 65_535), BudgetKind()]),
    st.one_of(st.text(max_size=20), st.integers(-(10**12), 10**12), st.floats(), st.booleans(), st.sampled_from(["5 in 1e9s", "5in10m", "10ss", "-5s", "1.0001s", "99 in 99999999d"])),
)  # fmt: skip
def test_a_nearest_form_is_itself_valid(kind, raw):
    try:
        kind.read(raw, "")
    except Misread as fault:
        if fault.nearest:
            kind.read(tomllib.loads(f"v = {fault.nearest}")["v"], "")


@given(st.integers(0, 100_000), st.integers(1, 31_536_000))
def test_a_budget_shows_and_reads_back(most, per_s):
    kind = BudgetKind()
    assert kind.read(kind.show(Budget(most, per_s)).strip('"'), "") == Budget(most, per_s)
