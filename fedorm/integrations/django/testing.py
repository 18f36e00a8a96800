"""A test case after which every service is as it was before, as Django's own database is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.test import TestCase

from fedorm.federation import Federation
from fedorm.integrations.django.sessions import federation
from fedorm.testing.rolling_back import rolled_back, sync_rolled_back


class FederatedTestCase(TestCase):
    """``django.test.TestCase`` with ``self.federation``, for test methods with and without ``async``.

    It is open in each test, for ``session()`` in async ones; what sessions have done, those of views as well, is undone
    as ``fedorm.testing.rolling_back`` says. Tables that are not there are made before the first test of a class.
    """

    federation: ClassVar[Federation]

    @classmethod
    def setUpClass(cls) -> None:
        """Make the tables."""
        super().setUpClass()
        cls.federation = federation()

        async def make() -> None:
            async with cls.federation:
                await cls.federation.create_all()

        async_to_sync(make)()

    def __call__(self, result: Any = None) -> None:
        """Run the test with the federation open, in its own event loop if it is async."""
        method = getattr(self, self._testMethodName)
        if iscoroutinefunction(method):
            setattr(self, self._testMethodName, self._undone(method))
        super().__call__(result)

    def setUp(self) -> None:
        """Open the federation for threads; whatever is done there is undone after the test."""
        super().setUp()
        self.enterContext(self.federation)
        self.enterContext(sync_rolled_back(self.federation))

    def _undone(self, method: Callable[[], Any]) -> Callable[[], Any]:
        @wraps(method)
        async def undone() -> None:
            async with self.federation, rolled_back(self.federation):
                await method()

        return undone
