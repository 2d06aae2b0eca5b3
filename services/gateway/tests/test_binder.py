"""The binder against a real API server: every state a pod or node can be in by the time its decision is anchored."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from daas.common.bus import Event
from daas.common.errors import NotFound, Refused, Unavailable
from daas.common.messages import PlacementAnchored
from daas.gateway.appender import AppenderLimits, AppenderMetrics, LogAppender
from daas.gateway.binder import Binder, BinderMetrics
from daas.gateway.binding import PodBinder
from daas.gateway.cache import ClusterCache
from daas.gateway.events import REPEAT_MS, Report, Reporter, ReporterMetrics
from daas.gateway.watcher import ClusterWatcher, WatchMetrics
from daas.kube import KubeClient
from daas.placement.log import BindFailed
from daas.placement.reasons import Reason


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Rig:
    """A binder with its live view, against one API server; facts and the log in memory."""

    def __init__(self, client: KubeClient, facts: Any, *, watching: bool = True, attempts_max: int = 3) -> None:
        self.facts = facts
        self.failed_events: list[BindFailed] = []
        self.registry = CollectorRegistry()
        self.cache = ClusterCache("k3s-daas")
        appender = LogAppender(
            self._swallow,
            now_ms,
            wants_tick=lambda: False,
            limits=AppenderLimits(),
            metrics=AppenderMetrics(self.registry),
        )
        self.watcher = ClusterWatcher(client, self.cache, appender, now_ms, metrics=WatchMetrics(self.registry))
        self.later_ms = 0
        self.reporter = Reporter(
            client, self.cache, lambda: now_ms() + self.later_ms, metrics=ReporterMetrics(self.registry)
        )
        self.binder = Binder(
            bus=lambda: facts,
            pods=PodBinder(client, self.cache, now_ms, attempts_max=attempts_max, retry_first_s=0.01),
            cache=self.cache,
            append=self._append,
            reporter=self.reporter,
            ready=self.watcher.wait_complete,
            metrics=BinderMetrics(self.registry),
        )
        runs = [appender.run(), self.reporter.run()]
        if watching:
            runs += [self.watcher.follow_nodes(), self.watcher.follow_pods()]
        self._tasks = [asyncio.create_task(run) for run in runs]

    async def _swallow(self, body: bytes, message_id: str, time_ms: int) -> int:
        return 1

    async def _append(self, event: BindFailed) -> int:
        self.failed_events.append(event)
        return 1

    async def deliver(self, anchored: PlacementAnchored, deliveries: int = 1) -> None:
        await self.binder.on_anchored(Event(anchored, 1, {}, 0, deliveries, b"", None))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def bound(self) -> list[tuple[str, str]]:
        return sorted((fact.name, fact.node) for fact in self.facts.named("placement.bound"))

    @property
    def failed(self) -> list[tuple[str, str]]:
        return sorted((fact.name, fact.reason) for fact in self.facts.named("placement.bind_failed"))

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def rig(apiserver: Any, memory_facts: Any) -> AsyncIterator[Any]:
    running: list[tuple[Rig, KubeClient]] = []

    async def start(kubeconfig: Path | None = None, **options: Any) -> Rig:
        client = await KubeClient.connect(kubeconfig or apiserver.kubeconfig)
        running.append((Rig(client, memory_facts, **options), client))
        if options.get("watching", True):
            await running[-1][0].watcher.wait_complete()
        return running[-1][0]

    yield start
    for one, client in running:
        await one.stop()
        await client.close()


@pytest.fixture
def anchored(memory_facts: Any, decide: Any, anchor: Any) -> Any:
    """Stores a decision and returns its anchor."""

    def make(sequence: int, places: list[tuple[str, str, str | None]], **options: Any) -> PlacementAnchored:
        decided = decide(sequence, places, **options)
        memory_facts.put_decided(100 + sequence, decided)
        found: PlacementAnchored = anchor(decided, 100 + sequence)
        return found

    return make


@pytest.mark.connected
async def test_a_batch_is_bound_with_its_proof_in_the_annotations(cluster: Any, rig: Any, anchored: Any) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    uids = [await cluster.pod(name) for name in ("a", "b", "c")]
    one = await rig()
    body = anchored(7, [(uids[0], "a", "n1"), (uids[1], "b", "n2"), (uids[2], "c", "n1")])
    await one.deliver(body)
    assert one.bound == [("a", "n1"), ("b", "n2"), ("c", "n1")]
    for index, (name, node) in enumerate(one.bound):
        pod = await cluster.get_pod(name)
        assert pod["spec"]["nodeName"] == node
        assert {k: v for k, v in pod["metadata"]["annotations"].items() if k.startswith("k3s-daas.io/")} == {
            "k3s-daas.io/proof": f"7/{index}",
            "k3s-daas.io/payload-digest": body.payload_digest,
            "k3s-daas.io/anchor-tx": body.tx_digest,
            "k3s-daas.io/simulated": "true",
        }
    (fact,) = [fact for fact in one.facts.named("placement.bound") if fact.name == "a"]
    assert (fact.pod_uid, fact.sequence, fact.index, fact.simulated) == (uids[0], 7, 0, True)
    assert fact.decided_ms == 1_000
    assert fact.anchored_ms == 2_000
    assert 0 < fact.created_ms <= fact.bound_ms
    assert not one.failed
    assert one.binder.last_sequence == 7


@pytest.mark.connected
async def test_room_that_someone_else_took_is_not_taken_again(
    cluster: Any, rig: Any, anchored: Any, until: Any
) -> None:
    await cluster.node("n1", cpu="1")
    uid = await cluster.pod("mine", cpu="600m")
    one = await rig()
    await cluster.pod("theirs", cpu="600m", scheduler="default-scheduler", nodeName="n1")
    await until(lambda: one.cache.taken("n1"), "the other pod was not seen")
    await one.deliver(anchored(1, [(uid, "mine", "n1")]))
    assert one.failed == [("mine", "capacity")]
    assert [(event.uid, event.sequence, event.node, event.reason) for event in one.failed_events] == [
        (uid, 1, "n1", "capacity")
    ]
    assert "nodeName" not in (await cluster.get_pod("mine"))["spec"]


@pytest.mark.connected
async def test_a_batch_that_overbooks_a_node_binds_only_what_fits(cluster: Any, rig: Any, anchored: Any) -> None:
    await cluster.node("n1", cpu="1")
    uids = {name: await cluster.pod(name, cpu="400m") for name in "abcd"}
    one = await rig()
    await one.deliver(anchored(1, [(uid, name, "n1") for name, uid in uids.items()]))
    assert [name for name, _ in one.bound] == ["a", "b"]
    assert one.failed == [("c", "capacity"), ("d", "capacity")]


@pytest.mark.connected
@pytest.mark.parametrize(("change", "reason"), [("gone", "node-gone"), ("cordoned", "node-unschedulable")])
async def test_a_node_that_is_gone_or_cordoned_gets_no_pod(
    cluster: Any, rig: Any, anchored: Any, until: Any, change: str, reason: str
) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("mine")
    one = await rig()
    if change == "gone":
        await cluster.delete_node("n1")
        await until(lambda: not one.cache.nodes, "the deletion was not seen")
    else:
        await cluster.patch_node("n1", {"spec": {"unschedulable": True}})
        await until(lambda: one.cache.nodes["n1"].spec.unschedulable, "the cordon was not seen")
    await one.deliver(anchored(1, [(uid, "mine", "n1")]))
    assert one.failed == [("mine", reason)]
    assert "nodeName" not in (await cluster.get_pod("mine"))["spec"]


@pytest.mark.connected
@pytest.mark.parametrize("seen", [True, False], ids=["seen by the watch", "before the watch sees it"])
async def test_a_pod_created_again_under_its_name_is_not_bound(
    cluster: Any, rig: Any, anchored: Any, until: Any, seen: bool
) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("twin")
    one = await rig()
    if not seen:
        await one.stop()
    await cluster.delete_pod("twin")
    other = await cluster.pod("twin")
    if seen:
        await until(lambda: list(one.cache.pods) == [other], "the second pod was not seen")
    await one.deliver(anchored(1, [(uid, "twin", "n1")]))
    assert one.failed == [("twin", "pod-gone")]
    assert "nodeName" not in (await cluster.get_pod("twin"))["spec"]
    assert one.cache.reservations == 0


@pytest.mark.connected
async def test_a_pod_deleted_behind_the_watch_is_gone(cluster: Any, rig: Any, anchored: Any) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("brief")
    one = await rig()
    await one.stop()
    await cluster.delete_pod("brief")
    await one.deliver(anchored(1, [(uid, "brief", "n1")]))
    assert one.failed == [("brief", "pod-gone")]


@pytest.mark.connected
async def test_an_expired_decision_binds_nothing(cluster: Any, rig: Any, anchored: Any) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("late")
    one = await rig()
    await one.deliver(anchored(1, [(uid, "late", "n1")], expires_ms=now_ms() - 1))
    assert one.failed == [("late", "expired")]
    assert "nodeName" not in (await cluster.get_pod("late"))["spec"]


@pytest.mark.connected
@pytest.mark.parametrize("seen", [True, False], ids=["seen by the watch", "told by a 409"])
async def test_a_pod_that_stands_on_its_node_already_is_bound(
    cluster: Any, rig: Any, anchored: Any, until: Any, seen: bool
) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("again")
    one = await rig()
    if not seen:
        await one.stop()
    await cluster.bind("again", "n1")
    if seen:
        await until(lambda: one.cache.pods[uid].spec.node_name, "the binding was not seen")
    await one.deliver(anchored(1, [(uid, "again", "n1")], expires_ms=now_ms() - 1 if seen else 2**52))
    assert one.bound == [("again", "n1")]
    assert not one.failed


@pytest.mark.connected
@pytest.mark.parametrize("seen", [True, False], ids=["seen by the watch", "told by a 409"])
async def test_a_pod_that_stands_elsewhere_is_a_conflict(
    cluster: Any, rig: Any, anchored: Any, until: Any, seen: bool
) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    uid = await cluster.pod("taken")
    one = await rig()
    if not seen:
        await one.stop()
    await cluster.bind("taken", "n2")
    if seen:
        await until(lambda: one.cache.pods[uid].spec.node_name, "the binding was not seen")
    await one.deliver(anchored(1, [(uid, "taken", "n1")]))
    assert one.failed == [("taken", "conflict")]
    assert (await cluster.get_pod("taken"))["spec"]["nodeName"] == "n2"
    assert one.cache.reservations == 0


@pytest.mark.connected
async def test_a_crash_between_binding_and_fact_is_made_good_by_the_redelivery(
    cluster: Any, rig: Any, anchored: Any, memory_facts: Any
) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("a")
    first = await rig()
    memory_facts.refusals = 1
    body = anchored(1, [(uid, "a", "n1")])
    with pytest.raises(Unavailable):
        await first.deliver(body)
    assert (await cluster.get_pod("a"))["spec"]["nodeName"] == "n1"
    assert first.bound == []
    await first.stop()

    second = await rig()
    await second.deliver(body, deliveries=2)
    assert second.bound == [("a", "n1")]
    assert not second.failed


@pytest.mark.connected
async def test_what_is_settled_is_not_settled_again_when_the_rest_of_the_message_failed(
    cluster: Any, rig: Any, anchored: Any, memory_facts: Any
) -> None:
    await cluster.node("n1", cpu="1")
    uids = {name: await cluster.pod(name, cpu="600m") for name in "ab"}
    one = await rig()
    body = anchored(1, [(uid, name, "n1") for name, uid in uids.items()])
    memory_facts.refusals = 1
    with pytest.raises(Unavailable):
        await one.deliver(body)
    await one.deliver(body, deliveries=2)
    await one.deliver(body, deliveries=3)
    assert one.bound == [("a", "n1")]
    assert one.failed == [("b", "capacity")]
    assert len(one.facts.facts) == 2


@pytest.mark.connected
async def test_only_the_decision_that_was_anchored_is_carried_out(
    cluster: Any, rig: Any, anchored: Any, memory_facts: Any, decide: Any
) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    uid = await cluster.pod("a")
    one = await rig()
    body = anchored(1, [(uid, "a", "n1")])
    honest = decide(1, [(uid, "a", "n1")])
    forged_leaf = msgspec.structs.replace(honest.leaves[0], node="n2")
    for decided, reason in (
        (msgspec.structs.replace(honest, leaves=(forged_leaf,)), "decisions-root"),
        (msgspec.structs.replace(honest, leaves=()), "leaf-count"),
        (msgspec.structs.replace(honest, payload_digest="00" * 32), "payload-digest"),
        (decide(1, [(uid, "a", "n2")]), "not-the-anchored-decision"),
    ):
        memory_facts.put_decided(101, decided)
        with pytest.raises(Refused) as refusal:
            await one.deliver(body)
        assert refusal.value.reason == reason
    memory_facts.put_decided(101, honest)
    with pytest.raises(Refused):
        await one.deliver(msgspec.structs.replace(body, sequence=2))
    with pytest.raises(NotFound):
        await one.deliver(msgspec.structs.replace(body, decided_sequence=999))
    assert not one.facts.facts
    assert "nodeName" not in (await cluster.get_pod("a"))["spec"]


@pytest.mark.connected
async def test_a_pod_without_a_node_is_told_why_once(cluster: Any, rig: Any, anchored: Any) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("huge", cpu="64")
    one = await rig()
    for sequence in (1, 2):
        await one.deliver(anchored(sequence, [(uid, "huge", None)], reasons=int(Reason.INSUFFICIENT_CPU)))
        await one.reporter.settled()
    pod = await cluster.get_pod("huge")
    (condition,) = [found for found in pod["status"]["conditions"] if found["type"] == "PodScheduled"]
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"] == "0/1 nodes are available: insufficient cpu"
    (event,) = [found for found in await cluster.events() if found["reason"] == "FailedScheduling"]
    assert (event["type"], event["message"]) == ("Warning", condition["message"])
    assert not one.facts.facts
    assert one.count("daas_gateway_reports_total", kind="event") == 1
    one.later_ms = REPEAT_MS  # it still waits, and people should see that it does
    await one.deliver(anchored(3, [(uid, "huge", None)], reasons=int(Reason.INSUFFICIENT_CPU)))
    await one.reporter.settled()
    (event,) = [found for found in await cluster.events() if found["reason"] == "FailedScheduling"]
    assert event["series"]["count"] == 2


@pytest.mark.connected
async def test_a_bound_pod_gets_its_event(cluster: Any, rig: Any, anchored: Any) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("a")
    one = await rig()
    await one.deliver(anchored(1, [(uid, "a", "n1")]))
    await one.reporter.settled()
    (event,) = [found for found in await cluster.events() if found["reason"] == "Scheduled"]
    assert event["message"] == "Successfully assigned default/a to n1"
    assert event["involvedObject"]["uid"] == uid


@pytest.mark.connected
async def test_a_late_report_never_unsays_that_a_pod_is_scheduled(
    cluster: Any, rig: Any, anchored: Any, until: Any
) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("a")
    one = await rig()
    await one.stop()
    await cluster.bind("a", "n1")
    other = await rig(watching=False)
    other.cache.put_pod(one.cache.pods[uid], now_ms())
    other.watcher._both.set()
    await other.deliver(anchored(1, [(uid, "a", None)], reasons=int(Reason.INSUFFICIENT_CPU)))
    await other.reporter.settled()
    pod = await cluster.get_pod("a")
    (condition,) = [found for found in pod["status"]["conditions"] if found["type"] == "PodScheduled"]
    assert condition["status"] == "True"
    assert other.count("daas_gateway_reports_failed_total", kind="condition", reason="kube-conflict") == 1


@pytest.mark.connected
async def test_an_api_server_that_stays_away_fails_the_binding_after_bounded_attempts(
    apiserver: Any, cluster: Any, rig: Any, anchored: Any
) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("a")
    one = await rig()
    await apiserver.kill()
    await one.deliver(anchored(1, [(uid, "a", "n1")]))
    assert one.failed == [("a", "api-error")]
    assert one.cache.reservations == 0


@pytest.mark.connected
async def test_while_bindings_wait_what_could_not_be_placed_is_told_first(cluster: Any, rig: Any, until: Any) -> None:
    one = await rig()
    registry = CollectorRegistry()

    def posted() -> float:
        return registry.get_sample_value("daas_gateway_reports_total", {"kind": "event"}) or 0.0

    async def never() -> None:
        await asyncio.Event().wait()

    reporter = Reporter(cluster.client, one.cache, now_ms, metrics=ReporterMetrics(registry), quiet=never)
    for n in range(5):
        reporter.report(Report(f"u{n}", "default", f"placed-{n}", "n1", "placed"))
    told = asyncio.create_task(reporter.told(Report("u", "default", "waits", None, "no node would do")))
    await until(lambda: registry.get_sample_value("daas_gateway_reports_waiting") == 6, "not in line")
    running = asyncio.create_task(reporter.run())
    await told
    assert posted() == 1
    await until(lambda: posted() == 6, "what was placed is told in the end")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
