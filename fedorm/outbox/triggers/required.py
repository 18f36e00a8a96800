"""No change of an object whose events triggers write, where these triggers are not there."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, event
from sqlalchemy.orm import InstanceState, Mapper

from fedorm.catalog import catalog, service_of
from fedorm.entity import is_document
from fedorm.exc import OutboxRuleError
from fedorm.outbox.rules import rules_of
from fedorm.outbox.triggers.captures import captures
from fedorm.outbox.triggers.installed import missing

_SEEN = "fedorm.triggers"
"""The key of an engine's pool under which the tables are kept whose triggers were seen there."""


def _require(mapper: Mapper[Any], connection: Connection, state: InstanceState[Any]) -> None:
    outbox = getattr(state.session, "outbox", None)  # A plain Session has none: it is not fedorm's.
    if outbox is not None:
        outbox.written_by_triggers(service_of(mapper.class_))
    seen: set[Any] = connection.engine.pool.__dict__.setdefault(_SEEN, set())
    table = mapper.local_table
    if table in seen:
        return
    service = service_of(mapper.class_)
    assert isinstance(table, Table)
    if absent := missing(connection, table, captures(service).get(table, ())):
        raise OutboxRuleError(
            f"{mapper.class_.__name__}.__outbox__: its events are written by triggers, and {table.fullname} in"
            f" {service!r} has not got {', '.join(absent)}; make them in a migration, op.create_outbox_triggers(...),"
            " or by create_all()"
        )
    seen.add(table)


def require_triggers(model: type[Any]) -> None:
    """Look at a flush, once for each pool, whether the triggers that a model's rules want are there."""
    if not is_document(model) and any(rule.by == "triggers" for rule in rules_of(model)):
        for change in ("before_insert", "before_update", "before_delete"):
            event.listen(model, change, _require, raw=True)


catalog.on_add(require_triggers)
