# SPDX-License-Identifier: Apache-2.0
"""What a probe may be aimed at: this box only.

Duty: check a target by kind. Nothing is resolved or opened.
Invariants: http and tcp go to the loopback; exec names a program of the image (or an interpreter); freshness names a file in
the app's data or, after `topic:`, a local topic.
"""

import re
from typing import Any

from edgeheal.image.fields import FieldError, check_text, check_texts
from edgeheal.image.paths import fault as path_fault

KINDS = ("exec", "http", "tcp", "freshness", "heartbeat")
_HTTP = re.compile(r"http://(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\])(:\d{1,5})?(/[!-~]*)?")
_TCP = re.compile(r"(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\]):(\d{1,5})")


def check(kind: str, target: Any, at: str) -> tuple[str, ...] | str:
    """The target if it fits the kind; FieldError otherwise."""
    if kind == "exec":
        words = check_texts(target, at, 64, 4096)
        bad = path_fault(words[0].removeprefix("/"))
        if bad:
            raise FieldError(f"{at}[0]", bad)
        return words
    if kind == "heartbeat":
        if target != "":
            raise FieldError(at, "a heartbeat has no target")
        return ""
    text = check_text(target, at, 255)
    if kind == "freshness":
        bad = "" if text.startswith("topic:") and len(text) > 6 else path_fault(text)
        if bad:
            raise FieldError(at, bad, hint="a path in the app's data folder, or topic:NAME")
        return text
    match = (_HTTP if kind == "http" else _TCP).fullmatch(text)
    port = (match.group(2) or ":80").lstrip(":") if match else "0"
    if not match or not 0 < int(port) < 65_536:
        raise FieldError(at, "does not point at a port of the loopback", hint='for example "http://127.0.0.1:8080/health" or "127.0.0.1:8080"')
    return text
