"""Rules that cannot be: refused before anything is carried out, with what to change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import DateTime, Integer, Numeric, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation
from fedorm.sync import CDC, Batch, EventDriven, RealTime, SyncRule, SyncRuleError, UnknownRuleError
from tests.sync.parts import MAPPED, Deal, Dealer, OtherPurchase, PurchaseFact, PurchaseSummary


class PartMoment(FederatedBase):
    __service__ = "parts_far"
    __tablename__ = "part_moments"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[Any] = mapped_column(DateTime)


class PartLabel(FederatedBase):
    __service__ = "parts_far"
    __tablename__ = "part_labels"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(unique=True)
    text: Mapped[str] = mapped_column(String(20))
    language: Mapped[str] = mapped_column(String(2), default="en")
    made_by: Mapped[str] = mapped_column(String(9), server_default="them")
    hint: Mapped[str | None] = mapped_column(String(20))


class PartPair(FederatedBase):
    __service__ = "parts_far"
    __tablename__ = "part_pairs"
    first: Mapped[int] = mapped_column(Integer, primary_key=True)
    second: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    total: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))


@pytest.fixture
async def fed(tmp_path: Path) -> AsyncIterator[Federation]:
    names = ("parts_near", "parts_far", "parts_third", "parts_buyers")
    async with Federation({name: f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in names}) as federation:
        yield federation


def _rule(**options: Any) -> Callable[[], SyncRule]:
    given = {"source": Deal, "to": PurchaseFact, "strategy": Batch(), "fields": MAPPED} | options
    return lambda: SyncRule(**given)


REFUSED = {
    "no-source": (_rule(source=None), r"source=\.\.\."),
    "unknown-field": (
        _rule(fields={"idd": "purchase_id"}),
        r"'Deal:PurchaseFact'.*'idd'.*Deal does not have",
    ),
    "unknown-target-field": (_rule(fields={"id": "fact_id"}), r"'fact_id'.*PurchaseFact does not have; it has.*value"),
    "unknown-target": (_rule(to="Nothing"), r"Nothing"),
    "unknown-table": (_rule(to="parts_far.nothing"), r"parts_far\.nothing"),
    "no-path": (_rule(fields={"buyer.email": "note"}), r"'buyer\.email'.*load=\[Deal\.buyer\]"),
    "no-relationship": (_rule(load=["total"]), r"load='total' is no relationship of Deal"),
    "other-type": (
        _rule(to=PartMoment, fields=None),
        r"Deal\.total is a Decimal \(number\) and PartMoment\.total a datetime \(moment\).*transform=",
    ),
    "other-key": (_rule(to=PartPair, fields=None), r"Deal is known by id, PartPair by first, second.*key="),
    "unknown-key": (
        _rule(key={"id": "nothing"}, fields=None),
        r"key names 'nothing', which PurchaseFact does not have",
    ),
    "half-a-key": (
        _rule(source=PartPair, to=PurchaseSummary, fields=None, key={"first": "purchase_id"}),
        r"of each of first, second where it is in PurchaseSummary",
    ),
    "unfilled": (
        _rule(to=PartLabel, fields=None, key={"id": "id"}),
        r"nothing fills PartLabel\.text, which cannot be NULL.*fields.*transform=.*FetchedValue\(\)",
    ),
    "itself": (_rule(to=Deal, fields=None), r"source and its target are the same, Deal"),
    "unknown-mark": (_rule(on_delete="mark", mark={"gone": 1}), r"mark names 'gone', which PurchaseFact"),
    "mark-of-nothing": (_rule(on_delete="mark"), r"mark=\{\"field\": value\}"),
    "other-on-delete": (_rule(on_delete="drop"), r"'delete', 'ignore' or 'mark'"),
    "two-transforms": (_rule(transform=print, transform_batch=print), r"either transform or transform_batch"),
    "no-strategy": (_rule(strategy="cdc"), r"Batch\(\), RealTime\(\), EventDriven\(\) or CDC\(\)"),
    "no-log": (_rule(strategy=CDC()), r"'parts_near' at sqlite.*no log of changes.*RealTime\(\) or Batch\(\)"),
    "unknown-changed": (_rule(strategy=RealTime(changed="when")), r"changed='when': Deal does not have that"),
    "events-of-related": (_rule(strategy=EventDriven(), load=[Deal.buyer]), r"load= goes with CDC\(\)"),
    "long-name": (_rule(name="x" * 101), r"1 to 100 characters"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
async def test_a_rule_is_refused(fed: Federation, refused: tuple[Callable[[], SyncRule], str]) -> None:
    """Whichever way it is wrong, and the federation is as it was before."""
    make, problem = refused
    with pytest.raises(SyncRuleError, match=problem):
        fed.sync.add(make())
    assert fed.sync.rules == {}


async def test_a_column_that_somebody_fills(fed: Federation) -> None:
    """The source, the user's own code, or a value that all rows of the rule have."""
    strategy = Batch(detect_deletes=False)
    to: dict[str, Any] = {"to": PartLabel, "fields": None, "key": {"id": "id"}, "strategy": strategy}
    fed.sync.add(_rule(name="by a field", **to | {"fields": {"total": "text"}})())
    fed.sync.add(_rule(name="by code", **to, transform=lambda row: row)())
    fed.sync.add(_rule(name="by itself", **to, owns={"text": "x"})())
    assert len(fed.sync.rules) == 3


async def test_numbers_that_cannot_be() -> None:
    with pytest.raises(SyncRuleError, match=r"Batch\(page=0\): at least 1"):
        Batch(page=0)
    with pytest.raises(SyncRuleError, match=r"RealTime\(poll=-1\): seconds"):
        RealTime(poll=-1)
    with pytest.raises(SyncRuleError, match="'session' or by 'triggers'"):
        EventDriven(by="magic")


async def test_a_circle(fed: Federation) -> None:
    """It is named in whole, however long it is."""
    fed.sync.add(SyncRule(source=Dealer, to=PurchaseSummary, strategy=Batch(detect_deletes=False)))
    fed.sync.add(SyncRule(source=PurchaseSummary, to=PurchaseFact, strategy=Batch(detect_deletes=False)))
    with pytest.raises(
        SyncRuleError, match=r"circle.*PurchaseFact -> Dealer|Dealer -> PurchaseSummary -> PurchaseFact"
    ):
        fed.sync.add(SyncRule(source=PurchaseFact, to=Dealer, strategy=Batch(detect_deletes=False)))
    assert len(fed.sync.rules) == 2


async def test_two_rules_that_would_remove_each_others_rows(fed: Federation) -> None:
    """Two rules for one target look for deletions neither of them; without that they may be."""
    fed.sync.add(_rule(name="one", strategy=Batch(detect_deletes=False))())
    with pytest.raises(SyncRuleError, match=r"'one', 'two' write to PurchaseFact.*detect_deletes=False"):
        fed.sync.add(_rule(name="two", source=OtherPurchase)())
    fed.sync.add(_rule(name="two", source=OtherPurchase, strategy=RealTime(detect_deletes=None))())
    assert sorted(fed.sync.rules) == ["one", "two"]


async def test_two_rules_of_one_name(fed: Federation) -> None:
    fed.sync.add(_rule()())
    with pytest.raises(SyncRuleError, match=r"two sync rules have the name 'Deal:PurchaseFact'.*name="):
        fed.sync.add(_rule()())


async def test_names_that_no_rule_has(fed: Federation) -> None:
    """Each command says which there are."""
    fed.sync.add(_rule(name="one")())
    for command in (fed.sync.verify, fed.sync.backfill, fed.sync.pause, fed.sync.dead_letters, fed.sync.reset):
        with pytest.raises(UnknownRuleError, match=r"'two'; there are: one"):
            await command("two")
    with pytest.raises(UnknownRuleError, match=r"'two'; there are: one"):
        await fed.sync.run(["two"])


async def test_nothing_to_carry_out(fed: Federation) -> None:
    with pytest.raises(SyncRuleError, match="__sync__"):
        await fed.sync.run()


def test_what_a_model_declares_is_a_list_of_rules() -> None:
    with pytest.raises(SyncRuleError, match=r"Lonely.__sync__: write a list"):

        class Lonely(FederatedBase):
            __service__ = "parts_lonely"
            __tablename__ = "lonely"
            __sync__ = SyncRule(to="Nobody", strategy=Batch())
            id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(SyncRuleError, match=r"Lonelier.__sync__ holds 'Nobody', which is no SyncRule"):

        class Lonelier(FederatedBase):
            __service__ = "parts_lonely"
            __tablename__ = "lonelier"
            __sync__ = ["Nobody"]
            id: Mapped[int] = mapped_column(primary_key=True)
