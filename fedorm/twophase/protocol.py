"""Two-phase commit with the decision inside the last participant's own transaction, as data: it awaits nothing.

Presumed abort (Mohan, Lindsay, Obermarck: "Transaction Management in the R* Distributed Database Management System",
ACM TODS 11(4), 1986) with a last resource (Gray, Reuter: "Transaction Processing", 1992, 12.3.4): all participants
but one prepare, and the last one commits in a single phase, together with the record that says so. That record is the
commit point. Where there is none nothing was decided, and whoever is sure that the coordinator is gone may write
"rolled back" into its place.

What is to be done is yielded as actions, those in one tuple in any order or at the same time; what came of them is sent
back as answers in the same order. So the same code commits over real databases and is run through every
interleaving of crashes and lost answers by the tests.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from fedorm.twophase.decisions import Outcome


@dataclass(frozen=True, slots=True)
class Action:
    """Something to be done at one service."""

    service: str


class Release(Action):
    """Commit a service that was only read."""


class Prepare(Action):
    """Prepare a service's branch: from then on it can be committed whatever happens."""


@dataclass(frozen=True, slots=True)
class Delegate(Action):
    """Write into the decision log of ``service``, at once, that it is ``to`` whose log decides."""

    to: str


class Decide(Action):
    """Commit the last service in one phase, with the record of it in its own transaction."""


class Ask(Action):
    """Settle what became of a decision whose answer was lost; answered by an ``Outcome``."""


class Confirm(Action):
    """Commit a prepared branch."""


class Undo(Action):
    """Roll back a branch, prepared or not."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer to an action that was not done; with ``unsure``, that may have been done all the same."""

    error: BaseException
    unsure: bool


Answer = Failed | Outcome | None
"""None: it was done."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ended: ``outcome`` is None where nobody knows yet; ``pending`` branches are left to the recovery."""

    outcome: Outcome | None
    pending: tuple[str, ...] = ()
    cause: BaseException | None = None


Steps = Generator[tuple[Action, ...], Sequence[Answer], Verdict]


def coordinate(*, prepared: Sequence[str], last: str, decider: str, readers: Sequence[str] = ()) -> Steps:
    """Commit ``prepared`` services and the ``last`` one together, or none of them.

    ``decider`` is the service that the branches' names send the recovery to: ``last``, or one of ``prepared``.
    ``readers`` have written nothing.
    """
    answers = yield (*(Release(name) for name in readers), *(Prepare(name) for name in prepared))
    failures = [answer for answer in answers if isinstance(answer, Failed)]
    if failures:
        return (yield from _undo(prepared, [*readers, last], failures[0].error))
    if decider != last:
        (answer,) = yield (Delegate(decider, last),)
        if isinstance(answer, Failed):  # Written or not: without a record in the last one's log nothing is decided.
            return (yield from _undo(prepared, [last], answer.error))
    (answer,) = yield (Decide(last),)
    if isinstance(answer, Failed):
        error = answer.error
        if not answer.unsure:
            return (yield from _undo(prepared, [last], error))
        (answer,) = yield (Ask(last),)
        if isinstance(answer, Failed):
            return Verdict(None, (*prepared, last), error)
        if answer is not Outcome.COMMITTED:
            return (yield from _undo(prepared, [last], error))
    answers = yield tuple(Confirm(name) for name in prepared)
    left = {name: one.error for name, one in zip(prepared, answers, strict=True) if isinstance(one, Failed)}
    return Verdict(Outcome.COMMITTED, tuple(left), next(iter(left.values()), None))


def _undo(prepared: Sequence[str], others: Sequence[str], cause: BaseException) -> Steps:
    """Roll back everywhere; of the ``others`` a server that is gone does so by itself."""
    answers = yield tuple(Undo(name) for name in (*prepared, *others))
    left = [name for name, answer in zip(prepared, answers, strict=False) if isinstance(answer, Failed)]
    return Verdict(Outcome.ROLLED_BACK, tuple(left), cause)
