# SPDX-License-Identifier: Apache-2.0
"""Drives a Source as the agent's loop does, until something holds or a deadline passes."""

import select
import time
from collections.abc import Callable
from typing import Any


def drive(*sources: Any, until: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether `until` came true in time."""
    end = time.monotonic() + seconds
    while not until():
        left = end - time.monotonic()
        if left <= 0:
            return False
        poll = select.poll()
        owners = {}
        for source in sources:
            for fd, mask in source.fds().items():
                poll.register(fd, mask)
                owners[fd] = source
        due = min((at for s in sources if (at := s.due())), default=0)
        wait = left if due == 0 else min(left, max(0.0, (due - time.monotonic_ns()) / 1e9))
        for fd, events in poll.poll(min(wait, 0.2) * 1000):
            owners[fd].ready(fd, events)
        now = time.monotonic_ns()
        for source in sources:
            at = source.due()
            if at and at <= now:
                source.tick(now)
    return True
