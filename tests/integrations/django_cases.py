"""Test cases as a Django project has them; ``test_django.py`` runs them with Django's own runner."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User as DjangoUser
from django.db import connections, router
from django.test import AsyncClient
from sqlalchemy import select

from examples.web.models import Reader
from fedorm import FedormError
from fedorm.integrations.django.testing import FederatedTestCase


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

    def test_tables_of_django(self) -> None:
        """They are in its own database alone."""
        self.assertIn("auth_user", connections["default"].introspection.table_names())
        self.assertLessEqual(set(connections["readers"].introspection.table_names()), {"django_migrations"})
        self.assertEqual([router.allow_migrate_model(db, DjangoUser) for db in ("default", "readers")], [True, False])
