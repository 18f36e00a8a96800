"""Reads one step over the session's own connection, or in its document transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import CursorResult, types
from sqlglot import exp

from fedorm.exc import UnsupportedQueryError
from fedorm.query.arrow import to_arrow
from fedorm.query.document_scans import read_documents
from fedorm.query.plan import Piece, Plan, Scan, Step
from fedorm.query.prepared import Prepared, key_type, prepare_piece, prepare_scan
from fedorm.query.tables import result_type, storage_type, to_database
from fedorm.stores.base import DocumentStore, batches
from fedorm.stores.scanning import spare_connections
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession


AT_ONCE = 4
"""How many batches of keys are looked up at the same time."""

AS_A_STREAM = {"stream_results": True, "max_row_buffer": 10_000}


@dataclass(frozen=True, slots=True)
class Keys:
    """The values that a column may have: a list of them, or from the least to the greatest, or any."""

    column: str
    values: list[Any] | None = None
    ends: tuple[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as a service returned them."""

    step: Step
    names: tuple[str, ...]
    kinds: tuple[types.TypeEngine[Any] | None, ...]
    rows: Sequence[Sequence[Any]]

    def arrow(self) -> pa.Table:
        """Return the rows as a table. Raises ``UnsupportedQueryError`` for a value that Arrow cannot hold whole."""
        try:
            return to_arrow(self.rows, self.names, self.kinds)
        except (pa.ArrowException, ValueError, OverflowError) as error:
            table = f", table {self.step.table.name!r}" if isinstance(self.step, Scan) else ""
            raise UnsupportedQueryError(f"service {self.step.service!r}{table}: {error}") from error

    def distinct(self, column: str) -> list[Any]:
        """Return the values of a column, each once, without NULL."""
        number = self.names.index(column)
        values = dict.fromkeys(row[number] for row in self.rows)
        values.pop(None, None)
        return list(values)


class Reader:
    """Reads the steps of a plan for one session, with the user's values of the parameters."""

    def __init__(
        self,
        session: FederatedSession,
        plan: Plan,
        parameters: Mapping[str, Any],
        may_read_outside: Callable[[str], bool] = lambda service: False,
    ) -> None:
        self._may_read_outside = may_read_outside
        self._session, self._plan, self._parameters = session, plan, parameters
        self._types = tuple(type(value) for value in parameters.values())

    def read(self, step: Step, keys: Sequence[Keys] = ()) -> Rows:
        """Return the rows of a step whose columns have the ``keys``."""
        if isinstance(step, Piece):
            return Rows(step, step.columns, step.kinds, self._ask(step, keys))
        store = self._session.store_named(step.service)
        kinds = self._kinds(step)
        rows: Sequence[Any]
        if isinstance(store, DocumentStore):
            rows = self._find(store, step, keys)
        elif isinstance(store, SQLStore):
            rows = self._select(store, step, keys)
        else:
            raise UnsupportedQueryError(f"service {step.service!r} cannot be read by a federated select")
        return Rows(step, step.columns, kinds, rows)

    def _prepared(self, key: Hashable, make: Any) -> Prepared:
        key = key, self._types, self._session.uses_threads
        made = self._plan.prepared.get(key)
        if made is None:
            made = self._plan.prepared[key] = make()
        prepared: Prepared = made
        return prepared

    def _execute(self, service: str, statement: Any, values: Mapping[str, Any]) -> Sequence[Any]:
        connection = self._session.connection(bind_arguments={"service": service})
        return connection.execute(statement, values).fetchall()

    @contextmanager
    def stream(self, scan: Scan) -> Iterator[Callable[[int], Sequence[Any]]]:
        """Open a table's rows as a stream; what it yields returns the next ones."""
        store = self._session.store_named(scan.service)
        assert isinstance(store, SQLStore)
        prepared = self._prepared((scan.name, ()), lambda: prepare_scan(store, scan, (), parameters=self._parameters))
        connection = self._session.connection(bind_arguments={"service": scan.service})
        result = connection.execute(
            prepared.statement, prepared.values(self._parameters), execution_options=AS_A_STREAM
        )
        try:
            yield result.fetchmany
        finally:
            result.close()

    def rows_of(self, name: str, rows: Sequence[Any]) -> Rows:
        """Return rows as those of a scan."""
        (scan,) = (step for step in self._plan.steps if step.name == name)
        assert isinstance(scan, Scan)
        return Rows(scan, scan.columns, self._kinds(scan), rows)

    @staticmethod
    def _kinds(scan: Scan) -> tuple[types.TypeEngine[Any] | None, ...]:
        return tuple(result_type(scan.table.c[name].type) for name in scan.columns)

    # -- whole queries

    def stream_of(self, piece: Piece) -> CursorResult[Any]:
        """Send a piece to its service, whose rows come while they are read."""
        store = self._session.store_named(piece.service)
        assert isinstance(store, SQLStore)
        names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        prepared = self._prepared(
            (piece.name, *names), lambda: prepare_piece(store, piece, *names, parameters=self._parameters)
        )
        connection = self._session.connection(bind_arguments={"service": piece.service})
        return connection.execute(prepared.statement, prepared.values(self._parameters), execution_options=AS_A_STREAM)

    def _ask(self, piece: Piece, keys: Sequence[Keys]) -> Sequence[Any]:
        """Send a piece, narrowed by keys that fit into one list or range, to its service."""
        store = self._session.store_named(piece.service)
        assert isinstance(store, SQLStore)
        lists = [key for key in keys if key.values is not None and len(key.values) <= store.keys_per_statement(1)]
        ranges = [key for key in keys if key.ends is not None]
        names = tuple(key.column for key in lists), tuple(key.column for key in ranges)
        prepared = self._prepared(
            (piece.name, *names), lambda: prepare_piece(store, piece, *names, parameters=self._parameters)
        )
        values = prepared.values(self._parameters) | _ends(ranges)
        for number, key in enumerate(lists):
            kind = key_type(piece, key.column)
            values[f"k{number}"] = to_database(kind, key.values) if kind is not None else key.values
        return self._execute(piece.service, prepared.statement, values)

    # -- tables

    def _select(self, store: SQLStore, scan: Scan, keys: Sequence[Keys]) -> Sequence[Any]:
        lists = sorted((key for key in keys if key.values is not None), key=lambda key: len(key.values or ()))
        if any(not key.values for key in lists):
            return []
        ranges = [key for key in keys if key.ends is not None]
        names = tuple(key.column for key in ranges)
        prepared = self._prepared(
            (scan.name, names), lambda: prepare_scan(store, scan, names, parameters=self._parameters)
        )
        values = prepared.values(self._parameters) | _ends(ranges)
        if scan.limit is not None:
            values["fedorm_limit"] = number_of(scan.limit, self._parameters)
        if not lists:
            return self._execute(scan.service, prepared.statement, values)
        # The shortest list is cut into batches; the others' keys are left to the finish.
        shortest = lists[0]
        column = scan.table.c[shortest.column]
        kind = storage_type(column.type)
        wanted = to_database(kind, shortest.values)
        narrowed = self._prepared(
            (scan.name, names, shortest.column),
            lambda: Prepared(prepared.statement.where(store.bound_key_filter(column, kind)), prepared.slots),  # type: ignore[attr-defined]
        )
        each = [values | {"fedorm_keys": batch} for batch in batches(wanted, store.keys_per_statement(1))]
        return self._in_batches(store, narrowed.statement, each)

    def _in_batches(self, store: SQLStore, statement: Any, each: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Run a statement with each of some values: several at once, where other connections see the same rows.

        Only connections that the pool has to spare are taken: waiting for one while holding another may never end.
        """
        engine = store.bind_for(sync=self._session.uses_threads)
        jobs = min(len(each), AT_ONCE, spare_connections(engine)) if len(each) > 1 else 1
        if jobs < 2 or not self._may_read_outside(store.service):
            return [row for values in each for row in self._execute(store.service, statement, values)]
        waiting, rows = deque(each), list[Any]()

        def work() -> None:
            with engine.connect() as connection:
                while waiting:
                    rows.extend(connection.execute(statement, waiting.popleft()).fetchall())

        self._session.bridge.side_by_side([work] * jobs)
        return rows

    # -- documents

    def _find(self, store: DocumentStore, scan: Scan, keys: Sequence[Keys]) -> list[Any]:
        lists = [(key.column, key.values) for key in keys if key.values is not None]
        ranges = [(key.column, key.ends) for key in keys if key.ends is not None]
        if any(not values for _, values in lists):
            return []
        limit = number_of(scan.limit, self._parameters) if scan.limit is not None else None
        return read_documents(self._session, store, scan, self._parameters, lists=lists, ranges=ranges, limit=limit)


def number_of(limit: exp.Expr, parameters: Mapping[str, Any]) -> int:
    """Return the number of rows that a LIMIT, an OFFSET or their sum stands for."""
    if isinstance(limit, exp.Add):
        return number_of(limit.this, parameters) + number_of(limit.expression, parameters)
    return int(parameters[str(limit.this)] if isinstance(limit, exp.Placeholder) else limit.to_py())


def _ends(ranges: Sequence[Keys]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for number, key in enumerate(ranges):
        if key.ends is not None:
            values[f"low{number}"], values[f"high{number}"] = key.ends
    return values
