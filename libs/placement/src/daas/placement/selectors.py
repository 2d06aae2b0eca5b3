"""Label selectors and pod affinity terms in one canonical form, so that equal ones are one object of thought.

Sources: apimachinery `LabelSelectorAsSelector` (an absent selector selects nothing, an empty one everything) and
kube-scheduler's `AffinityTerm`. Operators that are not known count as holding where `selects` is told to be careful:
keeping a distance that nobody asked for is safe, ignoring one is not.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from daas.placement.model import LabelSelector, LabelSelectorRequirement, Pod, PodAffinityTerm

SELECTOR_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"


class Requirement(NamedTuple):
    """One expression; `values` sorted."""

    key: str
    operator: str
    values: tuple[str, ...]

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it holds for these labels; an unknown operator holds."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _:
                return True


class Selector(NamedTuple):
    """All requirements must hold. `nothing` is the absent selector; no requirements select everything."""

    requirements: tuple[Requirement, ...]
    nothing: bool = False

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        if self.nothing:
            return False
        for requirement in self.requirements:  # noqa: SIM110 - a plain loop: this is asked for every new kind of pod
            if not requirement.holds(labels):
                return False
        return True

    @property
    def everything(self) -> bool:
        """Whether it selects whatever it is shown."""
        return not self.nothing and not self.requirements

    def anchor(self) -> tuple[str, str] | None:
        """One (key, value) that everything selected must carry, where there is such: what indices are made by."""
        for requirement in self.requirements:
            if requirement.operator == "In" and len(requirement.values) == 1:
                return requirement.key, requirement.values[0]
        return None


NOTHING = Selector((), nothing=True)
EVERYTHING = Selector(())


def equalities(labels: Mapping[str, str]) -> tuple[Requirement, ...]:
    """Labels as requirements."""
    return tuple(Requirement(key, "In", (value,)) for key, value in labels.items())


def _canonical(requirements: Iterable[Requirement]) -> Selector:
    return Selector(tuple(sorted(set(requirements))))


def selector_of(selector: LabelSelector | None, extra: Iterable[Requirement] = ()) -> Selector:
    """The canonical form, with more requirements added to a selector that is there."""
    if selector is None:
        return NOTHING
    expressions = (
        Requirement(e.key, e.operator, tuple(sorted(e.values or ()))) for e in selector.match_expressions or ()
    )
    return _canonical((*equalities(selector.match_labels or {}), *expressions, *extra))


def label_set(labels: Mapping[str, str], extra: Iterable[Requirement] = ()) -> Selector:
    """The selector that asks for each of these labels, and for more."""
    return _canonical((*equalities(labels), *extra))


def keyed(keys: tuple[str, ...] | None, operator: str, labels: Mapping[str, str]) -> list[Requirement]:
    """MatchLabelKeys as requirements over the pod's own labels; keys that it lacks ask for nothing."""
    return [Requirement(key, operator, (labels[key],)) for key in keys or () if key in labels]


def has_unknown_operator(expressions: tuple[LabelSelectorRequirement, ...] | None) -> bool:
    """Whether an expression is one that no Kubernetes of today knows."""
    return any(e.operator not in SELECTOR_OPERATORS for e in expressions or ())


class Term(NamedTuple):
    """A term of pod affinity, with the namespaces it is about.

    Attributes:
        namespaces: by name, sorted.
        namespace_selector: by label; selects nothing where the term has none.
    """

    selector: Selector
    namespaces: tuple[str, ...]
    namespace_selector: Selector
    topology_key: str

    def concerns(
        self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str] | None, *, unknown: bool
    ) -> bool:
        """Whether it is about a pod there with these labels.

        Where nothing is known of the namespace (its labels are None), a selector over its labels is taken to hold as
        `unknown` says.
        """
        if namespace not in self.namespaces:
            if self.namespace_selector.nothing:
                return False
            if not self.namespace_selector.everything:
                if namespace_labels is None:
                    if not unknown:
                        return False
                elif not self.namespace_selector.selects(namespace_labels):
                    return False
        return self.selector.selects(labels)


def term_of(term: PodAffinityTerm, namespace: str, labels: Mapping[str, str]) -> Term:
    """The canonical form of a term of a pod in `namespace` with `labels`.

    `matchLabelKeys` and `mismatchLabelKeys` become requirements over the pod's own labels, as the API server writes
    them into new pods; written twice they mean the same.
    """
    extra = keyed(term.match_label_keys, "In", labels) + keyed(term.mismatch_label_keys, "NotIn", labels)
    own = not term.namespaces and term.namespace_selector is None
    return Term(
        selector=selector_of(term.label_selector, extra),
        namespaces=(namespace,) if own else tuple(sorted(set(term.namespaces or ()))),
        namespace_selector=selector_of(term.namespace_selector),
        topology_key=term.topology_key,
    )


def terms_of(terms: tuple[PodAffinityTerm, ...] | None, pod: Pod) -> tuple[Term, ...]:
    """The canonical forms of a pod's terms."""
    labels = pod.metadata.labels or {}
    return tuple(term_of(term, pod.metadata.namespace, labels) for term in terms or ())


def identity(value: object) -> bytes:
    """Equal values, equal bytes: keys of caches."""
    return msgspec.msgpack.encode(value)
