"""A client's desk whose keys come from key managers: want of key, and what is kept on disk."""

import copy
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from flwr.app import Context, Message, RecordDict

from deffd_flower.strategy.orders import Orders, Parcel, Refusals
from deffd_flower.transport import KeyReference, parse
from deffd_flower.transport.mod import FAILED, transport_mod
from tests.sae.conftest import Saes
from tests.sae.foreign_kme import STATUS, Answer, Request, foreign_kme, key, keys, saying
from tests.transport.clients import (
    MODEL,
    RUN,
    become_flower,
    blobs_in,
    client,
    deliver,
    greeted,
    handing_out,
    keeping,
    message,
    never,
    refusal,
    send,
    state,
)

ALL: dict[str, Any] = {"key_source": "etsi014"}


@pytest.fixture(autouse=True)
def _flower(saes: Saes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become_flower(tmp_path / "no-secret", monkeypatch)
    monkeypatch.setenv("DEFFD_SAE_FILE", str(saes.file))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def clients(**keys_of_run: Any) -> list[Context]:
    return [client(partition, **ALL, **keys_of_run) for partition in range(3)]


def to(partition: int, suite: str = "aes", **about: Any) -> Parcel:
    return Parcel(partition, suite, **about)


def sealed(sender: Context, *parcels: Parcel, **about: Any) -> list[bytes]:
    return blobs_in(send(sender, *parcels, **about).content.array_records["outbox"])


def file_of(context: Context, folder: Path) -> Path:
    partition = str(context.node_config["partition-id"])
    return folder / "state" / "deffd-flower" / "desks" / str(context.run_id) / partition


# Keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["aes", "otp"])
def test_models_travel_under_keys_that_the_sender_has_asked_for(suite: str) -> None:
    alice, bob, carol = clients(suite=suite)
    one, two = sealed(alice, to(1, suite), to(2, suite))
    key_ids = [r.key_id for blob in (one, two) for r in parse(blob)[0].references]
    assert len(set(key_ids)) == len(key_ids)
    received: list[list[bytes]] = []
    for receiver, blob in ((bob, one), (carol, two)):
        assert deliver(receiver, blob, app=keeping(received)).has_content()
    assert received == [[MODEL], [MODEL]]


def test_hybrid_keys_are_proven_by_certificates() -> None:
    alice, bob, _ = clients(suite="hybrid")
    public, proof = greeted(bob)
    wanted = to(1, "hybrid", kem_public=public, kem_proof=proof)
    assert deliver(bob, *sealed(alice, wanted)).has_content()
    forged = to(1, "hybrid", kem_public=public, kem_proof=greeted(alice)[1])
    assert "not proven" in refusal(send(alice, forged))
    assert not Path(os.environ["DEFFD_QKD_SECRET_FILE"]).exists()


def test_a_key_opens_one_model_whatever_the_server_does() -> None:
    alice, bob, carol = clients()
    (blob,) = sealed(alice, to(1))
    assert deliver(bob, blob).has_content()
    assert refusal(deliver(bob, blob)) == "message refused: replayed"
    assert refusal(deliver(carol, blob)) == "message refused: wrong-receiver"
    granted = (KeyReference(uuid4(), 0, 256),)
    assert "choose their own" in refusal(send(alice, to(1, references=granted)))


def test_one_key_seals_several_models_if_so_asked_and_grows_old_by_the_clients_own_clock() -> None:
    alice, bob, _ = clients(rekey_messages=3, rekey_seconds=3600)
    mail = [sealed(alice, to(1))[0] for _ in range(4)]
    headers = [parse(blob)[0] for blob in mail]
    same = [header.references == headers[0].references for header in headers]
    assert same == [True, True, True, False]
    assert all(deliver(bob, blob).has_content() for blob in mail)
    aged = client(0, RUN + 1, **ALL, rekey_messages=3, rekey_seconds=1e-6)
    first, second = (parse(sealed(aged, to(1))[0])[0].references for _ in range(2))
    assert first != second, "though the server's clock has stood still"


# Want of key -------------------------------------------------------------------------------------


def starving(request: Request) -> Answer:
    """Have no key for sae-1, and none that anybody names."""
    if request.call == "status":
        return saying(STATUS)
    if request.call == "dec_keys":
        return saying({"message": "one or more keys specified are not found on KME"}, 400)
    if "/sae-1/" in request.path:
        return saying({"message": "no key left"}, 503)
    return keys(key(os.urandom(32)))


def pointing(saes: Saes, client_: int, url: str, folder: Path) -> Path:
    """Return an SAE file in which one client has another key manager."""
    entries = yaml.safe_load(saes.file.read_text())
    for entry in entries:
        for name in ("sae-certificate", "sae-key", "kme-ca"):
            entry[name] = str(saes.file.parent / entry[name])
    entries[client_] |= {"kme-url": url, "kme-id": "kme-a"}
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(entries))
    return path


def test_a_starved_link_leaves_the_rest_of_the_message_as_it_is(
    saes: Saes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = clients()[0]
    with foreign_kme(saes.file.parent / "pki", "kme-a", starving) as foreign:
        monkeypatch.setenv("DEFFD_SAE_FILE", str(pointing(saes, 0, foreign.url, tmp_path)))
        reply = send(alice, to(1), to(2), to(1))
    assert reply.has_content()
    assert Refusals.read(reply.content) == Refusals(starved=(0, 2))
    assert list(reply.content.array_records["outbox"]) == ["1"]
    assert b"no key left" not in str(reply.content.config_records["refusals"]).encode()
    assert "model" in alice.state, "the app's state is kept"
    monkeypatch.setenv("DEFFD_SAE_FILE", str(saes.file))
    (later,) = sealed(alice, to(1))
    assert parse(later)[0].route.sequence == 0, "what was not sealed has no number"


def test_mail_whose_key_is_not_there_is_left_out_and_may_come_again(
    saes: Saes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, carol = clients()
    (first,) = sealed(alice, to(1), model=b"1" * 5000)
    (second,) = sealed(carol, to(1), model=b"2" * 5000)
    received: list[list[bytes]] = []
    with foreign_kme(saes.file.parent / "pki", "kme-a", starving) as foreign:
        monkeypatch.setenv("DEFFD_SAE_FILE", str(pointing(saes, 1, foreign.url, tmp_path)))
        reply = deliver(bob, first, second, app=keeping(received))
    assert Refusals.read(reply.content) == Refusals(unopened=(0, 1))
    monkeypatch.setenv("DEFFD_SAE_FILE", str(saes.file))
    again = deliver(bob, second, first, app=keeping(received))
    assert Refusals.read(again.content) == Refusals()
    assert received == [[], [b"1" * 5000, b"2" * 5000]]


def test_an_unknown_key_keeps_no_other_mail_from_being_opened() -> None:
    alice, bob, carol = clients()
    (lost,) = sealed(alice, to(1))
    header, body = parse(lost)
    unheard = replace(header, references=(KeyReference(uuid4(), 0, 256),))
    (good,) = sealed(carol, to(1))
    received: list[list[bytes]] = []
    reply = deliver(bob, unheard.encode() + bytes(body), good, app=keeping(received))
    assert Refusals.read(reply.content) == Refusals(unopened=(0,))
    assert received == [[MODEL]]
    assert deliver(bob, lost).has_content()


def test_a_client_that_key_managers_do_not_know_says_so_when_greeted(
    saes: Saes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = saes.sites["kme-b"].port
    path = pointing(saes, 0, f"https://127.0.0.1:{other}", tmp_path)
    monkeypatch.setenv("DEFFD_SAE_FILE", str(path))
    reply = transport_mod(message("query.hello"), clients()[0], handing_out())
    assert "no TLS connection" in refusal(reply), "kme-b is not kme-a"
    path.write_text(path.read_text().replace("kme-id: kme-a", "kme-id: kme-b"))
    reply = transport_mod(message("query.hello"), clients()[0], handing_out())
    assert "does not accept this SAE" in refusal(reply)
    assert str(other) not in refusal(reply)


# Memory on disk ----------------------------------------------------------------------------------


def test_what_must_not_be_forgotten_is_on_disk_for_its_owner_alone(tmp_path: Path) -> None:
    alice = clients(rekey_messages=3)[0]
    sealed(alice, to(1))
    path = file_of(alice, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert state(alice)["transport"] == {"version": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_client_that_dies_after_its_reply_does_not_seal_under_the_same_number_again(
    tmp_path: Path,
) -> None:
    """SuperNodes save the state after the reply has left: here it is lost in between."""
    alice, bob, _ = clients(rekey_messages=5)
    sealed(alice, to(1))
    saved = copy.deepcopy(dict(alice.state))
    (second,) = sealed(alice, to(1))
    alice.state.clear()
    alice.state.update(saved)
    (third,) = sealed(alice, to(1))
    headers = [parse(blob)[0] for blob in (second, third)]
    assert headers[0].references == headers[1].references
    assert [header.route.sequence for header in headers] == [1, 2]
    assert deliver(bob, second, third).has_content()


def test_a_message_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    alice, bob, _ = clients()
    (blob,) = sealed(alice, to(1))
    deliver(bob, blob)
    before = file_of(bob, tmp_path).read_bytes()
    refusal(deliver(bob, blob, app=never))
    refusal(send(bob, to(0), to(1)))
    assert file_of(bob, tmp_path).read_bytes() == before


@pytest.mark.parametrize("what", ["the node", "the disk"])
def test_a_client_whose_node_was_started_anew_or_whose_disk_is_gone_says_so(
    what: str, tmp_path: Path
) -> None:
    alice, bob, _ = clients()
    (blob,) = sealed(alice, to(1))
    deliver(bob, blob)
    if what == "the node":
        bob.state.clear()
    else:
        file_of(bob, tmp_path).unlink()
    for reply in (deliver(bob, blob, app=never), send(bob, to(0))):
        assert refusal(reply) == "message refused: state-lost"


def test_a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    alice = clients()[0]
    alice.node_config["state-dir"] = str(tmp_path / "file")
    reply = send(alice, to(1))
    assert reply.error.code == FAILED
    assert "state-dir in the node's --node-config" in (reply.error.reason or "")


def test_after_its_farewell_a_client_answers_no_message_of_the_run(tmp_path: Path) -> None:
    def parting(asked: Message, context: Context) -> Message:
        context.state.clear()
        return Message(RecordDict(), reply_to=asked)

    alice = clients(rekey_messages=3)[0]
    sealed(alice, to(1))
    size = file_of(alice, tmp_path).stat().st_size
    assert transport_mod(message("query.finish"), alice, parting).has_content()
    assert file_of(alice, tmp_path).stat().st_size < size / 3
    assert refusal(send(alice, to(1))) == "message refused: run-over"
    alice.state.clear()
    assert refusal(send(alice, to(1))) == "message refused: state-lost"


# What a node decides -----------------------------------------------------------------------------


def test_a_node_with_a_key_manager_takes_no_simulated_keys(saes: Saes) -> None:
    """Whatever the run config says, which the server sends."""
    simulated = client(0)
    simulated.node_config["sae-file"] = str(saes.file)
    reply = transport_mod(message("train", Orders(1)), simulated, never)
    assert reply.error.reason == "this client takes keys from its key manager: key-source=etsi014"


@pytest.mark.parametrize("given", [None, "1", 3, -1])
def test_a_node_without_a_partition_id_of_the_run_is_told_where_it_goes(given: Any) -> None:
    lost = clients()[0]
    lost.node_config.pop("partition-id")
    if given is not None:
        lost.node_config["partition-id"] = given
    reply = transport_mod(message("query.hello"), lost, never)
    assert "must be 0 to 2, with clients=3; set it in the SuperNode's --node-config" in (
        reply.error.reason or ""
    )
