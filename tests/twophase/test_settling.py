"""What a recovery does about a branch: every answer it can get, and what it does next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from fedorm.stores.branches import Branch, new_id, short
from fedorm.twophase.decisions import Decision, Outcome
from fedorm.twophase.protocol import Action, Failed
from fedorm.twophase.settling import Done, End, Identify, Look, Resolve, Settlement, is_over, located, settle

ID, LOG, OTHER = new_id(), "0123456789ab", "ba9876543210"
LONG = "a_service_whose_name_does_not_fit_into_an_xa_id"
DOWN = Failed(ConnectionError("nobody there"), unsure=True)
COMMITTED, ROLLED_BACK, DELEGATED = Outcome.COMMITTED, Outcome.ROLLED_BACK, Outcome.DELEGATED


def decided(outcome: Outcome, to: str | None = None, services: Sequence[str] = ()) -> Decision:
    return Decision(ID, outcome, to, tuple(services), datetime(2026, 1, 1, tzinfo=UTC))


def played(
    *answers: Any, decider: str = "users", age: float = 60.0, dry_run: bool = False, services: Sequence[str] = ()
) -> tuple[list[Action], Settlement]:
    """The actions that a settlement wants, each answered by the next of ``answers``, and how it ends."""
    steps = settle(
        Branch(ID, "orders", decider, LOG), "orders", services=services or ("users", "orders", "stock"), age=age,
        dry_run=dry_run,
    )  # fmt: skip
    wanted: list[Action] = []
    left = list(answers)
    try:
        action = next(steps)
        while True:
            wanted.append(action)
            action = steps.send(left.pop(0))
    except StopIteration as end:
        assert left == [], "more was expected to be asked"
        return wanted, end.value


def test_what_was_decided_is_done() -> None:
    """The decider is asked which log it has and what it says; then the branch is ended."""
    for outcome, done in ((COMMITTED, Done.COMMITTED), (ROLLED_BACK, Done.ROLLED_BACK)):
        wanted, end = played(LOG, decided(outcome), True)
        assert wanted == [Identify("users"), Resolve("users"), End("orders", outcome)]
        assert end == Settlement(done, outcome)


def test_a_branch_that_somebody_else_has_ended() -> None:
    """It is gone, and nothing has gone wrong."""
    for outcome in (COMMITTED, ROLLED_BACK):
        assert played(LOG, decided(outcome), False)[1] == Settlement(Done.GONE, outcome)


def test_a_branch_that_cannot_be_ended() -> None:
    """It stays, with what is decided and the reason."""
    assert played(LOG, decided(COMMITTED), DOWN)[1] == Settlement(Done.LEFT, COMMITTED, "nobody there")


def test_a_young_branch_is_left_to_its_coordinator() -> None:
    """Its decision is not even asked for: that would be to make one."""
    wanted, end = played(LOG, age=59.9)
    assert wanted == [Identify("users")]
    assert (end.done, end.outcome) == (Done.LEFT, None)
    assert "until it is 60 s old" in end.why


@pytest.mark.parametrize("age", [0.0, 59.9, 60.0, 1e9])
@pytest.mark.parametrize("dry_run", [True, False])
def test_foreign_branches_are_not_touched(age: float, dry_run: bool) -> None:
    """Neither those of services that we do not have, nor those of another log, nor where ours has none at all."""
    wanted, end = played(decider="accounts", age=age, dry_run=dry_run)
    assert (wanted, end.done) == ([], Done.FOREIGN)
    for log in (OTHER, None):
        wanted, end = played(log, age=age, dry_run=dry_run)
        assert (wanted, end.done) == ([Identify("users")], Done.FOREIGN)


def test_a_decider_that_cannot_be_asked() -> None:
    """Nobody else may decide: the branch is left, whether the log's token is not known or what it says."""
    for answers in ([DOWN], [LOG, DOWN], [LOG, decided(DELEGATED, located("stock", OTHER)), DOWN]):
        _, end = played(*answers)
        assert (end.done, end.outcome) == (Done.LEFT, None)
        assert "nobody there" in end.why


def test_a_decision_that_was_handed_on() -> None:
    """The service that it was handed on to decides, by the log that was meant."""
    handed_on = decided(DELEGATED, located("stock", OTHER))
    for outcome, done in ((COMMITTED, Done.COMMITTED), (ROLLED_BACK, Done.ROLLED_BACK)):
        wanted, end = played(LOG, handed_on, OTHER, decided(outcome), True)
        assert wanted == [
            Identify("users"), Resolve("users"), Identify("stock"), Resolve("stock"), End("orders", outcome),
        ]  # fmt: skip
        assert end == Settlement(done, outcome)


def test_a_decision_that_was_handed_on_to_nobody_that_can_be_asked() -> None:
    """Another application's service of the same name does not decide: a record there would split the transaction."""
    handed_on = decided(DELEGATED, located("stock", OTHER))
    for log in (LOG, None):
        wanted, end = played(LOG, handed_on, log)
        assert (wanted[-1], end.done, end.outcome) == (Identify("stock"), Done.LEFT, None)
    wanted, end = played(LOG, handed_on, services=("users", "orders"))
    assert (wanted[-1], end.done) == (Resolve("users"), Done.LEFT)
    assert "'stock'" in end.why
    _, end = played(LOG, handed_on, OTHER, decided(DELEGATED, located("users", LOG)))
    assert (end.done, end.outcome) == (Done.LEFT, None)
    for broken in ("", "stock", None):
        assert played(*[LOG, decided(DELEGATED, broken), *([OTHER] if broken == "stock" else [])])[1].done is Done.LEFT


def test_a_dry_run_only_looks() -> None:
    """It says what would be done, also where nothing is recorded: no record is written, and no branch ended."""
    handed_on = decided(DELEGATED, located("stock", OTHER))
    for answers, outcome in (
        ([LOG, decided(COMMITTED)], COMMITTED),
        ([LOG, decided(ROLLED_BACK)], ROLLED_BACK),
        ([LOG, None], ROLLED_BACK),
        ([LOG, handed_on, OTHER, decided(COMMITTED)], COMMITTED),
        ([LOG, handed_on, OTHER, None], ROLLED_BACK),
    ):
        wanted, end = played(*answers, dry_run=True)
        assert {type(action) for action in wanted} == {Identify, Look}
        assert end == Settlement(Done.LEFT, outcome, f"it would be {outcome.value}")


def test_names_that_are_too_long_for_a_branch() -> None:
    """A branch has them shortened; the service that is meant is asked all the same."""
    branch = Branch(ID, "orders", LONG, LOG)
    parsed = Branch.parse(branch.gid)
    assert parsed is not None
    assert parsed.decider == short(LONG) != LONG
    wanted, end = played(LOG, decided(COMMITTED), True, decider=parsed.decider, services=("orders", LONG))
    assert wanted[:2] == [Identify(LONG), Resolve(LONG)]
    assert end.done is Done.COMMITTED


def test_when_a_decision_is_over() -> None:
    """When every service that it names was asked, is the one that was meant, and holds no branch of it."""
    both = [located("users", LOG), located("orders", OTHER)]
    logs = {"users": LOG, "orders": OTHER, "stock": LOG}
    for outcome in (COMMITTED, DELEGATED):
        decision = decided(outcome, services=both)
        assert is_over(decision, in_doubt={new_id()}, logs=logs)
        assert not is_over(decision, in_doubt={ID}, logs=logs)
        assert not is_over(decision, in_doubt=set(), logs={"users": LOG})
        assert not is_over(decision, in_doubt=set(), logs={"users": LOG, "orders": LOG})
        assert not is_over(decided(outcome, services=["users", "orders"]), in_doubt=set(), logs=logs)
        assert not is_over(decided(outcome), in_doubt=set(), logs=logs)


def test_a_rollback_is_never_over() -> None:
    """A coordinator that was suspended for days must still find its place taken."""
    assert not is_over(decided(ROLLED_BACK, services=[located("users", LOG)]), in_doubt=set(), logs={"users": LOG})
    assert not is_over(decided(ROLLED_BACK), in_doubt=set(), logs={})
