# SPDX-License-Identifier: Apache-2.0
"""Carrier, address and route of the box, told apart, as `LinkIs`.

Duty: listen to the kernel's link, address and route groups (rtnetlink), then read the present state from /proc and /sys.
It asks nobody on the network: name service, broker and controller are the link's to judge.
Invariants: a message is only a reason to look again (its content is not believed); a burst is one look; a look reads a
bounded number of interfaces; a change of route or address while all is up is told again as up, so that the link checks itself.
Sources: rtnetlink(7), proc_net(5); interfaces with no device behind them (bridges of containers, lo, ifb) lead nowhere.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from edgeheal.core.now import NS
from edgeheal.core.signal import LinkIs
from edgeheal.ports import Emit

RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
SETTLE_NS = NS // 4
LOOK_EVERY_NS = 300 * NS  # a lost message does not leave us wrong for ever
INTERFACES_MOST = 64
SIOCGIFADDR = 0x8915
OUTWARD = ("wwan", "ppp", "wg", "tun")


@dataclass(frozen=True, slots=True)
class View:
    """What is there: interfaces with carrier, addresses of more than link scope, default routes."""

    carriers: frozenset[str] = frozenset()
    addresses: frozenset[tuple[str, str]] = frozenset()
    routes: frozenset[tuple[str, str]] = frozenset()


class Network:
    """Part of the host's Source: one netlink socket, a look after each burst."""

    def __init__(self, emit: Emit, clock: Callable[[], int], proc: str = "/proc", sysfs: str = "/sys") -> None:
        """The first look is due at once. Without netlink (a strict sandbox) it looks every 5 minutes only."""
        self._emit = emit
        self._clock = clock
        self._proc = proc
        self._sysfs = sysfs
        self.due_ns = clock()
        self._view: View | None = None
        self._sock: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._sock.bind((0, GROUPS))

    def fd(self) -> int:
        """The netlink socket; -1 = none."""
        return -1 if self._sock is None else self._sock.fileno()

    def mask(self) -> int:
        """What to wait for."""
        return select.POLLIN

    def heard(self) -> None:
        """Empty the socket (an overrun is a reason to look as well) and look once the burst is over."""
        if self._sock is None:
            return
        for _ in range(256):
            try:
                self._sock.recv(65_536)
            except BlockingIOError:
                break
            except OSError:
                continue  # ENOBUFS: messages were lost, which says the same
        self.due_ns = min(self.due_ns, self._clock() + SETTLE_NS)

    def look(self, now_ns: int) -> None:
        """Tell what changed."""
        self.due_ns = now_ns + LOOK_EVERY_NS
        old, new = self._view, self.read()
        self._view = new
        for layer in ("carrier", "address", "route"):
            before = None if old is None else self._part(old, layer)
            after = self._part(new, layer)
            if after != before:
                self._emit(LinkIs(layer=layer, up=bool(after)))

    def read(self) -> View:
        """The present."""
        names = self._outward()
        carriers = frozenset(n for n in names if _text(f"{self._sysfs}/class/net/{n}/carrier").strip() == "1")
        addresses = {(n, a) for n in names if (a := _ipv4_of(n))}
        for words in (line.split() for line in _text(f"{self._proc}/net/if_inet6").splitlines()):
            if len(words) == 6 and words[5] in names and words[3] == "00":  # scope global
                addresses.add((words[5], words[0]))
        return View(carriers, frozenset(addresses), frozenset(self._routes()))

    def _outward(self) -> list[str]:
        """Interfaces that may lead out: with a device behind them, stacked on such a one (bond, bridge, VLAN), or a tunnel or modem line."""
        base = f"{self._sysfs}/class/net"
        every = sorted(_listed(base))[:INTERFACES_MOST]
        found = {n for n in every if os.path.exists(f"{base}/{n}/device") or n.startswith(OUTWARD)}
        for _ in range(3):  # a VLAN on a bridge on a bond
            found |= {n for n in every if n not in found and any(e[6:] in found for e in _listed(f"{base}/{n}") if e.startswith("lower_"))}
        return sorted(found)

    def _part(self, view: View, layer: str) -> frozenset[str] | frozenset[tuple[str, str]]:
        return view.carriers if layer == "carrier" else view.addresses if layer == "address" else view.routes

    def _routes(self) -> set[tuple[str, str]]:
        """Default routes that are up: (interface, gateway)."""
        found = set()
        for words in (line.split() for line in _text(f"{self._proc}/net/route").splitlines()[1:]):
            if len(words) >= 8 and words[1] == "00000000" and words[7] == "00000000" and int(words[3], 16) & 1:
                found.add((words[0], words[2]))
        for words in (line.split() for line in _text(f"{self._proc}/net/ipv6_route").splitlines()):
            if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo" and int(words[8], 16) & 1:
                found.add((words[9], words[4]))
        return found

    def close(self) -> None:
        """Let go of the socket."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _text(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 65_536).decode("ascii", "replace")
    except OSError:  # the carrier of an interface that is down cannot be read: it has none
        return ""
    finally:
        os.close(fd)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _ipv4_of(interface: str) -> str:
    """Its first IPv4 address; "" = none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            answer = fcntl.ioctl(sock.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return ""
    address = socket.inet_ntoa(answer[20:24])
    return "" if address.startswith("169.254.") else address
