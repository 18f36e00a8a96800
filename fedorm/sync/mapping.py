"""From rows of the source to rows of the target: filter, mapping, transform, in this order."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, cast

from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import set_committed_value

from fedorm.entity import is_document
from fedorm.stores.passing import Pair
from fedorm.stores.rows import Key, RowShape, Values
from fedorm.sync.coercing import Convert, coercers, needless
from fedorm.sync.errors import RowFailedError
from fedorm.sync.keys import NO_KEY, is_key
from fedorm.sync.rule import SyncRule

Loaded = Any
"""What a row comes with where related objects are loaded: the object of the source's model."""


class MappedRow(dict[str, Any]):
    """A row as the target is to have it, by the target's fields; ``source`` is the row it was made of."""

    source: Values

    def __init__(self, values: Values, source: Values) -> None:
        super().__init__(values)
        self.source = source


@dataclass(slots=True)
class Outcome:
    """What has become of one row: it is wanted with ``values``, is not wanted, or has failed with ``error``."""

    key: Key
    """Of the target."""
    source: Values
    values: Values | None = None
    error: Exception | None = None


class Mapping:
    """Carries out one rule's own code; ``copied`` are pairs of a field, or path to one, and the target's field.

    ``unmark`` is what a row has of which nothing else says it, ``owns`` what it has whatever else says.
    """

    def __init__(
        self,
        rule: SyncRule,
        name: str,
        source: RowShape,
        target: RowShape,
        *,
        key: Sequence[tuple[str, str]],
        copied: Sequence[tuple[str, str]],
        unmark: Values,
        owns: Values,
    ) -> None:
        self.rule, self.name, self.source, self.target = rule, name, source, target
        self.key_fields = tuple(key)
        """Pairs of a field of the source's key and the target's field, in the order of the target's key."""
        self.copied = tuple(copied)
        self.unmark, self.owns = unmark, owns
        self._coerce = coercers(target)
        at = {name: place for place, name in enumerate(source.key)}
        self._places = tuple(at[mine] for mine, _ in self.key_fields)
        self._back = tuple(
            next(place for place, (mine, _) in enumerate(self.key_fields) if mine == name) for name in source.key
        )
        self._source_coerce = coercers(source)
        self._pairs: list[Pair] | None = None
        if not rule.looks_at_rows and all(mine in source.fields for mine, _ in self.copied):
            self._pairs = [Pair(mine, theirs, self._coercion(mine, theirs)) for mine, theirs in self.copied]
        self.pairs = None if unmark or owns else self._pairs
        """Which field goes where, if that is all there is to do."""
        self._relations = {str(getattr(attribute, "key", attribute)) for attribute in rule.load}
        self.key_of = _picking(source.key)
        """Returns the source's key among a row's values."""
        self._picked = [(mine, self._coercion(mine, theirs)) for mine, theirs in self.key_fields]

    def _coercion(self, mine: str, theirs: str) -> Convert | None:
        """Return what makes a value of one field fit another; None where each does."""
        one, other = self.source.columns.get(mine), self.target.columns.get(theirs)
        if self.target.document is not None or (
            one is not None and other is not None and needless(one.type, other.type)
        ):
            return None
        return self._coerce[theirs]

    def narrow(self, source: Collection[str], target: Collection[str]) -> set[str]:
        """Return the target's fields that floats of 32 bits go through, of these fields of the two sides."""
        if source and self.rule.looks_at_rows:
            return set(self.target.fields)  # Only the user's code knows what it has made of them.
        return {*target, *(theirs for mine, theirs in self.copied if mine in source)}

    # -- keys

    def target_key(self, key: Key) -> Key:
        """Return what the row of a source's key is known by in the target; none that ``is_key`` if it cannot be."""
        if not is_key(key):
            return key[1:]
        coerce = self._coerce
        try:
            return tuple(
                coerce[theirs](key[place]) for place, (_, theirs) in zip(self._places, self.key_fields, strict=True)
            )
        except Exception:
            return (NO_KEY, *key)

    def source_key(self, key: Key) -> Key:
        """Return which row of the source a target's key stands for; none that ``is_key`` if it can be none."""
        if not is_key(key):
            return key[1:]
        coerce = self._source_coerce
        try:
            return tuple(coerce[name](key[place]) for place, name in zip(self._back, self.source.key, strict=True))
        except Exception:
            return (NO_KEY, *key)

    # -- rows

    async def outcomes(self, rows: Sequence[Values], objects: Sequence[Loaded] | None = None) -> list[Outcome]:
        """Return what becomes of each row; ``objects`` are those of the rows, where the rule loads some.

        Never raises for what the user's code does: a row that fails is one with an error.
        """
        if self._pairs is not None:
            return self._copied(rows, self._pairs)
        made = [Outcome(self.target_key(self.key_of(row)), row) for row in rows]
        loaded: Sequence[Loaded] = objects if objects is not None else [None] * len(made)
        if self.rule.make is not None:
            for one, instance in zip(made, loaded, strict=True):
                await self._each(one, self._make, instance)
            return made
        wanted = []
        for one, instance in zip(made, loaded, strict=True):
            if await self._each(one, self._map, instance) and one.values is not None:
                wanted.append(one)
        if self.rule.transform_batch is not None:
            await self._transform_batch(wanted)
        return made

    def _copied(self, rows: Sequence[Values], pairs: Sequence[Pair]) -> list[Outcome]:
        """Do the same where there is no code of the user's: without a step for each row that could wait."""
        coerced = [(pair.target, pair.convert) for pair in pairs if pair.convert is not None]
        copied, constant, outcomes = self.copied, self.unmark | self.owns, []
        for row in rows:
            try:
                values = {theirs: row[mine] for mine, theirs in copied} | constant
                for name, coerce in coerced:
                    values[name] = coerce(values[name])
                key = tuple([row[mine] if fit is None else fit(row[mine]) for mine, fit in self._picked])
                outcomes.append(Outcome(key, row, values))
            except Exception:
                outcomes.append(self._copied_carefully(row))
        return outcomes

    def _copied_carefully(self, row: Values) -> Outcome:
        """Say which field it is that does not take its value."""
        one = Outcome(self.target_key(self.key_of(row)), row)
        try:
            one.values = self._finished({theirs: _at(row, mine) for mine, theirs in self.copied}, one.key)
        except Exception as error:
            one.error = error
        return one

    async def _each(self, one: Outcome, step: Callable[[Outcome, Loaded], Awaitable[None]], instance: Loaded) -> bool:
        try:
            await step(one, instance)
        except Exception as error:
            one.values, one.error = None, error
            return False
        return True

    async def _map(self, one: Outcome, instance: Loaded) -> None:
        rule, row = self.rule, one.source
        if instance is not None:
            row = one.source | {relation: getattr(instance, relation) for relation in self._relations}
        if rule.where is not None and not await _result(rule.where(row)):
            return
        values = {theirs: _at(row, mine) for mine, theirs in self.copied}
        if rule.transform is not None:
            values = await _result(rule.transform(MappedRow(values, row)))
            if values is None:
                return
        one.values = self._finished(values, one.key) if rule.transform_batch is None else MappedRow(values, row)

    async def _transform_batch(self, wanted: list[Outcome]) -> None:
        transform = self.rule.transform_batch
        assert transform is not None
        if not wanted:
            return
        try:
            rows = list(await _result(transform([one.values for one in wanted])))
            if len(rows) != len(wanted):
                raise RowFailedError(f"transform_batch was given {len(wanted)} rows and returned {len(rows)}")
        except Exception as error:
            if len(wanted) == 1:
                wanted[0].values, wanted[0].error = None, error
                return
            # One of them may be what it fails for: the others must not wait for that.
            middle = len(wanted) // 2
            await self._transform_batch(wanted[:middle])
            await self._transform_batch(wanted[middle:])
            return
        for one, values in zip(wanted, rows, strict=True):
            try:
                one.values = None if values is None else self._finished(values, one.key)
            except Exception as error:
                one.values, one.error = None, error

    async def _make(self, one: Outcome, instance: Loaded) -> None:
        rule = self.rule
        assert rule.make is not None
        if instance is None:
            instance = self._instance(one.source)
        made = await _result(rule.make(instance))
        if made is not None:
            one.values = self._finished(self._taken(made), one.key)

    def _instance(self, row: Values) -> Any:
        """Return an object of the source's model, of no session, with these values."""
        model = self.rule.source
        if self.source.document is not None:
            return self.source.document.model_construct(**row)
        mapper = cast("Mapper[Any]", model.__mapper__)
        instance = mapper.class_manager.new_instance()
        for name, value in row.items():
            set_committed_value(instance, name, value)
        return instance

    def _taken(self, made: Any) -> Values:
        """Return the values of an object of the target's model: those that were assigned."""
        if isinstance(made, dict):
            return made
        if is_document(type(made)):
            return {name: getattr(made, name) for name in self.target.fields if name in made.model_fields_set}
        given = vars(made)
        return {name: given[name] for name in self.target.fields if name in given}

    def _finished(self, values: Values, key: Key) -> Values:
        """Return what is written, in the types of the target's fields. Raises ``RowFailedError``."""
        finished: Values = {}
        for name, value in values.items():
            coerce = self._coerce.get(name)
            if coerce is None:
                raise RowFailedError(f"{self.target.label} has no field {name!r}")
            try:
                finished[name] = coerce(value)
            except (ValueError, TypeError, ArithmeticError, KeyError) as error:
                raise RowFailedError(f"{self.target.label}.{name} does not take {value!r}: {error}") from error
        if not is_key(key):
            raise RowFailedError(f"{self.target.label} has no key that stands for {key[1:]!r}")
        for name, value in self.unmark.items():
            finished.setdefault(name, value)
        finished |= self.owns
        for (mine, theirs), wanted in zip(self.key_fields, key, strict=True):
            if finished.setdefault(theirs, wanted) != wanted:
                raise RowFailedError(
                    f"{self.target.label}.{theirs} came out as {finished[theirs]!r}, but the row is known by {mine}="
                    f"{wanted!r}: a deletion would not find it; leave it, or say which field it is with  key={{...}}"
                )
        return finished


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _picking(names: Sequence[str]) -> Callable[[Values], Key]:
    if len(names) == 1:
        name = names[0]
        return lambda row: (row[name],)
    return itemgetter(*names)


def _at(row: Values, path: str) -> Any:
    """Return a value by its path: an object on the way that is not there makes it None."""
    if path in row:
        return row[path]
    first, *rest = path.split(".")
    value = row[first]
    for name in rest:
        if value is None:
            return None
        value = value.get(name) if isinstance(value, dict) else getattr(value, name)
    return value
