# SPDX-License-Identifier: Apache-2.0
"""Growth that comes and goes with something else: an app that grows only while the way out is down.

Duty: count, phase by phase of a condition of the box, in which of them an app's memory grew. It raises no symptom; a growth that is told
carries what was counted as evidence. Healthy look-alikes: one that grows in both, one that fills a buffer once.
Invariants: a phase counts when it lasted `LEAST_S` and was sampled `SAMPLES` times; a new run begins a new phase, what was counted stays.
"""

from dataclasses import dataclass

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import EvidenceCode
from edgeheal.core.now import NS

LEAST_S = 20
SAMPLES = 3
NOISE_KIB = 1_024
TIMES = 2  # phases of growth before it is said
COUNTED_MOST = 1_000


@dataclass(slots=True)
class Phases:
    """The open phase: `layer` that is down ("" = none), since when, first and last figure; `grown` of `away` phases, and of `well` ones."""

    run: int = 0
    layer: str = ""
    since_ns: int = 0
    first: int = 0
    last: int = 0
    last_ns: int = 0
    samples: int = 0
    away: int = 0
    grown_away: int = 0
    well: int = 0
    grown_well: int = 0
    named: str = ""


def sampled(mem: Phases, run: int, kib: int, layer: str, now_ns: int) -> None:
    """One sample of an app's memory while `layer` is down ("" = none)."""
    if kib < 0:
        return
    if run != mem.run or bool(layer) is not bool(mem.layer):
        away, grown = _counts(mem)
        if away:
            mem.away, mem.grown_away, mem.named = mem.away + 1, mem.grown_away + grown, mem.layer
        elif away is not None:
            mem.well, mem.grown_well = mem.well + 1, mem.grown_well + grown
        if mem.away > COUNTED_MOST or mem.well > COUNTED_MOST:
            mem.away, mem.grown_away, mem.well, mem.grown_well = mem.away // 2, mem.grown_away // 2, mem.well // 2, mem.grown_well // 2
        mem.run, mem.layer, mem.since_ns, mem.first, mem.samples = run, layer, now_ns, kib, 0
    mem.last, mem.last_ns = kib, now_ns
    mem.samples += 1


def _counts(mem: Phases) -> tuple[bool | None, int]:
    """(whether the open phase is one of being away, None: it does not count; 1 if it grew)."""
    if mem.samples < SAMPLES or mem.last_ns - mem.since_ns < LEAST_S * NS:
        return None, 0
    return bool(mem.layer), int(mem.last - mem.first > NOISE_KIB)


def told(mem: Phases) -> tuple[Evidence, ...]:
    """The evidence, if it grew each time while away and never else."""
    away, grown = _counts(mem)
    n, of = mem.grown_away + (grown if away else 0), mem.away + (1 if away else 0)
    well, grown_well = mem.well + (1 if away is False else 0), mem.grown_well + (grown if away is False else 0)
    if n < TIMES or n < of or not well or grown_well:
        return ()
    return (Evidence(EvidenceCode.GROWS_WHILE, n, of, mem.layer or mem.named),)
