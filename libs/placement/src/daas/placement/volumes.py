"""What a pod's claims ask of a node, in kube-scheduler's meaning; one node at a time, nothing but plain values.

Sources: kube-scheduler's VolumeBinding, VolumeZone, VolumeRestrictions and NodeVolumeLimits, and component-helpers'
`FindMatchingVolume`. Where that leaves a choice to the order of a cache, the name decides here.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from daas.placement.errors import QuantityError
from daas.placement.filters import term_holds
from daas.placement.model import Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, Volume
from daas.placement.quantity import parse_nano
from daas.placement.reasons import NONE, Reason
from daas.placement.selectors import selector_of
from daas.placement.storage import (
    NO_PROVISIONER,
    READ_WRITE_ONCE_POD,
    WAIT_FOR_FIRST_CONSUMER,
    PersistentVolume,
    PersistentVolumeClaim,
    StorageClass,
)

#: Labels by which volumes and nodes say where they are, each with the name it has today.
ZONE_LABELS = {
    "topology.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region": "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
#: What separates several zones in one label of a volume.
_ZONES_SEPARATOR = "__"

ClaimKey = tuple[str, str]


class StorageLookup(Protocol):
    """What the rules look up."""

    def claim(self, key: ClaimKey) -> PersistentVolumeClaim | None:
        """A claim by namespace and name."""
        ...

    def volume(self, name: str) -> PersistentVolume | None:
        """A volume by name."""
        ...

    def storage_class(self, name: str) -> StorageClass | None:
        """A class by name."""
        ...

    def volumes_of_class(self, name: str) -> Iterable[PersistentVolume]:
        """The volumes of a class, by name."""
        ...

    def holder(self, key: ClaimKey) -> str:
        """The node of pods that use the claim already, the given pod left out; "" where there is none."""
        ...

    def promised(self, volume: str) -> bool:
        """Whether a volume was given to a claim that does not know it yet."""
        ...


class Search(NamedTuple):
    """A claim that waits for its first pod: what it may be bound to.

    Attributes:
        candidates: volumes made by hand that would do, smallest first.
        topologies: where the provisioner makes volumes, None where there is no provisioner; without terms: anywhere.
    """

    key: ClaimKey
    candidates: tuple[PersistentVolume, ...]
    topologies: tuple[NodeSelectorTerm, ...] | None


class Needs(NamedTuple):
    """What all claims of a pod ask of a node.

    Attributes:
        refusal: why no node will do, whatever it is; NONE where nodes decide.
        affinities: of bound volumes: each must hold.
        zones: (label, values) of bound volumes.
        only: the node on which a claim's volume is being made, or "".
        searches: claims without a volume, smallest first.
        attaches: (driver, volume) that the node has to hold.
    """

    refusal: Reason
    affinities: tuple[NodeSelector, ...] = ()
    zones: tuple[tuple[str, tuple[str, ...]], ...] = ()
    only: str = ""
    searches: tuple[Search, ...] = ()
    attaches: tuple[tuple[str, str], ...] = ()


#: A claim's name, and whether it has to be the pod's own.
ClaimUse = tuple[str, bool]


def claims_of(pod: Pod) -> tuple[ClaimUse, ...]:
    """The claims that a pod mounts, sorted; those of generic ephemeral volumes are named after pod and volume."""
    return claims_in(pod.spec.volumes or (), pod.metadata.name)


def claims_in(volumes: Iterable[Volume], pod_name: str) -> tuple[ClaimUse, ...]:
    """`claims_of` the pod of this name with these volumes."""
    found: dict[str, bool] = {}
    for volume in volumes:
        if volume.persistent_volume_claim is not None:
            found.setdefault(volume.persistent_volume_claim.claim_name, False)
        elif volume.ephemeral is not None:
            found[f"{pod_name}-{volume.name}"] = True
    return tuple(sorted(found.items()))


def storage_amount(text: str) -> int:
    """A quantity of storage in billionths; one that can't be read is larger than any."""
    try:
        return parse_nano(text)
    except QuantityError:
        return 1 << 127


def claim_amount(claim: PersistentVolumeClaim) -> int:
    """What a claim asks for, in billionths."""
    resources = claim.spec.resources
    return storage_amount(resources.requests.storage) if resources and resources.requests else 0


def volume_amount(volume: PersistentVolume) -> int:
    """What a volume holds, in billionths; unreadable is nothing."""
    amount = storage_amount(volume.spec.capacity.storage) if volume.spec.capacity else 0
    return 0 if amount == 1 << 127 else amount


def waits_for_consumer(claim: PersistentVolumeClaim, storage: StorageLookup) -> bool:
    """Whether a claim's volume is looked for when its first pod is placed."""
    found = storage.storage_class(claim.spec.storage_class_name or "")
    return found is not None and found.volume_binding_mode == WAIT_FOR_FIRST_CONSUMER


def needs_of(namespace: str, uid: str, uses: Iterable[ClaimUse], storage: StorageLookup) -> Needs:
    """What the claims of a pod ask for.

    Args:
        namespace: of the pod.
        uid: of the pod.
        uses: its claims.
        storage: what is known of claims and volumes.
    """
    affinities: list[NodeSelector] = []
    zones: list[tuple[str, tuple[str, ...]]] = []
    searches: list[tuple[int, Search]] = []
    attaches: list[tuple[str, str]] = []
    only = ""
    in_use = NONE
    for name, own in uses:
        key = (namespace, name)
        claim = storage.claim(key)
        if claim is None or claim.metadata.deletion_timestamp or claim.status.phase == "Lost":
            return Needs(Reason.CLAIM_NOT_FOUND)
        if own and not any(o.controller and o.uid == uid for o in claim.metadata.owner_references or ()):
            return Needs(Reason.CLAIM_NOT_FOUND)
        holder = storage.holder(key)
        if holder and READ_WRITE_ONCE_POD in (claim.spec.access_modes or ()):
            in_use = Reason.CLAIM_IN_USE
        if claim.bound:
            volume = storage.volume(claim.spec.volume_name)
            if volume is None:
                return Needs(Reason.CLAIM_NOT_FOUND)
            if volume.spec.in_tree:
                return Needs(Reason.DISK_VOLUME_UNSUPPORTED)
            if volume.spec.node_affinity is not None and volume.spec.node_affinity.required is not None:
                affinities.append(volume.spec.node_affinity.required)
            zones += zones_of(volume)
            if volume.spec.csi is not None:
                attaches.append((volume.spec.csi.driver, volume.spec.csi.volume_handle))
            continue
        if claim.spec.volume_name or not waits_for_consumer(claim, storage):
            return Needs(Reason.CLAIM_UNBOUND)
        found = storage.storage_class(claim.spec.storage_class_name or "")
        assert found is not None, "a claim that waits has a class"
        attaches.append((found.provisioner, "/".join(key)))
        place = claim.selected_node or holder
        if place and only and place != only:
            return Needs(Reason.VOLUME_MISMATCH)
        only = place or only
        if not place:
            searches.append((claim_amount(claim), search_of(key, claim, found, storage)))
    searches.sort(key=lambda pair: (pair[0], pair[1].key))
    return Needs(
        in_use, tuple(affinities), tuple(zones), only, tuple(search for _, search in searches), tuple(attaches)
    )


def zones_of(volume: PersistentVolume) -> list[tuple[str, tuple[str, ...]]]:
    """(label, allowed values) that a volume's labels ask of its node."""
    labels = volume.metadata.labels or {}
    return [(key, tuple(sorted(labels[key].split(_ZONES_SEPARATOR)))) for key in ZONE_LABELS if key in labels]


def search_of(key: ClaimKey, claim: PersistentVolumeClaim, found: StorageClass, storage: StorageLookup) -> Search:
    """What a claim that waits for its first pod may be bound to."""
    candidates = [
        volume
        for volume in storage.volumes_of_class(found.metadata.name)
        if suits(volume, claim) and (is_claimed_by(volume, claim) or not storage.promised(volume.metadata.name))
    ]
    candidates.sort(key=lambda v: (not is_claimed_by(v, claim), volume_amount(v), v.metadata.name))
    topologies: tuple[NodeSelectorTerm, ...] | None = None
    if found.provisioner != NO_PROVISIONER:
        topologies = tuple(
            NodeSelectorTerm(
                match_expressions=tuple(
                    NodeSelectorRequirement(key=e.key, operator="In", values=e.values)
                    for e in term.match_label_expressions or ()
                )
            )
            for term in found.allowed_topologies or ()
        )
    return Search(key, tuple(candidates), topologies)


def is_claimed_by(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """Whether a volume was set aside for this claim."""
    reference = volume.spec.claim_ref
    return (
        reference is not None
        and (reference.namespace, reference.name) == (claim.metadata.namespace, claim.metadata.name)
        and reference.uid in ("", claim.metadata.uid)
    )


def suits(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """Whether a volume made by hand is what a claim asks for, wherever it is."""
    if volume.metadata.deletion_timestamp or volume_amount(volume) < claim_amount(claim):
        return False
    if volume.spec.volume_mode != claim.spec.volume_mode:
        return False
    if is_claimed_by(volume, claim):
        return True
    return (
        volume.spec.claim_ref is None
        and volume.status.phase == "Available"
        and (claim.spec.selector is None or selector_of(claim.spec.selector).selects(volume.metadata.labels or {}))
        and set(claim.spec.access_modes or ()) <= set(volume.spec.access_modes or ())
    )


def reaches(selector: NodeSelector | None, node: Node) -> bool:
    """Whether a volume with this affinity can be reached from a node."""
    if selector is None:
        return True
    labels = node.metadata.labels or {}
    return any(term_holds(term, node.metadata.name, labels) for term in selector.node_selector_terms)


def affinity_of(volume: PersistentVolume) -> NodeSelector | None:
    """Where a volume can be reached; None where everywhere."""
    return volume.spec.node_affinity.required if volume.spec.node_affinity is not None else None


def in_zone(labels: Mapping[str, str], key: str, values: tuple[str, ...]) -> bool:
    """Whether a node is where a volume's label says; a node that says nothing of where it is, is."""
    if not any(label in labels for label in ZONE_LABELS):
        return True
    return labels.get(key, labels.get(ZONE_LABELS[key])) in values


def choose_volumes(needs: Needs, node: Node) -> tuple[tuple[ClaimKey, str], ...] | None:
    """Which volume each searching claim gets on a node, "" where it is made there; None where one gets none."""
    chosen: list[tuple[ClaimKey, str]] = []
    taken: set[str] = set()
    for search in needs.searches:
        name = _match(search, node, taken)
        if name is None:
            return None
        if name:
            taken.add(name)
        chosen.append((search.key, name))
    return tuple(chosen)


def _match(search: Search, node: Node, taken: set[str]) -> str | None:
    for volume in search.candidates:
        reachable = reaches(affinity_of(volume), node)
        if volume.spec.claim_ref is not None and not reachable:
            return None  # it was set aside for this claim, and is elsewhere
        if reachable and volume.metadata.name not in taken:
            return volume.metadata.name
    if search.topologies is None:
        return None
    labels = node.metadata.labels or {}
    allowed = not search.topologies or any(term_holds(term, node.metadata.name, labels) for term in search.topologies)
    return "" if allowed else None


def node_refusal(needs: Needs, node: Node) -> Reason:
    """Why a node can't hold the pod's volumes, attach limits aside; NONE where it can."""
    if needs.refusal:
        return needs.refusal
    labels = node.metadata.labels or {}
    if needs.only and needs.only != node.metadata.name:
        return Reason.VOLUME_MISMATCH
    if not all(reaches(affinity, node) for affinity in needs.affinities):
        return Reason.VOLUME_MISMATCH
    if not all(in_zone(labels, key, values) for key, values in needs.zones):
        return Reason.VOLUME_MISMATCH
    return NONE if choose_volumes(needs, node) is not None else Reason.VOLUME_MISMATCH
