"""The config schema: what is accepted, and what a wrong request is told."""

import tomllib
from pathlib import Path

import pytest

from deffd_flower.config import DEFAULTS, parse
from deffd_flower.errors import RequestError
from deffd_flower.request import resolve
from deffd_flower.strategy.presets import RECOMMENDED, strategies


def test_numbers_may_come_as_text() -> None:
    config = parse({"lr": "1e-3", "rounds": "7", "common-init": "false"})
    assert (config.lr, config.rounds, config.common_init) == (1e-3, 7, False)


def test_flowers_spellings_mean_the_same() -> None:
    config = parse({"num-server-rounds": 3, "num-supernodes": 4})
    assert (config.rounds, config.clients) == (3, 4)
    with pytest.raises(RequestError, match="another name of rounds"):
        parse({"num-server-rounds": 3, "rounds": 3})


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("gamma", -1, "gamma=-1: must be at least 0, or auto"),
        ("gamma", "much", "gamma=much: must be a number, or auto"),
        (
            "teacher-weight",
            "blind",
            "teacher-weight=blind: must be 'none', 'presence' or 'entropy'",
        ),
        ("lr", "abc", "lr=abc: must be a number"),
        ("lr", "nan", "lr=nan: must be a finite number"),
        ("clients", 1, "clients=1: must be at least 2"),
        ("rounds", "2.5", "rounds=2.5: must be a whole number"),
        ("strategy", "deffd", "strategy=deffd: must be one of .*Did you mean 'def-fd'"),
        ("dataset", "nope", "dataset=nope: must be one of .*digits"),
        ("classes-per-client", 11, "classes-per-client=11: must be at most 10"),
        ("samples-per-client", "many", "samples-per-client=many: .*or auto"),
        ("receiver-keeps", "both", "receiver-keeps=both: must be 'received', 'own' or 'average'"),
        ("pairs", 6, "pairs=6: 10 clients form at most 5 pairs"),
        ("gama", 0.1, "gama: there is no such key. Did you mean 'gamma'"),
        ("topology", "star", "topology=star: must be one of"),
        ("plugins", "no_such_module", "plugins=no_such_module: cannot be imported"),
    ],
)
def test_a_wrong_request_is_told_the_key_the_value_and_what_to_do(
    key: str, value: object, told: str
) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        resolve({key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("strategy", "key", "value"),
    [
        ("hand-off", "kd-loss", "ntd"),
        ("full-avg", "anchor", 0.5),
        ("average-then-distil", "receiver-keeps", "own"),
        ("average-then-distil", "anchor", 0.5),
        ("full-avg", "temperature", 2.5),
        ("def-fd", "segments", 5),
        ("local", "fusion-epochs", 3),
        ("fedavg", "pairs", 2),
    ],
)
def test_a_key_the_strategy_would_ignore_is_refused(strategy: str, key: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"{key}={value}: strategy={strategy} does not use it"):
        resolve({"strategy": strategy, key: value})


@pytest.mark.parametrize(
    ("strategy", "key", "value", "own"),
    [
        ("def-kt", "gamma", 0.03, 0.0),
        ("hand-off", "kd-weight", 0.5, 0.0),
        ("def-fd-plus", "calibrate", "fedlc", "prior"),
        ("def-fd-plus", "lr", 0.05, RECOMMENDED["lr"]),
    ],
)
def test_a_key_the_strategy_sets_itself_is_refused(
    strategy: str, key: str, value: object, own: object
) -> None:
    with pytest.raises(RequestError, match=f"{key}={value}: strategy={strategy} sets it to {own};"):
        resolve({"strategy": strategy, key: value})


def test_the_recommended_strategy_is_another_one_with_its_keys_set() -> None:
    plus = resolve({"strategy": "def-fd-plus"})
    typed = resolve({"strategy": "average-then-distil", **RECOMMENDED})
    assert plus.values() == {**typed.values(), "strategy": "def-fd-plus"}
    ours, theirs = (strategies.get(each.strategy)() for each in (plus, typed))
    assert (ours.plan, ours.fusion) == (theirs.plan, theirs.fusion)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"calibrate": "prior", "fedlc-tau": 2}, "fedlc-tau=2.0: calibrate=prior does not use it"),
        ({"calibrate": "fedlc", "fedrs-alpha": 0.9}, "fedrs-alpha=0.9: calibrate=fedlc does not"),
        ({"dkd-beta": 2}, "dkd-beta=2.0: kd-loss=kl does not use it"),
        ({"gamma-share": 0.5}, "gamma-share=0.5: gamma=0.01 does not use it"),
        ({"gamma": "auto", "ce-weight": 0}, "gamma=auto: scales the feature term to the cross-"),
        ({"kd-weight": 0, "kd-loss": "ntd"}, "kd-loss=ntd: kd-weight=0 does not use it"),
        ({"kd-weight": 0, "teacher-weight": "entropy"}, "teacher-weight=entropy: kd-weight=0"),
        ({"fusion-epochs": 0, "anchor": 1}, "anchor=1.0: fusion-epochs=0 does not use it"),
        ({"strategy": "fedavg"}, "suite=aes: the server of fedavg reads the models"),
        ({"suite": "aes", "min-suite": "otp"}, "min-suite=otp: is stronger than suite=aes"),
        ({"min-suite": "none"}, "min-suite=none: would let the server make models up"),
        ({"on-starved": "degrade"}, "needs a min-suite weaker than suite=aes"),
        ({"suite": "none", "link": "gys"}, "link=gys: suite=none uses no QKD key"),
        ({"suite": "otp", "rekey-messages": 2}, "suite=otp uses no key twice"),
        ({"link": "no-such-link"}, "link=no-such-link: must be one of"),
        ({"qkd-network": "mesh"}, "qkd-network=mesh: must be one of"),
        ({"eve": "listen hard"}, "attack=listen: must be one of"),
        ({"suite": "rot13"}, "suite=rot13: must be one of"),
        ({"suite": "pqc", "key-source": "etsi014"}, "key-source=etsi014: suite=pqc uses no QKD"),
        ({"rekey-seconds": 9}, "rekey-seconds=9.0: rekey-messages=1 takes a fresh key"),
        ({"on-starved": "skip", "max-wait-s": 9}, "max-wait-s=9.0: on-starved=skip does not"),
        ({"topology-degree": 3}, "topology-degree=3: topology=complete does not use it"),
        ({"kd-weight": 0, "temperature": 2}, "temperature=2.0: kd-weight=0 does not use it"),
        ({"gamma": 0, "feature-loss": "cos"}, "feature-loss=cos: gamma=0 does not use it"),
        ({"strategy": "hand-off", "ce-weight": 0}, "ce-weight=0.0: is the last term that is left"),
        ({"topology": "small-world", "topology-degree": 3}, "topology-degree=3: must be even"),
        ({"strategy": "local", "suite": "otp"}, "suite=otp: strategy=local does not use it"),
        ({"strategy": "local", "link": "gys"}, "link=gys: strategy=local does not use it"),
        ({"fusion-epochs": 0, "temperature": 2}, "temperature=2.0: fusion-epochs=0 does not"),
        ({"fusion-epochs": 0, "gamma": 0}, "gamma=0.0: fusion-epochs=0 does not use it"),
    ],
)
def test_keys_must_fit_together(request_: dict[str, object], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        resolve(request_)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("link", "gys"),
        ("qkd-network", "kreonet"),
        ("eve", "denial"),
        ("abort-qber", 0.2),
        ("pool-capacity", 1000),
        ("key-max-age-s", 60),
        ("authentication-bits", 0),
        ("head-start-s", 0),
        ("round-compute-s", 1),
        ("transfer-mbps", 1),
    ],
)
def test_real_key_managers_have_no_simulated_network(key: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"^{key}=.*key-source=etsi014 does not use it"):
        resolve({"key-source": "etsi014", key: value})
    resolve({"key-source": "etsi014", "max-wait-s": 60, "rekey-messages": 2, "suite": "hybrid"})


def test_a_key_the_partition_would_ignore_is_refused() -> None:
    with pytest.raises(RequestError, match="partition=iid does not use it"):
        resolve({"partition": "iid", "class-alpha": 0.1})


def test_the_anchor_reads_the_temperature_without_distillation() -> None:
    config = resolve({"strategy": "def-kt", "kd-weight": 0, "anchor": 1, "temperature": 2})
    assert config.temperature == 2


def test_numbers_that_may_be_found_are_numbers_or_auto() -> None:
    assert resolve({"gamma": "auto", "gamma-share": "0.2"}).gamma == "auto"
    assert resolve({"gamma": "0.25"}).gamma == 0.25


@pytest.mark.parametrize("strategy", sorted({*strategies.names()} - {"fedavg"}))
def test_a_resolved_config_resolves_to_itself(strategy: str) -> None:
    config = resolve({"strategy": strategy})
    assert resolve(config.values()) == config


@pytest.mark.parametrize("strategy", ["def-fd", "def-kt", "hand-off"])
def test_without_fusion_epochs_the_keys_a_strategy_sets_itself_are_fine(strategy: str) -> None:
    config = resolve({"strategy": strategy, "fusion-epochs": 0, "receiver-keeps": "received"})
    assert resolve(config.values()) == config


def test_def_kt_is_def_fd_with_gamma_zero() -> None:
    kt = resolve({"strategy": "def-kt"}).values()
    fd = resolve({"strategy": "def-fd", "gamma": 0}).values()
    assert {key for key in kt if kt[key] != fd[key]} == {"strategy"}


def test_flowers_run_config_lists_every_key_with_its_default() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert pyproject["tool"]["flwr"]["app"]["config"] == DEFAULTS


@pytest.mark.parametrize("key", ["lr", "calibrate", "lr-schedule"])
def test_a_default_typed_by_hand_is_not_overruled_in_silence(key: str) -> None:
    request = {"strategy": "def-fd-plus", key: DEFAULTS[key]}
    assert resolve(request) == resolve({"strategy": "def-fd-plus"}), "Flower hands on all keys"
    wrong = f"{key}={DEFAULTS[key]}: strategy=def-fd-plus sets it to {RECOMMENDED[key]};"
    with pytest.raises(RequestError, match=wrong):
        resolve(request, typed=[key])
    assert resolve({**request, key: RECOMMENDED[key]}, typed=[key]) == resolve(request)


@pytest.mark.parametrize(
    ("key", "value"), [("teacher", "frozen"), ("fusion-update", "alternating")]
)
def test_where_nothing_is_distilled_how_models_learn_from_each_other_is_refused(
    key: str, value: str
) -> None:
    alone = {"kd-weight": 0, "gamma": 0}
    with pytest.raises(RequestError, match=f"{key}={value}: with kd-weight=0 and gamma=0"):
        resolve({**alone, key: value})
    resolve({**alone, "receiver-keeps": "average"})
