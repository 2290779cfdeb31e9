"""The settings that get most key out of a link: intensities, their probabilities, basis choice."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds.block import DecoySettings

if TYPE_CHECKING:
    from deffd_flower.qkd.bounds.finite import FiniteBound
    from deffd_flower.qkd.link import QuantumLink

Vector = NDArray[np.float64]

LEAST_KEY_BASIS = 0.05


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -30.0), 30.0)))


def _encode(settings: DecoySettings, fixed: int) -> Vector:
    """Return settings as unbounded numbers, so that the search needs no constraints."""
    free = settings.intensities[: len(settings.intensities) - fixed]
    ceilings = (1.0, *free)
    ratios = [_logit(mu / top) for mu, top in zip(free, ceilings, strict=False)]
    odds = [math.log(p / settings.probabilities[-1]) for p in settings.probabilities[:-1]]
    return np.array([*ratios, *odds, _logit(settings.key_basis)])


def _decode(x: Vector, fixed: tuple[float, ...]) -> DecoySettings:
    free = (len(x) - len(fixed)) // 2
    floor = fixed[0] if fixed else 0.0
    intensities, top = [], 1.0
    for value in x[:free]:
        top = max(top * _logistic(value), floor * 1.01 + 1e-9)
        intensities.append(top)
    odds = [math.exp(min(max(value, -30.0), 30.0)) for value in x[free:-1]] + [1.0]
    probabilities = tuple(weight / sum(odds) for weight in odds)
    # Below this a block takes forever, and the search would chase key that never comes.
    key_basis = max(_logistic(x[-1]), LEAST_KEY_BASIS)
    return DecoySettings((*intensities, *fixed), probabilities, key_basis)


@lru_cache(maxsize=1024)
def best_settings(bound: "FiniteBound", link: "QuantumLink") -> DecoySettings:
    """Return the settings with the highest expected rate; the same for the same link, always.

    Nelder-Mead from every start of the bound.

    Raises:
        RequestError: SciPy is missing.
    """
    try:
        from scipy.optimize import minimize
    except ImportError as problem:
        advice = 'optimising decoys needs SciPy: pip install "deffd-flower[qkd]", or give settings'
        raise RequestError("qkd-bound", link.bound, advice) from problem
    fixed = bound.fixed_intensities

    def cost(x: Vector) -> float:
        try:
            block = bound.expected(link, _decode(x, fixed))
        except RequestError:
            return 2e3
        rate = block.secret / block.pulses
        # Below zero there is no logarithm; any such point ranks behind every point with key.
        return -math.log(rate) if rate > 0 else 1e3 - block.secret / block.sifted

    runs = [
        minimize(
            cost,
            _encode(start, len(fixed)),
            method="Nelder-Mead",
            options={"xatol": 1e-4, "fatol": 1e-8, "maxfev": 2000, "adaptive": True},
        )
        for start in bound.starts
    ]
    return _decode(min(runs, key=lambda run: float(run.fun)).x, fixed)
