"""A relay that cheats gets nowhere: what it forges is refused, and leaves no trace.

The relay has every sealed model, every order and every public key of the run, and the letters of
another run with the same seed and the same secret. It has no key.
"""

import functools
import sys
from collections.abc import Iterator

import pytest

from deffd_flower.client_app import FAILED
from deffd_flower.transport import suites
from deffd_flower.transport.mod import REFUSED
from tests.security.cheat import (
    Cheat,
    Forge,
    Forgery,
    Scene,
    Target,
    Verdict,
    has_mail,
    has_parcels,
    nothing,
)
from tests.security.conftest import Federation, Honest, Outcome
from tests.security.forged_mail import (
    EXPECTED,
    everything,
    made_up,
)
from tests.security.forged_orders import bad_orders, broken_orders
from tests.security.relay import copy_of

SUITES = ["aes", "otp", "hybrid", "pqc"]
MESSAGE_TYPES = ["train", "evaluate"]


def check_refusals(verdicts: list[Verdict]) -> None:
    """Check that all were refused, for the right reason, and changed nothing."""
    accepted = [verdict.name for verdict in verdicts if verdict.code is None]
    assert not accepted
    assert {verdict.code for verdict in verdicts} == {REFUSED}
    assert [verdict.name for verdict in verdicts if not verdict.untouched] == []
    for verdict in verdicts:
        reasons = EXPECTED.get(verdict.name)
        assert reasons is None or verdict.reason in {f"message refused: {r}" for r in reasons}, (
            verdict
        )


def expected_names(suite: str) -> set[str]:
    """Return the kinds of forgery that every run of a suite has to see."""
    absent = {
        "aes": {"replayed under a new number, without key", "ML-KEM ciphertexts swapped"},
        "otp": {"replayed under a new number, without key", "ML-KEM ciphertexts swapped"},
        "hybrid": {"replayed under a new number, without key"},
        "pqc": {
            "replayed under a new number",
            "key_IDs swapped",
            "made up under the public key",
            "made up under a made-up key",
        },
    }
    flipped = {"magic", "run", "round", "sequence", "sender", "receiver", "nonce", "body", "tag"}
    flipped |= {"version", "suite", "direction", "chunk", "plaintext length", "references"}
    names = set(EXPECTED) | {f"flipped {field}" for field in flipped} | {"other suite's id"}
    return names - absent[suite]


@pytest.mark.parametrize("message_type", MESSAGE_TYPES)
@pytest.mark.parametrize("suite", SUITES)
def test_forged_mail_is_refused_and_the_run_goes_on_as_if_it_had_been_dropped(
    suite: str, message_type: str, federation: Federation, honest: Honest
) -> None:
    target = has_mail(message_type)

    def run(forge: Forge) -> Outcome[Cheat]:
        return federation(
            functools.partial(Cheat, target=target, forge=forge, when="instead"), suite=suite
        )

    dropped, forged = run(nothing), run(everything(honest(suite).relay))
    check_refusals(forged.relay.verdicts)
    assert {verdict.name for verdict in forged.relay.verdicts} >= expected_names(suite)
    assert len(forged.relay.struck) == 2
    assert forged.relay.struck == dropped.relay.struck
    assert forged.summary["sealed_failures"] == forged.summary["failures"] == 2
    assert (dropped.summary["sealed_failures"], dropped.summary["failures"]) == (0, 2)
    assert forged.state == dropped.state != honest(suite).state


@pytest.mark.parametrize("suite", SUITES)
def test_forged_mail_before_the_true_one_changes_nothing(
    suite: str, federation: Federation, honest: Honest
) -> None:
    for message_type in MESSAGE_TYPES:
        cheat = functools.partial(
            Cheat,
            target=has_mail(message_type),
            forge=everything(honest(suite).relay),
            when="before",
        )
        cheated: Outcome[Cheat] = federation(cheat, suite=suite)
        check_refusals(cheated.relay.verdicts)
        assert len(cheated.relay.struck) == 2
        assert cheated.summary["failures"] == 0
        assert cheated.state == honest(suite).state


def the_same_again(scene: Scene) -> Iterator[Forgery]:
    yield Forgery("replayed", copy_of(scene.message))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("message_type", MESSAGE_TYPES)
def test_a_message_with_mail_is_taken_once(
    suite: str, message_type: str, federation: Federation, honest: Honest
) -> None:
    target = has_mail(message_type)
    twice = functools.partial(Cheat, target=target, forge=the_same_again, when="after")
    cheated: Outcome[Cheat] = federation(twice, suite=suite)
    check_refusals(cheated.relay.verdicts)
    assert len(cheated.relay.verdicts) == 2
    assert cheated.state == honest(suite).state


@pytest.mark.parametrize("suite", SUITES)
def test_orders_to_give_a_model_away_are_refused_and_leave_no_trace(
    suite: str, federation: Federation, honest: Honest
) -> None:
    before = functools.partial(Cheat, target=has_parcels, forge=bad_orders, when="before")
    cheated: Outcome[Cheat] = federation(before, suite=suite)
    check_refusals(cheated.relay.verdicts)
    assert len(cheated.relay.struck) == 4
    weaker, grants = {"a weaker suite"}, {"no key", "half a key", "one half twice", "a used key"}
    kem_keys = {"the relay's ML-KEM key", "another client's ML-KEM key"}
    tried = {"aes": weaker | grants, "otp": weaker | grants, "pqc": weaker | kem_keys}
    tried["hybrid"] = weaker | grants | kem_keys
    always = {"a suite that is not there", "a module to import", "a letter to itself"}
    assert {verdict.name for verdict in cheated.relay.verdicts} == tried[suite] | always
    assert "tests.security.tripwire" not in sys.modules
    assert cheated.summary["failures"] == 0
    assert cheated.state == honest(suite).state


def test_refused_orders_leave_no_trace_in_models_kept_on_disk(
    federation: Federation, honest: Honest
) -> None:
    before = functools.partial(Cheat, target=has_parcels, forge=bad_orders, when="before")
    cheated: Outcome[Cheat] = federation(before, suite="aes", client_state="disk")
    check_refusals(cheated.relay.verdicts)
    assert cheated.state == honest("aes").state


def the_first_bad_order(scene: Scene) -> Iterator[Forgery]:
    yield next(bad_orders(scene))


@pytest.mark.parametrize("suite", SUITES)
def test_a_client_given_bad_orders_in_place_of_its_own_only_misses_the_round(
    suite: str, federation: Federation, honest: Honest
) -> None:
    def run(forge: Forge) -> Outcome[Cheat]:
        instead = functools.partial(Cheat, target=has_parcels, forge=forge, when="instead")
        return federation(instead, suite=suite)

    dropped, forged = run(nothing), run(the_first_bad_order)
    check_refusals(forged.relay.verdicts)
    assert forged.summary["sealed_failures"] == forged.summary["failures"] == 4
    assert (dropped.summary["sealed_failures"], dropped.summary["failures"]) == (0, 4)
    assert forged.state == dropped.state != honest(suite).state
    assert forged.summary["key_bits"] == dropped.summary["key_bits"]


@pytest.mark.parametrize("target", [has_parcels, has_mail("evaluate")], ids=["parcels", "mail"])
def test_records_that_are_no_orders_get_an_error_reply_and_change_nothing(
    target: Target, federation: Federation, honest: Honest
) -> None:
    cheat = functools.partial(Cheat, target=target, forge=broken_orders, when="before")
    cheated: Outcome[Cheat] = federation(cheat, suite="aes")
    verdicts = cheated.relay.verdicts
    assert len(verdicts) > 2 * 15
    assert [verdict for verdict in verdicts if not verdict.untouched] == []
    assert {verdict.code for verdict in verdicts} <= {REFUSED, FAILED}
    assert cheated.state == honest("aes").state


def in_another_clients_name(scene: Scene) -> Iterator[Forgery]:
    yield made_up(scene, "pqc")


def test_pqc_does_not_show_who_has_written_and_does_not_claim_to(federation: Federation) -> None:
    """Anyone who has the receiver's public key can write in any client's name: the server has."""
    cheat = functools.partial(
        Cheat, target=has_mail("evaluate"), forge=in_another_clients_name, when="before"
    )
    fooled: Outcome[Cheat] = federation(cheat, suite="pqc")
    assert [(verdict.code, verdict.untouched) for verdict in fooled.relay.verdicts] == [
        (None, False)
    ] * 2
    assert "does not prove who the sender is" in suites.get("pqc").claims
