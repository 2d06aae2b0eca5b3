"""What a pod is to other pods: its labels, its terms towards them, its host ports. Pods of one template share it."""

from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from daas.placement.model import Affinity, Container, Pod, PodAffinity, TopologySpreadConstraint
from daas.placement.selectors import Term, term_of, terms_of

#: An unset hostIP means every address of the node.
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a value that is compared, nothing listens


class HostPort(NamedTuple):
    """A port that a pod takes of its node."""

    port: int
    protocol: str
    address: str

    def conflicts(self, other: "HostPort") -> bool:
        """Whether both cannot be on one node."""
        return (self.port, self.protocol) == (other.port, other.protocol) and (
            ANY_ADDRESS in (self.address, other.address) or self.address == other.address
        )


class Profile:
    """One kind of pod, as its neighbours see it.

    Attributes:
        key: equal for equal profiles.
        deleting: whether it is on its way out; topology spread doesn't count it.
        repels, attracts: terms of required anti-affinity and affinity.
        prefers: (weight, term), negative for anti-affinity.
        owner: (kind, name) of the controller, or None.
        on: node name to how many pods of this profile are there.
        coupling, coupled_at: what was last worked out from it, and when; see `coupling`.
    """

    __slots__ = (
        "__weakref__",
        "attracts",
        "coupled_at",
        "coupling",
        "deleting",
        "key",
        "labels",
        "namespace",
        "on",
        "owner",
        "ports",
        "prefers",
        "repels",
        "spread",
    )

    def __init__(self, key: bytes, pod: Pod) -> None:
        affinity = pod.spec.affinity or Affinity()
        together = affinity.pod_affinity or PodAffinity()
        apart = affinity.pod_anti_affinity or PodAffinity()
        self.key = key
        self.namespace = pod.metadata.namespace
        self.labels = pod.metadata.labels or {}
        self.deleting = bool(pod.metadata.deletion_timestamp)
        self.repels = terms_of(apart.required, pod)
        self.attracts = terms_of(together.required, pod)
        self.prefers: tuple[tuple[int, Term], ...] = tuple(
            (sign * weighted.weight, term_of(weighted.pod_affinity_term, self.namespace, self.labels))
            for sign, group in ((1, together), (-1, apart))
            for weighted in group.preferred or ()
        )
        self.spread: tuple[TopologySpreadConstraint, ...] = pod.spec.topology_spread_constraints or ()
        self.ports = host_ports(pod)
        self.owner = owner_of(pod)
        self.on: dict[str, int] = {}
        self.coupling: Any = None
        self.coupled_at = -1


def owner_of(pod: Pod) -> tuple[str, str] | None:
    """(kind, name) of the controller that made the pod."""
    for reference in pod.metadata.owner_references or ():
        if reference.controller:
            return reference.kind, reference.name
    return None


def is_sidecar(container: Container) -> bool:
    """Whether an init container goes on running beside the others."""
    return container.restart_policy == "Always"


def host_ports(pod: Pod) -> tuple[HostPort, ...]:
    """The ports of the node that the pod takes, sorted; with hostNetwork every container port is one."""
    found = set()
    running = (*pod.spec.containers, *(c for c in pod.spec.init_containers or () if is_sidecar(c)))
    for container in running:
        for port in container.ports or ():
            number = port.host_port or (port.container_port if pod.spec.host_network else 0)
            if number:
                found.add(HostPort(number, port.protocol or "TCP", port.host_ip or ANY_ADDRESS))
    return tuple(sorted(found))


class Profiles:
    """One object per profile that any pod still has."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[bytes, Profile] = WeakValueDictionary()

    def of(self, pod: Pod) -> Profile:
        """The profile of a pod."""
        affinity, meta, spec = pod.spec.affinity, pod.metadata, pod.spec
        key = msgspec.json.encode(
            (
                meta.namespace,
                meta.labels or None,
                bool(meta.deletion_timestamp),
                affinity and affinity.pod_affinity,
                affinity and affinity.pod_anti_affinity,
                spec.topology_spread_constraints or None,
                host_ports(pod) or None,
                owner_of(pod),
            ),
            order="deterministic",
        )
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Profile(key, pod)
        return found
