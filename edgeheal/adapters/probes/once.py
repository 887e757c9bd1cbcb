# SPDX-License-Identifier: Apache-2.0
"""One probe, asked and waited for: for the command line, never for the loop.

Duty: drive one attempt to its answer or its deadline. Invariant: it blocks at most the probe's own time-out.
"""

import select
import time

from edgeheal.adapters.probes.attempt import Attempt
from edgeheal.adapters.probes.http import HttpAttempt
from edgeheal.adapters.probes.tcp import TcpAttempt
from edgeheal.core import reasons
from edgeheal.core.app import ProbeSpec
from edgeheal.core.kinds import Verdict


def once(probe: ProbeSpec) -> tuple[Verdict, int]:
    """(verdict, code) of an http or tcp probe now."""
    try:
        attempt: Attempt = HttpAttempt.begin(probe.target) if probe.kind == "http" else TcpAttempt.begin(probe.target)
    except ValueError:
        return Verdict.UNKNOWN, reasons.MALFORMED
    end = time.monotonic() + probe.timeout_ms / 1000
    try:
        answer = attempt.go(0)
        while answer is None:
            left = end - time.monotonic()
            if left <= 0:
                answer = attempt.expired()
                break
            poll = select.poll()
            poll.register(attempt.fd, attempt.mask)
            events = poll.poll(left * 1000)
            answer = attempt.go(events[0][1]) if events else None
        return answer.verdict, answer.code
    finally:
        attempt.close()
