"""How unbalanced a cluster is, as one exact integer, and how much a move changes it.

Amounts are counted in units of a resource: q_d is a 2^16th of the mean capacity, at least 1, and a pod's request counts
ceil(r / q_d) units. With l_nd units of load on node n of capacity c_nd = floor(capacity / q_d) units and weights
W_nd = floor(2^32 / c_nd) (0 where a node has none of the resource), the potential is

    P = sum_nd W_nd * l_nd^2

which is least, for given loads in total, where every node carries the same share of its capacity. Moving a pod of r_d
units from s to t changes it by exactly minus the gain

    sum_d r_d * (W_sd * (2 * l_sd - r_d) - W_td * (2 * l_td + r_d)).

No distribution of the same total is below the floor sum_d L_d^2 / sum_n (1 / W_nd) (Cauchy-Schwarz), where L_d is the
load on nodes with a weight.
"""

from collections.abc import Sequence

#: Loads are small numbers with it, so that a planner can weigh moves in 64 bits.
UNIT_SHARE = 1 << 16
WEIGHT_SCALE = 1 << 32
#: 1 / W is rounded up at this scale; the quotient is rounded up too, since potentials are whole numbers.
_INVERSE_SCALE = 1 << 128

Loads = list[list[int]]


def unit_of(capacities: Sequence[int]) -> int:
    """What one unit of a resource is, from what the nodes that have it offer."""
    offered = [capacity for capacity in capacities if capacity > 0]
    return max(sum(offered) // len(offered) // UNIT_SHARE, 1) if offered else 1


def units(amount: int, unit: int) -> int:
    """A request in units, rounded up."""
    return -(-amount // unit)


def weight(capacity: int, unit: int) -> int:
    """The weight of a node in a resource, from its capacity in the resource's own measure."""
    whole = capacity // unit
    return WEIGHT_SCALE // whole if whole else 0


def potential(loads: Loads, weights: Loads) -> int:
    """P of loads and weights, node by node and resource by resource."""
    return sum(w * load * load for row, at in zip(loads, weights, strict=True) for load, w in zip(row, at, strict=True))


def floor(loads: Loads, weights: Loads) -> int:
    """What no distribution of the same total load can fall below."""
    total = 0
    for d in range(len(loads[0]) if loads else 0):
        load = sum(row[d] for row, at in zip(loads, weights, strict=True) if at[d])
        inverse = sum(-(-_INVERSE_SCALE // at[d]) for at in weights if at[d])
        total += -(-load * load * _INVERSE_SCALE // inverse) if inverse else 0
    return total


def gain(
    request: Sequence[int],
    source: tuple[Sequence[int], Sequence[int]],
    target: tuple[Sequence[int], Sequence[int]],
) -> int:
    """By how much a move lowers the potential; negative where it raises it.

    Args:
        request: units of each resource that the pod takes.
        source: loads and weights of the node that it leaves.
        target: loads and weights of the node that it goes to.
    """
    return sum(
        r * (ws * (2 * ls - r) - wt * (2 * lt + r)) for r, ls, ws, lt, wt in zip(request, *source, *target, strict=True)
    )
