"""kube-scheduler's scores in integers, for one node and for many: two ways to write the same formulas.

Sources: pkg/scheduler/framework/plugins (noderesources, tainttoleration, nodeaffinity, imagelocality,
interpodaffinity, podtopologyspread) of Kubernetes 1.32. Where that
computes in floating point (balanced allocation), fractions are kept in ten-thousandths here.
"""

import numpy as np

from daas.placement.scores_of_one import (
    FRACTION,
    MAX_SCORE,
    balance_change,
    balanced_allocation,
    least_allocated,
    normalized,
)
from daas.placement.table import Ints

__all__ = [
    "FRACTION",
    "MAX_SCORE",
    "balance_change",
    "balance_change_of",
    "balanced_allocation",
    "balanced_allocation_of",
    "evened",
    "image_locality_of",
    "least_allocated",
    "least_allocated_of",
    "normalized",
    "normalized_of",
    "scaled_image_size",
    "stretched",
]

#: Thresholds of kube-scheduler's ImageLocality.
IMAGE_MIN_BYTES = 23 * 1024 * 1024
IMAGE_MAX_BYTES = 1000 * 1024 * 1024
#: Whole k in 0..100 where 100 * (k / 100) in doubles is a little less than k.
_ROUNDED_DOWN = np.isin(np.arange(MAX_SCORE + 1), (29, 57, 58))


def least_allocated_of(used: Ints, capacity: Ints) -> Ints:
    """`least_allocated` over columns; both have the rows CPU and memory."""
    left: Ints = capacity - used
    np.maximum(left, 0, out=left)
    left *= MAX_SCORE
    if capacity.all():
        left //= capacity
        total: Ints = left[0] + left[1]
        total >>= 1
        return total
    left //= np.maximum(capacity, 1)
    mean: Ints = np.right_shift(left[0] + left[1], (capacity > 0).all(0).astype(np.int64))
    return mean


def balanced_allocation_of(used: Ints, capacity: Ints) -> Ints:
    """`balanced_allocation` over columns; both have the rows CPU and memory."""
    part: Ints = np.minimum(used, capacity)
    part *= FRACTION
    plain = bool(capacity.all())
    part //= capacity if plain else np.maximum(capacity, 1)
    apart: Ints = part[0] - part[1]
    np.abs(apart, out=apart)
    np.subtract(2 * FRACTION, apart, out=apart)
    apart //= 2 * FRACTION // MAX_SCORE
    if not plain:
        apart[~(capacity > 0).all(0)] = MAX_SCORE
    return apart


_SCALES = np.array(((MAX_SCORE,), (MAX_SCORE,), (FRACTION,), (FRACTION,)), np.int64)


def resource_scores_of(parts: Ints, capacity: Ints) -> tuple[Ints, Ints]:
    """(`least_allocated`, `balanced_allocation`) over columns, in few steps for nodes that have CPU and memory.

    Args:
        parts: rows CPU and memory left for scores, CPU and memory taken; worked in.
        capacity: rows CPU and memory, none 0.
    """
    np.maximum(parts[:2], 0, out=parts[:2])
    np.minimum(parts[2:], capacity, out=parts[2:])
    parts *= _SCALES
    shares = parts.reshape(2, 2, -1)
    shares //= capacity
    least, apart = parts[0], parts[2]
    least += parts[1]
    least >>= 1
    apart -= parts[3]
    np.abs(apart, out=apart)
    np.subtract(2 * FRACTION, apart, out=apart)
    apart //= 2 * FRACTION // MAX_SCORE
    return least, apart


def balance_change_of(with_pod: Ints, without: Ints, *, asks: bool) -> Ints:
    """`balance_change` over columns."""
    return 50 + (50 + with_pod - without) // 2 if asks else np.zeros(len(with_pod), np.int64)


def _to_double(numerator: int, denominator: int) -> tuple[int, int]:
    """Numerator / denominator as the nearest IEEE double, (mantissa, exponent): ties to even."""
    shift = 54 - numerator.bit_length() + denominator.bit_length()
    scaled, rest = divmod(numerator << shift, denominator) if shift >= 0 else divmod(numerator, denominator << -shift)
    extra = scaled.bit_length() - 53
    low, half = scaled & ((1 << extra) - 1), 1 << (extra - 1)
    mantissa = scaled >> extra
    if low > half or (low == half and (rest or mantissa & 1)):
        mantissa += 1
    return mantissa, extra - shift


def scaled_image_size(size: int, nodes: int, all_nodes: int) -> int:
    """An image's size in proportion to the share of nodes that have it, cut to a whole number.

    kube-scheduler multiplies doubles here; the same roundings are made in integers, so that the result is the same.
    """
    if not size:
        return 0
    share, share_exponent = _to_double(nodes, all_nodes)
    product, exponent = _to_double(size * share, 1)
    exponent += share_exponent
    return product << exponent if exponent >= 0 else product >> -exponent


def image_locality_of(sizes: Ints, containers: int) -> Ints:
    """0..100 for the summed sizes of a pod's images: nothing below 23 MB, all at 1000 MB a container."""
    largest = IMAGE_MAX_BYTES * max(containers, 1)
    clipped: Ints = np.clip(sizes, IMAGE_MIN_BYTES, largest)
    clipped -= IMAGE_MIN_BYTES
    clipped *= MAX_SCORE
    clipped //= largest - IMAGE_MIN_BYTES
    return clipped


def stretched(raw: Ints, least: int, most: int) -> Ints:
    """Raw scores of inter-pod affinity as 0..100 between the least and the most among the feasible nodes.

    kube-scheduler computes 100 * ((raw - least) / (most - least)) in doubles and cuts the fraction off: where the true
    value is whole, three of the hundred come out one lower.
    """
    if most <= least:
        return np.zeros(len(raw), np.int64)
    above = (raw - least) * MAX_SCORE
    share: Ints = above // (most - least)
    share -= _ROUNDED_DOWN[np.clip(share, 0, MAX_SCORE)] & (share * (most - least) == above)
    return share


def evened(raw: Ints, least: int, most: int) -> Ints:
    """Raw scores of soft topology spread as 0..100: fewer pods, more score."""
    if not most:
        return np.full(len(raw), MAX_SCORE, np.int64)
    share: Ints = MAX_SCORE * (most + least - raw) // most
    return share


def normalized_of(raw: Ints, largest: int, *, reverse: bool) -> Ints:
    """`normalized` over a column."""
    if not largest:
        return np.full(len(raw), MAX_SCORE if reverse else 0, np.int64)
    share: Ints = raw * MAX_SCORE // largest
    return MAX_SCORE - share if reverse else share
