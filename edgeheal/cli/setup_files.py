# SPDX-License-Identifier: Apache-2.0
"""The files of a device's identity: what `edgeheal setup` checks, writes and takes away.

Duty: prove certificate, key, trust and config; then write, each file by temp and rename. It asks nobody anything.
Invariants: nothing is written before all was found right; keys are 0400 and the agent's, never readable by others, not even for a moment; trust version
1 and a key that is there are never overwritten by others; the config that it writes has passed the device's own check.
"""

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass, field
from typing import Any

from edgeheal.adapters import identity
from edgeheal.cli import files
from edgeheal.config.accounts import resolve
from edgeheal.config.files import Text, read_layers
from edgeheal.config.load import load, load_texts
from edgeheal.core.errors import AgentUnreachableError, ConfigError, EdgeHealError, RefusedByPolicyError, TrustError
from edgeheal.core.layout import Layout
from edgeheal.trust import certificate
from edgeheal.trust.certificate import Certificate

PEM_MOST = 262_144
SECRET, PUBLIC = 0o400, 0o644


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be so. Empty paths: not given; `host` empty: no fleet."""

    device: str
    tenant: str
    place: str
    classes: tuple[str, ...]
    host: str
    port: int
    tls: bool
    ca: str
    cert: str
    key: str
    password: str
    trust: str
    adopt: bool


@dataclass(slots=True)
class Done:
    """What came of it."""

    device: str = ""
    tenant: str = ""
    broker: str = ""
    key: str = ""
    csr: str = ""
    certificate: tuple[str, Certificate] | None = None
    trust: str = ""
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For `--json`."""
        one = self.certificate
        held = {"file": one[0], "subject": one[1].subject, "until": utc(one[1].ends)} if one else None
        return {
            "device": self.device, "tenant": self.tenant, "broker": self.broker, "key": self.key, "csr": self.csr, "certificate": held, "trust": self.trust,
            "done": self.done, "kept": self.kept, "next": self.next,
        }  # fmt: skip


def utc(seconds: int) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Paths:
    """Where the identity's files lie."""

    def __init__(self, layout: Layout) -> None:
        """Below `layout.keys`."""
        keys = layout.keys
        self.key, self.csr, self.cert = f"{keys}/device.key", f"{keys}/device.csr", f"{keys}/device.pem"
        self.ca, self.password = f"{keys}/ca.pem", f"{keys}/password"
        self.trust = f"{layout.vendor_trust}/00001.eht"


def apply(layout: Layout, wanted: Wanted) -> Done:
    """Make it so; typed errors before anything was written."""
    paths = Paths(layout)
    _same_machine(layout, wanted)
    plan = _proven(paths, wanted)
    toml = _toml(paths, wanted, with_cert=wanted.tls and bool(wanted.host) and plan.cert is not None)
    _check_config(layout, toml)
    done = Done(device=wanted.device, tenant=wanted.tenant, broker=f"{wanted.host}:{wanted.port}" if wanted.host else "")
    try:
        _write(layout, paths, wanted, plan, toml, done)
    except PermissionError as fault:
        raise RefusedByPolicyError(f"{fault.strerror}", place=str(fault.filename or ""), hint="be root: this writes below /etc and /usr/share") from None
    except OSError as fault:
        raise EdgeHealError(fault.strerror or str(fault), place=str(fault.filename or ""), hint="is it read-only? then this belongs into the image") from None
    _next(layout, paths, wanted, done)
    return done


# -- proving


@dataclass(frozen=True, slots=True)
class _Plan:
    """Bytes that were found right; None: not given, and not there."""

    key: bytes | None
    cert: bytes | None
    ca: bytes | None
    password: bytes | None
    trust: bytes | None
    one: Certificate | None


def _same_machine(layout: Layout, wanted: Wanted) -> None:
    fault = identity.fault(layout)
    if fault and not wanted.adopt:
        raise RefusedByPolicyError(
            fault, place=layout.identity, hint="a copied disk: edgeheal setup --forget, then set it up anew; a changed board or card: edgeheal setup --adopt"
        )


def _proven(paths: Paths, wanted: Wanted) -> _Plan:
    from edgeheal.trust import sign

    given = files.read(wanted.key, PEM_MOST) if wanted.key else None
    held = _there(paths.key)
    key = given or held
    spki = sign.device_spki(key, place=wanted.key or paths.key) if key else None
    cert = files.read(wanted.cert, PEM_MOST) if wanted.cert else _there(paths.cert)
    one = None
    if cert is not None:
        place = wanted.cert or paths.cert
        one = certificate.read(cert, place=place)
        if spki is not None and one.spki != spki and (wanted.cert or wanted.key):
            raise TrustError("is of another key than the device's", place=place, hint=f"have {paths.csr} signed, or bring its key with --key")
        if one.subject != wanted.device and wanted.cert:
            hint = f"the common name must be the device's id: it is {one.subject or 'empty'}"
            raise TrustError(f"is not {wanted.device}'s", place=place, hint=hint)
        if one.ends <= time.time() and wanted.cert:
            raise TrustError(f"ended {utc(one.ends)}", place=place, hint="have a new one made, or set the clock")
        if spki is None:
            raise TrustError("its private key is not here", place=place, hint="bring it with --key")
        if one.spki != spki or one.subject != wanted.device:
            cert, one = None, None  # of a key or name that is given up now
    ca = files.read(wanted.ca, PEM_MOST) if wanted.ca else None
    if ca is not None:
        certificate.read(ca, place=wanted.ca)
    return _Plan(given, cert, ca, files.read(wanted.password, 4_096) if wanted.password else None, _trust(paths, wanted), one)


def _trust(paths: Paths, wanted: Wanted) -> bytes | None:
    if not wanted.trust:
        return None
    from edgeheal.trust import chain, envelope
    from edgeheal.trust.verify import signers

    data = files.read(wanted.trust, envelope.MAX_CHAIN)
    links = envelope.decode_chain(data)
    if len(links) != 1:
        raise TrustError(
            f"holds {len(links)} trust versions", place=wanted.trust, hint="give version 1 alone; later ones come with images, or by `edgeheal redeem`"
        )
    chain.first(links[0], signers, shared_keys=True)
    held = _there(paths.trust)
    if held is not None and held != data:
        raise TrustError("another trust version 1 is here already", place=paths.trust, hint="whose device is this? trust changes by signed versions only")
    return data


def _there(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(PEM_MOST)
    except OSError:
        return None


def _toml(paths: Paths, wanted: Wanted, *, with_cert: bool) -> str:
    """The config of the identity; JSON strings are TOML strings."""
    say = json.dumps
    lines = [
        "# made by `edgeheal setup`; say it again to change it", "[device]", f"id = {say(wanted.device)}", f"tenant = {say(wanted.tenant)}",
    ]  # fmt: skip
    lines += [f"place = {say(wanted.place)}"] if wanted.place else []
    lines += [f"classes = {say(list(wanted.classes))}"] if wanted.classes else []
    if wanted.host:
        lines += ["", "[link]", f"host = {say(wanted.host)}", f"port = {wanted.port}", f"tls = {'true' if wanted.tls else 'false'}"]
        lines += [f"ca = {say(paths.ca)}"] if wanted.tls and (wanted.ca or os.path.exists(paths.ca)) else []
        lines += [f"cert = {say(paths.cert)}", f"key = {say(paths.key)}"] if with_cert else []
        lines += [f"password_file = {say(paths.password)}"] if wanted.password or os.path.exists(paths.password) else []
    return "\n".join(lines) + "\n"


def _check_config(layout: Layout, toml: str) -> None:
    texts, problems = read_layers(layout)
    mine = Text(layout.identity_config, toml)
    others = [t for t in texts if t.path != mine.path]
    at = next((n for n, t in enumerate(others) if t.path.startswith(layout.config_dropins) and t.path > mine.path), len(others))
    loaded = load_texts((*others[:at], mine, *others[at:]), layout.etc)
    faults = (*problems, *loaded.problems)
    if faults:
        raise ConfigError(faults[0].sentence(), place=faults[0].place(), hint=faults[0].hint())


# -- writing


def _write(layout: Layout, paths: Paths, wanted: Wanted, plan: _Plan, toml: str, done: Done) -> None:
    from edgeheal.trust import sign

    for folder, mode in ((layout.etc, 0o755), (layout.keys, 0o711), (layout.config_dropins, 0o755)):
        os.makedirs(folder, mode, exist_ok=True)
    os.chmod(layout.keys, 0o711)  # noqa: S103 - the agent reaches its own key; nobody lists the folder
    owner = _owner(layout)
    key = plan.key or _there(paths.key) or (sign.new_device_key() if wanted.tls and wanted.host else None)
    if key is not None:
        _put(paths.key, key, SECRET, owner, done)
        done.key = paths.key
    if plan.ca is not None:
        _put(paths.ca, plan.ca, PUBLIC, None, done)
    if plan.password is not None:
        _put(paths.password, plan.password, SECRET, owner, done)
    if plan.cert is not None and plan.one is not None:
        _put(paths.cert, plan.cert, PUBLIC, None, done)
        done.certificate = (paths.cert, plan.one)
    elif key is not None:
        if not os.path.exists(paths.csr) or not _asks_for(paths.csr, key, wanted.device):
            _put(paths.csr, sign.request(key, wanted.device), PUBLIC, None, done)
        done.csr = paths.csr
    if plan.trust is not None:
        os.makedirs(layout.vendor_trust, 0o755, exist_ok=True)
        _put(paths.trust, plan.trust, PUBLIC, None, done)
    done.trust = paths.trust if os.path.exists(paths.trust) else ""
    _put(layout.identity_config, toml.encode(), PUBLIC, None, done)
    _bind(layout, wanted, done)


def _bind(layout: Layout, wanted: Wanted, done: Done) -> None:
    """Say to which machine this identity belongs."""
    now = identity.here(layout)
    try:
        kept = identity.read(layout)
    except ValueError:
        kept = None
    if kept is not None and kept.device == wanted.device and not wanted.adopt and all(set(v) & set(now.get(k, v)) for k, v in kept.marks.items()):
        done.kept.append(layout.identity)
        return
    _put(layout.identity, identity.encode(identity.Identity(wanted.device, now, utc(int(time.time())))), PUBLIC, None, done)


def _asks_for(csr: str, key: bytes, device: str) -> bool:
    """Whether the request there is of this key and name. (Its public key and name stand in it as they are.)"""
    import base64

    from edgeheal.trust import sign

    text = b"".join((_there(csr) or b"").splitlines()[1:-1])
    try:
        der = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return sign.device_spki(key) in der and device.encode() in der


def _owner(layout: Layout) -> tuple[int, int] | None:
    """Whose the keys are: the agent's; None without root."""
    loaded = load(layout)
    if os.geteuid() != 0 or loaded.config is None:
        return None
    uid, gid = resolve(loaded.config, loaded.origins)[0].parts["agent"]
    return (uid, gid) if uid >= 0 else None


def _put(path: str, data: bytes, mode: int, owner: tuple[int, int] | None, done: Done) -> None:
    """Write what differs; set right what is the same but for its mode or owner."""
    if _there(path) == data:
        stat = os.stat(path)
        if (stat.st_mode & 0o777) != mode:
            os.chmod(path, mode)
        if owner is not None and (stat.st_uid, stat.st_gid) != owner:
            os.chown(path, *owner)
        done.kept.append(path)
        return
    if not os.access(os.path.dirname(path), os.W_OK):
        raise PermissionError(13, "not writable", path)
    files.write(path, [data], mode=mode, owner=owner)
    done.done.append(path)


def _next(layout: Layout, paths: Paths, wanted: Wanted, done: Done) -> None:
    if done.csr:
        done.next.append(f"have {paths.csr} signed by your CA, then: edgeheal setup --cert FILE")
    if not done.trust and not os.path.isdir(layout.trust):
        done.next.append("say whose signatures count: edgeheal setup --trust 00001.eht")
    if not wanted.host:
        done.next.append("no fleet: edgeheal setup --broker HOST makes one reachable")
    if done.done and _reloaded(layout):
        done.kept.append("agent: took the new files, without a restart")
    done.next.append("edgeheal doctor")


def _reloaded(layout: Layout) -> bool:
    """Have a running agent read its files again."""
    from edgeheal.cli.ask import ask

    try:
        ask(layout.control_socket, "reload")
    except EdgeHealError:
        return False
    return True


# -- forgetting


def forget(layout: Layout) -> Done:
    """Take the identity and the agent's memory away; RefusedByPolicyError while the agent runs."""
    from edgeheal.cli.ask import ask

    with contextlib.suppress(AgentUnreachableError):
        ask(layout.control_socket, "hello")
        raise RefusedByPolicyError("the agent runs under this identity", hint="stop agent and guard first")
    paths, done = Paths(layout), Done()
    try:
        for path in (paths.key, paths.csr, paths.cert, paths.password, layout.identity_config, layout.identity):
            if os.path.lexists(path):
                os.unlink(path)
                done.done.append(f"removed {path}")
        for name in _memory(layout):
            path = f"{layout.agent}/{name}"
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
            done.done.append(f"removed {path}")
    except OSError as fault:
        raise RefusedByPolicyError(fault.strerror or str(fault), place=str(fault.filename or ""), hint="be root") from None
    done.kept.append("apps, images, trust and the rest of the config")
    done.next.append("empty /etc/machine-id before the disk is copied; on each copy: edgeheal setup")
    return done


def _memory(layout: Layout) -> list[str]:
    """What the agent keeps of its own: all of its folder."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.listdir(layout.agent))
    return []
