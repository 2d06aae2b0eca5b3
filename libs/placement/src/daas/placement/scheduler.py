"""The state machine: one log entry in, at most one decision out, and nothing else has a say in it."""

from typing import NamedTuple

import msgspec

from daas.common import merkle
from daas.placement.batch import DIGEST_LENGTH, Decision, Leaf, PlacementBatch, Preemption, decisions_root
from daas.placement.choosing import Choice, Chooser
from daas.placement.engine import Engine
from daas.placement.errors import EventError, LogSequenceError, QuantityError
from daas.placement.fairness import FairnessCertificate, Grant, Order, TenantShare, Weights
from daas.placement.fold import fold
from daas.placement.group_plans import GroupPlanner
from daas.placement.log import RefusedEvent, decode_entry
from daas.placement.policy import Genesis
from daas.placement.preemption import Preemptor
from daas.placement.reasons import NONE, Reason
from daas.placement.records import TAKES_CAPACITY, Plan, PodRecord, PodState
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
        self.use(Chooser(self._state, self._engine))
        self._preemptions: list[Preemption] = []
        self._sequence = 0
        self._digest = bytes(DIGEST_LENGTH)
        self._log_sequence = 0
        self._log_root = bytes(DIGEST_LENGTH)

    def use(self, chooser: Chooser) -> None:
        """Has nodes chosen by another chooser of this state and engine."""
        self._chooser = chooser
        self._preemptor = Preemptor(self._engine, self._state, chooser.counted)
        self._groups = GroupPlanner(self._state, self._engine, chooser, self._preemptor)

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

    def apply(self, log_sequence: int, entry: bytes, *, certify: bool = True) -> Applied:
        """Folds one entry and, if that leaves pods of ours due, decides.

        An entry that can't be read changes the log root and nothing else. While a full list is being read in
        (between `resync_started` and `resync_finished`) nothing is decided: half a list is no state of the cluster.

        Args:
            log_sequence: the entry's place in the log: one more than the last, from 1.
            entry: the exact bytes of the message.
            certify: whether the certificate of fairness is wanted; it has no say in the decision.

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
        decision, fairness = self._decide(now_ms, certify=certify) or (None, None)
        return Applied(decision=decision, refused=tuple(refused), fairness=fairness)

    def _decide(self, now_ms: int, *, certify: bool) -> tuple[Decision, FairnessCertificate | None] | None:
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
        records, fairness = self._order(certify=certify)
        whole = any(record.gang for record in records)
        choices = self._chooser.whole(records) if whole else self._chooser.each(records)
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
        self._state.deciding = self._sequence + 1
        groups: set[tuple[str, str]] = set()
        while left:
            index = left.pop(0)
            record, reasons = records[index], leaves[index].reasons
            if reasons & (Reason.GANG_INCOMPLETE | Reason.GANG_DOES_NOT_FIT):
                key = (record.namespace, record.gang)
                if not reasons & Reason.GANG_INCOMPLETE and key not in groups:
                    groups.add(key)
                    self._make_room_for_group(records, leaves, key, expires_ms)
                continue
            if self._preemptor.under_way(record):
                reasons |= Reason.PREEMPTION_PLANNED
            else:
                if record.plan is not None:
                    self._state.drop_plan(record)
                found = self._preemptor.plan(record, self._chooser.wish(record))
                if isinstance(found, Preemption):
                    self._promise(record, found, expires_ms)
                    reasons |= Reason.PREEMPTION_PLANNED
                elif found:
                    self._state.retry(record, self._state.last_ms)
                    reasons |= found
            leaves[index] = msgspec.structs.replace(leaves[index], reasons=int(reasons))
        self._state.deciding = 0

    def _make_room_for_group(
        self, records: list[PodRecord], leaves: list[Leaf], key: tuple[str, str], expires_ms: int
    ) -> None:
        """One plan for a group that did not fit, for as many of its pods as are placed together."""
        state = self._state
        mates = [state.gangs[key][uid] for uid in sorted(state.gangs[key])]
        due = {r.uid: i for i, r in enumerate(records) if (r.namespace, r.gang) == key}
        again = NONE
        if not any(self._preemptor.under_way(mate) for mate in mates):
            for mate in mates:
                if mate.plan is not None:
                    state.drop_plan(mate)
            needed = (state.gang_size(key) or 0) - sum(mate.state in TAKES_CAPACITY for mate in mates)
            found = self._groups.plan([records[i] for i in due.values()], needed)
            if isinstance(found, Reason):
                again = found
            else:
                for preemption in found:
                    self._promise(state.pods[preemption.pod_uid], preemption, expires_ms)
        for uid, index in due.items():
            record, reasons = state.pods[uid], leaves[index].reasons | again
            if again:
                state.retry(record, state.last_ms)
            elif record.plan is not None:
                reasons |= Reason.PREEMPTION_PLANNED
            leaves[index] = msgspec.structs.replace(leaves[index], reasons=int(reasons))

    def _promise(self, record: PodRecord, found: Preemption, expires_ms: int) -> None:
        """Takes a plan over; plans for the node by pods of the same tenant with less priority are void."""
        state = self._state
        for other in self._preemptor.outdone(record, found.node):
            state.drop_plan(other)
            if other.state is PodState.UNSCHEDULABLE:
                state.retry(other, state.last_ms)
        victims = tuple(victim.uid for victim in found.victims)
        state.set_plan(record, Plan(self._sequence + 1, found.node, expires_ms, victims))
        self._preemptions.append(found)

    def _order(self, *, certify: bool) -> tuple[list[PodRecord], FairnessCertificate | None]:
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
        if not certify:
            return records, None
        grants = tuple(Grant(record.demand.requests, record.priority, record.ticket) for record in records)
        capacity = tuple(sorted(state.capacity.items()))
        return records, FairnessCertificate(capacity=capacity, tenants=tenants, grants=grants)

    def _wake(self, now_ms: int) -> None:
        """Lets unschedulable pods go back to the queue whose class has a node now, or that may find a plan."""
        state = self._state
        if not state.helped:
            return
        verdicts: dict[tuple[bytes, bytes], bool] = {}
        waiting = sorted(state.queue.members[PodState.UNSCHEDULABLE].values(), key=lambda record: record.ticket)
        for record in waiting:
            wish = self._chooser.wish(record)
            if wish.pod_class.unsupported:
                continue
            key = (wish.pod_class.key, wish.coupling.key)
            if record.claims:
                opens = self._chooser.opens(record, wish)
            else:
                if key not in verdicts:
                    verdicts[key] = self._chooser.opens(record, wish)
                opens = verdicts[key]
            if opens or self._preemptor.may_plan(record):
                state.wake(record, now_ms)

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
