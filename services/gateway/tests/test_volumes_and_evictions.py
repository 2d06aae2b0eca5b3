"""Pods with claims and pods that preempt, from the API server through log, engine and binder back to the API server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from daas.common.bus import Event
from daas.common.decision import check_decided
from daas.common.messages import DecidedLeaf, DecidedPreemption, Header, PlacementDecided
from daas.gateway.appender import AppenderLimits, AppenderMetrics, LogAppender
from daas.gateway.binder import Binder, BinderMetrics
from daas.gateway.binding import PodBinder
from daas.gateway.cache import ClusterCache
from daas.gateway.events import Reporter, ReporterMetrics
from daas.gateway.evictions import EvictionMetrics, Evictor
from daas.gateway.volumes import VolumeBinder
from daas.gateway.watcher import ClusterWatcher, WatchMetrics
from daas.kube import KubeNotFound
from daas.placement import Decision, Genesis, Policy, Scheduler
from daas.placement.reasons import Reason

pytestmark = pytest.mark.connected
DEFAULT = "/api/v1/namespaces/default"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def message_of(decision: Decision) -> PlacementDecided:
    """The decision as a message; nobody looks at the signature here."""
    batch = decision.batch
    header = msgspec.convert(
        {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in msgspec.structs.asdict(batch).items()
        }
        | {"registry": "0x" + batch.registry.hex()},
        Header,
    )
    return PlacementDecided(
        header=header,
        payload_digest=batch.digest().hex(),
        timestamp_ms=decision.timestamp_ms,
        public_key="66" * 32,
        signature="77" * 64,
        simulated=True,
        leaves=tuple(msgspec.convert(msgspec.structs.asdict(leaf), DecidedLeaf) for leaf in decision.leaves),
        preemptions=tuple(
            msgspec.convert(msgspec.to_builtins(plan), DecidedPreemption) for plan in decision.preemptions
        ),
    )


class Loop:
    """All parts but the bus and the chain: what is appended is decided at once, what is decided is anchored at once."""

    def __init__(self, cluster: Any, facts: Any, anchor: Callable[..., Any], *, expires_ms: int = 60_000) -> None:
        self.cluster, self.facts, self.anchor = cluster, facts, anchor
        policy = Policy(expires_ms=expires_ms, grace_ms=0, backoff_min_ms=100, backoff_max_ms=200)
        self.scheduler = Scheduler(Genesis(chain=b"\x01" * 32, registry=b"\x02" * 32, policy=policy))
        self.entries = 0
        self.decisions: list[PlacementDecided] = []
        self.reasons: list[str] = []
        registry = CollectorRegistry()
        client = cluster.client
        self.cache = ClusterCache("k3s-daas")
        self.appender = LogAppender(
            self._publish,
            now_ms,
            wants_tick=lambda: True,
            limits=AppenderLimits(window_s=0.002, tick_s=0.05),
            metrics=AppenderMetrics(registry),
        )
        self.watcher = ClusterWatcher(
            client, self.cache, self.appender, now_ms, metrics=WatchMetrics(registry), surroundings=True
        )
        surroundings = self.watcher.surroundings
        assert surroundings is not None
        reporter = Reporter(client, self.cache, now_ms, metrics=ReporterMetrics(registry))
        self.binder = Binder(
            bus=lambda: facts,
            pods=PodBinder(client, self.cache, now_ms, retry_first_s=0.01),
            cache=self.cache,
            append=self._append,
            reporter=reporter,
            ready=self.watcher.wait_complete,
            metrics=BinderMetrics(registry),
            volumes=VolumeBinder(client, self.cache, surroundings, now_ms),
            evictor=Evictor(client, self.cache, self._append, now_ms, metrics=EvictionMetrics(registry)),
        )
        watcher = self.watcher
        runs = (watcher.follow_nodes(), watcher.follow_pods(), watcher.follow_surroundings(), self.appender.run())
        self._tasks = [asyncio.create_task(run) for run in (*runs, reporter.run())]
        self._handlers: set[asyncio.Task[None]] = set()

    async def _append(self, event: msgspec.Struct) -> int:
        self.reasons.append(str(getattr(event, "reason", "")))
        return await self.appender.append(event)

    async def _publish(self, body: bytes, message_id: str, time_ms: int) -> int:
        self.entries += 1
        applied = self.scheduler.apply(self.entries, body)
        assert not applied.refused, applied.refused
        if applied.decision is not None:
            decided = message_of(applied.decision)
            check_decided(decided)
            self.decisions.append(decided)
            self.facts.put_decided(decided.header.sequence, decided)
            anchored = self.anchor(decided, decided.header.sequence)
            task = asyncio.create_task(self.binder.on_anchored(Event(anchored, 1, {}, 0, 1, b"", None)))
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        return self.entries

    async def stop(self) -> None:
        for task in (*self._tasks, *self._handlers):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._handlers, return_exceptions=True)
        await self.binder.stop()

    async def post(self, path: str, body: dict[str, Any]) -> None:
        await self.cluster.client.request("POST", path, body=body)

    async def get(self, path: str) -> Any:
        return json.loads(await self.cluster.client.request("GET", path))

    async def until(self, path: str, holds: Callable[[Any], object], what: str) -> Any:
        try:
            async with asyncio.timeout(100):
                while True:
                    found = await self.get(path)
                    if holds(found):
                        return found
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what}: {found}; {self.reasons}; {self.decisions[-1:]}") from None

    async def node(self, name: str) -> None:
        labels = {"kubernetes.io/hostname": name}
        allocatable = {"cpu": "2", "memory": "4Gi", "pods": "10"}
        node = {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}}
        await self.post("/api/v1/nodes", node)

    async def pod(self, name: str, *, cpu: str = "100m", claim: str = "", labels: Any = None, **spec: Any) -> None:
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
        container = {"name": "main", "image": "web", "resources": {"requests": {"cpu": cpu}}}
        spec = {"schedulerName": "k3s-daas", "containers": [container], "volumes": volumes, **spec}
        await self.post(f"{DEFAULT}/pods", {"metadata": {"name": name, "labels": labels or {}}, "spec": spec})

    async def storage_class(self, name: str, provisioner: str) -> None:
        body = {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"}
        await self.post("/apis/storage.k8s.io/v1/storageclasses", body)

    async def claim(self, name: str, storage_class: str) -> None:
        requests = {"requests": {"storage": "1Gi"}}
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class, "resources": requests}
        await self.post(f"{DEFAULT}/persistentvolumeclaims", {"metadata": {"name": name}, "spec": spec})

    async def placed(self, name: str) -> str:
        found = await self.until(f"{DEFAULT}/pods/{name}", lambda pod: pod["spec"].get("nodeName"), f"{name} is bound")
        return str(found["spec"]["nodeName"])


@pytest.fixture
async def loop(cluster: Any, memory_facts: Any, anchor: Any) -> AsyncIterator[Loop]:
    one = Loop(cluster, memory_facts, anchor)
    yield one
    await one.stop()


async def test_a_pod_with_a_claim_that_waits_for_it_is_bound_once_its_volume_is_made_on_its_node(loop: Loop) -> None:
    await loop.node("n1")
    await loop.storage_class("local-path", "rancher.io/local-path")
    await loop.claim("data", "local-path")
    await loop.pod("web", claim="data")
    assert await loop.placed("web") == "n1"
    claim = await loop.get(f"{DEFAULT}/persistentvolumeclaims/data")
    assert claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "n1"
    assert claim["status"]["phase"] == "Bound"
    volume = await loop.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
    assert volume["metadata"]["annotations"]["k3s-daas.io/simulated"] == "true"


async def test_a_volume_made_by_hand_is_set_aside_for_the_claim_of_the_pod_that_needs_it(loop: Loop) -> None:
    for name in ("n1", "n2"):
        await loop.node(name)
    await loop.storage_class("by-hand", "kubernetes.io/no-provisioner")
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    spec = {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand"}
    volume = {"metadata": {"name": "disk"}, "spec": {**spec, "nodeAffinity": affinity, "local": {"path": "/disk"}}}
    await loop.post("/api/v1/persistentvolumes", volume)
    await loop.claim("data", "by-hand")
    await loop.pod("db", claim="data")
    assert await loop.placed("db") == "n2"
    assert (await loop.get("/api/v1/persistentvolumes/disk"))["spec"]["claimRef"]["name"] == "data"


async def test_a_volume_that_never_comes_holds_up_nobody_and_its_pod_is_decided_again(
    cluster: Any, memory_facts: Any, anchor: Any
) -> None:
    loop = Loop(cluster, memory_facts, anchor, expires_ms=1_500)
    try:
        await loop.node("n1")
        await loop.storage_class("nobody", "nobody.example/makes-none")
        await loop.claim("data", "nobody")
        await loop.pod("stuck", claim="data")
        await loop.pod("free")
        assert await loop.placed("free") == "n1"

        def decided_often(_: Any) -> bool:
            return sum(leaf.name == "stuck" for decided in loop.decisions for leaf in decided.leaves) > 1

        await loop.until(f"{DEFAULT}/pods/stuck", decided_often, "the pod is decided again")
        assert "volume-not-bound" in loop.reasons
    finally:
        await loop.stop()


async def crowded(loop: Loop, *, available: int) -> None:
    """A full node whose two pods of low priority are under a budget."""
    await loop.node("n1")
    for name, value in (("low", 1), ("high", 1000)):
        priority = {"metadata": {"name": name}, "value": value}
        await loop.post("/apis/scheduling.k8s.io/v1/priorityclasses", priority)
    for name in ("a", "b"):
        await loop.pod(name, cpu="1", labels={"app": "web"}, priorityClassName="low")
        await loop.placed(name)
    selector = {"matchLabels": {"app": "web"}}
    budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": available, "selector": selector}}
    await loop.post(BUDGETS, budget)


async def check_one_was_evicted(loop: Loop) -> None:
    assert await loop.placed("urgent") == "n1"
    plans = [plan for decided in loop.decisions for plan in decided.preemptions]
    assert [victim.name in {"a", "b"} for plan in plans for victim in plan.victims] == [True]
    with pytest.raises(KubeNotFound):
        await loop.get(f"{DEFAULT}/pods/{plans[0].victims[0].name}")


async def test_a_signed_plan_evicts_what_a_budget_allows_and_the_pod_gets_its_place(loop: Loop) -> None:
    await crowded(loop, available=1)
    await loop.pod("urgent", cpu="1", priorityClassName="high")
    await check_one_was_evicted(loop)


@pytest.mark.parametrize("change", ["grows", "is deleted"])
async def test_a_pod_that_only_a_budget_kept_waiting_gets_its_place_when_the_budget(loop: Loop, change: str) -> None:
    await crowded(loop, available=2)
    objects, key = loop.scheduler._state.objects, ("PodDisruptionBudget", "default", "web")
    await loop.until("/api/v1/nodes/n1", lambda _: key in objects, "the budget is known")
    await loop.pod("urgent", cpu="1", priorityClassName="high")

    def refused(_: object) -> bool:
        return any(leaf.name == "urgent" for decided in loop.decisions for leaf in decided.leaves)

    await loop.until(f"{DEFAULT}/pods/urgent", refused, "the pod is decided")
    assert not any(decided.preemptions for decided in loop.decisions)
    if change == "grows":
        body, merge = {"spec": {"minAvailable": 1}}, "application/merge-patch+json"
        await loop.cluster.client.request("PATCH", f"{BUDGETS}/web", body=body, content_type=merge)
    else:
        await loop.cluster.client.request("DELETE", f"{BUDGETS}/web")
    await check_one_was_evicted(loop)


async def test_a_group_evicts_nobody_until_budgets_leave_room_for_all_of_it(loop: Loop) -> None:
    await crowded(loop, available=1)
    objects, key = loop.scheduler._state.objects, ("PodDisruptionBudget", "default", "web")
    await loop.until("/api/v1/nodes/n1", lambda _: key in objects, "the budget is known")
    group = {"metadata": {"name": "pair"}, "spec": {"minMember": 2}}
    await loop.post("/apis/scheduling.x-k8s.io/v1alpha1/namespaces/default/podgroups", group)
    names = {"first", "second"}
    for name in sorted(names):
        await loop.pod(name, cpu="1", priorityClassName="high", labels={"scheduling.x-k8s.io/pod-group": "pair"})

    def refused(_: object) -> bool:
        return any(
            leaf.name in names and Reason.GANG_DOES_NOT_FIT in Reason(leaf.reasons)
            for decided in loop.decisions
            for leaf in decided.leaves
        )

    await loop.until(f"{DEFAULT}/pods/first", refused, "the group is decided whole")
    assert not any(decided.preemptions for decided in loop.decisions)
    await loop.cluster.client.request("DELETE", f"{BUDGETS}/web")
    assert {await loop.placed(name) for name in names} == {"n1"}
    (plans,) = [decided.preemptions for decided in loop.decisions if decided.preemptions]
    assert {victim.name for plan in plans for victim in plan.victims} == {"a", "b"}
    (together,) = [
        placed
        for decided in loop.decisions
        if (placed := {leaf.name for leaf in decided.leaves if leaf.node and leaf.name in names})
    ]
    assert together == names


async def test_accounts_of_namespaces_storage_and_budgets_reach_the_engine(loop: Loop) -> None:
    account = "0x" + "ab" * 32
    await loop.node("n1")
    annotated = {"metadata": {"name": "team", "annotations": {"k3s-daas.io/account": account}}}
    await loop.post("/api/v1/namespaces", annotated)
    await loop.storage_class("local-path", "rancher.io/local-path")
    await loop.post(
        "/apis/storage.k8s.io/v1/csinodes",
        {
            "metadata": {"name": "n1"},
            "spec": {"drivers": [{"name": "ebs", "nodeID": "i", "allocatable": {"count": 3}}]},
        },
    )
    await loop.post(
        BUDGETS,
        {"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}},
    )
    objects = loop.scheduler._state.objects
    wanted = {
        ("Tenant", "", "team"),
        ("StorageClass", "", "local-path"),
        ("CSINode", "", "n1"),
        ("PodDisruptionBudget", "default", "web"),
    }
    await loop.until("/api/v1/nodes/n1", lambda _: wanted <= set(objects), "everything is in the log")
    assert objects["Tenant", "", "team"].value.account == account
    await loop.cluster.client.request(
        "PATCH",
        "/api/v1/namespaces/team",
        content_type="application/merge-patch+json",
        body={"metadata": {"annotations": {"k3s-daas.io/account": None}}},
    )
    await loop.until("/api/v1/nodes/n1", lambda _: ("Tenant", "", "team") not in objects, "the tenant is gone")
