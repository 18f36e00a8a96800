"""fedorm: SQLAlchemy-style models, sessions and relationships over several databases."""

from __future__ import annotations

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

__all__ = [
    "Federation",
    "FederatedBase",
    "FederatedDocument",
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

if find_spec("beanie") is None:
    del __all__[
        __all__.index("FederatedDocument")
    ]  # Without its driver it cannot be had, and import * must not fail for it.


def __getattr__(name: str) -> Any:
    # Beanie takes half a second to import, and is an extra: only who declares documents pays for it.
    if name != "FederatedDocument":
        raise AttributeError(f"module 'fedorm' has no attribute {name!r}")
    try:
        from fedorm.stores.document import FederatedDocument
    except ModuleNotFoundError as error:
        if error.name not in ("beanie", "pymongo", "bson"):
            raise
        raise MissingDriverError(service="documents", package=str(error.name), extra="mongodb") from error
    return FederatedDocument
