"""Between a record's fields and the bytes that Redis keeps: plain values as their text, all others as JSON."""

from __future__ import annotations

import datetime
import enum
import types
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, PydanticUserError, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from fedorm.stores.base import collection_name
from fedorm.stores.pydantic_models import field_adapter
from fedorm.stores.redis_records import TTL, milliseconds

Raw = dict[str, Any]
"""A record as it is kept: its ``id`` as the class has it, and each field's bytes; of a JSON text ``DOCUMENT``'s."""
DOCUMENT = " json"
MADE = " made"
"""In what was just read, perhaps, the record that was made of it while others were on their way; to be taken out."""
LIFE = " ttl"
"""In what is to be written, how long it is to live in milliseconds, 0: for ever; no field is called so."""

_TEXTS = (str, int, float, Decimal, datetime.date, datetime.time, datetime.timedelta, UUID, SecretStr)
Form = Literal["text", "bytes", "json"]


class UnfitValueError(ValueError):
    """A value that Redis could keep, but not everybody else who is to read it; says why, and leaves it out."""


class Keys(ABC):
    """Where the records of one name are, and which of their fields are asked for."""

    has_others = True
    """Whether keys that are no ``id`` are somebody else's, and not those that a sample has left out."""

    def __init__(self, name: str, fields: Sequence[str], *, is_json: bool) -> None:
        self.name, self.fields, self.is_json = name, list(fields), is_json
        self.prefix = f"{name}:".encode()
        self.asked = [b"id", *(field.encode() for field in self.fields)]
        """The fields of a hash in the order in which they are asked for."""

    @abstractmethod
    def typed(self, text: bytes) -> Any:
        """Return the ``id`` that a text is. Raises ``ValueError``."""

    @abstractmethod
    def parse(self, raw: Raw) -> Any:
        """Make an object whose ``__dict__`` has the fields' values. Raises ``ValueError``."""

    def key(self, identity: Any) -> bytes:
        """Return the key of a record."""
        return self.prefix + id_text(identity)

    def keys(self, ids: Sequence[Any]) -> list[bytes]:
        """Return the keys of many records."""
        prefix, kinds = self.prefix, set(map(type, ids))
        if kinds == {int} and min(ids) >= -(2**63) and max(ids) < 2**63:
            return [b"%b%d" % (prefix, one) for one in ids]
        return [prefix + id_text(one) for one in ids]

    def identity(self, key: bytes) -> Any:
        """Return the ``id`` that a key is of. Raises ``ValueError`` for one that no record of the class has."""
        text = key[len(self.prefix) :]
        identity = self.typed(text)
        if id_text(identity) != text:
            raise ValueError("another spelling")
        return identity

    def raw(self, identity: Any, found: Any) -> Raw | None:
        """Return a record of what Redis has answered: a text, or the values of ``asked``; None where there is none."""
        if self.is_json:
            return None if found is None else {"id": identity, DOCUMENT: found}
        raw = {name: value for name, value in zip(self.fields, found[1:], strict=True) if value is not None}
        if not raw and found[0] is None:
            return None
        raw["id"] = identity
        return raw

    def raw_many(self, ids: Sequence[Any], found: Sequence[Any]) -> list[Raw]:
        """Return those records of what Redis has answered that are there."""
        if self.is_json:
            return [{"id": one, DOCUMENT: text} for one, text in zip(ids, found, strict=True) if text is not None]
        made = [self.raw(one, answer) for one, answer in zip(ids, found, strict=True)]
        return [raw for raw in made if raw is not None]

    def document(self, raw: Raw) -> dict[str, Any]:
        """Return what a JSON text says. Raises ``ValueError`` for what is no object."""
        values = from_json(raw[DOCUMENT])
        if not isinstance(values, dict):
            raise ValueError("is no JSON object")
        return values | {"id": raw["id"]}


class Codec(Keys):
    """What is known of one class of records."""

    def __init__(self, model: Any) -> None:
        settings = getattr(model, "Settings", None)
        fields = [name for name in model.model_fields if name != "id"]
        super().__init__(collection_name(model), fields, is_json=getattr(settings, "format", "hash") == "json")
        self.model = model
        ttl = getattr(settings, "ttl", None)
        self.ttl = None if ttl is None else milliseconds(ttl, f"{model.__name__}.Settings.ttl")
        self.renews = bool(getattr(settings, "ttl_renews", False))
        forms = {name: form_of(model.model_fields[name].annotation) for name in self.fields}
        self._read: list[tuple[str, Form, bool]] = [(name, *forms[name]) for name in self.fields]
        self._forms = {name: form for name, (form, _) in forms.items()}
        self._secret = {name for name in self.fields if _holds_secrets(model.model_fields[name].annotation)}
        self._validate_json = model.__pydantic_validator__.validate_json
        self._validate = model.__pydantic_validator__.validate_python
        self._validate_array = TypeAdapter(list[model]).validator.validate_json
        self._id = field_adapter(self.model, "id")
        self._id_is_bytes = form_of(model.model_fields["id"].annotation)[0] == "bytes"

    def typed(self, text: bytes) -> Any:
        """Let pydantic turn a text into the type of ``id``."""
        return self._id.validate_python(text if self._id_is_bytes else text.decode())

    def parse(self, raw: Raw) -> Any:
        """Let the class make a record. Raises pydantic's ``ValidationError``, or ``ValueError`` for what is no text."""
        if self.is_json:
            made = raw.pop(MADE, None)
            if made is not None:
                return made
            with suppress(ValidationError):
                record = self._validate_json(raw[DOCUMENT], by_name=True)
                if record.id == raw["id"]:
                    return record
            text = to_json(self.document(raw), inf_nan_mode="constants")  # The key says the id, whatever the text does.
            return self._validate_json(text, by_name=True)
        values = {"id": raw["id"]}
        get = raw.get
        for name, form, nullable in self._read:
            value = get(name)
            if value is None:
                if nullable:
                    values[name] = None
            elif form == "text":
                values[name] = value.decode()
            else:
                values[name] = value if form == "bytes" else from_json(value)
        try:
            return self._validate(values, by_name=True)
        except ValidationError:
            loose = self._loosened(raw, values)
            if loose is None:
                raise
            return self._validate(loose, by_name=True)

    def _loosened(self, raw: Raw, values: dict[str, Any]) -> dict[str, Any] | None:
        """Return values in their own types, for strict classes, which take no texts; None where one is of another."""
        made = dict(values)
        try:
            for name, form, _ in self._read:
                if form != "bytes" and raw.get(name) is not None:
                    adapter = field_adapter(self.model, name)
                    made[name] = (
                        adapter.validate_python(values[name]) if form == "text" else adapter.validate_json(raw[name])
                    )
        except ValidationError:
            return None
        return made

    def parse_many(self, raw: Sequence[Raw]) -> list[Any]:
        """Do the same for many."""
        if self.is_json:
            made = [one.pop(MADE) for one in raw if MADE in one]
            if len(made) == len(raw):
                return made
            records = self.made([one["id"] for one in raw], [one[DOCUMENT] for one in raw])
            if records is not None:
                return records
        return [self.parse(one) for one in raw]

    def made(self, ids: Sequence[Any], texts: Sequence[bytes]) -> list[Any] | None:
        """Make records of JSON texts by one call; None where one of them is none, or another one."""
        # As one text. A text that is no record makes it none, or one of other ids: no string has a line's end in it,
        # and what else begins in one text and ends in the next was made for that.
        with suppress(ValidationError):
            records: list[Any] = self._validate_array(b"[%b]" % b",\n".join(texts), by_name=True)
            if [record.id for record in records] == ids:
                return records
        return None

    def encode(self, record: Any) -> Raw:
        """Return what is kept of a record. Raises ``ValueError`` for what cannot be kept."""
        state = record.__dict__
        raw: Raw = {"id": record.id}
        if self.is_json:
            values = {name: state[name] for name in ("id", *self.fields) if name in state}
            for name in self._secret & values.keys():
                values[name] = _revealed(values[name])
            raw[DOCUMENT] = as_json(values)
        else:
            for name in self.fields:
                value = state.get(name)
                if value is not None:
                    raw[name] = self.field(name, value)
        if TTL in state:
            raw[LIFE] = state[TTL]
        return raw

    def field(self, name: str, value: Any) -> bytes:
        """Return what is kept of a field's value. Raises ``ValueError`` for what cannot be kept."""
        form = self._forms[name]
        if name in self._secret:
            value = _revealed(value)
        if form == "bytes" and isinstance(value, bytes):
            return value
        return text_of(value) if form == "text" else as_json(value)

    def json(self, name: str, value: Any) -> bytes:
        """Return a field's value as JSON. Raises ``ValueError`` for what cannot be kept."""
        return as_json(_revealed(value) if name in self._secret else value)


@lru_cache(maxsize=1024)
def codec_of(model: Any) -> Codec:
    """Return what is known of a class of records."""
    return Codec(model)


def form_of(annotation: Any) -> tuple[Form, bool]:
    """Return how a field's values are kept, and whether None is one of them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return form_of(arguments[0])
    if origin in (Union, types.UnionType):
        others = [one for one in arguments if one is not type(None)]
        form, _ = form_of(others[0]) if len(others) == 1 else ("json", False)
        return form, len(others) < len(arguments)
    if annotation is Any:
        return "json", True
    if annotation in (bytes, SecretBytes):
        return "bytes", False
    if isinstance(annotation, type):
        if issubclass(annotation, enum.Enum):
            return ("text" if all(isinstance(one.value, str) for one in annotation) else "json"), False
        if annotation is bool or issubclass(annotation, _TEXTS):
            return "text", False
    return "json", _takes_none(annotation)


def _takes_none(annotation: Any) -> bool:
    """Say whether None is a value of what has no form of its own: a ``Literal``, or an alias of several types."""
    try:
        return TypeAdapter(annotation).validate_python(None) is None
    except (ValidationError, PydanticUserError):
        return False


def text_of(value: Any) -> bytes:
    """Return a plain value's text. Raises ``ValueError`` for what has none."""
    kind = type(value)
    if kind is str:
        return _encoded(value)
    if kind is bool:
        return b"1" if value else b"0"
    if isinstance(value, enum.Enum):
        return text_of(value.value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise UnfitValueError("an integer of more than 64 bits")
        return b"%d" % value
    if isinstance(value, float):
        return repr(float(value)).encode()
    if isinstance(value, Decimal | UUID | str):
        return _encoded(str(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat().encode()
    return as_json(value).strip(b'"')


def id_text(value: Any) -> bytes:
    """Return the part of a key that an ``id`` is; equal ids have one."""
    if isinstance(value, datetime.datetime) and value.utcoffset() is not None:
        value = value.astimezone(datetime.UTC)
    elif isinstance(value, float):
        value += 0.0  # There is a zero below zero, which equals zero.
    elif isinstance(value, Decimal) and value.is_finite():
        return _shortest(value)
    return value if isinstance(value, bytes) else text_of(value)


def _shortest(value: Decimal) -> bytes:
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return b"0" if text in ("-0", "") else text.encode()


def as_json(value: Any) -> bytes:
    """Return a value as JSON. Raises ``ValueError`` for what has no form there."""
    _check(value)
    try:
        return to_json(value, inf_nan_mode="constants", bytes_mode="utf8", by_alias=False)
    except ValueError as error:  # pydantic's own, which is one of these.
        raise UnfitValueError("a value that JSON has no form for") from error


def _holds_secrets(annotation: Any, seen: tuple[Any, ...] = ()) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        return any(_holds_secrets(one.annotation, (*seen, annotation)) for one in annotation.model_fields.values())
    return any(_holds_secrets(one, seen) for one in get_args(annotation))


def _revealed(value: Any) -> Any:
    """Return a value with the secrets that are in it, in whose place pydantic would write stars."""
    if isinstance(value, SecretStr | SecretBytes):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: _revealed(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {name: _revealed(inner) for name, inner in value.items()}
    return [_revealed(one) for one in value] if isinstance(value, list | tuple | set | frozenset) else value


def _check(value: Any) -> None:
    """Look for texts that are not Unicode, which would be told of in words that repeat them."""
    if isinstance(value, str):
        _encoded(value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _check(name)
            _check(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _check(inner)


def _encoded(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise UnfitValueError("a text that is not Unicode") from None
