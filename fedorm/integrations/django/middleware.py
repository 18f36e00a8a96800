"""A middleware that gives each request its sessions, and closes them when its view has returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.utils.decorators import sync_and_async_middleware

from fedorm.integrations.django.sessions import RequestSessions, opened_for_tasks


@sync_and_async_middleware
def SessionMiddleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:  # noqa: N802 - a name in settings
    """Set ``request.fedorm``, whose ``session`` and ``async_session`` are the request's own.

    What a view does not commit is undone when it has returned, before a streamed response is read.
    """
    if not iscoroutinefunction(get_response):

        def handle(request: Any) -> Any:
            request.fedorm = RequestSessions(is_asgi=False)
            try:
                return get_response(request)
            finally:
                request.fedorm.close()

        return handle

    async def handle_async(request: Any) -> Any:
        await opened_for_tasks()
        request.fedorm = RequestSessions(is_asgi=True)
        try:
            return await get_response(request)
        finally:
            await request.fedorm.aclose()

    return handle_async
