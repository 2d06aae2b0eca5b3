"""Scores of one node in plain integers: the formulas that also a verifier without numpy works with.

Sources: as in `scores`, which has the same formulas over many nodes.
"""

MAX_SCORE = 100
#: Fractions of capacity in balanced allocation; times 2^48 it stays below 2^63.
FRACTION = 10_000


def least_allocated(cpu: int, cpu_capacity: int, memory: int, memory_capacity: int) -> int:
    """0..100: the mean free share of CPU and memory, of those that the node has at all."""
    cpu_share = (cpu_capacity - cpu) * MAX_SCORE // cpu_capacity if 0 < cpu <= cpu_capacity else 0
    if not cpu and cpu_capacity:
        cpu_share = MAX_SCORE
    memory_share = (memory_capacity - memory) * MAX_SCORE // memory_capacity if 0 < memory <= memory_capacity else 0
    if not memory and memory_capacity:
        memory_share = MAX_SCORE
    total = cpu_share + memory_share
    return total >> 1 if cpu_capacity and memory_capacity else total


def balanced_allocation(cpu: int, cpu_capacity: int, memory: int, memory_capacity: int) -> int:
    """0..100: how close the used shares of CPU and memory are to each other."""
    if not cpu_capacity or not memory_capacity:
        return MAX_SCORE
    cpu_part = cpu * FRACTION // cpu_capacity if cpu < cpu_capacity else FRACTION
    memory_part = memory * FRACTION // memory_capacity if memory < memory_capacity else FRACTION
    return (2 * FRACTION - abs(cpu_part - memory_part)) // (2 * FRACTION // MAX_SCORE)


def balance_change(with_pod: int, without: int, *, asks: bool) -> int:
    """Balanced allocation of kube-scheduler 1.36: 50..100, 75 where the pod leaves the balance as it is.

    A pod that asks for nothing moves nothing and gets 0 everywhere.
    """
    return 50 + (50 + with_pod - without) // 2 if asks else 0


def normalized(raw: int, largest: int, *, reverse: bool) -> int:
    """A raw score as 0..100 of the largest among the feasible nodes; reversed, the largest is worth nothing."""
    if not largest:
        return MAX_SCORE if reverse else 0
    share = raw * MAX_SCORE // largest
    return MAX_SCORE - share if reverse else share
