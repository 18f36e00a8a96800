"""Views of both kinds that end as they are told to; none of them commits."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.urls import path

from examples.web.models import Reader


def in_thread(request: Any, number: int, ending: str) -> HttpResponse:
    request.fedorm.session.add(Reader(id=number, name="Ada"))
    return ended(request, ending)


async def in_task(request: Any, number: int, ending: str) -> HttpResponse:
    request.fedorm.async_session.add(Reader(id=number, name="Ada"))
    return ended(request, ending)


def ended(request: Any, ending: str) -> HttpResponse:
    if ending == "refused":
        raise PermissionDenied
    if ending == "broken":
        raise RuntimeError("broken")
    if ending == "rollback":
        request.fedorm.set_rollback()
        return HttpResponse()
    return HttpResponse(status=int(ending))


urlpatterns = [path("sync/<int:number>/<ending>", in_thread), path("async/<int:number>/<ending>", in_task)]
