"""fedorm: SQLAlchemy-style models, sessions and relationships over several databases."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fedorm.async_session import AsyncFederatedSession
from fedorm.exc import (
    AuthenticationError,
    ConfigurationError,
    CrossServiceForeignKeyError,
    CrossServiceRelationshipError,
    CrossServiceStatementError,
    DetachedError,
    DocumentValidationError,
    DuplicateKeyError,
    DuplicateTableError,
    FederatedLazyLoadError,
    FederationOpenError,
    FedormError,
    InDoubtError,
    KeyTypeError,
    MissingDriverError,
    MissingServiceError,
    MissingTargetError,
    ModelError,
    PartialCommitError,
    PoolExhaustedError,
    QueryError,
    RelationshipError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StaleDocumentError,
    StoreError,
    TLSError,
    TwoPhaseError,
    UnknownColumnError,
    UnknownFunctionError,
    UnknownServiceError,
    UnknownTableError,
    UnloadedKeyError,
    UnroutedStatementError,
    UnsupportedOperationError,
    UnsupportedQueryError,
)
from fedorm.federation import Federation, Health
from fedorm.model import FederatedBase
from fedorm.options import federated_load
from fedorm.orphans import Orphans
from fedorm.relationship import Federated, federated_relationship
from fedorm.session import FederatedSession

if TYPE_CHECKING:
    from fedorm.stores.document import FederatedDocument
    from fedorm.stores.elasticsearch_document import FederatedSearchDocument
    from fedorm.stores.redis_records import FederatedRecord

__all__ = [
    "Federation",
    "FederatedBase",
    "FederatedDocument",
    "FederatedRecord",
    "FederatedSearchDocument",
    "Federated",
    "federated_relationship",
    "federated_load",
    "AsyncFederatedSession",
    "FederatedSession",
    "Health",
    "Orphans",
    "FedormError",
    "ConfigurationError",
    "MissingDriverError",
    "ModelError",
    "MissingServiceError",
    "DuplicateTableError",
    "CrossServiceRelationshipError",
    "CrossServiceForeignKeyError",
    "RelationshipError",
    "KeyTypeError",
    "UnknownColumnError",
    "UnknownFunctionError",
    "UnknownServiceError",
    "UnroutedStatementError",
    "CrossServiceStatementError",
    "QueryError",
    "UnknownTableError",
    "UnsupportedQueryError",
    "StoreError",
    "ServiceUnavailableError",
    "ServiceTimeoutError",
    "AuthenticationError",
    "TLSError",
    "PoolExhaustedError",
    "FederationOpenError",
    "PartialCommitError",
    "TwoPhaseError",
    "InDoubtError",
    "UnsupportedOperationError",
    "FederatedLazyLoadError",
    "DetachedError",
    "MissingTargetError",
    "UnloadedKeyError",
    "DocumentValidationError",
    "DuplicateKeyError",
    "StaleDocumentError",
]

_ENTITIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "FederatedDocument": ("fedorm.stores.document", "mongodb", ("beanie", "pymongo", "bson")),
    "FederatedRecord": ("fedorm.stores.redis_records", "redis", ()),
    "FederatedSearchDocument": ("fedorm.stores.elasticsearch_document", "elasticsearch", ("elasticsearch",)),
}
"""The base classes of stores that have one: the module, the extra, and the packages that this brings for the module."""

for _name, (_, _, _packages) in _ENTITIES.items():
    if _packages and find_spec(_packages[0]) is None:
        __all__.remove(_name)  # Without its driver it cannot be had, and import * must not fail for it.


def __getattr__(name: str) -> Any:
    # Beanie takes half a second to import, and is an extra: only who declares documents pays for it.
    if name not in _ENTITIES:
        raise AttributeError(f"module 'fedorm' has no attribute {name!r}")
    module, extra, packages = _ENTITIES[name]
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name not in packages:
            raise
        raise MissingDriverError(user=name, package=str(error.name), extra=extra) from error
