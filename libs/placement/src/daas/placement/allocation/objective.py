"""What an allocation is worth: the integer value of placing one pod on one node, from the committed cluster alone."""

import msgspec
import numpy as np
import numpy.typing as npt

from daas.common import bcs
from daas.placement.allocation.errors import ClusterError
from daas.placement.filters import count_intolerable_preferences, term_holds
from daas.placement.model import Affinity, Node, Pod, Taint

Ints = npt.NDArray[np.int64]

MAX_SCORE = 100
#: Distinct priorities that are told apart; the rest count like the highest of these.
MAX_PRIORITY_RANK = 15
#: 16 * MAX_PER_POD + 3 * 100 * MAX_WEIGHT stays below 2^25, so a value times 2^20 stays below 2^45.
MAX_PER_POD = 1_000_000
MAX_WEIGHT = 10_000


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of what is maximised, the sum over all placed pods of

    `per_pod + per_priority_rank * rank + taint_toleration * T + node_affinity * A + least_allocated * L`.

    `rank` is the place (0, 1, .. 15) of the pod's priority among the distinct priorities of all pending pods. T, A and
    L are 0..100 as kube-scheduler normalises them over the nodes that accept the pod, all at the state of the committed
    cluster: the value of a place does not change with what else is placed, which is what makes it provable.
    """

    per_pod: int = 1000
    per_priority_rank: int = 1000
    taint_toleration: int = 3
    node_affinity: int = 2
    least_allocated: int = 1

    def check(self) -> None:
        """Refuses weights outside their range.

        Raises:
            ClusterError: `objective-range`, naming the field.
        """
        for field, value, most in (
            ("per_pod", self.per_pod, MAX_PER_POD),
            ("per_priority_rank", self.per_priority_rank, MAX_PER_POD),
            ("taint_toleration", self.taint_toleration, MAX_WEIGHT),
            ("node_affinity", self.node_affinity, MAX_WEIGHT),
            ("least_allocated", self.least_allocated, MAX_WEIGHT),
        ):
            if not 0 <= value <= most:
                raise ClusterError(f"{field} is 0..{most}, not {value}", reason="objective-range", field=field)

    def to_bcs(self) -> bytes:
        """The five weights as u32, in order."""
        return b"".join(
            bcs.u32(value)
            for value in (
                self.per_pod,
                self.per_priority_rank,
                self.taint_toleration,
                self.node_affinity,
                self.least_allocated,
            )
        )

    @classmethod
    def read(cls, reader: bcs.Reader) -> "Objective":
        """The weights back."""
        return cls(
            per_pod=reader.u32(),
            per_priority_rank=reader.u32(),
            taint_toleration=reader.u32(),
            node_affinity=reader.u32(),
            least_allocated=reader.u32(),
        )


def preference_taints(pod: Pod, taint_sets: list[tuple[Taint, ...]], taint_set: Ints) -> Ints:
    """Per node, how many PreferNoSchedule taints the pod doesn't tolerate.

    Args:
        pod: whose tolerations count.
        taint_sets: the distinct taints of nodes.
        taint_set: per node, an index into them.
    """
    tolerations = pod.spec.tolerations or ()
    counts = [count_intolerable_preferences(tolerations, taints) for taints in taint_sets]
    return np.array(counts or [0], np.int64)[taint_set]


def preferred_affinity(pod: Pod, nodes: tuple[Node, ...]) -> Ints:
    """Per node, the sum of the weights of the preferred terms that hold; weights of 0 and empty terms add nothing."""
    affinity = (pod.spec.affinity or Affinity()).node_affinity
    terms = (affinity.preferred if affinity else None) or ()
    total = np.zeros(len(nodes), np.int64)
    for term in terms:
        if term.weight:
            holds = [term_holds(term.preference, n.metadata.name, n.metadata.labels or {}) for n in nodes]
            total += term.weight * np.array(holds, np.int64)
    return total


def least_allocated(free: Ints, capacity: Ints, amount: tuple[int, int]) -> Ints:
    """Per node 0..100: the mean share of CPU and memory that stays free with one such pod, of those the node has.

    Args:
        free: CPU and memory as two rows, one column a node.
        capacity: likewise.
        amount: CPU and memory that the pod asks for.
    """
    shares = np.zeros(free.shape[1], np.int64)
    known = np.zeros(free.shape[1], np.int64)
    for row, taken in enumerate(amount):
        left = np.maximum(free[row] - taken, 0)
        shares += left * MAX_SCORE // np.maximum(capacity[row], 1)
        known += capacity[row] > 0
    return shares // np.maximum(known, 1)


def normalised(raw: Ints, accepted: npt.NDArray[np.bool_], *, reverse: bool) -> Ints:
    """Raw scores as 0..100 of the largest among the accepted nodes; reversed, the largest is worth nothing."""
    largest = int(raw[accepted].max(initial=0))
    if not largest:
        return np.full(len(raw), MAX_SCORE if reverse else 0, np.int64)
    share: Ints = np.minimum(raw, largest) * MAX_SCORE // largest
    return MAX_SCORE - share if reverse else share
