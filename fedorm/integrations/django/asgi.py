"""Django's ASGI application with a lifespan, which Django itself has none of."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.asgi import get_asgi_application as django_application

from fedorm.integrations.django.sessions import federation, in_process


def get_asgi_application() -> Any:
    """Return the application, which opens the federation when the server starts, and closes it when it stops."""
    application = django_application()

    async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        await receive()
        try:
            await federation().open()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await federation().close()
        await asyncio.to_thread(in_process().close)
        await send({"type": "lifespan.shutdown.complete"})

    return with_lifespan
