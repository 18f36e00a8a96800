"""The history of a service of documents: Beanie's migrations, carried out over the store's own client."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from fedorm.migrate.collections import DATABASE, SchemaMigration, changes, differences
from fedorm.migrate.files import FileHistory, loaded
from fedorm.migrate.leases import MongoDBLease, leased
from fedorm.migrate.templates import DOCUMENTS, DOCUMENTS_SETTINGS
from fedorm.stores.base import Capability
from fedorm.stores.mongodb import MongoDBStore
from fedorm.stores.mongodb_schema import HISTORY, Collection, declared, own_collections, present


class BeanieHistory(FileHistory):
    """Files with classes ``Forward`` and ``Backward``, in the order of their names, as ``beanie migrate`` has them.

    Which one a database is at is in the collection that Beanie keeps it in. Where the server has transactions, each is
    carried out in one of its own, but for what changes collections.
    """

    thing = "collection"
    settings_file = "beanie.toml"
    settings_text = DOCUMENTS_SETTINGS
    revision_text = DOCUMENTS
    adopts = "the one that  beanie migrate --path  is given"
    _store: MongoDBStore

    def locked(self, *, wait: float) -> AbstractAsyncContextManager[None]:
        """Hold a document that has to be renewed."""
        return leased(self._store, MongoDBLease(self._log), wait=wait)

    # -- the database

    async def current(self) -> list[str]:
        """Read Beanie's log."""
        async with self._store.named():
            found = await self._log.find_one({"is_current": True})
        return [str(found["name"]).removesuffix(".py")] if found is not None else []

    @property
    def _log(self) -> Any:
        return self._store.own_collection(HISTORY, sync=self._sync)

    async def _run(self, path: Path, side: str, after: str | None) -> None:
        migrations = _migrations(path, side)
        schema = [one for one in migrations if isinstance(one, SchemaMigration)]
        documents = [one for one in migrations if not isinstance(one, SchemaMigration)]
        database = self._store.own_database(sync=self._sync)
        token = DATABASE.set(database)
        try:
            async with self._store.named():
                if HISTORY not in await database.list_collection_names():
                    await database.create_collection(HISTORY)  # Not every server makes it in a transaction.
                for one in schema if side == "Forward" else ():
                    await one.run(session=None)
                await self._bind(documents, database)
                # The schema of a way back is still to be undone when the documents are.
                later = schema if side == "Backward" else []
                await self._change(documents, None if later else (after,))
                for one in later:
                    await one.run(session=None)
                if later:
                    await self._change([], (after,))
        finally:
            DATABASE.reset(token)

    @staticmethod
    async def _bind(migrations: list[Any], database: Any) -> None:
        from beanie import init_beanie

        models = list(dict.fromkeys(model for one in migrations for model in one.models))
        if models:
            await init_beanie(database=database, document_models=models, skip_indexes=True)

    async def _change(self, migrations: list[Any], after: tuple[str | None] | None) -> None:
        """Change documents, and write down what the database is at then, in one transaction if there are any."""
        transaction = await self._store.begin(sync=self._sync)
        try:
            for one in migrations:
                await one.run(session=transaction)
            if after is not None:
                await self._write_log(after[0], transaction)
        except BaseException:
            if transaction is not None:
                await self._store.abort(transaction)
            raise
        if transaction is not None:
            await self._store.commit(transaction)

    async def _write_log(self, name: str | None, transaction: Any = None) -> None:
        await self._log.update_many({"is_current": True}, {"$set": {"is_current": False}}, session=transaction)
        if name is not None:
            now = datetime.datetime.now(datetime.UTC)
            await self._log.insert_one({"ts": now, "name": name, "is_current": True}, session=transaction)

    def _changes(self, before: Mapping[str, Collection], after: Mapping[str, Collection]) -> list[str]:
        return changes(before, after)

    def _differences(self, wanted: Collection, there: Collection) -> Iterable[str]:
        return differences(wanted, there)

    async def _both(self) -> tuple[dict[str, Collection], dict[str, Collection]]:
        wanted = declared(self._store.models())
        if Capability.TRANSACTIONS in self._store.capabilities:
            wanted |= own_collections()
        async with self._store.named():
            return wanted, await present(self._store.own_database(sync=self._sync))


def _migrations(path: Path, side: str) -> list[Any]:
    """Return what the class of that name in a file carries out, in Beanie's order: that of the methods' names."""
    from beanie.migrations.controllers.base import BaseMigrationController

    found: Callable[..., Any] | None = getattr(loaded(path), side, None)
    if found is None:
        return []
    members = (getattr(found, name) for name in dir(found))
    return [one for one in members if isinstance(one, BaseMigrationController)]
