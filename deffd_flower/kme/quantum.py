"""The simulated quantum channel between two KMEs, and when it gives key.

What is simulated: the photons. Real links end with the same secret bits at both ends because of
what happened on the fibre. Here both KMEs derive them from a seed file that both must have. The
file stands for the fibre, and whoever reads it knows every key of the link. No bit of link key
is ever sent from one end to the other. When a block is complete and how much key it gives is that
of `deffd_flower.qkd`, Eve included, in real time or faster.

What is real: everything after that. The two ends agree over their own authenticated channel which
key they have, store it, use each byte of it once, and say so when they do not have the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from deffd_flower.qkd.embedded import load_secret
from deffd_flower.qkd.eve import Eve
from deffd_flower.qkd.link import QuantumLink
from deffd_flower.qkd.pool import PoolSettings
from deffd_flower.qkd.production import (
    CALM,
    BlockProduction,
    BlockRun,
    block_yield,
    nanoseconds,
)
from deffd_flower.transport.wire import pack_short, pack_text

_KEY, _PROOF = b"deffd-kme-link-key/1", b"deffd-kme-link-proof/1"
_PROOF_BYTES = 16
_AES_BLOCK = 16


class QuantumChannel:
    """The same secret bits at both ends of a link.

    Key of a lot is AES-256 in counter mode under HKDF-SHA-384 of the seed, bound to both KME ids,
    the epoch and the lot's number. An epoch has a nonce of each end in it, so that no end gives
    the same key twice, even if its store is lost.

    Args:
        seed_file: 32 secret bytes, the same at both ends; drawn if the file is not there.
        alice: KME id of the end that makes the blocks.
        bob: KME id of the other end.

    Raises:
        DeffdError: The file cannot be read, is open to others, or holds no seed.
    """

    def __init__(self, seed_file: Path, alice: str, bob: str) -> None:
        self._seed = load_secret(seed_file)
        self._ends = pack_text(alice) + pack_text(bob)

    def key(self, epoch: bytes, lot: int, length: int) -> bytes:
        """Return the secret bytes of a lot."""
        key = self._derive(_KEY, epoch, lot, 32)
        return Cipher(AES256(key), CTR(bytes(_AES_BLOCK))).encryptor().update(bytes(length))

    def proof(self, epoch: bytes, lot: int) -> bytes:
        """Return what shows that both ends have the same key; it tells nothing about the key.

        It stands for the verification hash that ends error correction.
        """
        return self._derive(_PROOF, epoch, lot, _PROOF_BYTES)

    def _derive(self, purpose: bytes, epoch: bytes, lot: int, length: int) -> bytes:
        info = pack_short(purpose) + self._ends + pack_short(epoch) + lot.to_bytes(8, "big")
        return HKDF(SHA384(), length, salt=None, info=info).derive(self._seed)


@dataclass(slots=True)
class NewKey:
    """What a link has made since it was last asked.

    Attributes:
        length: Whole bytes of secret key, less what authenticating the blocks uses up.
        blocks: Blocks that gave it.
        aborted: Blocks that gave none.
    """

    length: int = 0
    blocks: int = 0
    aborted: int = 0


class Production:
    """A link's blocks in real time, made by the end called Alice.

    Args:
        name: The link's name, for Eve.
        link: Fibre and detectors.
        settings: Head start, authentication and when to abort.
        eve: What happens to the link; seconds count from its start, in simulated time.
        time_scale: Simulated seconds per second.
        simulated_ns: Simulated time that has passed before; -1 for a link that never worked.
        clock: Seconds that pass.
    """

    def __init__(
        self,
        name: str,
        link: QuantumLink,
        settings: PoolSettings,
        eve: Eve,
        time_scale: float,
        simulated_ns: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._settings = settings
        self._eve = eve
        self._time_scale = time_scale
        self._clock = clock
        self._blocks = BlockProduction(partial(block_yield, link, settings.abort_qber))
        self._before = clock()
        self._bits = 0
        self.simulated_ns = simulated_ns

    @property
    def qber(self) -> float:
        """Error rate under the conditions last seen."""
        return self._blocks.qber

    def pause(self) -> None:
        """Let the time since the last call pass without key: the two ends did not meet."""
        self._before = self._clock()

    def advance(self) -> NewKey:
        """Let the time since the last call pass; return what was made."""
        now = self._clock()
        passed = nanoseconds((now - self._before) * self._time_scale)
        self._before = now
        made = NewKey()
        if self.simulated_ns < 0:
            # The link has worked before anybody asks it for key, and nobody disturbed it.
            start = -nanoseconds(self._settings.head_start_s)
            self.simulated_ns = 0
            self._note(made, self._blocks.advance(start, 0, CALM))
        end = self.simulated_ns + passed
        for until, conditions in self._eve.conditions(self._name, self.simulated_ns, end, ()):
            self._note(made, self._blocks.advance(self.simulated_ns, until, conditions))
            self.simulated_ns = until
        made.length, self._bits = divmod(self._bits, 8)
        return made

    def _note(self, made: NewKey, runs: list[BlockRun]) -> None:
        for run in runs:
            bits = run.bits - self._settings.authentication_bits
            if bits > 0:
                self._bits += run.blocks * bits
                made.blocks += run.blocks
            else:
                made.aborted += run.blocks
