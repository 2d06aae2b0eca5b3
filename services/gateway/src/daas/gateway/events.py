"""What people see of a placement in Kubernetes: Scheduled and FailedScheduling events, and the PodScheduled condition.

All of it is best effort: it waits in a bounded line of its own, is dropped and counted where the API server can't
take it, and never holds up a binding: while bindings wait for the API server, one report is under way at a time, what
could not be placed before what could, and of the latter twenty a second. A pod's message is reported once until it
changes, or is still true after `REPEAT_MS`: then its event counts up. Whoever must not forget a report over a crash
waits for it (`told`) before it lets go of what the report came from.
"""

import asyncio
import contextlib
import os
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from daas.common.errors import DaasError
from daas.common.logs import get_logger
from daas.gateway.cache import ClusterCache
from daas.kube import KubeClient, KubeConflict, KubeNotFound, KubeUnavailable, patch_pod_scheduled, record_event

log = get_logger("gateway.events")

#: reportingController of our events.
CONTROLLER: Final = "k3s-daas-scheduler"
#: Pods whose last message is remembered.
REMEMBERED_MAX: Final = 16_384
#: A pod that changes between our look and our patch is looked at again this often.
PATCH_ATTEMPTS_MAX: Final = 3
#: Events live for an hour by default: a pod that waits longer keeps one.
REPEAT_MS: Final = 5 * 60 * 1000
POST_ATTEMPTS_MAX: Final = 4
#: How long the news of a placement waits for bindings to be through, one after the other.
SUCCESS_WAITS_S: Final = 0.05
RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """One thing to tell about a pod; `node` is None where no node would do."""

    uid: str
    namespace: str
    name: str
    node: str | None
    message: str


@dataclass(slots=True)
class ReporterMetrics:
    """What the reporter counts."""

    registry: CollectorRegistry
    posted: Counter = field(init=False)
    failed: Counter = field(init=False)
    waiting: Gauge = field(init=False)

    def __post_init__(self) -> None:
        registry = self.registry
        self.posted = Counter(
            "daas_gateway_reports", "Events and conditions that the API server took", ["kind"], registry=registry
        )
        self.failed = Counter(
            "daas_gateway_reports_failed", "Events and conditions given up", ["kind", "reason"], registry=registry
        )
        self.waiting = Gauge("daas_gateway_reports_waiting", "Reports in line", registry=registry)


class Reporter:
    """Posts events and conditions in the background.

    Args:
        client: the API server.
        cache: tells whether a pod still waits, and in which version.
        clock_ms: Unix time in milliseconds.
        concurrency: requests in flight.
        waiting_max: reports in line; more are dropped and counted.
        quiet: waits until no binding wants the API server.
    """

    def __init__(
        self,
        client: KubeClient,
        cache: ClusterCache,
        clock_ms: Callable[[], int],
        *,
        metrics: ReporterMetrics,
        concurrency: int = 4,
        waiting_max: int = 8192,
        quiet: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._cache = cache
        self._clock_ms = clock_ms
        self._metrics = metrics
        self._concurrency = concurrency
        self._quiet = quiet
        #: What cannot be placed goes first; then in the order of arrival.
        self._line: asyncio.PriorityQueue[tuple[bool, int, Report, asyncio.Event]] = asyncio.PriorityQueue(waiting_max)
        self._entered = 0
        self._told: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._instance = f"{socket.gethostname()}-{os.getpid()}"

    def report(self, report: Report) -> None:
        """Puts a report in line; never waits, and drops what was said about the pod last time."""
        self._enter(report, asyncio.Event())

    async def told(self, report: Report) -> None:
        """Puts a report in line and waits until it was posted, or given up after the bounded attempts."""
        done = asyncio.Event()
        self._enter(report, done)
        await done.wait()

    def _enter(self, report: Report, done: asyncio.Event) -> None:
        now_ms = self._clock_ms()
        said, when_ms = self._told.get(report.uid, ("", 0))
        if said == report.message and now_ms - when_ms < REPEAT_MS:
            done.set()
            return
        try:
            self._line.put_nowait((report.node is not None, self._entered, report, done))
        except asyncio.QueueFull:
            self._metrics.failed.labels("report", "line-full").inc()
            done.set()
            return
        self._entered += 1
        self._told[report.uid] = (report.message, now_ms)
        self._told.move_to_end(report.uid)
        if len(self._told) > REMEMBERED_MAX:
            self._told.popitem(last=False)
        self._metrics.waiting.set(self._line.qsize())

    async def run(self) -> None:
        """Works the line for ever."""
        async with asyncio.TaskGroup() as workers:
            workers.create_task(self._work(always=True))
            for _ in range(self._concurrency - 1):
                workers.create_task(self._work(always=False))

    async def settled(self) -> None:
        """Waits until the line is empty and nothing is in flight."""
        await self._line.join()

    async def _work(self, *, always: bool) -> None:
        quiet = self._quiet
        while True:
            if quiet is not None and not always:
                await quiet()
            _, _, report, done = await self._line.get()
            if quiet is not None and always and report.node is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SUCCESS_WAITS_S):
                        await quiet()
            self._metrics.waiting.set(self._line.qsize())
            try:
                if report.node is None:
                    await self._counted("condition", self._condition, report)
                await self._counted("event", self._event, report)
            except Exception:  # the outermost loop of best-effort work: a defect here must not stop bindings
                self._metrics.failed.labels("report", "unexpected").inc()
                log.exception("report failed", pod_uid=report.uid)
            finally:
                done.set()
                self._line.task_done()

    async def _counted(self, kind: str, post: Callable[[Report], Awaitable[None]], report: Report) -> None:
        delay_s = RETRY_FIRST_S
        for attempt in range(1, POST_ATTEMPTS_MAX + 1):
            try:
                await post(report)
            except KubeUnavailable as error:
                if attempt == POST_ATTEMPTS_MAX:
                    self._metrics.failed.labels(kind, error.reason).inc()
                    return
                await asyncio.sleep(max(delay_s, error.retry_after_s or 0.0))
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            except DaasError as error:
                self._metrics.failed.labels(kind, error.reason).inc()
                return
            else:
                self._metrics.posted.labels(kind).inc()
                return

    async def _condition(self, report: Report) -> None:
        for attempt in range(1, PATCH_ATTEMPTS_MAX + 1):
            pod = self._cache.pods.get(report.uid)
            if pod is None or pod.spec.node_name or self._cache.reserved(report.uid):
                return
            try:
                await patch_pod_scheduled(
                    self._client,
                    namespace=report.namespace,
                    name=report.name,
                    uid=report.uid,
                    resource_version=pod.metadata.resource_version,
                    reason="Unschedulable",
                    message=report.message,
                    now=self._now(),
                )
            except KubeNotFound:
                return
            except KubeConflict:
                if attempt == PATCH_ATTEMPTS_MAX:
                    raise
                # The watch brings the version that we have not seen yet.
                await asyncio.sleep(RETRY_FIRST_S)
            else:
                return

    async def _event(self, report: Report) -> None:
        await record_event(
            self._client,
            namespace=report.namespace,
            name=report.name,
            uid=report.uid,
            reason="FailedScheduling" if report.node is None else "Scheduled",
            note=report.message,
            action="Scheduling" if report.node is None else "Binding",
            warning=report.node is None,
            controller=CONTROLLER,
            instance=self._instance,
            now=self._now(),
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock_ms() / 1000, UTC)
