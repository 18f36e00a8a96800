"""Where a service's TLS settings come from, and the context they make."""

from __future__ import annotations

import ssl

from sqlalchemy import URL

from fedorm.config import ServiceSettings, TLSSettings
from fedorm.exc import ConfigurationError

_ON = {"1", "true", "yes", "on", "require", "required", "verify-ca", "verify-full", "verify_identity"}
_OFF = {"0", "false", "no", "off", "disable", "disabled"}
_SWITCHES = ("tls", "ssl", "sslmode", "ssl_mode")
_PATHS = {
    "ca": ("tls_ca", "sslrootcert", "ssl_ca"),
    "cert": ("tls_cert", "sslcert", "ssl_cert"),
    "key": ("tls_key", "sslkey", "ssl_key"),
}


def split_tls(service: str, url: URL, settings: ServiceSettings) -> tuple[URL, TLSSettings | None]:
    """Take the TLS options out of ``url``; the settings' own ``tls`` wins over them.

    ``tls=true``, ``ssl=true`` and any ``sslmode`` that encrypts turn TLS on, and on means verified: only
    ``tls_verify=false`` (or ``tls = {verify = false}``) switches that off. Modes that fall back to plain text are
    refused.
    """
    query = {key: value if isinstance(value, str) else value[-1] for key, value in url.query.items()}
    taken: set[str] = set()
    wanted: bool | None = None
    for switch in _SWITCHES:
        if switch in query:
            taken.add(switch)
            mode = query[switch].lower()
            if mode not in _ON | _OFF:
                raise ConfigurationError(
                    f"service {service!r}: {switch}={mode} may fall back to plain text; write tls=true or tls=false"
                )
            wanted = mode in _ON
    found: dict[str, str] = {}
    for option, names in _PATHS.items():
        for name in names:
            if name in query:
                taken.add(name)
                found[option] = query[name]
    verify = True
    if "tls_verify" in query:
        taken.add("tls_verify")
        verify = query["tls_verify"].lower() not in _OFF
    rest = url.difference_update_query(taken)
    if settings.tls is not None:
        return rest, settings.tls
    if wanted is False or (wanted is None and not found):
        return rest, None
    try:
        return rest, TLSSettings.model_validate({**found, "verify": verify})
    except ValueError as error:
        raise ConfigurationError(f"service {service!r}: TLS settings are not valid: {error}") from error


def client_context(service: str, tls: TLSSettings) -> ssl.SSLContext:
    """Make the ``SSLContext`` that verifies the server and, with ``cert``, shows the client's certificate."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"service {service!r}: TLS certificates cannot be loaded: {error}") from error
    return context
