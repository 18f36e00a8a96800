"""PostgreSQL's changes by logical decoding: a publication says of which tables, a replication slot from where on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import ConfigurationError, FeedLostError, ServiceTimeoutError, StoreError
from fedorm.stores import postgresql_slot as at_server
from fedorm.stores.feeds import Backlog, ChangeFeed, Chunk, Kept
from fedorm.stores.findings import Finding
from fedorm.stores.pgoutput import (
    Decoder,
    KeyNotLoggedError,
    TableName,
    UnreadableError,
    format_lsn,
    parse_lsn,
    read_relation,
)
from fedorm.stores.postgresql_obstacles import obstacles, whole_row_obstacles
from fedorm.stores.postgresql_replication import DATA, HEADER, Replication, connection_parameters
from fedorm.stores.postgresql_slot import IN_USE, NOT_ALLOWED, NOT_THERE, PLUGIN, SlotState
from fedorm.stores.postgresql_values import FIRST_MADE, LogValues
from fedorm.stores.rows import RowShape

if TYPE_CHECKING:
    from fedorm.stores.postgresql import PostgreSQLStore

P = ParamSpec("P")
T = TypeVar("T")

CHUNK = 5_000
"""So many changes make a chunk if there are more."""
_RELATION = ord("R")
_LOST = (NOT_THERE, "55000", "58P01")
"""SQLSTATEs of a slot or publication that is not there, of one given up, and of a part of the log that is gone."""
_CONFIGURATION = (NOT_ALLOWED, "53400")
"""SQLSTATEs of a privilege that is missing, and of a server's setting that allows no more."""
_NO_REPLICATION = ("replication role", "permission denied to start wal sender")
"""What the server says, without a code, to a user who may not read its log."""


@dataclass(frozen=True, slots=True)
class Retained:
    """What the server keeps of its log for a feed."""

    bytes: int
    wal_status: str | None
    """"reserved"; "extended", beyond what is usual; "unreserved", about to be given up; "lost"; None before 13."""
    safe_bytes: int | None
    """How much more may be written before the feed is lost; None where ``max_slot_wal_keep_size`` sets no limit."""


class PostgreSQLFeed(ChangeFeed):
    """Reads a slot with the plugin ``pgoutput``; positions are places in the log (LSNs) as PostgreSQL writes them.

    Not told are, by PostgreSQL's nature: columns that the server computes (before version 18), and that a single
    partition of a table was truncated. A prepared transaction is told when it is committed.
    """

    heartbeat = 10.0
    """After so many seconds without changes a chunk brings the position forward, if the log has grown."""
    patience = 10.0
    """For so many seconds a slot is waited for that another connection still reads."""

    def __init__(self, store: PostgreSQLStore, name: str, shapes: Sequence[RowShape]) -> None:
        self.store, self.name, self.shapes = store, name, shapes
        self.slot = at_server.slot_name(store.url.database or store.url.username or "", name)
        self.publication = at_server.publication_name(name)
        self._confirmed = 0
        self._replication: Replication | None = None
        self._given: deque[tuple[int, float]] = deque()
        """Of the chunks that are not confirmed yet, where they end and when they were committed."""

    # -- at the server

    async def findings(self) -> list[Finding]:
        """Ask for the settings, the user's privileges, the tables and their keys."""
        return await self._ask(obstacles, self.shapes, self.slot, self.publication)

    async def whole_row_findings(self, shapes: Sequence[RowShape] | None = None) -> list[Finding]:
        """Return what stands against ``Change.before`` being the whole row, for these shapes or for all."""
        return await self._ask(whole_row_obstacles, self.shapes if shapes is None else shapes)

    async def create(self) -> str:
        """Publish the tables and make the slot, anew if it is there; waits for transactions that are being written.

        Raises ``ConfigurationError`` with all ``problems()`` if there are any, and changes nothing then.
        """
        found = await self.problems()
        if found:
            raise self._not_set_up("; ".join(found))
        await self._drop_slot()
        await self._ask(self._publish)
        try:
            position = await self._ask(at_server.make_slot, self.slot)
        except ServiceTimeoutError as error:
            raise self.store.error(
                ServiceTimeoutError,
                "a replication slot waits for all transactions that are writing: end those that pg_stat_activity and "
                "pg_prepared_xacts show, or give the service a longer timeout",
            ) from error
        # What is committed in the log may not be seen by other transactions yet, such as those that will read the rows.
        unseen = set(await self._ask(at_server.writing))
        while unseen:
            await asyncio.sleep(0.02)
            unseen &= set(await self._ask(at_server.writing))
        self._confirmed = 0
        self._given.clear()
        return position

    def _publish(self, connection: Connection) -> None:
        tables = [state.name for state in at_server.table_states(connection, self.shapes) if state.name is not None]
        at_server.publish(connection, self.publication, tables)

    async def drop(self) -> None:
        """Drop the slot and the publication."""
        await self._drop_slot()
        await self._ask(at_server.drop_publication, self.publication)

    async def _drop_slot(self) -> None:
        await self._unless_in_use(lambda connection: at_server.drop_slot(connection, self.slot))

    async def _unless_in_use(self, drop: Callable[[Connection], T]) -> T | None:
        """Drop the slot, and wait for who reads it; return None if it is not there."""
        deadline = asyncio.get_running_loop().time() + self.patience
        while True:
            try:
                return await self._ask(drop)
            except StoreError as error:
                state = _state_of(error.__cause__)
                if state == NOT_THERE:
                    return None
                if state != IN_USE or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def confirm(self, position: str) -> None:
        """Tell it over the stream's connection, else when the next stream begins."""
        reached = self._parsed(position)
        self._confirmed = max(self._confirmed, reached)
        while self._given and self._given[0][0] <= reached:
            self._given.popleft()
        if self._replication is not None:
            self._replication.confirm(reached)

    async def backlog(self, position: str) -> Backlog:
        """Count the bytes of the log; seconds are known of what the stream has given, or if there is nothing."""
        reached = self._parsed(position)
        state, now = await self._ask(self._state_now)
        kept = self._kept(state, reached)
        size = max(0, parse_lsn(kept.end) - reached)
        waiting = [committed_at for end, committed_at in self._given if end > reached]
        seconds = max(0.0, now - waiting[0]) if waiting else None if size else 0.0
        return Backlog(size, seconds)

    def _state_now(self, connection: Connection) -> tuple[SlotState | None, float]:
        now = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())::float8"))
        return at_server.slot_state(connection, self.slot), float(now or 0)

    async def retained(self) -> Retained:
        """Return how much of its log the server keeps for this feed, and for how long it will."""
        state = await self._ask(at_server.slot_state, self.slot)
        if state is None:
            raise self._lost(f"there is no replication slot {self.slot}")
        return Retained(state.retained, state.wal_status, state.safe)

    async def kept(self) -> list[Kept]:
        """Ask for the slot."""
        state, name = await self._ask(at_server.slot_state, self.slot), f"replication slot {self.slot}"
        if state is None:
            return [Kept(name, None)]
        return [Kept(name, state.retained, limited=state.safe is not None, lost=state.lost)]

    async def give_up(self, most: int) -> list[Kept]:
        """Drop the slot, and end the connection that reads it."""
        dropped = await self._unless_in_use(lambda connection: at_server.drop_larger_slot(connection, self.slot, most))
        return [] if dropped is None else [Kept(f"replication slot {self.slot}", dropped)]

    # -- the stream

    async def stream(self, position: str) -> AsyncIterator[Chunk]:
        """Read the slot over a connection of its own."""
        start = self._parsed(position)
        tables = await self._ask(self._ready, start)
        engine = self._driver()
        values = LogValues(engine.dialect)
        decoder = Decoder(tables, values.convert, position=start)
        replication = await self._connect(engine)
        try:
            await self._start(replication, format_lsn(start))
            self._replication = replication
            replication.confirm(self._confirmed)
            self._given.clear()
            clock = asyncio.get_running_loop().time
            given, beat, asking = start, clock() + self.heartbeat, False
            while True:
                wanted = await self._read(replication, decoder, values, beat - clock())
                if not (decoder.has_whole or decoder.full(CHUNK)):
                    over = clock() >= beat
                    if over:
                        beat = clock() + self.heartbeat
                    if decoder.in_transaction or not (over or wanted or asking):
                        continue
                    if decoder.position <= given:
                        if over:
                            asking = True
                            replication.ask()
                        continue
                chunk = decoder.take()
                if chunk.position is not None:
                    given = decoder.position
                    if chunk.committed_at is not None:
                        self._given.append((given, chunk.committed_at))
                yield chunk
                beat, asking = clock() + self.heartbeat, False
        finally:
            if self._replication is replication:
                self._replication = None
            replication.close()

    async def _read(self, replication: Replication, decoder: Decoder, values: LogValues, patience: float) -> bool:
        """Read until there is something to give, at most for some seconds; say whether the server wants an answer."""
        waited = asked = False
        try:
            while True:
                message = replication.next()
                if message is None:
                    replication.take_in()
                    message = replication.next()
                    if message is None:
                        if decoder.has_whole or asked or waited:
                            return asked
                        await replication.readable(patience)
                        waited = True
                        replication.take_in()
                        continue
                    await asyncio.sleep(0)  # It is a long way to the end of a large transaction.
                if message[0] != DATA:
                    end, wanted = replication.answer(message)
                    asked = asked or (wanted and end > decoder.position)
                    decoder.reached(end)
                    continue
                if message[HEADER] == _RELATION:
                    await self._relate(message, decoder, values)
                else:
                    decoder.read(message, HEADER)
                if decoder.full(CHUNK):
                    return asked
        except Exception as error:
            raise self._named(error) from error

    async def _relate(self, message: bytes, decoder: Decoder, values: LogValues) -> None:
        relation = read_relation(message, HEADER)
        if any(attribute.oid >= FIRST_MADE for attribute in relation.attributes):
            values.domains = await self._ask(at_server.domains)
        decoder.relate(relation)

    def _ready(self, connection: Connection, start: int) -> dict[TableName, list[RowShape]]:
        """See that nothing was missed; return the shapes of each table."""
        self._kept(at_server.slot_state(connection, self.slot), start)
        tables: dict[TableName, list[RowShape]] = {}
        missing = []
        published = at_server.publication_state(connection, self.publication)
        for state in at_server.table_states(connection, self.shapes):
            if state.name is not None:
                tables.setdefault(state.name, []).append(state.shape)
            if published is None or state.name not in published.tables:
                missing.append(state.written)
        if missing:
            raise self._lost(f"the publication {self.publication} does not tell of {', '.join(missing)}")
        return tables

    def _kept(self, state: SlotState | None, position: int) -> SlotState:
        """Return the slot's state; raise ``FeedLostError`` if not all since ``position`` is there."""
        if state is None or state.plugin != PLUGIN:
            raise self._lost(f"there is no replication slot {self.slot} of the plugin {PLUGIN}")
        if state.lost:
            raise self._lost(f"the server has given up the replication slot {self.slot} ({state.lost})")
        if state.confirmed is not None and parse_lsn(state.confirmed) > position:
            raise self._lost(
                f"the replication slot {self.slot} was read up to {state.confirmed}, beyond {format_lsn(position)}"
            )
        if position > parse_lsn(state.end):
            raise self._lost(f"its log ends at {state.end}, before {format_lsn(position)}: it is another server's")
        return state

    def _driver(self) -> Engine:
        """Return an engine that knows how the store speaks to psycopg; it never connects."""
        engine = self.store.make_sync_engine()
        self.store.adapt(engine.dialect)
        return engine

    async def _connect(self, engine: Engine) -> Replication:
        store = self.store
        arguments = store.connect_args(store.url, is_async=False) | store.settings.options.get("connect_args", {})
        try:
            return await Replication.open(connection_parameters(engine, arguments, self.slot))
        except Exception as error:
            raise self._named(error) from error

    async def _start(self, replication: Replication, position: str) -> None:
        """Begin; wait for a moment while the server has not noticed yet that who has read the slot is gone."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.patience
        while True:
            try:
                await replication.start(self.slot, self.publication, position)
            except Exception as error:
                if _state_of(error) != IN_USE or clock() > deadline:
                    raise self._named(error) from error
                await asyncio.sleep(0.1)
            else:
                return

    async def _ask(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **more: P.kwargs) -> T:
        """Run ``work`` over a pooled connection that commits each statement by itself."""

        def run() -> T:
            with self.store.engine.connect() as connection:
                return work(connection.execution_options(isolation_level="AUTOCOMMIT"), *args, **more)

        try:
            return await greenlet_spawn(run)
        except sa_exc.DBAPIError as error:
            raise self._named(error) from error

    # -- errors

    def _parsed(self, position: str) -> int:
        try:
            return parse_lsn(position)
        except ValueError as error:
            raise self._lost(str(error)) from error

    def _lost(self, reason: str) -> StoreError:
        return self.store.error(FeedLostError, f"{reason}: a new snapshot has to be made, by  fedorm sync backfill")

    def _not_set_up(self, problem: str) -> ConfigurationError:
        problem = self.store.settings.scrub(problem)
        return ConfigurationError(f"service {self.store.service!r} at {self.store.address}: {problem}")

    def _in_use(self, error: BaseException) -> StoreError:
        return self.store.error(
            StoreError,
            f"{error}: another process reads this feed: stop it, or run  pg_terminate_backend()  with that number",
        )

    def _named(self, error: Exception) -> Exception:
        """Return ``error`` in fedorm's words."""
        if isinstance(error, StoreError | ConfigurationError):
            return error
        if isinstance(error, KeyNotLoggedError):
            return self._lost(f"{error}: run  ALTER TABLE {error.table} REPLICA IDENTITY FULL")
        if isinstance(error, UnreadableError):
            return self.store.error(StoreError, str(error))
        original = getattr(error, "orig", None) or error
        state, words = _state_of(error), str(original).lower()
        if state == IN_USE:
            return self._in_use(original)
        if "wal_level" in words:
            return self._not_set_up(f"{original}: set wal_level = 'logical' and restart the server")
        if state in _CONFIGURATION or any(said in words for said in _NO_REPLICATION):
            return self._not_set_up(f"{original}: see what  fedorm doctor  says of it")
        if state in _LOST:
            return self._lost(str(original))
        return self.store.wrap(error)


def _state_of(error: BaseException | None) -> str | None:
    state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return state if isinstance(state, str) else None
