"""What psycopg makes of values, in a select and in the log alike."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column

from fedorm.stores.pgoutput import Conversion

FIRST_MADE = 10_000
"""Types with greater numbers are made by users, or by ``initdb``: only the server knows what they are."""


class LogValues:
    """Turns texts of the log into what a column's type makes of them.

    ``dialect`` is psycopg's and nobody else's: it is made to do without what it would ask the server for.
    """

    def __init__(self, dialect: Any) -> None:
        from psycopg import adapters
        from psycopg.adapt import AdaptersMap, Transformer

        self._dialect = dialect
        # The number of hstore's type is another in each database; read as text it needs none.
        dialect._has_native_hstore = False
        # The dialect's own, or psycopg's where it has none.
        self._adapters = AdaptersMap(getattr(self._dialect, "_psycopg_adapters_map", None) or adapters)
        read_endless(self._adapters)
        self._transformer = Transformer(self._adapters)
        self.domains: Mapping[int, int] = {}
        """The type that each domain is made of."""

    def base(self, oid: int) -> int:
        """Return the number under which a select tells of a type: a domain's is that of what it is made of."""
        while oid in self.domains:
            oid = self.domains[oid]
        return oid

    def convert(self, column: Column[Any], oid: int) -> Conversion:
        """Return psycopg's loader and what SQLAlchemy does with its values."""
        from psycopg.pq import Format

        oid = self.base(oid)
        kind: Any = column.type.dialect_impl(self._dialect)
        return self._transformer.get_loader(oid, Format.TEXT).load, kind.result_processor(self._dialect, oid)


def read_endless(connection: Any, record: Any = None) -> None:
    """Make psycopg read ``infinity`` and ``-infinity`` as asyncpg does."""
    from psycopg.pq import Format

    utc = datetime.UTC
    first, last = datetime.datetime.min, datetime.datetime.max
    for name, ends in {
        "date": (datetime.date.min, datetime.date.max),
        "timestamp": (first, last),
        "timestamptz": (first.replace(tzinfo=utc), last.replace(tzinfo=utc)),
    }.items():
        loader = connection.adapters.get_loader(connection.adapters.types[name].oid, Format.TEXT)
        connection.adapters.register_loader(name, _endless_loader(loader, *ends))


def _endless_loader(loader: type[Any], first: Any, last: Any) -> type[Any]:
    from psycopg import DataError
    from psycopg.adapt import Loader

    class EndlessLoader(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            # Not a subclass: the compiled loaders, which are the fast ones, do not allow any.
            self._load = loader(oid, context).load

        def load(self, data: Any) -> Any:
            try:
                return self._load(data)
            except DataError:
                ends = {b"-infinity": first, b"infinity": last}
                if bytes(data) not in ends:
                    raise
                return ends[bytes(data)]

    return EndlessLoader
