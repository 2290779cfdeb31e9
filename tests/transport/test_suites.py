from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from Crypto.Cipher import AES, ChaCha20
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.errors import RequestError
from deffd_flower.transport import Direction, Header, KeyReference, Route, parse, seal, suites
from deffd_flower.transport.suite import Suite, SuiteRegistry
from deffd_flower.transport.suites import Aes, Gcm, Hybrid, OneTimePad, poly1305

if TYPE_CHECKING:
    from tests.transport.conftest import Mail

NAMES = ["aes", "hybrid", "none", "otp", "pqc"]


def test_the_five_suites_and_their_ids_on_the_wire_are_pinned() -> None:
    assert suites.names() == NAMES
    assert {name: suites.get(name).suite_id for name in NAMES} == {
        "none": 0,
        "pqc": 1,
        "hybrid": 2,
        "aes": 3,
        "otp": 4,
    }


def test_strength_is_the_order_in_which_a_starved_link_degrades() -> None:
    assert sorted(NAMES, key=lambda name: -suites.get(name).strength) == [
        "otp",
        "aes",
        "hybrid",
        "pqc",
        "none",
    ]


@pytest.mark.parametrize(
    ("name", "bits"), [("none", 0), ("pqc", 0), ("hybrid", 256), ("aes", 256), ("otp", 8_000_256)]
)
def test_key_bits_for_a_megabyte(name: str, bits: int) -> None:
    assert suites.get(name)().key_bits(1_000_000) == bits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_expansion_is_what_sealing_adds(mail: "Mail", name: str, size: int) -> None:
    suite = suites.get(name)()
    assert len(mail.seal(name, bytes(size))) - size == suite.expansion("alice", "bob")


def test_expansion_counts_names_in_bytes_and_every_reference() -> None:
    aes, plain = Aes(), suites.get("none")()
    assert aes.expansion("ü", "b") - aes.expansion("u", "b") == 1
    assert aes.expansion("a", "b", 3) - aes.expansion("a", "b", 1) == 64
    assert plain.expansion("a", "b", 3) == plain.expansion("a", "b", 1)


def test_aes_body_opens_with_an_independent_implementation(mail: "Mail") -> None:
    blob = mail.seal("aes", b"the model")
    header, body = parse(blob)
    key = mail.bob.bits(b"alice>bob", header.references[0])
    cipher = AES.new(key, AES.MODE_GCM, nonce=header.nonce)
    cipher.update(header.encode())
    assert cipher.decrypt_and_verify(bytes(body[:-16]), bytes(body[-16:])) == b"the model"


def test_otp_body_is_the_xor_with_the_pad_behind_the_mac_key(mail: "Mail") -> None:
    plaintext = bytes(range(40))
    header, body = parse(mail.seal("otp", plaintext))
    key = mail.bob.bits(b"alice>bob", header.references[0])
    assert bytes(one ^ other for one, other in zip(plaintext, key[32:], strict=True)) == body[:-16]


def test_mac_is_the_construction_of_rfc_8439_section_2_8_2() -> None:
    key = bytes.fromhex("7bac2b252db447af09b67a55a4e955840ae1d6731075d9eb2a9375783ed553ff")
    aad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    ciphertext = bytes.fromhex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b6116"
    )
    tag = poly1305(key, aad, ciphertext).finalize()
    assert tag == bytes.fromhex("1ae10b594f09e26a7e902ecbd0600691")


@settings(deadline=None)
@given(st.binary(max_size=50), st.binary(max_size=50), st.binary(min_size=32, max_size=32))
def test_mac_equals_that_of_the_chacha20_poly1305_aead(
    aad: bytes, plaintext: bytes, key: bytes
) -> None:
    """RFC 8439 2.6: the AEAD's one-time key is the first key stream block, counter 0."""
    one_time_key = ChaCha20.new(key=key, nonce=bytes(12)).encrypt(bytes(32))
    sealed = ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, aad)
    assert poly1305(one_time_key, aad, sealed[:-16]).finalize() == sealed[-16:]


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(1, 40))
def test_mac_tells_associated_data_from_ciphertext(
    aad: bytes, ciphertext: bytes, shift: int
) -> None:
    key = bytes(range(1, 33))
    whole = aad + ciphertext
    cut = (len(aad) + shift) % (len(whole) + 1)
    if cut == len(aad):
        return
    tag = poly1305(key, aad, ciphertext).finalize()
    with pytest.raises(InvalidSignature):
        poly1305(key, whole[:cut], whole[cut:]).verify(tag)


def poly1305_by_definition(key: bytes, message: bytes) -> bytes:
    """RFC 8439, section 2.5.1, in integers."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(message), 16):
        block = message[start : start + 16] + b"\x01"
        total = (total + int.from_bytes(block, "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def test_otp_tag_covers_the_whole_header(mail: "Mail") -> None:
    blob = mail.seal("otp", b"abc")
    header, body = parse(blob)
    key = mail.bob.bits(b"alice>bob", header.references[0])
    aad, ciphertext = header.encode(), bytes(body[:-16])
    padded = b"".join(part + bytes(-len(part) % 16) for part in (aad, ciphertext))
    lengths = len(aad).to_bytes(8, "little") + len(ciphertext).to_bytes(8, "little")
    assert poly1305_by_definition(key[:32], padded + lengths) == body[-16:]


@pytest.mark.parametrize("name", ["pqc", "hybrid", "aes"])
def test_nonces_tell_apart_all_streams_two_peers_can_share_a_key_in(name: str) -> None:
    suite = suites.get(name)()
    nonces = [
        suite.nonce(Route(1, *pair, direction, 1, sequence))
        for pair in (("alice", "bob"), ("bob", "alice"))
        for direction in Direction
        for sequence in (0, 1, 255, 256, 2**32, 2**64 - 1)
    ]
    assert all(len(nonce) == 12 for nonce in nonces)
    assert len(set(nonces)) == len(nonces)


def test_nonce_is_fixed_field_then_sequence() -> None:
    route = Route(1, "bob", "alice", Direction.ANSWER, 1, 0x0102)
    assert Aes().nonce(route).hex() == "00000102" + "0000000000000102"


def test_derived_message_key_is_wiped_once_the_cipher_has_it(mail: "Mail") -> None:
    derived: list[bytearray] = []

    class Watched(Hybrid):
        def message_key(self, header: Header, secret: bytearray) -> bytearray:
            derived.append(super().message_key(header, secret))
            assert any(derived[-1])
            return derived[-1]

    seal(Watched(), mail.route(), b"x", mail.alice.for_sending("bob", 256), mail.kem.public)
    assert derived == [bytearray(32)]


def test_claims_say_what_each_suite_rests_on() -> None:
    assert "Information-theoretic" in OneTimePad.claims
    others = [suites.get(name).claims for name in NAMES if name != "otp"]
    assert not any("nformation-theoretic" in claim for claim in others)
    assert "No QKD" in suites.get("pqc").claims
    assert "does not prove who the sender is" in suites.get("pqc").claims
    assert suites.get("none").claims.startswith("None")


def test_outside_suite_joins_by_decorator() -> None:
    registry = SuiteRegistry()

    class Mine(Aes):
        suite_id = 200

    assert registry.register("mine")(Mine) is Mine
    assert registry.get("mine") is Mine
    assert registry.with_id(200) is Mine
    assert registry.with_id(201) is None


def test_outside_suite_named_by_its_path_can_be_found_by_its_id() -> None:
    registry = SuiteRegistry()
    path = "deffd_flower.transport.suites:OneTimePad"
    assert registry.with_id(OneTimePad.suite_id) is None
    assert registry.get(path) is OneTimePad
    assert registry.with_id(OneTimePad.suite_id) is OneTimePad
    assert registry.get(path) is OneTimePad


def test_two_suites_with_one_id_cannot_both_register() -> None:
    registry = SuiteRegistry()
    registry.register("one")(Aes)

    class Same(Aes):
        pass

    with pytest.raises(ValueError, match="suite id 3 is Aes's already"):
        registry.register("two")(Same)
    assert registry.names() == ["one"]


@pytest.mark.parametrize("name", ["AES", "json:JSONDecoder", "json:nothing"])
def test_unknown_suite_is_an_error_for_the_user(name: str) -> None:
    with pytest.raises(RequestError) as raised:
        suites.get(name)
    assert raised.value.key == "suite"


def test_a_suite_without_its_own_cipher_cannot_be_made() -> None:
    assert Suite.__abstractmethods__ >= {"key_bits", "encrypt_into", "decrypt"}
    assert "message_key" in Gcm.__abstractmethods__


def test_key_from_several_references_is_joined_in_their_order(mail: "Mail") -> None:
    pieces = (KeyReference(UUID(int=8), 128, 128), KeyReference(UUID(int=7), 0, 128))
    header, body = parse(mail.seal("aes", b"the model", grant=pieces))
    key = b"".join(mail.bob.bits(b"alice>bob", piece) for piece in pieces)
    cipher = AES.new(key, AES.MODE_GCM, nonce=header.nonce)
    cipher.update(header.encode())
    assert cipher.decrypt_and_verify(bytes(body[:-16]), bytes(body[-16:])) == b"the model"
