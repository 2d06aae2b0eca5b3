"""Which nodes a pod may use, apart from room: taints, selectors and affinity, one node at a time, in kube-scheduler's
meaning; and what in a pod this engine does not decide yet.

Sources: k8s.io/component-helpers/scheduling/corev1 (`ToleratesTaint`, node affinity), apimachinery's label selectors.
"""

import re

from daas.placement.model import (
    Affinity,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodAffinity,
    PodAffinityTerm,
    Taint,
    Toleration,
    TopologySpreadConstraint,
)
from daas.placement.reasons import NONE, Reason
from daas.placement.selectors import has_unknown_operator

NO_SCHEDULE = "NoSchedule"
NO_EXECUTE = "NoExecute"
PREFER_NO_SCHEDULE = "PreferNoSchedule"
#: What a cordoned node is refused by, unless the pod tolerates it.
UNSCHEDULABLE_TAINT = Taint(key="node.kubernetes.io/unschedulable", effect=NO_SCHEDULE)
#: The only field of a node that terms can match.
NAME_FIELD = "metadata.name"
OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"})
FIELD_OPERATORS = frozenset({"In", "NotIn"})
TOLERATION_OPERATORS = frozenset({"", "Equal", "Exists"})
SPREAD_ACTIONS = frozenset({"DoNotSchedule", "ScheduleAnyway"})
INCLUSION_POLICIES = frozenset({"Honor", "Ignore"})

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)


def parse_label_integer(text: str) -> int | None:
    """A label value as Gt and Lt read it: a decimal int64, or None."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration covers one taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator in ("", "Equal"):
        return toleration.value == taint.value
    return toleration.operator == "Exists"


def taint_refusal(tolerations: tuple[Toleration, ...], taints: tuple[Taint, ...], *, unschedulable: bool) -> Reason:
    """Why a node's cordon or taints keep the pod away; NONE where they don't."""
    if unschedulable and not any(tolerates(t, UNSCHEDULABLE_TAINT) for t in tolerations):
        return Reason.NODE_UNSCHEDULABLE
    for taint in taints:
        if taint.effect in (NO_SCHEDULE, NO_EXECUTE) and not any(tolerates(t, taint) for t in tolerations):
            return Reason.UNTOLERATED_TAINT
    return NONE


def count_intolerable_preferences(tolerations: tuple[Toleration, ...], taints: tuple[Taint, ...]) -> int:
    """How many PreferNoSchedule taints of a node the pod doesn't tolerate."""
    relevant = [t for t in tolerations if t.effect in ("", PREFER_NO_SCHEDULE)]
    return sum(
        1 for taint in taints if taint.effect == PREFER_NO_SCHEDULE and not any(tolerates(t, taint) for t in relevant)
    )


def requirement_holds(requirement: NodeSelectorRequirement, value: str | None) -> bool:
    """Whether an expression holds for a node whose label (or field) has this value, None where it has no such label."""
    values = requirement.values or ()
    match requirement.operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return bool(values) and (value is None or value not in values)
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            bound = parse_label_integer(values[0]) if len(values) == 1 else None
            number = parse_label_integer(value) if value is not None else None
            if bound is None or number is None:
                return False
            return number > bound if requirement.operator == "Gt" else number < bound
        case _:
            return False


def term_holds(term: NodeSelectorTerm, name: str, labels: dict[str, str]) -> bool:
    """Whether all of a term holds for a node; a term without expressions holds for none."""
    expressions, fields = term.match_expressions or (), term.match_fields or ()
    return (
        bool(expressions or fields)
        and all(requirement_holds(r, labels.get(r.key)) for r in expressions)
        and all(r.key == NAME_FIELD and requirement_holds(r, name) for r in fields)
    )


def _unknown_node_affinity(affinity: Affinity) -> bool:
    node = affinity.node_affinity
    if node is None:
        return False
    terms = list(node.required.node_selector_terms) if node.required else []
    terms += [preferred.preference for preferred in node.preferred or ()]
    return any(
        any(r.operator not in OPERATORS for r in term.match_expressions or ())
        or any(r.operator not in FIELD_OPERATORS or r.key != NAME_FIELD for r in term.match_fields or ())
        for term in terms
    )


def _pod_terms(affinity: PodAffinity | None) -> list[PodAffinityTerm]:
    if affinity is None:
        return []
    return [*(affinity.required or ()), *(weighted.pod_affinity_term for weighted in affinity.preferred or ())]


def _unknown_pod_terms(affinity: Affinity) -> Reason:
    """Terms without a topology key, or with operators that are not known: the API server lets neither pass."""
    found = NONE
    for terms, bit in (
        (_pod_terms(affinity.pod_affinity), Reason.POD_AFFINITY_UNSUPPORTED),
        (_pod_terms(affinity.pod_anti_affinity), Reason.POD_ANTI_AFFINITY_UNSUPPORTED),
    ):
        for term in terms:
            if not term.topology_key:
                found |= bit
            for selector in (term.label_selector, term.namespace_selector):
                if selector is not None and has_unknown_operator(selector.match_expressions):
                    found |= Reason.SELECTOR_OPERATOR_UNSUPPORTED
    return found


def _unknown_spread(constraints: tuple[TopologySpreadConstraint, ...]) -> Reason:
    found = NONE
    for constraint in constraints:
        policies = {constraint.node_affinity_policy, constraint.node_taints_policy}
        known = constraint.when_unsatisfiable in SPREAD_ACTIONS and policies <= INCLUSION_POLICIES
        if not known or not constraint.topology_key or constraint.max_skew < 1:
            found |= Reason.TOPOLOGY_SPREAD_UNSUPPORTED
        if constraint.label_selector and has_unknown_operator(constraint.label_selector.match_expressions):
            found |= Reason.SELECTOR_OPERATOR_UNSUPPORTED
    return found


def _needs_declared_feature(pod: Pod) -> bool:
    """Whether only nodes that declare a feature (status.declaredFeatures) can run the pod as it asks.

    As kube-scheduler's NodeDeclaredFeatures infers it: restarting all containers, and user namespaces on the host's
    network. Other features that it knows bear on resizes of running pods only.
    """
    spec = pod.spec
    rules = (
        rule.action
        for container in (*spec.containers, *(spec.init_containers or ()))
        for rule in container.restart_policy_rules or ()
    )
    return "RestartAllContainers" in rules or (spec.host_network and spec.host_users is False)


def unsupported(pod: Pod) -> Reason:
    """What the pod asks for that would be ignored if it were placed: bits of UNSUPPORTED, none where it is clear."""
    spec = pod.spec
    affinity = spec.affinity or Affinity()
    found = _unknown_pod_terms(affinity) | _unknown_spread(spec.topology_spread_constraints or ())
    if _unknown_node_affinity(affinity):
        found |= Reason.AFFINITY_OPERATOR_UNSUPPORTED
    if any(t.operator not in TOLERATION_OPERATORS for t in spec.tolerations or ()):
        found |= Reason.TOLERATION_OPERATOR_UNSUPPORTED
    for volume in spec.volumes or ():
        if volume.in_tree or volume.iscsi or volume.rbd:
            found |= Reason.DISK_VOLUME_UNSUPPORTED
    if _needs_declared_feature(pod):
        found |= Reason.NODE_FEATURE_UNSUPPORTED
    if spec.resource_claims:
        found |= Reason.RESOURCE_CLAIM_UNSUPPORTED
    if spec.workload_ref or (spec.scheduling_group is not None and not spec.scheduling_group.pod_group_name):
        found |= Reason.POD_GROUP_UNSUPPORTED
    return found
