"""`seal`: sealing and opening a model, against the bare primitive in the same process.

The bare primitive of the AES suites is AES-256-GCM of the same bytes, there and back; of the
one-time pad two XORs and two Poly1305 tags; of ``none`` two copies.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from uuid import UUID

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

from benchmarks.harness import Options, Result, in_turn, ratio_of
from deffd_flower.errors import DeffdError
from deffd_flower.transport import (
    Direction,
    Expectation,
    KeyMaterial,
    KeyReference,
    ReplayGuard,
    Route,
    generate_kem_keypair,
    open_sealed,
    seal,
    suites,
)

ThereAndBack = Callable[[bytes], bytes]

RUN = 1
SIZES = {"1MB": 1_000_000, "50MB": 50_000_000}
QUICK_SIZES = {"10kB": 10_000}
MIN_BYTES = 20_000_000
REFERENCES = {"none": "two copies", "otp": "two XORs and two Poly1305 tags"}


def measure(options: Options) -> Iterator[Result]:
    """Yield, per suite and size, our seconds / the bare primitive's."""
    for size_name, size in (QUICK_SIZES if options.quick else SIZES).items():
        # Small messages are sealed several times over, so that a turn lasts a few milliseconds.
        times = 1 if options.quick else -(-MIN_BYTES // size)
        for suite in suites.names():
            yield _compared(f"seal:{suite}:{size_name}", suite, size, times, options)


def _compared(name: str, suite: str, size: int, times: int, options: Options) -> Result:
    plaintext = os.urandom(size)
    mail, primitive = Mail(suite, size), _primitive(suite, size)
    arms: dict[str, Callable[[], float]] = {
        "ours": lambda: _seconds(mail.with_fresh_key, plaintext, times),
        "primitive": lambda: _seconds(lambda: primitive, plaintext, times),
    }
    for arm in arms.values():
        arm()
    measured = in_turn(arms, options)
    speed = {arm: round(size / 1e6 / min(each), 1) for arm, each in measured.items()}
    reference = REFERENCES.get(suite, "AES-256-GCM, there and back")
    return ratio_of(
        name, measured, "ours", "primitive", best_mb_per_s=speed, bytes=size, reference=reference
    )


def _seconds(prepared: Callable[[], ThereAndBack], plaintext: bytes, times: int) -> float:
    spent = 0.0
    for _ in range(times):
        action = prepared()
        started = time.perf_counter()
        back = action(plaintext)
        spent += time.perf_counter() - started
        if back != plaintext:
            raise DeffdError("what was opened is not what was sealed")
    return spent / times


class Mail:
    """Alice seals messages of one size for Bob, who opens them; both have the key at hand.

    Args:
        suite: Name of the suite.
        size: Bytes of a message.
    """

    def __init__(self, suite: str, size: int) -> None:
        self._suite = suites.get(suite)()
        self._bits = self._suite.key_bits(size)
        self._secret = os.urandom(self._bits // 8)
        self._kem = generate_kem_keypair()
        self._guard = ReplayGuard(RUN)
        self._numbers = count()
        floor = suites.get("none")
        self._expect = Expectation(RUN, "bob", {"alice"}, Direction.MODEL, floor, range(2))

    def with_fresh_key(self) -> ThereAndBack:
        """Return what seals and opens one message, with a key that nobody has to wait for."""
        number = next(self._numbers)
        route = Route(RUN, "alice", "bob", Direction.MODEL, 1, number)
        references = (KeyReference(UUID(int=number), 0, self._bits),) if self._bits else ()
        key = self._key(references) if references else None
        ready = KeyAtHand(self._key(references))

        def there_and_back(plaintext: bytes) -> bytes:
            blob = seal(self._suite, route, plaintext, key, self._kem.public)
            private = self._kem.private
            return open_sealed(blob, self._expect, ready, self._guard, private).plaintext

        return there_and_back

    def _key(self, references: Sequence[KeyReference]) -> KeyMaterial:
        return KeyMaterial(references, bytearray(self._secret))


@dataclass(frozen=True)
class KeyAtHand:
    """A key source that has the one key that is asked for."""

    key: KeyMaterial

    def for_sending(self, peer: str, bits: int, grant: Sequence[KeyReference] = ()) -> KeyMaterial:
        """Return the key."""
        return self.key

    def for_receiving(self, peer: str, references: Sequence[KeyReference]) -> KeyMaterial:
        """Return the key."""
        return self.key


def _primitive(suite: str, size: int) -> ThereAndBack:
    if suite == "none":
        return lambda plaintext: bytes(memoryview(bytes(memoryview(plaintext))))
    if suite == "otp":
        return _pad_and_tag(size)
    return _gcm()


def _gcm() -> ThereAndBack:
    secret, nonce, header = os.urandom(32), bytes(12), os.urandom(150)

    def there_and_back(plaintext: bytes) -> bytes:
        cipher = AESGCM(secret)
        return cipher.decrypt(nonce, cipher.encrypt(nonce, plaintext, header), header)

    return there_and_back


def _pad_and_tag(size: int) -> ThereAndBack:
    pad, mac_key = np.frombuffer(os.urandom(size), np.uint8), os.urandom(32)

    def there_and_back(plaintext: bytes) -> bytes:
        sealed = np.bitwise_xor(np.frombuffer(plaintext, np.uint8), pad)
        tag = Poly1305.generate_tag(mac_key, sealed.data)
        Poly1305.verify_tag(mac_key, sealed.data, tag)
        return np.bitwise_xor(sealed, pad).tobytes()

    return there_and_back
