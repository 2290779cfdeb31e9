"""The files in `experiments/`: what they promise, and that every trial of them can be run."""

import re
from functools import cache
from itertools import product

import pytest
import yaml

from deffd_flower.commands.request import read_yaml
from deffd_flower.config import DEFAULTS, RunConfig
from deffd_flower.fusion.features import feature_losses, takes_any_shapes
from deffd_flower.request import resolve
from deffd_flower.results.courses import read_courses
from deffd_flower.results.gains import gains
from deffd_flower.strategy.knowledge import Knowledge
from deffd_flower.strategy.plans import plans
from deffd_flower.strategy.presets import strategies
from deffd_flower.strategy.topology import topology
from deffd_flower.sweep.load import load_sweep
from deffd_flower.sweep.plan import Sweep
from deffd_flower.sweep.reference import partners
from experiments import HERE, PARTS, PRESETS, RESULTS, SWEEPS
from experiments.tables import beside_the_paper, chosen_weights, published, result

FIVE_SEEDS = {"fig3", "fig4", "mixed", "recipe", "strategies"}
CHOSEN_BY = {"fig3", "gamma-log", "ablation", "recipe-ablation"}
README = (HERE / "README.md").read_text("utf-8")


@cache
def sweep(name: str) -> Sweep:
    return load_sweep(HERE / f"{name}.yaml", {})


def configs(name: str) -> list[RunConfig]:
    return [trial.config for trial in sweep(name).trials]


def test_every_file_is_a_preset_a_part_or_a_sweep() -> None:
    assert {path.stem for path in HERE.glob("*.yaml")} == {*PRESETS, *PARTS, *SWEEPS}
    assert len(SWEEPS) == 11


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_request(name: str) -> None:
    config = resolve(read_yaml(str(HERE / f"{name}.yaml")))
    assert (config.clients, config.samples_per_client, config.classes_per_client) == (10, 600, 8)
    assert (config.dataset, config.strategy, config.rounds) == ("fashion-mnist", "def-fd", 20)


def test_the_presets_differ_in_how_the_classes_are_held() -> None:
    paper, balanced = (read_yaml(str(HERE / f"{name}.yaml")) for name in PRESETS)
    assert (paper.pop("class-alpha"), balanced.pop("class-alpha")) == (0.5, 0)
    assert paper == balanced


def test_the_paper_preset_is_what_a_run_does_by_default() -> None:
    paper = read_yaml(str(HERE / "paper.yaml"))
    assert resolve(paper) == resolve({})
    assert paper.keys() <= DEFAULTS.keys()


@pytest.mark.parametrize("name", SWEEPS)
def test_every_cell_has_the_same_seeds_so_that_trials_are_pairs(name: str) -> None:
    seeds: dict[int, list[tuple[int, ...]]] = {}
    for trial in sweep(name).trials:
        own = (trial.config.seed_of(draws) for draws in ("partition", "init", "pairing"))
        seeds.setdefault(trial.cell, []).append((trial.config.seed, *own))
    first = seeds[0]
    assert all(of_cell == first for of_cell in seeds.values())
    assert len(set(first)) >= (5 if name in FIVE_SEEDS else 3)
    for column in zip(*first, strict=True):
        assert len(set(column)) == len(first)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_cell_is_a_reference_or_has_one(name: str) -> None:
    firsts = {trial.cell: trial.config.values() for trial in reversed(sweep(name).trials)}
    cells = [firsts[number] for number in sorted(firsts)]
    found = partners(cells, sweep(name).reference)
    references = {partner for partner in found if partner is not None}
    assert references
    assert all(number in references for number, partner in enumerate(found) if partner is None)


@pytest.mark.parametrize("name", SWEEPS)
def test_what_somebody_may_choose_by_never_sees_the_test_set(name: str) -> None:
    judged = "validation" if name in CHOSEN_BY else "test"
    assert {config.evaluate_on for config in configs(name)} == {judged}


@pytest.mark.parametrize("name", SWEEPS)
def test_final_values_are_means_of_late_evaluations(name: str) -> None:
    for config in configs(name):
        first = config.rounds - (config.final_evaluations - 1) * config.eval_every
        assert first >= 0.7 * config.rounds
        # A central model does not depend on who happened to send last.
        assert config.final_evaluations >= (1 if config.strategy == "fedavg" else 2)


def test_figure_3_is_the_papers_grid() -> None:
    asked = {(c.feature_loss, c.gamma) for c in configs("fig3") if c.strategy == "def-fd"}
    assert asked == {(loss, g) for loss in ("l2", "cos", "mse") for g in (0.01, 0.02, 0.03)}


def test_figure_4_has_the_papers_weights_and_those_that_figure_3_chose() -> None:
    asked = {(c.feature_loss, c.gamma) for c in configs("fig4") if c.strategy == "def-fd"}
    papers = {(row.feature_loss, row.gamma) for row in published()}
    assert asked == papers | set(chosen_weights().items())


def test_the_strategies_table_has_the_papers_and_its_rivals() -> None:
    wanted = {"def-fd", "def-kt", "hand-off", "full-avg", "combo", "local", "fedavg"}
    assert wanted <= {config.strategy for config in configs("strategies")} <= {*strategies.names()}


def models_sent(config: RunConfig) -> float:
    """Count the models of a run by its plan; those of FedAvg travel to the clients and back."""
    if config.strategy == "fedavg":
        return 2 * config.clients * config.rounds
    plan = plans.get(strategies.get(config.strategy)().plan)
    graph, numbers = topology(config), range(1, config.rounds + 1)
    rounds = [plan(Knowledge(config, graph, number)) for number in numbers]
    transfers = [transfer for one in rounds for transfer in one.transfers]
    return sum(len(t.segments) / config.segments if t.segments else 1 for t in transfers)


def passes(config: RunConfig) -> float:
    """Count passes of one model over one client's samples, in all rounds together."""
    if config.strategy == "fedavg":
        return config.rounds * config.clients * config.local_epochs
    trained = {"distil": 1 if config.kd_weight == config.gamma == 0 else 2}
    fusing = trained.get(strategies.get(config.strategy)().fusion, 0) * config.fusion_epochs
    each = config.local_epochs + fusing + config.average_epochs
    return config.rounds * config.pairs_per_round * each


def test_strategies_send_equally_many_models_and_then_train_equally_long() -> None:
    settings = zip(sweep("strategies").cells, configs("strategies")[::5], strict=True)
    cells = [(config, keys) for keys, config in settings]
    def_fd = next(config for config, keys in cells if keys == {"strategy": "def-fd"})
    longer = [
        config
        for config, keys in cells
        if {"fusion-epochs", "average-epochs", "local-epochs"} & keys.keys()
        or (config.strategy == "fedavg" and models_sent(config) > models_sent(def_fd))
    ]
    less = {"full-avg", "combo", "hand-off", "local", "fedavg"}
    assert {config.strategy for config in longer} == less
    assert [passes(c) for c in longer] == pytest.approx([passes(def_fd)] * len(longer), rel=0.05)
    sent = {c.strategy: models_sent(c) for c, _ in cells if c not in longer}
    assert sent.pop("local") == 0
    assert list(sent.values()) == pytest.approx([models_sent(def_fd)] * len(sent))


def test_heterogeneity_varies_the_classes_and_how_equal_their_parts_are() -> None:
    grid = [(c.classes_per_client, c.class_alpha, c.strategy) for c in configs("heterogeneity")]
    each = ("def-kt", "def-fd", "def-fd-plus", "full-avg")
    assert set(grid) == set(product((2, 5, 8, 10), (0, 0.5, 0.1), each))


def test_an_average_beside_def_fd_plus_differs_from_it_in_distilling_alone() -> None:
    for name in ("recipe", "heterogeneity"):
        recommended = next(c for c in configs(name) if c.strategy == "def-fd-plus")
        average = next(
            c for c in configs(name) if c.strategy == "full-avg" and c.average_epochs > 0
        )
        for key in ("calibrate", "lr", "lr_schedule", "local_epochs"):
            assert getattr(average, key) == getattr(recommended, key)
        assert average.average_epochs == recommended.fusion_epochs


def test_the_ablation_of_def_fd_plus_begins_with_it_and_takes_parts_away() -> None:
    ours = resolve({"dataset": "digits", "strategy": "def-fd-plus"})
    cells = [dict(cell) for cell in sweep("recipe-ablation").cells]
    data = [(cell.pop("classes-per-client"), cell.pop("class-alpha")) for cell in cells]
    assert data == [(8, 0.5)] * 8 + [(5, 0)] * 8 + [(2, 0)] * 8
    assert cells[:8] == cells[8:16] == cells[16:]
    whole, *others = cells[:8]
    first = configs("recipe-ablation")[0]
    for key in ("calibrate", "lr", "lr_schedule", "gamma", "kd_weight", "feature_loss"):
        assert getattr(first, key) == getattr(ours, key)
    assert whole == {"strategy": "average-then-distil"}
    without = [{k: v for k, v in cell.items() if whole.get(k) != v} for cell in others]
    assert without == [
        {"calibrate": "none"},
        {"lr": 0.01, "lr-schedule": "constant"},
        {"strategy": "def-fd"},
        {"gamma": 0},
        {"kd-weight": 0},
        {"kd-weight": 0, "gamma": 0},
        {"strategy": "full-avg"},
    ]


def test_three_architectures_meet_in_equal_shares_and_are_compared_with_themselves_alone() -> None:
    for config in configs("mixed"):
        models = [config.cast.name(client) for client in range(config.clients)]
        assert models == ["mlp", "cnn", "resnet18"] * 4
    losses = {c.feature_loss for c in configs("mixed") if c.strategy == "def-fd"}
    needs = {takes_any_shapes(feature_losses.get(loss)) for loss in losses}
    assert needs == {True, False}, "losses with adapters, and losses without"
    alone = {c.calibrate for c in configs("mixed") if c.strategy == "local"}
    assert alone == {c.calibrate for c in configs("mixed")}


def test_the_ablation_changes_one_thing_at_a_time() -> None:
    base, *others = [dict(cell) for cell in sweep("ablation").cells]
    assert base == {"strategy": "def-fd"}
    assert [cell for cell in others if len(cell) > 1] == [{"kd-weight": 0, "gamma": 0}]


def test_every_sweep_has_its_question_and_its_command_in_the_readme() -> None:
    commands = re.findall(r"^`deffd sweep experiments/([\w-]+)\.yaml`$", README, re.MULTILINE)
    assert sorted(commands) == sorted(SWEEPS)
    paragraphs = re.split(r"^## ", README, flags=re.MULTILINE)[1:]
    assert len(paragraphs) == len(SWEEPS)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        path, _, anchor = target.partition("#")
        page = (HERE / (path or "README.md")).read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE) if anchor else []
        names = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
        assert not anchor or anchor in names


def test_the_papers_numbers_are_those_in_the_documentation() -> None:
    page = (HERE.parent / "docs" / "paper.md").read_text("utf-8")
    for row in published():
        cells = [row.feature_loss.upper(), f"{row.gamma:g}"]
        cells += [f"{number:.2f} %" for number in (row.global_accuracy, row.local_accuracy)]
        assert f"| {' | '.join(cells)} |" in page
        assert f"{row.global_accuracy:.2f}" in beside_the_paper()


@pytest.mark.parametrize("name", SWEEPS)
def test_a_committed_result_is_one_of_the_file_as_it_is(name: str) -> None:
    if not (RESULTS / name).is_dir():
        assert result(name) is None
        return
    committed = load_sweep(RESULTS / name / "sweep.yaml", {})
    assert [t.identity for t in committed.trials] == [t.identity for t in sweep(name).trials]
    comparison = result(name)
    assert comparison
    assert all(cell.missing == 0 for cell in comparison.cells), "every trial has its result"
    assert yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))["title"] == comparison.title


def test_what_we_recommend_reaches_what_is_claimed_of_it() -> None:
    comparison = result("recipe")
    assert comparison
    cells = {(c.config.strategy, c.config.rounds): c for c in comparison.cells}
    ours, longer = cells["def-fd-plus", 20], cells["def-fd-plus", 40]
    assert ours.summaries["global_accuracy"].mean >= 0.76
    assert ours.summaries["local_accuracy_prior"].mean >= 0.90
    assert longer.summaries["global_accuracy"].mean >= 0.80
    assert ours.differences["global_accuracy"].bootstrap.low >= 0.20, "above Def-FD, paired"
    def_kt = cells["def-kt", 20]
    assert ours.summaries["models_sent"].mean == def_kt.summaries["models_sent"].mean


def test_every_client_gains_from_others_of_other_architectures() -> None:
    comparison = result("mixed")
    assert comparison
    courses = read_courses(comparison.cells)
    for number, clients in gains(comparison, courses, "global_accuracy").items():
        if comparison.cells[number].config.strategy == "def-fd":
            assert len(clients) == 12
            assert all(gain.summary.mean > 0 for gain in clients)
