"""Nodes for the pods of a batch in their order: each by itself, many in one go, groups whole or not at all."""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from daas.placement.engine import Engine, Wish
from daas.placement.plans import promised_before
from daas.placement.reach import VolumeReach
from daas.placement.reasons import Reason
from daas.placement.records import TAKES_CAPACITY, PodRecord
from daas.placement.runs import LEAST_PODS, MOST_CLASSES
from daas.placement.state import ClusterState

#: Pods that are placed by themselves before the next look for a run, where there were too many kinds for one.
_MIXED = 24


class Choice(NamedTuple):
    """What was chosen for a pod."""

    node: str | None
    score: int
    reasons: int


def _kind(record: PodRecord) -> tuple[int, int]:
    """What pods have in common that are the same to a run."""
    return id(record.pod_class), id(record.profile)


class Chooser:
    """Asks the engine for nodes; the state is changed by whoever takes a choice over.

    Args:
        state: read, and between the choices of a group changed and put back.
        engine: counts what was chosen.
    """

    def __init__(self, state: ClusterState, engine: Engine) -> None:
        self._state = state
        self._engine = engine
        self._reach = VolumeReach(engine.table)
        #: Pods that were chosen for and counted, while the state is not told yet: a promise of room to one is kept.
        self.counted: set[str] = set()
        #: Kinds of pods in this batch that can't be chosen for in one go.
        self._alone: set[tuple[int, int]] = set()

    def wish(self, record: PodRecord) -> Wish:
        """What the engine is asked for a pod."""
        pod_class, profile = record.pod_class, record.profile
        assert pod_class is not None, f"pod {record.uid} waits without a class"
        assert profile is not None, f"pod {record.uid} waits without a profile"
        state = self._state
        weight = state.policy.hard_affinity_weight
        return Wish(pod_class, profile, state.neighbours.coupling(profile, state.objects, weight))

    def opens(self, record: PodRecord, wish: Wish) -> bool:
        """Whether some node would do for a pod now."""
        if not record.claims:
            return self._engine.any_feasible(wish)
        reach = self._reach.of(record, self._state.claims, self._state.nodes)
        return not reach.refusal and self._engine.any_feasible(wish, reach.within)

    def _kept_for_others(self, record: PodRecord, wish: Wish) -> list[str]:
        """Nodes that won't do for the pod beside those that were promised them before it."""
        state, engine, full = self._state, self._engine, []
        for name in state.nominated:
            before = promised_before(state, record, name, self.counted) if name in state.nodes else ()
            if not before or not engine.fits_at(wish, name):
                continue
            for other in before:
                engine.count(other.demand, other.profile, name, 1)
            if not engine.fits_at(wish, name):
                full.append(name)
            for other in before:
                engine.count(other.demand, other.profile, name, -1)
        return full

    def choose(self, record: PodRecord) -> Choice:
        """A node for one pod at its turn, which the engine counts there from now on."""
        return self.seek(record)

    def seek(self, record: PodRecord) -> Choice:
        """`choose`, whether it is the pod's turn or not."""
        wish = self.wish(record)
        if wish.pod_class.unsupported:
            return Choice(None, 0, wish.pod_class.unsupported)
        closed = self._kept_for_others(record, wish) if self._state.nominated else ()
        if record.claims:
            return self._choose_within(record, wish, closed)
        chosen = self._engine.choose(wish, closed, record.nominated)
        if chosen is not None:
            return Choice(chosen[0], chosen[1], 0)
        reasons = int(self._engine.explain(wish))
        return Choice(None, 0, reasons | Reason.RESERVED_FOR_NOMINATED if closed else reasons)

    def _choose_within(self, record: PodRecord, wish: Wish, closed: Collection[str]) -> Choice:
        """A node for a pod with claims, where its volumes let it go."""
        reach = self._reach.of(record, self._state.claims, self._state.nodes)
        if reach.refusal:
            return Choice(None, 0, int(reach.refusal))
        chosen = self._engine.choose(wish, closed, record.nominated, reach.within)
        if chosen is not None:
            return Choice(chosen[0], chosen[1], 0)
        reasons = int(Reason.NO_NODES) if not self._state.nodes else 0
        for reason in self._engine.refusals(wish, reach.bars):
            reasons |= int(reason)
        return Choice(None, 0, reasons | Reason.RESERVED_FOR_NOMINATED if closed else reasons)

    def each(self, records: list[PodRecord]) -> Iterator[Choice]:
        """Nodes for all pods of a batch; those that don't depend on each other's neighbours in one go."""
        position = again = 0
        self._alone.clear()
        while position < len(records):
            if position >= again:
                wishes = self._stretch(records, position)
                again = position + (len(wishes) or _MIXED)
                if wishes:
                    for node, score in self._engine.choose_many(wishes):
                        yield Choice(node, score, 0)
                        position += 1
                    if position == again:
                        continue
                    self._alone.add(_kind(records[position]))
                    again = position + 1
            yield self.choose(records[position])
            position += 1

    def _stretch(self, records: list[PodRecord], start: int) -> list[Wish]:
        """The wishes of the pods from `start` on that can be chosen for before any of them is settled; [] for few."""
        kinds: list[tuple[int, int]] = []
        first: dict[tuple[int, int], PodRecord] = {}
        for record in records[start:]:
            kind = _kind(record)
            if record.claims or kind in self._alone:
                break
            if kind not in first:
                if len(first) == MOST_CLASSES:
                    break
                first[kind] = record
            kinds.append(kind)
        if not first or len(kinds) < LEAST_PODS * len(first):
            return []
        wishes: dict[tuple[int, int], Wish] = {}
        for kind, record in first.items():
            wish = self.wish(record)
            known = wishes.values()
            if not self._can_run(wish) or self._repels(wish, known) or any(self._repels(one, (wish,)) for one in known):
                self._alone.add(kind)
                kinds = kinds[: kinds.index(kind)]
                break
            wishes[kind] = wish
        return [wishes[kind] for kind in kinds] if len(kinds) >= LEAST_PODS * len(wishes) else []

    def _can_run(self, wish: Wish) -> bool:
        """Whether what placing such pods changes for the next ones is known to a run."""
        profile = wish.profile
        if self._state.nominated or wish.pod_class.unsupported:
            return False
        if not profile.on and (profile.attracts or profile.prefers):
            return False  # terms that nobody carries yet, which would be looked at by name only
        return self._engine.can_run(wish)

    def _repels(self, one: Wish, others: Iterable[Wish]) -> bool:
        """Whether a first pod on a node would bring terms that others don't know of yet."""
        if one.profile.on or not one.profile.repels:
            return False
        labels = self._state.neighbours.surroundings(self._state.objects).namespaces
        return any(
            term.concerns(
                other.profile.namespace, other.profile.labels, labels.get(other.profile.namespace), unknown=True
            )
            for term in one.profile.repels
            for other in others
        )

    def whole(self, records: list[PodRecord]) -> list[Choice]:
        """Nodes for all pods of a batch, where groups get enough of them or none at all.

        A group that doesn't fit is left out and everything is chosen anew without it, so that nothing depends on
        pods that are not placed.
        """
        state = self._state
        missing: dict[tuple[str, str], int] = {}
        for key in sorted({(record.namespace, record.gang) for record in records if record.gang}):
            size, mates = state.gang_size(key), state.gangs[key].values()
            placed = sum(mate.state in TAKES_CAPACITY for mate in mates)
            due = sum((record.namespace, record.gang) == key for record in records)
            missing[key] = due + 1 if size is None else max(size - placed, 0)
        left_out = {
            key: int(Reason.GANG_INCOMPLETE)
            for key, count in missing.items()
            if count > sum((record.namespace, record.gang) == key for record in records)
        }
        while True:
            choices: list[Choice] = []
            placed_now: dict[tuple[str, str], int] = {}
            for record in records:
                key = (record.namespace, record.gang)
                if key in left_out:
                    choices.append(Choice(None, 0, left_out[key]))
                    continue
                choice = self.choose(record)
                choices.append(choice)
                if choice.node is not None:
                    placed_now[key] = placed_now.get(key, 0) + 1
                    self.counted.add(record.uid)
                    assert record.profile is not None, "a due pod has a profile"
                    state.neighbours.add(record.profile, choice.node, tell=False)
                    if record.claims:
                        state.claims.lend(record, state.nodes[choice.node].node)
            short = [key for key, count in missing.items() if key not in left_out and placed_now.get(key, 0) < count]
            for record, choice in zip(reversed(records), reversed(choices), strict=True):
                if choice.node is not None:
                    assert record.profile is not None, "a due pod has a profile"
                    state.neighbours.remove(record.profile, choice.node, tell=False)
                    if record.claims:
                        state.claims.give_back(record)
                    self.counted.discard(record.uid)
                    if short:
                        # not by its view: columns that were made here would count it as gone already
                        self._engine.count(record.demand, record.profile, choice.node, -1)
            if not short:
                return choices
            for key in short:
                left_out[key] = int(Reason.GANG_DOES_NOT_FIT)
