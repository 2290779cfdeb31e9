"""Sealing and opening: the pair of functions through which every model passes."""

from collections.abc import Container
from dataclasses import dataclass, field

from deffd_flower.transport.envelope import Direction, Header, Route, parse
from deffd_flower.transport.kem import decapsulate, encapsulate
from deffd_flower.transport.kept_keys import KeptKeys
from deffd_flower.transport.keys import KeyMaterial, KeySource
from deffd_flower.transport.refusal import (
    EnvelopeError,
    KeyUnavailable,
    NoKeyNow,
    Reason,
    Refused,
)
from deffd_flower.transport.replay import ReplayGuard
from deffd_flower.transport.suite import Suite, suites
from deffd_flower.transport.wire import Buffer, build_bytes


@dataclass(frozen=True)
class Expectation:
    """What a receiver is ready to open.

    Args:
        run: Flower's run id.
        receiver: The receiver's own SAE id.
        senders: SAE ids it takes messages from.
        direction: The role it expects.
        min_suite: The weakest suite it takes.
        rounds: Rounds it takes messages of, such as ``range(4, 6)``.
    """

    run: int
    receiver: str
    senders: Container[str]
    direction: Direction
    min_suite: type[Suite]
    rounds: range

    def check(self, header: Header) -> Suite:
        """Return the suite that opens a message with this header.

        Raises:
            Refused: The first reason in the order of `Reason` that holds.
        """
        for reason, holds in self._refusals(header.route).items():
            if holds:
                raise Refused(reason)
        suite = suites.with_id(header.suite)
        if suite is None:
            raise Refused(Reason.UNKNOWN_SUITE)
        if suite.strength < self.min_suite.strength:
            raise Refused(Reason.DOWNGRADED)
        return suite()

    def _refusals(self, route: Route) -> dict[Reason, bool]:
        return {
            Reason.WRONG_RUN: route.run != self.run,
            Reason.REFLECTED: route.sender == self.receiver,
            Reason.WRONG_RECEIVER: route.receiver != self.receiver,
            Reason.UNKNOWN_SENDER: route.sender not in self.senders,
            Reason.WRONG_DIRECTION: route.direction is not self.direction,
            Reason.WRONG_ROUND: route.round not in self.rounds,
        }


@dataclass(frozen=True)
class Opened:
    """An authentic message.

    Args:
        header: Its header.
        plaintext: Its body, never printed.
    """

    header: Header
    plaintext: bytes = field(repr=False)


def _joined(key: KeyMaterial, shared: bytes) -> bytearray:
    return key.secret + shared if shared else key.secret


def _no_key() -> KeyMaterial:
    return KeyMaterial((), b"")


def seal(
    suite: Suite,
    route: Route,
    plaintext: Buffer,
    key: KeyMaterial | None = None,
    kem_public: bytes | None = None,
) -> bytes:
    """Return the envelope of one message, and wipe the key, also when sealing fails.

    Args:
        suite: How to seal.
        route: Who writes to whom, as what, and when. Its sequence number must be new for this
            sender and receiver, as `KeySchedule` hands them out.
        plaintext: At most 1 GiB.
        key: ``suite.key_bits(len(plaintext))`` bits, or ``None`` when that is 0.
        kem_public: The receiver's ML-KEM-768 public key, for suites that use one.

    Raises:
        EnvelopeError: The plaintext or another field is too large.
        KeyUnavailable: The key has another size or was used, or the public key is not valid.
    """
    key = _no_key() if key is None else key
    try:
        needed = suite.key_bits(len(plaintext))
        if key.bits != needed:
            raise KeyUnavailable(f"{key.bits} key bits for a message that takes {needed}")
        kem_ciphertext, shared = encapsulate(kem_public) if suite.uses_kem else (b"", b"")
        secret = _joined(key, shared)
        nonce = suite.nonce(route)
        header = Header(
            suite.suite_id, route, len(plaintext), nonce, kem_ciphertext, key.references
        )
        aad = header.encode()

        def fill(blob: memoryview) -> None:
            blob[: len(aad)] = aad
            suite.encrypt_into(header, aad, plaintext, secret, blob[len(aad) :])

        return build_bytes(len(aad) + len(plaintext) + suite.tag_bytes, fill)
    finally:
        key.wipe()


def open_sealed(
    blob: Buffer,
    expect: Expectation,
    key_source: KeySource,
    guard: ReplayGuard,
    kem_private: bytes | None = None,
    kept: KeptKeys | None = None,
) -> Opened:
    """Return the message in an envelope, if it is authentic, expected and new.

    In this order: take apart, hold against what is expected, replay window, fetch key,
    authenticate and decrypt, write down in the guard. A refused message changes neither guard
    nor kept keys. The key is wiped either way.

    Args:
        blob: The envelope, from whoever carried it.
        expect: What to take.
        key_source: Where the named key comes from.
        guard: What was opened before; updated.
        kem_private: The receiver's ML-KEM-768 private key, for suites that use one.
        kept: Keys that may open another message; updated. ``None`` when a key opens one.

    Raises:
        NoKeyNow: It cannot be opened now; nothing has been written down.
        Refused: The message was not opened; nothing else is raised for any bytes.
    """
    try:
        header, body = parse(blob)
    except EnvelopeError:
        raise Refused(Reason.MALFORMED) from None
    suite = expect.check(header)
    if not suite.fits(header, len(body)):
        raise Refused(Reason.MALFORMED)
    if not suite.reuses_keys:
        kept = None
    uses = kept.policy.messages if kept else 1
    guard.check(header, uses)
    key = _fetch(header, key_source, kept)
    aad = memoryview(blob)[: len(blob) - len(body)]
    try:
        opened = Opened(header, _decrypt(suite, header, aad, body, key, kem_private))
        guard.commit(header, uses)
        if kept:
            kept.keep(header.route.sender, key)
        return opened
    finally:
        key.wipe()


def _fetch(header: Header, source: KeySource, kept: KeptKeys | None) -> KeyMaterial:
    if not header.references:
        return _no_key()
    sender = header.route.sender
    known = kept.get(sender, header.references) if kept else None
    try:
        key = known or source.for_receiving(sender, header.references)
    except NoKeyNow:
        raise
    except KeyUnavailable:
        raise Refused(Reason.NO_KEY) from None
    if key.references != header.references:
        key.wipe()
        raise Refused(Reason.NO_KEY)
    return key


def _decrypt(
    suite: Suite,
    header: Header,
    aad: memoryview,
    body: memoryview,
    key: KeyMaterial,
    kem_private: bytes | None,
) -> bytes:
    try:
        shared = decapsulate(kem_private, header.kem_ciphertext) if suite.uses_kem else b""
    except KeyUnavailable:
        raise Refused(Reason.NO_KEY) from None
    return suite.decrypt(header, aad, body, _joined(key, shared))
