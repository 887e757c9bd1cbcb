# SPDX-License-Identifier: Apache-2.0
"""How grave a log line is, as a syslog number, by whatever sign its writer gave.

Duty: text in, 0..7 out. Invariant: a line without any sign is 6 (info), or 4 (warning) when its words speak of failure.
Signs: `<3>` (sd-daemon), a level word near the start or as `level=`, glog's first letter, Android's single letter.
"""

import re

EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG = range(8)

_NUMBER = re.compile(r"^<(\d{1,3})>")
_WORD = re.compile(
    r"(?i)(?:^|[\s\[(|<:\"'=])(emerg(?:ency)?|panic|alert|crit(?:ical)?|fatal|severe|err(?:or)?|warn(?:ing)?|notice|info(?:rmation)?|debug|trace|verbose|fine(?:r|st)?)(?=$|[\s\])|>:,\"'])"
)
_LETTER = re.compile(r"^(?:([IWEF])\d{4} \d\d:|.{0,60}\s([VDIWEF])[ /]\w)")
_FAILURE = re.compile(
    r"(?i)\b(?:error|fail(?:ed|ure|s)?|exception|abort(?:ed|ing)?|cannot|can't|could not|unable|refused|denied|timed? ?out|corrupt\w*|mismatch|no space|too many|"
    r"out of memory|segfault|killed|lost|broken|invalid|unreachable|not found|disconnected)\b"
)
_LEVELS = {
    "emerg": EMERGENCY, "pani": CRITICAL, "aler": ALERT, "crit": CRITICAL, "fata": CRITICAL, "seve": ERROR, "err": ERROR, "warn": WARNING,
    "noti": NOTICE, "info": INFO, "debu": DEBUG, "trac": DEBUG, "verb": DEBUG, "fine": DEBUG,
}  # fmt: skip
_LETTERS = {"F": CRITICAL, "E": ERROR, "W": WARNING, "I": INFO, "D": DEBUG, "V": DEBUG}


def level_of(line: str) -> int:
    """The line's syslog level."""
    found = _NUMBER.match(line)
    if found:
        return int(found[1]) & 7
    found = _WORD.search(line, 0, 160)
    if found:
        word = found[1].lower()
        level = next((n for key, n in _LEVELS.items() if word.startswith(key)), INFO)
        if found.start() < 60 or line[found.start()] in "=\"'":
            return level
    found = _LETTER.match(line)
    if found:
        return _LETTERS[found[1] or found[2]]
    return WARNING if _FAILURE.search(line) else INFO
