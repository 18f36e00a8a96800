"""A middleware that gives each request its sessions, and closes them when its view has returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.utils.decorators import sync_and_async_middleware

from fedorm.exc import FederationOpenError
from fedorm.integrations.django.sessions import RequestSessions, opened_for_tasks, option


@sync_and_async_middleware
def SessionMiddleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:  # noqa: N802 - a name in settings
    """Set ``request.fedorm``, whose ``session`` and ``async_session`` are the request's own.

    What a view does not commit is undone when it has returned, before a streamed response is read. With
    ``FEDORM = {"TRANSACTIONS": True}`` each request is a transaction, which is committed when its view has returned a
    response, and undone when it has raised, or has called ``request.fedorm.set_rollback()``.
    """
    commits = bool(option("TRANSACTIONS", False))

    def undo(request: Any, error: Exception) -> None:
        """Note that the view has raised: Django makes a response of that before it comes here."""
        request.fedorm.set_rollback()

    if not iscoroutinefunction(get_response):

        def handle(request: Any) -> Any:
            request.fedorm = RequestSessions(is_asgi=False)
            try:
                response = get_response(request)
                if commits:
                    request.fedorm.commit()
                return response
            finally:
                request.fedorm.close()

        handle.process_exception = undo  # type: ignore[attr-defined]
        return handle

    async def handle_async(request: Any) -> Any:
        refusal = None
        try:
            await opened_for_tasks()
        except FederationOpenError as error:  # Of no interest to a view that asks for no session.
            refusal = error
        request.fedorm = RequestSessions(is_asgi=True, refusal=refusal)
        try:
            response = await get_response(request)
            if commits:
                await request.fedorm.acommit()
            return response
        finally:
            await request.fedorm.aclose()

    handle_async.process_exception = undo  # type: ignore[attr-defined]
    return handle_async
