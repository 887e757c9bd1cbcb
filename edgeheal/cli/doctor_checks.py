# SPDX-License-Identifier: Apache-2.0
"""The checks of `edgeheal doctor`: one function each, in the order in which a person would look.

Duty: look, say, name the next step. Invariants: nothing is changed; what may not be looked at is said as such and is not *wrong*; a check that
meets what it did not expect ends in a finding, never in a traceback.
"""

import importlib.metadata
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeheal.config.accounts import Accounts, resolve
from edgeheal.config.load import Loaded, load
from edgeheal.config.schema import Config
from edgeheal.core.errors import EdgeHealError, RefusedByPolicyError, TrustError
from edgeheal.core.layout import Layout
from edgeheal.core.version import BUILT_S, VERSION

SPACE_LEAST = 64_000_000
INODES_LEAST = 2_000
ENTRIES_MOST = 200_000
LIBRARIES = (("paho-mqtt", "1.6"), ("psutil", "5.9"), ("cryptography", "38"), ("msgpack", "1.0"), ("pyserial", "3.5"))
UNITS = ("edgeheal-guard", "edgeheal-agent")
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `step` is what to do, "" where it is well."""

    what: str
    says: str
    step: str = ""


@dataclass(slots=True)
class Seen:
    """What several checks look at."""

    layout: Layout
    loaded: Loaded
    config: Config
    accounts: Accounts | None
    status: dict[str, Any] = field(default_factory=dict)


def all_of(layout: Layout) -> list[Finding]:
    """Every finding."""
    loaded = load(layout)
    config = loaded.config or Config()
    accounts = resolve(loaded.config, loaded.origins)[0] if loaded.config is not None else None
    seen = Seen(layout, loaded, config, accounts)
    return [finding for check in CHECKS for finding in _tried(check, seen)]


def _tried(check: Callable[[Seen], list[Finding]], seen: Seen) -> list[Finding]:
    try:
        return check(seen)
    except (OSError, ValueError, EdgeHealError) as fault:
        return [Finding(check.__name__, f"could not be looked at: {fault}", "run it as root; else tell the makers of EdgeHeal")]


def versions(_: Seen) -> list[Finding]:
    """EdgeHeal, Python, its libraries, OpenSSL."""
    python = ".".join(map(str, sys.version_info[:3]))
    found, old = [], []
    for name, least in LIBRARIES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            old.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if _number(version) < _number(least):
            old.append(f"{name} {version} is older than {least}")
    says = f"edgeheal {VERSION}, python {python}, {ssl.OPENSSL_VERSION.split(' ')[0]} {ssl.OPENSSL_VERSION.split(' ')[1]}, {', '.join(found)}"
    return [Finding("versions", f"{says}{'; ' if old else ''}{'; '.join(old)}", "install it again: scripts/install" if old else "")]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:3])


def config(seen: Seen) -> list[Finding]:
    """The files, users and files that they name."""
    from edgeheal.config.references import references

    loaded = seen.loaded
    problems = loaded.problems
    if loaded.config is not None:
        problems += resolve(loaded.config, loaded.origins)[1] + references(loaded.config, loaded.origins)
    if problems:
        return [Finding("config", f"{p.place()}: {p.sentence()}", p.hint()) for p in problems]
    return [Finding("config", ", ".join(t.path for t in loaded.texts) or "no file: the defaults")]


def identity(seen: Seen) -> list[Finding]:
    """Name, and whether it was set up on this machine."""
    from edgeheal.adapters import identity as kept

    fault = kept.fault(seen.layout)
    if fault:
        return [Finding("identity", fault, "a copied disk: edgeheal setup --forget, then edgeheal setup; a changed board or card: edgeheal setup --adopt")]
    named = seen.config.device.id
    if not named and seen.config.link.host:
        return [Finding("identity", "this device has no id, and a broker", "edgeheal setup --device ID")]
    bound = "" if os.path.exists(seen.layout.identity) else ", bound to no machine"
    return [Finding("identity", f"{named or 'no id: no fleet, none is needed'}{bound if named else ''}")]


def certificate(seen: Seen) -> list[Finding]:
    """The device's certificate: whose, until when, its key's mode."""
    from edgeheal.agent.identity import said
    from edgeheal.trust import certificate as certificates

    link = seen.config.link
    if not (link.host and link.tls and link.cert):
        asked = f"{seen.layout.keys}/device.csr"
        waits = link.host and link.tls and os.path.exists(asked)
        return [Finding("cert", f"none yet; {asked} waits to be signed", "have it signed by your CA, then: edgeheal setup --cert FILE")] if waits else []
    try:
        with open(link.cert, "rb") as file:
            one = certificates.read(file.read(certificates.MOST), place=link.cert)
    except FileNotFoundError:
        return [Finding("cert", f"{link.cert} is not there", "edgeheal setup --cert FILE")]
    warning = said(one.ends, time.time())
    until = time.strftime("%Y-%m-%d", time.gmtime(one.ends))
    if one.subject != seen.config.device.id:
        step = "edgeheal setup --cert FILE, with one whose common name is the device's id"
        return [Finding("cert", f"{link.cert} is {one.subject}'s, not {seen.config.device.id}'s", step)]
    return [
        Finding("cert", f"{one.subject}, until {until}{'; ' if warning else ''}{warning}", "have a new one made: edgeheal setup --cert FILE" if warning else "")
    ]


def trust(seen: Seen) -> list[Finding]:
    """The chain of trust, proven as the guard proves it."""
    from edgeheal.trust import chain, envelope
    from edgeheal.trust.verify import signers

    layout = seen.layout
    none = Finding(
        "trust", "this device trusts no key: no image can be installed", f"edgeheal setup --trust FILE, or put it at {layout.vendor_trust}/00001.eht"
    )
    names, unseen = _documents(layout.vendor_trust), ""
    try:
        later = _documents(layout.trust)
    except PermissionError:
        later, unseen = [], "; later versions are the guard's to read"
    if not names and not later:
        return [none] if not unseen else [Finding("trust", "only the guard may look", "")]
    links = [link for path in (*names, *later) for link in envelope.decode_chain(_read(path))]
    try:
        first = chain.first(links[0], signers, shared_keys=seen.config.trust.shared_keys)
        newest = [first, *chain.walk(first.trust, links[1:], signers, shared_keys=seen.config.trust.shared_keys)][-1].trust
    except TrustError as fault:
        return [Finding("trust", f"the chain does not hold: {fault}", f"put the files of {layout.vendor_trust} back as they were shipped")]
    age = time.time() - max(os.stat(path).st_mtime for path in (*names, *later))
    roles = ", ".join(f"{name} {role.threshold} of {len(role.keys)}" for name, role in sorted(newest.roles.items()))
    says = f"version {newest.n} holds: {roles}{unseen}"
    stale = age > seen.config.trust.stale_s
    return [
        Finding("trust", f"{says}{f'; {age / DAY_S:.0f} d old' if stale else ''}", "bring a newer trust version, or one that says the same" if stale else "")
    ]


def _documents(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1_048_576)


def owners(seen: Seen) -> list[Finding]:
    """Owners and modes of folders, sockets and keys, as documented."""
    layout, accounts = seen.layout, seen.accounts
    if accounts is None or not os.path.isdir(layout.var):
        return []
    apart = accounts.parts["agent"][0] != 0 and os.geteuid() == 0
    rows: list[tuple[str, int, int]] = [
        (layout.guard, 0o700, 0),
        (layout.store, 0o755, accounts.parts["store"][0]),
        (layout.agent, 0o2750, accounts.parts["agent"][0]),
    ]
    wrong = [text for path, mode, uid in rows if (text := _owner(path, mode, uid if apart else -1))]
    link = seen.config.link
    secrets = [p for p in (link.key, link.password_file) if p]
    wrong += [text for path in secrets if (text := _secret(path, accounts.parts["agent"][0] if apart else -1))]
    wrong += [
        f"{path} may be written by others" for path in (layout.etc, layout.config_file, layout.keys, *(t.path for t in seen.loaded.texts)) if _open_to_all(path)
    ]
    if wrong:
        return [
            Finding("owners", text, "set it right with chown and chmod; `edgeheal setup` sets keys right, the guard its folders at its start") for text in wrong
        ]
    return [Finding("owners", "folders and keys belong to whom they should" + ("" if apart else "; guard, agent and apps are one user"))]


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=False)
    except OSError:
        return None


def _owner(path: str, mode: int, uid: int) -> str:
    one = _stat(path)
    if one is None:
        return ""
    if uid >= 0 and one.st_uid != uid:
        return f"{path} belongs to uid {one.st_uid}, not {uid}"
    loose = stat.S_IMODE(one.st_mode) & ~mode & 0o777
    return f"{path} has mode {stat.S_IMODE(one.st_mode):o}, not {mode:o}" if loose else ""


def _secret(path: str, uid: int) -> str:
    one = _stat(path)
    if one is None:
        return ""
    if one.st_mode & 0o077:
        return f"{path} may be read by others (mode {stat.S_IMODE(one.st_mode):o})"
    return f"{path} belongs to uid {one.st_uid}: the agent (uid {uid}) cannot read it" if uid >= 0 and one.st_uid != uid else ""


def _open_to_all(path: str) -> bool:
    one = _stat(path)
    return one is not None and bool(one.st_mode & 0o002) and not stat.S_ISLNK(one.st_mode)


def space(seen: Seen) -> list[Finding]:
    """Room and inodes where data lies."""
    var = seen.layout.var
    try:
        room = os.statvfs(var)
    except OSError as fault:
        return [Finding("space", f"{var}: {fault.strerror}", "start the guard, which makes its folders; is the data partition mounted?")]
    free = room.f_bavail * room.f_frsize
    few = bool(room.f_files) and room.f_favail < INODES_LEAST
    says = f"{free // 1_000_000} MB free in {var}" + (f", {room.f_favail} inodes" if few else "")
    return [Finding("space", says, f"free space in {var}" if free < SPACE_LEAST or few else "")]


def quotas(seen: Seen) -> list[Finding]:
    """Images and each app's data against what the config allows."""
    layout, found = seen.layout, []
    used, _ = _weigh(layout.store)
    most = seen.config.guard.quota_bytes
    full = used > most * 0.95
    says = f"images {used // 1_000_000} of {most // 1_000_000} MB"
    for name, app in sorted(seen.config.apps.items()):
        size, count = _weigh(layout.app_data(name))
        for what, have, limit in (("bytes", size, app.max_size_bytes), ("inodes", count, app.max_inodes)):
            if limit and have > limit * 0.95:
                found.append(
                    Finding(
                        "quotas",
                        f"{name} has {have} of {limit} {what} of data",
                        f"see what it keeps in {layout.app_data(name)}; or [apps.{name}] max_{'size' if what == 'bytes' else what}",
                    )
                )
    left = os.listdir(layout.staging) if os.path.isdir(layout.staging) and os.access(layout.staging, os.R_OK) else []
    says += f"; {len(left)} half-read images" if left else ""
    return [Finding("quotas", says, "drop images: edgeheal image list, edgeheal image drop APP ID" if full else ""), *found]


def _weigh(folder: str) -> tuple[int, int]:
    """(bytes on disk, entries); each inode once; what may not be read counts for nothing."""
    seen: set[int] = set()
    size = count = 0
    for path, _, names in os.walk(folder):
        for name in names:
            one = _stat(f"{path}/{name}")
            count += 1
            if one is not None and one.st_ino not in seen:
                seen.add(one.st_ino)
                size += one.st_blocks * 512
        if count > ENTRIES_MOST:
            break
    return size, count


def watchdog(seen: Seen) -> list[Finding]:
    """The hardware watchdog, if one is configured or could be."""
    said = seen.config.watchdog
    there = sorted(name for name in os.listdir("/dev") if name.startswith("watchdog") and len(name) > len("watchdog"))
    if not said.device:
        hint = f" ({', '.join(there)} could be: [watchdog] device)" if there else ""
        return [Finding("watchdog", f"none is configured{hint}")]
    if not os.path.exists(said.device):
        step = "load its driver (see `dmesg | grep -i watchdog`), or mend [watchdog] device"
        return [Finding("watchdog", f"{said.device} is not there", step)]
    return [Finding("watchdog", f"{said.device}, {said.timeout_s} s asked for{_held(said.device)}")]


def _held(device: str) -> str:
    """What the kernel says of it."""
    name = os.path.basename(device)
    base = f"/sys/class/watchdog/{name if name != 'watchdog' else 'watchdog0'}"
    said = []
    for what in ("state", "timeout", "nowayout"):
        try:
            with open(f"{base}/{what}", encoding="ascii") as file:
                said.append(f"{what} {file.read(64).strip()}")
        except OSError:
            continue
    return f" ({', '.join(said)})" if said else ""


def clock(_: Seen) -> list[Finding]:
    """Whether the clock can be right, and whether somebody sets it."""
    now = time.time()
    if now < BUILT_S:
        return [Finding("clock", f"{time.strftime('%Y-%m-%d', time.gmtime(now))} is before this version was made", "set it: is there a battery, RTC or NTP?")]
    synced = any(os.path.exists(path) for path in ("/run/systemd/timesync/synchronized", "/run/chrony/chronyd.sock", "/var/lib/ntp/drift"))
    return [
        Finding(
            "clock", f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(now))} UTC" + ("" if synced else "; no sign of NTP here: expiries are judged with care")
        )
    ]


def units(seen: Seen) -> list[Finding]:
    """Who starts us, on a real device."""
    if seen.layout.root != "/":
        return []
    if os.path.isdir("/run/systemd/system"):
        found = []
        for unit in UNITS:
            state = {what: _systemctl(what, unit) for what in ("is-active", "is-enabled")}
            ok = state["is-active"] in ("active", "reloading", "activating") and state["is-enabled"] not in ("disabled", "masked", "not-found")
            found.append(Finding("units", f"{unit}: {state['is-active']}, {state['is-enabled']}", "" if ok else f"systemctl enable --now {unit}"))
        return found
    if os.path.exists("/sbin/openrc-run"):
        there = os.path.exists("/etc/init.d/edgeheal-guard")
        return [Finding("units", f"OpenRC: edgeheal-guard {'is there' if there else 'is missing'}", "" if there else "scripts/install --init openrc")]
    return [Finding("units", "no systemd, no OpenRC: your init starts `edgeheal guard`, and again when it ends")]


def _systemctl(what: str, unit: str) -> str:
    try:
        done = subprocess.run(["systemctl", what, unit], stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.decode("ascii", "replace").strip() or "not-found"


def guard(seen: Seen) -> list[Finding]:
    """Whether it answers, with which boundary."""
    from edgeheal.adapters.guard_client import GuardDoor

    try:
        with GuardDoor(seen.layout.guard_socket, timeout_s=5) as door:
            return [Finding("guard", f"answers; boundary: {door.hello.boundary}")]
    except RefusedByPolicyError as fault:
        return [Finding("guard", str(fault), fault.hint)]
    except EdgeHealError as fault:
        return [Finding("guard", str(fault), "start it: edgeheal guard")]


def agent(seen: Seen) -> list[Finding]:
    """Whether it answers, in which version, and what it has to say."""
    from edgeheal.cli.ask import ask

    try:
        seen.status = ask(seen.layout.control_socket, "status")
    except RefusedByPolicyError as fault:
        return [Finding("agent", str(fault), fault.hint)]
    except EdgeHealError as fault:
        return [Finding("agent", str(fault), "the guard starts it; else: edgeheal agent")]
    version = seen.status.get("version", "")
    other = "" if version == VERSION else f"; it is version {version}, this command is {VERSION}"
    return [Finding("agent", f"answers{other}", "restart it: it is of the version before an upgrade" if other else "")]


def link(seen: Seen) -> list[Finding]:
    """The way to the fleet, as the agent sees it."""
    if not seen.config.link.host:
        return [Finding("link", "no broker is configured: nothing is reported, everything heals all the same")]
    fleet = seen.status.get("fleet")
    where = f"{seen.config.link.host}:{seen.config.link.port}"
    if not fleet:
        return [Finding("link", f"{where}: unknown without the agent")]
    step = "" if fleet["up"] else f"can this box reach {where}? cable, route, name, then [link] and certificates"
    found = [Finding("link", f"{where}: {fleet['text']}", step)]
    if fleet["dropped"]:
        found.append(Finding("link", f"{fleet['dropped']} reports were dropped: the spool was full", "bring the link back; or a larger [spool] size"))
    return found


CHECKS: tuple[Callable[[Seen], list[Finding]], ...] = (
    versions, config, identity, certificate, trust, owners, space, quotas, watchdog, clock, units, guard, agent, link,
)  # fmt: skip
