"""Allocations built up class by class without a solver: always feasible, exact, and the same on every machine."""

import numpy as np

from daas.placement.allocation.model import AllocationModel, Ints

#: Sizes are compared as shares of everything that is free, in parts of this.
_SHARE = 1 << 20


class Filling:
    """An allocation while it grows.

    Attributes:
        placed: K x N. left: K, pods still to place. free: N x D.
    """

    def __init__(self, model: AllocationModel, placed: Ints | None = None) -> None:
        self.model = model
        self.placed = np.zeros_like(model.limits) if placed is None else placed.copy()
        self.left = model.counts - self.placed.sum(1)
        self.free = model.capacity_left(self.placed)
        assert (self.left >= 0).all()
        assert (self.free >= 0).all()
        barred = [k for k, why in enumerate(model.coupled) if why is not None]
        self.left[barred] = 0

    def room(self, k: int) -> Ints:
        """Per node, how many more pods of a class it takes, at most those that are left."""
        room = np.where(self.model.limits[k] > 0, self.left[k], 0)
        for d in np.nonzero(self.model.requests[k])[0]:
            room = np.minimum(room, self.free[:, d] // self.model.requests[k, d])
        return room

    def put(self, k: int, counts: Ints) -> None:
        """Places `counts` (N) pods of a class; the caller has looked at `room`."""
        self.placed[k] += counts
        self.left[k] -= int(counts.sum())
        self.free -= counts[:, None] * self.model.requests[k]

    def put_one(self, k: int, n: int) -> bool:
        """Places one pod if it fits."""
        requests = self.model.requests[k]
        if self.left[k] < 1 or not self.model.limits[k, n] or (self.free[n] < requests).any():
            return False
        self.placed[k, n] += 1
        self.left[k] -= 1
        self.free[n] -= requests
        return True

    def fill_class(self, k: int, order: Ints) -> None:
        """Places what is left of a class on nodes in this order, each as full as it gets."""
        if not self.left[k]:
            return
        room = self.room(k)[order]
        before = np.cumsum(room) - room
        counts = np.zeros_like(room)
        counts[order] = np.clip(int(self.left[k]) - before, 0, room)
        self.put(k, counts)

    @property
    def value(self) -> int:
        """What it is worth."""
        return int((self.placed * self.model.values).sum())


def sizes(model: AllocationModel) -> Ints:
    """Per class, the sum over resources of one pod's share of all that is free; at least 1."""
    total = np.maximum(model.free.sum(0), 1)
    scaled: Ints = np.minimum(model.requests, total) * _SHARE // total
    shares: Ints = scaled.sum(1)
    return np.maximum(shares, 1)


def greedy(model: AllocationModel, start: Ints | None = None) -> Filling:
    """Classes by value for their size, each on the nodes it is worth most on; ties by index."""
    filling = Filling(model, start)
    best = np.where(model.limits > 0, model.values, 0).max(1, initial=0)
    ranking = np.argsort(-(best * _SHARE // sizes(model)), kind="stable")
    for k in ranking:
        filling.fill_class(int(k), np.argsort(-model.values[k], kind="stable"))
    return filling


def by_prices(model: AllocationModel, costs: Ints) -> Filling:
    """Classes by what they gain over the prices of what they take, each on the nodes where it gains most.

    Args:
        model: the problem.
        costs: K x N, the prices of what one pod takes there, in the scale of values.
    """
    filling = Filling(model)
    gains = np.where(model.limits > 0, model.values - costs, np.iinfo(np.int64).min // 2)
    ranking = np.argsort(-(gains.max(1, initial=0) * _SHARE // sizes(model)), kind="stable")
    for k in ranking:
        filling.fill_class(int(k), np.argsort(-gains[k], kind="stable"))
    return filling
