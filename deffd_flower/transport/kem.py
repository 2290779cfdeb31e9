"""ML-KEM-768 (FIPS 203), the post-quantum part of the suites `pqc` and `hybrid`."""

import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from deffd_flower.transport.refusal import KeyUnavailable

KEM_CIPHERTEXT_BYTES = 1088
KEM_SEED_BYTES = 64


@dataclass(frozen=True)
class KemKeyPair:
    """A receiver's key pair.

    Args:
        public: Encapsulation key, 1184 bytes.
        private: The 64-byte seed d || z of FIPS 203, algorithm 16.
    """

    public: bytes
    private: bytes = field(repr=False)


def generate_kem_keypair(seed: bytes | None = None) -> KemKeyPair:
    """Return a key pair.

    Args:
        seed: 64 bytes that determine the pair; ``None`` draws them from the system.

    Raises:
        ValueError: The seed is not 64 bytes.
    """
    private = os.urandom(KEM_SEED_BYTES) if seed is None else seed
    key = MLKEM768PrivateKey.from_seed_bytes(private)
    return KemKeyPair(key.public_key().public_bytes_raw(), private)


def encapsulate(public: bytes | None) -> tuple[bytes, bytes]:
    """Return (ciphertext, 32-byte shared secret) for a receiver's public key.

    Raises:
        KeyUnavailable: The public key is missing or not valid.
    """
    if public is None:
        raise KeyUnavailable("the receiver's ML-KEM-768 public key is missing")
    try:
        secret, ciphertext = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError as problem:
        raise KeyUnavailable("the receiver's ML-KEM-768 public key is not valid") from problem
    return ciphertext, secret


def decapsulate(private: bytes | None, ciphertext: bytes) -> bytes:
    """Return the 32-byte shared secret; a ciphertext for another key gives a random one.

    Raises:
        KeyUnavailable: The private key is missing or not valid.
    """
    if private is None:
        raise KeyUnavailable("this peer's ML-KEM-768 private key is missing")
    try:
        return MLKEM768PrivateKey.from_seed_bytes(private).decapsulate(ciphertext)
    except ValueError as problem:
        raise KeyUnavailable("this peer's ML-KEM-768 private key is not valid") from problem
