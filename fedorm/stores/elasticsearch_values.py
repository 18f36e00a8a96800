"""Between the values of documents and the JSON that an index holds, which has neither decimals nor times nor bytes."""

from __future__ import annotations

import base64
import binascii
import datetime
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import lru_cache, reduce
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic_core import to_json, to_jsonable_python
from sqlalchemy import ARRAY, Column, Table, types

from fedorm.stores.entity_table import FIELD
from fedorm.stores.pydantic_models import field_adapter

_WIDEST = 2**63
_SURE_DIGITS = 15
"""So many digits of a decimal are the same after any reader of JSON has made a float of them."""
Convert = Callable[[Any], Any]


class UnfitError(ValueError):
    """A value has no form in JSON that Elasticsearch takes, or a field holds one that its model does not allow."""


# -- to the index


def encoded(value: Any) -> Any:
    """Return a value as JSON holds it. Raises ``UnfitError``."""
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _check_unicode(value)
        return value
    if value is None or kind is bool:
        return value
    if kind is int:
        if not -_WIDEST <= value < _WIDEST:
            raise UnfitError("a whole number has more than 64 bits")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise UnfitError(f"{value} is no number that JSON has")
        return value
    return _encoded(value)


def _encoded(value: Any) -> Any:
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return encoded(value.value)
    if isinstance(value, SecretBytes):
        value = value.get_secret_value()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, BaseModel):
        names = ((name, field.alias or name) for name, field in type(value).model_fields.items())
        return {stored: encoded(getattr(value, name)) for name, stored in names}
    if isinstance(value, Mapping):
        return {str(encoded(name)): encoded(inner) for name, inner in value.items()}
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, str):
        return [encoded(inner) for inner in value]
    if isinstance(value, int | float):
        return encoded(int(value) if isinstance(value, int) else float(value))
    return value.get_secret_value() if isinstance(value, SecretStr) else to_jsonable_python(value, fallback=str)


def _decimal(value: Decimal) -> Any:
    """Return the number, if JSON's readers make the same one of it, else its digits: the index takes both."""
    if not value.is_finite():
        raise UnfitError(f"{value} is no number that JSON has")
    return float(value) if is_short(value) else str(value)


def is_short(value: Decimal) -> bool:
    """Say whether a decimal is held as a number."""
    digits = value.as_tuple().digits
    if len(digits) > _SURE_DIGITS and len("".join(map(str, digits)).strip("0")) > _SURE_DIGITS:
        return False
    near = float(value)
    return math.isfinite(near) and (near != 0 or not value)


def _check_unicode(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnfitError("a text is no Unicode: it has half of a surrogate pair") from None


def id_text(value: Any) -> str:
    """Return an ``id`` as the index knows its document by. Raises ``UnfitError``."""
    made = encoded(id_value(value))
    return made if isinstance(made, str) else str(made)


def id_value(value: Any) -> Any:
    """Return an ``id`` in the one form that equal ones have."""
    is_moment = isinstance(value, datetime.datetime) and value.utcoffset() is not None
    return value.astimezone(datetime.UTC) if is_moment else value


# -- from the index


def id_of(model: type[BaseModel], text: str) -> Any:
    """Return the ``id`` that a text stands for. Raises pydantic's ``ValidationError``."""
    kind = model.model_fields["id"].annotation
    return text if kind is str else field_adapter(model, "id").validate_python(text)


@lru_cache(maxsize=1024)
def holds_bytes(model: type[BaseModel]) -> frozenset[str]:
    """Return the fields of a model that may hold bytes, which pydantic would not take from base64."""
    return frozenset(name for name, field in model.model_fields.items() if _has_bytes(field.annotation))


def _has_bytes(annotation: Any, seen: tuple[Any, ...] = ()) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, bytes | SecretBytes):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        return any(_has_bytes(field.annotation, (*seen, annotation)) for field in annotation.model_fields.values())
    return any(_has_bytes(one, seen) for one in get_args(annotation))


def decoded(annotation: Any, value: Any) -> Any:
    """Return a value with bytes in the place of the base64 that stands for them. Raises ``UnfitError``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if value is None or not (arguments or isinstance(annotation, type)):
        return value
    if origin is Annotated:
        return decoded(arguments[0], value)
    if origin in (Union, UnionType):
        members = [one for one in arguments if _has_bytes(one)]
        return decoded(members[0], value) if members else value
    if origin in _LISTS and isinstance(value, list):
        return [decoded(arguments[0], one) for one in value]
    if origin is dict and isinstance(value, dict):
        return {name: decoded(arguments[1], one) for name, one in value.items()}
    if isinstance(annotation, type) and issubclass(annotation, bytes | SecretBytes):
        return _from_base64(value)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(value, dict):
        kinds = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
        return {name: decoded(kinds.get(name), inner) for name, inner in value.items()}
    return value


_LISTS = (list, set, frozenset, tuple, Sequence, AbstractSet)


def _from_base64(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise UnfitError("text that is no base64") from None


# -- as columns


def rows_of(table: Table, names: Sequence[str], found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return columns of documents, in the order of ``names``, as rows. Raises ``UnfitError``."""
    return list(zip(*(_column(table.c[name], found) for name in names), strict=True))


def _column(column: Column[Any], found: Sequence[Mapping[str, Any]]) -> list[Any]:
    path = str(column.info[FIELD])
    whole = [one.get(path) for one in found]
    if "." in path:  # A field may also be written by its path, as Elasticsearch takes it.
        parts = path.split(".")
        whole = [
            reduce(_inner, parts, one) if there is None else there for one, there in zip(found, whole, strict=True)
        ]
    convert = _converter(column.type)
    try:
        return [None if value is None else convert(value) for value in whole]
    except UnfitError as error:
        raise UnfitError(f"field {path!r} holds {error}") from None


def _inner(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _converter(kind: types.TypeEngine[Any]) -> Convert:
    if isinstance(kind, ARRAY):
        inner = _converter(kind.item_type)
        # One value is as good as a list of it.
        return lambda value: [
            None if one is None else inner(one) for one in (value if isinstance(value, list) else [value])
        ]
    return next((convert for python, convert in _CONVERT if isinstance(kind, python)), lambda value: value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise UnfitError(f"{_kind(value)}, and is declared as a bool")


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    number = _number(value, "an int")
    if number != number.to_integral_value():
        raise UnfitError(f"the number {value}, and is declared as an int")
    return int(number)


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    return float(_number(value, "a float"))


def _numeric(value: Any) -> Decimal:
    return _number(value, "a decimal")


def _number(value: Any, declared: str) -> Decimal:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = Decimal(repr(value) if isinstance(value, float) else value)
        except ArithmeticError:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise UnfitError(f"{_kind(value)}, and is declared as {declared}")


def _moment(value: Any) -> datetime.datetime:
    try:
        if isinstance(value, str):
            made = datetime.datetime.fromisoformat(value)
            return made.replace(tzinfo=datetime.UTC) if made.tzinfo is None else made
        if isinstance(value, int) and not isinstance(value, bool):
            return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        pass
    raise UnfitError(f"{_kind(value)}, and is declared as a datetime")


def _day(value: Any) -> datetime.date:
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise UnfitError(f"{_kind(value)}, and is declared as a date") from None


def _uuid(value: Any) -> UUID:
    try:
        return UUID(value)
    except (AttributeError, TypeError, ValueError):
        raise UnfitError(f"{_kind(value)}, and is declared as a UUID") from None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise UnfitError(f"{_kind(value)}, and is declared as a str")


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


_CONVERT: tuple[tuple[type[types.TypeEngine[Any]], Convert], ...] = (
    (types.JSON, lambda value: value),
    (types.Boolean, _boolean),
    (types.Integer, _integer),
    (types.Float, _float),
    (types.Numeric, _numeric),
    (types.DateTime, _moment),
    (types.Date, _day),
    (types.Uuid, _uuid),
    (types.Enum, str),
    (types.String, _text),
    (types.LargeBinary, _from_base64),
)


# -- whole documents


def source_of(document: BaseModel) -> dict[str, Any]:
    """Return the fields of a document as an index holds them. Raises ``UnfitError``."""
    state = document.__dict__
    made = {}
    for name, stored in _names(type(document)):
        try:
            made[stored] = encoded(state[name] if name != "id" else id_value(state[name]))
        except UnfitError as error:
            raise UnfitError(f"field {name!r}: {error}") from None
    return made


def fields_in(model: type[BaseModel], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pydantic takes for a document as an index holds it. Raises ``UnfitError``."""
    values = {stored: raw[stored] for _, stored in _names(model) if stored in raw}
    for name in holds_bytes(model):
        field = model.model_fields[name]
        stored = field.alias or name
        if stored in values:
            values[stored] = decoded(field.annotation, values[stored])
    return values


def loosened(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return values in their fields' own types, for strict classes; None where one of them has another."""
    made = dict(values)
    try:
        for name, stored in _names(model):
            if stored in made and name not in holds_bytes(model):
                made[stored] = field_adapter(model, name).validate_json(to_json(made[stored]))
    except ValidationError:
        return None
    return made


@lru_cache(maxsize=1024)
def _names(model: type[BaseModel]) -> tuple[tuple[str, str], ...]:
    return tuple((name, field.alias or name) for name, field in model.model_fields.items())


class Attributes(Mapping[str, Any]):
    """A document as a row: its fields by name, ``address.city`` for one within."""

    def __init__(self, document: Any) -> None:
        self._document = document

    def __getitem__(self, name: str) -> Any:
        path = ["id"] if name == "_id" else name.split(".")
        return reduce(lambda one, part: getattr(one, part, None), path, self._document)

    def __iter__(self) -> Any:
        return iter(type(self._document).model_fields)

    def __len__(self) -> int:
        return len(type(self._document).model_fields)
