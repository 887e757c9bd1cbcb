# SPDX-License-Identifier: Apache-2.0
"""What came from the fleet, read within bounds: commands and policies leave as typed values, acknowledgements serve the spool.

Duty: judge the *form* of each message and what may be refused without a signature (retained, malformed, too long). Signatures,
roles and counters are the guard's. Invariants: a bad message costs exactly that message; a command is refused once per id, not
once per connect; nothing here is carried out.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edgeheal.core import reasons
from edgeheal.core.digest import sha256
from edgeheal.core.errors import WireError
from edgeheal.core.kinds import ResultState
from edgeheal.wire import commands
from edgeheal.wire.results import Result

REMEMBERED_MOST = 512


@dataclass(frozen=True, slots=True)
class CommandCame:
    """A command whose form is right: `data` goes to the guard as it is, by PRESENT. `command` is what it says, judged by nobody yet."""

    data: bytes
    command: commands.Command


@dataclass(frozen=True, slots=True)
class PolicyCame:
    """A policy that differs from the last one that came."""

    data: bytes


Down = CommandCame | PolicyCame


class Inbox:
    """`hand` takes what the agent must see, `answer` a refusal to be told, `bad` the reason of a message that names no command."""

    def __init__(self, hand: Callable[[Down], None], answer: Callable[[Result], None], bad: Callable[[int], None]) -> None:
        """Nothing is remembered yet."""
        self._hand = hand
        self._answer = answer
        self._bad = bad
        self._refused: OrderedDict[tuple[bytes, int], None] = OrderedDict()
        self._policy = b""

    def command(self, data: bytes, *, retained: bool) -> None:
        """A message on `down/cmd`."""
        if not data:
            if not retained:
                self._bad(reasons.MALFORMED)
            return  # an empty retained message only clears the place
        if len(data) > commands.ENVELOPE_MOST:
            self._bad(reasons.TOO_LARGE)
            return
        if retained:
            self._refuse(data, reasons.RETAINED)
            return
        try:
            command = commands.peek(data)
        except WireError as fault:
            self._refuse(data, fault.code or reasons.MALFORMED)
            return
        self._hand(CommandCame(data, command))

    def policy(self, data: bytes) -> None:
        """A message on `down/policy`; it is retained, so the same one comes with every connect and is handed on once."""
        if not data:
            return
        if len(data) > commands.ENVELOPE_MOST:
            self._bad(reasons.TOO_LARGE)
            return
        digest = sha256(data).digest()
        if digest != self._policy:
            self._policy = digest
            self._hand(PolicyCame(data))

    def _refuse(self, data: bytes, reason: int) -> None:
        """Told under the command's id where one can be read, else counted."""
        command_id = commands.peek_id(data)
        if not command_id:
            self._bad(reason)
            return
        key = (command_id, reason)
        if key in self._refused:
            return
        self._refused[key] = None
        while len(self._refused) > REMEMBERED_MOST:
            self._refused.popitem(last=False)
        text = "clear it: publish an empty retained message to down/cmd"[:48] if reason == reasons.RETAINED else ""
        self._answer(Result(command_id, ResultState.REFUSED, reason, text=text))
