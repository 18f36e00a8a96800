"""Services, a coordinator and recoveries as values, in which everything that can happen may happen next.

The coordinator and the recoveries are the shipped generators; what a database does with an action is written here. A
state is a value: of a generator, the answers it was given, from which it is made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fedorm.stores.branches import Branch
from fedorm.twophase.arrivals import Arrival
from fedorm.twophase.decisions import Decision, Outcome
from fedorm.twophase.protocol import (
    Action,
    Ask,
    Confirm,
    Decide,
    Delegate,
    Failed,
    Prepare,
    Release,
    Undo,
    Verdict,
    coordinate,
)
from fedorm.twophase.settling import Conclude, End, Identify, Look, Resolve, located, settle

ID, LOG = "0" * 32, "0" * 12
ROWS = Arrival("rows", (("id", 1),)).written()
LOST = Failed(ConnectionError("lost"), unsure=True)
REFUSED = Failed(ValueError("refused"), unsure=False)

ACTIVE, PREPARED, COMMITTED, ROLLED_BACK = "active", "prepared", "committed", "rolled back"


@dataclass(frozen=True)
class Case:
    """Who takes part, and how much may go wrong."""

    prepared: tuple[str, ...]
    last: str
    decider: str
    readers: tuple[str, ...] = ()
    faults: int = 2
    recoveries: int = 1
    logless: bool = False
    """Whether the last one has no transactions: it takes its rows as a whole, and keeps no log."""
    fenced: bool = True
    """Whether a recovery writes "rolled back" before it rolls back."""

    @property
    def services(self) -> tuple[str, ...]:
        return (*self.prepared, self.last, *self.readers)


@dataclass(frozen=True)
class Recovery:
    """One recovery at work on one branch."""

    holder: str
    answers: tuple[Any, ...] = ()


@dataclass(frozen=True)
class World:
    """All that there is at one moment."""

    status: tuple[tuple[str, str], ...]
    logs: tuple[tuple[str, Outcome], ...] = ()
    alive: bool = True
    answers: tuple[tuple[Any, ...], ...] = ()
    """What the coordinator was told."""
    told: tuple[tuple[int, Any], ...] = ()
    """Answers to those of its present actions that are done, by their place."""
    ghosts: tuple[Action, ...] = ()
    """Sent, and given up by the coordinator; a server may still be about to do them."""
    recoveries: tuple[Recovery, ...] = ()
    faults: int = 0
    started: int = 0

    def of(self, service: str) -> str:
        return dict(self.status)[service]

    def turned(self, service: str, status: str) -> World:
        return replace(self, status=tuple((name, status if name == service else old) for name, old in self.status))

    def recorded(self, service: str, outcome: Outcome) -> World:
        return replace(self, logs=tuple(sorted((*self.logs, (service, outcome)))))

    def record_of(self, service: str) -> Outcome | None:
        return dict(self.logs).get(service)


def began(case: Case) -> World:
    """A transaction in which every service was written to, or read, and nothing has been prepared."""
    return World(tuple((name, ACTIVE) for name in case.services))


def coordinator(case: Case, world: World) -> tuple[Action, ...] | Verdict:
    """What the coordinator wants done, or how it has ended."""
    steps = coordinate(prepared=case.prepared, last=case.last, decider=case.decider, readers=case.readers)
    try:
        actions = next(steps)
        for answers in world.answers:
            actions = steps.send(answers)
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    return actions


def done(case: Case, world: World, action: Action) -> tuple[World, Any]:
    """What a server does when an action reaches it, and what it answers."""
    service = action.service
    status = world.of(service)
    match action:
        case Release():
            return (world.turned(service, COMMITTED), None) if status == ACTIVE else (world, REFUSED)
        case Prepare():
            return (world.turned(service, PREPARED), None) if status == ACTIVE else (world, REFUSED)
        case Decide() if case.logless:
            if world.record_of(case.decider) is not Outcome.DELEGATED:
                return world, REFUSED
            return concluded(world.turned(service, COMMITTED), case.decider, Outcome.COMMITTED), None
        case Ask() if case.logless:
            return world, LOST
        case Delegate():
            if world.record_of(service) is not None:
                return world, REFUSED
            return world.recorded(service, Outcome.DELEGATED), None
        case Decide():
            if status != ACTIVE:
                return world, REFUSED
            if world.record_of(service) is not None:  # The key is taken.
                return world.turned(service, ROLLED_BACK), REFUSED
            return world.turned(service, COMMITTED).recorded(service, Outcome.COMMITTED), None
        case Ask():
            return resolved(world, service, fenced=True)
        case Confirm():
            return (world.turned(service, COMMITTED), None) if status == PREPARED else (world, None)
        case Undo():
            return (world.turned(service, ROLLED_BACK), None) if status in (ACTIVE, PREPARED) else (world, None)
    raise AssertionError(action)


def concluded(world: World, service: str, outcome: Outcome) -> World:
    return replace(world, logs=tuple((name, outcome if name == service else old) for name, old in world.logs))


def resolved(world: World, service: str, *, fenced: bool) -> tuple[World, Outcome]:
    found = world.record_of(service)
    if found is not None:
        return world, found
    return (world.recorded(service, Outcome.ROLLED_BACK) if fenced else world), Outcome.ROLLED_BACK


def following(case: Case, world: World) -> Iterator[tuple[str, World]]:
    """Everything that can happen next, named."""
    yield from _coordinator_goes_on(case, world)
    for place, ghost in enumerate(world.ghosts):
        without = replace(world, ghosts=world.ghosts[:place] + world.ghosts[place + 1 :])
        yield f"{ghost} is done late", done(case, without, ghost)[0]
        yield f"{ghost} is never done", without
    for service in case.services:
        # A connection's end undoes what was not prepared; nothing that is still on its way can be done after it.
        if world.of(service) == ACTIVE and not world.alive and not _is_on_its_way(world, service):
            yield f"{service} undoes", world.turned(service, ROLLED_BACK)
    if world.faults < case.faults:
        yield from _faults(case, world)
    if world.started < case.recoveries:
        for service in case.services:
            if world.of(service) == PREPARED:
                recoveries = (*world.recoveries, Recovery(service))
                after = replace(world, started=world.started + 1, recoveries=recoveries)
                yield f"a recovery looks at {service}", after
    for place, recovery in enumerate(world.recoveries):
        for what, after, answer in recovery_step(case, world, recovery):
            others = world.recoveries[:place] + world.recoveries[place + 1 :]
            goes_on = () if answer is None else (replace(recovery, answers=(*recovery.answers, answer[0])),)
            yield f"recovery of {recovery.holder}: {what}", replace(after, recoveries=(*others, *goes_on))


def _coordinator_goes_on(case: Case, world: World) -> Iterator[tuple[str, World]]:
    wanted = coordinator(case, world) if world.alive else None
    if not isinstance(wanted, tuple):
        return
    told = dict(world.told)
    for place, action in enumerate(wanted):
        if place not in told:
            after, answer = done(case, world, action)
            yield f"{action}", _tell(after, wanted, place, answer)
            if world.faults < case.faults:
                lost = replace(after, faults=world.faults + 1)
                yield f"{action}, the answer is lost", _tell(lost, wanted, place, LOST)
                if case.logless and isinstance(action, Decide):
                    # Nobody can tell rows that come after a recovery has looked: that is left to its patience.
                    if world.record_of(case.decider) is Outcome.DELEGATED:
                        sent = world.turned(action.service, COMMITTED)
                        yield "the coordinator dies, having sent", replace(sent, alive=False, faults=world.faults + 1)
                    continue
                late = replace(world, ghosts=(*world.ghosts, action), faults=world.faults + 1)
                yield f"{action} is given up", _tell(late, wanted, place, LOST)


def _tell(world: World, wanted: tuple[Action, ...], place: int, answer: Any) -> World:
    told = {**dict(world.told), place: answer}
    if len(told) < len(wanted):
        return replace(world, told=tuple(sorted(told.items(), key=lambda item: item[0])))
    return replace(world, told=(), answers=(*world.answers, tuple(told[one] for one in range(len(wanted)))))


def _faults(case: Case, world: World) -> Iterator[tuple[str, World]]:
    hit = replace(world, faults=world.faults + 1)
    wanted = coordinator(case, world) if world.alive else None
    waiting = (
        [a for place, a in enumerate(wanted) if place not in dict(world.told)] if isinstance(wanted, tuple) else []
    )
    if world.alive:
        yield "the coordinator dies", replace(hit, alive=False, told=(), ghosts=(*world.ghosts, *waiting))
    for service in case.services:
        if case.logless and service == case.last:
            continue
        ghosts = tuple(ghost for ghost in world.ghosts if ghost.service != service)
        after = replace(hit, ghosts=ghosts)
        if world.of(service) == ACTIVE:
            after = after.turned(service, ROLLED_BACK)
        if after != replace(world, faults=after.faults):
            yield f"{service} restarts", after


def _is_on_its_way(world: World, service: str) -> bool:
    return any(ghost.service == service for ghost in world.ghosts)


def recovery_step(case: Case, world: World, recovery: Recovery) -> Iterator[tuple[str, World, tuple[Any] | None]]:
    """What a recovery does next, and the answer; no answer where it has ended."""
    branch = Branch(ID, recovery.holder, case.decider, LOG)
    steps = settle(branch, recovery.holder, services=case.services, age=100.0)
    try:
        action = next(steps)
        for answer in recovery.answers:
            action = steps.send(answer)
    except StopIteration as end:
        yield f"{end.value}", world, None
        return
    service = action.service
    match action:
        case Identify():
            yield f"{action}", world, (LOG,)
        case Conclude():
            outcome = world.record_of(service) or Outcome.ROLLED_BACK
            if outcome is Outcome.DELEGATED:
                outcome = Outcome.COMMITTED if world.of(action.at) == COMMITTED else Outcome.ROLLED_BACK
                world = concluded(world, service, outcome)
            yield f"{action}", world, (Decision(ID, outcome, None, case.services, datetime(2026, 1, 1, tzinfo=UTC)),)
        case Look() | Resolve():
            after, outcome = resolved(world, service, fenced=case.fenced)
            to = located(case.last, ROWS if case.logless else LOG) if outcome is Outcome.DELEGATED else None
            yield f"{action}", after, (Decision(ID, outcome, to, case.services, datetime(2026, 1, 1, tzinfo=UTC)),)
        case End(outcome=outcome):
            there = world.of(service) == PREPARED
            status = COMMITTED if outcome is Outcome.COMMITTED else ROLLED_BACK
            yield f"{action}", world.turned(service, status) if there else world, (there,)
    if world.faults < case.faults:
        yield "dies", replace(world, faults=world.faults + 1), None
