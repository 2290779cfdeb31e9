"""A private certificate authority for trying key managers out: ``deffd kme certs``."""

import datetime as dt
import ipaddress
import os
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deffd_flower.errors import DeffdError, RequestError

AUTHORITY = "ca"
#: Fits a CN (64 characters, X.520), a DNS name in subjectAltName, and a file name.
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_CLOCK_SKEW = dt.timedelta(minutes=5)
_AUTHORITY_DAYS = 3650


class Role(StrEnum):
    """What a certificate may be used for (extended key usage, RFC 5280, 4.2.1.12)."""

    SAE = "sae"
    KME = "kme"
    ANY = "any"

    @property
    def usages(self) -> list[x509.ObjectIdentifier]:
        """SAEs are clients only; a KME is server to SAEs, and both to other KMEs."""
        client = [ExtendedKeyUsageOID.CLIENT_AUTH]
        return client if self is Role.SAE else [ExtendedKeyUsageOID.SERVER_AUTH, *client]


@dataclass(frozen=True)
class Validity:
    """When a certificate is valid.

    Args:
        begin: From this moment on, with time zone.
        end: Until this one.
    """

    begin: dt.datetime
    end: dt.datetime

    @classmethod
    def days(cls, days: int) -> "Validity":
        """Return so many days from now; the begin makes room for clocks that are slow."""
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        return cls(now - _CLOCK_SKEW, now + dt.timedelta(days=days))


class Authority:
    """A certificate authority that lives in a folder as ``ca.crt`` and ``ca.key``.

    Keys are ECDSA over P-256; all files are written whole, with mode 0600.

    Args:
        folder: Where; made if it is not there.

    Raises:
        DeffdError: The folder cannot be used, or holds half an authority.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate_file = folder / f"{AUTHORITY}.crt"
        key_file = folder / f"{AUTHORITY}.key"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.certificate_file.exists() and not key_file.exists():
                self._create(key_file)
            self._key = _load_key(key_file)
            self.certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        except (OSError, ValueError) as problem:
            raise DeffdError(f"certificate authority in {folder}: {problem}") from problem

    def issue(self, name: str, role: Role, validity: Validity) -> None:
        """Write ``NAME.crt`` and ``NAME.key``, a fresh key with its certificate.

        The name is its CN, and in subjectAltName beside localhost and 127.0.0.1.

        Raises:
            RequestError: The name does not fit, or the certificate would outlive the authority.
            DeffdError: The files cannot be written.
        """
        _check_name(name)
        if validity.end > self.certificate.not_valid_after_utc:
            until = self.certificate.not_valid_after_utc.date()
            raise RequestError("--days", None, f"the authority itself is valid until {until} only")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_named(name), self.certificate.subject, key, validity)
        usage = x509.ExtendedKeyUsage(role.usages)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(x509.SubjectAlternativeName(_addresses(name)), critical=False)
            .add_extension(self._key_identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._write(name, key, certificate)

    def valid_until(self, name: str) -> dt.datetime | None:
        """Return until when the named certificate is valid; ``None`` if it is not, or not there.

        Raises:
            RequestError: The name is none.
            DeffdError: The file holds no certificate.
        """
        _check_name(name)
        path = self.folder / f"{name}.crt"
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as problem:
            raise DeffdError(f"{path}: {problem}") from problem
        end = certificate.not_valid_after_utc
        return end if end > dt.datetime.now(dt.UTC) else None

    def _create(self, key_file: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named("deffd private CA", unique=True)
        certificate = (
            _builder(subject, subject, key, Validity.days(_AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        self._write(key_file.stem, key, certificate)

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)

    def _write(
        self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        encoded = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            _write_private(self.folder / f"{name}.key", encoded)
            pem = certificate.public_bytes(serialization.Encoding.PEM)
            _write_private(self.folder / f"{name}.crt", pem)
        except OSError as problem:
            raise DeffdError(f"{problem.filename}: {problem.strerror}") from problem


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name == AUTHORITY:
        advice = "must be up to 63 letters, digits, '-', '_' or '.', and not 'ca'"
        raise RequestError("NAME", name, advice)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    validity: Validity,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begin)
        .not_valid_after(validity.end)
        .add_extension(identifier, critical=False)
    )


def _named(common_name: str, unique: bool = False) -> x509.Name:
    # Two authorities of one name would be mixed up by whoever trusts both.
    serial = [x509.NameAttribute(NameOID.SERIAL_NUMBER, secrets.token_hex(8))] if unique else []
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name), *serial])


def _addresses(name: str) -> list[x509.GeneralName]:
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    names = dict.fromkeys(["localhost", name])
    return [*map(x509.DNSName, names), loopback]


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path.name} is no elliptic-curve key")
    return key


def _write_private(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
