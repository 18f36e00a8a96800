"""Keys are looked up in batches, whatever they look like and however many they are."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from fedorm import FederatedSession, Federation, federated_load
from fedorm.stores.base import DocumentStore, Store
from fedorm.stores.sql import SQLStore
from fedorm.testing.compliance.base import Models, Suite, id_name, in_thread, read, write
from fedorm.testing.compliance.values import HOSTILE

MANY = 10_000


class KeySuite(Suite):
    """Look-ups by keys, the way federated relationships make them."""

    async def test_ten_thousand_keys(self, fed: Federation, models: Models, store: Store) -> None:
        """10,000 keys in several batches: each link gets its own target, a key of nobody None, and NULL None."""
        await write(fed, [models.target(id=number, code=str(number)) for number in range(MANY)])
        links = [models.link(id=number, target_id=number) for number in reversed(range(MANY))]
        links += [models.link(id=MANY, target_id=MANY), models.link(id=MANY + 1), models.link(id=MANY + 2, target_id=0)]
        assert store.keys_per_statement(1) < MANY + 1
        async with fed.session() as session:
            await session.load(links, models.link.target)
        loaded = [link.target and (link.target.id, link.target.code) for link in links]
        assert loaded == [*((number, str(number)) for number in reversed(range(MANY))), None, None, (0, "0")]

    async def test_keys_of_two_columns(self, fed: Federation, models: Models, store: Store) -> None:
        """Pairs in several batches: both parts must match, and a pair with a NULL in it matches nothing."""
        width = store.keys_per_statement(2) // 20 + 1
        pairs = [(owner, number) for owner in range(width) for number in range(30)]
        assert store.keys_per_statement(2) < len(pairs)
        await write(
            fed,
            [models.target(id=position, owner=owner, number=number) for position, (owner, number) in enumerate(pairs)],
        )
        links = [models.link(id=position, owner=owner, number=number) for position, (owner, number) in enumerate(pairs)]
        near = [(-1, 0), (0, 30), (0, None), (None, 0), (None, None)]
        links += [
            models.link(id=len(links) + extra, owner=owner, number=number) for extra, (owner, number) in enumerate(near)
        ]
        async with fed.session() as session:
            await session.load(links, models.link.by_pair)
        assert [link.by_pair and link.by_pair.id for link in links] == [*range(len(pairs)), *[None] * len(near)]

    async def test_collections_in_several_batches(self, fed: Federation, models: Models, store: Store) -> None:
        """One to many: each parent has its own, in the order asked for, whichever batch they came with."""
        owners = range(store.keys_per_statement(1) + 5)
        some = (0, 1, owners[-2], owners[-1])
        targets = [(10 * position + n, owner) for position, owner in enumerate(some) for n in range(3)]
        await write(fed, [models.target(id=number, owner=owner) for number, owner in targets])
        links = [models.link(id=owner, owner=owner) for owner in owners]
        async with fed.session() as session:
            await session.load(links, models.link.of_owner)
        expected: dict[int, list[int]] = {owner: [] for owner in owners}
        expected |= {owner: [10 * position + n for n in (2, 1, 0)] for position, owner in enumerate(some)}
        assert {link.owner: [target.id for target in link.of_owner] for link in links} == expected

    async def test_text_keys(self, fed: Federation, models: Models) -> None:
        """Texts that look like SQL, differ in case, accents or spaces alone, or are empty, are keys like any other."""
        codes = [*HOSTILE, "", "a", "A", "\u00e1", "a ", " a", "\U0001f600", "\U0001f601", "x" * 200]
        await self._check(fed, models, "code", codes, ["nobody", "%", "b", "\U0001f602"], models.link.by_code)

    async def test_many_long_text_keys(self, fed: Federation, models: Models, store: Store) -> None:
        """A full batch of the longest keys fits into a statement."""
        codes = [f"{number:0>200}" for number in range(min(store.keys_per_statement(1), 3000))]
        await self._check(fed, models, "code", codes, [], models.link.by_code)

    async def test_uuid_keys(self, fed: Federation, models: Models) -> None:
        """UUIDs are keys."""
        tokens = [UUID(int=number**13) for number in range(50)]
        await self._check(fed, models, "token", tokens, [UUID(int=2**128 - 1)], models.link.by_token)

    async def test_date_keys(self, fed: Federation, models: Models) -> None:
        """Dates are keys."""
        days = [datetime.date(2000, 1, 1) + datetime.timedelta(days=47 * number) for number in range(50)]
        await self._check(fed, models, "day", days, [datetime.date(1999, 1, 1)], models.link.by_day)

    async def test_big_integer_keys(self, fed: Federation, models: Models) -> None:
        """The ends of 64 bits are keys, and keys beyond what JSON holds exactly stay apart."""
        numbers = [2**63 - 1, -(2**63), 2**53, 2**53 + 1, 0, -1]
        await write(fed, [models.target(id=number) for number in numbers])
        links = [models.link(id=position, target_id=key) for position, key in enumerate([*numbers, 2**53 + 2])]
        async with fed.session() as session:
            await session.load(links, models.link.target)
        assert [link.target and link.target.id for link in links] == [*numbers, None]

    async def test_no_keys(self, fed: Federation, models: Models, store: Store) -> None:
        """No key finds nothing, of one column or of two, and parents without keys ask for nothing."""
        await write(fed, [models.target(id=1, owner=1, number=1)])
        for names in (["id"], ["owner", "number"]):
            assert await self._found(fed, store, models.target, names, []) == 0
        assert await self._found(fed, store, models.target, ["id"], [(1,)]) == 1
        assert await self._found(fed, store, models.target, ["owner", "number"], [(1, 1), (1, 2)]) == 1
        links = [models.link(id=1), models.link(id=2)]
        async with fed.session() as session:
            await session.load([], models.link.target)
            await session.load(links, models.link.target)
            await session.load(links, models.link.by_pair)
            await session.load(links, models.link.of_owner)
        assert [(link.target, link.by_pair, link.of_owner) for link in links] == [(None, None, [])] * 2

    async def test_keys_in_a_query(self, fed: Federation, models: Models) -> None:
        """Links that are stored, too, load their targets with the query that reads them, in both kinds of session."""
        await write(fed, [models.target(id=number, code=f"t{number}") for number in (1, 2)])
        await write(fed, [models.link(id=number, target_id=number) for number in (1, 2, 3)])
        option = federated_load(models.link.target)
        async with fed.session() as session:
            if isinstance(fed.stores[models.link.__service__], DocumentStore):
                order = id_name(session.sync_session, models.link)
                links = await session.find(models.link).sort(order).options(option).to_list()
            else:
                links = list(await session.scalars(select(models.link).order_by(models.link.id).options(option)))
            assert [link.target and link.target.code for link in links] == ["t1", "t2", None]

        def lazily(session: FederatedSession) -> list[Any]:
            links = [session.get_one(models.link, number) for number in (1, 2, 3)]
            return [link.target and link.target.code for link in links]

        assert await in_thread(fed, lazily) == ["t1", "t2", None]

    @staticmethod
    async def _check(
        fed: Federation, models: Models, name: str, keys: Sequence[Any], missing: Sequence[Any], attribute: Any
    ) -> None:
        await write(fed, [models.target(id=position, **{name: key}) for position, key in enumerate(keys)])
        links = [models.link(id=position, **{name: key}) for position, key in enumerate([*keys, *missing])]
        async with fed.session() as session:
            await session.load(links, attribute)
        found = [(target := getattr(link, attribute.key)) and (target.id, getattr(target, name)) for link in links]
        assert found == [*enumerate(keys), *[None] * len(missing)]

        again = [models.link(id=position, **{name: key}) for position, key in enumerate(keys)]
        await in_thread(fed, lambda session: session.load(again, attribute))
        assert [getattr(link, attribute.key).id for link in again] == list(range(len(keys)))
        assert len(await read(fed, models.target)) == len(keys)

    @staticmethod
    async def _found(
        fed: Federation, store: Store, model: Any, names: Sequence[str], keys: Sequence[tuple[Any, ...]]
    ) -> int:
        if isinstance(store, DocumentStore):
            return len(await store.find_keys(model, names, keys))
        assert isinstance(store, SQLStore)
        condition = store.key_filter([model.__table__.c[name] for name in names], keys)
        async with fed.session() as session:
            return len((await session.scalars(select(model.id).where(condition))).all())
