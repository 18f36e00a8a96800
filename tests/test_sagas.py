"""Sagas over MongoDB, MySQL and PostgreSQL: done wholly, or undone; by their own process, or by a runner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import select

from fedorm import AsyncFederatedSession, Federation, ServiceUnavailableError, points
from fedorm.exc import ConfigurationError
from fedorm.sagas import PlannedStep, SagaError, SagaExistsError, State, current_step, saga_step
from fedorm.sagas.driving import Driver
from fedorm.sagas.errors import LeaseLostError
from fedorm.sagas.states import SagaState
from fedorm.sagas.tables import fedorm_sagas
from fedorm.sagas.trying import persist
from tests.checkouts import Books, Charge, Sale, Shelf, books, charge, confirm, fill, opening, refund, reserve


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {
        "saga_stock": fresh_database("mongodb"),
        "saga_bank": fresh_database("mysql"),
        "saga_orders": fresh_database("postgresql"),
    }


@pytest.fixture
async def fed(urls: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation(urls) as federation:
        await opening(federation, stock=5)
        yield federation


NOTHING = Books({"kettle": 5, "lamp": 5}, {}, {}, {})
SOLD = Books({"kettle": 5, "lamp": 3}, {"c1": 20}, {}, {"c1": ("lamp", 2)})
UNDONE = Books({"kettle": 5, "lamp": 5}, {}, {"c1": 20}, {})


class CrashError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def at(wanted: str) -> None:
        def reached(point: str) -> None:
            if point == wanted:
                monkeypatch.setattr(points, "reached", lambda point: None)
                raise CrashError(point)

        monkeypatch.setattr(points, "reached", reached)

    return at


async def test_a_saga_runs_its_steps_in_their_services(fed: Federation) -> None:
    """Each step has its effect, later ones get what earlier ones have returned, and its state is kept."""
    async with fed.saga("checkout", service="saga_orders", id="c1") as saga:
        fill(saga, "c1", quantity=2)
        assert await books(fed) == NOTHING
    assert await books(fed) == SOLD
    assert saga.state is State.DONE
    async with fed.session() as session:
        sale, charged = await session.get_one(Sale, "c1"), (await session.scalars(select(Charge))).one()
    assert saga.results == {"test.reserve": 3, "test.charge": charged.key, "test.confirm": None}
    assert sale.charge == charged.key
    kept = await fed.sagas.get("checkout", "c1")
    assert kept is not None
    assert (kept.service, kept.state, kept.position, kept.results) == ("saga_orders", State.DONE, 3, saga.results)
    assert await fed.sagas.status() == {"saga_orders": {State.DONE: 1}}
    assert (await fed.sagas.unfinished(), await fed.sagas.run_once()) == ([], [])


async def test_what_was_done_before_a_failure_is_undone(fed: Federation) -> None:
    """The error says which step failed where and why; what the failed step has written is not there."""
    with pytest.raises(SagaError, match=r"'test.confirm' in service 'saga_orders'.*not wanted any more") as caught:
        async with fed.saga("checkout", service="saga_orders", id="c1") as saga:
            fill(saga, "c1", quantity=2, refuse=True)
    error = caught.value
    assert (error.saga, error.id, error.state) == ("checkout", "c1", "compensated")
    assert (error.step, error.service) == ("test.confirm", "saga_orders")
    assert type(error.__cause__).__name__ == "RefusedError"
    assert saga.state is State.COMPENSATED
    assert await books(fed) == UNDONE
    assert await fed.sagas.run_once() == []


async def test_the_first_step_may_be_the_one_that_fails(fed: Federation) -> None:
    """There are no six lamps: nothing is charged."""
    with pytest.raises(SagaError, match="there are 5 of lamp"):
        async with fed.saga("checkout", service="saga_orders") as saga:
            fill(saga, "c1", quantity=6)
    assert await books(fed) == NOTHING


async def test_a_block_that_fails_begins_nothing(fed: Federation) -> None:
    """What fails before its end has done nothing."""

    async def check_out() -> None:
        async with fed.saga("checkout", service="saga_orders", id="c1") as saga:
            fill(saga, "c1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await check_out()
    assert await fed.sagas.get("checkout", "c1") is None
    assert await books(fed) == NOTHING


async def test_a_saga_is_begun_once(fed: Federation) -> None:
    """The same name and id again is an error that says what became of the first."""
    async with fed.saga("checkout", service="saga_orders", id="c1") as saga:
        fill(saga, "c1", quantity=2)
    with pytest.raises(SagaExistsError, match="is done") as caught:
        async with fed.saga("checkout", service="saga_orders", id="c1") as saga:
            fill(saga, "c1", quantity=2)
    assert caught.value.state == "done"
    assert await books(fed) == SOLD


DO = [f"{when} {what}" for what in ("reserve", "charge", "confirm") for when in ("before do", "within do", "after do")]
POINTS = ["after begin", *(f"{one.rpartition(' ')[0]} test.{one.rpartition(' ')[2]}" for one in DO)]
BACK = [
    f"{when} undo test.{what}" for what in ("confirm", "charge", "reserve") for when in ("before", "within", "after")
]


@pytest.mark.parametrize("refuse", [False, True])
async def test_a_runner_ends_what_a_crash_has_left(
    fed: Federation, crash_at: Callable[[str], None], refuse: bool
) -> None:
    """Wherever it was: forward, or back."""
    for number, point in enumerate([*POINTS[: -3 if refuse else None], *(BACK if refuse else [])]):
        crash_at(point)
        with pytest.raises(CrashError):
            async with fed.saga("checkout", service="saga_orders", id=f"p{number}", lease=60) as saga:
                fill(saga, f"p{number}", sku="kettle", refuse=refuse)
        # It has not let go of its lease: nobody takes it before.
        ended = await fed.sagas.run_once()
        if not ended:
            async with fed.session() as session:
                await session.execute(fedorm_sagas("saga_orders").update().values(until=0.0))
                await session.commit()
            ended = await fed.sagas.run_once()
        assert [one.state for one in ended] == [State.COMPENSATED if refuse else State.DONE], point
        sold = await books(fed)
        assert sold.sales == ({} if refuse else {f"p{number}": ("kettle", 1)}), point
        assert sold.charges == ({} if refuse else {f"p{number}": 10}), point
        assert sold.stock == {"kettle": 5 if refuse else 4, "lamp": 5}, point
        async with fed.session() as session:
            await session.execute(Sale.__table__.delete())
            await session.execute(Charge.__table__.delete())
            shelf = await session.find(Shelf, Shelf.sku == "kettle").first_or_none()
            shelf.on_hand = 5
            await session.commit()


async def test_a_late_step_cannot_be_done_once_it_was_compensated(fed: Federation) -> None:
    """A runner that was suspended within a step finds its place taken, in all three kinds of database."""
    for step in (reserve, charge, confirm):
        async with fed.saga("checkout", service="saga_orders") as saga:
            fill(saga, "c1", quantity=2)
            plan = list(saga._steps)
            saga._steps.clear()
        state = SagaState("saga_orders", "checkout", saga.id, State.RUNNING, tuple(plan))
        planned = next(one for one in plan if one.declared == step.name)
        drivers = [Driver(fed, fed.sagas.states_for(None, plan, lease=30), lease=30) for _ in range(2)]
        for driver in drivers:
            await driver.check(planned, state)
        await drivers[0]._undo(planned)
        with pytest.raises(LeaseLostError, match="was compensated"):
            await drivers[1]._do(planned)
    assert await books(fed) == NOTHING


async def test_steps_at_the_same_time_are_done_once(fed: Federation) -> None:
    """Two runners that both believe to own a saga have one effect, and both get its result."""
    async with fed.saga("checkout", service="saga_orders") as saga:
        fill(saga, "c1", quantity=2)
        plan = list(saga._steps)
        saga._steps.clear()
    state = SagaState("saga_orders", "checkout", saga.id, State.RUNNING, tuple(plan))
    drivers = [Driver(fed, fed.sagas.states_for("saga_orders", plan, lease=30), lease=30) for _ in range(3)]
    for driver in drivers:
        await driver.check(plan[0], state)

    async def together(planned: Any) -> list[Any]:
        return await asyncio.gather(*(persist(lambda one=one: one._do(planned), attempts=9) for one in drivers))

    assert await together(plan[0]) == [3, 3, 3]
    assert len(set(await together(plan[1]))) == 1
    assert await books(fed) == Books({"kettle": 5, "lamp": 3}, {"c1": 20}, {}, {})
    await asyncio.gather(*(persist(lambda one=one: one._undo(plan[0]), attempts=9) for one in drivers))
    await asyncio.gather(*(persist(lambda one=one: one._undo(plan[1]), attempts=9) for one in drivers))
    assert await books(fed) == UNDONE


async def test_two_runners_share_the_work(
    fed: Federation, urls: dict[str, str], crash_at: Callable[[str], None]
) -> None:
    """Each saga is ended by one of them."""
    for number in range(3):
        crash_at("before do test.charge")
        with pytest.raises(CrashError):
            async with fed.saga("checkout", service="saga_orders", id=f"p{number}", lease=0.01) as saga:
                fill(saga, f"p{number}")
    await asyncio.sleep(0.02)
    async with Federation(urls) as other:
        runs = await asyncio.gather(fed.sagas.run_once(), other.sagas.run_once())
    assert sorted(one.id for run in runs for one in run) == ["p0", "p1", "p2"]
    assert (await books(fed)).stock == {"kettle": 5, "lamp": 2}


async def test_a_cancelled_caller_leaves_the_saga_to_a_runner_at_once(fed: Federation) -> None:
    """No lease has to run out first."""
    begun = asyncio.Event()
    hold = asyncio.Event()

    @saga_step(service="saga_bank", name="test.slow")
    async def slow(session: AsyncFederatedSession) -> None:
        begun.set()
        await hold.wait()

    async def check_out() -> None:
        async with fed.saga("checkout", service="saga_orders", id="c1") as saga:
            saga.step(slow)
            fill(saga, "c1", quantity=2)

    task = asyncio.create_task(check_out())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hold.set()
    assert [one.state for one in await fed.sagas.run_once()] == [State.DONE]
    assert await books(fed) == SOLD


async def test_a_runner_is_stopped_or_cancelled(fed: Federation) -> None:
    """Told to stop it returns, whether it waits or is at a saga for longer than ``grace``; then another goes on."""
    begun, hold = asyncio.Event(), asyncio.Event()

    @saga_step(service="saga_bank", name="test.held")
    async def held(session: AsyncFederatedSession) -> None:
        begun.set()
        await hold.wait()

    plan = (PlannedStep("test.held", "test.held", "saga_bank"),)
    states = fed.sagas.states_for("saga_orders", plan, lease=30)
    waiting = [asyncio.create_task(fed.sagas.run(every=60)) for _ in range(2)]
    await asyncio.sleep(0)
    fed.sagas.stop()
    assert await asyncio.gather(*waiting) == [None, None]
    for number, end in enumerate((fed.sagas.stop, None)):
        begun.clear()
        saga = SagaState("saga_orders", "checkout", f"c{number}", State.RUNNING, plan)
        await states.begin(saga, "somebody")
        await states.release(saga, "somebody")
        runner = asyncio.create_task(fed.sagas.run(grace=0))
        await begun.wait()
        if end is None:
            runner.cancel()
            with pytest.raises(asyncio.CancelledError):
                await runner
        else:
            end()
            assert await runner is None
    hold.set()
    assert [one.state for one in await fed.sagas.run_once()] == [State.DONE, State.DONE]


async def test_a_compensation_is_tried_until_it_succeeds(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the caller for a while, then by a runner; the error says what is left."""

    async def fails(session: AsyncFederatedSession, **arguments: Any) -> None:
        raise ZeroDivisionError("the bank sleeps")

    monkeypatch.setattr(charge, "undo", fails)
    with pytest.raises(SagaError, match=r"test.reserve, test.charge will be undone .* the bank sleeps") as caught:
        async with fed.saga("checkout", service="saga_orders", id="c1", attempts=2) as saga:
            fill(saga, "c1", quantity=2, refuse=True)
    assert caught.value.state == "compensating"
    (left,) = await fed.sagas.unfinished()
    assert (left.state, left.position, left.failures) == (State.COMPENSATING, 2, 1)
    assert await fed.sagas.run_once() == []  # It is not due yet.
    monkeypatch.setattr(charge, "undo", refund)
    while not (ended := await fed.sagas.run_once()):
        await asyncio.sleep(0.1)
    assert [one.state for one in ended] == [State.COMPENSATED]
    assert await books(fed) == UNDONE


async def test_what_may_pass_is_tried_again(fed: Federation) -> None:
    """A lost connection is no reason to undo everything; each try has the same key."""
    keys: list[str] = []

    @saga_step(service="saga_bank", name="test.flaky")
    async def flaky(session: AsyncFederatedSession) -> int:
        keys.append(current_step(session).key)
        if len(keys) < 3:
            raise ServiceUnavailableError("gone", service="saga_bank")
        return len(keys)

    async with fed.saga("checkout") as saga:
        tries = saga.step(flaky)
    assert (tries.value, len(keys), len(set(keys))) == (3, 3, 1)


async def test_what_is_refused_before_anything_is_begun(fed: Federation) -> None:
    """Arguments that are not JSON or not the step's, a service that has no tables, two steps of one name."""
    async with fed.saga("checkout", service="saga_orders") as saga:
        with pytest.raises(TypeError, match="JSON"):
            saga.step(reserve, sku="lamp", quantity=object())
        with pytest.raises(TypeError, match="quantity"):
            saga.step(reserve, sku="lamp")
    with pytest.raises(ConfigurationError, match=r"saga_stock.*cannot keep"):
        async with fed.saga("checkout", service="saga_stock") as saga:
            saga.step(reserve, sku="lamp", quantity=1)
    with pytest.raises(ConfigurationError, match=r"two steps of sagas have the name 'test\.reserve'"):

        @saga_step(service="saga_bank", name="test.reserve")
        async def other(session: AsyncFederatedSession) -> None: ...

    assert await books(fed) == NOTHING


async def test_a_step_that_commits_itself_is_refused_and_undone(fed: Federation) -> None:
    """Its mark and its effect would not be one transaction."""

    @saga_step(service="saga_bank", name="test.commits")
    async def commits(session: AsyncFederatedSession) -> None:
        await session.commit()

    with pytest.raises(SagaError, match="has ended its session's transaction"):
        async with fed.saga("checkout") as saga:
            saga.step(commits)
    assert saga.state is State.COMPENSATED


async def test_old_sagas_are_forgotten_with_their_marks(fed: Federation) -> None:
    """So that their tables do not grow for ever."""
    async with fed.saga("checkout", service="saga_orders", id="c1") as saga:
        fill(saga, "c1", quantity=2)
    assert await fed.sagas.forget() == 0
    await asyncio.sleep(0.01)
    assert await fed.sagas.forget(older_than=0) == 1
    assert await fed.sagas.get("checkout", "c1") is None
    store: Any = fed.stores["saga_stock"]
    assert await store.own_collection("fedorm_saga_steps", sync=False).count_documents({}) == 0
    assert await books(fed) == SOLD
