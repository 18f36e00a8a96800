"""Sessions: many at once, undone, undone in part, streamed, changed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import insert, select

from fedorm import AsyncFederatedSession, Federation, UnsupportedOperationError
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.testing.compliance.base import Models, Suite, everything, id_name, is_beanie, read, write
from fedorm.testing.compliance.rows import SERVICE

AT_ONCE = 20


class SessionSuite(Suite):
    """The unit of work over one store, as far as the store's capabilities go."""

    async def test_twenty_sessions_at_once(self, fed: Federation, models: Models) -> None:
        """Each session keeps to its own values; all that they commit is there, once."""

        async def one(number: int) -> str:
            async with fed.session() as session:
                session.add(models.sample(id=number, text=f"session {number}"))
                await session.commit()
                sample: Any = await session.get(models.sample, number, populate_existing=True)
                await asyncio.sleep(0)
                await session.load([models.link(id=number, target_id=number)], models.link.target)
                return str(sample.text)

        texts = await asyncio.gather(*(one(number) for number in range(AT_ONCE)))
        expected = [f"session {number}" for number in range(AT_ONCE)]
        assert texts == expected
        assert [sample.text for sample in await read(fed, models.sample)] == expected

    async def test_twenty_threads_at_once(self, fed: Federation, models: Models) -> None:
        """The same for sessions that are used by threads."""

        def one(number: int) -> str:
            with fed.sync_session() as session:
                session.add(models.sample(id=number, text=f"thread {number}"))
                session.commit()
                return str(session.get_one(models.sample, number, populate_existing=True).text)

        def all_at_once() -> list[str]:
            with fed, ThreadPoolExecutor(AT_ONCE) as pool:
                return list(pool.map(one, range(AT_ONCE)))

        texts = await asyncio.to_thread(all_at_once)
        expected = [f"thread {number}" for number in range(AT_ONCE)]
        assert texts == expected
        assert [sample.text for sample in await read(fed, models.sample)] == expected

    async def test_rollback(self, fed: Federation, models: Models) -> None:
        """What a session added is not written when it rolls back, and the session goes on."""
        async with fed.session() as session:
            session.add(models.sample(id=1, text="undone"))
            await session.flush()
            await session.rollback()
            assert await everything(session, models.sample) == []
            session.add(models.sample(id=2, text="kept"))
            await session.commit()
        assert [sample.text for sample in await read(fed, models.sample)] == ["kept"]

    async def test_rollback_of_what_was_sent(self, fed: Federation, models: Models, store: Store) -> None:
        """A statement is undone where the store has transactions; where it has none, it stays, as documented."""
        async with fed.session() as session:
            await self._send(session, models, store)
            await session.rollback()
        # What is no statement is held back where there is no rollback.
        undone = Capability.TRANSACTIONS in store.capabilities or not (
            is_beanie(store) or Capability.SQL in store.capabilities
        )
        assert [sample.text for sample in await read(fed, models.sample)] == ([] if undone else ["sent"])

    async def test_isolation(self, fed: Federation, models: Models, store: Store) -> None:
        """A session sees what it flushed, and nobody else does before the commit."""
        async with fed.session() as one:
            one.add(models.sample(id=1, text="mine"))
            await one.flush()
            if Capability.TRANSACTIONS in store.capabilities:
                assert [sample.text for sample in await everything(one, models.sample)] == ["mine"]
            async with fed.session() as other:
                assert await everything(other, models.sample) == []
            await one.commit()
        assert [sample.text for sample in await read(fed, models.sample)] == ["mine"]

    async def test_savepoint(self, fed: Federation, models: Models) -> None:
        """A savepoint takes back what was added since, and keeps what was added before and after."""
        async with fed.session() as session:
            session.add(models.sample(id=1, text="before"))
            savepoint = await session.begin_nested()
            session.add(models.sample(id=2, text="undone"))
            await savepoint.rollback()
            async with session.begin_nested():
                session.add(models.sample(id=3, text="nested"))
            session.add(models.sample(id=4, text="after"))
            await session.commit()
        assert [sample.text for sample in await read(fed, models.sample)] == ["before", "nested", "after"]

    async def test_changes(self, fed: Federation, models: Models, store: Store) -> None:
        """Single rows are changed and deleted; a store that can only append says so and writes nothing."""
        await write(fed, [models.sample(id=number, text="old", integer=number) for number in (1, 2, 3)])
        async with fed.session() as session:
            first, second, third = await everything(session, models.sample)
            first.text = ""
            second.integer = None
            await session.delete(third)
            if Capability.UPDATES in store.capabilities:
                await session.commit()
                expected = [(1, "", 1), (2, "old", None)]
            else:
                with pytest.raises(UnsupportedOperationError, match=f"service '{SERVICE}'"):
                    await session.commit()
                await session.rollback()
                expected = [(1, "old", 1), (2, "old", 2), (3, "old", 3)]
        found = await read(fed, models.sample)
        assert [(sample.id, sample.text, sample.integer) for sample in found] == expected

    async def test_a_stream(self, fed: Federation, models: Models) -> None:
        """A large result comes in order; one that is left half-read leaves the session usable."""
        await write(fed, [models.target(id=number) for number in range(3000)])
        async with fed.session() as session:
            assert [target.id async for target in await self._stream(session, models.target)] == list(range(3000))
            seen = []
            async for target in await self._stream(session, models.target):
                seen.append(target.id)
                if len(seen) == 5:
                    break
            assert seen == [0, 1, 2, 3, 4]
        async with fed.session() as session:
            assert len(await everything(session, models.target)) == 3000

    async def test_an_empty_result(self, fed: Federation, models: Models) -> None:
        """Nothing is found where nothing is, and a commit of nothing is none."""
        async with fed.session() as session:
            await session.commit()
            assert await everything(session, models.sample) == []
            assert await session.get(models.sample, 1) is None
            assert [one async for one in await self._stream(session, models.sample)] == []

    @staticmethod
    async def _send(session: AsyncFederatedSession, models: Models, store: Store) -> None:
        if not isinstance(store, DocumentStore):
            await session.execute(insert(models.sample), [{"id": 1, "text": "sent"}])
            return
        if not is_beanie(store):
            session.add(models.sample(id=1, text="sent"))
            await session.flush()
            return
        await session.find(models.sample, {"_id": 1}).upsert(
            {"$set": {"text": "sent"}}, on_insert=models.sample(id=1, text="sent")
        )

    @staticmethod
    async def _stream(session: AsyncFederatedSession, model: Any) -> Any:
        if getattr(model, "__document__", False):
            return session.find(model).sort(id_name(session.sync_session, model))
        statement = select(model).order_by(model.id).execution_options(yield_per=500)
        return await session.stream_scalars(statement)
