"""The commit protocol and its recovery in every order in which messages, crashes and restarts can come."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from fedorm.twophase.decisions import Outcome
from fedorm.twophase.protocol import Verdict
from tests.twophase.world import (
    ACTIVE,
    COMMITTED,
    PREPARED,
    ROLLED_BACK,
    Case,
    Recovery,
    World,
    began,
    coordinator,
    following,
    recovery_step,
)

MORE = int(os.environ.get("FEDORM_MODEL_FAULTS", "0"))
"""How many faults more than usual may happen; each makes it some ten times as long."""

CASES = {
    "one prepares, the other decides": Case(("a",), "b", "b", faults=3, recoveries=2),
    "two prepare, the third decides": Case(("a", "b"), "c", "c", faults=2, recoveries=2),
    "one is only read": Case(("a",), "b", "b", readers=("r",), faults=2, recoveries=2),
    "the decision is handed on": Case(("a",), "m", "a", faults=3, recoveries=2),
    "one that was only read hands the decision on": Case(("a",), "m", "r", readers=("r",), faults=2, recoveries=2),
    "the last has no transactions": Case(("a", "b"), "h", "a", logless=True, faults=2, recoveries=2),
    "the decision of one of two is handed on": Case(("a", "b"), "m", "a", faults=2, recoveries=1),
}


class Split(AssertionError):
    """Some services have committed and others have rolled back, or the coordinator was told otherwise."""


def check(case: Case, world: World) -> None:
    """Nothing is split, and what the coordinator has said is so."""
    writers = [world.of(name) for name in (*case.prepared, case.last)]
    if COMMITTED in writers and ROLLED_BACK in writers:
        raise Split(world.status)
    ended = coordinator(case, world) if world.alive else None
    if isinstance(ended, Verdict):
        if ended.outcome is Outcome.COMMITTED and world.of(case.last) != COMMITTED:
            raise Split(f"said to be committed: {world.status}")
        if ended.outcome is Outcome.ROLLED_BACK and COMMITTED in writers:
            raise Split(f"said to be rolled back: {world.status}")
        if not ended.pending and PREPARED in writers:
            left = [name for name in case.prepared if world.of(name) == PREPARED]
            if not any(ghost.service in left for ghost in world.ghosts):
                raise Split(f"nothing is said to be pending: {world.status}")


def recovered(case: Case, world: World) -> World:
    """What a recovery that nothing disturbs makes of a world whose coordinator is gone."""
    for name in case.services:
        if world.of(name) == ACTIVE:
            world = world.turned(name, ROLLED_BACK)
    for name in case.services:
        recovery: Recovery | None = Recovery(name) if world.of(name) == PREPARED else None
        while recovery is not None:
            _, world, answer = next(recovery_step(replace(case, faults=0), world, recovery))
            recovery = None if answer is None else replace(recovery, answers=(*recovery.answers, answer[0]))
    return world


def explore(case: Case) -> tuple[int, set[tuple[tuple[str, str], ...]]]:
    """Visit every state; return how many there are, and in which ways it can end."""
    first = began(case)
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    waiting, ends = [first], set()
    while waiting:
        world = waiting.pop()
        try:
            check(case, world)
            if not world.alive and not world.ghosts:
                after = recovered(case, world)
                check(case, after)
                if PREPARED in dict(after.status).values():
                    raise Split(f"still in doubt: {after.status}")
                ends.add(after.status)
        except Split as split:
            raise Split(f"{split} after\n" + "\n".join(_story(came_from, world))) from None
        for what, after in following(case, world):
            if after not in came_from:
                came_from[after] = (world, what)
                waiting.append(after)
    return len(came_from), ends


def _story(came_from: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    story: list[str] = []
    while (before := came_from[world]) is not None:
        world, what = before
        story.insert(0, what)
    return story


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_split_and_nothing_stays_in_doubt(name: str) -> None:
    """Whatever crashes when: all commit or none, and after a recovery no branch is left."""
    case = CASES[name]
    states, ends = explore(replace(case, faults=case.faults + MORE))
    assert states > 1000
    writers = {frozenset(status for service, status in end if service not in case.readers) for end in ends}
    assert writers == {frozenset({COMMITTED}), frozenset({ROLLED_BACK})}


def test_the_explorer_finds_a_recovery_that_does_not_write_its_decision_down_first() -> None:
    """Without the record a coordinator that was only slow commits what the recovery has rolled back."""
    with pytest.raises(Split, match="b', 'committed'"):
        explore(Case(("a",), "b", "b", faults=2, recoveries=1, fenced=False))
