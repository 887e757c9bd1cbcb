# SPDX-License-Identifier: Apache-2.0
"""A job of several waits, written as one generator: what the guard does with children reads from top to bottom.

Duty: drive a generator. It yields a *wait*: a function that is given `resume` and calls it once, now or later, with the answer; a
`Refused` as answer is raised inside the job. It blocks nowhere and owns no loop.
Invariant: `done` is called exactly once, with the job's value or its `Refused`.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import reasons

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    Resume = Callable[[Any], None]
    Wait = Callable[[Resume], None]
    Job = Generator[Wait, Any, Any]


_WAITING = object()


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The job ends with a reason code; `args[1]` says more, for people."""

    def __init__(self, reason: int, message: str = "") -> None:
        """`reason` from core.reasons."""
        super().__init__(reason, message or reasons.word(reason))
        self.reason = reason
        self.message = message or reasons.word(reason)


def run(job: "Job", done: "Resume") -> None:
    """Drive `job` to its end; `done` gets its value, or the `Refused` that ended it."""
    _Run(job, done).go(None)


class _Run:
    """One job under way. An answer that comes while the job is on the stack is taken by the loop in `go`, not by recursion."""

    __slots__ = ("_answers", "_busy", "_done", "_job")

    def __init__(self, job: "Job", done: "Resume") -> None:
        self._job = job
        self._done = done
        self._busy = False
        self._answers: list[Any] = []

    def go(self, answer: "Any") -> None:
        self._answers.append(answer)
        if self._busy:
            return
        self._busy = True
        try:
            result = self._turn()
        finally:
            self._busy = False
        if result is not _WAITING:
            self._done(result)

    def _turn(self) -> "Any":
        """Go on until the job waits for something that is not there yet, or ends."""
        try:
            while self._answers:
                answer = self._answers.pop()
                wait = self._job.throw(answer) if isinstance(answer, Refused) else self._job.send(answer)
                wait(_Once(self.go))
        except StopIteration as end:
            return end.value
        except Refused as refused:
            return refused
        except OSError as fault:
            return Refused(reasons.UNWRITABLE, str(fault))
        return _WAITING


class _Once:
    """A resume that takes the first answer only: a child that both ended and timed out answers once."""

    __slots__ = ("_go",)

    def __init__(self, go: "Resume") -> None:
        self._go: Resume | None = go

    def __call__(self, answer: "Any") -> None:
        go, self._go = self._go, None
        if go is not None:
            go(answer)
