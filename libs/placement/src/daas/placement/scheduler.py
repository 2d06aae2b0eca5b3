"""The state machine: one log entry in, at most one decision out, and nothing else has a say in it."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec

from daas.common import merkle
from daas.placement.batch import DIGEST_LENGTH, Decision, Leaf, PlacementBatch, Preemption, decisions_root
from daas.placement.engine import Engine, Wish
from daas.placement.errors import EventError, LogSequenceError, QuantityError
from daas.placement.fairness import FairnessCertificate, Grant, Order, TenantShare, Weights
from daas.placement.fold import fold
from daas.placement.log import RefusedEvent, decode_entry
from daas.placement.plans import promised_before
from daas.placement.policy import Genesis
from daas.placement.preemption import Preemptor
from daas.placement.reach import VolumeReach
from daas.placement.reasons import Reason
from daas.placement.records import TAKES_CAPACITY, Plan, PodRecord, PodState
from daas.placement.runs import LEAST_PODS, MOST_CLASSES
from daas.placement.snapshot import SnapshotHead, read_snapshot, write_snapshot
from daas.placement.state import ClusterState

#: Sets the tie-break's seed apart from every other hash.
_SEED_DOMAIN = b"daas/placement/rotation"


class Head(NamedTuple):
    """Where the chain of decisions and the log stand.

    Attributes:
        sequence, digest: of the last decision; 0 and 32 zero bytes before the first.
        log_sequence, log_root: of the last entry folded; 0 and 32 zero bytes before the first.
        state_root: of the state now; it equals the last batch's until another entry is folded.
    """

    sequence: int
    digest: bytes
    log_sequence: int
    log_root: bytes
    state_root: bytes


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What one entry led to; `fairness` says what the order of a decision's leaves followed from."""

    decision: Decision | None
    refused: tuple[RefusedEvent, ...]
    fairness: FairnessCertificate | None = None


class Choice(NamedTuple):
    """What was chosen for a pod."""

    node: str | None
    score: int
    reasons: int


class Scheduler:
    """Folds the cluster log and decides. No clock, no randomness, no I/O: equal logs give equal bytes.

    Args:
        genesis: chain, registry and policy.
    """

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis
        self._policy_digest = genesis.policy.digest()
        self._state = ClusterState(genesis.policy)
        self._engine = Engine(genesis.policy, self._state.neighbours)
        self._reach = VolumeReach(self._engine.table)
        self._preemptor = Preemptor(self._engine, self._state)
        self._preemptions: list[Preemption] = []
        #: Kinds of pods in this batch that can't be chosen for in one go.
        self._alone: set[tuple[int, int]] = set()
        self._sequence = 0
        self._digest = bytes(DIGEST_LENGTH)
        self._log_sequence = 0
        self._log_root = bytes(DIGEST_LENGTH)

    @classmethod
    def restore(cls, genesis: Genesis, snapshot: bytes, anchored: PlacementBatch | None = None) -> "Scheduler":
        """The scheduler that wrote the snapshot.

        The state root is computed from what was read, never taken from the bytes. Whoever has the anchored batch that
        the snapshot was taken after passes it; else the caller compares `head` with it before trusting a decision.

        Raises:
            SnapshotError: malformed, of another genesis, or not the state right after `anchored`.
        """
        scheduler = cls(genesis)
        head = read_snapshot(snapshot, genesis.digest(), scheduler._state)
        scheduler._sequence, scheduler._digest = head.sequence, head.digest
        scheduler._log_sequence, scheduler._log_root = head.log_sequence, head.log_root
        if anchored is not None:
            head.check(anchored, scheduler._state.root())
        return scheduler

    def snapshot(self) -> bytes:
        """Everything needed to go on from here; equal states give equal bytes."""
        head = SnapshotHead(self._sequence, self._digest, self._log_sequence, self._log_root)
        return write_snapshot(head, self._genesis.digest(), self._state)

    @property
    def genesis(self) -> Genesis:
        """Where the chain begins."""
        return self._genesis

    @property
    def head(self) -> Head:
        """Where the chain and the log stand; hashes what changed since it was last asked for."""
        return Head(self._sequence, self._digest, self._log_sequence, self._log_root, self._state.root())

    @property
    def position(self) -> tuple[int, bytes, int, bytes]:
        """Number and digest of the last decision, number of the last entry, log root; no state is hashed."""
        return self._sequence, self._digest, self._log_sequence, self._log_root

    @property
    def pending(self) -> int:
        """Pods of ours that are not placed."""
        return self._state.queue.pending

    @property
    def active(self) -> int:
        """Pods of ours that are due for the next decision."""
        return self._state.queue.active

    @property
    def assumed(self) -> int:
        """Pods that were placed and are not seen bound yet."""
        return len(self._state.assumed)

    @property
    def nodes(self) -> int:
        """Nodes that are known."""
        return len(self._state.nodes)

    @property
    def pods(self) -> int:
        """Pods that are known, whoever's."""
        return len(self._state.pods)

    def apply(self, log_sequence: int, entry: bytes) -> Applied:
        """Folds one entry and, if that leaves pods of ours due, decides.

        An entry that can't be read changes the log root and nothing else. While a full list is being read in
        (between `resync_started` and `resync_finished`) nothing is decided: half a list is no state of the cluster.

        Args:
            log_sequence: the entry's place in the log: one more than the last, from 1.
            entry: the exact bytes of the message.

        Raises:
            LogSequenceError: `log-gap` or `log-repeated`; nothing was folded.
        """
        expected = self._log_sequence + 1
        if log_sequence != expected:
            raise LogSequenceError(
                f"expected log entry {expected}, got {log_sequence}",
                reason="log-gap" if log_sequence > expected else "log-repeated",
                field="log_sequence",
            )
        self._log_sequence = log_sequence
        self._log_root = merkle.digest(self._log_root + entry)
        try:
            decoded = decode_entry(entry)
        except EventError as error:
            return Applied(decision=None, refused=(_refused(-1, error),))
        refused: list[RefusedEvent] = []
        now_ms, read = decoded.timestamp_ms, self._state.kinds.read
        for index, raw in enumerate(decoded.events):
            try:
                fold(self._state, read(bytes(raw)), now_ms)
            except (EventError, QuantityError) as error:
                refused.append(_refused(index, error))
        self._state.advance(now_ms)
        decision, fairness = self._decide(now_ms) or (None, None)
        return Applied(decision=decision, refused=tuple(refused), fairness=fairness)

    def _decide(self, now_ms: int) -> tuple[Decision, FairnessCertificate] | None:
        state = self._state
        if state.resync_id:
            return None
        if state.gangs:
            state.assemble()
        unschedulable = state.queue.members[PodState.UNSCHEDULABLE]
        if state.queue.active or (state.helped and unschedulable):
            self._engine.sync(state)
            seed = merkle.digest(_SEED_DOMAIN + self._digest + self._log_root)
            self._engine.begin(int.from_bytes(seed[:8], "little"))
            self._preemptor.begin(int.from_bytes(seed[8:16], "little"))
            self._wake(now_ms)
            if state.gangs:
                state.assemble()
        state.helped = False
        if not state.queue.active:
            return None
        sequence, expires_ms = self._sequence + 1, now_ms + self._genesis.policy.expires_ms
        records, fairness = self._order()
        whole = any(record.gang for record in records)
        choices = self._choose_whole(records) if whole else self._choose_each(records)
        leaves: list[Leaf] = []
        left: list[int] = []
        for record, choice in zip(records, choices, strict=True):
            leaves.append(self._settle(record, choice, sequence, now_ms, expires_ms))
            if choice.node is None and self._preemptor.may_preempt(record):
                left.append(len(leaves) - 1)
                if not whole:
                    self._make_room(records, leaves, left, expires_ms)
        self._make_room(records, leaves, left, expires_ms)
        preemptions, self._preemptions = tuple(self._preemptions), []
        if unschedulable and any(leaf.node is not None for leaf in leaves):
            # a pod that waits for others beside it, or for the emptiest domain to fill, is helped by what was placed
            state.helped |= any(r.profile and (r.profile.attracts or r.profile.spread) for r in unschedulable.values())
        batch = PlacementBatch(
            chain=self._genesis.chain,
            registry=self._genesis.registry,
            sequence=sequence,
            previous=self._digest,
            log_sequence=self._log_sequence,
            log_root=self._log_root,
            policy=self._policy_digest,
            state_root=state.root(),
            decisions=decisions_root(leaves, preemptions),
            count=len(leaves) + len(preemptions),
            expires_ms=expires_ms,
        )
        self._sequence, self._digest = sequence, batch.digest()
        return Decision(batch=batch, leaves=tuple(leaves), timestamp_ms=now_ms, preemptions=preemptions), fairness

    def _make_room(
        self,
        records: list[PodRecord],
        leaves: list[Leaf],
        left: list[int],
        expires_ms: int,
    ) -> None:
        """Plans for pods that were just decided without a node; empties `left`, their places in the batch."""
        state, sequence = self._state, self._sequence + 1
        now_ms = state.last_ms
        while left:
            index = left.pop(0)
            record, reasons = records[index], leaves[index].reasons
            if self._preemptor.under_way(record):
                reasons |= Reason.PREEMPTION_PLANNED
            else:
                if record.plan is not None:
                    state.drop_plan(record)
                found = self._preemptor.plan(record, self._wish(record))
                if isinstance(found, Preemption):
                    for other in self._preemptor.outdone(record, found.node):
                        state.drop_plan(other)
                        if other.state is PodState.UNSCHEDULABLE:
                            state.retry(other, now_ms)
                    state.set_plan(record, Plan(sequence, found.node, expires_ms, tuple(v.uid for v in found.victims)))
                    self._preemptions.append(found)
                    reasons |= Reason.PREEMPTION_PLANNED
                elif found:
                    state.retry(record, now_ms)
                    reasons |= found
            leaves[index] = msgspec.structs.replace(leaves[index], reasons=int(reasons))

    def _order(self) -> tuple[list[PodRecord], FairnessCertificate]:
        """The pods of this batch in the order of their turn."""
        state, queue = self._state, self._state.queue
        weights = Weights(state.stakes())
        tenants = tuple(
            TenantShare(namespace, weights.of(namespace), tuple(sorted(state.holdings.get(namespace, {}).items())), due)
            for namespace, due in sorted(queue.tenants().items())
        )
        order = Order(tenants, state.capacity)
        records: list[PodRecord] = []
        taken: set[str] = set()
        while len(records) < state.policy.batch_max:
            turn = order.next()
            if turn is None:
                break
            record = queue.take(turn.tenant.namespace, taken)
            order.serve(record.demand.requests)
            records.append(record)
        grants = tuple(Grant(record.demand.requests, record.priority, record.ticket) for record in records)
        capacity = tuple(sorted(state.capacity.items()))
        return records, FairnessCertificate(capacity=capacity, tenants=tenants, grants=grants)

    def _wake(self, now_ms: int) -> None:
        """Lets unschedulable pods go back to the queue whose class has a node now."""
        state = self._state
        if not state.helped:
            return
        verdicts: dict[tuple[bytes, bytes], bool] = {}
        waiting = sorted(state.queue.members[PodState.UNSCHEDULABLE].values(), key=lambda record: record.ticket)
        for record in waiting:
            wish = self._wish(record)
            if wish.pod_class.unsupported:
                continue
            key = (wish.pod_class.key, wish.coupling.key)
            if record.claims:
                reach = self._reach.of(record, state.claims, state.nodes)
                if not reach.refusal and self._engine.any_feasible(wish, reach.within):
                    state.wake(record, now_ms)
                continue
            if key not in verdicts:
                verdicts[key] = self._engine.any_feasible(wish)
            if verdicts[key]:
                state.wake(record, now_ms)

    def _wish(self, record: PodRecord) -> Wish:
        """What the engine is asked for a pod."""
        pod_class, profile = record.pod_class, record.profile
        assert pod_class is not None, f"pod {record.uid} waits without a class"
        assert profile is not None, f"pod {record.uid} waits without a profile"
        state = self._state
        weight = state.policy.hard_affinity_weight
        return Wish(pod_class, profile, state.neighbours.coupling(profile, state.objects, weight))

    def _kept_for_others(self, record: PodRecord, wish: Wish) -> list[str]:
        """Nodes that won't do for the pod beside those that were promised them before it."""
        state, engine, full = self._state, self._engine, []
        for name in state.nominated:
            before = promised_before(state, record, name) if name in state.nodes else ()
            if not before or not engine.fits_at(wish, name):
                continue
            for other in before:
                engine.count(other.demand, other.profile, name, 1)
            if not engine.fits_at(wish, name):
                full.append(name)
            for other in before:
                engine.count(other.demand, other.profile, name, -1)
        return full

    def _choose(self, record: PodRecord) -> Choice:
        """A node for one pod, which the engine counts there from now on."""
        wish = self._wish(record)
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

    def _choose_each(self, records: list[PodRecord]) -> Iterator[Choice]:
        """Nodes for all pods of a batch; those that don't depend on each other's neighbours in one go."""
        position = again = 0
        self._alone.clear()
        while position < len(records):
            if position >= again:
                wishes = self._stretch(records, position)
                again = position + (len(wishes) or MOST_CLASSES // 2)
                if wishes:
                    for node, score in self._engine.choose_many(wishes):
                        yield Choice(node, score, 0)
                        position += 1
                    if position == again:
                        continue
            yield self._choose(records[position])
            position += 1

    def _stretch(self, records: list[PodRecord], start: int) -> list[Wish]:
        """The wishes of the pods from `start` on that can be chosen for before any of them is settled; [] for few."""
        kinds: list[tuple[int, int]] = []
        first: dict[tuple[int, int], PodRecord] = {}
        for record in records[start:]:
            kind = (id(record.pod_class), id(record.profile))
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
            wish = self._wish(record)
            if not self._can_run(wish):
                self._alone.add(kind)
                kinds = kinds[: kinds.index(kind)]
                break
            wishes[kind] = wish
        return [wishes[kind] for kind in kinds] if len(kinds) >= LEAST_PODS * len(wishes) else []

    def _can_run(self, wish: Wish) -> bool:
        """Whether placing such pods changes nothing for the next one but the room on their nodes."""
        profile = wish.profile
        brings_terms = not profile.on and (profile.repels or profile.attracts or profile.prefers)
        if self._state.nominated or wish.pod_class.unsupported or brings_terms or wish.coupling.key:
            return False
        return self._engine.can_run(wish)

    def _choose_whole(self, records: list[PodRecord]) -> list[Choice]:
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
                choice = self._choose(record)
                choices.append(choice)
                if choice.node is not None:
                    placed_now[key] = placed_now.get(key, 0) + 1
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
                    if short:
                        self._engine.take_back(self._wish(record), choice.node)
            if not short:
                return choices
            for key in short:
                left_out[key] = int(Reason.GANG_DOES_NOT_FIT)

    def _settle(self, record: PodRecord, choice: Choice, sequence: int, now_ms: int, expires_ms: int) -> Leaf:
        """Takes a choice over into the state."""
        if choice.node is None:
            self._state.park(record, now_ms)
        else:
            self._state.assume(record, choice.node, sequence, expires_ms)
        return Leaf(
            pod_uid=record.uid,
            namespace=record.namespace,
            name=record.name,
            resource_version=record.resource_version,
            node=choice.node,
            score=choice.score,
            reasons=choice.reasons,
        )


def _refused(index: int, error: EventError | QuantityError) -> RefusedEvent:
    return RefusedEvent(index=index, reason=error.reason, message=error.message)
