# SPDX-License-Identifier: Apache-2.0
"""The box's own figures: one Source out of load, disks, board, clock and network.

Duty: the schedule of the looks. What the figures are called: `core.host_metrics`.
Invariant: nothing here blocks the loop: /proc is read in it, disks and board on workers.
"""

import os
from collections.abc import Callable, Mapping

from edgeheal.adapters.host.board import Board
from edgeheal.adapters.host.disks import Disks
from edgeheal.adapters.host.load import Load
from edgeheal.adapters.host.network import Network
from edgeheal.adapters.host.wall import Wall
from edgeheal.core.now import NS
from edgeheal.ports import Blocking, Emit


class Host:
    """A `ports.Source`: `HostSample`s every `every_s`, `LinkIs` when carrier, address or route change."""

    def __init__(
        self,
        emit: Emit,
        blocking: Blocking,
        disks: Mapping[str, str],
        clock: Callable[[], int],
        *,
        every_s: float = 10.0,
        statvfs: Callable[[str], object] = os.statvfs,
    ) -> None:
        """`disks`: label -> folder on a mount that matters (`{"var": layout.var, ...}`); `clock` is the monotonic clock in ns."""
        self._every_ns = round(every_s * NS)
        self._next_ns = clock()
        self._clock = clock
        self.load = Load(emit)
        self.disks = Disks(emit, blocking, disks, clock, statvfs)
        self.board = Board(emit, blocking)
        self.wall = Wall(emit)
        self.network = Network(emit, clock)

    @property
    def clock_trusted(self) -> bool:
        """Whether somebody who knows has set the wall clock, as of the last look."""
        return bool(self.wall.trusted)

    def fds(self) -> dict[int, int]:
        """The kernel's news about links, addresses and routes."""
        fd = self.network.fd()
        return {} if fd < 0 else {fd: self.network.mask()}

    def ready(self, fd: int, events: int) -> None:
        """Something about the network changed."""
        self.network.heard()

    def due(self) -> int:
        """The next look of any part."""
        silent = self.disks.due(self._clock())
        return min(at for at in (self._next_ns, self.network.due_ns, silent) if at)

    def tick(self, now_ns: int) -> None:
        """Look at what is due."""
        if now_ns >= self.network.due_ns:
            self.network.look(now_ns)
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + self._every_ns
            self.load.look()
            self.wall.look()
            self.board.look()
            self.disks.look(now_ns)
        elif self.disks.due(now_ns) and now_ns >= self.disks.due(now_ns):
            self.disks.look(now_ns)

    def close(self) -> None:
        """Let go of descriptors."""
        self.load.close()
        self.network.close()
