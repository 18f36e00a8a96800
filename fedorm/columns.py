"""Selects of columns alone, sent as SQLAlchemy Core would: the same rows without the ORM's second pass over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Label, Select, SelectLabelStyle
from sqlalchemy.engine import Result
from sqlalchemy.orm import Mapper, ORMExecuteState
from sqlalchemy.sql import visitors
from sqlalchemy.util import immutabledict

_ORM_OPTIONS = ("_sa_orm_load_options", "_result_disable_adapt_to_context")


def execute_columns(state: ORMExecuteState) -> Result[Any] | None:
    """Run a select that names nothing but columns of plain mappers; None for every other statement.

    The ORM adds to such a statement nothing that changes its rows. Where a listener of the session's own might, as
    ``with_loader_criteria()`` does, the statement is left to the ORM.
    """
    statement: Any = state.statement
    if type(statement) is not Select or not _is_plain(statement) or state._remaining_events():
        return None
    session, options = state.session, state.execution_options
    if options.get("autoflush", True):
        session._autoflush()
    core = statement._generate()
    core._propagate_attrs = immutabledict()
    connection = session.connection(bind_arguments=state.bind_arguments)
    given = {name: value for name, value in state.local_execution_options.items() if name not in _ORM_OPTIONS}
    result = connection.execute(core, state.parameters or {}, execution_options=given)
    _know_attributes(result._metadata, statement._raw_columns)
    return result


def _know_attributes(metadata: Any, columns: Sequence[Any]) -> None:
    """Let rows be asked by mapped attribute, ``row._mapping[Order.id]``, as the ORM's can.

    SQLAlchemy keeps ``metadata`` with the compiled statement, so this is done once a statement.
    """
    for column in columns:
        if isinstance(column, Column):
            attribute = column._annotations["parententity"].class_manager[column.key]
            if attribute not in metadata._keymap:
                metadata._key_to_index[attribute] = metadata._key_to_index[column.key]
                metadata._keymap[attribute] = metadata._keymap[column.key]


def _is_plain(statement: Any) -> bool:
    if statement._with_options or statement._setup_joins or statement._memoized_select_entities:
        return False
    if statement._label_style is not SelectLabelStyle.LABEL_STYLE_DISAMBIGUATE_ONLY:
        return False
    names = set()
    for column in statement._raw_columns:
        if not isinstance(column, Column | Label):
            return False
        called = column._annotations.get("proxy_key", None if isinstance(column, Column) else column.key)
        if not column.name == column.key == called:
            return False  # The ORM names it after the attribute, the database after the column, or not at all.
        if not column.type.hashable:
            return False  # The ORM's result refuses unique() by name.
        names.add(column.name)
    if len(names) < len(statement._raw_columns) or statement._from_obj:
        return False
    # All of it: SQLAlchemy 2.1 adds the condition of an entity that only the WHERE clause names, too.
    return all(_has_plain_mapper(element) for element in visitors.iterate(statement))


def _has_plain_mapper(element: Any) -> bool:
    """Say whether the ORM has no condition of its own for an expression's entity, as inheritance would bring."""
    entity = element._annotations.get("parententity")
    if entity is None:
        return True
    return isinstance(entity, Mapper) and entity.inherits is None and entity.polymorphic_on is None
