"""Where a broker is: what is shown of it holds no password."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from fedorm.config import address_of


class Address:
    """A broker's URL, or a broker object of FastStream's; what is shown of it holds no password."""

    def __init__(self, broker: Any, kind: str) -> None:
        self.given = broker
        self.is_url = isinstance(broker, str)
        self._secrets: set[str] = set()
        self._shown = f"the {kind} broker"
        if self.is_url:
            for url in self.urls:
                credentials = url.partition("://")[2].rpartition("@")[0]
                password = credentials.partition(":")[2] or credentials  # NATS: a token by itself
                self._secrets |= {password, unquote(password)} - {""}
            self._shown = ",".join(map(address_of, self.urls))

    def __str__(self) -> str:
        return self.scrub(self._shown)

    def scrub(self, text: str) -> str:
        """Return ``text`` without this broker's password."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    @property
    def urls(self) -> list[str]:
        """The URL, or several that were given with commas between them."""
        return re.split(r",(?=[a-z+]+://)", self.given)

    @property
    def user(self) -> tuple[str, str] | None:
        """The URL's user and password."""
        parts = urlsplit(self.urls[0])
        return (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
