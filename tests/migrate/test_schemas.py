"""Tables in a schema that their models name, and what they have there."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Any

from sqlalchemy import ARRAY, Enum, Interval, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase
from fedorm.migrate import Drift
from tests.migrate.conftest import Federate, on, tables


class Hall(enum.Enum):
    NORTH = 1
    SOUTH = 2


class MigratedHall(FederatedBase):
    __service__, __tablename__ = "mig_halls", "Mig Halls"
    __table_args__ = ({"schema": "Mig Fair"},)
    id: Mapped[int] = mapped_column(primary_key=True)
    kinds: Mapped[list[Hall]] = mapped_column(ARRAY(Enum(Hall, name="Hall Kind", schema="Mig Fair")))
    lasts: Mapped[timedelta | None] = mapped_column(Interval)


async def test_a_schema_of_the_models(postgresql_url: str, federate: Federate) -> None:
    """What is made in a schema is found there, its enums go with a downgrade, and schemas of others stay unseen."""
    on(
        postgresql_url,
        lambda one: [
            one.exec_driver_sql('CREATE SCHEMA "Mig Fair"'),
            one.exec_driver_sql("CREATE SCHEMA others"),
            one.exec_driver_sql("CREATE TABLE others.theirs (id INTEGER)"),
        ],
    )
    fed = federate(mig_halls=postgresql_url)
    fed.migrate.init()
    await fed.migrate.revision("mig_halls", "make all", autogenerate=True)
    done = await fed.migrate.upgrade()
    assert await fed.migrate.check() == []
    assert await fed.migrate.revision("mig_halls", "nothing", autogenerate=True) is None

    on(postgresql_url, lambda one: one.exec_driver_sql('ALTER TYPE "Mig Fair"."Hall Kind" ADD VALUE \'WEST\''))
    said = "column kinds takes NORTH, SOUTH, WEST, and NORTH, SOUTH in the models"
    assert await fed.migrate.check() == [Drift("mig_halls", "Mig Fair.Mig Halls", said)]

    assert await fed.migrate.downgrade("mig_halls", "base") == done
    assert tables(postgresql_url) == []
    left: Any = text(
        "SELECT typname FROM pg_type JOIN pg_namespace n ON n.oid = typnamespace WHERE nspname = 'Mig Fair'"
    )
    assert on(postgresql_url, lambda one: one.execute(left).all()) == []
    assert await fed.migrate.upgrade() == done
