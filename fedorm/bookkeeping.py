"""fedorm's own tables: a MetaData a service beside that of its models, made where one of them is needed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, inspect
from sqlalchemy import exc as sa_exc

from fedorm.catalog import SERVICE

Declaration = Callable[[MetaData], Table]

_DECLARING = ("fedorm.twophase.decisions", "fedorm.outbox.tables", "fedorm.sagas.tables", "fedorm.sync.tables")
"""The modules that declare tables, by name: they are above this one."""
_declared: dict[str, Declaration] = {}
_metadata: dict[str, MetaData] = {}
_MADE = "fedorm.made"
"""The key of an engine's pool under which the names of tables are kept that were seen there."""


def own_table(declaration: Declaration) -> Callable[[str], Table]:
    """Declare a table of fedorm's own; return what gives it for a service.

    ``declaration`` is called at most once a service, with the MetaData that the table has to be made in, and is named
    as the table is: a name that starts with ``fedorm_``.
    """
    _declared[declaration.__name__] = declaration

    def of(service: str) -> Table:
        return _made(declaration, service)

    of.__name__, of.__doc__ = declaration.__name__, declaration.__doc__
    return of


def _made(declaration: Declaration, service: str) -> Table:
    metadata = _metadata.setdefault(service, MetaData(info={SERVICE: service}))
    table = metadata.tables.get(declaration.__name__)
    return table if table is not None else declaration(metadata)


def own_metadata(service: str) -> MetaData:
    """Return the MetaData of all of fedorm's own tables in a service, for its migrations.

    In ``env.py``:  ``target_metadata=[FederatedBase.metadata_of("orders"), own_metadata("orders")]``. All of them,
    whatever was imported before: autogenerate would drop one that it does not know.
    """
    for module in _DECLARING:
        import_module(module)
    for declaration in _declared.values():
        _made(declaration, service)
    return _metadata.setdefault(service, MetaData(info={SERVICE: service}))


def ensure(engine: Engine, *tables: Table) -> None:
    """Make ``tables`` that are not there yet, over a connection of its own; asked once for each pool.

    Call it under a greenlet or in a thread, as the engine wants it, and before the session's own connection is taken.
    """
    seen: set[str] = engine.pool.__dict__.setdefault(_MADE, set())
    missing = [table for table in tables if table.name not in seen]
    if not missing:
        return
    with engine.connect() as connection:
        for table in missing:
            _create(connection, table)
    seen.update(table.name for table in missing)


def _create(connection: Connection, table: Table) -> None:
    if inspect(connection).has_table(table.name):
        return
    try:
        table.create(connection)
        connection.commit()
    except sa_exc.DBAPIError:
        # Another process may have made it at the same moment; then it is there now.
        connection.rollback()
        if not inspect(connection).has_table(table.name):
            raise


def _create_within(connection: Connection, table: Table) -> None:
    try:
        with connection.begin_nested():
            table.create(connection)
    except sa_exc.DBAPIError:  # As above.
        if not inspect(connection).has_table(table.name):
            raise


def is_ensured(engine: Engine, table: Table) -> bool:
    """Say whether a table is known to be in the database that an engine leads to."""
    return table.name in engine.pool.__dict__.get(_MADE, ())


def ensure_beside(connection: Connection, *tables: Table, within: bool) -> None:
    """Make ``tables`` that are not there yet while a transaction is under way over ``connection``.

    Of the engine's pool, whose last connection this may be, none is taken. ``within`` says that a table can be made
    within the transaction, and then goes with it if it is rolled back.
    """
    engine = connection.engine
    missing = [table for table in tables if not is_ensured(engine, table)]
    there = [table for table in missing if inspect(connection).has_table(table.name)]
    engine.pool.__dict__.setdefault(_MADE, set()).update(table.name for table in there)
    for table in missing:
        if table in there:
            continue
        if within:
            _create_within(connection, table)
            continue
        pool = engine.pool.recreate()
        try:
            with Connection(engine, connection=pool.connect()) as other:
                _create(other, table)
        finally:
            pool.dispose()


def is_own(name: Any) -> bool:
    """Say whether a table or collection of that name is one of fedorm's own."""
    return str(name).startswith("fedorm_")
