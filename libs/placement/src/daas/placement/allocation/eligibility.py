"""Which nodes a pod may use apart from room, and whether that depends on where other pods of the same plan go.

Certificates cover what can be said of one pod and one node given the pods that run already: cordons and taints,
selectors and required node affinity, and the distance that running pods ask for. A pod with a constraint beyond that
(`coupling`) is never placed or moved by a plan; in the bound it counts as if it had no such constraint, which can only
raise the bound.
"""

from collections.abc import Iterable, Mapping

import msgspec

from daas.placement.allocation.cluster import Running
from daas.placement.filters import (
    FIELD_OPERATORS,
    NAME_FIELD,
    OPERATORS,
    TOLERATION_OPERATORS,
    taint_refusal,
    term_holds,
)
from daas.placement.model import (
    Affinity,
    Node,
    NodeSelector,
    NodeSelectorTerm,
    Pod,
    Toleration,
)
from daas.placement.selectors import Term, terms_of

#: (topology key, value): nodes with this label are out.
Domain = tuple[str, str]


class Needs(msgspec.Struct, frozen=True):
    """What a pod asks of a node apart from room: equal values are met by the same nodes.

    Attributes:
        repelled: domains that running pods keep it away from, sorted.
    """

    tolerations: tuple[Toleration, ...]
    node_selector: dict[str, str]
    required: NodeSelector | None
    repelled: tuple[Domain, ...]


def needs_of(pod: Pod, repelled: tuple[Domain, ...] = ()) -> Needs:
    """What this pod asks for."""
    affinity = (pod.spec.affinity or Affinity()).node_affinity
    return Needs(
        tolerations=pod.spec.tolerations or (),
        node_selector=pod.spec.node_selector or {},
        required=affinity.required if affinity else None,
        repelled=repelled,
    )


def accepts(node: Node, needs: Needs) -> bool:
    """Whether a node may be used, apart from room."""
    labels = node.metadata.labels or {}
    if taint_refusal(needs.tolerations, node.spec.taints or (), unschedulable=node.spec.unschedulable):
        return False
    if any(labels.get(key) != value for key, value in needs.node_selector.items()):
        return False
    if any(labels.get(key) == value for key, value in needs.repelled):
        return False
    terms = needs.required.node_selector_terms if needs.required is not None else None
    return terms is None or any(term_holds(term, node.metadata.name, labels) for term in terms)


def coupling(pod: Pod) -> str | None:
    """Why this pod's place depends on more than one node and the pods that run already; None where it doesn't."""
    spec = pod.spec
    affinity = spec.affinity or Affinity()
    if affinity.pod_affinity and affinity.pod_affinity.required:
        return "required pod affinity"
    if affinity.pod_anti_affinity and affinity.pod_anti_affinity.required:
        return "required pod anti-affinity"
    if any(c.when_unsatisfiable != "ScheduleAnyway" for c in spec.topology_spread_constraints or ()):
        return "hard topology spread"
    for container in (*spec.containers, *(spec.init_containers or ())):
        if any(p.host_port or (spec.host_network and p.container_port) for p in container.ports or ()):
            return "host ports"
    for volume in spec.volumes or ():
        sources = (volume.persistent_volume_claim, volume.ephemeral, volume.iscsi, volume.rbd)
        if volume.in_tree or any(source is not None for source in sources):
            return "volumes"
    if spec.resource_claims:
        return "resource claims"
    if spec.scheduling_group or spec.workload_ref:
        return "pod group"
    return "unknown operator" if _unknown_operator(pod, affinity) else None


def _unknown_operator(pod: Pod, affinity: Affinity) -> bool:
    if any(t.operator not in TOLERATION_OPERATORS for t in pod.spec.tolerations or ()):
        return True
    node = affinity.node_affinity
    terms: list[NodeSelectorTerm] = []
    if node is not None:
        terms += node.required.node_selector_terms if node.required else ()
        terms += [preferred.preference for preferred in node.preferred or ()]
    return any(
        any(r.operator not in OPERATORS for r in term.match_expressions or ())
        or any(r.operator not in FIELD_OPERATORS or r.key != NAME_FIELD for r in term.match_fields or ())
        for term in terms
    )


class Repulsion:
    """Where running pods keep others away by their own required anti-affinity.

    Namespace labels are not part of a cluster: a term that selects namespaces by label counts for all of them.

    Args:
        running: pods on nodes.
        nodes: by name.
    """

    def __init__(self, running: Iterable[Running], nodes: Mapping[str, Node]) -> None:
        self._terms: dict[Term, dict[Domain, None]] = {}
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Domain, ...]] = {}
        for placed in running:
            affinity = (placed.pod.spec.affinity or Affinity()).pod_anti_affinity
            node = nodes.get(placed.node)
            if affinity is None or node is None:
                continue
            for term in terms_of(affinity.required, placed.pod):
                value = (node.metadata.labels or {}).get(term.topology_key)
                if value is not None:
                    self._terms.setdefault(term, {})[term.topology_key, value] = None

    def domains(self, pod: Pod) -> tuple[Domain, ...]:
        """Where this pod may not go, sorted."""
        if not self._terms:
            return ()
        labels, namespace = pod.metadata.labels or {}, pod.metadata.namespace
        key = (namespace, tuple(sorted(labels.items())))
        found = self._known.get(key)
        if found is None:
            out: set[Domain] = set()
            for term, domains in self._terms.items():
                if term.concerns(namespace, labels, None, unknown=True):
                    out.update(domains)
            found = self._known[key] = tuple(sorted(out))
        return found
