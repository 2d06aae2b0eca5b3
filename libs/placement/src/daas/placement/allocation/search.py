"""Better allocations within a time budget: small integer programs over a few nodes at a time, each keeping the rest.

An integer program over a whole cluster rarely improves on its start within seconds; over a couple of dozen nodes it is
solved in a fraction of one. There is no clock here: the budget is divided into turns, and the solver keeps to each.
"""

import numpy as np
import numpy.typing as npt

from daas.placement.allocation.filling import Filling, greedy
from daas.placement.allocation.model import AllocationModel, Ints
from daas.placement.allocation.program import Floats, Program, solve

#: Fractions closer than this to a whole number are that number.
_WHOLE = 1e-6
#: Places an integer program may have; as many nodes as keep below it are looked at together.
_PLACES = 500
_TURN_MS = 100
#: A problem with no more places than this is also looked at as a whole, for half of the budget.
_WHOLE_PLACES = 4000


def settle(filling: Filling, fractions: Floats, percent: int) -> None:
    """Rounds fractions down, and up to `percent` of what remains up, largest first, as far as it fits."""
    whole = np.floor(fractions + _WHOLE).astype(np.int64)
    for k in np.nonzero(whole.any(1))[0].tolist():
        counts = np.minimum(whole[k], filling.room(k))
        before = np.cumsum(counts) - counts
        filling.put(k, np.clip(int(filling.left[k]) - before, 0, counts))
    rest = fractions - whole
    order = np.argsort(-rest, axis=None, kind="stable")[: int((rest > _WHOLE).sum())]
    most = max(5, len(order) * percent // 100)
    for place in order[:most].tolist():
        filling.put_one(*divmod(place, fractions.shape[1]))


def search(model: AllocationModel, start: Filling, integer_ms: int) -> Filling:
    """An allocation at least as good as `start`. Which nodes are taken together follows from the cluster's digest."""
    best = start
    if not len(model.nodes) or not len(model.pods):
        return best
    # numpy's own generator: the order only decides where to look, never what is true
    order = np.random.default_rng(int.from_bytes(model.cluster[:8], "little"))
    together = max(2, min(len(model.nodes), _PLACES // len(model.pods)))
    limits = model.limits.copy()
    limits[[k for k, why in enumerate(model.coupled) if why is not None]] = 0
    whole_ms = integer_ms // 2 if limits.size <= _WHOLE_PLACES else 0
    turn_ms = min(_TURN_MS, integer_ms)
    for _ in range((integer_ms - whole_ms) // turn_ms):
        nodes = np.sort(order.permutation(len(model.nodes))[:together])
        best = _improve(model, best, nodes, limits[:, nodes], turn_ms)
    return _improve(model, best, np.arange(len(model.nodes)), limits, whole_ms) if whole_ms else best


def _improve(model: AllocationModel, best: Filling, nodes: npt.NDArray[np.intp], limits: Ints, turn_ms: int) -> Filling:
    """Places the pods on some nodes, and those that are nowhere, again; keeps the better of before and after."""
    here = best.placed[:, nodes]
    left = best.left + here.sum(1)
    program = Program(
        values=model.values[:, nodes],
        limits=np.minimum(limits, left[:, None]),
        counts=left,
        requests=model.requests,
        free=best.free[nodes] + here.T @ model.requests,
    )
    rest = best.placed.copy()
    rest[:, nodes] = 0
    filling = Filling(model, rest)
    fractions = np.zeros(best.placed.shape)
    fractions[:, nodes] = solve(program, start=here, integer_ms=turn_ms).placed
    settle(filling, fractions, 100)
    after = greedy(model, filling.placed)
    return after if after.value > best.value else best
