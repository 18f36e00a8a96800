"""Values come back as they were."""

from __future__ import annotations

from typing import Any

import pytest

from fedorm import FederatedSession, Federation
from fedorm.testing.compliance.base import (
    Lost,
    Models,
    Refused,
    Suite,
    everything_sync,
    ids_where,
    in_thread,
    read,
    refusal,
    write,
)
from fedorm.testing.compliance.values import CASES, Case, Feature, exactly

SYNC = 1000
"""Where the ids begin that the session for threads writes."""


class TypeSuite(Suite):
    """Types, one by one."""

    @pytest.mark.parametrize("case", CASES, ids=str)
    async def test_round_trip(
        self, fed: Federation, models: Models, case: Case, request: pytest.FixtureRequest
    ) -> None:
        """What either kind of session writes, both kinds read whole, beside NULL; or it is refused by name."""
        gap = self.gaps.get(case.feature) if case.feature is not None else None
        if isinstance(gap, Refused):
            await self._check_refusal(fed, models, case)
            return
        if isinstance(gap, Lost):
            request.applymarker(pytest.mark.xfail(reason=gap.reason, raises=AssertionError, strict=True))
        values = [*case.values, None]
        expected = [exactly(value) for value in values]
        await write(fed, self._samples(models, case, values, 0))

        def both_ways(session: FederatedSession) -> list[Any]:
            found = self._values(everything_sync(session, models.sample), case)
            session.add_all(self._samples(models, case, values, SYNC))
            session.commit()
            return found

        written = await read(fed, models.sample)
        assert self._values(written, case) == expected
        assert await in_thread(fed, both_ways) == expected
        assert self._values(await read(fed, models.sample), case) == expected * 2
        if case.equal:
            await self._check_equality(fed, models, case)

    async def test_all_columns_in_one_row(self, fed: Federation, models: Models) -> None:
        """A row with a value of every type, and one with none of them."""
        values = {case.column: case.values[-1] for case in CASES if case.feature is None}
        await write(fed, [models.sample(id=1, **values), models.sample(id=2)])
        full, empty = await read(fed, models.sample)
        assert {name: exactly(getattr(full, name)) for name in values} == {
            name: exactly(value) for name, value in values.items()
        }
        assert {name: getattr(empty, name) for name in values} == dict.fromkeys(values)

    async def test_numbers_that_do_not_fit(self, fed: Federation, models: Models) -> None:
        """An integer of more than 64 bits is refused by name, and nothing of it is written."""
        for value in (2**63, -(2**63) - 1, 2**200):
            with refusal():
                await write(fed, [models.sample(id=1, big=value)])
        assert await read(fed, models.sample) == []

    async def test_text_that_is_not_unicode(self, fed: Federation, models: Models) -> None:
        """A lone surrogate is refused by name."""
        with refusal():
            await write(fed, [models.sample(id=1, text="\ud800")])
        assert await read(fed, models.sample) == []

    def test_gaps_are_of_this_suite(self) -> None:
        """Every declared gap says why, and is checked by a case."""
        checked = {case.feature for case in CASES} | {Feature.DELETED_VERSIONS}
        assert all(gap.reason for gap in self.gaps.values())
        assert set(self.gaps) <= checked

    @staticmethod
    def _samples(models: Models, case: Case, values: list[Any], start: int) -> list[Any]:
        return [models.sample(id=start + number, **{case.column: value}) for number, value in enumerate(values)]

    @staticmethod
    def _values(samples: list[Any], case: Case) -> list[Any]:
        return [exactly(getattr(sample, case.column)) for sample in samples]

    @staticmethod
    async def _check_refusal(fed: Federation, models: Models, case: Case) -> None:
        for value in case.values:
            with refusal():
                await write(fed, [models.sample(id=1, **{case.column: value})])

            def commit(session: FederatedSession, value: Any = value) -> None:
                session.add(models.sample(id=1, **{case.column: value}))
                session.commit()

            with refusal():
                await in_thread(fed, commit)
        assert await read(fed, models.sample) == []

    @staticmethod
    async def _check_equality(fed: Federation, models: Models, case: Case) -> None:
        """A statement that looks for a value finds the rows that hold just that."""
        async with fed.session() as session:
            for number, value in enumerate(case.values):
                found = await ids_where(session, models.sample, case.column, value)
                if case.column == "text":
                    # Collations may take other texts for equal, too; keys have to be told apart all the same.
                    found = [one for one in found if one in (number, SYNC + number)]
                assert found == [number, SYNC + number], repr(value)
