import struct
from dataclasses import FrozenInstanceError, replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deffd_flower.transport.envelope import (
    MAX_HEADER_BYTES,
    MAX_KEM_BYTES,
    MAX_NONCE_BYTES,
    MAX_PLAINTEXT_BYTES,
    MAX_REFERENCES,
    Direction,
    Header,
    Route,
    header_bytes,
    parse,
)
from deffd_flower.transport.references import KeyReference
from deffd_flower.transport.refusal import EnvelopeError

ROUTE = Route(1, "alice", "bob", Direction.MODEL, 2, 3)
HEADER = Header(
    suite=3,
    route=ROUTE,
    plaintext_bytes=5,
    nonce=bytes(12),
    references=(KeyReference(UUID(int=9), 0, 256),),
)

u64 = st.integers(0, 2**64 - 1)
names = st.text(min_size=1, max_size=60)
references = st.lists(
    st.builds(
        lambda key, offset, length: KeyReference(UUID(bytes=key), 8 * offset, 8 * length),
        st.binary(min_size=16, max_size=16),
        st.integers(0, 2**60),
        st.integers(1, 2**60),
    ),
    unique_by=lambda each: each.key_id,
    max_size=5,
).map(tuple)


def different_peers(pair: tuple[str, str]) -> bool:
    return pair[0] != pair[1]


@st.composite
def headers(draw: st.DrawFn) -> Header:
    sender, receiver = draw(st.tuples(names, names).filter(different_peers))
    route = Route(
        draw(u64),
        sender,
        receiver,
        draw(st.sampled_from(Direction)),
        draw(st.integers(0, 2**32 - 1)),
        draw(u64),
    )
    return Header(
        draw(st.integers(0, 255)),
        route,
        draw(st.integers(0, MAX_PLAINTEXT_BYTES)),
        draw(st.binary(max_size=MAX_NONCE_BYTES)),
        draw(st.binary(max_size=MAX_KEM_BYTES)),
        draw(references),
    )


def test_wire_layout_is_pinned() -> None:
    """The layout of the module's table, written down a second time by hand."""
    expected = (
        b"DEFD"
        + bytes((1, 3, 1))
        + struct.pack(">Q", 1)
        + struct.pack(">I", 2)
        + struct.pack(">Q", 3)
        + struct.pack(">II", 0, 1)
        + struct.pack(">Q", 5)
        + b"\x05alice\x03bob"
        + b"\x0c"
        + bytes(12)
        + b"\x00\x00"
        + b"\x00\x01"
        + bytes(15)
        + b"\x09"
        + struct.pack(">QQ", 0, 256)
    )
    assert HEADER.encode() == expected
    assert header_bytes(8, 12, 0, 1) == len(expected)


@settings(deadline=None)
@given(headers(), st.binary(max_size=40))
def test_parse_inverts_encode(header: Header, body: bytes) -> None:
    parsed, rest = parse(header.encode() + body)
    assert parsed == header
    assert rest == body


@settings(max_examples=300, deadline=None)
@given(headers(), st.data())
def test_what_parses_has_one_encoding(header: Header, data: st.DataObject) -> None:
    blob = bytearray(header.encode() + b"body")
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed, rest = parse(blob)
    except EnvelopeError:
        return
    assert parsed.encode() + bytes(rest) == blob


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_the_one_documented_error(noise: bytes) -> None:
    with pytest.raises(EnvelopeError):
        parse(noise)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_behind_a_right_start_never_raise_another_error(noise: bytes) -> None:
    blob = HEADER.encode()[:43] + noise
    try:
        header, body = parse(blob)
    except EnvelopeError:
        return
    assert header.encode() + bytes(body) == blob


def test_every_truncated_header_is_refused() -> None:
    encoded = HEADER.encode()
    for size in range(len(encoded)):
        with pytest.raises(EnvelopeError):
            parse(encoded[:size])


@pytest.mark.parametrize(
    ("position", "value"),
    [
        pytest.param(0, 0, id="magic"),
        pytest.param(4, 0, id="version 0"),
        pytest.param(4, 2, id="version 2"),
        pytest.param(6, 0, id="direction 0"),
        pytest.param(6, 99, id="direction 99"),
        pytest.param(30, 1, id="second chunk"),
        pytest.param(34, 0, id="no chunk"),
        pytest.param(34, 2, id="two chunks"),
        pytest.param(35, 255, id="plaintext over 1 GiB"),
    ],
)
def test_field_values_that_version_1_does_not_know_are_refused(position: int, value: int) -> None:
    blob = bytearray(HEADER.encode())
    assert blob[position] != value
    blob[position] = value
    with pytest.raises(EnvelopeError):
        parse(blob)


def test_lengths_that_point_beyond_the_end_are_refused() -> None:
    encoded = HEADER.encode()
    for position in (43, 49, 53, 66, 68):
        blob = bytearray(encoded)
        blob[position] = 255
        with pytest.raises(EnvelopeError):
            parse(blob)


def test_largest_header_has_the_announced_size_and_parses() -> None:
    names = "a" * 255, "b" * 255
    route = Route(2**64 - 1, *names, Direction.ANSWER, 2**32 - 1, 2**64 - 1)
    pieces = tuple(KeyReference(UUID(int=each), 0, 8) for each in range(MAX_REFERENCES))
    header = Header(
        255, route, MAX_PLAINTEXT_BYTES, bytes(MAX_NONCE_BYTES), bytes(MAX_KEM_BYTES), pieces
    )
    encoded = header.encode()
    assert len(encoded) == MAX_HEADER_BYTES
    assert parse(encoded)[0] == header


@pytest.mark.parametrize(
    "changes",
    [
        {"suite": 256},
        {"suite": -1},
        {"plaintext_bytes": MAX_PLAINTEXT_BYTES + 1},
        {"plaintext_bytes": -1},
        {"nonce": bytes(MAX_NONCE_BYTES + 1)},
        {"kem_ciphertext": bytes(MAX_KEM_BYTES + 1)},
    ],
)
def test_header_fields_out_of_range_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(EnvelopeError):
        replace(HEADER, **changes)  # type: ignore[arg-type]  # one dict for fields of two types


@pytest.mark.parametrize(
    "changes",
    [
        {"run": 2**64},
        {"run": -1},
        {"round": 2**32},
        {"sequence": 2**64},
        {"sender": ""},
        {"receiver": "x" * 256},
        {"receiver": "ü" * 128},
        {"sender": "bob"},
        {"sender": "\ud800"},
    ],
)
def test_route_fields_out_of_range_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(EnvelopeError):
        replace(ROUTE, **changes)  # type: ignore[arg-type]  # one dict for fields of two types


@pytest.mark.parametrize(
    ("offset", "length"), [(4, 256), (0, 12), (0, 0), (-8, 8), (2**64 - 8, 16), (2**64, 8)]
)
def test_key_references_are_whole_bytes_within_64_bits(offset: int, length: int) -> None:
    with pytest.raises(EnvelopeError):
        KeyReference(UUID(int=1), offset, length)


def test_references_that_share_a_bit_are_refused_and_neighbours_are_not() -> None:
    first = KeyReference(UUID(int=1), 0, 256)
    for overlapping in (first, KeyReference(UUID(int=1), 248, 64), KeyReference(UUID(int=1), 8, 8)):
        with pytest.raises(EnvelopeError, match="overlap"):
            replace(HEADER, references=(first, overlapping))
    neighbours = (KeyReference(UUID(int=1), 256, 64), first, KeyReference(UUID(int=2), 0, 256))
    assert parse(replace(HEADER, references=neighbours).encode())[0].references == neighbours


def test_names_with_invalid_utf_8_are_refused() -> None:
    blob = HEADER.encode().replace(b"alice", b"al\xffce")
    with pytest.raises(EnvelopeError, match="UTF-8"):
        parse(blob)


def test_a_header_cannot_be_changed_after_its_checks() -> None:
    with pytest.raises(FrozenInstanceError):
        HEADER.suite = 0  # type: ignore[misc]  # that it is refused is the point
