import hashlib
import hmac
from dataclasses import replace
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.transport.envelope import Direction, Header, Route
from deffd_flower.transport.kdf import LABEL, derive_message_key, key_info
from deffd_flower.transport.references import KeyReference, read_references
from deffd_flower.transport.wire import Reader

HEADER = Header(
    suite=2,
    route=Route(77, "alice", "bob", Direction.MODEL, 4, 5),
    plaintext_bytes=10,
    nonce=bytes(12),
    kem_ciphertext=b"c" * 1088,
    references=(KeyReference(UUID(int=3), 0, 256),),
)


def hkdf_sha384(salt: bytes, secret: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output, from the standard library alone."""
    extracted = hmac.digest(salt, secret, "sha384")
    return hmac.digest(extracted, info + b"\x01", "sha384")[:32]


def test_message_key_is_hkdf_sha_384_with_the_run_as_salt() -> None:
    secret = bytes(range(64))
    info = (
        b"\x0bdeffd-qkd/1\x02\x01\x05alice\x03bob\x00\x01"
        + bytes(15)
        + b"\x03"
        + bytes(8)
        + (256).to_bytes(8, "big")
        + hashlib.sha384(b"c" * 1088).digest()
    )
    assert key_info(HEADER) == info
    expected = hkdf_sha384((77).to_bytes(8, "big"), secret, info)
    assert derive_message_key(HEADER, bytearray(secret)) == expected


def test_input_secret_is_wiped() -> None:
    secret = bytearray(range(64))
    derive_message_key(HEADER, secret)
    assert secret == bytes(64)


names = st.text("ab\x00\x05ü", min_size=1, max_size=8)


@settings(deadline=None)
@given(
    st.integers(0, 255),
    st.tuples(names, names).filter(lambda pair: pair[0] != pair[1]),
    st.sampled_from(Direction),
    st.lists(st.integers(1, 5), max_size=3, unique=True),
    st.binary(max_size=8),
)
def test_info_can_be_read_back_so_no_two_messages_share_one(
    suite: int, pair: tuple[str, str], direction: Direction, keys: list[int], ciphertext: bytes
) -> None:
    references = tuple(KeyReference(UUID(int=key), 0, 8 * key) for key in keys)
    route = replace(HEADER.route, sender=pair[0], receiver=pair[1], direction=direction)
    header = Header(suite, route, 0, b"", ciphertext, references)
    reader = Reader(key_info(header))
    assert reader.short() == LABEL
    assert bytes(reader.take(2)) == bytes((suite, direction))
    assert (reader.text(), reader.text()) == pair
    assert read_references(reader) == references
    assert reader.rest() == hashlib.sha384(ciphertext).digest()


def test_every_bound_field_changes_the_key() -> None:
    route = HEADER.route
    variants = [
        HEADER,
        replace(HEADER, suite=1),
        replace(HEADER, route=replace(route, run=78)),
        replace(HEADER, route=replace(route, sender="carol")),
        replace(HEADER, route=replace(route, receiver="carol")),
        replace(HEADER, route=replace(route, sender="bob", receiver="alice")),
        replace(HEADER, route=replace(route, direction=Direction.ANSWER)),
        replace(HEADER, kem_ciphertext=b"d" + b"c" * 1087),
        replace(HEADER, references=(KeyReference(UUID(int=4), 0, 256),)),
        replace(HEADER, references=(KeyReference(UUID(int=3), 256, 256),)),
    ]
    keys = {bytes(derive_message_key(each, bytearray(range(64)))) for each in variants}
    assert len(keys) == len(variants)
