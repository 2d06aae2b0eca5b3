"""Which nodes running pods keep others away from, by their own required anti-affinity.

A pod that itself asks for anti-affinity is not placed yet, but one that is already running, whoever put it there, is
owed its distance. Namespace labels are not known here: a term that selects namespaces by label counts for all of them,
which can keep a pod waiting but never puts it where it may not be.
"""

from collections.abc import Iterable, Mapping

import msgspec

from daas.placement.model import LabelSelector, LabelSelectorRequirement, Pod, PodAffinityTerm, encode
from daas.placement.records import NodeRecord, PodRecord

#: (topology key, value): nodes with this label are out.
Domain = tuple[str, str]


def repelling_terms(pod: Pod) -> tuple[tuple[bytes, PodAffinityTerm], ...]:
    """The pod's terms of required anti-affinity, each with its encoding to tell equal ones by.

    `matchLabelKeys` and `mismatchLabelKeys` become expressions over the pod's own labels, as the API server writes them
    into new pods; written twice they mean the same.
    """
    affinity = pod.spec.affinity.pod_anti_affinity if pod.spec.affinity else None
    terms = [_merged(term, pod.metadata.labels or {}) for term in (affinity.required if affinity else None) or ()]
    return tuple((encode(term), term) for term in terms)


def _merged(term: PodAffinityTerm, labels: Mapping[str, str]) -> PodAffinityTerm:
    if term.label_selector is None:
        return term
    expressions = [
        LabelSelectorRequirement(key=key, operator=operator, values=(labels[key],))
        for operator, keys in (("In", term.match_label_keys), ("NotIn", term.mismatch_label_keys))
        for key in keys or ()
        if key in labels
    ]
    selector = msgspec.structs.replace(
        term.label_selector, match_expressions=(*(term.label_selector.match_expressions or ()), *expressions)
    )
    return msgspec.structs.replace(term, label_selector=selector)


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector holds; an unknown operator counts as holding, since here that is the safe side."""
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    for requirement in selector.match_expressions or ():
        value, values = labels.get(requirement.key), requirement.values or ()
        match requirement.operator:
            case "In":
                holds = value is not None and value in values
            case "NotIn":
                holds = value is None or value not in values
            case "Exists":
                holds = value is not None
            case "DoesNotExist":
                holds = value is None
            case _:
                holds = True
        if not holds:
            return False
    return True


def concerns(term: PodAffinityTerm, own_namespace: str, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether a term of a pod in `own_namespace` is about a pod with this namespace and these labels."""
    if term.label_selector is None or not selects(term.label_selector, labels):
        return False
    if term.namespace_selector is not None:
        return True
    return namespace in (term.namespaces or (own_namespace,))


class Repulsion:
    """The terms of running pods, each with the topology domains it holds in.

    Args:
        pods: those on a node with required anti-affinity.
        nodes: by name.
    """

    def __init__(self, pods: Iterable[PodRecord], nodes: Mapping[str, NodeRecord]) -> None:
        self._domains: dict[tuple[str, bytes], tuple[PodAffinityTerm, set[Domain]]] = {}
        for pod in pods:
            node = nodes.get(pod.node)
            labels = (node.node.metadata.labels or {}) if node is not None else {}
            for encoded, term in pod.repels:
                value = labels.get(term.topology_key)
                if value is not None:
                    _, domains = self._domains.setdefault((pod.namespace, encoded), (term, set()))
                    domains.add((term.topology_key, value))
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[Domain, ...]] = {}

    def domains(self, namespace: str, labels: Mapping[str, str]) -> tuple[Domain, ...]:
        """Where a pod with this namespace and these labels may not go, sorted."""
        key = (namespace, tuple(sorted(labels.items())))
        found = self._known.get(key)
        if found is None:
            out: set[Domain] = set()
            for (own_namespace, _), (term, domains) in self._domains.items():
                if not domains <= out and concerns(term, own_namespace, namespace, labels):
                    out |= domains
            found = self._known[key] = tuple(sorted(out))
        return found
