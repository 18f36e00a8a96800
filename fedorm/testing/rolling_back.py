"""A federation whose services are, after a block, as they were before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy.util import greenlet_spawn

from fedorm.exc import FedormError
from fedorm.federation import Federation
from fedorm.stores.base import DocumentStore
from fedorm.stores.sql import SQLStore
from fedorm.testing.joined import OuterTransaction
from fedorm.testing.kept_documents import Keeping


@asynccontextmanager
async def rolled_back(federation: Federation) -> AsyncIterator[Federation]:
    """Undo after the block what sessions of an open federation have done in it, committed or not.

    In a SQL service everything happens in one transaction, of which a session's is a savepoint, over one connection:
    sessions see what others have not committed yet, and one cannot roll back what it has written before another one
    wrote. Documents are written and committed as ever, and put back as they were. ClickHouse and chDB, which have no
    rollback, refuse to be written to. A session with ``twophase`` commits in one phase. What does not go over the
    engines is not in the transaction: feeds of logs, notifications, other processes.
    """
    if not federation._open:
        raise FedormError("the federation is not open: write  async with federation, rolled_back(federation):")
    undoing = _Undoing(federation, sync=False)
    with undoing.installed():
        try:
            yield federation
        finally:
            await greenlet_spawn(undoing.rows)
            for kept in undoing.documents:
                await kept.restore()
            await federation.forget()


@contextmanager
def sync_rolled_back(federation: Federation) -> Iterator[Federation]:
    """Do the same for sessions of ``sync_session()``."""
    bridge = federation._thread_bridge
    if bridge is None:
        raise FedormError("the federation is not open: write  with federation, sync_rolled_back(federation):")
    undoing = _Undoing(federation, sync=True)
    with undoing.installed():
        try:
            yield federation
        finally:
            undoing.rows()
            for kept in undoing.documents:
                bridge.run(kept.restore())
            federation.sync_forget()


class _Undoing:
    def __init__(self, federation: Federation, *, sync: bool) -> None:
        self._federation, self._sync = federation, sync
        stores = federation.stores.values()
        self._transactions = [
            OuterTransaction(one, one.bind_for(sync=sync)) for one in stores if isinstance(one, SQLStore)
        ]
        self.documents = [Keeping(one, sync=sync) for one in stores if isinstance(one, DocumentStore)]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let everything take part in the block."""
        opener = "sync_session" if self._sync else "session"
        open_session = getattr(self._federation, opener)

        def one_phase(**options: Any) -> Any:
            return open_session(**options | {"twophase": False})

        with ExitStack() as replaced:
            _replace(replaced, self._federation, opener, one_phase)
            for transaction in self._transactions:
                # DuckDB's connections of its own would see nothing of the transaction.
                _replace(replaced, transaction.store, "may_read_outside", lambda connection: False)
                transaction.install()
            for kept in self.documents:
                _replace(replaced, kept.store, "begin", kept.begin)
            yield

    def rows(self) -> None:
        """Roll back in every service, also if one of them fails."""
        with ExitStack() as stack:
            for transaction in self._transactions:
                stack.callback(transaction.undo)


def _replace(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Give one object another attribute until the stack is closed."""
    had, before = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    stack.callback(setattr, owner, name, before) if had else stack.callback(delattr, owner, name)
