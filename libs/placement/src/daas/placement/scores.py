"""kube-scheduler's scores in integers, for one node and for many: two ways to write the same formulas.

Sources: pkg/scheduler/framework/plugins (noderesources, tainttoleration, nodeaffinity) of Kubernetes 1.32. Where that
computes in floating point (balanced allocation), fractions are kept in ten-thousandths here.
"""

import numpy as np

from daas.placement.table import Ints

MAX_SCORE = 100
#: Fractions of capacity in balanced allocation; times 2^48 it stays below 2^63.
FRACTION = 10_000


def least_allocated(cpu: int, cpu_capacity: int, memory: int, memory_capacity: int) -> int:
    """0..100: the mean free share of CPU and memory, of those that the node has at all."""
    shares = [
        (capacity - used) * MAX_SCORE // capacity if used <= capacity else 0
        for used, capacity in ((cpu, cpu_capacity), (memory, memory_capacity))
        if capacity
    ]
    return sum(shares) // len(shares) if shares else 0


def balanced_allocation(cpu: int, cpu_capacity: int, memory: int, memory_capacity: int) -> int:
    """0..100: how close the used shares of CPU and memory are to each other."""
    if not cpu_capacity or not memory_capacity:
        return MAX_SCORE
    apart = abs(
        min(cpu, cpu_capacity) * FRACTION // cpu_capacity - min(memory, memory_capacity) * FRACTION // memory_capacity
    )
    return (2 * FRACTION - apart) * MAX_SCORE // (2 * FRACTION)


def least_allocated_of(cpu: Ints, cpu_capacity: Ints, memory: Ints, memory_capacity: Ints) -> Ints:
    """`least_allocated` over columns."""
    total = _share(cpu, cpu_capacity) + _share(memory, memory_capacity)
    both = (cpu_capacity > 0) & (memory_capacity > 0)
    mean: Ints = np.right_shift(total, both.astype(np.int64))
    return mean


def _share(used: Ints, capacity: Ints) -> Ints:
    left: Ints = np.maximum(capacity - used, 0)
    left *= MAX_SCORE
    left //= np.maximum(capacity, 1)
    return left


def balanced_allocation_of(cpu: Ints, cpu_capacity: Ints, memory: Ints, memory_capacity: Ints) -> Ints:
    """`balanced_allocation` over columns."""
    apart = np.abs(_fraction(cpu, cpu_capacity) - _fraction(memory, memory_capacity))
    scores: Ints = (2 * FRACTION - apart) * MAX_SCORE // (2 * FRACTION)
    scores[(cpu_capacity == 0) | (memory_capacity == 0)] = MAX_SCORE
    return scores


def _fraction(used: Ints, capacity: Ints) -> Ints:
    part: Ints = np.minimum(used, capacity)
    part *= FRACTION
    part //= np.maximum(capacity, 1)
    return part


def normalized(raw: int, largest: int, *, reverse: bool) -> int:
    """A raw score as 0..100 of the largest among the feasible nodes; reversed, the largest is worth nothing."""
    if not largest:
        return MAX_SCORE if reverse else 0
    share = raw * MAX_SCORE // largest
    return MAX_SCORE - share if reverse else share


def normalized_of(raw: Ints, largest: int, *, reverse: bool) -> Ints:
    """`normalized` over a column."""
    if not largest:
        return np.full(len(raw), MAX_SCORE if reverse else 0, np.int64)
    share: Ints = raw * MAX_SCORE // largest
    return MAX_SCORE - share if reverse else share
