"""The five suites: `none`, `pqc`, `hybrid`, `aes` and `otp`."""

import struct
from abc import abstractmethod

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

from deffd_flower.transport.envelope import Header, Route
from deffd_flower.transport.kdf import derive_message_key
from deffd_flower.transport.refusal import Reason, Refused
from deffd_flower.transport.suite import KEY_BITS, Suite, suites
from deffd_flower.transport.wire import Buffer, build_bytes, wipe

__all__ = ["Aes", "Gcm", "Hybrid", "OneTimePad", "Plain", "PostQuantum", "Suite", "suites"]

_NONCE = struct.Struct(">xxBBQ")
_MAC_KEY_BYTES = 32
_TAG_BYTES = 16


@suites.register("none")
class Plain(Suite):
    """The plaintext as it is: no confidentiality, and no integrity of header or body.

    It is the baseline of an experiment. Whoever carries the message can read and change it.
    """

    suite_id = 0
    strength = 0
    claims = "None: whoever carries the model can read it, change it and make one up."
    tag_bytes = 0

    def key_bits(self, plaintext_bytes: int) -> int:
        """Return 0."""
        return 0

    def encrypt_into(
        self, header: Header, aad: bytes, plaintext: Buffer, secret: bytearray, out: memoryview
    ) -> None:
        """Copy the plaintext."""
        out[:] = plaintext

    def decrypt(self, header: Header, aad: Buffer, body: memoryview, secret: bytearray) -> bytes:
        """Copy the body."""
        return bytes(body)


class Gcm(Suite):
    """AES-256-GCM with the header as associated data; subclasses say where its key comes from.

    The nonce is deterministic (NIST SP 800-38D, 8.2.1), never random. Its 32-bit fixed field
    tells apart the streams that two SAEs sharing a key can have: which of them sends, and in
    which role. Its 64-bit invocation field is the sequence number, which the sender never uses
    twice. So no nonce occurs twice under a key, whether the key seals one message or many, and a
    receiver that takes a sequence number once takes each (key, nonce) once.
    """

    nonce_bytes = _NONCE.size
    reuses_keys = True

    @abstractmethod
    def message_key(self, header: Header, secret: bytearray) -> bytearray:
        """Return the 256-bit key of the message, ``secret`` itself or derived from it."""

    def _cipher(self, header: Header, secret: bytearray) -> AESGCM:
        message_key = self.message_key(header, secret)
        cipher = AESGCM(message_key)
        if message_key is not secret:
            wipe(message_key)
        return cipher

    def nonce(self, route: Route) -> bytes:
        """Return fixed field and invocation field, 96 bits."""
        return _NONCE.pack(route.sender > route.receiver, route.direction, route.sequence)

    def encrypt_into(
        self, header: Header, aad: bytes, plaintext: Buffer, secret: bytearray, out: memoryview
    ) -> None:
        """Write the ciphertext and the 128-bit tag."""
        self._cipher(header, secret).encrypt_into(header.nonce, plaintext, aad, out)

    def decrypt(self, header: Header, aad: Buffer, body: memoryview, secret: bytearray) -> bytes:
        """Return the plaintext if the tag is right.

        Raises:
            Refused: `Reason.TAMPERED`.
        """
        try:
            return self._cipher(header, secret).decrypt(header.nonce, body, aad)
        except InvalidTag:
            raise Refused(Reason.TAMPERED) from None


@suites.register("pqc")
class PostQuantum(Gcm):
    """AES-256-GCM under HKDF-SHA-384 of an ML-KEM-768 secret; no QKD takes part.

    A key encapsulation does not authenticate who encapsulated: unlike in the suites with QKD,
    anyone who has the receiver's public key can seal a message in any peer's name.
    """

    suite_id = 1
    strength = 10
    claims = (
        "No QKD. Computational confidentiality (ML-KEM-768, AES-256-GCM) if the receiver's public"
        " key is authentic; detects changes on the way, does not prove who the sender is."
    )
    uses_kem = True

    def key_bits(self, plaintext_bytes: int) -> int:
        """Return 0."""
        return 0

    def message_key(self, header: Header, secret: bytearray) -> bytearray:
        """Return HKDF-SHA-384 of the shared secret."""
        return derive_message_key(header, secret)


@suites.register("hybrid")
class Hybrid(Gcm):
    """AES-256-GCM under HKDF-SHA-384 of (QKD key || ML-KEM-768 secret), 32 bytes each."""

    suite_id = 2
    strength = 20
    claims = (
        "Computational confidentiality (AES-256-GCM) while QKD or ML-KEM-768 holds; integrity and"
        " the sender's identity rest on the QKD key."
    )
    uses_kem = True

    def key_bits(self, plaintext_bytes: int) -> int:
        """Return 256."""
        return KEY_BITS

    def message_key(self, header: Header, secret: bytearray) -> bytearray:
        """Return HKDF-SHA-384 of both secrets."""
        return derive_message_key(header, secret)


@suites.register("aes")
class Aes(Gcm):
    """AES-256-GCM under the QKD key itself, as uniform as a cipher's key has to be.

    Sender, receiver, role and key_ID are bound by the associated data, so a derivation step
    would add nothing.
    """

    suite_id = 3
    strength = 30
    claims = (
        "Computational confidentiality and integrity (AES-256-GCM) under a QKD key; the sender is"
        " whoever shares that key."
    )

    def key_bits(self, plaintext_bytes: int) -> int:
        """Return 256."""
        return KEY_BITS

    def message_key(self, header: Header, secret: bytearray) -> bytearray:
        """Return the QKD key."""
        return secret


def poly1305(key: Buffer, aad: Buffer, ciphertext: Buffer) -> Poly1305:
    """Return Poly1305 fed as in RFC 8439, section 2.8: both parts padded, then both lengths."""
    mac = Poly1305(key)
    for part in (aad, ciphertext):
        mac.update(part)
        mac.update(bytes(-len(part) % 16))
    mac.update(struct.pack("<QQ", len(aad), len(ciphertext)))
    return mac


def _xor_into(data: Buffer, pad: Buffer, out: memoryview) -> None:
    np.bitwise_xor(
        np.frombuffer(data, np.uint8), np.frombuffer(pad, np.uint8), np.frombuffer(out, np.uint8)
    )


@suites.register("otp")
class OneTimePad(Suite):
    """XOR with a QKD pad, and Poly1305 under a one-time QKD key (Wegman and Carter, 1981).

    A forged message of L bytes, header included, passes with probability at most
    8 ceil(L / 16) / 2^106 (Bernstein, 2005), whatever the forger can compute. The key's first 256
    bits are Poly1305's (r, s), the others are the pad. Neither may ever serve again.
    """

    suite_id = 4
    strength = 40
    claims = (
        "Information-theoretic confidentiality (one-time pad) and integrity (Poly1305, one-time"
        " key), as far as the QKD key itself is: honest devices and trusted nodes."
    )

    def key_bits(self, plaintext_bytes: int) -> int:
        """Return the bits of the pad and of the Poly1305 key."""
        return 8 * (plaintext_bytes + _MAC_KEY_BYTES)

    def encrypt_into(
        self, header: Header, aad: bytes, plaintext: Buffer, secret: bytearray, out: memoryview
    ) -> None:
        """Write the ciphertext and the 128-bit tag."""
        key = memoryview(secret)
        ciphertext = out[:-_TAG_BYTES]
        _xor_into(plaintext, key[_MAC_KEY_BYTES:], ciphertext)
        out[-_TAG_BYTES:] = poly1305(key[:_MAC_KEY_BYTES], aad, ciphertext).finalize()

    def decrypt(self, header: Header, aad: Buffer, body: memoryview, secret: bytearray) -> bytes:
        """Return the plaintext if the tag is right; the pad is not touched before.

        Raises:
            Refused: `Reason.TAMPERED`.
        """
        key = memoryview(secret)
        ciphertext = body[:-_TAG_BYTES]
        try:
            tag = bytes(body[-_TAG_BYTES:])
            poly1305(key[:_MAC_KEY_BYTES], aad, ciphertext).verify(tag)
        except InvalidSignature:
            raise Refused(Reason.TAMPERED) from None
        return build_bytes(
            len(ciphertext), lambda out: _xor_into(ciphertext, key[_MAC_KEY_BYTES:], out)
        )
