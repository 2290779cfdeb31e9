"""Whole numbers of samples for clients and classes, as near to given proportions as stock allows.

All tables are [clients, classes] unless said otherwise.
"""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Weights = NDArray[np.float64]

FITTING_ROUNDS = 100


class OutOfStockError(Exception):
    """The classes have too few samples for what is asked, however they are spread."""


def apportion(
    weights: Weights, totals: Counts, least: Counts, generator: np.random.Generator
) -> Counts:
    """Split each row's total in proportion to its weights, by largest remainder.

    Args:
        weights: Non-negative, [rows, columns], with a positive sum in each row.
        totals: What each row must sum to, [rows]; at least the row's sum of ``least``.
        least: What each cell gets in any case, [rows, columns].
        generator: Breaks ties between equal remainders.

    Returns:
        Whole numbers, [rows, columns], zero where both weight and ``least`` are.
    """
    quotas = weights / weights.sum(axis=1, keepdims=True) * totals[:, None]
    above = np.maximum(quotas - least, 0)
    free = totals - least.sum(axis=1)
    share = above / np.maximum(above.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    parts = share * free[:, None]
    counts = np.floor(parts).astype(np.int64)
    remainders = np.where(above > 0, parts - counts, -1.0)
    order = np.lexsort((generator.random(weights.shape), -remainders), axis=1)
    short = free - counts.sum(axis=1)
    extra = np.arange(weights.shape[1]) < short[:, None]
    np.put_along_axis(counts, order, np.take_along_axis(counts, order, 1) + extra, 1)
    result: Counts = counts + least
    return result


def fit_to_stock(
    weights: Weights, size: int, stock: Counts, least: Counts, generator: np.random.Generator
) -> Counts:
    """Give every client ``size`` samples, near its proportions and within the classes' stock.

    Iterative proportional fitting (Deming and Stephan 1940) first finds the proportions nearest
    to ``weights``; a maximum flow then settles the last few whole samples, so that an answer is
    found whenever there is one.

    Args:
        weights: Wanted proportions; a client never gets a class of weight zero.
        size: Samples per client.
        stock: Samples there are of each class, [classes].
        least: What each cell gets in any case.
        generator: Breaks ties.

    Returns:
        Whole numbers with row sums ``size`` and column sums within ``stock``.

    Raises:
        OutOfStockError: There are no such numbers.
    """
    allowed = weights > 0
    if (least.sum(axis=0) > stock).any() or (least.sum(axis=1) > size).any():
        raise OutOfStockError
    fitted = weights.copy()
    for _ in range(FITTING_ROUNDS):
        fitted *= size / fitted.sum(axis=1, keepdims=True)
        demand = fitted.sum(axis=0)
        if (demand <= stock * (1 + 1e-9)).all():
            break
        fitted *= np.minimum(1, stock / np.maximum(demand, 1e-300))
        fitted = np.maximum(fitted, allowed * 1e-12)
    sizes = np.full(len(weights), size)
    counts = apportion(fitted, sizes, least, generator)
    over = np.flatnonzero(counts.sum(axis=0) > stock)
    if len(over):
        column_weights = counts[:, over].T.astype(float)
        counts[:, over] = apportion(column_weights, stock[over], least[:, over].T, generator).T
    complete = _complete(counts, size, stock, least, allowed)
    if complete is None:
        raise OutOfStockError
    return complete


def largest_size(allowed: NDArray[np.bool_], stock: Counts, least: Counts) -> int:
    """Return the most samples that all clients can have alike, by bisection; 0 if none.

    Args:
        allowed: Which classes a client may have samples of.
        stock: Samples there are of each class, [classes].
        least: What each cell gets in any case.
    """
    fits, fails = int(least.sum(axis=1).max()), int(stock.sum()) // len(allowed) + 1
    if (least.sum(axis=0) > stock).any() or _complete(least, fits, stock, least, allowed) is None:
        return 0
    while fails - fits > 1:
        size = (fits + fails) // 2
        if _complete(least, size, stock, least, allowed) is None:
            fails = size
        else:
            fits = size
    return fits


def _complete(
    counts: Counts, size: int, stock: Counts, least: Counts, allowed: NDArray[np.bool_]
) -> Counts | None:
    """Fill every client up to ``size``, moving samples of others where that is what it takes.

    A maximum flow on what is left open by ``counts``: source -> client (what it lacks) -> class
    (any number, where allowed) -> sink (what is left of it), and class -> client for what the
    client could hand back.
    """
    need = size - counts.sum(axis=1)
    if not need.any():
        return counts
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    clients, classes = counts.shape
    source, sink, nodes = clients + classes, clients + classes + 1, clients + classes + 2
    owner, owned = np.nonzero(allowed)
    edges = [  # from, to, capacity
        (np.full(clients, source), np.arange(clients), need),
        (owner, clients + owned, np.full(len(owner), size)),
        (clients + owned, owner, (counts - least)[owner, owned]),
        (clients + np.arange(classes), np.full(classes, sink), stock - counts.sum(axis=0)),
    ]
    tails, heads, capacities = (np.concatenate(part) for part in zip(*edges, strict=True))
    graph = csr_array((capacities.astype(np.int32), (tails, heads)), shape=(nodes, nodes))
    result = maximum_flow(graph, source, sink)
    if result.flow_value < need.sum():
        return None
    moved: Counts = result.flow[:clients, clients:source].toarray().astype(np.int64)
    return counts + moved
