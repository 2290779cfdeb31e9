"""Which claim holds in which situation; the tables are the specification."""

from itertools import product

import pytest

from deffd_flower.results.claims import Claim, claims
from deffd_flower.results.situation import Holds
from deffd_flower.strategy.partners import partners

NO, SIM, COMP, ITS, YES = Holds

SERVER = "Models are secret from the relay server and whoever listens to it"
RECORDED = "Recorded traffic stays secret from a later quantum computer"
NODES = "Models are secret from trusted nodes that relay keys"
UNCHANGED = "A model changed on its way is refused"
SENDER = "A model comes from the client it names"
ONCE = "No model is taken twice"
CHANNEL = "Eavesdropping on the quantum channel is noticed"
NEVER = [
    "Models get through",
    "Who writes to whom, how much and when stays hidden",
    "Models are safe where a client is broken into",
    "Poisoned models are kept out",
    "Received models reveal nothing about data",
]
GUARANTEES = [SERVER, RECORDED, NODES, UNCHANGED, SENDER, ONCE, CHANNEL]

CONFIG: dict[str, object] = {
    "strategy": "def-fd",
    "suite": "aes",
    "min-suite": "",
    "key-source": "embedded",
    "qkd-network": "direct",
    "abort-qber": 0.11,
    "eve": "",
}
QUIET: dict[str, object] = {"relayed": 0, "compromised": 0, "exposed_nodes": []}
RELAYED: dict[str, object] = {"relayed": 9, "compromised": 0, "exposed_nodes": ["Daejeon", "Seoul"]}
READ: dict[str, object] = {"relayed": 0, "compromised": 3, "exposed_nodes": []}
SUITES = ["otp", "aes", "hybrid", "pqc", "none"]
Table = list[tuple[str, list[Holds]]]


def claimed(summary: dict[str, object], **config: object) -> dict[str, Claim]:
    keys = {name.replace("_", "-"): value for name, value in config.items()}
    return {claim.guarantee: claim for claim in claims({**CONFIG, **keys}, summary)}


def how_far(summary: dict[str, object], **config: object) -> list[Holds]:
    found = claimed(summary, **config)
    assert [found[guarantee].holds for guarantee in NEVER] == [NO] * len(NEVER)
    assert set(found) == {*GUARANTEES, *NEVER}
    return [found[guarantee].holds for guarantee in GUARANTEES]


# suite    server  recorded  nodes  unchanged  sender  once  quantum channel
SIMULATED_KEYS: Table = [
    ("otp", [SIM, SIM, SIM, SIM, SIM, SIM, SIM]),
    ("aes", [SIM, SIM, SIM, SIM, SIM, SIM, SIM]),
    ("hybrid", [COMP, COMP, COMP, COMP, SIM, COMP, SIM]),
    ("pqc", [COMP, COMP, COMP, COMP, NO, COMP, NO]),
    ("none", [NO, NO, NO, NO, NO, NO, NO]),
]
KEY_MANAGERS: Table = [
    ("otp", [ITS, ITS, YES, ITS, ITS, ITS, YES]),
    ("aes", [COMP, COMP, YES, COMP, COMP, COMP, YES]),
    ("hybrid", [COMP, COMP, COMP, COMP, COMP, COMP, YES]),
    ("pqc", [COMP, COMP, COMP, COMP, NO, COMP, NO]),
    ("none", [NO, NO, NO, NO, NO, NO, NO]),
]
TRUSTED_NODES: Table = [
    ("otp", [COMP, COMP, NO, COMP, COMP, COMP, YES]),
    ("aes", [COMP, COMP, NO, COMP, COMP, COMP, YES]),
    ("hybrid", [COMP, COMP, COMP, COMP, COMP, COMP, YES]),
    ("pqc", [COMP, COMP, COMP, COMP, NO, COMP, NO]),
    ("none", [NO, NO, NO, NO, NO, NO, NO]),
]
EVE_READS_KEYS: Table = [
    ("otp", [NO, NO, NO, NO, NO, NO, YES]),
    ("aes", [NO, NO, NO, NO, NO, NO, YES]),
    ("hybrid", [COMP, COMP, COMP, COMP, NO, COMP, YES]),
    ("pqc", [COMP, COMP, COMP, COMP, NO, COMP, NO]),
    ("none", [NO, NO, NO, NO, NO, NO, NO]),
]


@pytest.mark.parametrize(("suite", "expected"), SIMULATED_KEYS)
def test_with_embedded_keys_what_rests_on_qkd_is_simulated(
    suite: str, expected: list[Holds]
) -> None:
    assert how_far(QUIET, suite=suite) == expected


@pytest.mark.parametrize(("suite", "expected"), KEY_MANAGERS)
def test_with_key_managers_and_direct_links_a_one_time_pad_is_information_theoretic(
    suite: str, expected: list[Holds]
) -> None:
    assert how_far(QUIET, suite=suite, key_source="etsi014") == expected


@pytest.mark.parametrize(("suite", "expected"), TRUSTED_NODES)
def test_trusted_nodes_that_see_keys_read_models_unless_ml_kem_takes_part(
    suite: str, expected: list[Holds]
) -> None:
    config = {"key_source": "etsi014", "qkd_network": "kreonet"}
    assert how_far(RELAYED, suite=suite, **config) == expected


@pytest.mark.parametrize(("suite", "expected"), EVE_READS_KEYS)
def test_keys_that_eve_has_read_protect_nothing(suite: str, expected: list[Holds]) -> None:
    assert how_far(READ, suite=suite, key_source="etsi014") == expected


@pytest.mark.parametrize(
    ("least", "sealed", "expected"),
    [
        ("", ["otp"], [ITS, ITS, YES, ITS, ITS, ITS, YES]),
        # The server may ask for any suite from min-suite up, whether it did or not.
        ("aes", ["otp"], [COMP, ITS, YES, COMP, COMP, COMP, YES]),
        ("aes", ["otp", "aes"], [COMP, COMP, YES, COMP, COMP, COMP, YES]),
        ("hybrid", ["otp", "hybrid"], [COMP, COMP, COMP, COMP, COMP, COMP, YES]),
        ("pqc", ["otp"], [COMP, ITS, YES, COMP, NO, COMP, YES]),
        ("pqc", ["otp", "pqc"], [COMP, COMP, COMP, COMP, NO, COMP, YES]),
        ("none", ["otp"], [NO, ITS, YES, NO, NO, NO, YES]),
        ("none", ["otp", "none"], [NO, NO, NO, NO, NO, NO, YES]),
    ],
)
def test_a_claim_goes_no_further_than_the_weakest_suite_let_in_or_used(
    least: str, sealed: list[str], expected: list[Holds]
) -> None:
    summary = {**QUIET, "models_by_suite": dict.fromkeys(sealed, 5.0)}
    config = {"suite": "otp", "min_suite": least, "key_source": "etsi014"}
    assert how_far(summary, **config) == expected


def test_an_unfinished_runs_claims_assume_the_worst_that_its_config_allows() -> None:
    real = {"suite": "otp", "key_source": "etsi014"}
    assert how_far({}, **real) == dict(TRUSTED_NODES)["otp"]
    assert how_far({}, **real, qkd_network="kreonet") == dict(TRUSTED_NODES)["otp"]
    eve = "loss decibel=3;compromise node=4"
    assert how_far({}, **real, eve=eve) == dict(EVE_READS_KEYS)["otp"]
    assert how_far({}, **real, min_suite="pqc")[:2] == [COMP, COMP]


@pytest.mark.parametrize(("suite", "expected"), TRUSTED_NODES)
def test_nobody_can_say_through_whose_hands_key_managers_pass_keys(
    suite: str, expected: list[Holds]
) -> None:
    unknown = {**QUIET, "relayed": None, "compromised": None}
    assert how_far(unknown, suite=suite, key_source="etsi014") == expected
    found = claimed(unknown, suite=suite, key_source="etsi014")
    if suite in ("otp", "aes", "hybrid"):
        assert "a run cannot see" in found[SERVER].source
        assert "No key has passed a node" not in found[NODES].source


def test_a_central_server_reads_the_models_whatever_the_suite_says() -> None:
    for suite in SUITES:
        found = claimed(QUIET, strategy="fedavg", suite=suite, key_source="etsi014")
        assert {claim.holds for claim in found.values()} == {NO}
        assert "server averages the models, so it has to read them" in found[SERVER].source


def test_a_suite_from_outside_is_not_judged() -> None:
    found = claimed(QUIET, suite="my_package.suites:Mine", key_source="etsi014")
    assert {claim.holds for claim in found.values()} == {NO}
    assert "does not judge" in found[SERVER].source
    assert "does not judge" in found[CHANNEL].source


def test_keys_from_a_source_that_is_not_known_count_as_simulated() -> None:
    assert how_far(QUIET, suite="otp", key_source="mine:Source") == dict(SIMULATED_KEYS)["otp"]
    unsaid = {key: value for key, value in CONFIG.items() if key != "key-source"}
    assert {claim.holds for claim in claims({**unsaid, "suite": "otp"}, QUIET)} == {NO, SIM}


PROJECTION = "The server learns nothing of the weights themselves"


@pytest.mark.parametrize("strategy", ["def-fd", "local"])
def test_that_clients_tell_projections_of_their_weights_is_said_where_they_do(
    strategy: str,
) -> None:
    found = claimed(QUIET, strategy=strategy, consensus_distance=True)
    assert found[PROJECTION].holds is NO
    assert "tells the server a 64-number projection of its weights" in found[PROJECTION].source
    assert PROJECTION not in claimed(QUIET, strategy=strategy, consensus_distance=False)


PARTNERS = "Choosing partners tells the server nothing that it would not know otherwise"


@pytest.mark.parametrize(
    ("partner", "shared", "expected"),
    [
        ("least-recent", True, YES),
        ("least-recent", False, YES),
        ("key-aware", False, YES),
        ("loss", False, YES),
        ("complementary", True, YES),
        ("complementary", False, NO),
        ("my_package.rules:mine", True, NO),
    ],
)
def test_what_choosing_partners_tells_the_server_is_said(
    partner: str, shared: bool, expected: Holds
) -> None:
    found = claimed(QUIET, partner=partner, share_label_counts=shared)[PARTNERS]
    assert found.holds is expected
    assert partner in found.source
    if partner in partners.names():
        assert found.source.endswith(partners.get(partner).reveals)
    else:
        assert "does not judge" in found.source


def test_by_default_label_counts_stay_with_clients_that_have_key_managers() -> None:
    keys = {"partner": "complementary", "share_label_counts": "auto"}
    assert claimed(QUIET, **keys, key_source="embedded")[PARTNERS].holds is YES
    assert claimed(QUIET, **keys, key_source="etsi014")[PARTNERS].holds is NO


def test_random_partners_tell_nothing_worth_a_row() -> None:
    assert PARTNERS not in claimed(QUIET, partner="random", share_label_counts=False)


def test_there_is_no_table_where_no_model_is_sent_and_where_the_suite_is_unknown() -> None:
    assert claims({**CONFIG, "strategy": "local"}, QUIET) == []
    assert claims({"strategy": "def-fd"}, QUIET) == []


def test_the_table_says_where_the_keys_come_from_and_who_has_seen_them() -> None:
    for suite in ("otp", "aes", "hybrid"):
        source = claimed(QUIET, suite=suite)[SERVER].source
        assert "simulated (key-source=embedded)" in source
        assert "simulated" not in claimed(QUIET, suite=suite, key_source="etsi014")[SERVER].source
    relayed = claimed(RELAYED, qkd_network="kreonet")
    assert "Trusted nodes have seen QKD keys: Daejeon, Seoul." in relayed[NODES].source
    many = {**RELAYED, "exposed_nodes": [f"node{n}" for n in range(17)]}
    assert "17 of them" in claimed(many, qkd_network="kreonet")[NODES].source
    assert "Eve has read QKD keys" in claimed(READ)[SERVER].source
    assert "No key has passed a node" in claimed(QUIET)[NODES].source


def test_integrity_comes_from_the_mac_and_detection_ends_at_the_quantum_channel() -> None:
    for suite in ("otp", "aes", "hybrid", "pqc"):
        assert "(MAC), not QKD." in claimed(QUIET, suite=suite)[UNCHANGED].source
    found = claimed(QUIET)
    assert "unnoticed on Flower's connections" in found[CHANNEL].breaks
    assert "more than 11 % errors" in found[CHANNEL].source
    assert "ML-KEM does not prove who the sender is" in claimed(QUIET, suite="pqc")[SENDER].source
    assert "public key is enough" in claimed(QUIET, suite="pqc")[SENDER].breaks
    assert "senders, receivers, sizes and times" in found[NEVER[1]].source


def test_what_a_run_suffered_stands_beside_availability() -> None:
    summary = {**QUIET, "waits": 4, "skipped": 1200}
    source = claimed(summary)["Models get through"].source
    assert "Models that waited for key in this run: 4." in source
    assert "Models not sent for want of key: 1,200." in source
    assert "waited" not in claimed(QUIET)["Models get through"].source


def every_situation() -> list[tuple[dict[str, object], dict[str, object]]]:
    """Return config and summary of each way to combine what the claims depend on."""
    situations = []
    for suite, least, source, network, seen in product(
        SUITES,
        ["", "pqc", "none"],
        ["embedded", "etsi014"],
        ["direct", "kreonet"],
        [{}, QUIET, RELAYED, READ],
    ):
        for strategy, sealed in product(["def-fd", "fedavg"], [[], [suite], [suite, "pqc"]]):
            config = {**CONFIG, "suite": suite, "min-suite": least, "key-source": source}
            config |= {"strategy": strategy, "qkd-network": network}
            situations.append((config, {**seen, "models_by_suite": dict.fromkeys(sealed, 1.0)}))
    return situations


def test_information_theoretic_needs_a_pad_no_degrading_no_node_and_real_keys() -> None:
    met = 0
    for config, summary in every_situation():
        if any(claim.holds is ITS for claim in claims(config, summary)):
            met += 1
            assert (config["suite"], config["key-source"]) == ("otp", "etsi014")
            assert not summary.get("relayed", config["qkd-network"] != "direct")
            assert not summary.get("compromised")
            assert summary["models_by_suite"] in ({}, {"otp": 1.0})
    assert met


def test_simulated_keys_never_give_more_than_a_simulated_or_computational_claim() -> None:
    for config, summary in every_situation():
        if config["key-source"] == "embedded":
            found = claims(config, summary)
            assert {claim.holds for claim in found} <= {NO, SIM, COMP}


def test_no_boast_occurs_and_every_cell_is_said_in_whole_sentences() -> None:
    for config, summary in every_situation():
        for claim in claims(config, summary):
            words = f"{claim.guarantee} {claim.source} {claim.breaks}".lower()
            assert not [boast for boast in ("unconditional", "absolute") if boast in words]
            assert claim.source.endswith(".")
            assert claim.breaks.endswith(".")
            assert ".." not in words


def test_worse_news_never_makes_a_claim_go_further() -> None:
    ranks = list(Holds)
    for config, summary in every_situation():
        before = [ranks.index(claim.holds) for claim in claims(config, summary)]
        for worse in ({"compromised": 1}, {"relayed": 1}, {"models_by_suite": {"none": 1.0}}):
            after = [ranks.index(claim.holds) for claim in claims(config, {**summary, **worse})]
            assert all(a <= b for a, b in zip(after, before, strict=True))
