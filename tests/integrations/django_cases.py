"""Test cases as a Django project has them; ``test_django.py`` runs them with Django's own runner."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User as DjangoUser
from django.db import connections, router
from django.test import AsyncClient, override_settings
from sqlalchemy import select

from examples.web.models import Reader
from fedorm import FedormError
from fedorm.integrations.django.testing import FederatedTestCase

ENDINGS = ("200", "409", "rollback", "refused", "broken")


class Library(FederatedTestCase):
    """Each test begins with no reader, though each commits some."""

    databases = {"default", "readers"}

    def readers(self) -> list[int]:
        with self.federation.sync_session() as session:
            return list(session.scalars(select(Reader.id).order_by(Reader.id)))

    def test_a_view(self) -> None:
        """What it commits is there, what it does not is undone."""
        self.assertEqual(self.readers(), [])
        self.assertEqual(self.client.post("/enrol/1?name=Ada&book=Emma").status_code, 201)
        self.assertEqual(self.client.post("/enrol/2?name=Bob&book=Emma").status_code, 409)
        self.assertEqual(self.readers(), [1])

    def test_another_view(self) -> None:
        """Nothing is left of the other test."""
        self.test_a_view()

    async def test_an_async_view(self) -> None:
        """It reads what the test has committed."""
        async with self.federation.session() as session:
            self.assertEqual(list(await session.scalars(select(Reader.id))), [])
            session.add(Reader(id=1, name="Ada"))
            await session.commit()
        client: Any = AsyncClient()
        self.assertEqual((await client.get("/readers/1")).json(), {"name": "Ada", "books": []})
        self.assertEqual((await client.get("/readers/2")).status_code, 404)

    async def test_another_async_view(self) -> None:
        """Nothing is left of the other test."""
        await self.test_an_async_view()

    def test_an_async_view_over_wsgi(self) -> None:
        """The error says what it needs."""
        with self.assertRaisesRegex(FedormError, "needs an ASGI server"):
            self.client.get("/readers/1")

    def test_a_transaction_a_request(self) -> None:
        """A view that raises, or asks for it, is undone; any other commits, and a commit's failure is an error."""
        self.client.raise_request_exception = False
        with override_settings(ROOT_URLCONF="tests.integrations.django_endings"):
            answers = [self.client.get(f"/sync/{number}/{ending}") for number, ending in enumerate(ENDINGS, 1)]
            self.assertEqual([answer.status_code for answer in answers], [200, 409, 200, 403, 500])
            self.assertEqual(self.client.get("/sync/1/200").status_code, 500)
        self.assertEqual(self.readers(), [1, 2])

    async def test_a_transaction_an_async_request(self) -> None:
        """The same in async views."""
        client: Any = AsyncClient(raise_request_exception=False)
        with override_settings(ROOT_URLCONF="tests.integrations.django_endings"):
            answers = [await client.get(f"/async/{number}/{ending}") for number, ending in enumerate(ENDINGS, 1)]
            self.assertEqual([answer.status_code for answer in answers], [200, 409, 200, 403, 500])
            self.assertEqual((await client.get("/async/1/200")).status_code, 500)
        async with self.federation.session() as session:
            self.assertEqual(list(await session.scalars(select(Reader.id).order_by(Reader.id))), [1, 2])

    async def test_health_and_metrics(self) -> None:
        """Over ASGI and over WSGI: every service's state, and the figures of this federation alone."""
        client: Any = AsyncClient()
        for get in (client.get, sync_to_async(self.client.get)):
            answer = await get("/health")
            self.assertEqual((answer.status_code, answer.headers["Cache-Control"]), (200, "no-store"))
            states = {name: one["state"] for name, one in answer.json()["services"].items()}
            self.assertEqual(states, {"readers": "up", "loans": "up"})
            metrics = await get("/metrics")
            self.assertTrue(metrics.headers["Content-Type"].startswith("text/plain"))
            self.assertIn('fedorm_service_rows_total{service="readers"}', metrics.content.decode())

    def test_tables_of_django(self) -> None:
        """They are in its own database alone."""
        self.assertIn("auth_user", connections["default"].introspection.table_names())
        self.assertLessEqual(set(connections["readers"].introspection.table_names()), {"django_migrations"})
        self.assertEqual([router.allow_migrate_model(db, DjangoUser) for db in ("default", "readers")], [True, False])
