"""Statements with ``federated_load()`` options: run as SQLAlchemy would, then loaded in batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import ColumnElement, Delete, Insert, Select, TextClause, Update
from sqlalchemy.engine import ChunkedIteratorResult, Result, Row
from sqlalchemy.orm import ORMExecuteState

from fedorm.catalog import SESSION, service_of, services_of
from fedorm.exc import CrossServiceStatementError
from fedorm.loading import Loader, rows_to_objects
from fedorm.options import FederatedLoad, Node, chosen_paths, trees
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

CHUNK = 1000
"""How many streamed rows share their look-ups when the statement does not say ``yield_per``."""


def execute_federated(state: ORMExecuteState) -> Result[Any] | None:
    """Run a statement that has something for other services; None for all others."""
    given = getattr(state.statement, "_with_options", ())
    if not given:
        return None
    wanted = [option for option in given if isinstance(option, FederatedLoad)]
    if not wanted or state.is_relationship_load or state.is_column_load:
        return None
    roots = trees(wanted)
    statement: Any = state.statement._generate()  # type: ignore[attr-defined]
    statement._with_options = tuple(option for option in given if not isinstance(option, FederatedLoad))
    for root in roots:
        statement = statement.options(*root.loader_options(chosen_paths(given, root.model)))
    options, session = state.execution_options, cast("FederatedSession", state.session)
    session.crossed |= len(set().union(*({service_of(root.model)} | root.services() for root in roots))) > 1
    streams = options.get("yield_per") or options.get("stream_results")
    # Rows are made into objects below, not by the AsyncSession's wish to have them all before it returns.
    changed: dict[str, Any] = {"prebuffer_rows": False}
    if streams and any(_would_meet(session, root) for root in roots):
        changed |= {"yield_per": None, "stream_results": False}
    result = state.invoke_statement(statement=statement, execution_options=changed)
    loader = Loader(session, refresh=bool(options.get("populate_existing")))
    if streams:
        return _in_chunks(result, loader, roots, options.get("yield_per") or CHUNK)
    loads_at_once = len(given) == len(wanted) and not any(root.ordinary for root in roots)
    with rows_to_objects(state.all_mappers, alone=loads_at_once):
        frozen = result.freeze()
    _load(loader, roots, frozen.data)
    return frozen()


def needs_dispatch(statement: Any, stores: Mapping[str, Store]) -> bool:
    """Say whether a statement is anything but a select of one service's entities without options."""
    if type(statement) is not Select or statement._with_options or len(statement._raw_columns) != 1:
        return True
    return isinstance(statement._raw_columns[0], ColumnElement) or _is_for_several(statement, stores)


def route_to_several(state: ORMExecuteState) -> None:
    """Bind a query that names tables of several services, or documents, to the federation as a whole."""
    session = cast("FederatedSession", state.session)
    arguments = state.bind_arguments
    if arguments.get("bind") is not None or arguments.get("service") is not None or state.is_relationship_load:
        return
    statement = state.statement
    if isinstance(statement, TextClause):
        queries = session.queries
        if queries is None or not queries.names_tables(statement.text):
            return
    elif not state.is_select or not _is_for_several(statement, session.stores):
        return
    else:
        queries = session.queries
    if queries is not None:
        state.update_execution_options(**{SESSION: session})
        arguments["bind"] = queries.engine(is_async=not session.uses_threads)


_known: OrderedDict[Any, frozenset[str]] = OrderedDict()
"""The services of statements, by SQLAlchemy's own key of them: looking through a statement takes longer."""


def refuse_crossing(statement: Any) -> None:
    """Raise ``CrossServiceStatementError`` for a write that reads another service.

    Before SQLAlchemy begins: it may read the rows that an UPDATE or DELETE changes first.
    """
    is_write = isinstance(statement, Update | Delete) or (
        isinstance(statement, Insert) and statement.select is not None  # Not VALUES: there may be very many.
    )
    if is_write and len(services := _services(statement)) > 1:
        raise CrossServiceStatementError(services)


def _is_for_several(statement: Any, stores: Mapping[str, Store]) -> bool:
    services = _services(statement)
    if len(services) > 1:
        return True
    return any(isinstance(stores.get(service), DocumentStore) for service in services)


def _services(statement: Any) -> frozenset[str]:
    key = statement._generate_cache_key()
    services = _known.get(key.key) if key is not None else None
    if services is None:
        services = frozenset(services_of(statement))
        if key is not None:
            _known[key.key] = services
            while len(_known) > STATEMENTS:
                _known.popitem(last=False)
    return services


STATEMENTS = 2000
"""How many statements' services are remembered."""


def _would_meet(session: FederatedSession, root: Node) -> bool:
    """Say whether loading a chunk needs the connection that the stream's rows are still coming over.

    MySQL's drivers then drop the rest of the rows, with no more than a warning.
    """
    service = service_of(root.model)
    store = session.stores.get(service)
    return isinstance(store, SQLStore) and not store.answers_while_streaming and service in root.services()


def insert_in_blocks(state: ORMExecuteState) -> None:
    """Let a bulk insert into a service that is made for blocks stay one, also where some rows have None.

    SQLAlchemy leaves a column out whose value is None, and so sends the rows that have one apart from those that do
    not. It may fill in a default instead: tables with defaults are left alone.
    """
    mapper = state.bind_mapper
    if mapper is None or "render_nulls" in state.execution_options or not isinstance(state.parameters, list):
        return
    store = cast("FederatedSession", state.session).stores.get(getattr(mapper.class_, "__service__", ""))
    if store is None or Capability.UPDATES in store.capabilities:
        return
    if all(column.default is None and column.server_default is None for column in mapper.columns):
        state.update_execution_options(render_nulls=True)


def _in_chunks(result: Any, loader: Loader, roots: list[Node], size: int) -> Result[Any]:
    """Load each partition of a streamed result when it is fetched."""

    def chunks(wanted: int | None) -> Iterator[list[Any]]:
        while True:
            rows = result.fetchmany(wanted or size)
            if not rows:
                return
            _load(loader, roots, rows)
            yield [tuple(row) for row in rows]

    return ChunkedIteratorResult(result._metadata, chunks, dynamic_yield_per=True, raw=result.raw)


def _load(loader: Loader, roots: list[Node], rows: Sequence[Any]) -> None:
    if not rows:
        return
    for root in roots:
        loader.load_tree(root, _instances(root.model, rows))


def _instances(model: type[Any], rows: Sequence[Any]) -> list[Any]:
    """Return the distinct instances of ``model`` in rows, or in a list of instances themselves."""
    if isinstance(rows[0], Row):
        found = [value for row in rows for value in row if isinstance(value, model)]
    else:
        # An outer join has None, and a hierarchy instances of other classes.
        found = [value for value in rows if isinstance(value, model)]
    # Joined eager loading repeats a parent for each child.
    return list({id(one): one for one in found}.values())
