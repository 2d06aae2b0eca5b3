"""Random logs from a seed, and the invariants that must hold after every entry."""

import random

import msgspec
from placement_floods import flood, gang, one_by_one
from placement_stillness import check_columns, check_nothing_lost, root_from_scratch
from placement_turmoil import (
    budget_event,
    check_groups,
    check_plans,
    eviction,
    object_event,
    storage_event,
    with_volumes,
)
from placement_world import World, random_node, random_pod

from daas.placement import Applied
from daas.placement.batch import decisions_root
from daas.placement.fairness import verify_fairness
from daas.placement.integrity import verify_feasibility
from daas.placement.kinds import GANG_LABEL
from daas.placement.log import (
    BindFailed,
    Event,
    NodeDeleted,
    NodeUpserted,
    PodDeleted,
    PodUpserted,
    ResyncFinished,
    ResyncStarted,
)
from daas.placement.model import Node, Pod
from daas.placement.records import PENDING, TAKES_CAPACITY, PodState
from daas.placement.scheduler import Scheduler

#: More pods would only make the run slower, not other.
MOST_PODS = 160
#: Steps between looks at what is slow to check.
SELDOM = 25
#: And at whether it comes to rest with nobody forgotten.
RARELY = 250


class Simulator:
    """A small cluster with its own truth, which tells the log what happens, sometimes twice, late or wrong."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World()
        self.version = 10
        self.made = 0
        self.nodes: dict[str, Node] = {}
        self.pods: dict[str, Pod] = {}
        self.deleted: list[Pod] = []
        self.overcommit_excused: set[str] = set()
        self.elder: Scheduler | None = None

    def step(self) -> Applied:
        rng = self.rng
        if rng.random() < 0.02:
            self._restart()
        events: list[Event] = []
        for _ in range(rng.choice([0, 1, 3, 8])):
            events += rng.choices(
                [self._new_pod, self._bind, self._bind_fails, self._delete_pod, self._node, self._lose_node,
                 self._repeat, self._foreign, self._end_pod, self._object, self._storage, self._evict, self._flood,
                 self._budget, self._gang],
                [8, 6, 2, 3, 2, 0.3, 2, 1, 2, 0.3, 0.5, 1, 0.5, 0.4, 0.3],
            )[0]()  # fmt: skip
        if rng.random() < 0.02:
            events += self._resync()
        if rng.random() < 0.02:
            applied = self.world.raw(rng.randbytes(30))
        else:
            applied = self.world.tell(*events[:512], after_ms=rng.choice([1, 5, 200, 3_000, 3_000, 100_000, -50]))
        if self.elder is not None:
            said = self.elder.apply(len(self.world.entries), self.world.entries[-1])
            assert said == applied, "a restored scheduler goes on otherwise than the one that wrote the snapshot"
        return applied

    def _restart(self) -> None:
        """The engine dies, and another goes on from its snapshot.

        The elder is asked further what it would say, and places every pod by itself: runs have to decide the same.
        """
        world = self.world
        before = world.scheduler
        world.scheduler = Scheduler.restore(world.genesis, before.snapshot())
        assert world.scheduler.head == before.head
        assert world.scheduler.snapshot() == before.snapshot()
        self.elder = one_by_one(before)

    def _next(self) -> int:
        self.version += 1
        return self.version

    def _new_pod(self) -> list[Event]:
        if len(self.pods) > MOST_PODS:
            return self._delete_pod()
        template = random_pod(self.rng, "x", 1, list(self.nodes) or ["n0"], social=self.rng.random() < 0.5)
        if self.rng.random() < 0.1:
            labels = {**(template.metadata.labels or {}), GANG_LABEL: self.rng.choice(["g0", "g1"])}
            meta = msgspec.structs.replace(template.metadata, labels=labels)
            template = msgspec.structs.replace(template, metadata=meta)
        elif self.rng.random() < 0.15:
            template = with_volumes(self.rng, template)
        return self._come([template] * self.rng.choice([1, 1, 4]))

    def _flood(self) -> list[Event]:
        """Many pods of few kinds at once."""
        if len(self.pods) > MOST_PODS // 2:
            return self._delete_pod()
        return self._come(flood(self.rng, self.version))

    def _gang(self) -> list[Event]:
        group, pods = gang(self.rng, self.version)
        return [group, *self._come(pods)]

    def _come(self, templates: list[Pod]) -> list[Event]:
        events: list[Event] = []
        for template in templates:
            self.made += 1
            name = f"p{self.made}"
            meta = msgspec.structs.replace(
                template.metadata, name=name, uid=f"u{self.made}", resource_version=str(self._next())
            )
            pod = msgspec.structs.replace(template, metadata=meta)
            self.pods[meta.uid] = pod
            events.append(PodUpserted(pod=pod))
        return events

    def _some(self, state: PodState) -> list[str]:
        return [uid for uid, record in self.world.scheduler._state.pods.items() if record.state is state]

    def _with_node(self, uid: str, node: str, phase: str = "Running") -> list[Event]:
        pod = self.pods[uid]
        self.pods[uid] = msgspec.structs.replace(
            pod,
            metadata=msgspec.structs.replace(pod.metadata, resource_version=str(self._next())),
            spec=msgspec.structs.replace(pod.spec, node_name=node),
            status=msgspec.structs.replace(pod.status, phase=phase),
        )
        return [PodUpserted(pod=self.pods[uid])]

    def _bind(self) -> list[Event]:
        events: list[Event] = []
        for uid in self._some(PodState.ASSUMED)[:6]:
            node = self.world.scheduler._state.pods[uid].node
            if uid not in self.pods:
                continue
            if self.rng.random() < 0.05 and self.nodes:
                node = self.rng.choice(list(self.nodes))
                self.overcommit_excused.add(node)
            events += self._with_node(uid, node)
        return events

    def _foreign(self) -> list[Event]:
        if not self.nodes:
            return []
        events = self._new_pod()[:1]
        if not events or not isinstance(events[0], PodUpserted):
            return events
        pod = events[0].pod
        node = self.rng.choice(list(self.nodes))
        self.overcommit_excused.add(node)
        self.pods[pod.metadata.uid] = msgspec.structs.replace(
            pod, spec=msgspec.structs.replace(pod.spec, node_name=node, scheduler_name="default-scheduler")
        )
        for uid in [u for u, p in self.pods.items() if p.spec.node_name == "" and u not in self._known()]:
            if uid != pod.metadata.uid:
                del self.pods[uid]
        return [PodUpserted(pod=self.pods[pod.metadata.uid])]

    def _known(self) -> set[str]:
        return set(self.world.scheduler._state.pods)

    def _bind_fails(self) -> list[Event]:
        events: list[Event] = []
        for uid in self._some(PodState.ASSUMED)[:2]:
            record = self.world.scheduler._state.pods[uid]
            wrong = self.rng.random() < 0.2
            sequence = record.sequence + wrong
            events.append(BindFailed(uid=uid, sequence=sequence, node=record.node, reason="simulated"))
        return events

    def _delete_pod(self) -> list[Event]:
        if not self.pods:
            return []
        pod = self.pods.pop(self.rng.choice(list(self.pods)))
        self.deleted.append(pod)
        meta = pod.metadata
        return [PodDeleted(uid=meta.uid, namespace=meta.namespace, name=meta.name)]

    def _end_pod(self) -> list[Event]:
        bound = [uid for uid, pod in self.pods.items() if pod.spec.node_name]
        if not bound:
            return []
        uid = self.rng.choice(bound)
        return self._with_node(uid, self.pods[uid].spec.node_name, "Succeeded")

    def _node(self) -> list[Event]:
        name = f"n{self.rng.randrange(12)}"
        node = random_node(self.rng, name, self._next())
        before = self.nodes.get(name)
        if before is None:
            meta = msgspec.structs.replace(node.metadata, uid=f"node-{self.version}")
        else:
            meta = msgspec.structs.replace(node.metadata, uid=before.metadata.uid)
        self.overcommit_excused.add(name)
        self.nodes[name] = msgspec.structs.replace(node, metadata=meta)
        return [NodeUpserted(node=self.nodes[name])]

    def _object(self) -> list[Event]:
        return [object_event(self.rng)]

    def _storage(self) -> list[Event]:
        return [storage_event(self.rng, list(self.nodes)) for _ in range(self.rng.choice([1, 4]))]

    def _budget(self) -> list[Event]:
        return [budget_event(self.rng)]

    def _evict(self) -> list[Event]:
        return eviction(self.rng, self.world.scheduler._state, self.pods)

    def _lose_node(self) -> list[Event]:
        if not self.nodes:
            return []
        name = self.rng.choice(list(self.nodes))
        return [NodeDeleted(name=name, uid=self.nodes.pop(name).metadata.uid)]

    def _repeat(self) -> list[Event]:
        """What was said before, said again: known pods, deleted pods, known nodes."""
        events: list[Event] = []
        if self.pods:
            events.append(PodUpserted(pod=self.rng.choice(list(self.pods.values()))))
        if self.deleted:
            events.append(PodUpserted(pod=self.rng.choice(self.deleted)))
        if self.nodes:
            events.append(NodeUpserted(node=self.rng.choice(list(self.nodes.values()))))
        return events

    def _resync(self) -> list[Event]:
        for uid in list(self.pods):
            if self.rng.random() < 0.1:
                self.deleted.append(self.pods.pop(uid))
        nodes: list[Event] = [NodeUpserted(node=node) for node in self.nodes.values()]
        pods: list[Event] = [PodUpserted(pod=pod) for pod in self.pods.values()]
        identity = f"r{self._next()}"
        return [ResyncStarted(id=identity), *nodes, *pods[:400], ResyncFinished(id=identity)]

    # --- what must hold

    def check(self, applied: Applied) -> None:
        seldom = len(self.world.entries) % SELDOM == 0
        self._check_counts(seldom=seldom)
        self._check_decision(applied, seldom=seldom)

    def _check_counts(self, *, seldom: bool) -> None:
        """Capacity, queue and commitment say what the pods say."""
        state = self.world.scheduler._state
        for name, node in state.nodes.items():
            on = [pod for pod in state.pods.values() if pod.node == name]
            used: dict[str, int] = {}
            for pod in on:
                assert pod.state in TAKES_CAPACITY
                for resource, amount in pod.demand.requests:
                    used[resource] = used.get(resource, 0) + amount
            assert (node.used, node.pods) == (used, len(on))
            assert node.score_cpu_milli == sum(pod.demand.score_cpu_milli for pod in on)
        for record in state.pods.values():
            assert (record.state in TAKES_CAPACITY) == bool(record.node)
            assert (record.uid in state.assumed) == (record.state is PodState.ASSUMED)
            assert (record.state is PodState.ASSUMED) == (record.sequence > 0)
            for kind in PENDING:
                assert (record.uid in state.queue.members[kind]) == (record.state is kind)
        check_plans(state)
        check_columns(self.world.scheduler)
        if seldom:
            assert state.root() == root_from_scratch(self.world.scheduler)

    def _check_decision(self, applied: Applied, *, seldom: bool) -> None:
        state, scheduler = self.world.scheduler._state, self.world.scheduler
        if applied.decision is None:
            return
        batch, claims = applied.decision.batch, self.world.claims
        assert batch.sequence == len(claims)
        assert batch.previous == (claims[-2].batch.digest() if len(claims) > 1 else bytes(32))
        assert batch.digest() == scheduler.head.digest
        assert (batch.state_root, batch.log_root) == (scheduler.head.state_root, scheduler.head.log_root)
        leaves, plans = applied.decision.leaves, applied.decision.preemptions
        assert batch.decisions == decisions_root(leaves, plans)
        assert batch.count == len(leaves) + len(plans)
        assert applied.fairness is not None
        assert verify_fairness(applied.fairness, leaves).holds
        if seldom or plans:
            wrong = verify_feasibility(self.world.genesis, scheduler.snapshot(), batch, leaves, plans)
            assert wrong is None, wrong
        check_groups(state, applied.decision)
        for leaf in leaves:
            record = state.pods[leaf.pod_uid]
            assert (leaf.node is None) == bool(leaf.reasons)
            if leaf.node is None:
                assert record.state in (PodState.UNSCHEDULABLE, PodState.BACKOFF)
                continue
            assert (record.state, record.node) == (PodState.ASSUMED, leaf.node)
            node = state.nodes[leaf.node]
            assert node.pods <= node.capacity.get("pods", 0)
            for resource, _ in record.demand.requests:
                assert node.used[resource] <= node.capacity.get(resource, 0)

    def check_nothing_lost(self) -> None:
        """As `placement_stillness.check_nothing_lost`, on a copy: the log goes on as if nobody had looked."""
        if not self.world.scheduler._state.resync_id:
            check_nothing_lost(self.world)


def digest_of_run(seed: int, steps: int) -> str:
    """The head after a run, for comparing processes."""
    simulator = Simulator(seed)
    for _ in range(steps):
        simulator.step()
    head = simulator.world.scheduler.head
    return (head.digest + head.log_root + head.state_root).hex()


def run(seed: int, steps: int) -> int:
    """Simulates; the number of decisions made.

    Raises:
        SimulationFailed: an invariant broke, with the log up to there.
    """
    simulator = Simulator(seed)
    for step in range(1, steps + 1):
        try:
            simulator.check(simulator.step())
            if step % RARELY == 0 or step == steps:
                simulator.check_nothing_lost()
        except Exception as error:
            raise SimulationFailed(seed, step, simulator.world.entries, error) from error
    return len(simulator.world.claims)


class SimulationFailed(AssertionError):
    """An invariant broke at a step of a seed."""

    def __init__(self, seed: int, steps: int, entries: list[bytes], error: Exception) -> None:
        super().__init__(f"seed {seed} breaks at step {steps}: {type(error).__name__}: {error}")
        self.seed = seed
        self.steps = steps
        self.entries = entries


def fails(entries: list[bytes]) -> bool:
    """Whether a log alone breaks an invariant."""
    simulator = Simulator(0)
    try:
        for entry in entries:
            simulator.check(simulator.world.raw(entry))
        simulator.check_nothing_lost()
    except Exception:  # noqa: BLE001 - whatever breaks counts
        return True
    return False


def shrink(entries: list[bytes], tries: int = 400) -> list[bytes]:
    """A shorter log that still breaks an invariant, by leaving out ever smaller pieces; itself where none breaks."""
    if not fails(entries):
        return entries
    piece = max(len(entries) // 2, 1)
    while tries > 0:
        start = 0
        while start < len(entries) and tries > 0:
            shorter = entries[:start] + entries[start + piece :]
            tries -= 1
            if shorter and fails(shorter):
                entries = shorter
            else:
                start += piece
        if piece == 1:
            break
        piece //= 2
    return entries
