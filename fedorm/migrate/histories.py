"""Which kind of history a service has, and who keeps its lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from pkgutil import resolve_name

from fedorm.exc import MissingDriverError, UnsupportedOperationError
from fedorm.migrate.base import History
from fedorm.migrate.files import FileHistory
from fedorm.stores.base import Store
from fedorm.stores.sql import SQLStore


def history_of(store: Store, directory: Path, *, sync: bool) -> History:
    """Return a service's history, Alembic's or its store's own.

    Raises ``UnsupportedOperationError`` where none can be.
    """
    if not store.has_schema:
        raise store.error(UnsupportedOperationError, "has no schema, and so no migrations")
    if isinstance(store, SQLStore):
        try:
            from fedorm.migrate.alembic_history import AlembicHistory
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "alembic":
                raise
            raise MissingDriverError(service=store.service, package="alembic", extra="alembic") from error
        return AlembicHistory(store, directory, sync=sync)
    history: History = resolve_name(store.history)(store, directory, sync=sync)
    return history


@asynccontextmanager
async def locks_of(
    histories: Iterable[History], stores: Mapping[str, Store], *, wait: float, sync: bool
) -> AsyncIterator[None]:
    """Keep other processes from migrating these services. Raises ``BusyError``."""
    from fedorm.migrate.locks import keeper_of, locked

    async with AsyncExitStack() as stack:
        # As everybody takes them: none waits for ever.
        for history in sorted(histories, key=lambda one: one.service):
            store = stores[history.service]
            if isinstance(store, SQLStore):
                keeper = keeper_of(store, stores.values())
                await stack.enter_async_context(locked(store, keeper, wait=wait, sync=sync))
            elif isinstance(history, FileHistory):
                await stack.enter_async_context(history.locked(wait=wait))
        yield
