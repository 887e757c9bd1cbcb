# SPDX-License-Identifier: Apache-2.0
"""Effects: everything `step` can ask the world to do. Carried out by the agent; privileged ones by the guard.

Duty: name what may leave `step`. Invariant: an effect is complete (who carries it out decides nothing).
Light acts are harmless to repeat and run at once; grave ones get a durable INTENT first and an OUTCOME after.
"""

from dataclasses import dataclass
from enum import IntEnum

from edgeheal.core.incident import Incident


class Verb(IntEnum):
    """What an `Act` does to an app or the box."""

    START = 1
    STOP = 2
    RESTART = 3
    RELOAD = 4
    CLEAN_RESTART = 5
    RESTORE_CONFIG = 6
    ROLLBACK = 7  # to the newest other GOOD deployment, or to `target` when named
    HOOK = 8  # `target` = hook point (power-cycle, ...)
    REBOOT = 9
    OS_ROLLBACK = 10
    SAFE_MODE = 11
    PROBE = 12  # probe again now
    LOOK = 13  # ask the guard for the app's facts again
    GIVE_UP_TRIAL = 14  # back to a GOOD one, nothing blocked; `target` = the trial that is left: if it runs no more, nothing is done
    HOLD_SOAK = 15  # stop the soak's clock
    FOLLOW = 16  # sample once a second while something is suspected; `target` "on" or "off"


GRAVE = frozenset({Verb.RESTORE_CONFIG, Verb.ROLLBACK, Verb.HOOK, Verb.REBOOT, Verb.OS_ROLLBACK, Verb.SAFE_MODE, Verb.GIVE_UP_TRIAL})


@dataclass(frozen=True, slots=True)
class Effect:
    """Base of all effects."""


@dataclass(frozen=True, slots=True)
class Act(Effect):
    """Do `verb`; answer with `signal.ActEnded(act=number)`. `incident` is the number it serves, 0 = none."""

    number: int
    verb: Verb
    app: str = ""
    target: str = ""
    incident: int = 0

    @property
    def grave(self) -> bool:
        """Whether it needs a durable intent first."""
        return self.verb in GRAVE


@dataclass(frozen=True, slots=True)
class Report(Effect):
    """Tell the fleet this revision of an incident; `critical` ones are made durable at once."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class Decided(Effect):
    """A line for the journal and for `explain`: `what` a fixed word, `args` plain values."""

    what: str
    incident: int = 0
    app: str = ""
    args: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Wake(Effect):
    """Call `step` with a Tick at this monotonic time at the latest; replaces the Wake before."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Recorded(Effect):
    """Keep the ring's window with its snapshot as the recording of this incident; said at its opening and again at its end."""

    incident: int
