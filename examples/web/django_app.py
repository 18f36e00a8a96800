"""The library in Django.

``python -m examples.web.django_app create-tables``, then ``uvicorn examples.web.django_app:app``, or, without its async
view, ``gunicorn examples.web.django_app:wsgi``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from django.conf import settings

from examples.web.models import SERVICES, Loan, Reader
from fedorm import federated_load

if not settings.configured:
    settings.configure(
        SECRET_KEY="only for this example",
        ALLOWED_HOSTS=["127.0.0.1", "localhost", "testserver"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "fedorm.integrations.django"],
        MIDDLEWARE=["fedorm.integrations.django.middleware.SessionMiddleware"],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
            "readers": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        },
        DATABASE_ROUTERS=["fedorm.integrations.django.router.FedormRouter"],
        FEDORM={"SERVICES": SERVICES, "TRANSACTIONS": True},
    )

from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import Http404, JsonResponse
from django.urls import include, path

from fedorm.integrations.django.asgi import get_asgi_application
from fedorm.integrations.django.sessions import federation


def enrol(request: Any, number: int) -> JsonResponse:
    """Take in a reader with a first book; a conflict undoes both."""
    name, book = request.GET["name"], request.GET["book"]
    session = request.fedorm.session
    session.add(Reader(id=number, name=name))
    session.flush()
    if session.get(Loan, book) is not None:
        request.fedorm.set_rollback()
        return JsonResponse({"error": f"{book} is lent"}, status=409)
    session.add(Loan(book=book, reader_id=number))
    return JsonResponse({"name": name, "books": [book]}, status=201)


async def card(request: Any, number: int) -> JsonResponse:
    """Show a reader's card."""
    found = await request.fedorm.async_session.get(Reader, number, options=[federated_load(Reader.loans)])
    if found is None:
        raise Http404
    return JsonResponse({"name": found.name, "books": [loan.book for loan in found.loans]})


def card_without_async(request: Any, number: int) -> JsonResponse:
    """Show the same in a view that servers of WSGI can run, too."""
    found = request.fedorm.session.get(Reader, number, options=[federated_load(Reader.loans)])
    if found is None:
        raise Http404
    return JsonResponse({"name": found.name, "books": [loan.book for loan in found.loans]})


urlpatterns = [
    path("enrol/<int:number>", enrol),
    path("readers/<int:number>", card),
    path("cards/<int:number>", card_without_async),
    path("", include("fedorm.integrations.django.urls")),
]
app = get_asgi_application()
wsgi = get_wsgi_application()


async def create_tables() -> None:
    """Make the tables; a real application has migrations."""
    async with federation() as fed:
        await fed.create_all()


if __name__ == "__main__":
    if sys.argv[1:] == ["create-tables"]:
        asyncio.run(create_tables())
    else:
        execute_from_command_line(sys.argv)
