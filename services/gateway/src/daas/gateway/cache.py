"""The gateway's own view of the cluster: nodes, pods, what is taken on each node, and binds that are under way.

Binding checks against this view, not against the decision's: between a decision and its anchoring another scheduler
may have taken the room. A reservation counts as taken from the moment a bind is sent until the watch shows the pod on
its node (or gone), so binds in flight cannot overbook a node together.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from daas.gateway.capacity import Amounts, allocatable_of, lacking, node_refuses, request_of, same_request
from daas.placement.model import Node, Pod

TERMINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})


@dataclass(slots=True)
class _Taken:
    """What the pods on one node take, and whose they are."""

    amounts: Amounts = field(default_factory=dict)
    pods: dict[str, Amounts] = field(default_factory=dict)

    def add(self, uid: str, amounts: Amounts) -> None:
        if uid in self.pods:
            self.remove(uid)
        self.pods[uid] = amounts
        for resource, amount in amounts.items():
            self.amounts[resource] = self.amounts.get(resource, 0) + amount

    def remove(self, uid: str) -> None:
        for resource, amount in self.pods.pop(uid, {}).items():
            left = self.amounts[resource] - amount
            if left:
                self.amounts[resource] = left
            else:
                del self.amounts[resource]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod may not be bound: a machine-readable reason and one sentence."""

    reason: str
    message: str


class ClusterCache:
    """Nodes by name and pods by uid, as the watches last showed them.

    Args:
        scheduler_name: spec.schedulerName of the pods that are ours.
    """

    def __init__(self, scheduler_name: str) -> None:
        self._scheduler_name = scheduler_name
        self.nodes: dict[str, Node] = {}
        self.pods: dict[str, Pod] = {}
        self.first_seen_ms: dict[str, int] = {}
        self._taken: dict[str, _Taken] = {}
        self._offers: dict[str, tuple[Node, Amounts]] = {}
        self._reserved: dict[str, str] = {}
        self._pending: set[str] = set()

    # What the watches say ----------------------------------------------------------------------------------------

    def put_node(self, node: Node) -> None:
        """A node as it is now."""
        self.nodes[node.metadata.name] = node

    def drop_node(self, name: str, uid: str) -> bool:
        """A node is gone; False where it was unknown or is another one of that name by now."""
        known = self.nodes.get(name)
        if known is None or known.metadata.uid != uid:
            return False
        del self.nodes[name]
        self._offers.pop(name, None)
        return True

    def put_pod(self, pod: Pod, now_ms: int) -> None:
        """A pod as it is now."""
        uid = pod.metadata.uid
        known = self.pods.get(uid)
        if known is not None and known.spec.node_name and known.spec.node_name != pod.spec.node_name:
            self._release(known.spec.node_name, uid)
        self.pods[uid] = pod
        if pod.spec.node_name:
            reserved = self._reserved.pop(uid, pod.spec.node_name)
            if reserved != pod.spec.node_name:
                self._release(reserved, uid)
            if takes_capacity(pod):
                if known is None or not self._holds(pod.spec.node_name, uid) or not same_request(known, pod):
                    self._take(pod.spec.node_name, uid, request_of(pod))
            else:
                self._release(pod.spec.node_name, uid)
        if self.is_pending(pod):
            self._pending.add(uid)
            self.first_seen_ms.setdefault(uid, now_ms)
        else:
            self._pending.discard(uid)

    def taken_on(self, node: str) -> tuple[Amounts, int]:
        """What pods and reservations take on a node, and how many they are."""
        taken = self._taken.get(node)
        return (dict(taken.amounts), len(taken.pods)) if taken is not None else ({}, 0)

    def drop_pod(self, uid: str) -> bool:
        """A pod is gone; False where it was unknown."""
        pod = self.pods.pop(uid, None)
        if pod is None:
            return False
        node = pod.spec.node_name or self._reserved.get(uid, "")
        if node:
            self._release(node, uid)
        self._reserved.pop(uid, None)
        self._pending.discard(uid)
        self.first_seen_ms.pop(uid, None)
        return True

    # What is ours --------------------------------------------------------------------------------------------------

    def is_ours(self, pod: Pod) -> bool:
        """Whether we are asked to place it."""
        return pod.spec.scheduler_name == self._scheduler_name

    def is_pending(self, pod: Pod) -> bool:
        """Whether it is ours and waits for a node."""
        return (
            self.is_ours(pod)
            and not pod.spec.node_name
            and pod.metadata.deletion_timestamp is None
            and pod.status.phase not in TERMINAL_PHASES
        )

    def is_logged(self, pod: Pod) -> bool:
        """Whether the log is to know it: ours, or bound by anyone, since then it takes capacity."""
        return self.is_ours(pod) or bool(pod.spec.node_name)

    def logged_pods(self) -> Iterator[Pod]:
        """The pods that a full list in the log names: pods that have ended take no room and wait for nothing."""
        return (pod for pod in self.pods.values() if self.is_logged(pod) and pod.status.phase not in TERMINAL_PHASES)

    @property
    def pending(self) -> int:
        """How many pods of ours wait for a node."""
        return len(self._pending)

    def created_ms(self, pod: Pod) -> int:
        """When a pod was created, as exactly as can be told: the API has whole seconds, our first sight is later."""
        start_ms = _instant_ms(pod.metadata.creation_timestamp)
        if start_ms == 0:
            return 0
        return max(start_ms, min(self.first_seen_ms.get(pod.metadata.uid, start_ms), start_ms + 999))

    # Room ----------------------------------------------------------------------------------------------------------

    def reserved(self, uid: str) -> str | None:
        """The node that a bind under way names for this pod."""
        return self._reserved.get(uid)

    @property
    def reservations(self) -> int:
        """Binds sent of which the watch has not told yet."""
        return len(self._reserved)

    def taken(self, node: str) -> Amounts:
        """What is taken on a node, reservations included."""
        taken = self._taken.get(node)
        return dict(taken.amounts) if taken is not None else {}

    def reserve(self, pod: Pod, node_name: str) -> Refusal | None:
        """Takes room for a pod on a node before its bind is sent; a reason where it must not go there (any more).

        A second reservation of the same pod for the same node is the same reservation.
        """
        uid = pod.metadata.uid
        under_way = self._reserved.get(uid)
        if under_way is not None:
            if under_way == node_name:
                return None
            return Refusal("conflict", f"a bind of the pod to node {under_way} is under way")
        node = self.nodes.get(node_name)
        if node is None:
            return Refusal("node-gone", f"node {node_name} does not exist")
        refused = node_refuses(node, pod)
        if refused is not None:
            return Refusal("node-unschedulable", f"node {node_name} {refused}")
        request = request_of(pod)
        short = lacking(self._offer(node), self._taken.get(node_name, _Taken()).amounts, request)
        if short:
            return Refusal("capacity", f"node {node_name} has too little {', '.join(short)} left")
        self._reserved[uid] = node_name
        self._take(node_name, uid, request)
        return None

    def release(self, uid: str) -> None:
        """Gives up a reservation whose bind did not happen."""
        node = self._reserved.pop(uid, None)
        pod = self.pods.get(uid)
        if node is not None and (pod is None or pod.spec.node_name != node):
            self._release(node, uid)

    def _offer(self, node: Node) -> Amounts:
        """What a node offers, read once for each version of it."""
        known = self._offers.get(node.metadata.name)
        if known is None or known[0] is not node:
            known = self._offers[node.metadata.name] = (node, allocatable_of(node))
        return known[1]

    def _holds(self, node: str, uid: str) -> bool:
        taken = self._taken.get(node)
        return taken is not None and uid in taken.pods

    def _take(self, node: str, uid: str, amounts: Amounts) -> None:
        self._taken.setdefault(node, _Taken()).add(uid, amounts)

    def _release(self, node: str, uid: str) -> None:
        taken = self._taken.get(node)
        if taken is not None:
            taken.remove(uid)
            if not taken.pods:
                del self._taken[node]

    # Full lists ----------------------------------------------------------------------------------------------------

    def retain_nodes(self, listed: Iterable[str]) -> list[Node]:
        """After a full list: drops nodes whose uid it did not name, and returns them."""
        keep = set(listed)
        gone = [node for node in self.nodes.values() if node.metadata.uid not in keep]
        for node in gone:
            del self.nodes[node.metadata.name]
            self._offers.pop(node.metadata.name, None)
        return gone

    def retain_pods(self, listed: Iterable[str]) -> list[Pod]:
        """After a full list: drops pods whose uid it did not name, and returns them."""
        keep = set(listed)
        gone = [pod for uid, pod in self.pods.items() if uid not in keep]
        for pod in gone:
            self.drop_pod(pod.metadata.uid)
        return gone


@lru_cache(maxsize=4096)  # pods come many in a second
def _instant_ms(stamp: str | None) -> int:
    """An RFC 3339 time in Unix milliseconds; 0 where there is none, or none that can be read."""
    if stamp is None:
        return 0
    try:
        instant = datetime.fromisoformat(stamp)
    except ValueError:
        return 0
    return int(instant.replace(tzinfo=instant.tzinfo or UTC).timestamp() * 1000)


def takes_capacity(pod: Pod) -> bool:
    """Whether a pod takes room on its node: bound, and not ended; a pod that is being deleted takes it to the end."""
    return bool(pod.spec.node_name) and pod.status.phase not in TERMINAL_PHASES
