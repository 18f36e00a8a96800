"""Decisions are dropped while commits and recoveries are under way, in every order: none is missed by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from fedorm.twophase.decisions import Decision, Outcome
from fedorm.twophase.settling import is_over, located
from tests.twophase.test_model import recovered
from tests.twophase.world import COMMITTED, ID, LOG, PREPARED, ROLLED_BACK, Case, World, began, following

CASES = {
    "one prepares, the other decides": Case(("a",), "b", "b", faults=2, recoveries=1),
    "the decision is handed on": Case(("a",), "m", "a", faults=2, recoveries=1),
    "two prepare": Case(("a", "b"), "c", "c", faults=1, recoveries=1),
}


@dataclass(frozen=True)
class Sweep:
    """How far a recovery is with dropping: the records it has read, and which services were asked for branches."""

    read: tuple[tuple[str, Outcome], ...] | None = None
    asked: tuple[tuple[str, bool], ...] = ()


State = tuple[World, Sweep, int]


def sweeping(case: Case, state: State, *, reads_first: bool, keeps_rollbacks: bool) -> Iterator[State]:
    """What the sweep may do next; a service is asked at a time, as they answer when they like."""
    world, sweep, left = state
    if left == 0:
        return
    others = [name for name in case.services if name not in dict(sweep.asked)]
    may_ask = sweep.read is not None or not reads_first
    if may_ask and others:
        for name in others:
            asked = tuple(sorted((*sweep.asked, (name, world.of(name) == PREPARED))))
            yield world, replace(sweep, asked=asked), left
    if sweep.read is None and (reads_first or not others):
        yield world, replace(sweep, read=world.logs), left
    if sweep.read is not None and not others:
        in_doubt = {ID} if any(there for _, there in sweep.asked) else set()
        over = [one for one in sweep.read if is_over(decision(case, one[1]), in_doubt=in_doubt, logs=logs(case))]
        if not keeps_rollbacks and not in_doubt:
            over = list(sweep.read)
        yield replace(world, logs=tuple(one for one in world.logs if one not in over)), Sweep(), left - 1


def decision(case: Case, outcome: Outcome) -> Decision:
    places = tuple(located(name, LOG) for name in (*case.prepared, case.last))
    return Decision(ID, outcome, None, places, datetime(2026, 1, 1, tzinfo=UTC))


def logs(case: Case) -> dict[str, str]:
    return dict.fromkeys(case.services, LOG)


def explore(case: Case, *, reads_first: bool = True, keeps_rollbacks: bool = True) -> int:
    """Visit every state; return in how many of them a record has been dropped."""
    first: State = (began(case), Sweep(), 2)
    seen, waiting = {first}, [first]
    dropped = 0
    while waiting:
        state = waiting.pop()
        world, sweep, left = state
        assert not split(case, world), state
        if not world.alive and not world.ghosts:
            after = recovered(case, world)
            assert not split(case, after), (state, after.status)
            assert PREPARED not in dict(after.status).values()
        dropped += left < 2 and not world.logs and COMMITTED in dict(world.status).values()
        steps = [(after, sweep, left) for _, after in following(case, world)]
        sweeps = sweeping(case, state, reads_first=reads_first, keeps_rollbacks=keeps_rollbacks)
        for one in (*steps, *sweeps):
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return dropped


def split(case: Case, world: World) -> bool:
    writers = [world.of(name) for name in (*case.prepared, case.last)]
    return COMMITTED in writers and ROLLED_BACK in writers


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_split_by_a_decision_that_is_gone(name: str) -> None:
    """However the drop comes between the others' steps."""
    assert explore(CASES[name]) > 100


def test_the_explorer_finds_a_sweep_that_asks_before_it_reads() -> None:
    """A transaction that was decided between the two would lose its decision while it needs it."""
    with pytest.raises(AssertionError):
        explore(CASES["one prepares, the other decides"], reads_first=False)


def test_the_explorer_finds_a_sweep_that_drops_rollbacks() -> None:
    """A coordinator that was suspended would find its place free again, and commit what was rolled back."""
    with pytest.raises(AssertionError):
        explore(CASES["one prepares, the other decides"], keeps_rollbacks=False)
