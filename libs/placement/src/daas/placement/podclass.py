"""Pods that ask for the same thing form a class: nodes are filtered and scored once for all of them."""

from weakref import WeakValueDictionary

import msgspec

from daas.placement.filters import remarks, unsupported
from daas.placement.model import Affinity, NodeSelector, Pod, PreferredSchedulingTerm, Toleration
from daas.placement.resources import Demand


class ClassParts(msgspec.Struct, frozen=True):
    """All that the placement of one pod depends on."""

    demand: Demand
    tolerations: tuple[Toleration, ...]
    node_selector: dict[str, str]
    required: NodeSelector | None
    preferred: tuple[PreferredSchedulingTerm, ...]
    unsupported: int
    remarks: int


class PodClass:
    """The part of a pod that decides where it may go and how well.

    Attributes:
        key: equal for equal classes.
        parts: what the pods ask for; its fields stand here too, for reading them fast.
        demand: what each pod takes.
        unsupported, remarks: bits for the leaves of its pods.
        repelled: (topology key, value) of nodes that running pods keep it away from.
    """

    __slots__ = (
        "__weakref__",
        "demand",
        "key",
        "node_selector",
        "parts",
        "preferred",
        "remarks",
        "repelled",
        "required",
        "tolerations",
        "unsupported",
    )

    def __init__(self, key: bytes, parts: ClassParts, repelled: tuple[tuple[str, str], ...] = ()) -> None:
        self.key = key
        self.parts = parts
        self.demand = parts.demand
        self.tolerations = parts.tolerations
        self.node_selector = parts.node_selector
        self.preferred = parts.preferred
        self.remarks = parts.remarks
        self.required = parts.required
        self.unsupported = parts.unsupported
        self.repelled = repelled


class PodClasses:
    """One object per class that any pod still belongs to."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[bytes, PodClass] = WeakValueDictionary()

    def of(self, pod: Pod, demand: Demand) -> PodClass:
        """The class of a pod with this demand."""
        spec = pod.spec
        affinity = (spec.affinity or Affinity()).node_affinity
        parts = ClassParts(
            demand=demand,
            tolerations=spec.tolerations or (),
            node_selector=spec.node_selector or {},
            required=affinity.required if affinity else None,
            preferred=(affinity.preferred if affinity else None) or (),
            unsupported=int(unsupported(pod)),
            remarks=int(remarks(pod)),
        )
        key = msgspec.json.encode(parts, order="deterministic")
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = PodClass(key, parts)
        return found

    def kept_away(self, base: PodClass, repelled: tuple[tuple[str, str], ...]) -> PodClass:
        """The class of pods like these that may not go to some topology domains."""
        if not repelled:
            return base
        key = base.key + msgspec.json.encode(repelled)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = PodClass(key, base.parts, repelled)
        return found
