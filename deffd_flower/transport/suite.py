"""What a suite is, and how a suite's name and its id on the wire find its class."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from deffd_flower.errors import RequestError
from deffd_flower.registry import Registry
from deffd_flower.transport.envelope import Header, Route, header_bytes
from deffd_flower.transport.kem import KEM_CIPHERTEXT_BYTES
from deffd_flower.transport.wire import Buffer

KEY_BITS = 256


class Suite(ABC):
    """One way to seal a body under an authenticated header. Holds no state and no key.

    A suite of your own subclasses this, takes a ``suite_id`` from 128 to 255 and registers itself
    with ``suites.register("name")``; or the run config names it as ``module:Class``.
    """

    suite_id: ClassVar[int]
    """Id on the wire, 0 to 255; up to 127 are this package's."""
    strength: ClassVar[int]
    """Rank that `min-suite` compares. It is the order in which a starved link degrades, most QKD
    key first; it does not say that `hybrid` is easier to break than `aes`."""
    claims: ClassVar[str]
    """What the suite gives and what it does not, for the claims table."""
    tag_bytes: ClassVar[int] = 16
    """Bytes the body has beyond the plaintext."""
    nonce_bytes: ClassVar[int] = 0
    """Length of the nonce in the header."""
    uses_kem: ClassVar[bool] = False
    """Whether the receiver's ML-KEM-768 key takes part."""
    reuses_keys: ClassVar[bool] = False
    """Whether several messages may be sealed under one QKD key."""

    @abstractmethod
    def key_bits(self, plaintext_bytes: int) -> int:
        """Return the QKD key bits that a message of so many bytes takes."""

    @abstractmethod
    def encrypt_into(
        self, header: Header, aad: bytes, plaintext: Buffer, secret: bytearray, out: memoryview
    ) -> None:
        """Write the body of a message.

        Args:
            header: The header, for suites that bind their key to parts of it.
            aad: The header's bytes, to be authenticated with the body.
            plaintext: ``header.plaintext_bytes`` bytes.
            secret: The QKD key bits, then ML-KEM's shared secret if the suite uses one.
            out: Where the body goes: ``tag_bytes`` more than the plaintext.
        """

    @abstractmethod
    def decrypt(self, header: Header, aad: Buffer, body: memoryview, secret: bytearray) -> bytes:
        """Return the plaintext; arguments as in `encrypt_into`.

        Raises:
            Refused: `Reason.TAMPERED`, before any of the body was decrypted.
        """

    def nonce(self, route: Route) -> bytes:
        """Return the nonce of the message on ``route``, the only one its receiver takes."""
        return b""

    def fits(self, header: Header, body_bytes: int) -> bool:
        """Say whether the sizes and the nonce are those this suite would have written."""
        return (
            header.suite == self.suite_id
            and header.nonce == self.nonce(header.route)
            and len(header.kem_ciphertext) == (KEM_CIPHERTEXT_BYTES if self.uses_kem else 0)
            and header.key_bits == self.key_bits(header.plaintext_bytes)
            and body_bytes == header.plaintext_bytes + self.tag_bytes
        )

    def expansion(self, sender: str, receiver: str, references: int = 1) -> int:
        """Return the bytes that a message has on the wire beyond its plaintext.

        Args:
            sender: SAE id.
            receiver: SAE id.
            references: Number of key references; unused by a suite that takes no QKD key.
        """
        names = len(sender.encode()) + len(receiver.encode())
        kem = KEM_CIPHERTEXT_BYTES if self.uses_kem else 0
        keys = references if self.key_bits(1) else 0
        return header_bytes(names, self.nonce_bytes, kem, keys) + self.tag_bytes


class SuiteRegistry(Registry[type[Suite]]):
    """The suites by name and by id. Two suites with one id are an error when they register."""

    def __init__(self) -> None:
        super().__init__("suite")
        self._by_id: dict[int, type[Suite]] = {}

    def register(self, name: str) -> Callable[[type[Suite]], type[Suite]]:
        """Return a decorator that files a suite under ``name`` and its id.

        Raises:
            ValueError: Another suite has the name or the id.
        """
        by_name = super().register(name)

        def add(suite: type[Suite]) -> type[Suite]:
            holder = self._by_id.get(suite.suite_id, suite)
            if holder is not suite:
                raise ValueError(f"suite id {suite.suite_id} is {holder.__name__}'s already")
            self._by_id[suite.suite_id] = by_name(suite)
            return suite

        return add

    def get(self, name: str) -> type[Suite]:
        """Return the suite called ``name``; one found at a dotted path is registered under it.

        Raises:
            RequestError: There is no such suite.
            ValueError: The suite at the path has an id that is taken.
        """
        entry = super().get(name)
        if not issubclass(entry, Suite):
            raise RequestError(self.key, name, "is not a subclass of Suite")
        return self.register(name)(entry)

    def with_id(self, suite_id: int) -> type[Suite] | None:
        """Return the suite with this id on the wire, if there is one."""
        return self._by_id.get(suite_id)


suites = SuiteRegistry()
