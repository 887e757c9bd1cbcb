# SPDX-License-Identifier: Apache-2.0
"""A symptom: something that a detector noticed began, or ended.

Duty: the value between `detect` and the incident machine. It names no cause.
Invariant: `on` False is an event too (the end of a condition); equal (kind, app, subject) is the same condition.
"""

from dataclasses import dataclass

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, SymptomKind


@dataclass(frozen=True, slots=True)
class Symptom:
    """`app` "" is the box. `subject`: sensor, probe, mount, peer. `run`: the run it was seen on, 0 = none.

    `detail` tells kinds of the same symptom apart in the fingerprint (exit code, signal); `frames` a crash's top frames.
    `detect_ms`: how long after its beginning it was noticed. `serious`: the app does not do its work.
    """

    kind: SymptomKind
    app: str = ""
    subject: str = ""
    on: bool = True
    channel: Channel = Channel.AGENT
    evidence: tuple[Evidence, ...] = ()
    run: int = 0
    detail: str = ""
    frames: tuple[str, ...] = ()
    detect_ms: int = 0
    serious: bool = False

    @property
    def key(self) -> tuple[SymptomKind, str]:
        """What makes it the same condition of the same app."""
        return (self.kind, self.subject)
