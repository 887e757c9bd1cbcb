# SPDX-License-Identifier: Apache-2.0
"""Reason codes: why somebody said no. One number each, the same in guard answers, results and screens.

Duty: number and word every refusal. Imports nothing (the guard reads it).
Invariant: numbers are never reused; a new reason gets the next free one in its block.
"""

OK = 0
# 1..19 the frame or message itself
MALFORMED = 1
UNKNOWN_VERSION = 2
UNKNOWN_VERB = 3
TOO_LARGE = 4
BUSY = 5
TIMEOUT = 6
INTERNAL = 7
# 20..39 who and whether
NOT_ALLOWED = 20
NO_WARRANT = 21
NO_SUCH_APP = 22
NO_SUCH_IMAGE = 23
BUDGET_SPENT = 24
BUDGET_UNWRITABLE = 25
INTERLOCK = 26
PAUSED = 27
TABLE = 28
LAST_GOOD = 29
NOT_CONFIGURED = 30
NOT_SEEN = 31
HELD = 32
APP_BUSY = 33
NOTHING_TO_DO = 34
MODE = 35
NEEDS_APPROVAL = 36
BAD_CONFIG = 37
BOOT_LOOP = 38
# 40..59 trust
BAD_SIGNATURE = 40
UNDER_THRESHOLD = 41
REVOKED = 42
BELOW_FLOOR = 43
BLOCKED = 44
WRONG_DEVICE = 45
WRONG_TENANT = 46
WRONG_ROLE = 47
REPLAY = 48
EXPIRED = 49
COUNTER_LEAP = 50
RETAINED = 51
WRONG_NONCE = 52
TRUST_CHAIN = 53
WRONG_TYPE = 54
UNKNOWN_KEY = 55
TIME_UNTRUSTED = 56
TWIN = 57
WRONG_DOOR = 58
# 60..89 image and store
BAD_MAGIC = 60
BAD_INDEX = 61
BAD_MANIFEST = 62
BAD_TREE = 63
BAD_OBJECT = 64
MISSING_OBJECT = 65
NO_SPACE = 66
TRUNCATED = 67
TRAILING = 68
ROT = 69
UNREADABLE = 70
SCHEMA = 71
TOO_MANY = 72
NOT_NOW = 73
HOOK = 74
# 90..119 processes
START_FAILED = 90
UNKILLABLE = 91
LEFTOVERS = 92
ALREADY = 93
NOT_RUNNING = 94
NOT_READY = 95
NO_RELOAD = 96
EXIT_NONZERO = 97
KILLED = 98
UNWRITABLE = 99
IN_DOUBT = 100
POISON = 101  # the connection broke each time this record was on its way

WORDS = {
    OK: "ok", MALFORMED: "malformed", UNKNOWN_VERSION: "unknown version", UNKNOWN_VERB: "unknown verb", TOO_LARGE: "too large",
    BUSY: "busy", TIMEOUT: "timed out", INTERNAL: "internal fault", NOT_ALLOWED: "not allowed", NO_WARRANT: "no warrant",
    NO_SUCH_APP: "no such app", NO_SUCH_IMAGE: "no such image", BUDGET_SPENT: "budget spent", BUDGET_UNWRITABLE: "budget unwritable",
    INTERLOCK: "interlock says no", PAUSED: "paused", TABLE: "not in this state", LAST_GOOD: "last known good", NOT_CONFIGURED: "not configured",
    NOT_SEEN: "no witness", HELD: "held", APP_BUSY: "app is busy", NOTHING_TO_DO: "nothing to do", MODE: "mode forbids it",
    NEEDS_APPROVAL: "needs approval", BAD_CONFIG: "device config is broken", BOOT_LOOP: "boots in a loop",
    BAD_SIGNATURE: "bad signature", UNDER_THRESHOLD: "too few signatures", REVOKED: "revoked",
    BELOW_FLOOR: "below the security floor", BLOCKED: "blocked here", WRONG_DEVICE: "for another device", WRONG_TENANT: "for another tenant",
    WRONG_ROLE: "key lacks the role", REPLAY: "seen before", EXPIRED: "expired", COUNTER_LEAP: "command counter leaps", RETAINED: "retained",
    WRONG_NONCE: "for another boot", TRUST_CHAIN: "trust chain broken", WRONG_TYPE: "wrong envelope type", UNKNOWN_KEY: "unknown key",
    TIME_UNTRUSTED: "time not trusted", TWIN: "two devices under one name", WRONG_DOOR: "not at this door", BAD_MAGIC: "not a bundle",
    BAD_INDEX: "bad index", BAD_MANIFEST: "bad manifest", BAD_TREE: "bad tree", BAD_OBJECT: "wrong content", MISSING_OBJECT: "object missing",
    NO_SPACE: "no space", TRUNCATED: "cut short", TRAILING: "bytes too many", ROT: "content differs", UNREADABLE: "could not read",
    SCHEMA: "data schema", TOO_MANY: "too many", NOT_NOW: "not now", HOOK: "hook said no", START_FAILED: "start failed",
    UNKILLABLE: "unkillable", LEFTOVERS: "old run still there", ALREADY: "already so", NOT_RUNNING: "not running", NOT_READY: "not ready",
    NO_RELOAD: "no reload declared", EXIT_NONZERO: "exited non-zero", KILLED: "killed by a signal", UNWRITABLE: "could not write",
    IN_DOUBT: "in doubt", POISON: "breaks the connection",
}  # fmt: skip


def word(code: int) -> str:
    """The screen word of a reason code; an unknown one keeps its number."""
    return WORDS.get(code, f"reason {code}")
