# SPDX-License-Identifier: Apache-2.0
"""Frames between the guard and those at its doors: fixed structs over SOCK_SEQPACKET, bytes in, bytes out.

Duty: pack and unpack; name verbs, events and phases. It judges nothing.
Invariant: every frame starts with the same 8-byte head (version u8, kind u8, code u16, request u32); each kind has exactly
one length; no frame carries a path, an argument vector, an environment, a uid or free text from outside - only ids.
Light on purpose: the resident guard imports it (no dataclasses, typing or enum).

Request  head(kind = verb, code = flags)  app 32s  image 32s  a u64  b u64                                  88 bytes
Answer   head(kind = ANSWER, code = reason, request echoed)  app 32s  image 32s  a u64  b u64               88 bytes
AppRow   head(kind = ROW_APP, request echoed or 0)  app  image  run u32  pid u32  started_ns u64  pause_until u64  until u64
         phase u8  wanted u8  wanted_by u8  image_state u8  flags u32  restarts u32                         116 bytes
ImageRow head(kind = ROW_IMAGE)  app  image  version 64s  state u8  reason u8  was u8  flags u8  soak_left u32
         served_s u64  security u32  schema u32                                                             160 bytes
Event    head(kind = EV_*, code = detail, request = the event's number, or of the request it belongs to)  app  image  run u32  pid u32  a u64  b u64  c u32  text 96s       196 bytes
An answer to STATUS or IMAGES is its rows, then the ANSWER frame. A descriptor may ride with IMPORT, PRESENT, SET_CONFIG,
SET_SECRET (to the guard) and OPEN_LOG (from it).
"""

import struct

VERSION = 1

HEAD = struct.Struct("!BBHI")
PLAIN = struct.Struct("!BBHI32s32sQQ")
APP_ROW = struct.Struct("!BBHI32s32sIIQQQBBBBII")
IMAGE_ROW = struct.Struct("!BBHI32s32s64sBBBBIQII")
EVENT = struct.Struct("!BBHI32s32sIIQQI96s")
MAX_FRAME = 256

# verbs (requests); the door and its right stand beside each: A the agent's word, P a person of the group, R root or a warrant
HELLO = 1  # A P   a = highest version spoken; answer: a = boot id (8 bytes of it), b = box seconds, code; app = boundary word
STATUS = 2  # A P   rows: one AppRow per app (or the one named)
IMAGES = 3  # A P   rows: one ImageRow per deployment of the app
FOLLOW = 4  # A P   from now on, events; the agent's answer carries a timer that it sets to `a` seconds again and again: it fires when the agent is stuck
START = 5  # A P   a: the run whose end is answered (0: none is meant); it is not started twice for that
STOP = 6  # A P   person: wanted = stopped until a (0 = for good)
RESTART = 7  # A P   a: the run that is meant (0: any); ALREADY when a newer one runs
RELOAD = 8  # A P   the manifest's reload method
CLEAN_RESTART = 9  # A P   restart with volatile state cleared; a as RESTART
PROBE = 10  # A P   a = index of the exec or freshness probe; answer: a = verdict, b = took ms, code = reason, image = last output hash
TRUNCATE = 11  # A R   free the app's log: a = up to there it was read, 0 = all of it
OPEN_LOG = 12  # A P   answer carries a read-only descriptor of the app's log
SWITCH = 13  # A P   to deployment `image` that is GOOD here (zero id: the newest other GOOD one); a = 1: undo
TRY = 14  # R     run a WRITTEN deployment as TRIAL
GIVE_UP = 15  # A P   leave the trial (or a GOOD one) for a GOOD one; nothing is blocked
MARK_GOOD = 16  # R     shortens the soak that runs
MARK_FAILED = 17  # R or what the guard saw
ALLOW = 18  # R
DROP = 19  # R
RESTORE_CONFIG = 20  # A P   the config with which the running deployment soaked
SET_CONFIG = 21  # R     descriptor: the new content
SET_SECRET = 22  # R     descriptor: the content; image field = secret's name
HOOK = 23  # A P   app field = hook point; target: a = its line in the point's .targets from 1; people may name it in the image field
REBOOT = 24  # A R   a = 0 reboot, 1 power off, 2 halt; b = 1 confirmed
ORDER = 25  # A     standing order: a = at most n starts, b = life in box seconds; code ORDER_AT_ONCE: a = a run, b = ms it must have lived
PAUSE = 26  # P     a = seconds; app "" = all
RESUME = 27  # P
IMPORT = 28  # R     descriptor: a bundle; events IMPORT_PROGRESS; answer: image = id, app = app
PRESENT = 29  # A P   descriptor: sealed memfd with an envelope; answer: code = verdict, a = action, b = counter (with REPLAY: 1 if its end is, or will be, an EV_DONE), app, image = command id
HOLD_SOAK = 30  # A     a = 1 stop the soak's clock, 0 let it run
CHALLENGE = 31  # A P   answer: a = boot nonce, b = command counter floor
BUDGETS = 32  # A P   rows as Events EV_BUDGET (code = kind, a = spent, b = most, c = window s), then the answer
OVERRIDE = 33  # R     a person overrides the interlock once, recorded
RELOAD_CONFIG = 34  # R     read the device's config again; answer: a = apps, b = 1 when refused and the old one stands
HEARTBEAT = 35  # A     the agent's own loop is alive: a = progress counter, b = number of the last event it keeps durably (0 = none)
VERIFY = 36  # A P   prove the deployment's files anew
CHECKS = 37  # A P   run checks/{required,wanted}.d; answer: a = verdict
TRUST = 38  # R     descriptor: a trust chain (.eht)
READY = 39  # A     the app's ready (or start) probe answered yes, asked by the agent: only orders dependents and ends the start grace

APPROVE = 40  # R     the remedy that an incident asks for; image field = the incident's id as text
REJECT = 41  # P
WHY = 42  # A P   why this box booted: rows as Events EV_BOOT, one a witness, then the answer

ANSWER = 0x80
ROW_APP = 0x81
ROW_IMAGE = 0x82

EV_STARTED = 0xA0  # a = By, c flags F_*
EV_READY = 0xA1
EV_EXITED = 0xA2  # code = X_* flags; a = exit code or signal; b = lived ms; c = By of the run's end
EV_START_FAILED = 0xA3  # code = reason, a = errno
EV_LATE = 0xA4  # heartbeat missed: a = late ms, code 1 = WATCHDOG=trigger
EV_BACK = 0xA5
EV_SAID = 0xA6  # text: STATUS; code: SAID_*; a = seconds
EV_IMAGE = 0xA7  # a deployment moved: a = state, b = reason, code = event
EV_TRIAL = 0xA8  # trial ended: code 1 good, 0 bad; image; a = reason; text = hex of the image we went back to or ""
EV_ORDERED = 0xA9  # an order the guard accepted: code = ActionCode, a = until, text = who
EV_BUDGET = 0xAA
EV_PROGRESS = 0xAB  # import: a = bytes done, b = bytes in all, code = step
EV_FIRED = 0xAC  # a standing order started the app; a = how often it has
EV_UNKILLABLE = 0xAD  # text = wchan; a = seconds since KILL
EV_CONFIG = 0xAE  # the app's config was put back (code 0) or changed (code 1); a = n
EV_PORT = 0xAF  # a = port, b = holder's pid, text = command and user
EV_HOOK = 0xB0  # a hook ran: code = verdict, a = exit status, text = point
EV_STILL = 0xB1  # the guard's own loop stood still: a = ms
EV_LEFTOVER = 0xB2  # members of an old run were ended: a = how many
EV_DAMAGED = 0xB3  # a record: code 1 damaged, 2 rebuilt, 3 of a newer version, 4 could not be written, 5 an image's files; text = name
EV_FOREIGN = 0xB4  # somebody else runs its program: a = pid, text = command and user
EV_DONE = 0xB5  # what became of a signed command: code = reason, a = ActionCode, image = command id
EV_BOOT = 0xB6  # a witness of this boot (rows of WHY only): code = W_*, the rest as W_* say
EV_HOME = 0xB7  # a newer image's `back` ran on the way to an older one: code 1 its data was carried home, 0 not (a = reason); image = the newer one

# EV_BOOT codes, with what their a, b, c and text hold
W_COUNT = 1  # a boots in all, b unplanned ones in the last hour of box time, c answers given to a boot loop (L_*), text the boot id
W_ORDER = 2  # what we had ordered in the boot before: a 0 reboot, 1 power-off, 2 halt; b its number
W_END = 3  # how the boot before ended: a = detect.reset.END_*
W_CRASH = 4  # a record of the dying kernel: a = detect.reset.P_*, b fingerprint, text its headline
W_DOG = 5  # a watchdog: a boot status, b = D_* flags, c time-out in s as read back (0: not ours), text its name
W_SOURCE = 6  # a register or file that the config names: a = reasons it may mean (bits of detect.reset.REASONS), text name and value
W_OFF = 7  # a = seconds that the box was off by its own clock
W_TRIAL = 8  # a system on trial: a attempt, b of how many, c ordered reboots in a row
W_FIRST = 9  # no boot before this one is known
W_SUSPECT = 10  # in a boot loop: app, whose image is the youngest here and has a known-good one before it
D_TELLS, D_LIES, D_ARMED, D_UNKNOWN = (1 << i for i in range(4))
L_ROLLBACK, L_OS, L_SAFE = (1 << i for i in range(3))  # answers to a boot loop

# phases of a run, as the guard knows them
PHASE_STOPPED, PHASE_STARTING, PHASE_RUNNING, PHASE_STOPPING, PHASE_WAITING, PHASE_HELD, PHASE_STUCK = range(7)
PHASES = ("stopped", "starting", "running", "stopping", "waiting", "held", "stuck")

# AppRow flags
F_CONFIG_DIFFERS, F_HELD, F_ADOPTED, F_LATE, F_BUSY, F_CAN_RELOAD, F_READY, F_PAUSED, F_ORDERED, F_AT_ONCE = (1 << i for i in range(10))
# ImageRow flags
I_RUNNING, I_ANCHOR, I_BLOCKED, I_PREVIOUS, I_CARRIES = (1 << i for i in range(5))  # carries: it runs, and has a `back` for its data
# EV_EXITED code flags
X_CODE, X_SIGNAL, X_OOM, X_ORDERED, X_DONE, X_TRIAL, X_CONFIG_DIFFERS, X_CORE = (1 << i for i in range(8))
# ORDER codes: a standing order; the next end of this run is answered by a start at once, the agent being there; that no more
ORDER_STANDING, ORDER_AT_ONCE, ORDER_ASK = range(3)
# EV_SAID codes
SAID_STATUS, SAID_RELOADING, SAID_STOPPING, SAID_BUSY, SAID_EXTEND = range(5)

VERBS = {
    HELLO: "hello", STATUS: "status", IMAGES: "images", FOLLOW: "follow", START: "start", STOP: "stop", RESTART: "restart", RELOAD: "reload",
    CLEAN_RESTART: "clean restart", PROBE: "probe", TRUNCATE: "truncate", OPEN_LOG: "open log", SWITCH: "switch", TRY: "try", GIVE_UP: "give up",
    MARK_GOOD: "mark good", MARK_FAILED: "mark failed", ALLOW: "allow", DROP: "drop", RESTORE_CONFIG: "restore config", SET_CONFIG: "set config",
    SET_SECRET: "set secret", HOOK: "hook", REBOOT: "reboot", ORDER: "standing order", PAUSE: "pause", RESUME: "resume", IMPORT: "import",
    PRESENT: "present", HOLD_SOAK: "hold soak", CHALLENGE: "challenge", BUDGETS: "budgets", OVERRIDE: "override", RELOAD_CONFIG: "reload config",
    HEARTBEAT: "heartbeat", VERIFY: "verify", CHECKS: "checks", TRUST: "trust", READY: "ready", APPROVE: "approve",
    REJECT: "reject", WHY: "why",
}  # fmt: skip

EVENT_BIT = 0x80000000  # set in the number of an event that is kept, never in a request's
EVENTS = range(0xA0, 0xC0)
COMMAND_ID = slice(40, 56)  # of an EV_DONE's bytes

LENGTHS = {ANSWER: PLAIN.size, ROW_APP: APP_ROW.size, ROW_IMAGE: IMAGE_ROW.size}
for _kind in EVENTS:
    LENGTHS[_kind] = EVENT.size
for _kind in VERBS:
    LENGTHS[_kind] = PLAIN.size


def text(field: bytes) -> str:
    """A zero-padded field as text; bytes that are no UTF-8 are shown escaped."""
    return field.rstrip(b"\0").decode("utf-8", "backslashreplace")


def pack_plain(kind: int, *, request: int = 0, code: int = 0, app: str = "", image: bytes = b"", a: int = 0, b: int = 0) -> bytes:
    """A request (`kind` a verb) or an answer. `app` at most 32 bytes of UTF-8, `image` at most 32 bytes."""
    return PLAIN.pack(VERSION, kind, code, request & 0xFFFFFFFF, app.encode()[:32], image, a, b)


def pack_event(
    kind: int, *, code: int = 0, app: str = "", image: bytes = b"", run: int = 0, pid: int = 0, a: int = 0, b: int = 0, c: int = 0, say: bytes = b""
) -> bytes:
    """An event; `say` is at most 96 bytes, cut beyond."""
    return EVENT.pack(VERSION, kind, code, 0, app.encode()[:32], image, run, pid, a, b, c, say[:96])
