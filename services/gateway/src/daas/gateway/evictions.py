"""Carries out signed plans of preemption: the pod is shown where it will go, and its victims are evicted.

Evictions go through the Eviction API, so that the API server judges disruption budgets at that very moment; it refuses
for now, and is asked again until the decision expires. A plan that can't be carried out goes back into the log.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from daas.common.errors import DaasError
from daas.common.logs import get_logger
from daas.common.messages import DecidedPreemption, PlacementDecided
from daas.gateway.cache import ClusterCache
from daas.kube import KubeClient, KubeConflict, KubeNotFound, KubeUnavailable, evict, patch_pod_nominated
from daas.placement.log import PreemptionFailed

log = get_logger("gateway.evictions")

#: Plans under way; a decision holds at most one for each pod of a batch.
PLANS_MAX: Final = 1024
RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 5.0


@dataclass(slots=True)
class EvictionMetrics:
    """What is counted."""

    registry: CollectorRegistry
    evicted: Counter = field(init=False)
    failed: Counter = field(init=False)

    def __post_init__(self) -> None:
        self.evicted = Counter("daas_gateway_evicted", "Pods evicted to make room", registry=self.registry)
        self.failed = Counter(
            "daas_gateway_preemptions_failed", "Plans not carried out", ["reason"], registry=self.registry
        )


class Evictor:
    """Carries out plans in the background; one that is lost with this process lapses in the engine.

    Args:
        client: the API server.
        cache: pods as they are now.
        append: puts an event into the log and waits until it stands there.
        clock_ms: Unix time in milliseconds.
        permit: asked right before each eviction; raises Unavailable where another gateway may be at work.
    """

    def __init__(
        self,
        client: KubeClient,
        cache: ClusterCache,
        append: Callable[[PreemptionFailed], Awaitable[int]],
        clock_ms: Callable[[], int],
        *,
        metrics: EvictionMetrics,
        permit: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._cache = cache
        self._append = append
        self._clock_ms = clock_ms
        self._metrics = metrics
        self._permit = permit
        self._tasks: dict[tuple[int, str], asyncio.Task[None]] = {}

    def start(self, decided: PlacementDecided) -> None:
        """Begins with all plans of an anchored decision; those under way already go on."""
        for plan in decided.preemptions:
            key = decided.header.sequence, plan.pod_uid
            if key in self._tasks:
                continue
            if len(self._tasks) >= PLANS_MAX:
                log.warning("too many plans under way", pod=plan.pod_uid)
                self._metrics.failed.labels("busy").inc()
                continue
            task = asyncio.create_task(self._carry_out(plan, decided.header.sequence, decided.header.expires_ms))
            self._tasks[key] = task
            task.add_done_callback(partial(self._done, key))

    def _done(self, key: tuple[int, str], _task: asyncio.Task[None]) -> None:
        self._tasks.pop(key, None)

    async def stop(self) -> None:
        """Ends what is under way; the engine lets it lapse."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def forget(self, uid: str, namespace: str, name: str) -> None:
        """Takes back what a pod's status says it was promised, where it says so; best effort."""
        pod = self._cache.pods.get(uid)
        if pod is not None and pod.status.nominated_node_name and not pod.spec.node_name:
            await self._nominate(uid, namespace, name, "")

    async def _carry_out(self, plan: DecidedPreemption, sequence: int, expires_ms: int) -> None:
        reason = ""
        try:
            pod = self._cache.pods.get(plan.pod_uid)
            if pod is None or pod.spec.node_name:
                return
            meta = pod.metadata
            await self._nominate(plan.pod_uid, meta.namespace, meta.name, plan.node)
            async with asyncio.timeout(max(expires_ms - self._clock_ms(), 0) / 1000):
                for victim in plan.victims:
                    await self._evict(victim.namespace, victim.name, victim.uid)
        except TimeoutError:
            reason = "expired"
        except DaasError as error:
            reason = error.reason
        if reason:
            self._metrics.failed.labels(reason).inc()
            with suppress(DaasError):
                await self._append(PreemptionFailed(uid=plan.pod_uid, sequence=sequence, reason=reason))

    async def _evict(self, namespace: str, name: str, uid: str) -> None:
        """Evicts one pod; a pod that is gone, or is another by now, has left."""
        delay_s = RETRY_FIRST_S
        while True:  # until the plan's time is over
            self._permit()
            try:
                await evict(self._client, namespace=namespace, name=name, uid=uid)
            except (KubeNotFound, KubeConflict):
                return
            except KubeUnavailable as error:
                await asyncio.sleep(max(delay_s, error.retry_after_s or 0.0))
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            else:
                self._metrics.evicted.inc()
                return

    async def _nominate(self, uid: str, namespace: str, name: str, node: str) -> None:
        try:
            await patch_pod_nominated(self._client, namespace=namespace, name=name, uid=uid, node=node)
        except DaasError as error:
            log.info("a pod's promise could not be shown", pod=f"{namespace}/{name}", error=error)
