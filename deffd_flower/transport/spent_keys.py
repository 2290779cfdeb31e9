"""The sender's memory of granted keys: whatever the server orders, none of them seals twice."""

from collections.abc import Iterable

from deffd_flower.transport.references import KeyReference
from deffd_flower.transport.refusal import KeyUnavailable

_ID_BYTES = 16


class SpentKeys:
    """Every key_ID that was granted to a client for sealing, 16 bytes each.

    The server grants keys and sees what is sealed under them. Could it grant a one-time pad for a
    second model, it would have the difference of the two. Nothing is ever forgotten, because the
    server could wait for it.

    Args:
        data: What `to_bytes` returned.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._ids = {data[at : at + _ID_BYTES] for at in range(0, len(data), _ID_BYTES)}

    def spend(self, grant: Iterable[KeyReference]) -> None:
        """Write down a grant.

        Raises:
            KeyUnavailable: Some of it was granted before.
        """
        ids = {reference.key_id.bytes for reference in grant}
        if not self._ids.isdisjoint(ids):
            raise KeyUnavailable("a key was granted that has been granted before")
        self._ids |= ids

    def to_bytes(self) -> bytes:
        """Return the whole memory; equal memories have equal bytes."""
        return b"".join(sorted(self._ids))
