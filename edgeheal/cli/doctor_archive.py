# SPDX-License-Identifier: Apache-2.0
"""`edgeheal doctor --archive FILE`: evidence for support, as a .tar.gz that may be sent.

Duty: gather what the list below names, mask it, say in `manifest.json` what is in it, what was masked, and what was left out and why.
Invariants: an allow-list, never a dump: no file is taken as it is, environments by name only, no core, no key, no recording's bytes; each text is masked
by shape and by the values that are known to be secret here, in any encoding; before it is written the whole is searched for them once more, and
an archive that holds one is not written.
"""

import io
import json
import os
import platform
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeheal.adapters import secrets
from edgeheal.cli import common, files
from edgeheal.cli.doctor import document
from edgeheal.cli.doctor_checks import all_of
from edgeheal.config.flat import rows
from edgeheal.config.load import load
from edgeheal.config.schema import Config
from edgeheal.core.errors import EdgeHealError
from edgeheal.core.layout import Layout
from edgeheal.core.mask import MASK, Masker

LOG_BYTES = 262_144
LINE_MOST = 2_000
RECORDINGS_MOST = 8
RECORDING_BYTES = 4_000_000
LEFT_OUT = (
    ("environment values", "only their names are in apps.json"),
    ("keys, certificates' keys, password files, apps' secrets", "never part of an archive"),
    ("apps' configs and data", "they are the apps' own; send what is needed by hand"),
    ("recordings as files (.ehr)", "their signals are in recordings/, masked; the files themselves hold what apps printed"),
    ("cores and memory", "they hold everything"),
)


class SecretInArchiveError(EdgeHealError):
    """A value that must not leave the device was found in what was about to be written; nothing was."""

    message_id = "eh-archive-secret"
    hint = "tell the makers of EdgeHeal which part it was; send `edgeheal doctor --json` meanwhile"


@dataclass(slots=True)
class _Entry:
    """One file of the archive."""

    name: str
    data: bytes
    masked: int = 0
    cut: bool = False


@dataclass(slots=True)
class _Mask:
    """Masks whatever is plain, and counts."""

    masker: Masker
    count: int = field(default=0)

    def text(self, said: str) -> str:
        """Masked, nothing cut."""
        shown = self.masker.fit(said, max(LINE_MOST, len(said) * 12))
        self.count += max(0, shown.count(MASK) - said.count(MASK))
        return shown

    def plain(self, value: Any) -> Any:
        """A plain value with every text in it masked, keys included; bytes as hex, which is masked like text."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.text(value.hex()) if not _printable(value) else self.text(value.decode())
        if isinstance(value, dict):
            return {self.text(str(k)): self.plain(v) for k, v in value.items()}
        return [self.plain(v) for v in value] if isinstance(value, list | tuple) else value


def _printable(value: bytes) -> bool:
    return len(value) >= 8 and all(32 <= byte < 127 for byte in value)


def run(layout: Layout, path: str, *, as_json: bool) -> int:
    """Write it; exit 0, also when something is wrong with the device: that is what it is for."""
    status = _asked(layout, "status")
    loaded = load(layout)
    config = loaded.config or Config()
    pids = [int(row["pid"]) for row in status.get("apps", []) if row.get("pid")]
    known = secrets.values(layout, config.link.password_file, config.apps, pids)
    entries = [_masked(name, value, known) for name, value in _gathered(layout, config, status)]
    manifest = _manifest(entries)
    data = _packed([_Entry("manifest.json", json.dumps(manifest, indent=1).encode()), *entries], known)
    size = files.write(path, [data], mode=0o600)
    answer = {
        "file": path, "bytes": size, "ok": True, "masked": manifest["masked"], "entries": manifest["entries"], "left_out": manifest["left_out"],
    }  # fmt: skip
    if as_json:
        common.put_json(answer)
        return 0
    common.put(f"{path}: {size} bytes, {len(entries)} entries, {manifest['masked']} places masked")
    common.say("look at manifest.json in it before you send it; it holds what apps printed, with secrets masked")
    return 0


def _asked(layout: Layout, word: str) -> dict[str, Any]:
    from edgeheal.cli import offline
    from edgeheal.cli.ask import ask
    from edgeheal.core.errors import AgentUnreachableError

    try:
        return {k: v for k, v in ask(layout.control_socket, word).items() if k not in ("id", "ok")}
    except AgentUnreachableError:
        return offline.status(layout) if word == "status" else {}


# -- what is in it


def _gathered(layout: Layout, config: Config, status: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, plain value or lines of text) of each entry."""
    yield "doctor.json", document(all_of(layout))
    yield "status.json", status
    yield "incidents.json", _incidents(layout)
    yield "config.json", {row.key: row.shown for row in rows(config)}
    yield "system.json", _system(layout)
    yield "apps.json", [_app(row) for row in status.get("apps", [])]
    for row in status.get("apps", []):
        yield f"logs/{row['app']}.log", _log(layout, row["app"])
    yield from _recordings(layout)


def _incidents(layout: Layout) -> Any:
    from edgeheal.cli import incidents, offline

    told = _asked(layout, "incidents").get("incidents")
    return told if told is not None else incidents.documents(offline.incidents(layout))


def _system(layout: Layout) -> dict[str, Any]:
    here = os.uname()
    shown: dict[str, Any] = {
        "kernel": f"{here.sysname} {here.release} {here.machine}",
        "python": platform.python_version(),
        "load": list(os.getloadavg()),
        "time": _utc(),
    }
    for name, path in (("memory", "/proc/meminfo"), ("uptime", "/proc/uptime"), ("pressure", "/proc/pressure/memory")):
        try:
            with open(path, encoding="ascii") as file:
                shown[name] = file.read(4_096).splitlines()[:12]
        except OSError:
            continue
    for folder in (layout.var, layout.run, layout.etc):
        try:
            room = os.statvfs(folder)
        except OSError:
            continue
        shown[folder] = {"bytes": room.f_blocks * room.f_frsize, "free": room.f_bavail * room.f_frsize, "inodes_free": room.f_favail}
    return shown


def _utc() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _app(row: dict[str, Any]) -> dict[str, Any]:
    """An app: its row, its environment by name only, its images."""
    return {"app": row["app"], "row": row, "environment": sorted(secrets.environment(int(row.get("pid") or 0)))}


def _log(layout: Layout, app: str) -> list[str]:
    """The tail of what it printed, by the guard's descriptor."""
    from edgeheal.adapters.guard_client import GuardDoor
    from edgeheal.wire import guard_frames

    try:
        with GuardDoor(layout.guard_socket, timeout_s=5) as door:
            answer = door.ask(guard_frames.OPEN_LOG, app=app)
    except EdgeHealError as fault:
        return [f"(not read: {fault.message})"]
    if answer.fd < 0:
        return ["(no log)"]
    try:
        size = os.fstat(answer.fd).st_size
        data = os.pread(answer.fd, LOG_BYTES, max(0, size - LOG_BYTES))
    finally:
        os.close(answer.fd)
    return data.decode("utf-8", "backslashreplace").split("\n")


def _recordings(layout: Layout) -> Iterator[tuple[str, Any]]:
    """What each recording's signals and decisions were, newest first."""
    from edgeheal.journal import recording

    try:
        names = [name for name in os.listdir(layout.recordings) if name.endswith(".ehr")]
    except OSError:
        return
    names.sort(key=lambda name: -os.stat(f"{layout.recordings}/{name}").st_mtime)
    for name in names[:RECORDINGS_MOST]:
        try:
            with open(f"{layout.recordings}/{name}", "rb") as file:
                kept = recording.read(file.read(recording.READ_MOST + 1), place=name)
        except (OSError, EdgeHealError) as fault:
            yield f"recordings/{name}.json", {"not read": str(fault)}
            continue
        steps = [{"mono_ns": e.now.mono_ns, "signal": e.plain, "effects": e.effects} for part in kept.parts for e in part.entries]
        yield f"recordings/{name}.json", {"header": kept.header, "whole": kept.whole, "steps": steps}


# -- masking and packing


def _masked(name: str, value: Any, known: set[str]) -> _Entry:
    mask = _Mask(Masker(known))
    if isinstance(value, list) and all(isinstance(line, str) for line in value) and name.startswith("logs/"):
        data = "\n".join(mask.text(line[:65_536]) for line in value).encode()
    else:
        data = json.dumps(mask.plain(value), indent=1).encode()
    cut = len(data) > RECORDING_BYTES
    return _Entry(name, data[:RECORDING_BYTES], mask.count, cut)


def _manifest(entries: list[_Entry]) -> dict[str, Any]:
    return {
        "made": _utc(), "masked": sum(e.masked for e in entries), "entries": [{"name": e.name, "bytes": len(e.data), "masked": e.masked, "cut": e.cut} for e in entries],
        "left_out": [{"name": name, "why": why} for name, why in LEFT_OUT],
    }  # fmt: skip


def _packed(entries: list[_Entry], known: set[str]) -> bytes:
    """The archive's bytes; SecretInArchiveError when a secret is still in there."""
    search = Masker(known)
    for entry in entries:
        if search.holds(f"{entry.name}\n{entry.data.decode('utf-8', 'replace')}"):
            raise SecretInArchiveError("a secret would have been in it", place=entry.name)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for entry in entries:
            one = tarfile.TarInfo(f"edgeheal/{entry.name}")
            one.size, one.mode, one.mtime = len(entry.data), 0o600, int(time.time())
            tar.addfile(one, io.BytesIO(entry.data))
    return made.getvalue()
