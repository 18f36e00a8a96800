"""Copies of rows that are gone are marked, and those of rows that are back are not, whatever brings them there."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument, Federation
from fedorm.sync import CDC, Batch, RealTime, Replacing, SyncRule, SyncRuleError
from fedorm.sync.resolving import resolved
from fedorm.sync.strategies import Strategy
from tests.sync.parts import add, change, remove
from tests.sync.watching import exact_to, rows_of, until

MOMENT = datetime.datetime(2024, 2, 29, 12, 0, 1)
HERE, GONE = (False, None), (True, MOMENT)


class Booth(FederatedBase):
    __service__, __tablename__ = "booths_near", "booths"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), default="tea")


class BoothCopy(FederatedBase):
    __service__, __tablename__ = "booths_far", "booth_copies"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(20))
    gone: Mapped[bool]
    gone_at: Mapped[datetime.datetime | None]


class BoothLine(Replacing, FederatedBase):
    __service__, __tablename__ = "booths_appended", "booth_lines"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(20))
    gone: Mapped[bool]
    gone_at: Mapped[datetime.datetime | None]


class BoothPage(FederatedDocument):
    __service__ = "booths_documents"
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    name: str
    gone: bool
    gone_at: datetime.datetime | None = None

    class Settings:
        name = "booths"


def marking(to: Any, strategy: Strategy, **options: Any) -> SyncRule:
    given = {"mark": {"gone": True, "gone_at": lambda: MOMENT}} | options
    return SyncRule(source=Booth, to=to, strategy=strategy, on_delete="mark", name="booths", **given)


async def marks(fed: Federation, to: Any) -> dict[int, tuple[bool, Any]]:
    plain = exact_to(1.0)
    return {key: (bool(row["gone"]), plain(row["gone_at"])) for key, row in (await rows_of(fed, to)).items()}


async def become(fed: Federation, to: Any, wanted: dict[int, Any]) -> None:
    async def are() -> bool:
        return await marks(fed, to) == wanted

    await until(are, what=f"{wanted}")


@pytest.mark.parametrize(
    ("kind", "to", "strategy"),
    [
        ("postgresql", BoothCopy, CDC()),
        ("mysql", BoothCopy, Batch(every=0.1)),
        ("sqlite", BoothCopy, RealTime(poll=0.1, detect_deletes=0.1)),
        ("mongodb", BoothPage, CDC()),
        pytest.param("clickhouse", BoothLine, CDC(), marks=pytest.mark.clickhouse),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_row_that_comes_back_is_marked_no_more(
    kind: str, to: Any, strategy: Strategy, fresh_database: Callable[[str], str], tmp_path: Path
) -> None:
    """Whether it is followed, read in a batch or a snapshot, or mended; a comparison finds what has a wrong mark."""
    there = f"sqlite+aiosqlite:///{tmp_path}/far.db" if kind == "sqlite" else fresh_database(kind)
    services = {"booths_near": fresh_database("postgresql"), to.__service__: there}
    async with Federation(services) as fed:
        fed.sync.lease = 2.0
        fed.sync.add(marking(to, strategy))
        await fed.create_all()
        await add(fed, Booth(id=1), Booth(id=2))
        async with fed.sync.running():
            await become(fed, to, {1: HERE, 2: HERE})
            await remove(fed, Booth, 1)
            await become(fed, to, {1: GONE, 2: HERE})
            await add(fed, Booth(id=1))
            await become(fed, to, {1: HERE, 2: HERE})
        await remove(fed, Booth, 1)
        await remove(fed, Booth, 2)
        filled = await fed.sync.backfill("booths")
        assert (filled.written, filled.deleted, await marks(fed, to)) == (0, 2, {1: GONE, 2: GONE})
        assert (await fed.sync.verify("booths")).equal
        await add(fed, Booth(id=1), Booth(id=2, name="figs"))
        found = await fed.sync.verify("booths", repair=True)
        assert {tuple(one.key): set(one.fields) for one in found.differences} == {
            (1,): {"gone", "gone_at"},
            (2,): {"gone", "gone_at", "name"},
        }
        assert (found.equal, found.repaired, await marks(fed, to)) == (True, 2, {1: HERE, 2: HERE})
        await remove(fed, Booth, 2)
        found = await fed.sync.verify("booths", repair=True)
        assert (found.superfluous, found.repaired, await marks(fed, to)) == (1, 1, {1: HERE, 2: GONE})
        await add(fed, Booth(id=2))
        filled = await fed.sync.backfill("booths")
        assert (filled.written, filled.deleted, await marks(fed, to)) == (1, 0, {1: HERE, 2: HERE})
        async with fed.sync.running():
            await change(fed, Booth, 2, name="oil")
            await until(lambda: _is_named(fed, to, "oil"))
        assert (await fed.sync.verify("booths")).equal


async def _is_named(fed: Federation, to: Any, name: str) -> bool:
    return bool((await rows_of(fed, to))[2]["name"] == name)


def test_what_a_row_has_that_is_back() -> None:
    """It is said by the rule's code, by ``unmark``, or by the kind of mark; a rule of which nothing does is refused."""

    def unmarked(**options: Any) -> dict[str, Any]:
        return resolved(marking(BoothCopy, Batch(), **options), {}).mapping.unmark

    assert unmarked() == {"gone": False, "gone_at": None}
    assert unmarked(mark={"gone": False}) == {"gone": True}
    assert unmarked(mark={"gone": True}, unmark={"gone": 0}) == {"gone": False}
    assert unmarked(mark={"name": "gone"}) == {}  # It is copied.
    lacking = {"mark": {"name": "-"}, "fields": {}, "copy_unmapped": False}
    assert unmarked(**lacking, unmark={"name": "back"}) == {"name": "back"}
    assert unmarked(**lacking, transform=lambda row: row) == {}
    with pytest.raises(SyncRuleError, match=r"says what BoothCopy.name is then.* unmark=\{'name': \.\.\.\}"):
        unmarked(**lacking)
    with pytest.raises(SyncRuleError, match=r"unmark=\{'gone_at': 1\}: it is of fields that  mark  sets"):
        unmarked(mark={"gone": True}, unmark={"gone_at": 1})
