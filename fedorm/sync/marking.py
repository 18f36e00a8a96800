"""What says of a copy whose it is, that its row is gone, and that it is back: ``owns``, ``mark`` and ``unmark``."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedorm.stores.rows import RowShape, Values
from fedorm.sync.coercing import coercers
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.rule import SyncRule
from fedorm.sync.sameness import Sameness


def unmarked(rule: SyncRule, name: str, target: RowShape, mapped: set[str]) -> Values:
    """Return what the fields of a rule's mark have in the copy of a row that is there.

    It is what ``unmark`` says, else the opposite of True or False, else nothing, else the field's default. Fields that
    are ``mapped`` are the row's own. Raises ``SyncRuleError`` where nothing of that can be.
    """
    found = {}
    for field, mark in rule.mark.items():
        if field in mapped:
            continue
        known, value = _unmarked(rule, target, field, mark)
        if not known:
            if rule.transform or rule.transform_batch or rule.make:
                continue  # They say it.
            raise SyncRuleError(
                f"sync rule {name!r}: of a row that is back nothing says what {target.label}.{field} is then, as it "
                f"cannot be empty: say it with  unmark={{{field!r}: ...}}"
            )
        found[field] = value
    return _coerced(found, name, target, "unmark")


def owned(rule: SyncRule, name: str, target: RowShape) -> Values:
    """Return what the rule's own rows have, as the target's fields take it. Raises ``SyncRuleError``."""
    return _coerced(dict(rule.owns), name, target, "owns")


def _coerced(values: Values, name: str, target: RowShape, said: str) -> Values:
    coerce, made = coercers(target), {}
    for field, value in values.items():
        try:
            made[field] = coerce[field](value)
        except (ValueError, TypeError, ArithmeticError, KeyError) as error:
            raise SyncRuleError(
                f"sync rule {name!r}: {target.label}.{field} does not take {value!r}: say another with  "
                f"{said}={{{field!r}: ...}}"
            ) from error
    return made


def _unmarked(rule: SyncRule, target: RowShape, field: str, mark: Any) -> tuple[bool, Any]:
    if field in rule.unmark:
        return True, rule.unmark[field]
    if isinstance(mark, bool):
        return True, not mark
    if target.document is not None:
        declared = target.document.model_fields[field]
        try:
            TypeAdapter(declared.annotation).validate_python(None)
        except ValidationError:
            return not declared.is_required(), declared.get_default(call_default_factory=True)
        return True, None
    column = target.columns[field]
    if column.nullable:
        return True, None
    default: Any = column.default
    return (True, default.arg) if default is not None and default.is_scalar else (False, None)


def is_marked(rule: SyncRule, there: Values, unmark: Values, sameness: Sameness) -> bool:
    """Say whether a copy has its mark; of one that is made by a function, as a moment is, whether it has any."""
    for field, mark in rule.mark.items():
        if callable(mark):
            value = there.get(field)
            if value is None or (field in unmark and not sameness.differing({field: unmark[field]}, there)):
                return False
        elif sameness.differing({field: mark}, there):
            return False
    return True
