"""How the choice for one pod depends on where other pods are: affinity both ways, spread, host ports.

A `Coupling` is worked out once per profile, and again when terms or namespaces or services have changed. It names
groups of pods and topology keys; how many pods of a group are in which domain is the engine's to count.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from daas.placement.groups import Attracting, Carried, Group, Holding, Preferring, Repelling, Selected, Spread, carried
from daas.placement.model import LabelSelector, TopologySpreadConstraint
from daas.placement.profile import Profile
from daas.placement.reasons import Reason
from daas.placement.selectors import (
    HOSTNAME,
    ZONE,
    Requirement,
    Selector,
    identity,
    keyed,
    label_set,
    selector_of,
)

#: kube-scheduler's own soft constraints for pods of a service or controller: (topology key, maxSkew).
SYSTEM_SPREAD = ((HOSTNAME, 3), (ZONE, 5))
HARD = "DoNotSchedule"
SOFT = "ScheduleAnyway"
HONOR = "Honor"
#: Terms that no pod carries any more are forgotten when there are this many more of them than others.
_IDLE_TERMS = 1024


class Forbid(NamedTuple):
    """Domains that hold a pod of the group are out; without a topology key, nodes that do."""

    group: Group
    topology_key: str | None
    reason: Reason


class Require(NamedTuple):
    """Domains of every key must hold a pod of the group; a group that is nowhere yet may begin with the pod itself."""

    group: Group
    topology_keys: tuple[str, ...]
    self_match: bool


class SpreadRule(NamedTuple):
    """One topology spread constraint."""

    group: Group
    topology_key: str
    max_skew: int
    min_domains: int
    self_match: bool
    honor_affinity: bool
    honor_taints: bool


class Like(NamedTuple):
    """Each pod of the group in a node's domain adds the weight to its raw score."""

    group: Group
    topology_key: str
    weight: int


class Coupling(NamedTuple):
    """All of it. `everywhere`: soft rules leave out nodes that lack one of their topology keys."""

    key: bytes
    forbids: tuple[Forbid, ...]
    require: Require | None
    hard: tuple[SpreadRule, ...]
    soft: tuple[SpreadRule, ...]
    everywhere: bool
    likes: tuple[Like, ...]


FREE = Coupling(b"", (), None, (), (), True, ())


class Surroundings(NamedTuple):
    """What is known of the cluster beside nodes and pods.

    Attributes:
        namespaces: name to labels.
        services: namespace to selectors of its services.
        controllers: (kind, namespace, name) to selector.
    """

    namespaces: Mapping[str, Mapping[str, str]]
    services: Mapping[str, Iterable[Mapping[str, str]]]
    controllers: Mapping[tuple[str, str, str], LabelSelector | None]


class Carriers:
    """Terms that pods on nodes carry, found by whom they are about."""

    def __init__(self) -> None:
        self.generation = 0
        self._counts: dict[bytes, int] = {}
        self._idle = 0
        self._groups: dict[bytes, Carried] = {}
        self._anchored: dict[tuple[str, str], dict[bytes, Carried]] = {}
        self._others: dict[bytes, Carried] = {}
        self._of: dict[bytes, tuple[bytes, ...]] = {}

    def add(self, profile: Profile) -> None:
        """A first pod of this profile is on a node."""
        groups = carried(profile)
        if not groups:
            return
        self._of[profile.key] = tuple(group.key for group in groups)
        for group in groups:
            count = self._counts.get(group.key)
            if count is None:
                self.generation += 1
                self._groups[group.key] = group
                self._place(group)[group.key] = group
            elif not count:
                self._idle -= 1
            self._counts[group.key] = (count or 0) + 1

    def remove(self, profile: Profile) -> None:
        """No pod of this profile is on a node any more."""
        for key in self._of.pop(profile.key, ()):
            self._counts[key] -= 1
            self._idle += not self._counts[key]
        if self._idle > _IDLE_TERMS and self._idle > len(self._counts) // 2:
            self._forget()

    def _forget(self) -> None:
        for key in [key for key, count in self._counts.items() if not count]:
            group = self._groups.pop(key)
            del self._counts[key], self._place(group)[key]
        self._idle = 0
        self.generation += 1

    def _place(self, group: Carried) -> dict[bytes, Carried]:
        anchor = group.term.selector.anchor()
        return self._others if anchor is None else self._anchored.setdefault(anchor, {})

    def about(self, profile: Profile, namespace_labels: Mapping[str, str] | None) -> Iterator[Carried]:
        """The terms that are about a pod; where its namespace is not known, keeping away is the safe side."""
        for place in (*(self._anchored.get(label, {}) for label in profile.labels.items()), self._others):
            for group in place.values():
                unknown = isinstance(group, Repelling)
                if group.term.concerns(profile.namespace, profile.labels, namespace_labels, unknown=unknown):
                    yield group


def couple(profile: Profile, carriers: Carriers, around: Surroundings, hard_affinity_weight: int) -> Coupling:
    """What the placement of a pod of this profile depends on among other pods."""
    namespace_labels = around.namespaces.get(profile.namespace)
    forbids: list[Forbid] = []
    likes: list[Like] = []
    for group in carriers.about(profile, namespace_labels):
        key = group.term.topology_key
        match group:
            case Repelling():
                forbids.append(Forbid(group, key, Reason.EXISTING_ANTI_AFFINITY))
            case Attracting() if hard_affinity_weight:
                likes.append(Like(group, key, hard_affinity_weight))
            case Preferring() if group.weight:
                likes.append(Like(group, key, group.weight))
    forbids += [
        Forbid(Selected((term,), unknown=True), term.topology_key, Reason.POD_ANTI_AFFINITY_MISMATCH)
        for term in dict.fromkeys(profile.repels)
    ]
    forbids += [Forbid(Holding(port), None, Reason.HOST_PORT_TAKEN) for port in profile.ports]
    likes += [
        Like(Selected((term,), unknown=False), term.topology_key, weight) for weight, term in profile.prefers if weight
    ]
    require = None
    if profile.attracts:
        every = Selected(profile.attracts, unknown=False)
        keys = tuple(sorted({term.topology_key for term in profile.attracts}))
        require = Require(every, keys, bool(every.count(profile, around.namespaces)))
    hard, soft, everywhere = _spread(profile, around)
    if not (forbids or likes or require or hard or soft):
        return FREE
    forbids.sort(key=lambda forbid: (forbid.group.key, forbid.topology_key or ""))
    likes.sort(key=lambda like: (like.group.key, like.topology_key, like.weight))
    coupling_key = identity(
        (
            [(forbid.group.key, forbid.topology_key) for forbid in forbids],
            require and (require.group.key, require.topology_keys, require.self_match),
            [(rule.group.key, *rule[1:]) for rule in hard],
            [(rule.group.key, *rule[1:]) for rule in soft],
            everywhere,
            [(like.group.key, like.topology_key, like.weight) for like in likes],
        )
    )
    return Coupling(coupling_key, tuple(forbids), require, hard, soft, everywhere, tuple(likes))


def _spread(profile: Profile, around: Surroundings) -> tuple[tuple[SpreadRule, ...], tuple[SpreadRule, ...], bool]:
    """(hard rules, soft rules, whether nodes without one of the keys are left out of soft scores)."""
    if profile.spread:
        rules = [(c.when_unsatisfiable, _rule(c, profile)) for c in profile.spread]
        return (
            tuple(rule for action, rule in rules if action == HARD),
            tuple(rule for action, rule in rules if action == SOFT),
            True,
        )
    selector = default_selector(profile, around)
    if selector is None:
        return (), (), True
    group = Spread(profile.namespace, selector)
    matches = selector.selects(profile.labels)
    soft = tuple(SpreadRule(group, key, skew, 1, matches, True, False) for key, skew in SYSTEM_SPREAD)
    return (), soft, False


def _rule(constraint: TopologySpreadConstraint, profile: Profile) -> SpreadRule:
    labels = profile.labels
    keys = keyed(constraint.match_label_keys, "In", labels)
    selector = selector_of(constraint.label_selector, keys)
    if selector.nothing and keys:
        selector = label_set({}, keys)
    return SpreadRule(
        group=Spread(profile.namespace, selector),
        topology_key=constraint.topology_key,
        max_skew=constraint.max_skew,
        min_domains=constraint.min_domains or 1,
        self_match=selector.selects(labels),
        honor_affinity=constraint.node_affinity_policy == HONOR,
        honor_taints=constraint.node_taints_policy == HONOR,
    )


def default_selector(profile: Profile, around: Surroundings) -> Selector | None:
    """Whom the system's own spread counts: pods of the same services and controller; None without either.

    Source: kube-scheduler's `helper.DefaultSelector`.
    """
    merged: dict[str, str] = {}
    for selector in around.services.get(profile.namespace, ()):
        if all(profile.labels.get(key) == value for key, value in selector.items()):
            merged.update(selector)
    extra: tuple[Requirement, ...] = ()
    if profile.owner is not None:
        kind, name = profile.owner
        owner = around.controllers.get((kind, profile.namespace, name))
        if owner is not None:
            extra = selector_of(owner).requirements
    found = label_set(merged, extra)
    return None if found.everything else found
