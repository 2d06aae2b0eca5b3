"""Who is beside whom: which profiles are on which nodes, the terms they carry, and what changed since the last look."""

from collections.abc import Iterable, Mapping

from daas.placement.coupling import Carriers, Coupling, Surroundings, couple
from daas.placement.groups import Group, Token, tokens
from daas.placement.model import LabelSelector
from daas.placement.objects import ObjectKey, ObjectRecord
from daas.placement.profile import Profile

#: Past this, whoever counts pods per node counts them all again rather than reading every change.
MAX_CHANGES = 65_536


class Neighbours:
    """Profiles on nodes.

    Attributes:
        present: profiles with pods on nodes, by key.
        promised: how many pods of a profile were promised a node, by key.
        changes: (profile, node, difference) since `take_changes`.
        generation: changes when a coupling that was worked out may be another now.
    """

    def __init__(self) -> None:
        self.present: dict[bytes, Profile] = {}
        self.promised: dict[bytes, int] = {}
        self._by_token: dict[Token, dict[bytes, Profile]] = {}
        self.carriers = Carriers()
        self.changes: list[tuple[Profile, str, int]] = []
        self.overflowed = False
        self.surroundings_generation = 0
        self._surroundings: Surroundings | None = None

    @property
    def generation(self) -> int:
        """Of carried terms and surroundings together: both only grow."""
        return self.carriers.generation + self.surroundings_generation

    def add(self, profile: Profile, node: str, *, tell: bool) -> None:
        """One more pod of this profile on a node."""
        if not profile.on:
            self.present[profile.key] = profile
            for token in tokens(profile):
                self._by_token.setdefault(token, {})[profile.key] = profile
            if profile.key not in self.promised:
                self.carriers.add(profile)
        profile.on[node] = profile.on.get(node, 0) + 1
        if tell:
            self._note(profile, node, 1)

    def remove(self, profile: Profile, node: str, *, tell: bool = True) -> None:
        """One less."""
        left = profile.on[node] - 1
        if left:
            profile.on[node] = left
        else:
            del profile.on[node]
            if not profile.on:
                del self.present[profile.key]
                for token in tokens(profile):
                    beside = self._by_token[token]
                    del beside[profile.key]
                    if not beside:
                        del self._by_token[token]
                if profile.key not in self.promised:
                    self.carriers.remove(profile)
        if tell:
            self._note(profile, node, -1)

    def promise(self, profile: Profile) -> None:
        """One more pod of this profile was promised a node: others are asked beside it before it is there.

        Its terms have to be known by then; whether some pod happens to have carried them before must not matter.
        """
        if profile.key not in self.promised and profile.key not in self.present:
            self.carriers.add(profile)
        self.promised[profile.key] = self.promised.get(profile.key, 0) + 1

    def take_back(self, profile: Profile) -> None:
        """One less."""
        left = self.promised[profile.key] - 1
        if left:
            self.promised[profile.key] = left
            return
        del self.promised[profile.key]
        if profile.key not in self.present:
            self.carriers.remove(profile)

    def candidates(self, group: Group) -> Iterable[Profile]:
        """Profiles on nodes that may be in a group."""
        found = self.present if group.token is None else self._by_token.get(group.token, {})
        return found.values()

    def _note(self, profile: Profile, node: str, difference: int) -> None:
        if len(self.changes) >= MAX_CHANGES:
            self.changes.clear()
            self.overflowed = True
        elif not self.overflowed:
            self.changes.append((profile, node, difference))

    def take_changes(self) -> list[tuple[Profile, str, int]] | None:
        """What changed since the last time; None where it was too much to remember."""
        changes, self.changes = self.changes, []
        overflowed, self.overflowed = self.overflowed, False
        return None if overflowed else changes

    def forget_surroundings(self) -> None:
        """An object changed."""
        self._surroundings = None
        self.surroundings_generation += 1

    def surroundings(self, objects: Mapping[ObjectKey, ObjectRecord]) -> Surroundings:
        """Namespaces, services and controllers as couplings need them."""
        if self._surroundings is None:
            namespaces: dict[str, Mapping[str, str]] = {}
            services: dict[str, list[Mapping[str, str]]] = {}
            controllers: dict[tuple[str, str, str], LabelSelector | None] = {}
            for kind, namespace, name in sorted(objects):
                value = objects[kind, namespace, name].value
                if kind == "Namespace":
                    namespaces[name] = {**(value.labels or {}), "kubernetes.io/metadata.name": name}
                elif kind == "Service" and value.selector:
                    services.setdefault(namespace, []).append(value.selector)
                elif kind in ("ReplicaSet", "StatefulSet", "ReplicationController"):
                    controllers[kind, namespace, name] = value.selector
            self._surroundings = Surroundings(namespaces, services, controllers)
        return self._surroundings

    def coupling(
        self, profile: Profile, objects: Mapping[ObjectKey, ObjectRecord], hard_affinity_weight: int
    ) -> Coupling:
        """What the placement of a pod of this profile depends on among other pods."""
        generation = self.generation
        if profile.coupled_at != generation:
            around = self.surroundings(objects)
            profile.coupling = couple(profile, self.carriers, around, hard_affinity_weight)
            profile.coupled_at = generation
        found: Coupling = profile.coupling
        return found
