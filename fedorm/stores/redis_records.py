"""``FederatedRecord``: a pydantic model kept in Redis under ``name:id``, as a hash or as a JSON text."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel

from fedorm.stores.entity import Entity, EntityMeta


class FederatedRecord(Entity, BaseModel, metaclass=EntityMeta):
    """The base of every record; ``__service__`` names the owner, ``Settings.name`` what stands before its keys."""

    __abstract__: ClassVar[bool] = True
