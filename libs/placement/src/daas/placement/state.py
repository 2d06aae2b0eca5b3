"""The cluster as the log tells it: what is taken, pending and promised, and how pods go from one to the other.

Every change goes through one of the public methods, keeps capacity and queue in step, and notes which leaves of the
state root and which nodes of the engine have to be looked at again.
"""

from collections import Counter

from daas.placement.kinds import PodKinds
from daas.placement.known import Known
from daas.placement.policy import Policy
from daas.placement.profile import Profile
from daas.placement.queue import PendingQueue
from daas.placement.records import PENDING, TAKES_CAPACITY, Plan, PodRecord, PodState
from daas.placement.resources import PODS, Demand
from daas.placement.volumes import ClaimUse


class ClusterState(Known):
    """All that decisions depend on.

    Attributes:
        pod_names: (namespace, name) to pod.
        kinds: reads pods; queue: those of ours that are not placed; assumed: those placed and not seen bound yet.
        plans: uid to pods with a plan; victims: uid of a pod to be evicted to that of the pod it makes room for.
        deciding: number of the decision whose plans are being made, 0 at other times.
        nominated: node name to the pods that were promised it; gangs: (namespace, group) to its pods.
        holdings: namespace to what its placed pods take, with `pods`.
        priorities: namespace to priority to how many of its pods on nodes have it.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.pod_names: dict[tuple[str, str], PodRecord] = {}
        self.assumed: dict[str, PodRecord] = {}
        self.nominated: dict[str, dict[str, PodRecord]] = {}
        self.deciding = 0
        self.plans: dict[str, PodRecord] = {}
        self.victims: dict[str, str] = {}
        self.gangs: dict[tuple[str, str], dict[str, PodRecord]] = {}
        self.queue = PendingQueue()
        self.kinds = PodKinds(policy.scheduler_name)
        self.holdings: dict[str, dict[str, int]] = {}
        self.priorities: dict[str, Counter[int]] = {}
        #: No assumed pod lapses before this time.
        self._lapses_ms = -1

    def add_pod(self, uid: str, namespace: str, name: str) -> PodRecord:
        """A new record, idle."""
        record = PodRecord(uid, namespace, name)
        self.pods[uid] = record
        self.pod_names[namespace, name] = record
        self.dirty_pods[uid] = None
        return record

    def touch_pod(self, record: PodRecord) -> None:
        """Notes that a pod was seen, or that its record changed."""
        record.epoch = self.epoch
        self.dirty_pods[record.uid] = None

    def remove_pod(self, record: PodRecord) -> None:
        """Forgets a pod and frees what it held."""
        self._leave(record)
        record.asked_for = ""
        if record.plan is not None:
            self.drop_plan(record)
        self.nominate(record, "")
        self.join_gang(record, "")
        del self.pods[record.uid]
        if self.pod_names.get((record.namespace, record.name)) is record:
            del self.pod_names[record.namespace, record.name]
        self.dirty_pods[record.uid] = None

    def set_demand(self, record: PodRecord, demand: Demand) -> None:
        """Changes what a pod takes, also while it takes it."""
        if record.state in TAKES_CAPACITY:
            self._hold(record, -1)
            self._hold(record, 1, demand)
        known = self.nodes.get(record.node) if record.state in TAKES_CAPACITY else None
        if known is not None and demand != record.demand:
            known.give_back(record.demand)
            known.take(demand)
            self.dirty_nodes[known.name] = None
            self.changed_usage[known.name] = None
            self.helped = True
        record.demand = demand

    def idle(self, record: PodRecord) -> None:
        """Nothing to decide and nothing taken."""
        if record.plan is not None:
            self.drop_plan(record)
        self._leave(record)
        record.state = PodState.IDLE
        record.pod_class = None
        record.profile = None
        self._promise_terms(record)
        self.dirty_pods[record.uid] = None

    def activate(self, record: PodRecord) -> None:
        """Due for a decision, behind those who wait already."""
        self._leave(record)
        self.tickets += 1
        record.ticket = self.tickets
        record.not_before_ms = 0
        record.state = PodState.ACTIVE
        self.queue.add(record)
        self.dirty_pods[record.uid] = None

    def bind(self, record: PodRecord, node: str, profile: Profile) -> None:
        """On a node, whoever put it there."""
        if record.state is PodState.BOUND and record.node == node and record.profile is profile:
            return
        kept = record.volumes if record.node == node else ()
        if record.plan is not None:
            self.drop_plan(record)
        self._leave(record)
        record.volumes = kept
        record.profile = profile
        self._promise_terms(record)
        record.attempts = record.not_before_ms = record.ticket = 0
        record.pod_class = None
        self._settle(record, node, PodState.BOUND)
        # a pod that waits for others beside it, or for the emptiest domain to fill, is helped by whoever came
        self.helped = True

    def assume(self, record: PodRecord, node: str, sequence: int, expires_ms: int) -> None:
        """Placed by decision `sequence`; the engine has counted it already."""
        self._leave(record)
        if record.claims and node in self.nodes:
            record.volumes = self.claims.choose(record, self.nodes[node].node)
        record.sequence, record.expires_ms = sequence, expires_ms
        record.not_before_ms = 0
        if record.plan is not None:
            self.drop_plan(record)
        self._settle(record, node, PodState.ASSUMED, engine_knows=True)

    def park(self, record: PodRecord, now_ms: int) -> None:
        """Decided without a node: waits for something that can help, and at least for its delay."""
        self._leave(record)
        record.attempts = min(record.attempts + 1, 1 << 16)
        record.not_before_ms = now_ms + self.policy.backoff_ms(record.attempts)
        record.state = PodState.UNSCHEDULABLE
        self.queue.add(record)
        self.dirty_pods[record.uid] = None

    def release(self, record: PodRecord, now_ms: int) -> None:
        """Frees an assumed pod whose bind failed or lapsed; it waits for its delay."""
        self._leave(record)
        record.attempts = min(record.attempts + 1, 1 << 16)
        record.not_before_ms = now_ms + self.policy.backoff_ms(record.attempts)
        record.state = PodState.BACKOFF
        self.queue.add(record)
        self.dirty_pods[record.uid] = None

    def wake(self, record: PodRecord, now_ms: int) -> None:
        """Lets an unschedulable pod be decided again, when its delay has passed."""
        if record.not_before_ms <= now_ms:
            self.activate(record)
            return
        self._leave(record)
        record.state = PodState.BACKOFF
        self.queue.add(record)
        self.dirty_pods[record.uid] = None

    def restore_pod(self, record: PodRecord, node: str) -> None:
        """Puts a record of a snapshot, whose state is set, where its state belongs."""
        self.pods[record.uid] = record
        self.pod_names[record.namespace, record.name] = record
        self.dirty_pods[record.uid] = None
        if record.state in TAKES_CAPACITY:
            self._settle(record, node, record.state)
        elif record.state in PENDING:
            self.queue.add(record)

    def _settle(self, record: PodRecord, node: str, state: PodState, *, engine_knows: bool = False) -> None:
        record.state = state
        record.node = node
        self._count_priority(record, 1)
        self._hold(record, 1)
        if state is PodState.ASSUMED:
            self.assumed[record.uid] = record
            self._lapses_ms = min(self._lapses_ms, record.expires_ms + self.policy.grace_ms)
        self.pods_on.setdefault(node, {})[record.uid] = record
        known = self.nodes.get(node)
        if known is not None:
            known.take(record.demand)
            self.dirty_nodes[node] = None
            if not engine_knows:
                self.changed_usage[node] = None
        assert record.profile is not None, f"pod {record.uid} settles without a profile"
        self.neighbours.add(record.profile, node, tell=not engine_knows)
        if record.claims:
            self.claims.settle(record)
        if record.nominated not in ("", node):
            self.helped = True  # what it was promised elsewhere is kept for it no more
        self.dirty_pods[record.uid] = None

    def _leave(self, record: PodRecord) -> None:
        """Takes a pod out of whatever its state put it in."""
        if record.state in PENDING:
            self.queue.remove(record)
        elif record.state in TAKES_CAPACITY:
            self.assumed.pop(record.uid, None)
            self._count_priority(record, -1)
            self._hold(record, -1)
            beside = self.pods_on[record.node]
            del beside[record.uid]
            if not beside:
                del self.pods_on[record.node]
            assert record.profile is not None, f"pod {record.uid} leaves without a profile"
            self.neighbours.remove(record.profile, record.node)
            if record.claims:
                self.claims.leave(record)
            known = self.nodes.get(record.node)
            if known is not None:
                known.give_back(record.demand)
                self.dirty_nodes[record.node] = None
                self.changed_usage[record.node] = None
            self.helped = True
            record.node = ""
            record.sequence = record.expires_ms = 0

    def set_claims(self, record: PodRecord, claims: tuple[ClaimUse, ...]) -> None:
        """Changes which claims a pod mounts, also while it is on a node."""
        if record.claims == claims:
            return
        if record.claims and record.state in TAKES_CAPACITY:
            self.claims.leave(record)
        record.claims = claims
        if claims and record.state in TAKES_CAPACITY:
            self.claims.settle(record)

    def set_plan(self, record: PodRecord, plan: Plan) -> None:
        """Preemption promises a pod a node once the victims are gone."""
        record.plan = plan
        self.plans[record.uid] = record
        for uid in plan.victims:
            self.victims[uid] = record.uid
        self.nominate(record, plan.node)
        self.dirty_pods[record.uid] = None

    def drop_plan(self, record: PodRecord) -> None:
        """Nothing is kept for a pod any more."""
        assert record.plan is not None, f"pod {record.uid} has no plan"
        for uid in record.plan.victims:
            if self.victims.get(uid) == record.uid:
                del self.victims[uid]
        record.plan = None
        del self.plans[record.uid]
        self.nominate(record, record.asked_for)
        self.helped = True  # what budgets allow is free for other plans
        self.dirty_pods[record.uid] = None

    def retry(self, record: PodRecord, now_ms: int) -> None:
        """Lets a pod that was decided without a node be decided again after a delay, whatever happens meanwhile."""
        self._leave(record)
        record.not_before_ms = max(record.not_before_ms, now_ms + self.policy.backoff_ms(max(record.attempts, 1)))
        record.state = PodState.BACKOFF
        self.queue.add(record)
        self.dirty_pods[record.uid] = None

    def hear_nomination(self, record: PodRecord, node: str) -> None:
        """A pod's status says which node it was promised."""
        record.asked_for = node
        if record.plan is None:
            self.nominate(record, node)

    def nominate(self, record: PodRecord, node: str) -> None:
        """A pod was promised a node, another one, or none."""
        if record.nominated == node:
            return
        if record.nominated:
            beside = self.nominated[record.nominated]
            del beside[record.uid]
            if not beside:
                del self.nominated[record.nominated]
            self.helped = True
        record.nominated = node
        if node:
            self.nominated.setdefault(node, {})[record.uid] = record
        self._promise_terms(record)

    def _promise_terms(self, record: PodRecord) -> None:
        """Keeps what a promised pod carries known to others, whatever its profile is now."""
        now = record.profile if record.nominated else None
        if now is record.foretold:
            return
        if now is not None:
            self.neighbours.promise(now)
        if record.foretold is not None:
            self.neighbours.take_back(record.foretold)
        record.foretold = now

    def join_gang(self, record: PodRecord, gang: str) -> None:
        """A pod belongs to a group, to another one, or to none."""
        if record.gang == gang:
            return
        if record.gang:
            mates = self.gangs[record.namespace, record.gang]
            del mates[record.uid]
            if not mates:
                del self.gangs[record.namespace, record.gang]
        record.gang = gang
        if gang:
            self.gangs.setdefault((record.namespace, gang), {})[record.uid] = record

    def assemble(self) -> None:
        """Where a pod of a group is due, the others that wait are due with it."""
        for mates in [self.gangs[key] for key in sorted(self.gangs)]:
            waiting = [mate for mate in mates.values() if mate.state in PENDING]
            if any(mate.state is PodState.ACTIVE for mate in waiting):
                for mate in sorted(waiting, key=lambda record: record.uid):
                    if mate.state is not PodState.ACTIVE:
                        self.activate(mate)

    def gang_size(self, key: tuple[str, str]) -> int | None:
        """How many pods of a group are placed together; None where the group is not known."""
        record = self.objects.get(("PodGroup", *key))
        return None if record is None else int(record.value.min_count)

    def change_profile(self, record: PodRecord, profile: Profile) -> None:
        """Another profile for a pod, also while it is on a node."""
        if record.state in TAKES_CAPACITY and record.profile is not None and record.profile is not profile:
            self.neighbours.remove(record.profile, record.node)
            self.neighbours.add(profile, record.node, tell=True)
            self.helped = True
        record.profile = profile
        self._promise_terms(record)

    def lowest_priority(self, namespace: str) -> int:
        """Of a tenant's pods on nodes; more than any pod has where there is none."""
        return min(self.priorities.get(namespace, ()), default=2**31)

    def set_priority(self, record: PodRecord, priority: int) -> None:
        """Changes a pod's priority, also while it is on a node."""
        placed = record.state in TAKES_CAPACITY
        if placed:
            self._count_priority(record, -1)
        record.priority = priority
        if placed:
            self._count_priority(record, 1)

    def _count_priority(self, record: PodRecord, step: int) -> None:
        there = self.priorities.setdefault(record.namespace, Counter())
        there[record.priority] += step
        if not there[record.priority]:
            del there[record.priority]
            if not there:
                del self.priorities[record.namespace]

    def _hold(self, record: PodRecord, step: int, demand: Demand | None = None) -> None:
        """Counts for the tenant what a pod takes, or no longer."""
        held = self.holdings.setdefault(record.namespace, {})
        for resource, amount in (*(demand or record.demand).requests, (PODS, 1)):
            left = held.get(resource, 0) + step * amount
            if left:
                held[resource] = left
            else:
                del held[resource]
        if not held:
            del self.holdings[record.namespace]

    # --- time

    def advance(self, now_ms: int) -> None:
        """Lets time pass to an entry's timestamp: placements lapse, delays end.

        Where time runs backwards, deadlines that now lie further away than they could be given today are drawn in, so
        that one entry from the future can't keep a pod waiting for years.
        """
        if now_ms < self.last_ms:
            self._draw_in(now_ms)
        self.last_ms = now_ms
        if self._lapses_ms < now_ms:
            for record in [r for r in self.assumed.values() if r.expires_ms + self.policy.grace_ms < now_ms]:
                self.release(record, now_ms)
            soonest_ms = min((record.expires_ms for record in self.assumed.values()), default=now_ms)
            self._lapses_ms = soonest_ms + self.policy.grace_ms
        if self.plans:
            self._lapse(now_ms)
        for record in sorted(self.queue.due(now_ms), key=lambda r: (r.not_before_ms, r.ticket)):
            self.activate(record)

    def _lapse(self, now_ms: int) -> None:
        """Plans whose victims did not go in time are given up."""
        for record in sorted(self.plans.values(), key=lambda r: r.uid):
            plan = record.plan
            if plan is not None and plan.expires_ms + self.policy.grace_ms < now_ms:
                self.drop_plan(record)
                if record.state is PodState.UNSCHEDULABLE:
                    self.retry(record, now_ms)

    def _draw_in(self, now_ms: int) -> None:
        latest_ms = now_ms + self.policy.expires_ms
        for planned in self.plans.values():
            if planned.plan is not None and planned.plan.expires_ms > latest_ms:
                planned.plan = planned.plan._replace(expires_ms=latest_ms)
                self.dirty_pods[planned.uid] = None
        for record in self.assumed.values():
            if record.expires_ms > latest_ms:
                record.expires_ms = latest_ms
                self.dirty_pods[record.uid] = None
        self._lapses_ms = -1
        latest_ms = now_ms + self.policy.backoff_max_ms
        for state in (PodState.BACKOFF, PodState.UNSCHEDULABLE):
            for record in list(self.queue.members[state].values()):
                if record.not_before_ms > latest_ms:
                    record.not_before_ms = latest_ms
                    self.queue.add(record)
                    self.dirty_pods[record.uid] = None
