"""Pods that ask for the same thing form a class: nodes are filtered and scored once for all of them."""

from weakref import WeakValueDictionary

import msgspec

from daas.placement.filters import unsupported
from daas.placement.model import Affinity, NodeSelector, Pod, PreferredSchedulingTerm, Toleration
from daas.placement.resources import Demand


def normalized_image(name: str) -> str:
    """The name under which nodes list an image: with a tag, `latest` where none is given."""
    return name if name.rfind(":") > name.rfind("/") else name + ":latest"


def image_names(pod: Pod) -> tuple[str, ...]:
    """The image of every container and init container, sorted."""
    containers = (*(pod.spec.init_containers or ()), *pod.spec.containers)
    return tuple(sorted(normalized_image(container.image) for container in containers))


class ClassParts(msgspec.Struct, frozen=True):
    """All that the placement of one pod depends on."""

    demand: Demand
    tolerations: tuple[Toleration, ...]
    node_selector: dict[str, str]
    required: NodeSelector | None
    preferred: tuple[PreferredSchedulingTerm, ...]
    images: tuple[str, ...]
    unsupported: int


class PodClass:
    """The part of a pod that decides where it may go and how well.

    Attributes:
        key: equal for equal classes.
        parts: what the pods ask for; its fields stand here too, for reading them fast.
        demand: what each pod takes.
        unsupported: bits for the leaves of its pods.
    """

    __slots__ = (
        "__weakref__",
        "demand",
        "images",
        "key",
        "node_selector",
        "parts",
        "preferred",
        "required",
        "tolerations",
        "unsupported",
    )

    def __init__(self, key: bytes, parts: ClassParts) -> None:
        self.key = key
        self.parts = parts
        self.demand = parts.demand
        self.tolerations = parts.tolerations
        self.node_selector = parts.node_selector
        self.preferred = parts.preferred
        self.images = parts.images
        self.required = parts.required
        self.unsupported = parts.unsupported


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
            images=image_names(pod),
            unsupported=int(unsupported(pod)),
        )
        key = msgspec.json.encode(parts, order="deterministic")
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = PodClass(key, parts)
        return found
