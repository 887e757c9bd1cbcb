# SPDX-License-Identifier: Apache-2.0
"""From a crash's lines to the incident's fingerprint: two versions of one crash are one, another crash is another, in each language."""

import crash_samples as samples
import pytest

from edgeheal.adapters.logs.traces import Traces
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.kinds import SymptomKind
from edgeheal.lab.device import Device

# how each run-time ends its process after such a crash
ENDS = {
    "python": (1, None), "asan": (1, None), "ubsan": (1, None), "glibc": (None, 6), "assert": (None, 6), "c++": (None, 6), "java": (1, None), "go": (2, None),
    "node": (1, None), "rust": (101, None),
}  # fmt: skip


def crash_of(text):
    traces = Traces()
    found = [traces.feed(line)[1] for line in text.splitlines()]
    return next(c for c in (*found, traces.flush()) if c is not None)


def fingerprint(text, code, signum, *, log_first):
    """The fingerprint of the incident that a device tells of an app that died like this."""
    device = Device([AppSpec("gw")])
    device.start_all()
    device.run(100)
    crash = crash_of(text)
    said = sig.LogSeen("gw", f"crash {crash.error}", 1, 2, crash.error, crash.frames, crash.error)
    if log_first:
        device.tell(said)
    device._end("gw", 1, code, signum)
    if not log_first:
        device.tell(said)
    device.run(1)
    (incident,) = {i.number: i for i in device.reports}.values()
    assert incident.symptom is SymptomKind.EXIT
    return incident.fingerprint


@pytest.mark.parametrize("log_first", [True, False], ids=["log first", "exit first"])
@pytest.mark.parametrize("language", samples.TRIPLES)
def test_two_versions_of_a_crash_have_one_fingerprint_and_another_crash_has_its_own(language, log_first):
    code, signum = ENDS[language]
    one, following, other = (fingerprint(text, code, signum, log_first=log_first) for text in samples.TRIPLES[language])
    assert one == following
    assert one != other


def test_all_languages_promised_are_in_the_table():
    assert set(ENDS) == set(samples.TRIPLES)
    prints = [fingerprint(samples.TRIPLES[name][0], *ENDS[name], log_first=True) for name in ENDS]
    assert len(set(prints)) == len(prints)
