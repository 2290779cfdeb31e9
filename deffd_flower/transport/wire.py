"""Fields of a binary record, read without trusting a length written in it.

Numbers are big-endian and of fixed width, variable fields follow their own length: each value
has one encoding, so two records are equal exactly when their bytes are.
"""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

from deffd_flower.transport.refusal import EnvelopeError

Buffer = bytes | bytearray | memoryview

COUNT = struct.Struct(">H")
LENGTH = struct.Struct(">B")


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Refuse a number outside its range.

    Raises:
        EnvelopeError: The value is below ``low`` or above ``high``.
    """
    if not low <= value <= high:
        raise EnvelopeError(f"{name} is {value}: must be from {low} to {high}")


def pack_text(text: str) -> bytes:
    """Return a one-byte length and the UTF-8 of ``text``, at most 255 bytes of it.

    Raises:
        EnvelopeError: The text is longer, or has no UTF-8 (a lone surrogate).
    """
    try:
        return pack_short(text.encode())
    except UnicodeEncodeError as problem:
        raise EnvelopeError("a name has no UTF-8 form") from problem


def pack_short(data: bytes) -> bytes:
    """Return a one-byte length and ``data``.

    Raises:
        EnvelopeError: There are more than 255 bytes.
    """
    if len(data) > 255:
        raise EnvelopeError(f"a field of {len(data)} bytes: at most 255 fit")
    return LENGTH.pack(len(data)) + data


def pack_long(data: bytes) -> bytes:
    """Return a two-byte length and ``data``.

    Raises:
        EnvelopeError: There are more than 65,535 bytes.
    """
    if len(data) > 0xFFFF:
        raise EnvelopeError(f"a field of {len(data)} bytes: at most 65535 fit")
    return COUNT.pack(len(data)) + data


def wipe(secret: bytearray) -> None:
    """Overwrite a secret with zeros."""
    secret[:] = bytes(len(secret))


def build_bytes(size: int, fill: Callable[[memoryview], None]) -> bytes:
    """Return ``size`` bytes that ``fill`` wrote through a view, with no copy made of them.

    CPython's ``BytesIO`` hands out its own buffer when nothing else holds it. Copying a large
    model into place would cost nearly as much time as AES-GCM itself.
    """
    buffer = BytesIO(bytes(size))
    with buffer.getbuffer() as view:
        fill(view)
    return buffer.getvalue()


class Reader:
    """Reads fields one after the other; every step is bounded by the bytes that are there.

    Args:
        data: The record.
    """

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self._at = 0

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes.

        Raises:
            EnvelopeError: So many are not there. So do the other methods.
        """
        end = self._at + size
        if end > len(self._data):
            raise EnvelopeError("truncated")
        part = self._data[self._at : end]
        self._at = end
        return part

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the next fields of fixed width."""
        return layout.unpack(self.take(layout.size))

    def short(self) -> bytes:
        """Return the next bytes behind a one-byte length."""
        return bytes(self.take(self.unpack(LENGTH)[0]))

    def long(self) -> bytes:
        """Return the next bytes behind a two-byte length."""
        return bytes(self.take(self.unpack(COUNT)[0]))

    def text(self) -> str:
        """Return the next text behind a one-byte length."""
        try:
            return self.short().decode()
        except UnicodeDecodeError as problem:
            raise EnvelopeError("a name is not UTF-8") from problem

    def rest(self) -> memoryview:
        """Return all bytes not yet read."""
        return self.take(len(self._data) - self._at)

    def finish(self) -> None:
        """Refuse bytes after the last field."""
        if self._at != len(self._data):
            raise EnvelopeError("bytes after the last field")
