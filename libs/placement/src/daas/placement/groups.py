"""Sets of pods that a decision counts per node: those a selector names, those that carry a term, those on a port.

A group is its key: equal keys, equal members. `count` says how often a pod of a profile is in it.
"""

from collections.abc import Mapping
from typing import Protocol

from daas.placement.profile import HostPort, Profile
from daas.placement.selectors import Selector, Term, identity

#: A label, a carried term or a port: what members are looked up by.
Token = tuple[str, object]
#: Namespace name to its labels, of the namespaces that are known.
NamespaceLabels = Mapping[str, Mapping[str, str]]


class Group(Protocol):
    """What all groups can be asked."""

    key: bytes
    #: One of `tokens` that every member has; None where there is no such.
    token: Token | None

    def count(self, profile: Profile, namespaces: NamespaceLabels) -> int:
        """How often a pod of this profile counts."""
        ...


class Selected:
    """Pods that all of some terms are about."""

    def __init__(self, terms: tuple[Term, ...], *, unknown: bool) -> None:
        self.key = identity(("selected", terms, unknown))
        self.token: Token | None = next(filter(None, (term.selector.anchor() for term in terms)), None)
        self._terms = terms
        self._unknown = unknown

    def count(self, profile: Profile, namespaces: NamespaceLabels) -> int:
        """1 or 0."""
        labels = namespaces.get(profile.namespace)
        return int(
            all(term.concerns(profile.namespace, profile.labels, labels, unknown=self._unknown) for term in self._terms)
        )


class Spread:
    """Pods of a namespace that a topology spread constraint counts: not those on their way out."""

    def __init__(self, namespace: str, selector: Selector) -> None:
        self.key = identity(("spread", namespace, selector))
        self.token: Token | None = selector.anchor()
        self._namespace = namespace
        self._selector = selector

    def count(self, profile: Profile, namespaces: NamespaceLabels) -> int:  # noqa: ARG002 - as all groups are asked
        """1 or 0; kube-scheduler counts nobody for a selector that selects everything."""
        return int(
            profile.namespace == self._namespace
            and not profile.deleting
            and not self._selector.everything
            and self._selector.selects(profile.labels)
        )


class Repelling:
    """Pods that carry a term of required anti-affinity."""

    def __init__(self, term: Term) -> None:
        self.key = identity(("repelling", term))
        self.term = term
        self.token: Token | None = ("", self.key)

    def count(self, profile: Profile, namespaces: NamespaceLabels) -> int:  # noqa: ARG002 - as all groups are asked
        """How often the pod carries it."""
        return profile.repels.count(self.term)


class Attracting:
    """Pods that carry a term of required affinity."""

    def __init__(self, term: Term) -> None:
        self.key = identity(("attracting", term))
        self.term = term
        self.token: Token | None = ("", self.key)

    def count(self, profile: Profile, namespaces: NamespaceLabels) -> int:  # noqa: ARG002 - as all groups are asked
        """How often the pod carries it."""
        return profile.attracts.count(self.term)


class Preferring:
    """Pods that carry a preferred term of some weight."""

    def __init__(self, weight: int, term: Term) -> None:
        self.key = identity(("preferring", weight, term))
        self.term = term
        self.token: Token | None = ("", self.key)
        self.weight = weight

    def count(self, profile: Profile, namespaces: NamespaceLabels) -> int:  # noqa: ARG002 - as all groups are asked
        """How often the pod carries it."""
        return profile.prefers.count((self.weight, self.term))


class Holding:
    """Pods that hold a host port which another pod cannot have beside them."""

    def __init__(self, port: HostPort) -> None:
        self.key = identity(("holding", port))
        self.token: Token | None = ("", (port.port, port.protocol))
        self._port = port

    def count(self, profile: Profile, namespaces: NamespaceLabels) -> int:  # noqa: ARG002 - as all groups are asked
        """1 or 0."""
        return int(any(self._port.conflicts(port) for port in profile.ports))


Carried = Repelling | Attracting | Preferring


def carried(profile: Profile) -> list[Carried]:
    """The terms that a pod brings with it, each once."""
    return [
        *(Repelling(term) for term in dict.fromkeys(profile.repels)),
        *(Attracting(term) for term in dict.fromkeys(profile.attracts)),
        *(Preferring(weight, term) for weight, term in dict.fromkeys(profile.prefers)),
    ]


def tokens(profile: Profile) -> list[Token]:
    """What groups can know the pods of a profile by."""
    return [
        *profile.labels.items(),
        *(("", group.key) for group in carried(profile)),
        *(("", key) for key in dict.fromkeys((port.port, port.protocol) for port in profile.ports)),
    ]
