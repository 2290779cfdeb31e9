"""The message key of the suites that combine secrets: HKDF-SHA-384 (RFC 5869)."""

import hashlib

from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from deffd_flower.transport.envelope import Header
from deffd_flower.transport.references import pack_references
from deffd_flower.transport.wire import pack_short, pack_text, wipe

LABEL = b"deffd-qkd/1"
MESSAGE_KEY_BYTES = 32


def key_info(header: Header) -> bytes:
    """Return HKDF's ``info``: all that the message key is bound to.

    Label, suite, direction, sender, receiver, key references, SHA-384 of the ML-KEM ciphertext.
    Key ids are in it because mismanaged ones make keys dependent (Hövelmanns et al.,
    arXiv:2509.12478); every variable field follows its length, so that different messages never
    share an ``info``.
    """
    route = header.route
    return b"".join(
        (
            pack_short(LABEL),
            bytes((header.suite, route.direction)),
            pack_text(route.sender),
            pack_text(route.receiver),
            pack_references(header.references),
            hashlib.sha384(header.kem_ciphertext).digest(),
        )
    )


def derive_message_key(header: Header, secret: bytearray) -> bytearray:
    """Return the 256-bit key of one message.

    Args:
        header: The message's header; its run id is the salt.
        secret: The input secrets, each of fixed length, one after the other
            (NIST SP 800-56C r2, section 2). It is wiped.
    """
    salt = header.route.run.to_bytes(8, "big")
    hkdf = HKDF(SHA384(), MESSAGE_KEY_BYTES, salt, key_info(header))
    message_key = bytearray(MESSAGE_KEY_BYTES)
    hkdf.derive_into(secret, message_key)
    wipe(secret)
    return message_key
