"""PyMongo's errors in fedorm's words."""

from __future__ import annotations

from fedorm.exc import (
    AuthenticationError,
    DuplicateKeyError,
    PoolExhaustedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StoreError,
    TLSError,
)

_AUTHENTICATION = {13, 18, 8000}


def classify(error: BaseException) -> type[StoreError]:
    """Return the class of error that one of PyMongo's stands for: by its code, its class or its words."""
    from pymongo import errors

    text = str(error).lower()
    code = getattr(error, "code", None)
    details = getattr(error, "details", None) or {}
    if isinstance(error, errors.WaitQueueTimeoutError):
        return PoolExhaustedError
    if code in _AUTHENTICATION or isinstance(error, errors.ConfigurationError):
        return AuthenticationError
    if code == 11000 or any(one.get("code") == 11000 for one in details.get("writeErrors", ())):
        return DuplicateKeyError
    if isinstance(error, errors.ConnectionFailure | OSError):
        if "ssl" in text or "certificate" in text:
            return TLSError
        if isinstance(error, errors.NetworkTimeout) or getattr(error, "timeout", False) is True:
            refused = isinstance(error, errors.ServerSelectionTimeoutError)
            return ServiceUnavailableError if refused else ServiceTimeoutError
        return ServiceUnavailableError
    if isinstance(error, errors.PyMongoError) and error.timeout:
        return ServiceTimeoutError
    return StoreError
