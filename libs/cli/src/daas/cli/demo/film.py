"""What the demo knows of each pod, learned from the facts on the bus and from nothing else."""

import contextlib
from dataclasses import dataclass, field

from daas.common import subjects
from daas.common.bus import StoredMessage
from daas.common.errors import InvalidInput, Refused
from daas.common.facts import fact_of
from daas.common.messages import (
    PlacementAnchored,
    PlacementBindFailed,
    PlacementBound,
    PlacementDecided,
    PlacementRefused,
    PodBound,
)


@dataclass(slots=True)
class PodLife:
    """One pod: where it stands and when each stage was reached (ms since the epoch)."""

    name: str
    node: str | None = None
    reasons: int = 0
    sequence: int = 0
    bound: PodBound | None = None


@dataclass(slots=True)
class Film:
    """Everything that happened, in the order of the bus."""

    pods: dict[str, PodLife] = field(default_factory=dict)
    decisions: dict[int, str] = field(default_factory=dict)
    anchors: dict[int, PlacementAnchored] = field(default_factory=dict)
    refusals: int = 0
    bind_failures: int = 0
    simulated: bool = False

    def take(self, cluster: str, stored: StoredMessage) -> None:
        """Adds one fact; what is no good fact has no effect here either."""
        with contextlib.suppress(InvalidInput, Refused):
            self._take(cluster, stored)

    def _take(self, cluster: str, stored: StoredMessage) -> None:
        name = stored.subject.removeprefix(subjects.prefix(cluster) + ".")
        if name == subjects.PLACEMENT_DECIDED.name:
            self._decided(fact_of(stored, subjects.PLACEMENT_DECIDED, PlacementDecided))
        elif name == subjects.PLACEMENT_ANCHORED.name:
            anchored = fact_of(stored, subjects.PLACEMENT_ANCHORED, PlacementAnchored)
            self.anchors[anchored.sequence] = anchored
        elif name == subjects.PLACEMENT_BOUND.name:
            for pod in fact_of(stored, subjects.PLACEMENT_BOUND, PlacementBound).each():
                self._life(pod.pod_uid, f"{pod.namespace}/{pod.name}").bound = pod
        elif name == subjects.PLACEMENT_BIND_FAILED.name:
            fact_of(stored, subjects.PLACEMENT_BIND_FAILED, PlacementBindFailed)
            self.bind_failures += 1
        elif name == subjects.PLACEMENT_REFUSED.name:
            fact_of(stored, subjects.PLACEMENT_REFUSED, PlacementRefused)
            self.refusals += 1

    def _decided(self, decided: PlacementDecided) -> None:
        self.simulated = self.simulated or decided.simulated
        self.decisions[decided.header.sequence] = decided.payload_digest
        for leaf in decided.leaves:
            life = self._life(leaf.pod_uid, f"{leaf.namespace}/{leaf.name}")
            if decided.header.sequence >= life.sequence:
                life.node, life.reasons, life.sequence = leaf.node, leaf.reasons, decided.header.sequence

    def _life(self, uid: str, name: str) -> PodLife:
        return self.pods.setdefault(uid, PodLife(name))

    @property
    def bound(self) -> int:
        """Pods that are bound."""
        return sum(1 for life in self.pods.values() if life.bound is not None)

    @property
    def unschedulable(self) -> int:
        """Pods whose newest anchored decision names no node."""
        return sum(
            1
            for life in self.pods.values()
            if life.bound is None and life.node is None and life.sequence in self.anchors
        )

    def settled(self, total: int) -> bool:
        """Whether every pod is bound or known to fit nowhere."""
        return self.bound + self.unschedulable >= total

    def stages_ms(self) -> dict[str, list[int]]:
        """Latencies of the bound pods by stage, sorted."""
        stages: dict[str, list[int]] = {
            "created → decided": [],
            "decided → anchored": [],
            "anchored → bound": [],
            "created → bound": [],
        }
        for life in self.pods.values():
            if (bound := life.bound) is not None:
                stages["created → decided"].append(bound.decided_ms - bound.created_ms)
                stages["decided → anchored"].append(bound.anchored_ms - bound.decided_ms)
                stages["anchored → bound"].append(bound.bound_ms - bound.anchored_ms)
                stages["created → bound"].append(bound.bound_ms - bound.created_ms)
        return {name: sorted(values) for name, values in stages.items()}


def percentile(values: list[int], percent: int) -> int:
    """The nearest-rank percentile of a sorted list; 0 of an empty one."""
    return values[max(0, -(-len(values) * percent // 100) - 1)] if values else 0
