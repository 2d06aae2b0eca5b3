"""The binder: an anchored decision becomes bindings, each checked against the cluster as it is now.

A message is settled leaf by leaf and acknowledged only when every leaf's fact (and, for a failure, its log event) is
stored. What happens after a crash is decided by the API server: a pod that already stands on the decided node is
bound, whoever sent that binding; every other state of the pod is a failed bind that goes back into the log.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from daas.common.bus import Event
from daas.common.decision import check_decided
from daas.common.errors import DaasError, Refused
from daas.common.messages import (
    BoundPod,
    DecidedLeaf,
    PlacementAnchored,
    PlacementBindFailed,
    PlacementDecided,
    decode,
)
from daas.common.subjects import PLACEMENT_BIND_FAILED, PLACEMENT_DECIDED, Stream
from daas.common.tracing import span
from daas.gateway.binding import Attempt, Bound, Failed, PodBinder
from daas.gateway.boundfacts import BoundFacts, FactBus, Telling
from daas.gateway.cache import ClusterCache
from daas.gateway.events import Report, Reporter
from daas.gateway.evictions import Evictor
from daas.gateway.volumes import VolumeBinder
from daas.placement.log import BindFailed
from daas.placement.reasons import Reason, sentence

#: Leaves whose outcome is remembered, for messages that come again while this process lives.
SETTLED_MAX: Final = 65_536
#: Pods whose volumes are waited for; more fail to bind for now and are decided again.
WAITING_FOR_VOLUMES_MAX: Final = 512


@dataclass(slots=True)
class BinderMetrics:
    """What the binder counts."""

    registry: CollectorRegistry
    bound: Counter = field(init=False)
    failed: Counter = field(init=False)
    unschedulable: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    limit: Gauge = field(init=False)

    def __post_init__(self) -> None:
        registry = self.registry
        self.bound = Counter("daas_gateway_bound", "Pods bound to the node their decision names", registry=registry)
        self.failed = Counter("daas_gateway_bind_failed", "Decisions not carried out", ["reason"], registry=registry)
        self.unschedulable = Counter(
            "daas_gateway_unschedulable", "Leaves of anchored decisions without a node", registry=registry
        )
        self.seconds = Histogram(
            "daas_gateway_bind_seconds",
            "From the anchor to the binding",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.limit = Gauge(
            "daas_gateway_bind_limit",
            "Bindings that the API server is given at once, found by itself",
            registry=registry,
        )


class Binder:
    """Carries out anchored decisions.

    Args:
        bus: where decisions are fetched and facts are stored.
        pods: makes one binding.
        cache: the live view, for the number of nodes.
        append: puts a bind_failed event into the log and waits until it stands there.
        reporter: told what people should see.
        ready: waits until the cache may be relied on.
        witness: says whether the anchor stands on the ledger; raises where it does not, or where nobody can tell.
        permit: asked right before each binding; raises Unavailable where another gateway may be binding by now.
        volumes: makes the volumes of pods with claims ready first.
        evictor: carries out plans of preemption.
    """

    def __init__(
        self,
        *,
        bus: Callable[[], FactBus],
        pods: PodBinder,
        cache: ClusterCache,
        append: Callable[[BindFailed], Awaitable[int]],
        reporter: Reporter,
        ready: Callable[[], Awaitable[None]],
        metrics: BinderMetrics,
        witness: Callable[[PlacementAnchored], Awaitable[None]] | None = None,
        permit: Callable[[], None] = lambda: None,
        volumes: VolumeBinder | None = None,
        evictor: Evictor | None = None,
    ) -> None:
        self._bus = bus
        self._facts = BoundFacts(bus)
        self._volumes = volumes
        self._evictor = evictor
        self._waiting: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._pods = pods
        self._cache = cache
        self._append = append
        self._reporter = reporter
        self._ready = ready
        self._metrics = metrics
        self._witness = witness
        self._permit = permit
        metrics.limit.set_function(lambda: pods.concurrency.limit)
        self._settled: OrderedDict[tuple[str, int], None] = OrderedDict()
        self.last_sequence = 0

    async def on_anchored(self, event: Event[PlacementAnchored]) -> None:
        """Settles every leaf of an anchored decision.

        Raises:
            Refused, DecodeError: the decision is not the one that was anchored, or the ledger does not hold it;
                nothing was bound.
            NotFound, Unavailable: something could not be reached; settled leaves stay settled.
        """
        anchored = event.body
        decided, decided_ms = await self._decided(anchored)
        if self._witness is not None:
            await self._witness(anchored)
        await self._ready()
        telling = await self._telling(anchored, event.sequence, decided, decided_ms)
        try:
            jobs = (self._settle(telling, decided, index) for index in range(len(decided.leaves)))
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
            await telling.finish()
        finally:
            self._facts.end(telling)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if self._evictor is not None:
            self._evictor.start(decided)
        self.last_sequence = max(self.last_sequence, anchored.sequence)

    async def _telling(
        self, anchored: PlacementAnchored, since: int, decided: PlacementDecided, decided_ms: int
    ) -> Telling:
        return await self._facts.telling(
            anchored,
            since,
            decided_ms=decided_ms,
            simulated=anchored.simulated or decided.simulated,
            stored=lambda index: self._remember((anchored.payload_digest, index)),
        )

    async def stop(self) -> None:
        """Ends waits for volumes; what the engine assumed lapses, and is decided again."""
        tasks = list(self._waiting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._evictor is not None:
            await self._evictor.stop()

    async def _decided(self, anchored: PlacementAnchored) -> tuple[PlacementDecided, int]:
        bus = self._bus()
        stored = await bus.fetch(Stream.PLACEMENT, anchored.decided_sequence)
        if stored.subject != PLACEMENT_DECIDED.full(bus.cluster):
            raise Refused(
                f"message {anchored.decided_sequence} is on {stored.subject}, not a decision",
                reason="not-a-decision",
                field="decided_sequence",
            )
        decided = decode(stored.data, PlacementDecided)
        digest = check_decided(decided).hex()
        if digest != anchored.payload_digest or decided.header.sequence != anchored.sequence:
            raise Refused(
                f"message {anchored.decided_sequence} is decision {decided.header.sequence} {digest}, "
                f"anchored was {anchored.sequence} {anchored.payload_digest}",
                reason="not-the-anchored-decision",
                field="payload_digest",
            )
        return decided, stored.time_ms

    async def _settle(self, telling: Telling, decided: PlacementDecided, index: int) -> None:
        anchored = telling.anchored
        key = (anchored.payload_digest, index)
        if key in self._settled or key in self._waiting:
            return
        leaf = decided.leaves[index]
        if leaf.node is None:
            self._metrics.unschedulable.inc()
            message = sentence(leaf.reasons, len(self._cache.nodes))
            # The engine decides this pod again only when something can help it: a report lost now is lost for good.
            await self._reporter.told(Report(leaf.pod_uid, leaf.namespace, leaf.name, None, message))
            if self._evictor is not None and not leaf.reasons & Reason.PREEMPTION_PLANNED:
                await self._evictor.forget(leaf.pod_uid, leaf.namespace, leaf.name)
            self._remember(key)
            return
        attempt = Attempt(
            uid=leaf.pod_uid,
            namespace=leaf.namespace,
            name=leaf.name,
            node=leaf.node,
            expires_ms=decided.header.expires_ms,
            annotations={
                "k3s-daas.io/proof": f"{anchored.sequence}/{index}",
                "k3s-daas.io/payload-digest": anchored.payload_digest,
                "k3s-daas.io/anchor-tx": anchored.tx_digest,
                "k3s-daas.io/simulated": "true" if telling.simulated else "false",
            },
        )
        self._permit()
        if self._volumes is None or not self._volumes.concerns(leaf.pod_uid):
            await self._bind(telling, leaf, attempt, index)
        elif len(self._waiting) < WAITING_FOR_VOLUMES_MAX:
            # The message is let go of: were this process to end, the placement lapses and is decided again.
            alone = await self._telling(anchored, telling.since, decided, telling.decided_ms)
            self._waiting[key] = asyncio.create_task(self._bind_later(self._volumes, alone, leaf, attempt, index))
            self._waiting[key].add_done_callback(lambda _: self._waiting.pop(key, None))
        else:
            busy = Failed("volume-not-bound", f"the volumes of {WAITING_FOR_VOLUMES_MAX} pods are waited for")
            await self._failed(telling, leaf, busy, index)

    async def _bind_later(
        self, volumes: VolumeBinder, telling: Telling, leaf: DecidedLeaf, attempt: Attempt, index: int
    ) -> None:
        """Binds a pod once its volumes are there."""
        try:
            failed = await volumes.prepare(attempt)
            if failed is not None:
                await self._failed(telling, leaf, failed, index)
            else:
                self._permit()
                await self._bind(telling, leaf, attempt, index)
            await telling.finish()
        except DaasError as error:
            self._metrics.failed.labels(error.reason).inc()  # the engine lets the placement lapse
        finally:
            self._facts.end(telling)

    async def _bind(self, telling: Telling, leaf: DecidedLeaf, attempt: Attempt, index: int) -> None:
        with span("bind", pod_uid=leaf.pod_uid, pod_namespace=leaf.namespace, pod_name=leaf.name, node=attempt.node):
            outcome = await self._pods.bind(attempt)
            if isinstance(outcome, Bound):
                self._bound(telling, leaf, outcome, index)
            else:
                await self._failed(telling, leaf, outcome, index)

    def _remember(self, key: tuple[str, int]) -> None:
        self._settled[key] = None
        if len(self._settled) > SETTLED_MAX:
            self._settled.popitem(last=False)

    def _bound(self, telling: Telling, leaf: DecidedLeaf, outcome: Bound, index: int) -> None:
        assert leaf.node is not None
        pod = BoundPod(
            pod_uid=leaf.pod_uid,
            namespace=leaf.namespace,
            name=leaf.name,
            node=leaf.node,
            index=index,
            created_ms=outcome.created_ms,
            bound_ms=outcome.bound_ms,
        )
        telling.add(pod, now=outcome.now)
        self._metrics.bound.inc()
        self._metrics.seconds.observe(max(0, outcome.bound_ms - telling.anchored.timestamp_ms) / 1000)
        told = f"Successfully assigned {leaf.namespace}/{leaf.name} to {leaf.node}"
        self._reporter.report(Report(leaf.pod_uid, leaf.namespace, leaf.name, leaf.node, told))

    async def _failed(self, telling: Telling, leaf: DecidedLeaf, outcome: Failed, index: int) -> None:
        assert leaf.node is not None
        anchored = telling.anchored
        await self._append(
            BindFailed(uid=leaf.pod_uid, sequence=anchored.sequence, node=leaf.node, reason=outcome.reason)
        )
        fact = PlacementBindFailed(
            pod_uid=leaf.pod_uid,
            namespace=leaf.namespace,
            name=leaf.name,
            node=leaf.node,
            sequence=anchored.sequence,
            index=index,
            reason=outcome.reason,
            message=outcome.message[:4096],
            simulated=telling.simulated,
        )
        message_id = f"bind_failed/{anchored.payload_digest}/{index}"
        await self._bus().publish(PLACEMENT_BIND_FAILED, fact, message_id=message_id)
        self._metrics.failed.labels(outcome.reason).inc()
        self._remember((anchored.payload_digest, index))
