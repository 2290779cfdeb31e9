"""Mutual TLS: the contexts of both ends, and whose certificate it is."""

import datetime as dt
import ssl
from asyncio import BaseTransport
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from deffd_flower.errors import RequestError

#: Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
_TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class Identity(Protocol):
    """Whoever has a certificate, and trusts those of one authority."""

    certificate: Path
    private_key: Path
    ca: Path


def server_context(identity: Identity) -> ssl.SSLContext:
    """Return a context that asks every client for a certificate: TLS 1.3, or at least 1.2.

    Sessions are not resumed, so that a certificate is looked at in every connection.

    Raises:
        RequestError: A file is not there, or not what it should be.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.sslobject_class = _AlertingSSLObject
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    return context


def client_context(identity: Identity) -> ssl.SSLContext:
    """Return a context that shows our certificate, and checks the server's and its name.

    Raises:
        RequestError: A file is not there, or not what it should be.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, identity)


def check_certificate(path: Path, kme_id: str) -> None:
    """Check what others would hold against a KME's certificate.

    Raises:
        RequestError: It is another's, or is not valid now.
    """
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [name.value for name in names] != [kme_id]:
        raise RequestError("certificate", path, f"its CN must be the kme-id, {kme_id}")
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= dt.datetime.now(dt.UTC) <= end:
        raise RequestError("certificate", path, f"is valid from {begin} to {end} only")


def common_name(transport: BaseTransport | None) -> str:
    """Return the CN of the certificate at the other end; empty where there is not exactly one.

    ETSI GS QKD 014 leaves open where a certificate holds the SAE id; the CN is what deployed key
    managers use.
    """
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    names = [
        value
        for relative_name in (certificate or {}).get("subject", ())
        for kind, value in relative_name
        if kind == "commonName"
    ]
    return names[0] if len(names) == 1 else ""


def _context(protocol: int, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS12_CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    _load(lambda: context.load_verify_locations(identity.ca), "ca", identity.ca)
    _load(
        lambda: context.load_cert_chain(identity.certificate, identity.private_key),
        "certificate",
        identity.certificate,
    )
    return context


def _load(action: "Action", key: str, path: Path) -> None:
    try:
        action()
    except FileNotFoundError:
        raise RequestError(key, path, "there is no such file, or none beside it") from None
    except (ssl.SSLError, OSError) as problem:
        reason = getattr(problem, "reason", None) or problem.strerror or problem
        raise RequestError(key, path, f"cannot be read as PEM ({reason})") from None


class _AlertingSSLObject(ssl.SSLObject):
    """TLS for asyncio, which drops the alert of a handshake that fails: nobody would know why.

    The failure is held back for as long as asyncio takes to send what OpenSSL has to say. It is
    raised when anything else comes from the client; else the time for the handshake runs out.
    """

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as failure:
            self._failure = failure
            raise ssl.SSLWantReadError from failure


class Action(Protocol):
    """Something that may fail."""

    def __call__(self) -> None:
        """Do it."""
