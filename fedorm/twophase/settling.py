"""What becomes of a branch that was left prepared, as data: it awaits nothing.

The branch's name says whose log holds the decision. What is recorded there is done. Where nothing is, and the
transaction is old enough, "rolled back" is recorded first: a coordinator that was only slow finds its place taken, and
cannot commit any more. Any number of recoveries may do this at once, with each other and with a coordinator that still
runs: the record is written once, by whoever comes first, and to end a branch that is no longer there does nothing.

As in ``protocol``, what is to be done is yielded, one action at a time, and what came of it is sent back.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Generator, Iterable, Mapping
from dataclasses import dataclass

from fedorm.stores.branches import Branch, short
from fedorm.twophase.arrivals import Arrival
from fedorm.twophase.decisions import Decision, Outcome
from fedorm.twophase.protocol import Action, Failed


class Identify(Action):
    """Say which decision log a service keeps; answered by its token, None where it keeps none."""


class Look(Action):
    """Find the decision in a service's log; answered by it, None where there is none."""


class Resolve(Action):
    """Find the decision in a service's log, and record "rolled back" where there is none; answered by it."""


@dataclass(frozen=True, slots=True)
class Conclude(Action):
    """See whether a service without transactions has the ``rows``, and write what that means into the log.

    The log is that of ``service``; ``dry_run`` writes nothing. Answered by the decision.
    """

    rows: Arrival
    at: str
    """The service that has the rows or not."""
    dry_run: bool


@dataclass(frozen=True, slots=True)
class End(Action):
    """Commit the branch that ``service`` holds, or roll it back; answered by whether it was still there."""

    outcome: Outcome


Answer = Failed | Decision | str | bool | None


class Done(enum.StrEnum):
    """What a recovery has done about a branch."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    GONE = "gone"
    """Somebody else has ended it: its own coordinator, or another recovery."""
    LEFT = "left"
    """It stays in doubt for now."""
    FOREIGN = "foreign"
    """It is of another federation, and was not touched."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What was done about a branch; ``outcome`` is None where the decision is not known."""

    done: Done
    outcome: Outcome | None = None
    why: str = ""
    """Why it was left, or whose it is."""


Steps = Generator[Action, Answer, Settlement]


def settle(
    branch: Branch, holder: str, *, services: Iterable[str], age: float, older_than: float = 60.0, dry_run: bool = False
) -> Steps:
    """End a branch that ``holder`` has prepared as was decided, if that is for ``services`` to say.

    ``age`` is for how many seconds its transaction has been seen prepared: before ``older_than`` its coordinator is
    left to end it itself. ``dry_run`` changes nothing, and says what would be done.
    """
    deciders = {short(name): name for name in services}
    decider = deciders.get(branch.decider)
    if decider is None:
        return Settlement(Done.FOREIGN, why=f"it is decided by a service {branch.decider!r} that is not one of ours")
    log = yield Identify(decider)
    if isinstance(log, Failed):
        return Settlement(Done.LEFT, why=_unasked(decider, log))
    if log != branch.log:
        return Settlement(Done.FOREIGN, why=f"it is decided by another service {decider!r} than ours")
    if age < older_than:
        why = f"until it is {older_than:g} s old it is left to the process that has begun it"
        return Settlement(Done.LEFT, why=why)
    ask = Look if dry_run else Resolve
    decision = yield ask(decider)
    if isinstance(decision, Decision) and decision.outcome is Outcome.DELEGATED:
        name, token = split(decision.to or "")
        if name not in deciders.values():
            return Settlement(Done.LEFT, why=f"it is decided by a service {name!r} that is not one of ours")
        if (rows := Arrival.read(token)) is not None:
            decision = yield Conclude(decider, rows, name, dry_run)
        else:
            log = yield Identify(name)
            if isinstance(log, Failed):
                return Settlement(Done.LEFT, why=_unasked(name, log))
            if log != token:
                return Settlement(Done.LEFT, why=f"it is decided by another service {name!r} than ours")
            decider = name
            decision = yield ask(decider)
    if isinstance(decision, Failed):
        return Settlement(Done.LEFT, why=_unasked(decider, decision))
    assert isinstance(decision, Decision | None)
    outcome = Outcome.ROLLED_BACK if decision is None else decision.outcome
    if outcome is Outcome.DELEGATED:
        return Settlement(Done.LEFT, why=f"service {decider!r} was to decide, and has handed it on to another one")
    if dry_run:
        return Settlement(Done.LEFT, outcome, f"it would be {outcome.value}")
    there = yield End(holder, outcome)
    if isinstance(there, Failed):
        return Settlement(Done.LEFT, outcome, str(there.error))
    if not there:
        return Settlement(Done.GONE, outcome)
    return Settlement(Done.COMMITTED if outcome is Outcome.COMMITTED else Done.ROLLED_BACK, outcome)


def located(service: str, log: str) -> str:
    """Return how a record names a service: with the token of its own decision log.

    Another application that shares the deciding database may have another service of the same name.
    """
    return f"{service}:{log}"


def split(place: str) -> tuple[str, str]:
    """Return the name of a service, and its log's token, as ``located`` has put them together."""
    name, _, log = place.partition(":")
    return name, log


def is_over(decision: Decision, *, in_doubt: Container[str], logs: Mapping[str, str]) -> bool:
    """Say whether nobody can need a decision any more: no service that it names holds a branch of its transaction.

    ``in_doubt`` are the ids of transactions of which a branch was found, asked for **after** the decision was read: as
    all branches are prepared before it is made, none comes later. ``logs`` has the tokens of the services that were
    asked. "Rolled back" is never over: it is what stops a coordinator that was only suspended, for however long.
    """
    if decision.outcome is Outcome.ROLLED_BACK or decision.id in in_doubt:
        return False
    places = [split(place) for place in decision.services]
    return bool(places) and all(log != "" and logs.get(name) == log for name, log in places)


def _unasked(decider: str, failed: Failed) -> str:
    return f"the decision of service {decider!r} is not known: {failed.error}"
