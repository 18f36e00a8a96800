"""Which triggers the models of a service want."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
        mapper = _mapper(model)
        rules = [rule for rule in rules_of(model) if rule.by == "triggers"]
        if rules and mapper.inherits is not None and not (mapper.single or mapper.concrete):
            raise OutboxRuleError(
                f"{model.__name__}.__outbox__: triggers see the rows of one table, and those of {model.__name__} are in"
                " several; write by='session'"
            )
        if not mapper.single:
            found[_table(mapper)] = [_capture(mapper, model, rule, number) for number, rule in enumerate(rules, 1)]
        elif rules and declaring(model) is model:
            raise OutboxRuleError(
                f"{model.__name__}.__outbox__: triggers see the rows of all classes in {mapper.local_table}; write"
                f" by='session', or the rule into {mapper.base_mapper.class_.__name__}"
            )
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
    if "{model}" in rule.type and len(list(mapper.self_and_descendants)) > 1:
        raise OutboxRuleError(
            f"{owner.__name__}.__outbox__: triggers do not know of which class a row of {table.fullname} is, and the"
            f" type {rule.type!r} says it"
        )
    attributes = {
        attribute.key: column
        for one in mapper.self_and_descendants
        for attribute in one.column_attrs
        for column in attribute.columns
        if isinstance(column, Column) and column.table is table
    }
    mapped = set(attributes.values())
    copied = [
        Column(column.name, column.type, primary_key=column in mapper.primary_key)
        for column in table.columns
        if column in mapped
    ]

    def columns(names: Iterable[str] | None) -> list[str] | None:
        """Return the names of columns, some of which go by the names of their attributes."""
        return None if names is None else [attributes[one].name if one in attributes else one for one in names]

    return Capture.of(
        Table(table.name, MetaData(), *copied, schema=table.schema),
        types={
            change: rule.type_of(change, service=owner.__service__, table=table.name, model=owner.__name__)
            for change in rule.on
        },
        values=columns(rule.columns),
        key=columns(rule.key_names),
        names={column.name: names for column in copied if (names := renamed(column.type))},
        number=number,
    )
