# SPDX-License-Identifier: Apache-2.0
"""Values that are each fine and together are not.

Duty: one rule a pair. Pure. Yields (dotted keys, what is wrong, nearest valid form).
Invariant: the defaults contradict nothing.
"""

import itertools
from collections.abc import Iterator
from dataclasses import fields

from edgeheal.config.kinds import Kind, Millis, Permille, Seconds, Size
from edgeheal.config.schema import App, Config
from edgeheal.core.policy import Budget

Contradiction = tuple[tuple[str, ...], str, str]
_MS, _S, _BYTES, _SHARE = Millis(0, 1 << 50), Seconds(0, 1 << 40), Size(0, 1 << 60), Permille(0, 1_000)
PING_S = 5  # how often the agent shows the guard that its loop turns

RULES = (
    "a probe's `timeout` above its `every`; `sampling.suspected` above `sampling.every`",
    "`backoff.first` above `backoff.cap`, or that above `backoff.slow_retry`",
    "`thresholds.disk_critical` not below `thresholds.disk_low`",
    "`journal.ring` above `journal.size`",
    "a budget of which a longer window allows less than a shorter one, or a cool-down longer than a window",
    "a deadline for the agent (`guard.stuck`) that two of its signs of life do not fit into; a hardware watchdog below 10 s",
    "a `[link]` without `device.id`; a certificate without its key; a user without a `password_file`; certificates with `tls = false`",
    '`remedies.reboot.mode = "act"` while the guard refuses reboots; the same for power cycles and `[hooks]`',
    "an app that needs one that is not here, or itself, or in a circle",
    "a `[reset.NAME]` without its `file`, or of form env without its `field`; a pretimeout not below the watchdog's time-out; one watchdog named twice",
    'two of the parts and apps under one user; "self" for some parts and not for all',
    "a sensor of no app here; without the path, device or field that its kind needs; two kinds, speeds or parities on one serial line; `low` above `high`",
)  # for the reference


def contradictions(config: Config) -> Iterator[Contradiction]:
    """Every contradiction in `config`."""
    yield from _ordered(config)
    yield from _budgets(config)
    yield from _link(config)
    yield from _guard(config)
    for name, app in config.apps.items():
        yield from _app(name, app, config)
    yield from _users(config)
    yield from _sensors(config)
    yield from _boot(config)


def _ordered(c: Config) -> Iterator[Contradiction]:
    """Pairs of which the first may not be above the second."""
    pairs: list[tuple[str, int, str, int, Kind]] = [
        ("probes.timeout", c.probes.timeout_ms, "probes.every", c.probes.every_ms, _MS),
        ("sampling.suspected", c.sampling.suspected_ms, "sampling.every", c.sampling.every_ms, _MS),
        ("backoff.first", c.backoff.first_ms, "backoff.cap", c.backoff.cap_ms, _MS),
        ("backoff.cap", c.backoff.cap_ms, "backoff.slow_retry", c.backoff.slow_retry_ms, _MS),
        ("journal.ring", c.journal.ring_bytes, "journal.size", c.journal.size_bytes, _BYTES),
    ]
    for low, low_value, high, high_value, kind in pairs:
        if low_value > high_value:
            message = f"{kind.show(low_value)} is above {high} ({kind.show(high_value)})"
            yield (low, high), message, f"{low.rsplit('.', 1)[1]} = {kind.show(high_value)}"
    t = c.thresholds
    if t.disk_critical_permille >= t.disk_low_permille:
        yield (
            ("thresholds.disk_critical", "thresholds.disk_low"),
            f"disk_critical ({_SHARE.show(t.disk_critical_permille)}) must be below disk_low ({_SHARE.show(t.disk_low_permille)})",
            f"disk_critical = {_SHARE.show(max(1, t.disk_low_permille // 2))}",
        )
    if c.guard.stuck_s <= 2 * PING_S:
        yield ("guard.stuck",), f"the agent shows every {PING_S} s that it lives: a deadline must be above {2 * PING_S} s", f'stuck = "{4 * PING_S}s"'
    if c.watchdog.device and c.watchdog.timeout_s < 10:
        yield ("watchdog.timeout", "watchdog.device"), "a hardware watchdog below 10 s would bite a busy box", 'timeout = "30s"'


def _boot(c: Config) -> Iterator[Contradiction]:
    dog = c.watchdog
    if dog.pretimeout_s and dog.pretimeout_s >= dog.timeout_s:
        yield ("watchdog.pretimeout", "watchdog.timeout"), "the pretimeout must come before the time-out", f"pretimeout = {_S.show(max(1, dog.timeout_s // 4))}"
    if dog.device and dog.device in dog.also:
        yield ("watchdog.also", "watchdog.device"), f"{dog.device} is named twice", ""
    if dog.also and not dog.device:
        yield ("watchdog.also", "watchdog.device"), "further devices without a first one", f'device = "{dog.also[0]}"'
    for name, reset in c.reset.items():
        if not reset.file:
            yield (f"reset.{name}.file",), "a source needs the file that is read", 'file = "/sys/devices/.../reset_reason"'
        if reset.form == "env" and not reset.field:
            yield (f"reset.{name}.field", f"reset.{name}.form"), "form env needs the variable", 'field = "BOOT_A_LEFT"'


def _budgets(c: Config) -> Iterator[Contradiction]:
    for name, remedy in c.remedies.items():
        yield from _windows(f"remedies.{name}.budget", remedy.budget)
        if remedy.budget and any(remedy.cool_down_ms > b.per_s * 1_000 for b in remedy.budget):
            yield (
                (f"remedies.{name}.cool_down", f"remedies.{name}.budget"),
                "the cool-down is longer than a window of the budget, which could never be spent",
                f"cool_down = {_S.show(min(b.per_s for b in remedy.budget))}",
            )
    for field in fields(c.guard.budgets):
        yield from _windows(f"guard.budgets.{field.name.removesuffix('_')}", getattr(c.guard.budgets, field.name))


def _windows(key: str, budgets: tuple[Budget, ...]) -> Iterator[Contradiction]:
    """A longer window must allow more than a shorter one, else the shorter can never be reached."""
    ordered = sorted(budgets, key=lambda b: b.per_s)
    for short, long in itertools.pairwise(ordered):
        if short.per_s == long.per_s or long.most < short.most:
            yield (key,), f"{long.most} in {_S.show(long.per_s)} makes {short.most} in {_S.show(short.per_s)} meaningless: a longer window must allow more", ""


def _link(c: Config) -> Iterator[Contradiction]:
    link = c.link
    if link.host and not c.device.id:
        yield ("device.id", "link.host"), "a device that reports needs a name: device.id", 'id = "gw-0001"'
    if bool(link.cert) != bool(link.key):
        said, other = ("cert", "key") if link.cert else ("key", "cert")
        yield (f"link.{said}", f"link.{other}"), f"{said} needs {other} beside it", f'{other} = "keys/device.{"pem" if other == "cert" else "key"}"'
    if link.user and not link.password_file:
        yield ("link.user", "link.password_file"), "a user without a password_file", 'password_file = "keys/broker.password"'
    if not link.tls:
        for name in ("ca", "cert", "key"):
            if getattr(link, name):
                yield (f"link.{name}", "link.tls"), f"{name} is of no use with tls = false", "tls = true"


def _guard(c: Config) -> Iterator[Contradiction]:
    if c.remedies["reboot"].mode == "act" and not c.guard.reboots:
        yield ("remedies.reboot.mode", "guard.reboots"), "the guard refuses every reboot while [guard] reboots is false", "reboots = true"
    if c.remedies["power_cycle"].mode == "act" and not c.hooks.power:
        yield ("remedies.power_cycle.mode", "hooks.power"), "power cycles ask first while [hooks] power is false", "power = true"


def _app(name: str, app: App, c: Config) -> Iterator[Contradiction]:
    own = f"apps.{name}"
    for key, needed in (("needs", app.needs), ("wants", app.wants)):
        for need in needed:
            kind, _, what = need.partition(":")
            if kind == "app" and what not in c.apps:
                yield (f"{own}.{key}",), f"{need}: no such app here", ""
            if kind == "app" and what == name:
                yield (f"{own}.{key}",), f"{need}: an app cannot wait for itself", ""
    for need in set(app.needs) & set(app.wants):
        yield (f"{own}.needs", f"{own}.wants"), f"{need} stands in needs and in wants", ""
    if app.actuates is False and app.devices:
        return  # said by the integrator: it has devices and moves nothing
    if _circle(name, c):
        yield (f"{own}.needs",), f"the needs of apps run in a circle through {name}", ""


def _circle(name: str, c: Config) -> bool:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for need in c.apps[waiting.pop()].needs:
            kind, _, what = need.partition(":")
            if kind != "app" or what not in c.apps:
                continue
            if what == name:
                return True
            if what not in seen:
                seen.add(what)
                waiting.append(what)
    return False


def _users(c: Config) -> Iterator[Contradiction]:
    """One user an app, and none of EdgeHeal's own: by name as written; by number where the guard resolves them."""
    parts = {"agent": c.users.agent, "import": c.users.import_, "store": c.users.store, "verify": c.users.verify, "check": c.users.check}
    taken: dict[str | int, str] = {}
    selves = [p for p, user in parts.items() if user == "self"]
    if selves and len(selves) < len(parts):
        others = ", ".join(f"users.{p}" for p in parts if p not in selves)
        yield (f"users.{selves[0]}",), f'"self" for some parts only would run them with the guard\'s privileges: say it of {others} too, or of none', ""
    for part, user in parts.items():
        if user != "self" and user in taken:
            yield (f"users.{part}", taken[user]), f"{user} is {taken[user]} already: each part needs a user of its own", ""
        taken.setdefault(user, f"users.{part}")
    for name, app in c.apps.items():
        if app.user in ("", "self"):
            continue
        if app.user in taken:
            yield (f"apps.{name}.user", taken[app.user]), f"{app.user} is {taken[app.user]} already: each app needs a user of its own", ""
        elif isinstance(app.user, int) and c.guard.app_uids[0] <= app.user <= c.guard.app_uids[1]:
            yield (f"apps.{name}.user", "guard.app_uids"), f"{app.user} is one of those that the guard allots", ""
        taken.setdefault(app.user, f"apps.{name}.user")


# what each kind of sensor cannot do without
_NEEDED = {
    "file": ("path", 'path = "/sys/class/..."'),
    "line": ("device", 'device = "/dev/serial/by-id/..."'),
    "modbus": ("device", 'device = "/dev/serial/by-id/..."'),
    "topic": ("topic", 'topic = "plant/boiler/temperature"'),
}


def _sensors(c: Config) -> Iterator[Contradiction]:
    lines: dict[str, tuple[str, tuple[object, ...]]] = {}
    for name, sensor in c.sensors.items():
        at = f"sensors.{name}"
        if sensor.app and sensor.app not in c.apps:
            known = next(iter(c.apps), "")
            yield (f"{at}.app",), f"{sensor.app} is not one of [apps]: a sensor is the box's own, or an app's", f'app = "{known}"' if known else ""
        if sensor.sibling and (sensor.sibling == name or sensor.sibling not in c.sensors or c.sensors[sensor.sibling].app != sensor.app):
            yield (f"{at}.sibling",), f"{sensor.sibling} is no other sensor of the same owner", ""
        if sensor.low is not None and sensor.high is not None and sensor.low >= sensor.high:
            yield (f"{at}.low", f"{at}.high"), f"low ({sensor.low:g}) must be below high ({sensor.high:g})", f"low = {sensor.high!r}"
        wants, near = _NEEDED[sensor.kind]
        if not getattr(sensor, wants):
            yield (f"{at}.{wants}", f"{at}.kind"), f"kind {sensor.kind} needs {wants}", near
        if sensor.kind in ("line", "topic") and not sensor.field and sensor.form != "number":
            yield (f"{at}.field", f"{at}.kind"), f"kind {sensor.kind} needs the field that holds the value", 'field = "temperature"'
        if sensor.kind == "modbus" and (sensor.type == "bit") != (sensor.function < 3):
            yield (f"{at}.type", f"{at}.function"), "functions 1 and 2 read bits, 3 and 4 registers", 'type = "bit"' if sensor.function < 3 else 'type = "u16"'
        if sensor.kind in ("file", "topic") or not sensor.device:
            continue
        form = (sensor.kind, sensor.baud, sensor.parity, sensor.stop_bits)
        other, first = lines.setdefault(sensor.device, (at, form))
        if form != first:
            yield (f"{at}.device", f"{other}.device"), f"{other} speaks otherwise on the same line: kind, baud, parity and stop_bits are the line's", ""
