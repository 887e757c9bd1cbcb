# SPDX-License-Identifier: Apache-2.0
"""Probes: as many misses in a row as the manifest says.

Duty: from answers to a symptom. Healthy look-alikes: fewer misses than promised, "could not tell" (never a failure), the start grace,
misses of a standstill. Invariant: unknown neither counts nor forgives; a symptom ends with the first yes.
"""

from dataclasses import dataclass

from edgeheal.core.app import ProbeSpec
from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind, Verdict
from edgeheal.core.signal import ProbeAnswered
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

PROBES_MOST = 32


@dataclass(slots=True)
class Probe:
    """`misses` in a row since `first_ns`; `ok_ns`: last yes; `on`: failed."""

    misses: int = 0
    first_ns: int = 0
    ok_ns: int = 0
    on: bool = False
    code: int = 0


def spec_of(around: Around, name: str) -> ProbeSpec | None:
    """The manifest's word on a probe."""
    return next((p for p in around.spec.probes if p.name == name), None)


def answered(mem: dict[str, Probe], signal: ProbeAnswered, around: Around) -> tuple[Symptom, ...]:
    """One answer."""
    if signal.run and around.run and signal.run != around.run:
        return ()
    spec = spec_of(around, signal.probe)
    probe = mem.get(signal.probe)
    if probe is None:
        if len(mem) >= PROBES_MOST:
            return ()
        probe = mem[signal.probe] = Probe()
    if signal.verdict == Verdict.YES:
        was, probe.on, probe.misses, probe.ok_ns = probe.on, False, 0, around.ns
        return (Symptom(SymptomKind.PROBE_FAILED, signal.app, signal.probe, on=False),) if was else ()
    if signal.verdict != Verdict.NO or not _counts(signal, around):
        return ()
    probe.misses += 1
    probe.code = signal.code
    if probe.misses == 1:
        probe.first_ns = around.ns
    most = spec.misses if spec is not None else 3
    if probe.on or probe.misses < max(1, most):
        return ()
    probe.on = True
    return (_failed(signal.app, signal.probe, signal.means, probe, most, around),)


def _counts(signal: ProbeAnswered, around: Around) -> bool:
    """A no counts once the run must do its work; a start probe's no never does: the start grace judges that."""
    if signal.means == "start" or not around.judged:
        return False
    spec = spec_of(around, signal.probe)
    every_ns = (spec.every_ms if spec is not None else 10_000) * 1_000_000
    return not (around.still_ns and around.ns - around.still_ns < every_ns)


def _failed(app: str, name: str, means: str, probe: Probe, most: int, around: Around) -> Symptom:
    facts = (Evidence(EvidenceCode.PROBE_MISSES, probe.misses, most, name), Evidence(EvidenceCode.REASON, probe.code))
    took_ms = (around.ns - probe.first_ns) // 1_000_000
    return Symptom(
        SymptomKind.PROBE_FAILED, app, name, channel=Channel.APP, evidence=facts, run=around.run, detail=means, detect_ms=took_ms, serious=means == "live"
    )


def reset(mem: dict[str, Probe], app: str) -> tuple[Symptom, ...]:
    """A new run is judged anew."""
    off = tuple(Symptom(SymptomKind.PROBE_FAILED, app, name, on=False) for name, probe in mem.items() if probe.on)
    for probe in mem.values():
        probe.on, probe.misses = False, 0
    return off


def forgive(mem: dict[str, Probe]) -> None:
    """A standstill: misses before it say nothing."""
    for probe in mem.values():
        if not probe.on:
            probe.misses = 0
