"""Prices without a solver: the Lagrangian dual of the allocation, descended along subgradients in numpy.

For prices w on capacity each class takes the places that gain it most, at most as many as it has pods; what those gains
and the capacity's price add up to bounds every allocation, and how much the places overfill the nodes says where to
move the prices (Polyak's step towards the best allocation known). The verifier needs none of this: it accepts any
prices, and these only make its bound tighter than free capacity would.
"""

import numpy as np

from daas.placement.allocation.filling import Filling, by_prices, greedy
from daas.placement.allocation.model import AllocationModel, Ints
from daas.placement.allocation.program import Floats, Suggestion

#: Rounds for small problems; large ones get as many as a hundred million places cost.
MAX_ROUNDS = 400
_PLACES_BUDGET = 100_000_000
#: After so many rounds without a better bound the step is halved.
_PATIENCE = 20


def descend(model: AllocationModel) -> tuple[Suggestion, Filling]:
    """The best prices found, and the best allocation met on the way. Deterministic up to floating point."""
    request = model.rounded_requests.astype(np.float64)
    free = model.rounded_free.astype(np.float64)
    values = np.where(model.limits > 0, model.values, 0).astype(np.float64)
    scale = np.maximum(free.max(0, initial=1), 1)
    request, free = request / scale, free / scale
    best = greedy(model)
    prices = np.zeros_like(free)
    kept, least, stale, step = (_pods(model, values, prices, request)[0], prices), np.inf, 0, 1.0
    rounds = min(MAX_ROUNDS, max(_PLACES_BUDGET // max(model.limits.size * 8, 1), 20))
    for turn in range(rounds):
        pod_prices, taken, gained = _pods(model, values, prices, request)
        bound = float((free * prices).sum() + gained)
        if bound < least - 1e-9:
            kept, least, stale = (pod_prices, prices.copy()), bound, 0
        else:
            stale += 1
        if stale == _PATIENCE:
            step, stale = step / 2, 0
            prices = kept[1].copy()
            continue
        slope = free - taken.T @ request
        length = float((slope * slope).sum())
        if length == 0 or bound - best.value <= 0:
            break
        prices = np.maximum(prices - step * (bound - best.value) / length * slope, 0)
        if turn % 25 == 24:
            costs: Ints = np.round(request @ prices.T).astype(np.int64)
            best = max(best, by_prices(model, costs), key=lambda filling: filling.value)
    return Suggestion(np.zeros(model.limits.shape), kept[0], kept[1] / scale), best


def _pods(model: AllocationModel, values: Floats, prices: Floats, request: Floats) -> tuple[Floats, Floats, float]:
    """Per class what one more pod would gain, the places that all classes take, and what these gain."""
    gains = np.where(model.limits > 0, values - request @ prices.T, 0)
    order = np.argsort(-gains, axis=1, kind="stable")
    sorted_gains = np.take_along_axis(gains, order, 1)
    room = np.take_along_axis(model.limits, order, 1)
    before = np.cumsum(room, 1) - room
    sorted_taken = np.where(sorted_gains > 0, np.clip(model.counts[:, None] - before, 0, room), 0)
    full = before + room >= model.counts[:, None]
    marginal = np.where(full.any(1), sorted_gains[np.arange(len(gains)), full.argmax(1)], 0)
    taken = np.zeros_like(gains)
    np.put_along_axis(taken, order, sorted_taken.astype(np.float64), 1)
    return np.maximum(marginal, 0), taken, float((sorted_taken * sorted_gains).sum())
