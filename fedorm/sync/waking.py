"""How a source tells that it was written to: PostgreSQL by a trigger of its own on the table."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from sqlalchemy import DDL, Connection, Table, exc, text
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import StoreError
from fedorm.outbox.waking import PREPARES
from fedorm.stores.base import Capability
from fedorm.stores.sql import SQLStore
from fedorm.sync.carrying import Carrying, log

_FUNCTION = DDL(  # type: ignore[no-untyped-call]
    "CREATE OR REPLACE FUNCTION fedorm_sync_wake() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    f"IF current_setting('{PREPARES}', true) IS DISTINCT FROM 'on' THEN PERFORM pg_notify(TG_ARGV[0], ''); END IF; "
    "RETURN NULL; END $$"
)
_IS_THERE = text(
    "SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = 'fedorm_sync_wake' AND tgrelid = :table ::regclass)"
)
_AGAIN = 1.0
"""How many seconds to wait before a lost connection is made anew."""


@asynccontextmanager
async def listening(carrying: Carrying, wake: Callable[[], None]) -> AsyncIterator[None]:
    """Call ``wake`` when the source may have changed; at once, and again and again, where nothing tells."""
    store = carrying.federation.stores[carrying.rule.source.service]
    table = carrying.rule.source.whole.table
    if Capability.LISTEN not in store.capabilities or table is None:
        yield
        return
    sql = cast(SQLStore, store)
    task = asyncio.create_task(_hear(carrying, sql, table, wake))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _hear(carrying: Carrying, store: SQLStore, table: Table, wake: Callable[[], None]) -> None:
    """Make the trigger when nobody is writing, and listen."""
    channel = _channel(table)
    while True:
        try:
            made = await greenlet_spawn(_made, store, table, channel)
        except (StoreError, exc.DBAPIError) as error:
            log.debug("service %r: no trigger was made on %s: %s", store.service, carrying.rule.source.label, error)
            await asyncio.sleep(_AGAIN)
            continue
        if made:
            break
        log.warning(
            "sync rule %r: no trigger can be made on %s, so that it is only looked at every %g s",
            carrying.rule.name,
            carrying.rule.source.label,
            getattr(carrying.rule.strategy, "poll", 0.0),
        )
        return
    wake()  # What was written before there was a trigger.
    await _listen(store, channel, wake)


async def _listen(store: SQLStore, channel: str, wake: Callable[[], None]) -> None:
    while True:
        try:
            await store.listen(channel, wake)
        except StoreError as error:
            log.debug("service %r: notifications were lost: %s", store.service, error)
        await asyncio.sleep(_AGAIN)


def _channel(table: Table) -> str:
    """Return the channel of a table: names of channels are short."""
    return f"fedorm_sync_{hashlib.sha256(table.fullname.encode()).hexdigest()[:16]}"


def _made(store: SQLStore, table: Table, channel: str) -> bool:
    engine = store.engine
    with engine.connect() as connection:
        name = connection.dialect.identifier_preparer.format_table(table)
        if connection.scalar(_IS_THERE.bindparams(table=name)):
            return True
        try:
            # Writers would wait behind the trigger, which waits for a long transaction.
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            connection.execute(_FUNCTION)
            connection.execute(_trigger(connection, name, channel))
            connection.commit()
        except exc.ProgrammingError:
            # Not allowed to, or made by another process at the same moment.
            connection.rollback()
            return bool(connection.scalar(_IS_THERE.bindparams(table=name)))
    return True


def _trigger(connection: Connection, name: str, channel: str) -> DDL:
    # Names and literals are the server's own or digests: nothing of a user's is in it but the quoted table.
    return DDL(  # type: ignore[no-untyped-call]
        "CREATE TRIGGER fedorm_sync_wake AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %(named)s "
        "FOR EACH STATEMENT EXECUTE FUNCTION fedorm_sync_wake('%(channel)s')",
        context={"named": name, "channel": channel},
    )
