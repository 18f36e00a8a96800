"""Which triggers the models of a service want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, MetaData, Table, inspect
from sqlalchemy.orm import Mapper

from fedorm.exc import OutboxRuleError
from fedorm.outbox.rules import OutboxRule, declaring, models_with_rules, rules_of
from fedorm.outbox.triggers.capture import Capture, renamed


def captures(service: str) -> Mapping[Table, Sequence[Capture]]:
    """Return what the triggers of a service's tables write, by the rules of its models.

    Of a table whose rules the session carries out, nothing. Raises ``OutboxRuleError`` for a rule by triggers whose
    rows are in several tables.
    """
    found: dict[Table, Sequence[Capture]] = {}
    for model in models_with_rules(service):
        if not hasattr(model, "__mapper__"):
            continue  # A document.
        mapper, owner = _mapper(model), declaring(model)
        rules = [rule for rule in rules_of(model) if rule.by == "triggers"]
        if rules and mapper.inherits is not None and not (mapper.single or mapper.concrete):
            raise OutboxRuleError(
                f"{model.__name__}.__outbox__: triggers see the rows of one table, and those of {model.__name__} are in"
                " several; write by='session'"
            )
        if mapper.single:
            mapper, owner = mapper.base_mapper, mapper.base_mapper.class_
        found[_table(mapper)] = [_capture(mapper, owner, rule, number) for number, rule in enumerate(rules, 1)]
    return found


def _mapper(model: type[Any]) -> Mapper[Any]:
    mapper: Mapper[Any] = inspect(model)
    return mapper


def _table(mapper: Mapper[Any]) -> Table:
    table = mapper.local_table
    if not isinstance(table, Table):
        raise OutboxRuleError(f"{mapper.class_.__name__}.__outbox__: only a table has triggers, and it has none")
    return table


def _capture(mapper: Mapper[Any], owner: type[Any], rule: OutboxRule, number: int) -> Capture:
    table = _table(mapper)
    attributes = {
        column: attribute.key
        for one in mapper.self_and_descendants
        for attribute in one.column_attrs
        for column in attribute.columns
        if isinstance(column, Column) and column.table is table
    }
    # Under the names of the attributes, as the session knows them.
    copied = [
        Column(column.name, column.type, key=attributes[column], primary_key=column.primary_key)
        for column in table.columns
        if column in attributes
    ]
    return Capture.of(
        Table(table.name, MetaData(), *copied, schema=table.schema),
        types={
            change: rule.type_of(change, service=owner.__service__, table=table.name, model=owner.__name__)
            for change in rule.on
        },
        values=rule.columns,
        key=rule.key_names,
        names={column.key: names for column in copied if (names := renamed(column.type))},
        number=number,
    )
