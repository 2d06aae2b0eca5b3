"""Checks an allocation's certificate against the cluster it names: integers only, no solver, nothing of the planner.

Weak duality, for any prices u_k, w_nd >= 0 (both times S = 2^20) and any allocation x the model allows:

    S * sum v_kn x_kn  <=  sum_k c_k u_k + sum_nd f_nd w_nd + sum_kn limit_kn * max(0, S v_kn - u_k - sum_d r_kd w_nd)

with rounded requests r and rounded free capacity f. So whoever made up the prices can only have made the bound loose.
"""

from typing import NamedTuple

import numpy as np

from daas.placement.allocation.certificate import MAX_PRICE, PRICE_SCALE, Certificate
from daas.placement.allocation.cluster import Cluster
from daas.placement.allocation.errors import CertificateError, CertificateFormatError
from daas.placement.allocation.model import AllocationModel, Ints, build_model
from daas.placement.allocation.objective import Objective

#: Factors are below 2^24 (limits, counts, free capacity) and 2^60 (reduced values), rows below 2^15 long: products of
#: 24 with 20 bits, summed 2^15 times, stay below 2^59.
_LIMB_BITS = 20
_LIMB = (1 << _LIMB_BITS) - 1


class Verdict(NamedTuple):
    """What a certificate proves.

    Attributes:
        value: what the allocation is worth.
        bound: no allocation that the model allows is worth more.
        placed: pods the allocation places, of `pending`; `coupled` of those are counted in the bound, never placed.
    """

    value: int
    bound: int
    placed: int
    pending: int
    coupled: int

    @property
    def gap(self) -> int:
        """Bound less value, at least 0."""
        return self.bound - self.value

    @property
    def gap_ppm(self) -> int:
        """The gap in millionths of the bound, rounded up; 0 exactly where the allocation is optimal."""
        return -(-self.gap * 1_000_000 // self.bound) if self.bound else 0

    @property
    def optimal(self) -> bool:
        """Whether the certificate proves that nothing is better."""
        return self.gap == 0

    def sentence(self) -> str:
        """What may be said of the allocation."""
        said = f"{self.placed} of {self.pending} pods placed, value {self.value}"
        if self.optimal:
            return f"{said}: optimal"
        return f"{said}: at most {self.gap} ({self.gap_ppm} ppm) below any other allocation"


def verify(cluster: Cluster, objective: Objective, certificate: Certificate) -> Verdict:
    """Checks a certificate from nothing but the committed cluster and the objective that the caller expects.

    Whoever calls it compares `cluster.digest()` with the commitment they trust. The objective is theirs to say: with
    one that values nothing, every allocation would be optimal.

    Raises:
        CertificateError: it claims what is not so; see `verify_against`.
        CertificateFormatError: its shape is not that of the cluster's model.
        ClusterError: the cluster or the objective is out of bounds.
    """
    return verify_against(build_model(cluster, objective), certificate)


def verify_against(model: AllocationModel, certificate: Certificate) -> Verdict:
    """Checks a certificate against a model that the caller built itself.

    Raises:
        CertificateError: `certificate-cluster`, `certificate-objective`, `certificate-infeasible`,
            `certificate-coupled`, `certificate-value` or `certificate-bound`.
        CertificateFormatError: `certificate-shape` or `certificate-range`.
    """
    if certificate.cluster != model.cluster:
        raise CertificateError(
            f"the certificate speaks of cluster {certificate.cluster.hex()}, this is {model.cluster.hex()}",
            reason="certificate-cluster",
            field="cluster",
        )
    if certificate.objective != model.objective:
        raise CertificateError("another objective", reason="certificate-objective", field="objective")
    value, placed = _check_places(model, certificate)
    if value != certificate.value:
        raise CertificateError(
            f"the places are worth {value}, the certificate says {certificate.value}",
            reason="certificate-value",
            field="value",
        )
    bound = price_bound(model, certificate.pod_prices, certificate.node_prices)
    if bound != certificate.bound:
        raise CertificateError(
            f"the prices prove a bound of {bound}, the certificate says {certificate.bound}",
            reason="certificate-bound",
            field="bound",
        )
    assert value <= bound, "weak duality"
    pending = sum(len(uids) for uids in model.pods)
    coupled = sum(len(uids) for uids, why in zip(model.pods, model.coupled, strict=True) if why is not None)
    return Verdict(value, bound, placed, pending, coupled)


def _check_places(model: AllocationModel, certificate: Certificate) -> tuple[int, int]:
    """Value of the places and how many pods they place, once they are known to fit."""
    if not certificate.places:
        return 0, 0
    for before, after in zip(certificate.places, certificate.places[1:], strict=False):
        if before[:2] >= after[:2]:
            raise CertificateFormatError(
                f"place {after} stands after {before}", reason="certificate-shape", field="places"
            )
    try:
        table = np.array(certificate.places, np.int64)
    except OverflowError:
        raise CertificateFormatError("a place outside the model", reason="certificate-shape", field="places") from None
    k, n, pods = table[:, 0], table[:, 1], table[:, 2]
    if k.max() >= len(model.pods) or n.max() >= len(model.nodes) or table.min() < 0 or pods.min() < 1:
        raise CertificateFormatError("a place outside the model", reason="certificate-shape", field="places")
    over = np.nonzero(pods > model.limits[k, n])[0]
    if len(over):
        raise _infeasible(model, int(k[over[0]]), int(n[over[0]]), "more pods of a class on a node than it takes")
    barred = [i for i in np.unique(k).tolist() if model.coupled[i] is not None]
    if barred:
        raise CertificateError(
            f"pods like {model.pods[barred[0]][0]} have {model.coupled[barred[0]]}, which no plan decides",
            reason="certificate-coupled",
            field="places",
        )
    used = np.zeros_like(model.counts)
    np.add.at(used, k, pods)
    if (used > model.counts).any():
        raise _infeasible(model, int(np.nonzero(used > model.counts)[0][0]), int(n[0]), "more pods than there are")
    # each product is at most the node's free amount (2^48) since pods <= limits; 10,000 of them stay below 2^62
    taken = np.zeros_like(model.free)
    np.add.at(taken, n, pods[:, None] * model.requests[k])
    if (taken > model.free).any():
        node, resource = (int(i) for i in np.argwhere(taken > model.free)[0])
        raise CertificateError(
            f"node {model.nodes[node]} has {model.free[node, resource]} {model.resources[resource]} free, "
            f"{taken[node, resource]} are placed on it",
            reason="certificate-infeasible",
            field="places",
        )
    return int((pods * model.values[k, n]).sum()), int(pods.sum())


def _infeasible(model: AllocationModel, k: int, n: int, what: str) -> CertificateError:
    return CertificateError(
        f"{what}: pods like {model.pods[k][0]}, node {model.nodes[n]}", reason="certificate-infeasible", field="places"
    )


def price_bound(model: AllocationModel, pod_prices: tuple[int, ...], node_prices: tuple[int, ...]) -> int:
    """The bound that prices prove: exact, valid for any that are not negative.

    Raises:
        CertificateFormatError: `certificate-shape`, or `certificate-range` where sums could leave 63 bits.
    """
    classes, resources = model.requests.shape
    for field, prices, length in (
        ("pod_prices", pod_prices, classes),
        ("node_prices", node_prices, len(model.nodes) * resources),
    ):
        if len(prices) != length:
            raise CertificateFormatError(
                f"{length} prices expected, not {len(prices)}", reason="certificate-shape", field=field
            )
        if prices and not 0 <= min(prices) <= max(prices) <= MAX_PRICE:
            raise CertificateFormatError(
                f"prices are 0..{MAX_PRICE}, not {min(prices)} and {max(prices)}",
                reason="certificate-range",
                field=field,
            )
    u = np.array(pod_prices, np.int64)
    w = np.array(node_prices, np.int64).reshape(len(model.nodes), resources)
    for d in range(resources):
        if int(model.rounded_requests[:, d].max(initial=0)) * int(w[:, d].max(initial=0)) > MAX_PRICE // resources:
            raise CertificateFormatError(
                f"the prices of {model.resources[d]} leave the range of exact sums",
                reason="certificate-range",
                field="node_prices",
            )
    total = _dot(model.counts, u)
    for d in range(resources):
        total += _dot(model.rounded_free[:, d], w[:, d])
    for k in range(classes):
        reduced = model.values[k] * PRICE_SCALE - u[k] - w @ model.rounded_requests[k]
        total += _dot(model.limits[k], np.maximum(reduced, 0))
    return total // PRICE_SCALE // model.value_step * model.value_step


def _dot(small: Ints, large: Ints) -> int:
    """The exact sum of products of factors below 2^24 and at most 2^60, in three limbs of the larger."""
    total = 0
    for limb in range(4):
        total += int(small @ ((large >> (limb * _LIMB_BITS)) & _LIMB)) << (limb * _LIMB_BITS)
    return total


def placements(model: AllocationModel, certificate: Certificate) -> tuple[tuple[str, str], ...]:
    """(pod uid, node) of a verified certificate: the pods of a class take its places in order, by uid and by node."""
    taken = [0] * len(model.pods)
    out: list[tuple[str, str]] = []
    for k, n, pods in certificate.places:
        out += [(uid, model.nodes[n]) for uid in model.pods[k][taken[k] : taken[k] + pods]]
        taken[k] += pods
    return tuple(out)
