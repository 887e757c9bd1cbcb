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
