# SPDX-License-Identifier: Apache-2.0
"""The boot child: one process that proves what shall run, so that twenty apps wait for one interpreter and not for forty.

Duty: the trust chain, then each app's running deployment: signature and admission by the newest trust, and the rows of its files.
It says of each what the verifier's modes `trust`, `manifest` and `quick` would say. Writes nothing. Not imported by the resident guard.
Invariant: a fault of one app costs that app's answer only.

Request (see guard.child): "trust" {as mode trust}, "device" [str], "interpreters" [str], "shared_keys" bool, "rows" bool (check the files, too),
  "apps" [{"app" str, "id" bytes32, "k" int (trust that admitted it), "floor" [epoch, counter], "blocked" [bytes32], "tree" str}].
Descriptor 3: the trust chain.
Answers: progress {"what": "trust", "done": {...}}; for each app progress {"what": "app", "app", "id", "manifest": {...} or {"reason"}, "rows": reason or -1};
  done {"apps": int}. An error of the chain ends it.
"""

import os
from collections.abc import Sequence
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError
from edgeheal.guard import child, prover, verifier
from edgeheal.guard.folders import Folder
from edgeheal.trust import document, envelope

MOST_CHAIN = 262_144


class Silent(child.Answers):
    """The start check's own progress is nobody's business here."""

    def give(self, kind: str, values: dict[str, Any]) -> None:
        """Nothing."""


def main(_words: Sequence[str] = ()) -> int:
    """The child's way in."""
    return child.run(work, confined="reads")


def work(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    """The chain, then the apps in their order."""
    done = verifier.work({"mode": "trust", **request["trust"]}, answers)
    answers.give("progress", {"what": "trust", "done": done})
    chain = os.pread(child.PASSED_FD, MOST_CHAIN, 0)
    shared = bool(request.get("shared_keys"))
    raw = {int(n): chain[at : at + length] for n, at, length in done["links"]}
    newest = _trust(done["newest"], shared=shared)
    for app in request["apps"]:
        under = newest if app["k"] == newest.n else _trust(raw[app["k"]], shared=True) if app["k"] in raw else None
        answers.give("progress", {"what": "app", "app": app["app"], "id": app["id"], **_app(request, app, newest, under)})
    return {"apps": len(request["apps"])}


def _trust(raw: bytes, *, shared: bool) -> document.Trust:
    return document.decode(envelope.decode(raw, envelope.TRUST, part="trust").body, shared_keys=shared)


def _app(request: dict[str, Any], app: dict[str, Any], newest: document.Trust, under: document.Trust | None) -> dict[str, Any]:
    """One app's verdict, and its rows when the verdict allows."""
    if under is None:
        return {"manifest": {"reason": reasons.TRUST_CHAIN}, "rows": -1}
    asked = {"device": request["device"], "interpreters": request["interpreters"], "keep": True, **app}
    try:
        with Folder(app["tree"]) as folder:
            said = verifier.judged(folder.read("manifest", envelope.MAX_ENVELOPE), asked, newest, under)
    except FileNotFoundError:
        return {"manifest": {"reason": reasons.ROT}, "rows": -1}
    except OSError:
        return {"manifest": {"reason": reasons.UNREADABLE}, "rows": -1}
    except EdgeHealError as fault:
        return {"manifest": {"reason": getattr(fault, "reason", 0) or reasons.ROT}, "rows": -1}
    if not request.get("rows") or (said["reason"] != reasons.OK and not said["kept"]):
        return {"manifest": said, "rows": -1}
    return {"manifest": said, "rows": int(prover.quick({"tree": app["tree"], "id": app["id"]}, Silent())["reason"])}
