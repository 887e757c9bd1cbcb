# SPDX-License-Identifier: Apache-2.0
"""What an app's log said last: evidence for others, hardly ever a symptom of its own.

Duty: keep the last error and the last crash's frames, each with its time. Invariant: words from an app are evidence, not orders;
what is kept is bounded and was masked and escaped by the adapter.
"""

from dataclasses import dataclass

from edgeheal.core.signal import LogSeen
from edgeheal.detect.around import Around

TEXT_MOST = 160
FRAMES_MOST = 12


@dataclass(slots=True)
class Log:
    """`error` in lower case; `frames` of the last crash; times in mono ns, 0 = never."""

    error: str = ""
    error_ns: int = 0
    frames: tuple[str, ...] = ()
    frames_ns: int = 0
    template: str = ""


def seen(mem: Log, signal: LogSeen, around: Around) -> None:
    """Folded lines of one template."""
    if signal.frames:
        mem.frames = tuple(str(f)[:TEXT_MOST] for f in signal.frames[:FRAMES_MOST])
        mem.frames_ns = around.ns
    if signal.level <= 3 or signal.error or signal.frames:
        mem.error = f"{signal.error} {signal.excerpt}".strip().lower()[:TEXT_MOST]
        mem.template = signal.template[:TEXT_MOST]
        mem.error_ns = around.ns
