"""Random histories: several writers at once, each transaction of one or many changes, some of which come to nothing."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import random
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm.exc import StaleDataError

from fedorm import AsyncFederatedSession, Federation, FedormError
from fedorm.entity import is_document

NAMES = (
    "",
    "plain",
    "Größe",
    "名前",
    "🙂 four bytes",
    "a\ttab, 'quotes', \"more\" and a \\",
    "line\nline",
    "NULL",
    "\\N",
)
EXTRAS: tuple[Any, ...] = (None, {}, {"a": [1, 2.5, None, "ü"]}, {"deep": {"er": {"x": True}}}, [1, [2]], {"": 0})
SHARED = 12
"""Keys that all writers write to."""
STRIPE = 1_000_000
"""How far apart are the first keys of two writers."""


class History:
    """Writes to one model in a service of a kind; all that is random comes from ``chance``."""

    def __init__(self, fed: Federation, model: Any, kind: str, chance: random.Random, *, big: int = 2_000) -> None:
        self._fed, self._model, self._kind, self._chance, self._big = fed, model, kind, chance, big
        self._keys: dict[int, set[int]] = {}
        self._fresh: dict[int, itertools.count[int]] = {}
        self.committed = self.rolled_back = self.refused = 0

    # -- one row's values

    def values(self, *, age: float = 0.0) -> dict[str, Any]:
        """New values of all fields; ``age`` is how many seconds too old the moment of the change is."""
        chance = self._chance
        moment = datetime.datetime(2000, 1, 1) + datetime.timedelta(microseconds=chance.randrange(8 * 10**14))
        values = {
            "number": chance.choice([None, 0, -1, 2**62, chance.randrange(10**6)]),
            "name": chance.choice([None, *NAMES]),
            "amount": chance.choice([None, Decimal(0), Decimal(chance.randrange(-(10**11), 10**11)) / 100]),
            "flag": chance.choice([None, True, False]),
            "moment": chance.choice([None, moment.replace(microsecond=0), moment]),
            "touched": datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(seconds=age),
        }
        if self._kind != "clickhouse":
            values["extra"] = chance.choice(EXTRAS)
        return values

    # -- the writers

    async def fill(self, rows: int) -> None:
        """Write rows before anything is synced."""
        async with self._fed.session() as session:
            keys = [*range(SHARED), *itertools.islice(self._counter(0), rows)]
            session.add_all([self._model(id=key, **self.values()) for key in keys])
            await session.commit()
        self._keys[0] = set(keys[SHARED:])

    def _counter(self, writer: int) -> itertools.count[int]:
        return self._fresh.setdefault(writer, itertools.count((writer + 1) * STRIPE))

    async def write(self, *, writers: int, transactions: int) -> None:
        """Let writers go on at once until each has made so many transactions, one of them a big one."""
        async with asyncio.TaskGroup() as group:
            for writer in range(writers):
                group.create_task(self._writer(writer, transactions))

    async def _writer(self, writer: int, transactions: int) -> None:
        for number in range(transactions):
            if writer == 0 and number == transactions // 2:
                await self._retried(writer, self._big_insert)
            elif writer == 1 and number == transactions - 1:
                await self._retried(writer, self._big_update)
            else:
                await self._transaction(writer, self._some)
            await asyncio.sleep(self._chance.choice([0.0, 0.0, 0.01, 0.05]))

    async def _retried(self, writer: int, work: Callable[..., Awaitable[None]]) -> None:
        before = self.committed
        for _ in range(20):
            await self._transaction(writer, work, certain=True)
            if self.committed > before:
                return
        raise AssertionError("a big transaction was refused 20 times")

    async def _transaction(self, writer: int, work: Callable[..., Awaitable[None]], *, certain: bool = False) -> None:
        chance = self._chance
        keys = set(self._keys.setdefault(writer, set()))
        late = chance.random() < 0.2
        try:
            async with self._fed.session() as session:
                await work(session, writer, keys, chance.uniform(0.0, 4.0) if late else 0.0)
                if late:
                    await session.flush()
                    # Others that begin later commit earlier meanwhile.
                    await asyncio.sleep(chance.uniform(0.05, 0.3))
                if not certain and chance.random() < 0.15:
                    await session.rollback()
                    self.rolled_back += 1
                    return
                await session.commit()
        # The warning, which the tests make an error, is that of a row that another writer has deleted.
        except (FedormError, sa_exc.DBAPIError, sa_exc.ResourceClosedError, sa_exc.SAWarning, StaleDataError):
            self.refused += 1  # Another writer was there first, as happens.
            return
        self.committed += 1
        self._keys[writer] = keys

    async def _some(self, session: AsyncFederatedSession, writer: int, keys: set[int], age: float) -> None:
        chance = self._chance
        for _ in range(chance.randint(1, 5)):
            await self._change(session, writer, keys, age)
            if chance.random() < 0.5:
                await session.flush()
        if self._model is not None and not is_document(self._model) and chance.random() < 0.3:
            undone, before = chance.random() < 0.5, set(keys)
            nested = await session.begin_nested()
            await self._change(session, writer, keys, age)
            await session.flush()
            await (nested.rollback() if undone else nested.commit())
            if undone:
                keys.clear()
                keys.update(before)

    async def _change(self, session: AsyncFederatedSession, writer: int, keys: set[int], age: float) -> None:
        chance, model = self._chance, self._model
        what = chance.choice(["insert", "insert", "update", "update", "update", "delete", "move", "again", "shared"])
        if what == "insert" or not keys:
            new = list(itertools.islice(self._counter(writer), chance.choice([1, 2, 30])))
            session.add_all([model(id=key, **self.values(age=age)) for key in new])
            keys.update(new)
            return
        key = chance.choice(sorted(keys)) if what != "shared" else chance.randrange(SHARED)
        row = await session.get(model, key)
        if is_document(model):
            await session.flush()  # One that was added a moment ago can only be deleted once it is there.
        if row is None:
            assert what == "shared"
            session.add(model(id=key, **self.values(age=age)))
        elif what == "delete":
            await session.delete(row)
            keys.discard(key)
        elif what == "again" or (what == "shared" and chance.random() < 0.2):
            await session.delete(row)
            await session.flush()
            session.add(model(id=key, **self.values(age=age)))
        elif what == "move":
            new_key = next(self._counter(writer))
            await self._move(session, row, new_key, age)
            keys.discard(key)
            keys.add(new_key)
        else:
            self._update(row, age)

    def _update(self, row: Any, age: float) -> None:
        values = self.values(age=age)
        chosen = values if self._chance.random() < 0.5 else self._chance.sample(sorted(values), 2)
        for name in {*chosen, "touched"}:
            setattr(row, name, values[name])

    async def _move(self, session: AsyncFederatedSession, row: Any, key: int, age: float) -> None:
        """Give a row another key, which a document can only be given by being made anew."""
        if is_document(self._model):
            await session.delete(row)
            session.add(self._model(id=key, **self.values(age=age)))
            return
        row.id = key
        self._update(row, age)
        await session.flush()

    async def _big_insert(self, session: AsyncFederatedSession, writer: int, keys: set[int], age: float) -> None:
        new = list(itertools.islice(self._counter(writer), self._big))
        session.add_all([self._model(id=key, **self.values(age=age)) for key in new])
        keys.update(new)

    async def _big_update(self, session: AsyncFederatedSession, writer: int, keys: set[int], age: float) -> None:
        """Change many rows, delete others, and make new ones, at once."""
        first = STRIPE * (writer + 1)
        if self._kind == "sqlite":  # Who has read there first may not write once another has: this one waits instead.
            await session.execute(delete(self._model).where(self._model.id < 0))
        if is_document(self._model):
            rows = await session.find(self._model, self._model.id >= first, self._model.id < first + STRIPE).to_list()
        else:
            mine = select(self._model).where(self._model.id >= first, self._model.id < first + STRIPE)
            rows = list(await session.scalars(mine))
        for row in rows:
            if self._chance.random() < 0.3:
                await session.delete(row)
                keys.discard(row.id)
            else:
                self._update(row, age)
        await self._big_insert(session, writer, keys, age)


class Appends(History):
    """The history of a table whose rows can only be appended."""

    async def fill(self, rows: int) -> None:
        keys = list(itertools.islice(self._counter(0), rows))
        await self._append(keys, deleted=0)
        self._keys[0] = set(keys)

    async def _writer(self, writer: int, transactions: int) -> None:
        keys = self._keys.setdefault(writer, set())
        for number in range(transactions):
            amount = self._big if writer == 0 and number == transactions // 2 else self._chance.choice([1, 30])
            new = list(itertools.islice(self._counter(writer), amount))
            keys.update(new)
            await self._append(new, deleted=0)
            chosen = self._chance.sample(sorted(keys), min(len(keys), 20))
            await self._append(chosen[:10], deleted=0)
            await self._append(chosen[10:], deleted=1)
            keys.difference_update(chosen[10:])
            await asyncio.sleep(self._chance.choice([0.0, 0.01, 0.05]))

    async def _append(self, keys: list[int], *, deleted: int) -> None:
        if not keys:
            return
        self.committed += 1
        rows = [self.values() | {"id": key, "sync_version": self.committed, "sync_deleted": deleted} for key in keys]
        async with self._fed.session() as session:
            await session.execute(insert(self._model), rows)
            await session.commit()
