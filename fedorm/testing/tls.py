"""A certificate authority of the tests' own, and what it has signed."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a server (127.0.0.1 and localhost) and a client it vouches for, and a stranger."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    other_ca: Path


def make_certificates(directory: Path) -> Certificates:
    """Make new certificates in ``directory``; valid for a day."""
    ca, ca_key = _sign("fedorm test authority", None, None)
    other, _ = _sign("another authority", None, None)
    _write(directory / "ca.crt", ca)
    _write(directory / "other-ca.crt", other)
    paths = {}
    for name in ("server", "client"):
        certificate, key = _sign(f"fedorm {name}", ca, ca_key)
        paths[f"{name}_cert"], paths[f"{name}_key"] = directory / f"{name}.crt", directory / f"{name}.key"
        _write(paths[f"{name}_cert"], certificate)
        _write(paths[f"{name}_key"], key)
    return Certificates(ca=directory / "ca.crt", other_ca=directory / "other-ca.crt", **paths)


def _sign(name: str, issuer: Certificate | None, issuer_key: Any) -> tuple[Certificate, Any]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer = issuer_key or key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256()), key


def _write(path: Path, content: Any) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509 import Certificate

    if isinstance(content, Certificate):
        data = content.public_bytes(serialization.Encoding.PEM)
    else:
        data = content.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    path.touch(mode=0o600)
    path.write_bytes(data)
