"""The inbox: what a service remembers of the events whose effect it holds, so that none has it twice."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import column, func, insert, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from fedorm.bookkeeping import ensure
from fedorm.exc import ConfigurationError
from fedorm.outbox.tables import fedorm_inbox
from fedorm.stores.base import Capability, Store
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.outbox.events import Event
    from fedorm.session import FederatedSession


class Inbox:
    """The events that one handler has had, in the service that holds their effects."""

    def __init__(self, store: Store, handler: str) -> None:
        if not store.keeps_own:
            raise ConfigurationError(
                f"handler {handler!r}: service {store.service!r} at {store.address} has no transactions, in which an "
                "effect and the note that it is there would be one: leave service= out, and make the effect harmless "
                "when it comes twice"
            )
        self._store = store
        self._handler = handler

    @property
    def service(self) -> str:
        """The service that holds the effects."""
        return self._store.service

    def prepare(self) -> None:
        """Make what is missing in the database; call it under a greenlet."""
        if isinstance(self._store, SQLStore):
            ensure(self._store.engine, fedorm_inbox(self._store.service))

    def take(self, session: FederatedSession, events: Sequence[Event]) -> list[Event]:
        """Write down ``events`` in the session's transaction, and return those that were not there already.

        Where another relay writes one of them at the same time this waits for its commit, and then leaves it out, or
        raises what its database raises.
        """
        if isinstance(self._store, SQLStore):
            new = self._insert_rows(session, self._store, [event.id for event in events])
        else:
            new = self._insert_documents(session, [event.id for event in events])
        return [event for event in events if event.id in new]

    def _insert_rows(self, session: FederatedSession, store: SQLStore, ids: list[str]) -> set[str]:
        table = fedorm_inbox(store.service)
        if Capability.ARRAY_KEYS in store.capabilities:
            listed = func.unnest(literal(ids, ARRAY(table.c.id.type))).table_valued(column("id", table.c.id.type))
            given = listed.render_derived(name="given")
            rows = select(literal(self._handler, table.c.handler.type), given.c.id)
            # RETURNING names those alone that were inserted.
            made = postgresql.insert(table).from_select(["handler", "id"], rows, include_defaults=False)
            return set(session.scalars(made.on_conflict_do_nothing().returning(table.c.id)))
        there = set(
            session.scalars(
                select(table.c.id).where(
                    table.c.handler == self._handler, store.key_filter([table.c.id], [(one,) for one in ids])
                )
            )
        )
        new = [one for one in ids if one not in there]
        if new:
            session.execute(insert(table), [{"handler": self._handler, "id": one} for one in new])
        return set(new)

    def _insert_documents(self, session: FederatedSession, ids: list[str]) -> set[str]:
        store: Any = self._store

        async def insert_new() -> set[str]:
            transaction = await session.documents.begin(store)
            inbox = store.own_collection("fedorm_inbox", sync=session.uses_threads)
            keys = [{"handler": self._handler, "id": one} for one in ids]
            async with store.named():
                found = await inbox.find({"_id": {"$in": keys}}, session=transaction).to_list(None)
                there = {one["_id"]["id"] for one in found}
                now = datetime.datetime.now(datetime.UTC)
                new = [{"_id": key, "at": now} for key in keys if key["id"] not in there]
                if new:
                    await inbox.insert_many(new, session=transaction)
            return set(ids) - there

        session.begin_quietly()
        return session.bridge.run(insert_new())
