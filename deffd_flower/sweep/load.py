"""From a sweep file to a sweep whose every trial has been checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deffd_flower.config import DEFAULTS, FLOWER_SPELLINGS, RunConfig, parse
from deffd_flower.errors import RequestError
from deffd_flower.request import resolve
from deffd_flower.sweep.cells import Cell, Setting, expand
from deffd_flower.sweep.document import Document, read_document
from deffd_flower.sweep.naming import label, trial_names
from deffd_flower.sweep.plan import Keys, Sweep, Trial, located
from deffd_flower.sweep.reference import partners
from deffd_flower.sweep.source import Source

_ELSEWHERE = {
    "out-dir": "trials are written below --out",
    "workers": "a trial is one process; --workers says how many run at a time",
}
"""Keys that a sweep says in other words."""

_OPTIONAL = "consensus_distance"
"""The number that runs have only if they are asked for it."""


def load_sweep(path: Path, words: Mapping[str, object]) -> Sweep:
    """Read a sweep file and check every trial of it.

    Args:
        path: The file.
        words: Keys from the command line; they override those of ``base``.

    Raises:
        RequestError: The first thing that is wrong, with its place.
    """
    source = Source(path)
    document = read_document(source)
    base = _base(document, source, words)
    grid = [_own_spelling(cell) for cell in expand(document.grid, source)]
    seeds = _seeds(document, source, base)
    configs = [_configs(base, cell, seeds) for cell in grid]
    firsts = [of_cell[0].values() for of_cell in configs]
    cells = [{key: first[key] for key in cell} for cell, first in zip(grid, firsts, strict=True)]
    names = trial_names(cells, seeds)
    trials = [
        Trial(name, number, config, _places({**base, **cell}))
        for number, cell in enumerate(grid)
        for name, config in zip(names[number], configs[number], strict=True)
    ]
    _refuse_twins(trials, grid, source)
    _check_numbers(document, source, trials)
    return Sweep(
        title=document.title or path.stem,
        description=document.description,
        base=_values(base),
        cells=cells,
        seeds=seeds,
        metrics=document.metrics,
        reference=_reference(document, source, firsts),
        stop=document.stop,
        trials=trials,
    )


def _base(document: Document, source: Source, words: Mapping[str, object]) -> Cell:
    """Return the keys of ``base``, in our own spelling and each of its own type."""
    given: dict[str, tuple[object, str]] = {}
    for index, entry in enumerate(document.base):
        if isinstance(entry, str):
            file = _other(source, index, entry)
            given |= {key: (value, file.place([key])) for key, value in file.content.items()}
        else:
            places = {key: source.place(["base", index, key]) for key in entry}
            given |= {key: (value, places[key]) for key, value in entry.items()}
    given |= {key: (value, key) for key, value in words.items()}
    for key in _ELSEWHERE.keys() & given.keys():
        if given[key][0] != DEFAULTS[key]:
            raise RequestError(given[key][1], None, _ELSEWHERE[key])
    try:
        typed = parse({key: value for key, (value, _) in given.items()}).values()
    except RequestError as problem:
        places = {key: place for key, (_, place) in given.items()}
        raise located(problem, places) from None
    ours = {FLOWER_SPELLINGS.get(key, key): place for key, (_, place) in given.items()}
    return {key: Setting(typed[key], place) for key, place in ours.items()}


def _other(source: Source, index: int, name: str) -> Source:
    """Read a file that ``base`` names, relative to the file it is named in."""
    try:
        return Source(source.path.parent / name)
    except RequestError as problem:
        place = source.place(["base", index])
        raise RequestError(place, None, str(problem)) from None


def _own_spelling(cell: Cell) -> Cell:
    for key in cell:
        if key in _ELSEWHERE:
            raise RequestError(cell[key].place, None, _ELSEWHERE[key])
        if key == "seed":
            raise RequestError(cell[key].place, None, "give seeds: at the top of the file instead")
    return {FLOWER_SPELLINGS.get(key, key): setting for key, setting in cell.items()}


def _seeds(document: Document, source: Source, base: Cell) -> list[int]:
    """Take ``seed`` out of ``base``, and return the seeds of every cell."""
    own = base.pop("seed", None)
    if document.seeds is None:
        return [int(own.value) if own else 0]
    if own and own.value != DEFAULTS["seed"]:
        raise RequestError(own.place, own.value, "the file gives seeds, too; leave one out")
    if len(set(document.seeds)) < len(document.seeds):
        raise RequestError(source.place(["seeds"]), None, "names a seed twice")
    return document.seeds


def _configs(base: Cell, cell: Cell, seeds: Sequence[int]) -> list[RunConfig]:
    settings = {**base, **cell}
    try:
        return [resolve({**_values(settings), "seed": seed}, typed=cell) for seed in seeds]
    except RequestError as problem:
        told = f"cell {_told(cell)}" if cell and problem.key not in cell else ""
        raise located(problem, _places(settings), told) from None


def _refuse_twins(trials: Sequence[Trial], grid: Sequence[Cell], source: Source) -> None:
    known: dict[str, Trial] = {}
    for trial in trials:
        twin = known.setdefault(trial.identity, trial)
        if twin is not trial:
            told = f"{_told(grid[twin.cell])} and {_told(grid[trial.cell])}"
            raise RequestError(source.place(["grid"]), None, f"{told} are the same run; drop one")


def _check_numbers(document: Document, source: Source, trials: Sequence[Trial]) -> None:
    """Refuse numbers that no trial will have, and a stop that would stop none."""
    stop = document.stop
    asked = {"metrics": document.metrics, "stop": [stop.metric] if stop else []}
    missing = [key for key, names in asked.items() if _OPTIONAL in names]
    if missing and not all(trial.config.consensus_distance for trial in trials):
        advice = f"{_OPTIONAL} needs consensus-distance: true in all trials"
        raise RequestError(source.place([missing[0]]), None, advice)
    longest = max(trial.config.rounds for trial in trials)
    if stop and stop.grace_rounds >= longest:
        place = source.place(["stop", "grace-rounds"])
        raise RequestError(place, stop.grace_rounds, f"must be less than the {longest} rounds")


def _reference(document: Document, source: Source, cells: Sequence[Keys]) -> Keys:
    """Return the reference with its values typed; somebody must be compared with it."""
    place = source.place(["reference"])
    try:
        typed = parse(document.reference).values()
    except RequestError as problem:
        places = {key: source.place(["reference", key]) for key in document.reference}
        raise located(problem, places) from None
    reference = {key: typed[FLOWER_SPELLINGS.get(key, key)] for key in document.reference}
    if reference and all(partner is None for partner in partners(cells, reference)):
        raise RequestError(place, None, "fits no cell, or leaves none to compare with it")
    return reference


def _told(cell: Cell) -> str:
    return label(_values(cell), list(cell))


def _values(cell: Cell) -> Keys:
    return {key: setting.value for key, setting in cell.items()}


def _places(cell: Cell) -> dict[str, str]:
    return {key: setting.place for key, setting in cell.items()}
