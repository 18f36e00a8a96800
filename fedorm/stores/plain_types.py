"""Which fields hold one value that cannot change in place."""

from __future__ import annotations

import datetime
from decimal import Decimal
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

_PLAIN = (str, bytes, int, float, bool, type(None), datetime.date, datetime.datetime, Decimal, UUID, Enum)


def is_plain(annotation: Any) -> bool:
    """Say whether a field of this annotation holds one value that cannot change in place."""
    if get_origin(annotation) in (Union, UnionType):
        return all(is_plain(kind) for kind in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return is_plain(get_args(annotation)[0])
    return isinstance(annotation, type) and (issubclass(annotation, _PLAIN) or annotation.__name__.endswith("ObjectId"))
