"""Envelopes changed at random: none opens, and nothing but `Refused` is raised."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deffd_flower.transport import (
    Direction,
    EnvelopeError,
    Header,
    KeyReference,
    Refused,
    parse,
    suites,
)

if TYPE_CHECKING:
    from tests.transport.conftest import Mail

NAMES = ["none", "pqc", "hybrid", "aes", "otp"]


def flip_bits(blob: bytes, other: bytes, random: Random) -> bytes:
    changed = bytearray(blob)
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite(blob: bytes, other: bytes, random: Random) -> bytes:
    start, size = random.randrange(len(blob)), random.randint(1, 16)
    filler = random.choice((bytes(size), b"\xff" * size, random.randbytes(size)))
    return blob[:start] + filler + blob[start + size :]


def cut(blob: bytes, other: bytes, random: Random) -> bytes:
    start = random.randrange(len(blob))
    return blob[:start] + blob[start + random.randint(1, len(blob)) :]


def insert(blob: bytes, other: bytes, random: Random) -> bytes:
    start = random.randint(0, len(blob))
    return blob[:start] + random.randbytes(random.randint(1, 40)) + blob[start:]


def splice(blob: bytes, other: bytes, random: Random) -> bytes:
    return blob[: random.randint(1, len(blob))] + other[random.randrange(len(other)) :]


def cross_bodies(blob: bytes, other: bytes, random: Random) -> bytes:
    return parse(blob)[0].encode() + bytes(parse(other)[1])


def rewrite_field(blob: bytes, other: bytes, random: Random) -> bytes:
    """A well-formed lie: one field changed, and the nonce made to match."""
    header, body = parse(blob)
    lie = random.choice(LIES)(header, parse(other)[0], random)
    suite = suites.with_id(lie.suite)
    if suite is not None and random.random() < 0.7:
        lie = replace(lie, nonce=suite().nonce(lie.route))
    return lie.encode() + bytes(body)


def random_reference(random: Random, bits: int) -> KeyReference:
    return KeyReference(UUID(int=random.getrandbits(128)), 8 * random.randrange(99), bits)


LIES: list[Callable[[Header, Header, Random], Header]] = [
    lambda header, other, random: replace(header, suite=random.randrange(6)),
    lambda header, other, random: replace(header, route=other.route),
    lambda header, other, random: replace(header, references=other.references),
    lambda header, other, random: replace(header, kem_ciphertext=other.kem_ciphertext),
    lambda header, other, random: replace(header, nonce=random.randbytes(12)),
    lambda header, other, random: replace(header, plaintext_bytes=random.randrange(2**30)),
    lambda header, other, random: replace(
        header, references=(random_reference(random, header.key_bits or 256),)
    ),
    lambda header, other, random: replace(
        header, route=replace(header.route, sender=random.choice(("carol", "mallory", "ALICE")))
    ),
    lambda header, other, random: replace(
        header, route=replace(header.route, receiver=random.choice(("bob2", "carol", "BOB")))
    ),
    lambda header, other, random: replace(
        header, route=replace(header.route, round=random.randrange(12))
    ),
    lambda header, other, random: replace(
        header, route=replace(header.route, sequence=random.getrandbits(random.randint(1, 64)))
    ),
    lambda header, other, random: replace(
        header, route=replace(header.route, direction=random.choice(list(Direction)))
    ),
    lambda header, other, random: replace(
        header, route=replace(header.route, run=random.getrandbits(64))
    ),
]
MUTATIONS = [flip_bits, overwrite, cut, insert, splice, cross_bodies, rewrite_field, rewrite_field]


def fuzz(mail: "Mail", total: int, seed: int) -> tuple[int, set[str]]:
    """Offer ``total`` mutated envelopes; return how many opened, and the reasons of the rest."""
    random = Random(seed)
    originals = [
        mail.seal(name, random.randbytes(size)) for name in NAMES for size in (0, 7, 16, 33, 33)
    ]
    genuine = set(originals)
    expect = replace(mail.expect, min_suite=suites.get("pqc"))
    before, opened, offered = mail.guard.to_bytes(), 0, 0
    reasons: set[str] = set()
    while offered < total:
        blob, other = random.choice(originals), random.choice(originals)
        try:
            mutant = random.choice(MUTATIONS)(blob, other, random)
        except EnvelopeError:  # the lie does not fit in an envelope
            continue
        if mutant in genuine:
            continue
        offered += 1
        try:
            mail.open(mutant, expect)
            opened += 1
        except Refused as refused:
            reasons.add(refused.reason)
        mail.bob.given.clear()
    assert mail.guard.to_bytes() == before
    return opened, reasons


EVERY_KIND = {
    "malformed",
    "wrong-run",
    "wrong-receiver",
    "unknown-sender",
    "wrong-direction",
    "wrong-round",
    "unknown-suite",
    "downgraded",
    "tampered",
}


def test_five_thousand_mutated_envelopes(mail: "Mail") -> None:
    opened, reasons = fuzz(mail, 5_000, seed=1)
    assert opened == 0
    assert reasons >= EVERY_KIND


@pytest.mark.slow
def test_two_hundred_thousand_mutated_envelopes(mail: "Mail") -> None:
    opened, reasons = fuzz(mail, 200_000, seed=2)
    assert opened == 0
    assert reasons >= EVERY_KIND


@pytest.mark.parametrize("name", NAMES[1:])
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
@given(data=st.data())
def test_mutants_that_hypothesis_finds(mail: "Mail", name: str, data: st.DataObject) -> None:
    blob = mail.seal(name, data.draw(st.binary(max_size=20)))
    start = data.draw(st.integers(0, len(blob)))
    end = data.draw(st.integers(start, len(blob)))
    mutant = blob[:start] + data.draw(st.binary(max_size=20)) + blob[end:]
    if mutant == blob:
        assert mail.open(mutant).header.route.sender == "alice"
        return
    with pytest.raises(Refused):
        mail.open(mutant)


@given(noise=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_noise_is_refused(mail: "Mail", noise: bytes) -> None:
    with pytest.raises(Refused):
        mail.open(noise)
