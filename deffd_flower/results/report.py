"""One self-contained page per run, to be looked at rather than read."""

import math
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from deffd_flower.results import by_model, gossip_figures, key_section
from deffd_flower.results.chart import ACCURACIES
from deffd_flower.results.figures import draw, worst_tenth
from deffd_flower.results.page import as_typed, filled, shown
from deffd_flower.results.reader import Row, Run, column, read_run
from deffd_flower.results.table import (
    KEY_QUANTITIES,
    NOTHING,
    QUANTITIES,
    SET_ASIDE,
    count,
    judged_on,
    megabytes,
    number,
    percent,
    plain,
    proper_name,
    written,
)
from deffd_flower.results.template import PAGE
from deffd_flower.results.writer import write_whole

IDENTITY = ["strategy", "dataset", "model", "clients", "rounds", "seed"]

HEADLINE = {
    "global_accuracy": ("Global", ""),
    "local_accuracy": ("Local", "each client's own held-out data"),
    "local_accuracy_prior": ("Local with prior", "the same, weighing in its own class shares"),
    "worst10_accuracy": ("Worst tenth", "Global of the worst tenth of clients"),
}


@dataclass(frozen=True)
class Tile:
    """One number of the headline."""

    label: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Cell:
    """One cell of the clients' table; ``part`` is the length of its bar in percent, or None."""

    text: str
    part: str | None


@dataclass(frozen=True)
class Client:
    """One row of the clients' table."""

    client: str
    worst: bool
    cells: list[Cell]


def render(directory: Path) -> Path:
    """Draw the figures and write ``report.html`` from the files of a run directory alone.

    The run may be finished, interrupted or still going on. The same files give the same page.

    Returns:
        The page.

    Raises:
        RequestError: The directory is not a run's, or a file in it cannot be understood.
    """
    run = read_run(directory)
    facts = _facts(run)
    figures = [
        shown(name, svg, TITLES[name], _caption(name, run, facts))
        for name, svg in draw(run).items()
    ]
    keys = key_section.key_section(run, facts)
    labels, rows = _client_table(run.clients)
    text = filled(
        PAGE,
        title=f"{proper_name(facts.get('strategy'))} on {proper_name(facts.get('dataset'))}",
        subtitle=_subtitle(run),
        notice=_notice(run),
        tiles=_tiles(facts),
        basis=_basis(facts),
        figures=[figure for figure in figures if figure.name not in key_section.TITLES],
        key_figures=[figure for figure in figures if figure.name in key_section.TITLES],
        keys=keys,
        summary=_summary(facts, apart=KEY_QUANTITIES if keys else []),
        config=as_typed(run.config),
        client_labels=labels,
        clients=rows,
        model_labels=by_model.HEAD,
        models=by_model.by_model(run.clients),
        last_round=_last_round(run),
        commands=_commands(run),
        versions=plain(facts["versions"]) if "versions" in facts else "",
    )
    path = run.directory / "report.html"
    write_whole(path, text)
    return path


TITLES = {
    "learning-curves": "Accuracy by round",
    "accuracy-by-traffic": "Accuracy by traffic",
    "clients": "Accuracy of each client",
    "partition": "Who holds what",
    "gossip": "Who wrote to whom",
    "losses": "Training objective",
    "consensus": "How far the models are apart",
    **key_section.TITLES,
}


def _caption(name: str, run: Run, facts: Mapping[str, object]) -> str:
    if name in key_section.TITLES:
        return key_section.caption(name, run, facts)
    if name == "learning-curves":
        return (
            f"Mean over clients after each evaluated round. Global is measured on the "
            f"{judged_on(facts)}, which Held and Absent split by the classes a client has; Local "
            "on each client's own held-out data, without and with its class shares as prior."
        )
    if name == "accuracy-by-traffic":
        sent = (
            f"{megabytes(facts.get('bytes_sent'))} MB in {count(facts.get('models_sent'))} models"
        )
        return f"The same accuracies against what all clients together had sent by then: {sent}."
    if name == "clients":
        worst = [plain(run.clients[place].get("client")) for place in worst_tenth(run.clients)]
        noun = "client" if len(worst) == 1 else "clients"
        return (
            f"After round {_last_round(run)}, sorted by Global. Shaded is the worst tenth: "
            f"{noun} {', '.join(worst)}."
        )
    if name == "partition":
        sizes = [sum(held) for held in run.partition]
        return (
            f"Samples by client and class; blank where a client has none of a class. A client "
            f"has between {count(min(sizes))} and {count(max(sizes))} samples."
        )
    if name == "gossip":
        return gossip_figures.caption(run)
    if name == "consensus":
        return (
            "Consensus distance: the root mean square distance of the clients' weights to their "
            "mean, estimated from 64 random projections of each client's weights."
        )
    return (
        "Mean over clients and batches of each term before it is weighted, recorded with each "
        "evaluated round. Cross-entropy and KL divergence are in nats."
    )


def _facts(run: Run) -> dict[str, object]:
    """Return the summary, or the last evaluated round's numbers where there is none."""
    latest = run.summary or dict(run.rounds[-1] if run.rounds else {})
    known = {key: run.config[key] for key in IDENTITY if key in run.config}
    if "evaluate-on" in run.config:
        known["evaluated_on"] = run.config["evaluate-on"]
    return {**known, **latest}


def _last_round(run: Run) -> str:
    return count(column(run.rounds, "round")[-1]) if run.rounds else NOTHING


def _subtitle(run: Run) -> str:
    keys = ["model", "clients", "rounds", "topology", "suite", "seed"]
    values = [(key, plain(run.config[key])) for key in keys if key in run.config]
    plural = {"clients", "rounds"}
    return " · ".join(f"{v} {key}" if key in plural else f"{key} {v}" for key, v in values)


def _notice(run: Run) -> str:
    if run.summary:
        return ""
    planned = plain(run.config.get("rounds"))
    state = "This run has not finished: it was interrupted, or is still going on."
    if not run.rounds:
        return f"{state} No round has been evaluated."
    return f"{state} The numbers are those after round {_last_round(run)} of {planned}."


def _tiles(facts: Mapping[str, object]) -> list[Tile]:
    spread = percent(facts.get("global_accuracy_std"))
    tiles = []
    for key, (label, meaning) in HEADLINE.items():
        if math.isfinite(number(facts.get(key))):
            about = meaning or judged_on(facts)
            if key == "global_accuracy" and spread != NOTHING:
                about = f"± {spread} over clients; {about}"
            tiles.append(Tile(label, percent(facts[key]), about))
    return tiles


def _basis(facts: Mapping[str, object]) -> str:
    """Return what the headline's numbers are numbers of, and the best one apart."""
    parts = []
    if facts.get("evaluated_on") == "validation":
        parts.append("Global is counted on training images that no client holds, for tuning.")
    if facts.get("validation_split") == SET_ASIDE:
        parts.append("They were set aside first: with evaluate-on=test, clients hold other images.")
    if (averaged := number(facts.get("final_evaluations"))) > 1:
        parts.append(f"Values are means of the last {count(averaged)} evaluations.")
    if math.isfinite(number(facts.get("best_global_accuracy"))):
        best, at = percent(facts["best_global_accuracy"]), count(facts.get("best_round"))
        parts.append(f"The best single evaluation had Global {best} %, after round {at}.")
    return " ".join(parts)


def _summary(facts: Mapping[str, object], apart: Collection[str]) -> list[tuple[str, str]]:
    """Return label and value of every fact, but for those shown in a section apart."""
    here = [
        key for key in facts if key not in {"global_accuracy_std", "versions", "command", *apart}
    ]
    known = [(QUANTITIES[key][0], written(key, facts)) for key in QUANTITIES if key in here]
    others = [(_label(key), plain(facts[key])) for key in here if key not in QUANTITIES]
    return [(label, text) for label, text in known + others if text != NOTHING]


def _client_table(rows: list[Row]) -> tuple[list[str], list[Client]]:
    keys = [key for key in (rows[0] if rows else {}) if key not in {"round", "client"}]
    worst = set(worst_tenth(rows))
    clients = [
        Client(plain(row.get("client")), place in worst, [_cell(key, row[key]) for key in keys])
        for place, row in enumerate(rows)
    ]
    return ["Client", *map(_label, keys)], clients


def _cell(key: str, value: float | str) -> Cell:
    if key not in ACCURACIES:
        return Cell(plain(value), None)
    text = percent(value)
    return Cell(text, None if text == NOTHING else text)


def _label(key: str) -> str:
    return QUANTITIES[key][0] if key in QUANTITIES else key.replace("_", " ").capitalize()


def _commands(run: Run) -> list[str]:
    words = ["deffd", "run", "config.yaml"]
    if run.config.get("out-dir"):
        # The config names this very directory, which is not empty any more.
        words.append(f"out-dir=../{run.directory.name}-again")
    commands = [shlex.join(words)]
    given = run.summary.get("command")
    if given:
        commands.append(shlex.join(map(str, given)) if isinstance(given, list) else str(given))
    return commands
