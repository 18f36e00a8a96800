"""What changes collections in a Beanie migration: ``schema_migration``, and how it is found out what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from inspect import signature
from typing import Any

from beanie.migrations.controllers.base import BaseMigrationController
from beanie.migrations.database import DBHandler

from fedorm.stores.mongodb_schema import Collection, Collections, Index

DATABASE: ContextVar[Any] = ContextVar("fedorm_migrated_database")
"""PyMongo's database that is migrated."""


class SchemaMigration(BaseMigrationController):
    """A method of ``Forward`` or ``Backward`` that is given ``Collections``, outside of any transaction."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._takes_self = "self" in signature(function).parameters

    @property
    def models(self) -> list[type[Any]]:
        """None are needed."""
        return []

    async def run(self, session: Any) -> None:
        """Call the method; carried out by Beanie itself, with the database that was named there."""
        database = DATABASE.get(None)
        if database is None:
            database = DBHandler.get_db()  # type: ignore[no-untyped-call]
        collections = Collections(database)
        await (self.function(None, collections) if self._takes_self else self.function(collections))


def schema_migration() -> Callable[[Callable[..., Any]], SchemaMigration]:
    """Mark a method of a migration that makes or drops collections and indexes, or sets validators.

    In ``Forward`` they are carried out before those that change documents, in ``Backward`` after them: a server does
    not change a collection in a transaction that has written to it.
    """
    return SchemaMigration


# -- differences


def differences(wanted: Collection, there: Collection) -> Iterator[str]:
    """Return how a collection differs from what models declare, in words."""
    for name in sorted({*wanted.indexes, *there.indexes}):
        mine, its = wanted.indexes.get(name), there.indexes.get(name)
        if its is None:
            yield f"index {name} is not there"
        elif mine is None:
            yield f"no model declares index {name}"
        elif mine != its:
            yield f"index {name} is on {_shown(its)}, and on {_shown(mine)} in the models"
    if wanted.validation != there.validation:
        if not there.validation:
            yield "the validator is not there"
        elif not wanted.validation:
            yield "no model declares the validator"
        else:
            yield "the validator is another one than in the models"


def _shown(index: Index) -> str:
    fields = ", ".join(name if direction == 1 else f"{name} ({direction})" for name, direction in index.key)
    options = ", ".join(f"{name} {value}" for name, value in sorted(index.options.items()))
    return f"{fields} with {options}" if options else fields


# -- revisions


def changes(before: Mapping[str, Collection], after: Mapping[str, Collection]) -> list[str]:
    """Return the lines of a migration that brings collections from one state to the other."""
    lines = []
    for name in sorted(set(after) - set(before)):
        options = "".join(f", {option}={value!r}" for option, value in after[name].validation.items())
        lines.append(f"await db.create_collection({name!r}{options})")
        lines += [_created(name, index, one) for index, one in sorted(after[name].indexes.items())]
    for name in sorted(set(after) & set(before)):
        lines += _changed(before[name], after[name])
    lines += [f"await db.drop_collection({name!r})" for name in sorted(set(before) - set(after))]
    return lines


def _changed(before: Collection, after: Collection) -> Iterator[str]:
    name = after.name
    for index in sorted(before.indexes):
        if after.indexes.get(index) != before.indexes[index]:
            yield f"await db.drop_index({name!r}, {index!r})"
    for index in sorted(after.indexes):
        if after.indexes[index] != before.indexes.get(index):
            yield _created(name, index, after.indexes[index])
    if before.validation != after.validation:
        said = after.validation
        options = f", {said['validator']!r}" if "validator" in said else ""
        options += f", level={said['validationLevel']!r}" if "validationLevel" in said else ""
        options += f", action={said['validationAction']!r}" if "validationAction" in said else ""
        yield f"await db.set_validation({name!r}{options})"


def _created(collection: str, name: str, index: Index) -> str:
    options = "".join(f", {option}={value!r}" for option, value in index.options.items())
    return f"await db.create_index({collection!r}, {name!r}, {list(index.key)!r}{options})"
