"""The tables of sagas: their state in one service, and a mark of each step in the service of the step."""

from __future__ import annotations

import enum

from sqlalchemy import JSON, Column, Double, Index, Integer, MetaData, String, Table, Text

from fedorm.bookkeeping import own_table

NAME = 100
"""How long the name of a saga, or of a step in it, may be."""
ID = 191


class State(enum.StrEnum):
    """How far a saga is."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    """A step has failed, and what was done before it is undone."""
    DONE = "done"
    COMPENSATED = "compensated"
    """Nothing of it is left."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to be done."""
        return self in (State.DONE, State.COMPENSATED)


class Mark(enum.StrEnum):
    """What the service of a step knows of it."""

    DONE = "done"
    UNDONE = "undone"
    VOID = "void"
    """It was compensated before it was done, and cannot be done any more."""


@own_table
def fedorm_sagas(metadata: MetaData) -> Table:
    """Return the table of the sagas that a service keeps.

    ``position`` is how many steps are done, or while it is compensated how many are still to be undone. ``owner`` has
    it up to ``until``. All moments are in seconds since 1970.
    """
    table = Table(
        "fedorm_sagas",
        metadata,
        Column("name", String(NAME), primary_key=True),
        Column("id", String(ID), primary_key=True),
        Column("key", String(32), nullable=False, unique=True),
        Column("state", String(20), nullable=False),
        Column("steps", JSON, nullable=False),
        Column("position", Integer, nullable=False, server_default="0"),
        Column("results", JSON, nullable=False),
        Column("failed_step", String(NAME)),
        Column("error", Text),
        Column("failures", Integer, nullable=False, server_default="0"),
        Column("next_at", Double, nullable=False, server_default="0"),
        Column("owner", String(32)),
        Column("until", Double, nullable=False, server_default="0"),
        Column("begun_at", Double, nullable=False),
        Column("ended_at", Double),
    )
    Index("ix_fedorm_sagas_state", table.c.state, table.c.until)
    return table


@own_table
def fedorm_saga_steps(metadata: MetaData) -> Table:
    """Return the table of the marks that steps leave in their own service, in the transaction of their effect."""
    table = Table(
        "fedorm_saga_steps",
        metadata,
        Column("saga", String(32), primary_key=True),
        Column("step", String(NAME), primary_key=True),
        Column("outcome", String(10), nullable=False),
        Column("result", JSON, nullable=False),
        Column("at", Double, nullable=False),
    )
    Index("ix_fedorm_saga_steps_at", table.c.at)
    return table
