"""A client's key supply over real key managers: the same key at both ends, and each key once."""

import itertools
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deffd_flower.sae.delivery import LinkStatus
from deffd_flower.sae.key_source import next_request
from deffd_flower.transport import KeyReference, KeyUnavailable, NoKeyNow
from tests.kme.running import FILLED_ONCE, running
from tests.sae.conftest import Saes
from tests.sae.kme_processes import LINK, sae, write_sae_file

LARGEST, PER_REQUEST = 2**16, 16


@pytest.mark.parametrize("bits", [256, 8, 2**16, 2**16 + 8, 500_000, 2**16 * 16 + 8])
def test_both_ends_get_the_same_bits_and_just_as_many_as_were_asked_for(
    saes: Saes, bits: int
) -> None:
    sent = saes.source(0).for_sending("client-1", bits)
    assert sent.bits == bits
    assert len(sent.references) == math.ceil(bits / LARGEST)
    received = saes.source(1).for_receiving("client-0", sent.references)
    assert received.secret == sent.secret
    assert received.references == sent.references
    assert bits < 256 or len(set(sent.secret)) > 16


def test_keys_of_one_key_manager_need_no_link(saes: Saes) -> None:
    sent = saes.source(0).for_sending("client-2", 256)
    assert saes.source(2).for_receiving("client-0", sent.references).secret == sent.secret


def test_no_two_messages_share_a_key(saes: Saes) -> None:
    source = saes.source(0)
    keys = [source.for_sending("client-1", 256) for _ in range(20)]
    assert len({key.references[0].key_id for key in keys}) == 20
    assert len({bytes(key.secret) for key in keys}) == 20


def test_a_key_that_was_fetched_is_not_to_be_had_again(saes: Saes) -> None:
    sent = saes.source(0).for_sending("client-1", 256)
    receiver = saes.source(1)
    receiver.for_receiving("client-0", sent.references)
    with pytest.raises(NoKeyNow):
        receiver.for_receiving("client-0", sent.references)
    with pytest.raises(NoKeyNow):
        saes.source(0).for_receiving("client-1", sent.references)


def test_a_key_between_two_clients_is_not_for_a_third(saes: Saes) -> None:
    sent = saes.source(0).for_sending("client-1", 256)
    with pytest.raises(KeyUnavailable, match="does not accept this SAE"):
        saes.source(3).for_receiving("client-0", sent.references)
    assert saes.source(1).for_receiving("client-0", sent.references).secret == sent.secret


def test_a_key_that_is_shorter_than_its_sender_said_is_refused(saes: Saes) -> None:
    sent = saes.source(0).for_sending("client-1", 256)
    longer = [KeyReference(sent.references[0].key_id, 0, 512)]
    with pytest.raises(KeyUnavailable, match="not the one that was named"):
        saes.source(1).for_receiving("client-0", longer)


def test_what_a_server_grants_is_refused(saes: Saes) -> None:
    sent = saes.source(0).for_sending("client-1", 256)
    with pytest.raises(KeyUnavailable, match="choose their own"):
        saes.source(0).for_sending("client-1", 256, sent.references)


def test_a_connection_that_the_key_manager_has_closed_is_opened_anew(saes: Saes) -> None:
    source = saes.source(0)
    source.for_sending("client-1", 256)
    time.sleep(1.5)
    assert source.for_sending("client-1", 256).bits == 256


def test_a_pad_that_the_store_cannot_fill_is_not_begun(tmp_path: Path) -> None:
    """What the first of several requests brought would be lost when the second fails."""
    own = {"kme-a": [sae(0)], "kme-b": [sae(1)]}
    small = {**FILLED_ONCE, "pool": {"capacity": 100_000}, "keys": {"max-size": 1024}}
    with running(tmp_path, LINK, own, **small) as sites:
        urls = {kme: f"https://127.0.0.1:{site.port}" for kme, site in sites.items()}
        placed = Saes(write_sae_file(tmp_path, 4, urls), sites)
        sender = placed.source(0)
        stored = sites["kme-a"].status(sae(0), sae(1))["stored_key_count"]
        with pytest.raises(NoKeyNow):
            sender.for_sending("client-1", 1_000_000)
        with pytest.raises(NoKeyNow):
            sender.for_sending("client-1", 110_000)
        assert sites["kme-a"].status(sae(0), sae(1))["stored_key_count"] == stored
        with pytest.raises(KeyUnavailable, match="976563 of the key manager's keys"):
            sender.for_sending("client-1", 1_000_000_000)
        assert sender.for_sending("client-1", 256).bits == 256


SIZES = st.integers(1, 5000).map(lambda size: 8 * size)


@given(st.integers(1, 2000).map(lambda n: 8 * n), SIZES, SIZES, st.integers(1, 200))
def test_requests_ask_for_what_is_allowed_and_waste_little(
    bits: int, least: int, most: int, per_request: int
) -> None:
    least, most = sorted((least, most))
    status = LinkStatus(least, 10**9, per_request, least, most)
    missing, keys = bits, 0
    while missing > 0:
        number, size = next_request(missing, status)
        assert 1 <= number <= per_request
        assert least <= size <= most
        assert size % 8 == 0
        missing -= number * size
        keys += number
    assert keys == math.ceil(bits / most)
    assert -missing <= max(8 * number, least * number)


@pytest.mark.parametrize("sizes", [*itertools.permutations([100, 0, 12])])
def test_odd_limits_of_foreign_key_managers_make_requests_all_the_same(
    sizes: tuple[int, int, int],
) -> None:
    key_size, least, most = sizes
    number, size = next_request(256, LinkStatus(key_size, 5, 1, least, max(key_size, most)))
    assert number == 1
    assert size >= 8
    assert size % 8 == 0
