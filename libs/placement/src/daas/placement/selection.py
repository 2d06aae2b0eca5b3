"""Which nodes a class of pods may use, over all slots at once: `filters` on columns.

Labels are compared as small numbers, taints once per distinct set of them.
"""

import numpy as np
import numpy.typing as npt

from daas.placement.filters import NAME_FIELD, count_intolerable_preferences, parse_label_integer, taint_refusal
from daas.placement.model import NodeSelectorRequirement, NodeSelectorTerm
from daas.placement.podclass import PodClass
from daas.placement.reasons import NONE, Reason
from daas.placement.scores import image_locality_of, scaled_image_size
from daas.placement.table import Mask, NodeTable, Slots

#: Why a node is out before its room is looked at; views hold indices into this.
STATIC_REASONS = (
    NONE,
    Reason.NODE_UNSCHEDULABLE,
    Reason.UNTOLERATED_TAINT,
    Reason.NODE_AFFINITY_MISMATCH,
)
AFFINITY = 3


def taint_codes(table: NodeTable, pod_class: PodClass) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]:
    """Per set of taints: the refusal code, and how many preferences against the pod it holds."""
    codes, counts = [], []
    for unschedulable, taints in table.taint_sets or [(False, ())]:
        refusal = taint_refusal(pod_class.tolerations, taints, unschedulable=unschedulable)
        codes.append(STATIC_REASONS.index(refusal))
        counts.append(count_intolerable_preferences(pod_class.tolerations, taints))
    return np.array(codes, np.uint8), np.array(counts, np.int16)


def selected(table: NodeTable, pod_class: PodClass, slots: Slots) -> Mask:
    """Whether node selector and required affinity hold."""
    held = np.ones(len(slots), np.bool_)
    for key, value in pod_class.node_selector.items():
        held &= _requirement(table, NodeSelectorRequirement(key=key, operator="In", values=(value,)), slots)
    if pod_class.required is not None:
        any_term = np.zeros(len(slots), np.bool_)
        for term in pod_class.required.node_selector_terms:
            any_term |= term_mask(table, term, slots)
        held &= any_term
    return held


def term_mask(table: NodeTable, term: NodeSelectorTerm, slots: Slots) -> Mask:
    """Whether all of a term holds."""
    expressions, fields = term.match_expressions or (), term.match_fields or ()
    held = np.full(len(slots), bool(expressions or fields), np.bool_)
    for requirement in expressions:
        held &= _requirement(table, requirement, slots)
    for requirement in fields:
        held &= _name_requirement(table, requirement, slots)
    return held


def _name_requirement(table: NodeTable, requirement: NodeSelectorRequirement, slots: Slots) -> Mask:
    """An expression over metadata.name; other fields are refused before they come here."""
    slot_of = table.slot_of
    named = [slot_of[name] for name in requirement.values or () if name in slot_of]
    inside = np.isin(slots, named) if named else np.zeros(len(slots), np.bool_)
    if requirement.key != NAME_FIELD or not requirement.values:
        return np.zeros(len(slots), np.bool_)
    return ~inside if requirement.operator == "NotIn" else inside


def _requirement(table: NodeTable, requirement: NodeSelectorRequirement, slots: Slots) -> Mask:
    """`filters.requirement_holds` over slots."""
    column = table.label(requirement.key)
    ids, values = column.values[slots], requirement.values or ()
    match requirement.operator:
        case "In" | "NotIn":
            wanted = [column.ids[value] for value in values if value in column.ids]
            if len(wanted) == 1:
                inside: Mask = ids == wanted[0]
            else:
                inside = np.isin(ids, wanted) if wanted else np.zeros(len(slots), np.bool_)
            if requirement.operator == "In":
                return inside
            return ~inside if values else np.zeros(len(slots), np.bool_)
        case "Exists":
            present: Mask = ids != 0
            return present
        case "DoesNotExist":
            absent: Mask = ids == 0
            return absent
        case "Gt" | "Lt":
            bound = parse_label_integer(values[0]) if len(values) == 1 else None
            if bound is not None:
                is_number, numbers = column.numbers(slots)
                return is_number & ((numbers > bound) if requirement.operator == "Gt" else (numbers < bound))
        case _:
            pass
    return np.zeros(len(slots), np.bool_)


def preference(table: NodeTable, pod_class: PodClass, slots: Slots) -> npt.NDArray[np.int32]:
    """The sum of the weights of preferred terms that hold."""
    total = np.zeros(len(slots), np.int32)
    for preferred in pod_class.preferred:
        total[term_mask(table, preferred.preference, slots)] += preferred.weight
    return total


def tolerated(table: NodeTable, pod_class: PodClass) -> Mask:
    """Per slot, whether the pod tolerates all hard taints, cordons left aside: what topology spread may honor."""
    held = [
        taint_refusal(pod_class.tolerations, taints, unschedulable=False) is NONE
        for _, taints in table.taint_sets or [(False, ())]
    ]
    return np.array(held, np.bool_)[table.taint_set]


def image_scores(table: NodeTable, pod_class: PodClass) -> npt.NDArray[np.int64] | None:
    """Per slot, 0..100 for the images of the pod that are there already; None where none of them is anywhere."""
    total: npt.NDArray[np.int64] | None = None
    for name in pod_class.images:
        there, nodes, size = table.image(name).summary(table.ranks)
        if nodes:
            total = np.zeros(table.slots, np.int64) if total is None else total
            total[there] += scaled_image_size(size, nodes, table.count)
    return None if total is None else image_locality_of(total, len(pod_class.images))
