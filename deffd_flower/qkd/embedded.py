"""Key bits without a key manager: both ends work them out from a secret they share.

The secrecy of this source is simulated. Its bits are those of a cipher, not of photons, and
whoever reads the secret file knows every key of every link. What is real is everything around
them: no key, and nothing a key could be worked out from, is in any Flower message; each bit is
used once; and the rates are those of the simulated network. For real secrecy point the
federation at key managers (ETSI GS QKD 014) instead.

The secret lives in a file that all clients of a federation have to share: on one machine they
find the same one, on several the file has to be copied by a way Flower has no part in.
"""

import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from deffd_flower.errors import DeffdError
from deffd_flower.transport.envelope import MAX_PLAINTEXT_BYTES
from deffd_flower.transport.keys import KeyMaterial, KeyReference, KeyUnavailable
from deffd_flower.transport.wire import pack_short, pack_text

SECRET_FILE_VARIABLE = "DEFFD_QKD_SECRET_FILE"
SECRET_BYTES = 32
#: A one-time pad for the longest plaintext, and a one-time authentication key beside it.
MAX_KEY_BITS = 8 * (MAX_PLAINTEXT_BYTES + 1024)

_LINK, _KEY = b"deffd-embedded-link/1", b"deffd-embedded-key/1"
_AES_BLOCK = 16
_CHUNK = 2**20


def secret_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the secret lives: ``DEFFD_QKD_SECRET_FILE``, or the user's state folder."""
    if named := environment.get(SECRET_FILE_VARIABLE):
        return Path(named).expanduser()
    state = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "deffd-flower" / "qkd-secret"


def load_secret(path: Path) -> bytes:
    """Return the secret in a file; draw one and write it there first if there is no file.

    Of several processes that do so at once, all return the same.

    Raises:
        DeffdError: The file cannot be read or written, is open to others, or holds no secret.
    """
    try:
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as problem:
        raise DeffdError(
            f"QKD secret file {path}: {problem.strerror}; {SECRET_FILE_VARIABLE} can name another"
        ) from problem


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole or not at all. Where another process was first, its secret counts.
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        secret = file.read(SECRET_BYTES + 1)
    if os.name == "posix" and mode & 0o077:
        raise DeffdError(f"QKD secret file {path} is open to others; close it: chmod 600 {path}")
    if not stat.S_ISREG(mode) or len(secret) != SECRET_BYTES:
        raise DeffdError(
            f"QKD secret file {path} does not hold {SECRET_BYTES} bytes; remove it wherever it"
            " is, and the next run draws a new one"
        )
    return secret


class EmbeddedKeySource:
    """A client's key supply agent (ITU-T Y.3800) in a simulated QKD network.

    Secrecy is simulated, see the module. A sender's secret with a receiver is HKDF-SHA-384 of the
    file's secret, bound to the run and both SAE ids in this order: whatever the server grants, the
    two directions of a pair never have a bit in common. A key is AES-256 in
    counter mode under HKDF-SHA-384 of that, bound to its key_ID: any piece of it comes without the
    bits before it.

    Args:
        sae: The client's own SAE id.
        run: Flower's run id; two runs have no key in common.
        secret: What `load_secret` returned.
    """

    def __init__(self, sae: str, run: int, secret: bytes) -> None:
        self._sae = sae
        self._run = run
        self._secret = secret
        self._secrets: dict[tuple[str, str], bytes] = {}
        self._sent: set[UUID] = set()

    def for_sending(self, peer: str, bits: int, grant: Sequence[KeyReference] = ()) -> KeyMaterial:
        """Return the first bits of a grant; the rest of it is never used.

        Args:
            peer: SAE id of the receiver.
            bits: How many bits, a multiple of 8.
            grant: What the network's controller set aside for this message.

        Raises:
            KeyUnavailable: The grant is too small, or this object has used it before.
        """
        if bits < 8 or bits % 8:
            raise KeyUnavailable(f"{bits} key bits: must be a multiple of 8, and at least 8")
        references = _first_bits(grant, bits)
        key_ids = {reference.key_id for reference in references}
        if not self._sent.isdisjoint(key_ids):
            raise KeyUnavailable("this grant has sealed a message already")
        material = self._material(self._sae, peer, references)
        self._sent |= key_ids
        return material

    def for_receiving(self, peer: str, references: Sequence[KeyReference]) -> KeyMaterial:
        """Return the key that ``peer`` named in a message.

        Raises:
            KeyUnavailable: More is named than any message can need.
        """
        return self._material(peer, self._sae, references)

    def _material(
        self, sender: str, receiver: str, references: Sequence[KeyReference]
    ) -> KeyMaterial:
        bits = sum(reference.length for reference in references)
        if bits > MAX_KEY_BITS:
            raise KeyUnavailable(f"{bits} key bits are named; a message takes {MAX_KEY_BITS}")
        if sender == receiver:
            raise KeyUnavailable("an SAE shares no key with itself")
        secret = bytearray(bits // 8)
        rest = memoryview(secret)
        for reference in references:
            size = reference.length // 8
            own = self._one_way_secret(sender, receiver)
            key = _derive(own, pack_short(_KEY) + reference.key_id.bytes)
            _fill_with_keystream(rest[:size], key, reference.offset // 8)
            rest = rest[size:]
        return KeyMaterial(references, secret)

    def _one_way_secret(self, sender: str, receiver: str) -> bytes:
        if (sender, receiver) not in self._secrets:
            names = pack_text(sender) + pack_text(receiver)
            info = pack_short(_LINK) + names + self._run.to_bytes(8, "big")
            self._secrets[sender, receiver] = _derive(self._secret, info)
        return self._secrets[sender, receiver]


def _first_bits(grant: Sequence[KeyReference], bits: int) -> list[KeyReference]:
    pieces: list[KeyReference] = []
    for reference in grant:
        taken = min(bits, reference.length)
        if taken:
            pieces.append(KeyReference(reference.key_id, reference.offset, taken))
        bits -= taken
    if bits:
        raise KeyUnavailable(f"the grant is {bits} key bits short")
    return pieces


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA384(), SECRET_BYTES, salt=None, info=info).derive(secret)


def _fill_with_keystream(out: memoryview, key: bytes, offset: int) -> None:
    """Write AES-256-CTR's keystream from byte ``offset`` on; counters start at 0 with the key."""
    block, skipped = divmod(offset, _AES_BLOCK)
    stream = Cipher(AES256(key), CTR(block.to_bytes(_AES_BLOCK, "big"))).encryptor()
    stream.update(bytes(skipped))
    zeros = memoryview(bytes(min(len(out), _CHUNK)))
    for start in range(0, len(out), _CHUNK):
        part = out[start : start + _CHUNK]
        stream.update_into(zeros[: len(part)], part)
