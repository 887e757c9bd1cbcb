# SPDX-License-Identifier: Apache-2.0
"""Whether the guard may answer an app's next end by a start at once, without asking first.

Duty: say it of a state; nothing is decided here and nothing changes. The incident is told and judged as ever: the start that it would ask for
has been made by then. Figures and reasons: docs/adr/0082.
Invariants: only where a restart is what would be done first, whatever the cause: the app serves, nothing is open about it or the box, what it
needs is ready, no back-off, budget, mode, pause or trial stands in the way, and nothing but a restart was needed lately. One start; then it
is asked again.
"""

from edgeheal.core.deployment import GOOD
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import CauseClass, Mode, Outcome, RemedyKind, SymptomKind
from edgeheal.core.now import Now
from edgeheal.diagnose.topology import hard_needs
from edgeheal.engine.state import State
from edgeheal.recover import budget
from edgeheal.recover.app import App

ASK = -1
_OWN = frozenset({SymptomKind.AGENT_SELF, SymptomKind.CONFIG_BROKEN})  # about ourselves: no cause that an app inherits
_FINE = frozenset({Outcome.CURED, Outcome.RUNNING})


def at_once(state: State, name: str, now: Now) -> int:
    """The ms that the present run must have lived for it; `ASK`: the agent wants to be asked."""
    app = state.apps.get(name)
    if app is None or not _serves(app) or app.pause_until_s > now.box_s or state.paused_until_s > now.box_s:
        return ASK
    if state.policy.mode_of(name, RemedyKind.RESTART) is not Mode.ACT or not _needs_met(state, name):
        return ASK
    if any(case.open and (case.app == name or (not case.app and case.incident.symptom not in _OWN)) for case in state.cases.values()):
        return ASK
    if not all(_restart_was_enough(incident) for incident in state.closed if incident.app == name):
        return ASK
    budgets = state.policy.remedy(RemedyKind.RESTART).budgets
    keys = [budget.key(name, cause, RemedyKind.RESTART) for cause in CauseClass]
    if any(key in state.ledger.spent and state.ledger.left(key, now.box_s, budgets) < 1 for key in keys):
        return ASK
    return round(state.policy.healthy_s * 1000) if app.fails else 0


def _serves(app: App) -> bool:
    """It runs as it should, from an image and a config that are known good."""
    fine = app.known and app.up and app.ready and app.wanted and app.run > 0 and app.image_state == GOOD
    return fine and not (app.stuck or app.held or app.removed or app.config_differs or app.judging_ns or app.ordered_ns)


def _needs_met(state: State, name: str) -> bool:
    spec = state.catalog.get(name)
    if spec is None:
        return False
    return all((other := state.apps.get(need)) is not None and other.ready for need in hard_needs(spec, "app"))


def _restart_was_enough(incident: Incident) -> bool:
    return all(t.kind is RemedyKind.RESTART and t.outcome in _FINE for t in incident.tried)
