"""Proof that an ML-KEM public key, which travels through the server, is its owner's."""

from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from deffd_flower.transport.refusal import KeyUnavailable
from deffd_flower.transport.wire import pack_long, pack_text

_INFO = b"deffd-kem-identity/1"
_KEY_BYTES = 48


class Identity(Protocol):
    """Vouches for public keys, and checks what others vouch for."""

    def prove(self, owner: str, public_key: bytes) -> bytes:
        """Return a proof that the key is its owner's.

        Args:
            owner: The owner's name in envelopes.
            public_key: The key.
        """

    def check(self, owner: str, public_key: bytes, proof: bytes) -> None:
        """Check a proof.

        Raises:
            KeyUnavailable: It is not this owner's proof of this key in this run.
        """


class SharedSecretIdentity:
    """Vouches for public keys with a secret that all clients share and the server lacks.

    It keeps the server from putting its own key in a client's place. It does not keep one client
    from posing as another: for that every client would need a signing key of its own.

    Args:
        secret: What the clients share by a way no Flower message takes.
        run: Flower's run id, to which the proofs are bound.
    """

    def __init__(self, secret: bytes, run: int) -> None:
        info = _INFO + run.to_bytes(8, "big")
        self._key = HKDF(SHA384(), _KEY_BYTES, salt=None, info=info).derive(secret)

    def prove(self, owner: str, public_key: bytes) -> bytes:
        """Return HMAC-SHA-384 over the owner's SAE id and its public key."""
        return self._mac(owner, public_key).finalize()

    def check(self, owner: str, public_key: bytes, proof: bytes) -> None:
        """Check a proof, in constant time.

        Raises:
            KeyUnavailable: It is not this owner's proof of this key in this run.
        """
        try:
            self._mac(owner, public_key).verify(proof)
        except InvalidSignature:
            raise KeyUnavailable(f"the ML-KEM key in {owner}'s name is not proven") from None

    def _mac(self, owner: str, public_key: bytes) -> HMAC:
        mac = HMAC(self._key, SHA384())
        mac.update(pack_text(owner) + pack_long(public_key))
        return mac
