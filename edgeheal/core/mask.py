# SPDX-License-Identifier: Apache-2.0
"""What an app says, made fit to be kept and shown: secrets masked, control characters escaped.

Duty: pure text in, text out; used wherever words from outside become a signal, a screen or an archive.
Invariants: no control, format or direction character leaves here; masking goes by *values* that are known to be secret (plain,
percent-encoded, hexadecimal and base64 at any alignment) and by the shapes of secrets; what is masked is `***`, its length is not told.
"""

import base64
import re
from collections.abc import Iterable

MASK = "***"
KNOWN_MOST = 1_024
SHORTEST = 4

_NAMES = (
    r"pass(?:word|wd|phrase|code)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth(?:orization)?|credentials?|cookie|session[_-]?id|psk|bearer"
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), MASK),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@]*:[^\s/@]*@"), rf"\1{MASK}@"),
    (re.compile(rf"(?i)(\b[\w.-]*(?:{_NAMES})[\w.-]*[\"']?\s*[:=]\s*)(?:\"[^\"]*\"|'[^']*'|(?:bearer|basic|digest)\s+\S+|[^\s,;&\"'}}\])]+)"), rf"\1{MASK}"),
    (re.compile(rf"(?i)(--[\w-]*(?:{_NAMES})[\w-]*\s+)\S+"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.+/=~-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), MASK),
    (re.compile(r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|xox[abposr]-[\w-]{10,}|sk-[\w-]{20,})"), MASK),
    (re.compile(r"^\s*[A-Za-z0-9+/]{64}\s*$|(?<![\w/.-])[A-Za-z0-9+/]{30,}={1,2}(?![\w=])"), MASK),  # a line of a key file; padded base64
    (re.compile(r"\b(?=\w*[0-9])(?=\w*[a-z])(?=\w*[A-Z])\w{40,}"), MASK),
)
_HINT = re.compile(rf"(?i){_NAMES}|basic|://|-----BEGIN|eyJ|AKIA|gh[pousr]_|xox|sk-|[A-Za-z0-9+/_]{{30}}")


_NAME = re.compile(rf"(?i){_NAMES}")
_SAID = re.compile(rf"(?im)[\"']?[\w.-]*(?:{_NAMES})[\w.-]*[\"']?[ \t]*[:=][ \t]*(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^\s,;\"'\[{{]+))")
_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:([^\s/@]+)@")
_NO_SECRETS = frozenset({"true", "false", "none", "null", "yes", "no"})


def secret_name(name: str) -> bool:
    """Whether what is called so is a secret."""
    return _NAME.search(name) is not None


def said_secrets(text: str) -> set[str]:
    """The values that a config, in whatever format of lines, gives to secret names, and the passwords in its URLs."""
    found = {value for match in _SAID.finditer(text) for value in match.groups() if value}
    found |= {match[1] for match in _IN_URL.finditer(text)}
    return {value for value in found if len(value) >= SHORTEST and value.lower() not in _NO_SECRETS and "/" not in value[:1]}


def escaped(raw: str | bytes, most: int = 200) -> str:
    r"""At most `most` characters; bytes that are no UTF-8 and characters that steer a terminal as `\xNN`, `\uNNNN`."""
    text = raw[: most * 4].decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw[: most * 4]
    if not text.isprintable():  # separators other than the space, control, format, unassigned and surrogate characters
        text = "".join([char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text])
    return text if len(text) <= most else text[: most - 3] + "..."


class Masker:
    """Masks by shape, and the secrets it was told."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """`secrets`: values (at least 4 characters) that must not appear in any encoding."""
        forms: set[str] = set()
        for value in sorted(set(secrets))[:KNOWN_MOST]:
            if len(value.strip()) >= SHORTEST:
                forms |= _forms(value.strip())
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(re.escape(form) for form in longest_first)) if longest_first else None

    def masked(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if _HINT.search(text):
            for pattern, instead in _SHAPES:
                text = pattern.sub(instead, text)
        return text

    def holds(self, text: str) -> bool:
        """Whether a secret that it was told stands in there, in any of its forms."""
        return self._known is not None and self._known.search(text) is not None

    def fit(self, raw: str | bytes, most: int = 200) -> str:
        """Masked first (a cut must not leave half a secret), then escaped and cut to `most` characters."""
        text = raw[:65_536].decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw[:65_536]
        return escaped(self.masked(text), most)


def _forms(value: str) -> set[str]:
    """How a value may look: plain, percent-encoded, hexadecimal, base64 within anything."""
    raw = value.encode()
    forms = {value, _percent(raw, b"/"), _percent(raw, b""), raw.hex(), raw.hex().upper()}
    forms |= {"".join(f"%{byte:{case}}" for byte in raw) for case in ("02X", "02x")}
    for lead, skip in ((0, 0), (1, 2), (2, 3)):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * lead + raw).decode().rstrip("=")
            core = text[skip:] if (len(raw) + lead) % 3 == 0 else text[skip:-1]
            if len(core) >= SHORTEST:
                forms.add(core)
    return forms


def _percent(raw: bytes, safe: bytes) -> str:
    """Percent-encoded as in a URL (RFC 3986)."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~" + safe
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in raw)
