"""What the rules of a model come to for its rows: which columns, in which form, under which names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Select, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper

from fedorm.catalog import service_of
from fedorm.outbox.encoding import Convert, key_text, of_column
from fedorm.outbox.rules import CHANGES, Change, OutboxRule, declaring, rules_of

Row = dict[str, Any]
"""An event as a row of the outbox: ``id``, ``type``, ``key`` and ``data``."""


class RowRule:
    """A rule for the rows of one mapper; attributes go by their keys."""

    def __init__(self, rule: OutboxRule, plan: Plan) -> None:
        model = plan.mapper.class_
        table = declaring(model).__mapper__.local_table
        names = {"service": plan.service, "table": getattr(table, "name", ""), "model": model.__name__}
        self.types: dict[Change, str] = {change: rule.type_of(change, **names) for change in CHANGES}
        self.on = frozenset(rule.on)
        self.moves = {"insert", "delete"} <= self.on
        """Whether a row whose primary key was changed is one that is gone and one that is new."""
        given = plan.attributes_of(rule.key_names)
        self.key = tuple(plan.primary_key) if given is None else given
        chosen = plan.attributes_of(rule.columns)
        captured = tuple(plan.columns) if chosen is None else chosen
        self.columns = tuple((attribute, plan.names[attribute]) for attribute in captured)

    def key_of(self, values: Mapping[str, Any]) -> str:
        """Return the ordering key, of values in JSON's types."""
        if len(self.key) > 1:
            return key_text([values[name] for name in self.key])
        value = values[self.key[0]]
        return value if type(value) is str else key_text(value)


class Plan:
    """The rules of one mapper, in the words of one database."""

    def __init__(self, mapper: Mapper[Any], dialect: Dialect) -> None:
        self.mapper = mapper
        self.service = service_of(mapper.class_)
        self.columns: dict[str, Column[Any]] = {
            prop.key: prop.columns[0] for prop in mapper.column_attrs if isinstance(prop.columns[0], Column)
        }
        self.primary_key: dict[str, Column[Any]] = {
            mapper.get_property_by_column(column).key: column  # type: ignore[misc] # of a table it is a Column
            for column in mapper.primary_key
        }
        self.columns |= self.primary_key
        self.names = self._names()
        self.mapped = frozenset(self.columns)
        self.rules = tuple(RowRule(rule, self) for rule in rules_of(mapper.class_) if rule.by == "session")
        wanted = {name for rule in self.rules for name, _ in rule.columns}
        wanted |= {name for rule in self.rules for name in rule.key} | set(self.primary_key)
        self.needed = tuple(name for name in self.columns if name in wanted)
        self._convert: dict[str, Convert] = {name: of_column(self.columns[name].type, dialect) for name in self.needed}
        self.automatic = frozenset(filter(self._is_automatic, self.needed))
        """Attributes that an UPDATE changes by itself."""
        self.none_if_missing = frozenset(filter(self._is_none, self.needed))
        """Attributes that are NULL in a new row when nothing was assigned to them."""
        self.select: Select[Any] = select(*(self.columns[name] for name in self.needed)).select_from(
            mapper.persist_selectable
        )

    def _names(self) -> dict[str, str]:
        """Return the names in an event: those of the columns; where two tables have one, the attribute's."""
        names: dict[str, str] = {}
        for attribute, column in self.columns.items():
            names[attribute] = attribute if column.name in names.values() else column.name
        return names

    def attributes_of(self, names: Collection[str] | None) -> tuple[str, ...] | None:
        """Return the attributes that are named by themselves or by their columns."""
        if names is None:
            return None
        by_column = {name: attribute for attribute, name in self.names.items()}
        return tuple(name if name in self.columns else by_column[name] for name in names)

    def _is_automatic(self, name: str) -> bool:
        column = self.columns[name]
        version = self.mapper.version_id_col
        return column.onupdate is not None or column.server_onupdate is not None or column is version

    def _is_none(self, name: str) -> bool:
        column = self.columns[name]
        return not (
            column.primary_key or column.default is not None or column.server_default is not None or column.computed
        )

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of a row in JSON's types."""
        convert = self._convert
        return {name: convert[name](value) for name, value in values.items()}


_plans: WeakKeyDictionary[Dialect, dict[Mapper[Any], Plan]] = WeakKeyDictionary()


def plan_of(mapper: Mapper[Any], dialect: Dialect) -> Plan:
    """Return the plan of a mapper; made once for each engine."""
    plans = _plans.get(dialect)
    if plans is None:
        plans = _plans[dialect] = {}
    plan = plans.get(mapper)
    if plan is None:
        plan = plans[mapper] = Plan(mapper, dialect)
    return plan


def forget_plans() -> None:
    """Let plans be made anew, as some model's rules have changed."""
    _plans.clear()
