"""One suite that every kind of store passes over a real server; it asks for capabilities, never for names.

A new store is ready for fedorm when this file passes:

    import pytest
    from fedorm.testing.compliance import Feature, Outage, Refused, StoreSuite

    class TestMyStore(StoreSuite):
        gaps = {Feature.LONG_DECIMALS: Refused("its decimals have 15 digits")}

        @pytest.fixture
        def url(self) -> str:
            "Give the URL of an empty database; remove it after the test."

        @pytest.fixture
        def outage(self) -> Outage:
            "Give an Outage: a server of this test's own that can go and come back."

``StoreSuite`` is made of ``TypeSuite``, ``KeySuite``, ``RowSuite``, ``SessionSuite``, ``ReflectionSuite``,
``ExaminingSuite`` and ``OutageSuite``, which can also be taken one by one. What a store cannot do is declared, never
skipped. A *capability* it lacks is read from ``store.capabilities``, and the tests then hold the store to what fedorm
promises for that case. A *feature* it lacks is named in ``gaps``: with ``Refused`` the suite checks that each such
value is refused by an error that names the service, with ``Lost`` that it really does not come back as it was. A gap
that has been closed fails the suite until it is taken out.

The tests are coroutines: run them with pytest-asyncio and ``asyncio_mode = "auto"``. ``settings`` holds further
settings of the service. The models of a store of documents are made of its ``entity_base()``.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in ("base", "blocks", "examining", "keys", "outages", "reflection", "sessions", "types", "values")
    )
)

from fedorm.testing.compliance.base import Gap, Lost, Refused  # noqa: E402
from fedorm.testing.compliance.blocks import RowSuite  # noqa: E402
from fedorm.testing.compliance.examining import ExaminingSuite  # noqa: E402
from fedorm.testing.compliance.keys import KeySuite  # noqa: E402
from fedorm.testing.compliance.outages import EmbeddedOutage, Outage, OutageSuite, ServerOutage  # noqa: E402
from fedorm.testing.compliance.reflection import ReflectionSuite  # noqa: E402
from fedorm.testing.compliance.sessions import SessionSuite  # noqa: E402
from fedorm.testing.compliance.types import TypeSuite  # noqa: E402
from fedorm.testing.compliance.values import CASES, Case, Feature  # noqa: E402


class StoreSuite(TypeSuite, KeySuite, RowSuite, SessionSuite, ReflectionSuite, ExaminingSuite, OutageSuite):
    """Everything a store has to pass."""


__all__ = [
    "StoreSuite",
    "TypeSuite",
    "KeySuite",
    "RowSuite",
    "SessionSuite",
    "ReflectionSuite",
    "ExaminingSuite",
    "OutageSuite",
    "Feature",
    "Case",
    "CASES",
    "Gap",
    "Refused",
    "Lost",
    "Outage",
    "ServerOutage",
    "EmbeddedOutage",
]
