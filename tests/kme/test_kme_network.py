"""Several KMEs: relayed keys, lost stores, ends that disagree, links under attack."""

import base64
import logging
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deffd_flower.errors import DeffdError
from deffd_flower.kme.ledger import read_ledger
from deffd_flower.kme.neighbour import Neighbour
from tests.e2e.conftest import free_port
from tests.kme.running import (
    FILLED_ONCE,
    Network,
    Site,
    described,
    running,
    sites,
    until,
    wait_for_key,
)
from tests.kme.test_kme_metrics import values

LINE = [("kme-a", "kme-b"), ("kme-b", "kme-c")]
RING = [*LINE, ("kme-c", "kme-a")]
SAES = {"kme-a": ["alice"], "kme-b": ["bob"], "kme-c": ["carol"]}
PAIR = {"kme-a": ["alice"], "kme-b": ["bob"]}
HALF = 2**23 // 8 // 2


def fetched(master: Site, slave: Site, number: int = 1) -> dict[str, bytes]:
    """Make keys, fetch them at the other KME, and check that both are equal."""
    one, other = master.config.saes[0], slave.config.saes[0]
    made = master.enc(one, other, number=number)
    assert made.status == 200, made.body
    again = slave.dec(other, one, list(made.keys))
    assert again.keys == made.keys
    return made.keys


def is_503(master: Site, slave: str) -> bool:
    return master.enc(master.config.saes[0], slave).status == 503


def books(folder: Path, kme: str) -> dict[tuple[str, str], dict[str, int]]:
    """Return the ledger of a KME that has stopped, and check that it adds up."""
    ledger = read_ledger(folder / f"{kme}.sqlite")
    ledger.check()
    return {(each.peer, each.way): vars(each) for each in ledger.balances}


def test_a_key_costs_its_length_on_each_hop_and_on_no_other(folder: Path) -> None:
    with running(folder, LINE, SAES, **FILLED_ONCE) as placed:
        fetched(placed["kme-a"], placed["kme-b"], 3)
        fetched(placed["kme-a"], placed["kme-c"], 5)
    a, b, c = (books(folder, kme) for kme in SAES)
    for stream in (a["kme-b", "out"], b["kme-a", "in"]):
        assert (stream["delivered"], stream["relayed"]) == (3 * 32, 5 * 32)
    for stream in (b["kme-c", "out"], c["kme-b", "in"]):
        assert (stream["delivered"], stream["relayed"]) == (0, 5 * 32)
    for stream in (a["kme-b", "in"], b["kme-a", "out"], c["kme-b", "out"], b["kme-c", "in"]):
        assert stream["generated"] == stream["stored"] == HALF
    for stream in (*a.values(), *b.values(), *c.values()):
        assert stream["reserved"] == stream["burnt"] == stream["expired"] == 0


def test_keys_for_several_kmes_cost_each_of_the_ways(folder: Path) -> None:
    with running(folder, RING, SAES, **FILLED_ONCE) as placed:
        made = placed["kme-a"].enc("alice", "bob", additional_slave_SAE_IDs=["carol"])
        for kme, sae in (("kme-b", "bob"), ("kme-c", "carol")):
            assert placed[kme].dec(sae, "alice", list(made.keys)).keys == made.keys
    a = books(folder, "kme-a")
    assert a["kme-b", "out"]["relayed"] == a["kme-c", "out"]["relayed"] == 32


def test_a_key_goes_the_way_without_trusted_nodes_while_it_has_key(folder: Path) -> None:
    pool = {"capacity": 2**17}
    with running(
        folder, RING, SAES, time_scale=1e-9, pool=pool, keys={"max-size": 65536}
    ) as placed:
        a, b = placed["kme-a"], placed["kme-b"]
        assert a.status("alice", "bob")["status_extension"] == {"deffd_route": ["kme-a", "kme-b"]}
        # 2^16 bits of each way: 8 keys of 2^13.
        direct = [a.enc("alice", "bob", size=2**13) for _ in range(8)]
        assert all("key_container_extension" not in each.json for each in direct)
        around = a.enc("alice", "bob", size=2**13)
        assert around.json["key_container_extension"] == {"deffd_trusted_nodes": ["kme-c"]}
        for made in (*direct, around):
            assert b.dec("bob", "alice", list(made.keys)).keys == made.keys
        only_direct = [{"deffd_route_type": "direct"}]
        assert a.enc("alice", "bob", extension_mandatory=only_direct).status == 400


def test_without_key_there_is_503_and_the_store_is_untouched(folder: Path) -> None:
    keys = {"max-size": 8192}
    with running(
        folder, LINE, SAES, time_scale=1e-9, pool={"capacity": 2**16}, keys=keys
    ) as placed:
        a = placed["kme-a"]
        assert a.status("alice", "bob")["stored_key_count"] == 128
        assert len(a.enc("alice", "bob", number=100).keys) == 100
        for slave in ("bob", "carol"):
            refused = a.enc("alice", slave, number=29)
            assert (refused.status, refused.message) == (503, "not enough keys")
            # A mandatory extension is not what is the matter here.
            young = [{"deffd_max_age_ms": 3_600_000}]
            assert a.enc("alice", slave, number=29, extension_mandatory=young).status == 503
        assert a.status("alice", "bob")["stored_key_count"] == 28
        assert len(fetched(a, placed["kme-b"], 28)) == 28
        assert a.enc("alice", "bob").status == 503
        assert a.status("alice", "bob")["stored_key_count"] == 0
        # The other way has its own key.
        fetched(placed["kme-b"], a, 128)


def test_one_way_can_use_nearly_all_the_key_of_a_link(folder: Path) -> None:
    """A full store makes room for what is asked for: the emptier stream is filled first."""
    keys = {"max-size": 8192}
    pool = {"capacity": 2**18, "head-start-s": 60}
    with running(folder, LINE[:1], PAIR, time_scale=1.0, pool=pool, keys=keys) as placed:
        a = placed["kme-a"]
        until(lambda: a.status("alice", "bob")["stored_key_count"] == 512)
        for _ in range(4):
            assert len(a.enc("alice", "bob", number=128).keys) == 128
        until(lambda: a.status("alice", "bob")["stored_key_count"] == 512)
    ledger = books(folder, "kme-a")
    assert ledger["kme-b", "out"]["generated"] == 2 * 2**14
    assert ledger["kme-b", "in"]["generated"] == 2**14


def test_a_neighbour_that_is_down_is_503_and_is_found_again(folder: Path) -> None:
    network = Network()
    placed = sites(folder, described(folder, LINE, SAES, **FILLED_ONCE))
    a, b, c = placed.values()
    try:
        for site in placed.values():
            network.start(site.config)
        wait_for_key(placed)
        fetched(a, c)
        network.stop("kme-b")
        for slave in ("bob", "carol"):
            until(partial(is_503, a, slave))
            assert a.status("alice", slave)["stored_key_count"] == 0
        network.start(b.config)
        until(lambda: a.enc("alice", "bob").status == 200)
        until(lambda: a.enc("alice", "carol").status == 200)
        fetched(a, b)
        fetched(a, c)
        fetched(c, a)
    finally:
        network.close()
    for kme in SAES:
        books(folder, kme)


def test_what_waits_survives_a_restart_and_what_was_fetched_does_not_come_back(
    folder: Path,
) -> None:
    network = Network()
    placed = sites(folder, described(folder, LINE[:1], PAIR, **FILLED_ONCE))
    a, b = placed.values()
    try:
        for site in (a, b):
            network.start(site.config)
        until(lambda: a.enc("alice", "bob").status == 200)
        waiting, gone = a.enc("alice", "bob", number=3).keys, a.enc("alice", "bob").keys
        assert b.dec("bob", "alice", list(gone)).status == 200
        for kme in PAIR:
            network.stop(kme)
        for site in (b, a):
            network.start(site.config)
        assert b.dec("bob", "alice", list(gone)).status == 400
        assert b.dec("bob", "alice", list(waiting)).keys == waiting
        until(lambda: a.enc("alice", "bob").status == 200)
    finally:
        network.close()


@pytest.mark.parametrize("lost", ["kme-a", "kme-b"])
def test_an_end_that_has_lost_its_store_never_makes_the_same_key_again(
    folder: Path, lost: str
) -> None:
    network = Network()
    placed = sites(folder, described(folder, LINE[:1], PAIR, **FILLED_ONCE))
    a, b = placed.values()
    seen: list[bytes] = []
    try:
        for turn in range(3):
            if turn:
                network.stop(lost)
                for file in folder.glob(f"{lost}.sqlite*"):
                    file.unlink()
                network.start(placed[lost].config)
            for site in (a, b):
                if turn == 0:
                    network.start(site.config)
            # After a loss, time has to make new key; a new store has its head start.
            until(lambda: a.enc("alice", "bob").status == 200)
            seen += fetched(a, b, 20).values()
            seen += fetched(b, a, 20).values()
            if lost == "kme-b":
                break
    finally:
        network.close()
    assert len(set(seen)) == len(seen)


def test_a_store_from_a_backup_hands_nothing_out_again(folder: Path) -> None:
    """The past that one end has forgotten is still known to the other."""
    network = Network()
    pool = {"capacity": 2**20}
    files = described(folder, LINE[:1], PAIR, time_scale=1.0, pool=pool)
    placed = sites(folder, files)
    a, b = placed.values()
    try:
        for site in (a, b):
            network.start(site.config)
        until(lambda: a.enc("alice", "bob").status == 200)
        network.stop("kme-a")
        backup = (folder / "kme-a.sqlite").read_bytes()
        network.start(a.config)
        until(lambda: a.enc("alice", "bob").status == 200)
        seen = [*fetched(a, b, 50).values(), *fetched(b, a, 50).values()]
        network.stop("kme-a")
        (folder / "kme-a.sqlite").write_bytes(backup)
        network.start(a.config)
        until(lambda: a.enc("alice", "bob").status == 200)
        for _ in range(4):
            seen += [*fetched(a, b, 50).values(), *fetched(b, a, 50).values()]
    finally:
        network.close()
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time-scale": 2}, "time-scale must be the same in both files"),
        ({"pool": {"capacity": 2**25}}, "pool.capacity must be the same"),
    ],
)
def test_ends_that_disagree_say_so_and_make_no_key(
    folder: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], said: str
) -> None:
    network = Network()
    files = described(folder, LINE[:1], PAIR)
    files["kme-b"].update(change)
    a, b = sites(folder, files).values()
    try:
        for site in (a, b):
            network.start(site.config)
        until(lambda: caplog.text.count(said) == len(PAIR))
        time.sleep(0.5)
        assert a.status("alice", "bob")["stored_key_count"] == 0
        refused = a.enc("alice", "bob")
        assert (refused.status, refused.message) == (503, "not enough keys")
    finally:
        network.close()
    assert caplog.text.count(said) == len(PAIR)


def test_ends_with_different_channels_say_so_and_make_no_key(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network()
    files = described(folder, LINE[:1], PAIR)
    files["kme-b"]["peers"][0]["channel"] = "other.seed"
    a, b = sites(folder, files).values()
    said = "the files for channel differ at the two ends"
    try:
        for site in (a, b):
            network.start(site.config)
        until(lambda: caplog.text.count(said) == 2)
        time.sleep(1)
        assert a.status("alice", "bob")["stored_key_count"] == 0
        assert a.enc("alice", "bob").status == 503
        network.stop("kme-b")
        assert caplog.text.count(said) == 2
        assert all(each["generated"] == 0 for each in books(folder, "kme-b").values())
        # With the right file, starting one of them anew is enough.
        (folder / "other.seed").write_bytes((folder / "kme-a-kme-b.seed").read_bytes())
        network.start(b.config)
        until(lambda: a.enc("alice", "bob").status == 200)
        fetched(b, a)
    finally:
        network.close()


def test_another_kme_at_the_neighbours_address_is_not_believed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its certificate has to name the KME, whatever the address is."""
    network = Network()
    files = described(folder, LINE, SAES, **FILLED_ONCE)
    files["kme-a"]["peers"][0]["url"] = f"https://127.0.0.1:{files['kme-c']['peer-port']}"
    placed = sites(folder, files)
    try:
        for kme in ("kme-a", "kme-c"):
            network.start(placed[kme].config)
        until(lambda: "certificate is not valid for 'kme-b'" in caplog.text)
    finally:
        network.close()


def test_an_sae_that_is_not_known_yet_is_503_and_400_once_the_network_is(folder: Path) -> None:
    network = Network()
    a, b = sites(folder, described(folder, LINE[:1], PAIR, **FILLED_ONCE)).values()
    try:
        network.start(a.config)
        refused = a.enc("alice", "bob")
        assert (refused.status, refused.message) == (
            503,
            "not all KMEs of the network have been heard yet",
        )
        network.start(b.config)
        until(lambda: a.enc("alice", "bob").status == 200)
        until(lambda: a.enc("alice", "nobody").status == 400)
    finally:
        network.close()


def test_eve_stops_the_key_of_her_link(folder: Path) -> None:
    network = Network()
    files = described(folder, RING, SAES, pool={"head-start-s": 0, "capacity": 2**22})
    for kme, other in (("kme-a", "kme-b"), ("kme-b", "kme-a")):
        (peer,) = (peer for peer in files[kme]["peers"] if peer["kme-id"] == other)
        peer["eve"] = "intercept fraction=0.9"
    files["kme-a"]["metrics-port"] = 0
    placed = sites(folder, files)
    a = placed["kme-a"]
    try:
        for site in placed.values():
            network.start(site.config)
        until(lambda: a.enc("alice", "carol").status == 200)
        # bob's key has to go around the link that Eve listens to.
        until(lambda: a.enc("alice", "bob").status == 200)
        made = a.enc("alice", "bob")
        assert made.json["key_container_extension"] == {"deffd_trusted_nodes": ["kme-c"]}
    finally:
        network.close()
    ledger = books(folder, "kme-a")
    assert ledger["kme-b", "out"]["generated"] == 0
    assert ledger["kme-c", "out"]["generated"] > 0


def test_key_that_is_too_old_is_thrown_away_at_both_ends(folder: Path) -> None:
    network = Network()
    pool = {"capacity": 2**20, "max-age-s": 1e-9}
    files = described(folder, LINE[:1], PAIR, time_scale=1e-9, pool=pool)
    ports = {kme: free_port() for kme in files}
    for kme, file in files.items():
        file["metrics-port"] = ports[kme]

    def has_ended(kme: str, peer: str) -> bool:
        counted = values(ports[kme])
        expired = counted["ledger_bytes", peer, "expired", "out"]
        return expired == counted["ledger_bytes", peer, "burnt", "in"] == 2**16

    a, b = sites(folder, files).values()
    try:
        for site in (a, b):
            network.start(site.config)
        until(partial(has_ended, "kme-a", "kme-b"))
        until(partial(has_ended, "kme-b", "kme-a"))
        assert a.status("alice", "bob")["stored_key_count"] == 0
        assert a.enc("alice", "bob").status == 503
    finally:
        network.close()
    for kme in PAIR:
        books(folder, kme)


def test_keys_that_nobody_fetches_expire(folder: Path) -> None:
    port = free_port()
    alone = {"kme-x": ["alice", "bob"]}
    with running(folder, [], alone, keys={"waiting-s": 1.0}, metrics_port=port) as placed:
        site = placed["kme-x"]
        made = site.enc("alice", "bob", number=4)
        until(lambda: values(port)["waiting_keys", "expired"] == 4)
        assert site.dec("bob", "alice", list(made.keys)).status == 400
    tally = read_ledger(folder / "kme-x.sqlite").tally
    assert (tally.registered, tally.waiting, tally.fetched, tally.expired) == (4, 0, 0, 4)


def test_one_kme_alone_serves_its_own_saes(folder: Path) -> None:
    with running(folder, [], {"kme-x": ["alice", "bob"]}) as placed:
        site = placed["kme-x"]
        made = site.enc("alice", "bob", number=128, size=4096)
        assert site.dec("bob", "alice", list(made.keys)).keys == made.keys
        assert len(set(made.keys.values())) == 128


def test_keys_that_wait_cannot_fill_the_disk(folder: Path) -> None:
    pool, keys = {"capacity": 2**20}, {"max-size": 2**19}
    with running(folder, [], {"kme-x": ["alice", "bob"]}, pool=pool, keys=keys) as placed:
        site = placed["kme-x"]
        first = [site.enc("alice", "bob", size=2**19) for _ in range(3)]
        assert [made.status for made in first] == [200, 200, 503]
        assert site.dec("bob", "alice", list(first[0].keys)).status == 200
        assert site.enc("alice", "bob", size=2**19).status == 200


def test_two_kmes_that_claim_one_sae_are_both_refused(folder: Path) -> None:
    saes = {"kme-a": ["alice"], "kme-b": ["ben", "bob"], "kme-c": ["carol", "bob"]}
    with running(folder, LINE, saes, **FILLED_ONCE) as placed:
        refused = placed["kme-a"].enc("alice", "bob")
        assert refused.status == 503
        assert "kme-b and kme-c both claim" in str(refused.json["details"])
        assert placed["kme-a"].enc("alice", "carol").status == 200


def test_a_store_of_another_kme_is_refused(folder: Path) -> None:
    network = Network()
    files = described(folder, [], {"kme-x": ["alice"], "kme-y": ["bob"]})
    files["kme-y"]["store"] = "kme-x.sqlite"
    x, y = sites(folder, files).values()
    try:
        network.start(x.config)
        with pytest.raises(DeffdError, match="another process uses it"):
            network.start(y.config)
        network.stop("kme-x")
        with pytest.raises(DeffdError, match="belongs to kme-x"):
            network.start(y.config)
        network.start(x.config)
    finally:
        network.close()


def test_no_key_crosses_the_channel_of_the_kmes_in_the_clear(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even within TLS: neighbours name link key, and relayed keys have a one-time pad."""
    said: list[str] = []
    ask = Neighbour.ask

    async def overheard(self: Neighbour, session: Any, what: str, message: Any, *rest: Any) -> Any:
        said.append(message.model_dump_json())
        reply = await ask(self, session, what, message, *rest)
        said.append(reply.model_dump_json())
        return reply

    monkeypatch.setattr(Neighbour, "ask", overheard)
    with running(folder, LINE, SAES, **FILLED_ONCE) as placed:
        a, b, c = placed.values()
        keys = [*fetched(a, b, 9).values(), *fetched(a, c, 9).values(), *fetched(c, a, 9).values()]
    channel = "".join(said)
    ciphertexts = re.findall(r'"ciphertext":"([^"]+)"', channel)
    assert [len(base64.urlsafe_b64decode(each)) for each in ciphertexts] == [9 * 32] * 2
    everything = channel.encode() + b"".join(map(base64.urlsafe_b64decode, ciphertexts))
    for key in keys:
        for text in (base64.b64encode(key)[:40], base64.urlsafe_b64encode(key)[:40], key):
            assert text not in everything


def test_no_key_is_ever_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running(folder, LINE, SAES, **FILLED_ONCE) as placed:
        a, b, c = placed.values()
        keys = {**fetched(a, b, 20), **fetched(a, c, 20), **fetched(c, a, 20)}
        (key_id,) = a.enc("alice", "bob").keys
        keys |= b.call("bob", "GET", f"alice/dec_keys?key_ID={key_id}").keys
        b.call("bob", "GET", f"alice/dec_keys?key_ID={key_id}")
        a.call("alice", "POST", "bob/enc_keys", raw=b"{")
    assert "alice POST enc_keys 200" in caplog.text
    assert "bob GET dec_keys 400" in caplog.text
    for key_id, key in keys.items():
        assert key_id not in caplog.text
        for text in (base64.b64encode(key).decode(), key.hex(), repr(key)[2:-1], str(list(key))):
            assert text[:12] not in caplog.text
