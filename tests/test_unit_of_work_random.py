"""The documents' unit of work against a plain dictionary, by random sequences."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from fedorm import Federation
from tests.page_models import Page, Sheet, pages

__all__ = ["pages"]


IDS = st.integers(1, 4)
VALUES = st.integers(0, 9)


class UnitOfWork(RuleBasedStateMachine):
    """What a session's user may do, beside a dictionary of what has to come out."""

    fed: Federation
    model: Any

    def __init__(self) -> None:
        super().__init__()
        self.session = self.fed.sync_session()
        self.session.find(self.model).delete()
        self.session.commit()
        self.stored: dict[int, Any] = {}
        self.now: dict[int, Any] = {}
        self.held: dict[int, Any] = {}
        self.savepoints: list[Any] = []

    def teardown(self) -> None:
        self.session.close()

    @rule(key=IDS, price=VALUES)
    def add(self, key: int, price: int) -> None:
        if key not in self.now:
            self.held[key] = self.model(id=key, price=price)
            self.session.add(self.held[key])
            self.now[key] = (price, [])

    @rule(key=IDS, price=VALUES)
    def assign(self, key: int, price: int) -> None:
        if key in self.held:
            self.held[key].price = price
            self.now[key] = (price, self.now[key][1])

    @rule(key=IDS)
    def change_in_place(self, key: int) -> None:
        if key in self.held:
            self.held[key].labels.append("x")
            self.now[key] = (self.now[key][0], [*self.now[key][1], "x"])

    @rule(key=IDS)
    def delete(self, key: int) -> None:
        if key in self.now:
            document = self.held.pop(key, None) or self.session.get(self.model, key)
            if document in self.session.new:
                self.session.expunge(document)
            else:
                self.session.delete(document)
            del self.now[key]

    @rule()
    def flush(self) -> None:
        self.session.flush()

    @rule(key=IDS)
    def get(self, key: int) -> None:
        found = self.session.get(self.model, key)
        assert (found is not None) is (key in self.now)
        if found is not None:
            assert self.held.setdefault(key, found) is found

    @precondition(lambda self: not self.savepoints)
    @rule()
    def find(self) -> None:
        found = {document.id: document for document in self.session.find(self.model)}
        assert found.keys() == self.now.keys()
        for key, document in found.items():
            assert self.held.setdefault(key, document) is document

    @precondition(lambda self: self.savepoints)
    @rule()
    def find_what_is_not_held_back(self) -> None:
        self.session.find(self.model).all()

    @rule(key=IDS, price=VALUES)
    def merge(self, key: int, price: int) -> None:
        self.held[key] = self.session.merge(self.model(id=key, price=price, labels=["m"]))
        self.now[key] = (price, ["m"])

    @precondition(lambda self: not self.savepoints)
    @rule(key=IDS)
    def refresh(self, key: int) -> None:
        if key in self.held:
            self.session.flush()
            self.session.refresh(self.held[key])

    @precondition(lambda self: not self.savepoints)
    @rule(key=IDS)
    def expunge(self, key: int) -> None:
        if key in self.held:
            self.session.flush()
            self.session.expunge(self.held.pop(key))

    @rule()
    def expire_all(self) -> None:
        self.session.expire_all()

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def savepoint(self) -> None:
        self.savepoints.append((self.session.begin_nested(), deepcopy(self.now), dict(self.held)))

    @precondition(lambda self: self.savepoints)
    @rule()
    def release_savepoint(self) -> None:
        self.savepoints.pop()[0].commit()

    @precondition(lambda self: self.savepoints)
    @rule()
    def rollback_to_savepoint(self) -> None:
        savepoint, self.now, before = self.savepoints.pop()
        savepoint.rollback()
        self.held = self._still_held() | before

    @rule()
    def commit(self) -> None:
        self.session.commit()
        self.savepoints.clear()
        self.stored = deepcopy(self.now)
        with self.fed.sync_session() as other:
            found = {document.id: (document.price, document.labels) for document in other.find(self.model)}
        assert found == self.stored

    @rule()
    def rollback(self) -> None:
        self.session.rollback()
        self.savepoints.clear()
        self.now = deepcopy(self.stored)
        self.held = self._still_held()

    def _still_held(self) -> dict[int, Any]:
        return {key: one for key, one in self.held.items() if key in self.now and one in self.session}

    @invariant()
    def documents_are_as_expected(self) -> None:
        held = {key: (one.price, one.labels, one in self.session) for key, one in self.held.items()}
        assert held == {key: (*self.now[key], True) for key in self.held}


@pytest.mark.parametrize("model", [Page, Sheet])
def test_documents_are_held_like_a_dictionary(mongodb_url: str, model: Any) -> None:
    """Whatever is added, changed, deleted, read, undone and committed, and in whatever order."""
    fed = Federation({"pages": mongodb_url})

    async def prepare() -> None:
        async with fed:
            await fed.create_all()

    asyncio.run(prepare())
    with fed:
        case: Any = type("Case", (UnitOfWork,), {"fed": fed, "model": model})
        limits = settings(
            max_examples=120, stateful_step_count=25, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        run_state_machine_as_test(case, settings=limits)
