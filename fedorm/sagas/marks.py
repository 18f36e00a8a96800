"""The marks of a saga's steps, written in the same transactions as the steps' effects.

A step and its compensation write under one key. So whoever comes first has it: a step is done once, and one that is
late, as its process was only suspended, cannot be done any more once its compensation has left its mark.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy import exc as sa_exc

from fedorm.bookkeeping import ensure
from fedorm.exc import ConfigurationError, DuplicateKeyError
from fedorm.sagas.tables import Mark, fedorm_saga_steps
from fedorm.stores.base import Store
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

Known = tuple[Mark, Any]


class MarkTakenError(Exception):
    """Somebody else has just written the same mark: read it."""


class Marks:
    """The marks of one step of one saga; call its methods under a greenlet."""

    def __init__(self, store: Store, saga: str, step: str) -> None:
        if not store.keeps_own:
            raise ConfigurationError(
                f"step {step!r}: service {store.service!r} at {store.address} has no transactions, in which the step's "
                "effect and the note that it is there would be one"
            )
        self._store = store
        self._saga, self._step = saga, step

    def prepare(self) -> None:
        """Make the table where it is missing."""
        if isinstance(self._store, SQLStore):
            ensure(self._store.engine, fedorm_saga_steps(self._store.service))

    # -- in the session's transaction

    def find(self, session: FederatedSession) -> Known | None:
        """Return what is known of the step, with what it has returned; None where it has left no mark."""
        if isinstance(self._store, SQLStore):
            table = self._table
            row = session.execute(select(table.c.outcome, table.c.result).where(*self._key(table))).one_or_none()
            return None if row is None else (Mark(row.outcome), row.result.get("value"))
        found = self._in_documents(session, lambda marks, ours: marks.find_one({"_id": self._id}, session=ours))
        return None if found is None else (Mark(found["outcome"]), found["result"].get("value"))

    def write(self, session: FederatedSession, mark: Mark) -> None:
        """Leave the step's first mark. Raises ``MarkTakenError``; waits for who is just writing the same."""
        try:
            if isinstance(self._store, SQLStore):
                values: dict[str, Any] = {"saga": self._saga, "step": self._step, "outcome": mark.value, "result": {}}
                session.execute(insert(self._table).values(values | {"at": time.time()}))
            else:
                made = {"_id": self._id, "outcome": mark.value, "result": {}, "at": time.time()}
                self._in_documents(session, lambda marks, ours: marks.insert_one(made, session=ours))
        except (sa_exc.IntegrityError, DuplicateKeyError) as error:
            raise MarkTakenError from error

    def returned(self, session: FederatedSession, result: Any) -> None:
        """Keep what the step has returned with its mark."""
        kept = {"value": result}
        if isinstance(self._store, SQLStore):
            session.execute(update(self._table).where(*self._key(self._table)).values(result=kept))
        else:
            change = {"$set": {"result": kept}}
            self._in_documents(session, lambda marks, ours: marks.update_one({"_id": self._id}, change, session=ours))

    def undo(self, session: FederatedSession) -> bool:
        """Turn the mark of a step that is done into that of one that is undone; say whether it was done."""
        if isinstance(self._store, SQLStore):
            table = self._table
            changed = update(table).where(*self._key(table), table.c.outcome == Mark.DONE.value)
            done = session.execute(changed.values(outcome=Mark.UNDONE.value))
            return bool(done.rowcount)  # type: ignore[attr-defined]
        was = {"_id": self._id, "outcome": Mark.DONE.value}
        change = {"$set": {"outcome": Mark.UNDONE.value}}
        changed = self._in_documents(session, lambda marks, ours: marks.update_one(was, change, session=ours))
        return bool(changed.matched_count)

    # --

    @property
    def _table(self) -> Any:
        return fedorm_saga_steps(self._store.service)

    def _key(self, table: Any) -> tuple[Any, ...]:
        return table.c.saga == self._saga, table.c.step == self._step

    @property
    def _id(self) -> dict[str, str]:
        return {"saga": self._saga, "step": self._step}

    def _in_documents(self, session: FederatedSession, do: Any) -> Any:
        store: Any = self._store

        async def work() -> Any:
            transaction = await session.documents.begin(store)
            marks = store.own_collection("fedorm_saga_steps", sync=session.uses_threads)
            async with store.named():
                return await do(marks, transaction)

        session.begin_quietly()
        return session.bridge.run(work())


def forget_marks(session: FederatedSession, store: Store, sagas: Collection[str]) -> None:
    """Drop the marks of sagas."""
    if isinstance(store, SQLStore):
        table = fedorm_saga_steps(store.service)
        ensure(store.engine, table)
        session.execute(delete(table).where(table.c.saga.in_(list(sagas))))
        return
    documents: Any = store

    async def work() -> None:
        transaction = await session.documents.begin(documents)
        marks = documents.own_collection("fedorm_saga_steps", sync=session.uses_threads)
        async with documents.named():
            await marks.delete_many({"_id.saga": {"$in": list(sagas)}}, session=transaction)

    session.begin_quietly()
    session.bridge.run(work())
