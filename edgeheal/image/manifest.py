# SPDX-License-Identifier: Apache-2.0
"""The manifest: what an image is, what healthy means, what it asks for. Signed, small, canonical.

Duty: frozen values with every bound checked, decoded from bytes or from a plain table (image.toml), and encoded again.
It joins nothing with the device (the device's config says how far) and checks no signature.
Invariants: all numbers are whole and carry their unit in the name; unknown fields are refused; the id is the hash of the bytes
that were received, never of bytes made again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.digest import sha256
from edgeheal.core.errors import ImageError
from edgeheal.image import probe_target
from edgeheal.image.fields import U32, FieldError, Fields, check_texts
from edgeheal.image.manifest_plain import run_plain, to_plain
from edgeheal.image.paths import fault as path_fault
from edgeheal.trust.canonical import NotCanonicalError, pack, unpack

MAX_MANIFEST = 64 * 1024
MAX_TREE_BYTES = 4 * 1024 * 1024
MAX_ROWS = 32_768
MAX_IMAGE = 8 * 1024**3

APP = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
CLASS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
OWN_ENV = ("EDGEHEAL_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
HOUR_MS = 3_600_000
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class TreeRef:
    """The tree that the manifest signs: SHA-256 and size of the list, its rows, and the bytes of all files together."""

    digest: bytes
    size_bytes: int
    rows: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """How the app is started, told to stop and known to be alive. `argv[0]`: a path in the tree, or an absolute interpreter of the host."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    ready: str = "start"
    start_ms: int = 60_000
    stop_signal: str = "TERM"
    stop_ms: int = 10_000
    reload: tuple[str, ...] = ("none",)
    heartbeat_ms: int = 0
    done: tuple[int, ...] = ()
    worker: str = "main"
    devices: tuple[str, ...] = ()
    network: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings; 0 = the device's default."""

    memory_kib: int = 0
    cpu_permille: int = 0
    tasks: int = 0
    files: int = 0
    log_kib: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that tells whether the app lives, is ready, or has started. `target`: an argv for exec, else a text."""

    name: str
    means: str
    kind: str
    target: tuple[str, ...] | str
    every_ms: int = 10_000
    timeout_ms: int = 3_000
    misses: int = 3


@dataclass(frozen=True, slots=True)
class Metric:
    """A value the app promises: value = integer x 10^exp; None or 0 = not promised."""

    name: str
    unit: str = ""
    exp: int = 0
    min: int | None = None
    max: int | None = None
    step_max: int = 0
    every_ms: int = 0
    stuck_ms: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """What the app needs: `kind` app, device, network or time; a hard one is waited for."""

    kind: str
    name: str
    hard: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    """The app's config file: its path in the data folder, JSON Schema in the tree, a checking argv, whether a reload takes it up."""

    path: str
    schema: str = ""
    check: tuple[str, ...] = ()
    reload: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """What becomes of persistent data: schema number, the programs that carry it forward and back, whether an older image may read it."""

    schema: int
    migrate: str = ""
    back: str = ""
    downgrade: str = "no"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image. `about` is free text (revision, SBOM digest, builder). `version` is a label and never compared."""

    app: str
    version: str
    security_counter: int
    device: tuple[str, ...]
    tree: TreeRef
    run: Run
    min_security_counter: int = 0
    limits: Limits = Limits()
    probes: tuple[Probe, ...] = ()
    metrics: tuple[Metric, ...] = ()
    needs: tuple[Need, ...] = ()
    config: Config | None = None
    data: Data | None = None
    soak_s: int = DAY_S
    about: tuple[tuple[str, str], ...] = ()

    def body(self) -> bytes:
        """The canonical bytes that are signed; their SHA-256 is the image id."""
        return pack(to_plain(self))

    @property
    def tree_run(self) -> bytes:
        """The (tree, run) digest: equal for what runs the same code the same way, however it is wrapped, re-packed or re-labelled."""
        return sha256(pack([self.tree.digest, run_plain(self.run)])).digest()

    def programs(self) -> Iterator[tuple[str, str]]:
        """(field, first word) of everything that may be executed: a path in the tree, or absolute for an interpreter of the host."""
        yield "run.argv[0]", self.run.argv[0]
        if self.run.reload[0] == "argv":
            yield "run.reload[0]", self.run.reload[1]
        for i, probe in enumerate(self.probes):
            if probe.kind == "exec":
                yield f"probes[{i}].target[0]", probe.target[0]
        if self.config is not None and self.config.check:
            yield "config.check[0]", self.config.check[0]
        if self.data is not None:
            yield from ((f"data.{field}", said) for field, said in (("migrate", self.data.migrate), ("back", self.data.back)) if said)


def image_id(body: bytes) -> bytes:
    """The image id: SHA-256 of the manifest's bytes."""
    return sha256(body).digest()


def decode(body: bytes) -> Manifest:
    """The manifest in `body`; ImageError(BAD_MANIFEST) with the field that is wrong."""
    if len(body) > MAX_MANIFEST:
        raise ImageError(f"{len(body)} bytes, at most {MAX_MANIFEST}", reason=reasons.TOO_LARGE, part="manifest")
    try:
        value = unpack(body)
    except NotCanonicalError as fault:
        raise FieldError("", str(fault)) from None
    return from_plain(value)


def from_plain(value: Any) -> Manifest:
    """The manifest that a plain table says; FieldError otherwise."""
    top = Fields(value)
    if top.raw("v") != 1 or isinstance(top.raw("v"), bool):
        raise ImageError("another version of the manifest", reason=reasons.UNKNOWN_VERSION, part="manifest", place="manifest: v")
    manifest = Manifest(
        app=top.text("app", 32, pattern=APP),
        version=top.text("version", 64),
        security_counter=top.number("security_counter", 0, U32),
        min_security_counter=top.number("min_security_counter", 0, U32, 0),
        device=_names(top, "device", CLASS, least=1),
        tree=_tree(top.raw("tree")),
        run=_run(top.child("run")),
        limits=_limits(top.child("limits")),
        probes=tuple(_probe(entry) for entry in top.children("probes", 16)),
        metrics=tuple(_metric(entry) for entry in top.children("metrics", 64)),
        needs=tuple(_need(entry) for entry in top.children("needs", 16)),
        config=_config(top.child("config")),
        data=_data(top.child("data")),
        soak_s=top.number("soak_s", 5, 30 * DAY_S, DAY_S),
        about=_pairs(top.raw("about", {}), "about", 16, 1024),
    )
    top.end()
    _consistent(manifest)
    return manifest


def _tree(value: Any) -> TreeRef:
    bounds = (MAX_TREE_BYTES, MAX_ROWS, MAX_IMAGE)
    if not (isinstance(value, list | tuple) and len(value) == 4 and isinstance(value[0], bytes) and len(value[0]) == 32):
        raise FieldError("tree", "not [digest, bytes, rows, total size]")
    for i, most in enumerate(bounds, 1):
        if not isinstance(value[i], int) or isinstance(value[i], bool) or not 0 <= value[i] <= most:
            raise FieldError(f"tree[{i}]", f"not a whole number from 0 to {most}")
    return TreeRef(value[0], value[1], value[2], value[3])


def _run(run: Fields | None) -> Run:
    if run is None:
        raise FieldError("run", "is missing", hint="add a table [run] with argv")
    said = Run(
        argv=_argv(run, "argv"),
        env=_env(run),
        cwd=_path(run, "cwd"),
        ready=run.choice("ready", ("start", "notify", "probe"), "start"),
        start_ms=run.number("start_ms", 1, HOUR_MS, 60_000),
        stop_signal=run.choice("stop_signal", SIGNALS, "TERM"),
        stop_ms=run.number("stop_ms", 0, 600_000, 10_000),
        reload=_reload(run),
        heartbeat_ms=run.number("heartbeat_ms", 0, HOUR_MS, 0),
        done=run.numbers("done", 16, 0, 255),
        worker=run.choice("worker", ("main", "child"), "main"),
        devices=_names(run, "devices", NAME),
        network=run.flag("network", False),
    )
    run.end()
    if 0 < said.heartbeat_ms < 100:
        raise FieldError("run.heartbeat_ms", "shorter than 100 ms cannot be kept", hint="use 100 or more, or 0 for none")
    return said


def _argv(fields: Fields, field: str, default: Any = None) -> tuple[str, ...]:
    words = fields.texts(field, 64, 4096) if default is None else fields.texts(field, 64, 4096, default, least=0)
    if words:
        _program(words[0], f"{fields.name(field)}[0]")
    return words


def _program(word: str, at: str) -> None:
    bad = path_fault(word.removeprefix("/"))
    if bad:
        raise FieldError(at, bad, hint="a path in the image, or an absolute interpreter of the host such as /usr/bin/python3")


def _path(fields: Fields, field: str, default: str | None = "") -> str:
    value = fields.text(field, 1024) if default is None else fields.text(field, 1024, default)
    bad = path_fault(value) if value else ""
    if bad:
        raise FieldError(fields.name(field), bad)
    return value


def _reload(run: Fields) -> tuple[str, ...]:
    value = run.raw("reload", "none")
    if value == "none":
        return ("none",)
    if isinstance(value, str):
        if value not in SIGNALS:
            raise FieldError("run.reload", f"not none, one of {', '.join(SIGNALS)}, or a list of words")
        return ("signal", value)
    words = check_texts(value, "run.reload", 64, 4096)
    _program(words[0], "run.reload[0]")
    return ("argv", *words)


def _env(run: Fields) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(run.raw("env", {}), "run.env", 64, 4096, name=ENV_NAME)
    for name, _ in pairs:
        if name.startswith(OWN_ENV):
            raise FieldError(f"run.env.{name}", "is set by the guard")
    return pairs


def _pairs(value: Any, at: str, most: int, most_bytes: int, name: "re.Pattern[str]" = CLASS) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or len(value) > most:
        raise FieldError(at, f"not a table of at most {most} texts")
    for key, text in value.items():
        if not isinstance(key, str) or not name.fullmatch(key):
            raise FieldError(at, f"the name {str(key)[:40]!r} does not fit {name.pattern}")
        check_texts([text], f"{at}.{key}", 1, most_bytes)
    return tuple(sorted(value.items()))


def _names(fields: Fields, field: str, pattern: "re.Pattern[str]", least: int = 0) -> tuple[str, ...]:
    words = fields.texts(field, 16, 64, least=1) if least else fields.texts(field, 16, 64, (), least=0)
    for i, word in enumerate(words):
        if not pattern.fullmatch(word):
            raise FieldError(f"{fields.name(field)}[{i}]", f"{word[:40]!r} does not fit {pattern.pattern}")
    if len(set(words)) != len(words):
        raise FieldError(fields.name(field), "one name stands there twice")
    return words


def _limits(limits: Fields | None) -> Limits:
    if limits is None:
        return Limits()
    said = Limits(*(limits.number(field, 0, U32, 0) for field in ("memory_kib", "cpu_permille", "tasks", "files", "log_kib")))
    limits.end()
    return said


def _probe(probe: Fields) -> Probe:
    kind = probe.choice("kind", probe_target.KINDS)
    said = Probe(
        name=probe.text("name", 64, pattern=CLASS),
        means=probe.choice("means", ("live", "ready", "start"), "live"),
        kind=kind,
        target=probe_target.check(kind, probe.raw("target", ""), probe.name("target")),
        every_ms=probe.number("every_ms", 100, 24 * HOUR_MS, 10_000),
        timeout_ms=probe.number("timeout_ms", 10, HOUR_MS, 3_000),
        misses=probe.number("misses", 1, 100, 3),
    )
    probe.end()
    if said.timeout_ms > said.every_ms:
        raise FieldError(probe.name("timeout_ms"), f"{said.timeout_ms} is longer than every_ms = {said.every_ms}")
    return said


def _metric(metric: Fields) -> Metric:
    big = 2**62
    said = Metric(
        name=metric.text("name", 64, pattern=CLASS),
        unit=metric.text("unit", 16, ""),
        exp=metric.number("exp", -18, 18, 0),
        min=metric.number("min", -big, big) if metric.has("min") else metric.raw("min", None),
        max=metric.number("max", -big, big) if metric.has("max") else metric.raw("max", None),
        step_max=metric.number("step_max", 0, big, 0),
        every_ms=metric.number("every_ms", 0, 24 * HOUR_MS, 0),
        stuck_ms=metric.number("stuck_ms", 0, 30 * 24 * HOUR_MS, 0),
    )
    metric.end()
    if said.min is not None and said.max is not None and said.min > said.max:
        raise FieldError(metric.name("min"), f"{said.min} is above max = {said.max}")
    if said.stuck_ms and said.stuck_ms < said.every_ms:
        raise FieldError(metric.name("stuck_ms"), f"{said.stuck_ms} is shorter than every_ms = {said.every_ms}")
    return said


def _need(need: Fields) -> Need:
    kinds = [kind for kind in ("app", "device", "network", "time") if need.has(kind)]
    if len(kinds) != 1:
        raise FieldError(need.name("app"), "names not exactly one of app, device, network, time")
    said = Need(kinds[0], need.text(kinds[0], 64, pattern=APP if kinds[0] == "app" else NAME), need.flag("hard", True))
    need.end()
    return said


def _config(config: Fields | None) -> Config | None:
    if config is None:
        return None
    said = Config(_path(config, "path", None), _path(config, "schema"), _argv(config, "check", ()), config.flag("reload", False))
    config.end()
    return said


def _data(data: Fields | None) -> Data | None:
    if data is None:
        return None
    said = Data(data.number("schema", 0, U32), _path(data, "migrate"), _path(data, "back"), data.choice("downgrade", ("yes", "ask", "no"), "no"))
    data.end()
    return said


def _consistent(manifest: Manifest) -> None:
    if manifest.min_security_counter > manifest.security_counter:
        raise FieldError("min_security_counter", f"{manifest.min_security_counter} is above security_counter = {manifest.security_counter}")
    for field, names in (("probes", [p.name for p in manifest.probes]), ("metrics", [m.name for m in manifest.metrics])):
        twice = next((i for i, name in enumerate(names) if name in names[:i]), -1)
        if twice >= 0:
            raise FieldError(f"{field}[{twice}].name", f"the name {names[twice]!r} stands there twice")
    if manifest.run.ready == "probe" and not any(p.means in ("ready", "start") for p in manifest.probes):
        raise FieldError("run.ready", 'is "probe", but no probe means ready or start')
    if any(p.kind == "heartbeat" for p in manifest.probes) and not manifest.run.heartbeat_ms:
        raise FieldError("run.heartbeat_ms", "a heartbeat probe needs it")
    if any(n.kind == "app" and n.name == manifest.app for n in manifest.needs):
        raise FieldError("needs", "the app needs itself")
