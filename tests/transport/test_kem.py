import hashlib

import pytest

from deffd_flower.transport import KeyUnavailable, generate_kem_keypair
from deffd_flower.transport.kem import KEM_CIPHERTEXT_BYTES, decapsulate, encapsulate


def test_both_ends_get_the_same_fresh_secret() -> None:
    keys = generate_kem_keypair()
    ciphertext, secret = encapsulate(keys.public)
    assert len(ciphertext) == KEM_CIPHERTEXT_BYTES
    assert len(secret) == 32
    assert decapsulate(keys.private, ciphertext) == secret
    assert encapsulate(keys.public)[1] != secret


def test_a_seed_determines_the_pair_and_none_draws_a_new_one() -> None:
    seed = bytes(range(64))
    assert generate_kem_keypair(seed) == generate_kem_keypair(seed)
    assert generate_kem_keypair(seed).private == seed
    assert generate_kem_keypair().public != generate_kem_keypair().public


def test_implicit_rejection_gives_another_secret() -> None:
    keys = generate_kem_keypair()
    ciphertext, secret = encapsulate(keys.public)
    changed = bytes((ciphertext[0] ^ 1,)) + ciphertext[1:]
    assert decapsulate(keys.private, changed) != secret
    assert decapsulate(generate_kem_keypair().private, ciphertext) != secret


@pytest.mark.parametrize("public", [None, b"", bytes(1183), b"\xff" * 1184])
def test_public_key_that_is_missing_or_invalid_is_no_key(public: bytes | None) -> None:
    with pytest.raises(KeyUnavailable):
        encapsulate(public)


@pytest.mark.parametrize("private", [None, b"", bytes(63)])
def test_private_key_that_is_missing_or_invalid_is_no_key(private: bytes | None) -> None:
    with pytest.raises(KeyUnavailable):
        decapsulate(private, bytes(KEM_CIPHERTEXT_BYTES))


def test_repr_shows_no_private_key() -> None:
    keys = generate_kem_keypair(hashlib.sha512(b"seed").digest())
    assert "private" not in repr(keys)
    assert repr(keys.private)[2:20] not in repr(keys)
