"""Proof by SAE certificate that an ML-KEM public key, which travels through the server, is its
owner's."""

from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    load_der_x509_certificate,
    load_pem_x509_certificates,
)
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from deffd_flower.sae.delivery import KeyManagerError
from deffd_flower.sae.settings import SaeSettings
from deffd_flower.transport.refusal import EnvelopeError, KeyUnavailable
from deffd_flower.transport.wire import COUNT, Reader, pack_long, pack_text

_PURPOSE = b"deffd-kem-identity/2"
_PSS = padding.PSS(padding.MGF1(SHA384()), padding.PSS.DIGEST_LENGTH)


class CertificateIdentity:
    """Vouches for public keys with the certificate by which key managers know a client.

    Peers accept the certificate if its chain ends at the authorities they trust and its subject's
    common name is the SAE id they expect.

    Args:
        settings: The client's own.
        sae_ids: SAE id of every client, by its name in envelopes.
        run: Flower's run id, to which the proofs are bound.

    Raises:
        KeyManagerError: Certificate, key or authorities cannot be read.
    """

    def __init__(self, settings: SaeSettings, sae_ids: Mapping[str, str], run: int) -> None:
        self._sae_ids = sae_ids
        self._run = run
        try:
            self._chain = load_pem_x509_certificates(settings.certificate.read_bytes())
            self._store = Store(load_pem_x509_certificates(settings.ca.read_bytes()))
            self._key = load_pem_private_key(settings.key.read_bytes(), None)
        except (OSError, TypeError, ValueError):
            raise KeyManagerError(
                "the SAE's certificate, its key or the authorities' certificates cannot be used"
            ) from None

    def prove(self, owner: str, public_key: bytes) -> bytes:
        """Return the certificate chain and a signature over run, owner and public key.

        Raises:
            KeyManagerError: The certificate's key is of a kind that is not known here.
        """
        chain = [each.public_bytes(Encoding.DER) for each in self._chain]
        statement = self._statement(owner, public_key)
        signature = pack_long(_signature(self._key, statement))
        return COUNT.pack(len(chain)) + b"".join(map(pack_long, chain)) + signature

    def check(self, owner: str, public_key: bytes, proof: bytes) -> None:
        """Check a proof.

        Raises:
            KeyUnavailable: It is not this owner's proof of this key in this run.
        """
        try:
            leaf, *others, signature = _parts(proof)
            certificate = load_der_x509_certificate(leaf)
            self._check_chain(certificate, list(map(load_der_x509_certificate, others)))
            if _common_name(certificate) != self._sae_ids[owner]:
                raise ValueError("another SAE's certificate")
            _verify(certificate.public_key(), signature, self._statement(owner, public_key))
        except (EnvelopeError, InvalidSignature, KeyError, ValueError, VerificationError):
            raise KeyUnavailable(f"the ML-KEM key in {owner}'s name is not proven") from None

    def _statement(self, owner: str, public_key: bytes) -> bytes:
        run = self._run.to_bytes(8, "big")
        return _PURPOSE + run + pack_text(self._sae_ids[owner]) + pack_long(public_key)

    def _check_chain(self, certificate: Certificate, others: list[Certificate]) -> None:
        # An SAE's certificate is no web server's: which extensions it has is its issuer's affair,
        # but for the one that keeps SAEs from issuing certificates themselves.
        anything = ExtensionPolicy.permit_all()
        authority = anything.require_present(BasicConstraints, Criticality.AGNOSTIC, None)
        verifier = (
            PolicyBuilder()
            .store(self._store)
            .time(datetime.now(UTC))
            .extension_policies(ca_policy=authority, ee_policy=anything)
            .build_client_verifier()
        )
        verifier.verify(certificate, others)


def _parts(proof: bytes) -> list[bytes]:
    reader = Reader(proof)
    (certificates,) = reader.unpack(COUNT)
    parts = [reader.long() for _ in range(certificates + 1)]
    reader.finish()
    return parts


def _common_name(certificate: Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def _signature(key: object, statement: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(statement, ec.ECDSA(SHA384()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(statement, _PSS, SHA384())
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return key.sign(statement)
    raise KeyManagerError("the SAE's key must be of EC, RSA, Ed25519 or Ed448")


def _verify(key: object, signature: bytes, statement: bytes) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, statement, ec.ECDSA(SHA384()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, statement, _PSS, SHA384())
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        key.verify(signature, statement)
    else:
        raise ValueError("a key of an unknown kind")
