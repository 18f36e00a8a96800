"""Pages between two PostgreSQL databases as they are: out by COPY, in by COPY, in PostgreSQL's binary form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Select, String, and_, not_, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator
from sqlalchemy.util import await_only

from fedorm.stores.passing import Pair, Passage, PassedPage
from fedorm.stores.rows import Key
from fedorm.stores.watching import note_change

if TYPE_CHECKING:
    from fedorm.stores.postgresql_rows import PostgreSQLRowAccess

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def same_form(one: Column[Any], other: Column[Any]) -> bool:
    """Say whether the binary form of one column's values is that of the other's."""
    if isinstance(one.type, TypeDecorator) or isinstance(other.type, TypeDecorator):
        return False
    kinds = one.type.dialect_impl(_DIALECT), other.type.dialect_impl(_DIALECT)
    if all(type(kind).__visit_name__ in ("string", "text", "VARCHAR", "TEXT", "unicode") for kind in kinds):
        return isinstance(kinds[0], String) and isinstance(kinds[1], String)
    return one.type.compile(dialect=_DIALECT) == other.type.compile(dialect=_DIALECT)


class BinaryPassage(Passage):
    """Leads from one ``PostgreSQLRowAccess`` to another."""

    def __init__(self, source: PostgreSQLRowAccess, target: PostgreSQLRowAccess, pairs: Sequence[Pair]) -> None:
        self._source, self._target = source, target
        self._read = [source.shape.columns[pair.source] for pair in pairs]
        self._written = [target.shape.columns[pair.target] for pair in pairs]

    async def pages(self, *, size: int, after: Key | None) -> AsyncIterator[PassedPage]:
        """Find where a page ends, and copy up to there."""
        while True:
            page = await self._source.run(self._page, size, after)
            if page is None:
                return
            after = page.last
            if page.rows:
                yield page

    def _page(self, size: int, after: Key | None) -> PassedPage | None:
        source = self._source
        lower = [source.beyond(after)] if after is not None else []
        keys: Select[Any] = select(*source.keys).where(*lower)
        with source.store.engine.connect() as connection:
            ends = [
                keys.order_by(*source.keys).offset(size - 1).limit(1),
                keys.order_by(*(key.desc() for key in source.keys)).limit(1),
            ]
            found = next((row for end in ends for row in connection.execute(end)), None)
            if found is None:
                return None
            last = tuple(found)
            wanted = select(*self._read).where(*lower, and_(not_(source.beyond(last))))
            parts, rows = _copied(connection, wanted)
        return PassedPage(rows, last, parts)

    async def write(self, handle: Connection, page: PassedPage, *, version: int) -> None:
        """Copy into the table itself: a key that is there already fails, and the rows then go another way."""
        await self._target.run(self._write, handle, page)

    def _write(self, connection: Connection, page: PassedPage) -> None:
        driver: Any = connection.connection.driver_connection
        table = self._target.table

        async def parts() -> AsyncIterator[bytes]:
            for part in page.data:
                yield part

        await_only(
            driver.copy_to_table(
                table.name,
                schema_name=table.schema,
                columns=[one.name for one in self._written],
                source=parts(),
                format="binary",
            )
        )
        note_change(connection, self._target.touched)


def _copied(connection: Connection, wanted: Select[Any]) -> tuple[list[bytes], int]:
    compiled: Any = wanted.compile(dialect=connection.dialect)
    processors = compiled._bind_processors
    values = [
        processors[name](compiled.params[name]) if name in processors else compiled.params[name]
        for name in compiled.positiontup or ()
    ]
    parts: list[bytes] = []

    async def take(part: bytes) -> None:
        parts.append(part)

    driver: Any = connection.connection.driver_connection
    said = await_only(driver.copy_from_query(compiled.string, *values, output=take, format="binary"))
    return parts, int(said.split()[-1])
