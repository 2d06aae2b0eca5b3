"""Why a pod could not be placed: the bits of a leaf's `reasons`, and the sentence a person reads.

Bits 0-15 say what nodes refused, 16-47 what the pod asks for that this engine doesn't decide yet (it stays pending
rather than being placed wrongly), 48-63 are remarks on pods that were placed or not. Numbers never change meaning.
"""

from enum import IntFlag


class Reason(IntFlag):
    """One bit each."""

    NO_NODES = 1 << 0
    NODE_UNSCHEDULABLE = 1 << 1
    UNTOLERATED_TAINT = 1 << 2
    NODE_AFFINITY_MISMATCH = 1 << 3
    INSUFFICIENT_CPU = 1 << 4
    INSUFFICIENT_MEMORY = 1 << 5
    INSUFFICIENT_EPHEMERAL_STORAGE = 1 << 6
    INSUFFICIENT_EXTENDED_RESOURCE = 1 << 7
    TOO_MANY_PODS = 1 << 8
    EXISTING_ANTI_AFFINITY = 1 << 9
    POD_AFFINITY_MISMATCH = 1 << 10
    POD_ANTI_AFFINITY_MISMATCH = 1 << 11
    TOPOLOGY_SPREAD_MISMATCH = 1 << 12
    HOST_PORT_TAKEN = 1 << 13
    RESERVED_FOR_NOMINATED = 1 << 14
    VOLUME_MISMATCH = 1 << 15

    POD_AFFINITY_UNSUPPORTED = 1 << 16
    POD_ANTI_AFFINITY_UNSUPPORTED = 1 << 17
    TOPOLOGY_SPREAD_UNSUPPORTED = 1 << 18
    PERSISTENT_VOLUME_UNSUPPORTED = 1 << 19
    HOST_PORT_UNSUPPORTED = 1 << 20
    RESOURCE_CLAIM_UNSUPPORTED = 1 << 21
    POD_GROUP_UNSUPPORTED = 1 << 22
    TOLERATION_OPERATOR_UNSUPPORTED = 1 << 23
    AFFINITY_OPERATOR_UNSUPPORTED = 1 << 24
    DISK_VOLUME_UNSUPPORTED = 1 << 25
    SELECTOR_OPERATOR_UNSUPPORTED = 1 << 26
    NODE_FEATURE_UNSUPPORTED = 1 << 27

    PREFERENCE_NOT_SCORED = 1 << 48
    GANG_INCOMPLETE = 1 << 49
    GANG_DOES_NOT_FIT = 1 << 50
    CLAIM_NOT_FOUND = 1 << 51
    CLAIM_UNBOUND = 1 << 52
    CLAIM_IN_USE = 1 << 53
    VOLUME_LIMIT = 1 << 54
    PREEMPTION_PLANNED = 1 << 55
    PREEMPTION_PUT_OFF = 1 << 56


#: No reason at all.
NONE = Reason(0)
#: Any of these keeps a pod pending whatever the nodes look like.
UNSUPPORTED = Reason(((1 << 48) - 1) & ~((1 << 16) - 1))

_PHRASES = {
    Reason.NODE_UNSCHEDULABLE: "node unschedulable",
    Reason.UNTOLERATED_TAINT: "untolerated taint",
    Reason.NODE_AFFINITY_MISMATCH: "node selector or affinity mismatch",
    Reason.INSUFFICIENT_CPU: "insufficient cpu",
    Reason.INSUFFICIENT_MEMORY: "insufficient memory",
    Reason.INSUFFICIENT_EPHEMERAL_STORAGE: "insufficient ephemeral-storage",
    Reason.INSUFFICIENT_EXTENDED_RESOURCE: "insufficient extended resource",
    Reason.TOO_MANY_PODS: "too many pods",
    Reason.EXISTING_ANTI_AFFINITY: "existing pods' anti-affinity",
    Reason.POD_AFFINITY_MISMATCH: "pod affinity not met",
    Reason.POD_ANTI_AFFINITY_MISMATCH: "the pod's anti-affinity",
    Reason.TOPOLOGY_SPREAD_MISMATCH: "topology spread not met",
    Reason.HOST_PORT_TAKEN: "host port taken",
    Reason.RESERVED_FOR_NOMINATED: "room reserved for nominated pods",
    Reason.VOLUME_MISMATCH: "volume out of reach",
    Reason.GANG_DOES_NOT_FIT: "not enough of the pod's group fit",
    Reason.CLAIM_NOT_FOUND: "a claim of the pod does not exist, is lost or is being deleted",
    Reason.CLAIM_UNBOUND: "pod has unbound immediate PersistentVolumeClaims",
    Reason.CLAIM_IN_USE: "a ReadWriteOncePod claim is in use by another pod",
    Reason.VOLUME_LIMIT: "node(s) exceed max volume count",
    Reason.PREEMPTION_PLANNED: "pods of lower priority are being evicted for it",
    Reason.PREEMPTION_PUT_OFF: "preemption is tried again later",
    Reason.POD_AFFINITY_UNSUPPORTED: "pod affinity without a topology key",
    Reason.POD_ANTI_AFFINITY_UNSUPPORTED: "pod anti-affinity without a topology key",
    Reason.TOPOLOGY_SPREAD_UNSUPPORTED: "topology spread of an unknown kind or without a topology key",
    Reason.PERSISTENT_VOLUME_UNSUPPORTED: "persistent volume claims",
    Reason.HOST_PORT_UNSUPPORTED: "host ports",
    Reason.RESOURCE_CLAIM_UNSUPPORTED: "resource claims",
    Reason.POD_GROUP_UNSUPPORTED: "pod groups",
    Reason.TOLERATION_OPERATOR_UNSUPPORTED: "an unknown toleration operator",
    Reason.AFFINITY_OPERATOR_UNSUPPORTED: "an unknown node affinity operator or field",
    Reason.DISK_VOLUME_UNSUPPORTED: "in-tree disk volumes",
    Reason.SELECTOR_OPERATOR_UNSUPPORTED: "an unknown label selector operator",
    Reason.NODE_FEATURE_UNSUPPORTED: "a feature that nodes declare",
}


def names(reasons: int) -> tuple[str, ...]:
    """The names of the set bits, lowest first; unknown bits as `bit-N`."""
    known = {int(reason): reason.name for reason in Reason}
    return tuple(
        (known.get(1 << bit) or f"bit-{bit}").lower().replace("_", "-")
        for bit in range(reasons.bit_length())
        if reasons >> bit & 1
    )


def sentence(reasons: int, nodes: int) -> str:
    """One sentence in kube-scheduler's manner: "0/12 nodes are available: insufficient cpu, untolerated taint"."""
    if reasons & UNSUPPORTED:
        asked = [phrase for reason, phrase in _PHRASES.items() if reasons & reason & UNSUPPORTED]
        return f"the pod asks for what this scheduler does not decide yet: {', '.join(asked) or 'an unknown feature'}"
    if reasons & Reason.GANG_INCOMPLETE:
        return "the pod waits for the rest of its group"
    if reasons & Reason.NO_NODES:
        return "no nodes are known"
    refused = [phrase for reason, phrase in _PHRASES.items() if reasons & reason]
    return f"0/{nodes} nodes are available" + (f": {', '.join(refused)}" if refused else "")
