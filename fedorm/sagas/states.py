"""The states of sagas in the service that keeps them: every change is one transaction, and only the owner's counts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, delete, func, insert, inspect, select, update
from sqlalchemy import exc as sa_exc
from sqlalchemy.util import greenlet_spawn

from fedorm.bookkeeping import ensure, is_ensured
from fedorm.sagas.errors import LeaseLostError, SagaExistsError
from fedorm.sagas.tables import State, fedorm_sagas
from fedorm.stores.sql import SQLStore

T = TypeVar("T")
_UNFINISHED = (State.RUNNING.value, State.COMPENSATING.value)


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step as a saga's state has it: ``arguments`` are values, or the results of earlier steps by their names."""

    name: str
    declared: str
    service: str
    arguments: dict[str, Any] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SagaState:
    """A saga as its service keeps it."""

    service: str
    name: str
    id: str
    state: State
    steps: tuple[PlannedStep, ...]
    position: int = 0
    """How many steps are done; while it is compensated, how many are still to be undone."""
    results: dict[str, Any] = field(default_factory=dict)
    failed_step: str | None = None
    error: str | None = None
    failures: int = 0
    """How often its compensation has failed since the last one that did not."""
    next_at: float = 0.0
    until: float = 0.0
    begun_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    key: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)


class States:
    """The sagas that one service keeps, for one owner at a time of each."""

    def __init__(self, store: SQLStore, *, lease: float) -> None:
        self._store = store
        self._table = fedorm_sagas(store.service)
        self._lease = lease

    @property
    def service(self) -> str:
        """The service that keeps them."""
        return self._store.service

    async def begin(self, saga: SagaState, owner: str) -> None:
        """Write a new saga down, and own it. Raises ``SagaExistsError`` where its name and id are known."""
        values = _values(saga) | {"owner": owner, "until": time.time() + self._lease}

        def write(connection: Connection) -> None:
            connection.execute(insert(self._table).values(**values))

        try:
            await self._write(write)
        except sa_exc.IntegrityError as error:
            there = await self.get(saga.name, saga.id)
            if there is None or there.key == saga.key:  # It is this one, whose commit was not answered.
                raise
            raise SagaExistsError(
                f"was begun before, and is {there.state.value}",
                saga=saga.name,
                id=saga.id,
                state=there.state.value,
            ) from error

    async def save(self, saga: SagaState, owner: str, *, release: bool = False) -> None:
        """Write a new state down, and go on owning the saga, or let go of it. Raises ``LeaseLostError``."""
        names = ("state", "position", "results", "failed_step", "error", "failures", "next_at", "ended_at")
        values: dict[str, Any] = {name: value for name, value in _values(saga).items() if name in names}
        await self._change(saga, owner, values | {"until": 0.0 if release else time.time() + self._lease})

    async def renew(self, saga: SagaState, owner: str) -> None:
        """Go on owning a saga. Raises ``LeaseLostError``."""
        await self._change(saga, owner, {"until": time.time() + self._lease})

    async def release(self, saga: SagaState, owner: str) -> None:
        """Let another runner have a saga at once."""
        await self._change(saga, owner, {"until": 0.0})

    async def take(self, saga: SagaState, owner: str) -> SagaState | None:
        """Own a saga that nobody owns, and return it as it is now; None where somebody else was faster."""
        now = time.time()
        table = self._table
        free = update(table).where(table.c.key == saga.key, *self._due(now))

        def claim(connection: Connection) -> SagaState | None:
            if not connection.execute(free.values(owner=owner, until=now + self._lease)).rowcount:
                return None
            return self._state(connection.execute(select(table).where(table.c.key == saga.key)).one())

        return await self._write(claim)

    async def due(self, limit: int) -> list[SagaState]:
        """Return sagas that are not over and that nobody owns, the oldest first."""
        query = select(self._table).where(*self._due(time.time())).order_by(self._table.c.begun_at).limit(limit)
        return await self._read(query)

    async def get(self, name: str, id: str) -> SagaState | None:
        """Return a saga; None where it was not begun, or is forgotten."""
        found = await self._read(select(self._table).where(self._table.c.name == name, self._table.c.id == id))
        return found[0] if found else None

    async def unfinished(self) -> list[SagaState]:
        """Return the sagas that are not over, the oldest first."""
        query = select(self._table).where(self._table.c.state.in_(_UNFINISHED)).order_by(self._table.c.begun_at)
        return await self._read(query)

    async def count(self) -> dict[State, int]:
        """Count the sagas by their state."""

        def ask(connection: Connection) -> dict[State, int]:
            query = select(self._table.c.state, func.count()).group_by(self._table.c.state)
            return {State(state): number for state, number in connection.execute(query)}

        return await self._ask(ask, {})

    async def ended(self, before: float) -> list[SagaState]:
        """Return sagas that were over before a moment."""
        return await self._read(select(self._table).where(self._table.c.ended_at < before).limit(500))

    async def drop(self, keys: Collection[str]) -> None:
        """Drop sagas."""
        gone = delete(self._table).where(self._table.c.key.in_(list(keys)))

        def write(connection: Connection) -> None:
            connection.execute(gone)

        await self._write(write)

    # --

    def _due(self, now: float) -> tuple[ColumnElement[bool], ...]:
        table = self._table
        return table.c.state.in_(_UNFINISHED), table.c.until < now, table.c.next_at <= now

    async def _change(self, saga: SagaState, owner: str, values: dict[str, Any]) -> None:
        table = self._table
        ours = update(table).where(table.c.key == saga.key, table.c.owner == owner).values(**values)

        def write(connection: Connection) -> bool:
            return bool(connection.execute(ours).rowcount)

        if not await self._write(write):
            raise LeaseLostError(
                f"saga {saga.name!r} {saga.id!r} is another runner's by now: this one was not heard of for more than "
                f"{self._lease:g} s"
            )

    async def _write(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            ensure(self._store.engine, self._table)
            with self._store.engine.begin() as connection:
                return work(connection)

        return await greenlet_spawn(transaction)

    async def _read(self, query: Any) -> list[SagaState]:
        def ask(connection: Connection) -> list[SagaState]:
            return [self._state(row) for row in connection.execute(query)]

        return await self._ask(ask, [])

    async def _ask(self, work: Callable[[Connection], T], nothing: T) -> T:
        def transaction() -> T:
            with self._store.engine.connect() as connection:
                # Who only asks makes no table.
                if not is_ensured(self._store.engine, self._table) and not inspect(connection).has_table(
                    "fedorm_sagas"
                ):
                    return nothing
                return work(connection)

        return await greenlet_spawn(transaction)

    def _state(self, row: Any) -> SagaState:
        return SagaState(
            service=self.service,
            name=row.name,
            id=row.id,
            state=State(row.state),
            steps=tuple(PlannedStep(**step) for step in row.steps),
            position=row.position,
            results=dict(row.results),
            failed_step=row.failed_step,
            error=row.error,
            failures=row.failures,
            next_at=row.next_at,
            until=row.until,
            begun_at=row.begun_at,
            ended_at=row.ended_at,
            key=row.key,
        )


def changed(saga: SagaState, **values: Any) -> SagaState:
    """Return a saga with other values, and with the moment of its end if it is over."""
    made = replace(saga, **values)
    return replace(made, ended_at=time.time()) if made.state.is_over else made


def _values(saga: SagaState) -> dict[str, Any]:
    steps: Sequence[dict[str, Any]] = [
        {"name": s.name, "declared": s.declared, "service": s.service, "arguments": s.arguments, "results": s.results}
        for s in saga.steps
    ]
    return {
        "name": saga.name,
        "id": saga.id,
        "key": saga.key,
        "state": saga.state.value,
        "steps": list(steps),
        "position": saga.position,
        "results": saga.results,
        "failed_step": saga.failed_step,
        "error": saga.error,
        "failures": saga.failures,
        "next_at": saga.next_at,
        "begun_at": saga.begun_at,
        "ended_at": saga.ended_at,
    }
