"""Embedded keys: both ends have the same bits, nobody else does, and none is used twice."""

import hashlib
import hmac
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from uuid import UUID, uuid4

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.errors import DeffdError
from deffd_flower.qkd.controller import QkdnController
from deffd_flower.qkd.embedded import (
    MAX_KEY_BITS,
    EmbeddedKeySource,
    load_secret,
    secret_file,
)
from deffd_flower.qkd.network import DirectNetwork
from deffd_flower.qkd.pool import PoolSettings
from deffd_flower.qkd.presets import links
from deffd_flower.transport import (
    Direction,
    Expectation,
    KeyReference,
    KeyUnavailable,
    ReplayGuard,
    Route,
    generate_kem_keypair,
    open_sealed,
    seal,
    suites,
)

SECRET = bytes(range(32))
KEY_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")


def source(partition: int, run: int = 1, secret: bytes = SECRET) -> EmbeddedKeySource:
    return EmbeddedKeySource(f"client-{partition}", run, secret)


def bits_of(keys: EmbeddedKeySource, peer: int, *references: KeyReference) -> bytes:
    """What ``keys`` opens a message of ``peer`` with."""
    return bytes(keys.for_receiving(f"client-{peer}", references).secret)


def whole(length: int, key_id: UUID = KEY_ID) -> KeyReference:
    return KeyReference(key_id, 0, length)


def hkdf_sha384(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with 32 bytes of output, which fit in its first block."""
    pseudorandom = hmac.digest(bytes(48), secret, "sha384")
    return hmac.digest(pseudorandom, info + b"\1", "sha384")[:32]


def test_the_bits_are_those_of_the_construction_in_the_documentation() -> None:
    """Written again from primitives: HMAC, and AES on one counter after the other."""
    names = b"\x08client-1" + b"\x08client-0"
    pair = hkdf_sha384(SECRET, b"\x15deffd-embedded-link/1" + names + (77).to_bytes(8, "big"))
    key = hkdf_sha384(pair, b"\x14deffd-embedded-key/1" + KEY_ID.bytes)
    counters = b"".join(counter.to_bytes(16, "big") for counter in range(4))
    stream = Cipher(AES(key), ECB()).encryptor().update(counters)
    assert bits_of(source(0, run=77), 1, whole(512)) == stream


def test_the_bits_never_change_between_versions() -> None:
    """Clients of two versions may meet in one federation: a golden value, made once."""
    digest = hashlib.sha256(bits_of(source(3, run=9), 12, whole(8 * 1000))).hexdigest()
    assert digest == "1376505eeecbec1430305a899b9ac179d423229ac5acb58b449fd42242d45ca7"


@given(
    offset=st.integers(0, 5000), size=st.integers(1, 3000), sender=st.sampled_from([(0, 1), (1, 0)])
)
def test_both_ends_have_the_same_bits_from_any_offset(
    offset: int, size: int, sender: tuple[int, int]
) -> None:
    here, there = sender
    everything = bits_of(source(there), here, whole(8 * 8000))
    piece = KeyReference(KEY_ID, 8 * offset, 8 * size)
    sent = source(here).for_sending(f"client-{there}", 8 * size, [piece])
    assert bytes(sent.secret) == everything[offset : offset + size]
    assert bits_of(source(there), here, piece) == bytes(sent.secret)


def test_a_piece_longer_than_the_work_buffer_is_seamless() -> None:
    size = 2**21 + 5
    everything = bits_of(source(1), 0, whole(8 * (size + 3)))
    assert bits_of(source(1), 0, KeyReference(KEY_ID, 24, 8 * size)) == everything[3:]
    halves = whole(8 * 100), KeyReference(KEY_ID, 800, 8 * 50)
    assert bits_of(source(1), 0, *halves) == everything[:150]


@pytest.mark.parametrize(
    ("keys", "peer", "key_id"),
    [
        (source(0, run=2), 1, KEY_ID),
        (source(0, secret=bytes(32)), 1, KEY_ID),
        (source(1), 0, KEY_ID),
        (source(0), 2, KEY_ID),
        (source(2), 1, KEY_ID),
        (source(0), 1, UUID(int=KEY_ID.int + 1)),
    ],
    ids=["run", "secret", "direction", "peer", "self", "key_ID"],
)
def test_another_run_secret_direction_pair_or_key_id_gives_unrelated_bits(
    keys: EmbeddedKeySource, peer: int, key_id: UUID
) -> None:
    ours = np.frombuffer(bits_of(source(0), 1, whole(8 * 10_000)), np.uint8)
    theirs = np.frombuffer(bits_of(keys, peer, whole(8 * 10_000, key_id)), np.uint8)
    differing = int(np.bitwise_count(ours ^ theirs).sum())
    assert differing == pytest.approx(40_000, abs=5 * 142)


def test_names_that_read_the_same_when_joined_are_different_pairs() -> None:
    one = EmbeddedKeySource("client-1", 1, SECRET).for_receiving("1client-2", [whole(256)])
    two = EmbeddedKeySource("client-11", 1, SECRET).for_receiving("client-2", [whole(256)])
    assert bytes(one.secret) != bytes(two.secret)


def test_a_grant_is_used_from_its_front_and_named_accordingly() -> None:
    grant = [whole(800), KeyReference(uuid4(), 80, 800), KeyReference(uuid4(), 0, 8)]
    material = source(0).for_sending("client-1", 1000, grant)
    assert material.references == (grant[0], KeyReference(grant[1].key_id, 80, 200))
    assert material.bits == 1000
    assert bits_of(source(1), 0, *material.references) == bytes(material.secret)


def test_a_grant_seals_once() -> None:
    keys = source(0)
    keys.for_sending("client-1", 256, [whole(512)])
    with pytest.raises(KeyUnavailable, match="has sealed a message already"):
        keys.for_sending("client-1", 256, [KeyReference(KEY_ID, 256, 256)])


@pytest.mark.parametrize("bits", [0, -8, 7, 257])
def test_sending_takes_whole_bytes(bits: int) -> None:
    with pytest.raises(KeyUnavailable, match="multiple of 8"):
        source(0).for_sending("client-1", bits, [whole(512)])


def test_sending_takes_no_more_than_was_granted() -> None:
    with pytest.raises(KeyUnavailable, match="8 key bits short"):
        source(0).for_sending("client-1", 520, [whole(512)])
    with pytest.raises(KeyUnavailable, match="256 key bits short"):
        source(0).for_sending("client-1", 256)


def test_absurd_lengths_are_refused_before_any_memory_is_taken() -> None:
    absurd = [whole(2**63)], [whole(MAX_KEY_BITS), KeyReference(uuid4(), 0, 8)]
    for references in absurd:
        with pytest.raises(KeyUnavailable, match="key bits are named"):
            source(0).for_receiving("client-1", references)
    with pytest.raises(KeyUnavailable, match="no key with itself"):
        source(0).for_receiving("client-0", [whole(256)])


def test_the_last_bits_of_the_longest_key_are_there() -> None:
    last = KeyReference(KEY_ID, 2**64 - 16, 8)
    assert len(bits_of(source(0), 1, last)) == 1


# The secret file -------------------------------------------------------------------------------


def test_the_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "deffd-flower" / "qkd-secret"
    secret = load_secret(path)
    assert len(secret) == 32
    assert load_secret(path) == secret == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["qkd-secret"]
    assert load_secret(tmp_path / "another") != secret


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "qkd-secret"
    load_secret(path)
    path.chmod(mode)
    with pytest.raises(DeffdError, match=rf"open to others; close it: chmod 600 {path}"):
        load_secret(path)


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33)])
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "qkd-secret"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(DeffdError, match="does not hold 32 bytes"):
        load_secret(path)


def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeffdError, match="DEFFD_QKD_SECRET_FILE can name another"):
        load_secret(tmp_path / "file" / "qkd-secret")
    with pytest.raises(DeffdError, match="Is a directory"):
        load_secret(tmp_path)


def test_where_the_file_is() -> None:
    home = Path.home()
    assert secret_file({}) == home / ".local/state/deffd-flower/qkd-secret"
    assert secret_file({"XDG_STATE_HOME": "/state"}) == Path("/state/deffd-flower/qkd-secret")
    named = {"XDG_STATE_HOME": "/state", "DEFFD_QKD_SECRET_FILE": "~/mine"}
    assert secret_file(named) == home / "mine"


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    """All of them look for a file at a moment when there is none."""
    script = (
        "import sys; from pathlib import Path; from deffd_flower.qkd.embedded import load_secret;"
        "print('ready', flush=True)\n"
        "for place in sys.stdin: print(load_secret(Path(place.strip())).hex(), flush=True)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=PIPE, stdout=PIPE, text=True, bufsize=1
        )
        for _ in range(4)
    ]
    assert [_line_from(process) for process in started] == ["ready"] * 4
    for attempt in range(25):
        path = tmp_path / f"secret-{attempt}"
        for process in started:
            assert process.stdin is not None
            process.stdin.write(f"{path}\n")
        assert {_line_from(process) for process in started} == {path.read_bytes().hex()}
    assert [process.communicate(timeout=60)[0] for process in started] == [""] * 4


def _line_from(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# With controller, envelope and crashes -----------------------------------------------------------


@pytest.mark.parametrize("name", ["aes", "hybrid", "otp"])
def test_what_one_end_seals_the_other_opens(name: str) -> None:
    suite = suites.get(name)
    kem = generate_kem_keypair() if suite.uses_kem else None
    controller = QkdnController(DirectNetwork(2, links.get("lim-metro-10km")))
    controller.advance(60)
    model = os.urandom(50_000)
    needed = suite().key_bits(len(model))
    grant = controller.grant(0, 1, needed, name)
    assert grant is not None
    key = source(0).for_sending("client-1", needed, grant.references)
    route = Route(1, "client-0", "client-1", Direction.MODEL, 1, 0)
    blob = seal(suite(), route, model, key, kem.public if kem else None)
    expect = Expectation(1, "client-1", {"client-0"}, Direction.MODEL, suite, range(2))
    private = kem.private if kem else None
    opened = open_sealed(blob, expect, source(1), ReplayGuard(1), private)
    assert opened.plaintext == model
    controller.settle(grant, needed)
    assert controller.tally.key_bits == needed


def blocks_of(pad: bytes) -> Iterator[bytes]:
    return (pad[start : start + 16] for start in range(0, len(pad) - 15, 16))


def test_no_pad_bit_is_used_twice_in_ten_thousand_messages_with_crashes() -> None:
    """Six clients write to each other, pads of 8 to 1000 bytes. A third of the messages crash:
    before the pad is fetched, or after it is fetched and before it is sent.

    Two bitmaps would show a bit used twice: one per link over everything it has stored, one per
    key stream. The pads themselves are compared as well, in blocks of 16 bytes.
    """
    draws = np.random.default_rng(11)
    kept = PoolSettings(capacity=5_000_000, max_age_s=120.0)
    controller = QkdnController(DirectNetwork(6, links.get("lim-50km")), kept, seed=5)
    keys = [source(client) for client in range(6)]
    on_link: dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
    in_stream: dict[UUID, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
    seen: set[bytes] = set()
    blocks = sent = crashed = 0
    while sent + crashed < 10_000:
        sender, receiver = draws.choice(6, 2, replace=False).tolist()
        size = int(draws.integers(8, 1000))
        grant = controller.grant(sender, receiver, 8 * size, "otp")
        if grant is None:
            controller.advance(controller.seconds_until(sender, receiver, 8 * size))
            continue
        for link, lease in grant.leases:
            used = on_link.setdefault(link, np.zeros(2**26, np.bool_))
            end = lease.start + lease.bits
            assert end <= used.size
            assert not used[lease.start : end].any()
            used[lease.start : end] = True
        fate = draws.random()
        if fate > 1 / 6:
            pad = keys[sender].for_sending(f"client-{receiver}", 8 * size, grant.references)
            for reference in pad.references:
                used = in_stream.setdefault(reference.key_id, np.zeros(10_000, np.bool_))
                assert not used[reference.offset : reference.end].any()
                used[reference.offset : reference.end] = True
            seen.update(blocks_of(bytes(pad.secret)))
            blocks += size // 16
        if fate > 1 / 3:
            controller.settle(grant, 8 * size)
            sent += 1
        else:
            controller.abandon(grant)
            crashed += 1
    assert crashed > 3000
    assert len(seen) == blocks > 200_000
    controller.close()
    assert controller.tally.messages == sent
    assert controller.tally.abandoned == crashed
