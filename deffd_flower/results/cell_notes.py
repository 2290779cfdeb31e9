"""What one must know to read a comparison's tables."""

from collections.abc import Iterator

from deffd_flower.results.cells import Comparison, told
from deffd_flower.results.statistics import EXACT_SEEDS, Difference, smallest_p
from deffd_flower.results.table import proper_name


def footnotes(comparison: Comparison) -> list[str]:
    """Return the notes below the tables, a sentence or two each."""
    differences = [one for cell in comparison.cells for one in cell.differences.values()]
    return [
        *_about_strategies(comparison),
        *_about_means(comparison),
        *(_about_differences(comparison, differences) if differences else []),
        *_about_evaluation(comparison),
        *_about_missing(comparison),
    ]


def reference_name(comparison: Comparison) -> str:
    """Return what the others are compared with; the cell's label if there is only one."""
    partners = {cell.partner for cell in comparison.cells} - {None}
    if len(partners) == 1:
        return comparison.cells[partners.pop() or 0].label
    return told(comparison.reference)


def _about_strategies(comparison: Comparison) -> Iterator[str]:
    for strategy, keys in comparison.implied.items():
        yield f"{proper_name(strategy)}: {told(keys)}."


def _about_means(comparison: Comparison) -> Iterator[str]:
    most = max(len(cell.trials) for cell in comparison.cells)
    if most > 1:
        yield "Mean over seeds ± half the width of Student's 95 % interval."
    elif most == 1:
        yield "One seed for each row: no interval can be given."


def _about_differences(comparison: Comparison, differences: list[Difference]) -> Iterator[str]:
    fewest, most = min(one.n for one in differences), max(one.n for one in differences)
    covered = f"{100 * (1 - smallest_p(fewest)):.3g}"
    yield (
        f"Differences are to {reference_name(comparison)} with the same seed, hence with the same "
        "partition, initial weights and pairs, unless a key of the row changes what is drawn: "
        "their mean over seeds, with a 95 % bootstrap interval (percentiles, widened for few "
        "seeds: Hesterberg 2015). It lies within the range of the differences, which with "
        f"{fewest} seeds covers their median in {covered} %."
    )
    kind = "exact" if most <= EXACT_SEEDS else "seeded random signs"
    yield f"p: two-sided sign-flip permutation test of the paired differences ({kind})."
    if smallest_p(fewest) > 0.001:
        never = ", so none here can be below 0.05" if smallest_p(most) > 0.05 else ""
        yield f"With {fewest} seeds the smallest possible p is {smallest_p(fewest):g}{never}."
    yield from _about_families(comparison, smallest_p(most))


def _about_families(comparison: Comparison, smallest: float) -> Iterator[str]:
    largest = max(
        sum(metric in cell.differences for cell in comparison.cells)
        for metric in comparison.metrics
    )
    if largest > 1:
        limit = min(1.0, largest * smallest)
        judged = " Judge by the intervals." if limit > 0.05 else ""
        yield (
            f"Holm p: corrected for all {largest} comparisons of a metric, which with so many "
            f"seeds cannot give one below {limit:.3g}.{judged}"
        )


def _about_evaluation(comparison: Comparison) -> Iterator[str]:
    configs = [trial.config for cell in comparison.cells for trial in cell.trials]
    if configs and all(config.evaluate_on == "validation" for config in configs):
        yield (
            "Global is counted on a validation split of the training set; no test image was seen. "
            "Local is counted on the clients' own held-out samples, as in every run of the same "
            "seeds: do not choose by it."
        )
    last = {config.final_evaluations for config in configs}
    if last and last != {1}:
        counts = "–".join(map(str, sorted({min(last), max(last)})))
        yield f"A run's value is the mean of its last {counts} evaluations."


def _about_missing(comparison: Comparison) -> Iterator[str]:
    missing = sum(cell.missing for cell in comparison.cells)
    if missing:
        asked = missing + sum(len(cell.trials) for cell in comparison.cells)
        yield f"{missing} of {asked} trials have no result; the seeds say how many each row has."
