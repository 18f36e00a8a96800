"""Views that tell of the federation."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from fedorm.exc import FederationOpenError
from fedorm.integrations.django.sessions import federation, in_process, opened_for_tasks
from fedorm.integrations.reports import UNCACHED, health_report, metrics_page, states_at_opening


@require_safe
async def health(request: Any) -> JsonResponse:
    """Ask every service how it is; the status is 503 when one is down."""
    if isinstance(request, ASGIRequest):
        try:
            states = await (await opened_for_tasks()).health()
        except FederationOpenError as error:
            states = states_at_opening(federation(), error)
    else:  # This event loop is the request's alone, and the connections of a pool belong to one.
        states = await sync_to_async(in_process().health)()
    status, report = health_report(states)
    return JsonResponse(report, status=status, headers=UNCACHED)


@require_safe
def metrics(request: Any) -> HttpResponse:
    """Return this process's figures for Prometheus; no service is asked."""
    page, media_type = metrics_page(federation(), request.headers.get("accept", ""))
    return HttpResponse(page, headers={"Content-Type": media_type})
