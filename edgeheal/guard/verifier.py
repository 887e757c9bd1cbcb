# SPDX-License-Identifier: Apache-2.0
"""The verifier: a child that judges signatures, and proves files, for the guard.

Duty: manifests to launch records, envelopes to typed verdicts, trust chains to versions, installed trees to yes / no / could not read.
Writes nothing. Invariant: it believes only its request (the guard's word) and signatures; every other byte is hostile.

Request (see guard.child): "mode" and
  manifest  descriptor 3: store/<app>/<id>/manifest or staging's (an envelope).
            "trust" bytes newest trust envelope held; "trust_k" bytes envelope of the version that admitted it, or b"" for an image that
            comes new; "app" str expected app or ""; "id" bytes32 expected id or b""; "device" [str]; "floor" [epoch, counter];
            "blocked" [bytes32]; "interpreters" [str]; "keep" bool (a revoked one may run on: trust's keep is honoured); "shared_keys" bool.
            Done: {"reason": verdict, "word": str, "id","app","version","security","min_security","schema","soak_s","digest": bytes32 (tree, run),
                   "trust": n judged by for new ones, "kept": bool (revoked, but in keep), "mark_floor": [epoch, counter] the floor after a mark-good,
                   "launch": packed launch record, "crc": its CRC-32}. A verdict other than 0 is a "done" too: the reason says why not.
  envelope  descriptor 3: a memfd with a command or policy envelope (at most 72 KiB).
            "trust" bytes; "shared_keys" bool; "tenant" str, "device" str (this box); "door" "agent" | "person" | "root";
            "nonce" bytes (boot nonce); "approvals" {action code as str: signatures needed} or absent.
            Done: {"reason": verdict, "word", "kind": "command"|"policy", "action": core.kinds.ActionCode (0 for a policy), "app": str, "id": bytes (image),
                   "counter": int, "by": bytes8, "expires": int, "issued": int, "nonce": bytes, "command_id": bytes16, "args": {...} plain,
                   "roles": [str], "signatures": int, "trust": n, "document": {...} plain (a policy's content)}
            The guard itself judges counter, expiry and command id: they are its durable facts.
  trust     descriptor 3: consecutive trust envelopes (a .eht file, or staging/<id>/trust).
            "trust" bytes: the newest held envelope, or b"" when descriptor 3 starts with the version that the device came with;
            "highest" int: the highest version ever seen (a chain that ends below is TRUST_CHAIN); "shared_keys" bool; "most" int bytes (64 KiB).
            Done: {"reason": 0, "n": newest, "links": [[n, offset, length]] of new versions in descriptor 3, "warnings": [str],
                   "newest": bytes of the newest envelope}
  quick     "tree" str path of store/<app>/<id>; "id" bytes32: manifest and tree list by hash, lstat of every row (kind, size, mode, time tag).
            Done: {"reason": 0 | ROT | UNREADABLE, "rows": int, "differs": first path or "", "what": str}
  full      as quick, and every content by hash, at idle priority. Progress step 5.
"""

import binascii
import contextlib
import os
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError, TrustError
from edgeheal.guard import child
from edgeheal.trust import chain, document, envelope


def main(_words: list[str] | None = None) -> int:
    """The child's way in."""
    return child.run(work, confined="reads")


def work(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    """One mode."""
    modes = {"manifest": _manifest, "envelope": _envelope, "trust": _trust, "quick": _files, "full": _files}
    return modes[request["mode"]](request, answers)


def _passed(most: int) -> bytes:
    """All of descriptor 3, at most `most` bytes, from its beginning where it has one."""
    with contextlib.suppress(OSError):
        os.lseek(child.PASSED_FD, 0, os.SEEK_SET)
    data = b""
    while len(data) <= most:
        piece = os.read(child.PASSED_FD, most + 1 - len(data))
        if not piece:
            return data
        data += piece
    raise TrustError(f"more than {most} bytes", reason=reasons.TOO_LARGE, part="envelope", place="envelope")


def _held(raw: bytes, *, shared: bool) -> document.Trust:
    """A trust version out of the guard's own folder."""
    return document.decode(envelope.decode(raw, envelope.TRUST, part="trust").body, shared_keys=shared)


def _files(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    from edgeheal.guard import prover  # each mode loads what it needs: a start check is for speed, and needs no cryptography

    return (prover.full if request["mode"] == "full" else prover.quick)(request, answers)


def _manifest(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    shared = bool(request.get("shared_keys"))
    newest = _held(request["trust"], shared=shared)
    under = _held(request["trust_k"], shared=True) if request.get("trust_k") else None
    return judged(_passed(envelope.MAX_ENVELOPE), request, newest, under)


def judged(data: bytes, request: dict[str, Any], newest: document.Trust, under: document.Trust | None) -> dict[str, Any]:
    """The verdict on a manifest's envelope (mode manifest; also for all of them at a boot: guard.boot_child)."""
    from edgeheal.image import admission, launch, manifest
    from edgeheal.trust.verify import signers

    signed = envelope.decode(data, envelope.MANIFEST)
    by = signers(signed)
    said = manifest.decode(signed.body)
    epoch, counter = request["floor"]
    facts = admission.Facts(
        said, signed.id, by, newest, under, tuple(request["device"]), (epoch, counter), frozenset(request["blocked"]), tuple(request["interpreters"])
    )
    reason = admission.judge(facts)
    kept = reason == reasons.REVOKED and bool(request.get("keep")) and admission.kept(facts)
    if request.get("id") and request["id"] != signed.id:
        reason = reasons.NO_SUCH_IMAGE
    elif request.get("app") and request["app"] != said.app:
        reason = reasons.NO_SUCH_APP
    packed = launch.packed(said, signed.id)
    return {
        "reason": reason, "word": reasons.word(reason), "id": signed.id, "app": said.app, "version": said.version,
        "security": said.security_counter, "min_security": said.min_security_counter, "schema": said.data.schema if said.data else 0,
        "soak_s": said.soak_s, "digest": said.tree_run, "trust": newest.n, "kept": kept,
        "mark_floor": list(admission.marked((epoch, counter), newest.floor(said.app), said)), "launch": packed, "crc": binascii.crc32(packed),
    }  # fmt: skip


def _envelope(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    from edgeheal.guard import signed_words

    shared = bool(request.get("shared_keys"))
    newest = _held(request["trust"], shared=shared)
    return signed_words.judge(_passed(envelope.MAX_ENVELOPE), newest, request)


def _trust(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    from edgeheal.trust.verify import signers

    shared = bool(request.get("shared_keys"))
    data = _passed(int(request.get("most") or envelope.MAX_CHAIN))
    envelopes = envelope.decode_chain(data, most_bytes=len(data))
    warnings: list[str] = []
    if request["trust"]:
        start = envelope.decode(request["trust"], envelope.TRUST, part="trust")
        held = document.decode(start.body, shared_keys=shared)
        links = chain.walk(held, envelopes, signers, shared_keys=shared)
        newest, newest_envelope = (links[-1].trust, links[-1].envelope) if links else (held, start)
    else:
        if not envelopes:
            raise TrustError("holds no trust document", reason=reasons.TRUST_CHAIN, part="trust", place="trust")
        first = chain.first(envelopes[0], signers, shared_keys=shared)
        rest = chain.walk(first.trust, envelopes[1:], signers, shared_keys=shared)
        links = (first, *rest)
        newest, newest_envelope = links[-1].trust, links[-1].envelope
    highest = int(request.get("highest", 0))
    if newest.n < highest:
        raise TrustError(
            f"ends at version {newest.n}, but version {highest} was seen here", reason=reasons.TRUST_CHAIN, part="trust", place="trust",
            hint="trust was damaged or put back; bring the whole chain as an .eht file",
        )  # fmt: skip
    places = {envelope.encode(link.envelope): link.trust.n for link in links}
    found: list[list[int]] = []
    at = 0
    for one in envelopes:
        raw = envelope.encode(one)
        if raw in places:
            found.append([places[raw], at, len(raw)])
        at += len(raw)
    try:
        document.decode(newest_envelope.body)
    except EdgeHealError as fault:
        warnings.append(str(fault))
    return {"n": newest.n, "links": found, "warnings": warnings, "newest": envelope.encode(newest_envelope)}
