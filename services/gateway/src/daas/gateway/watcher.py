"""The watches: what the API server tells about nodes and pods goes into the cache, and what matters of it into the log.

The log gets trimmed objects only, and only when something the engine reads has changed. Each list (at start, and
whenever a watch could not be resumed) becomes one resync of the log: a full list of nodes and pods between its markers.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from daas.common.errors import DecodeError, Unavailable
from daas.gateway.appender import Key, LogAppender
from daas.gateway.cache import TERMINAL_PHASES, ClusterCache
from daas.gateway.surroundings import FOLLOWED, Place, Surroundings
from daas.kube import Backoff, Deleted, KubeClient, ListFinished, ListStarted, Reflector, Upserted
from daas.placement.log import NodeDeleted, NodeUpserted, PodDeleted, PodUpserted, ResyncFinished, ResyncStarted
from daas.placement.model import Node, ObjectMeta, Pod

NODES_PATH: Final = "/api/v1/nodes"
PODS_PATH: Final = "/api/v1/pods"


@dataclass(slots=True)
class WatchMetrics:
    """What the watches count."""

    registry: CollectorRegistry
    changes: Counter = field(init=False)
    unchanged: Counter = field(init=False)
    refused: Counter = field(init=False)
    resyncs: Counter = field(init=False)
    objects: Gauge = field(init=False)

    def __post_init__(self) -> None:
        registry = self.registry
        self.changes = Counter(
            "daas_gateway_watch_changes", "Objects that a list or watch named", ["kind"], registry=registry
        )
        self.unchanged = Counter(
            "daas_gateway_watch_unchanged",
            "Changes of fields that placement does not read",
            ["kind"],
            registry=registry,
        )
        self.refused = Counter(
            "daas_gateway_watch_refused", "Objects that could not be decoded", ["kind"], registry=registry
        )
        self.resyncs = Counter("daas_gateway_resyncs", "Full lists put into the log", registry=registry)
        self.objects = Gauge("daas_gateway_objects", "Objects in the cache", ["kind"], registry=registry)


class ClusterWatcher:
    """Both reflectors, and what they feed.

    Args:
        client: the API server.
        cache: kept up to date.
        appender: where events go.
        clock_ms: Unix time in milliseconds.
        watch_timeout_s: see `Reflector`.
        on_refused: told about objects that can't be decoded: they are in neither cache nor log.
        surroundings: whether namespaces, services and controllers go into the log too.
    """

    def __init__(
        self,
        client: KubeClient,
        cache: ClusterCache,
        appender: LogAppender,
        clock_ms: Callable[[], int],
        *,
        metrics: WatchMetrics,
        watch_timeout_s: int = 120,
        on_refused: Callable[[DecodeError], None] | None = None,
        backoff: Callable[[], Backoff] = Backoff,
        surroundings: bool = False,
    ) -> None:
        self._cache = cache
        self._appender = appender
        self._clock_ms = clock_ms
        self._metrics = metrics

        def refused(kind: str) -> Callable[[DecodeError], None]:
            def tell(error: DecodeError) -> None:
                metrics.refused.labels(kind).inc()
                if on_refused is not None:
                    on_refused(error)

            return tell

        self.nodes = Reflector(
            client,
            NODES_PATH,
            Node,
            watch_timeout_s=watch_timeout_s,
            backoff=backoff(),
            on_refused=refused("node"),
        )
        self.pods = Reflector(
            client, PODS_PATH, Pod, watch_timeout_s=watch_timeout_s, backoff=backoff(), on_refused=refused("pod")
        )
        self.surroundings: Surroundings | None = None
        self._awaited = {"nodes", "pods"}
        if surroundings:
            self._awaited |= {one.kind for one in FOLLOWED}
            self.surroundings = Surroundings(
                client,
                changed=self._surrounding,
                listed=self._finish,
                on_refused=refused("surrounding"),
                watch_timeout_s=watch_timeout_s,
                backoff=backoff,
            )
        self._listed: dict[str, set[str]] = {}
        self._complete: set[str] = set()
        self._both = asyncio.Event()

    async def wait_complete(self) -> None:
        """Waits until the cache can be relied on."""
        await self._both.wait()

    @property
    def complete(self) -> bool:
        """Whether nodes and pods have both been listed in full since the start: the cache can be relied on."""
        return self._both.is_set()

    async def check(self) -> None:
        """Raises Unavailable unless both reflectors are in step with the API server."""
        for kind, reflector in (("nodes", self.nodes), ("pods", self.pods)):
            if reflector.problem is not None:
                raise Unavailable(f"{kind}: {reflector.problem.message}", reason=reflector.problem.reason)
            if not reflector.synced:
                raise Unavailable(f"{kind} are not listed yet", reason="not-synced")
        if self.surroundings is not None:
            self.surroundings.check()
        if not self.complete:
            raise Unavailable(f"not listed yet: {self._awaited - self._complete}", reason="not-synced")

    async def follow_nodes(self) -> None:
        """Follows the nodes for ever."""
        async with aclosing(self.nodes.changes()) as changes:
            async for change in changes:
                match change:
                    case ListStarted():
                        self._listed["nodes"] = set()
                    case Upserted(node):
                        await self._node(node)
                    case Deleted(node):
                        if self._cache.drop_node(node.metadata.name, node.metadata.uid):
                            await self._offer_node_deleted(node)
                    case ListFinished():
                        self._cache.retain_nodes(self._listed.pop("nodes"))
                        self._finish("nodes")
                self._metrics.objects.labels("node").set(len(self._cache.nodes))

    async def follow_pods(self) -> None:
        """Follows the pods for ever."""
        async with aclosing(self.pods.changes()) as changes:
            async for change in changes:
                match change:
                    case ListStarted():
                        self._listed["pods"] = set()
                    case Upserted(pod):
                        await self._pod(pod)
                    case Deleted(pod):
                        await self._pod_deleted(pod)
                    case ListFinished():
                        self._cache.retain_pods(self._listed.pop("pods"))
                        self._finish("pods")
                self._metrics.objects.labels("pod").set(len(self._cache.pods))

    async def _node(self, node: Node) -> None:
        self._metrics.changes.labels("node").inc()
        known = self._cache.nodes.get(node.metadata.name)
        listed = self._listed.get("nodes")
        if listed is not None:
            listed.add(node.metadata.uid)
            self._cache.put_node(node)
            return
        self._cache.put_node(node)
        if known is not None and known.metadata.uid != node.metadata.uid:
            await self._offer_node_deleted(known)
        elif known is not None and _same(known, node):
            self._metrics.unchanged.labels("node").inc()
            return
        if self.complete:
            await self._appender.offer(("node", node.metadata.uid), NodeUpserted(node=node))

    async def _offer_node_deleted(self, node: Node) -> None:
        if self.complete:
            event = NodeDeleted(name=node.metadata.name, uid=node.metadata.uid)
            await self._appender.offer(("node", node.metadata.uid), event)

    async def _pod(self, pod: Pod) -> None:
        self._metrics.changes.labels("pod").inc()
        uid = pod.metadata.uid
        known = self._cache.pods.get(uid)
        self._cache.put_pod(pod, self._clock_ms())
        listed = self._listed.get("pods")
        if listed is not None:
            listed.add(uid)
            return
        if known is not None and _same(known, pod):
            self._metrics.unchanged.labels("pod").inc()
            return
        ended_unseen = pod.status.phase in TERMINAL_PHASES and (
            known is None or known.status.phase in TERMINAL_PHASES or not self._cache.is_logged(known)
        )
        if self.complete and self._cache.is_logged(pod) and not ended_unseen:
            await self._appender.offer(("pod", uid), PodUpserted(pod=pod))

    async def _pod_deleted(self, pod: Pod) -> None:
        meta = pod.metadata
        known = self._cache.pods.get(meta.uid)
        if self._cache.drop_pod(meta.uid) and known is not None and self.complete and self._cache.is_logged(known):
            event = PodDeleted(uid=meta.uid, namespace=meta.namespace, name=meta.name)
            await self._appender.offer(("pod", meta.uid), event)

    def _finish(self, kind: str) -> None:
        """A list is complete: once both are, everything known goes into the log as one resync."""
        self._complete.add(kind)
        if self._complete >= self._awaited:
            self._both.set()
        if self.complete:
            identity = secrets.token_hex(8)
            self._appender.resync(ResyncStarted(id=identity), self._everything(), ResyncFinished(id=identity))
            self._metrics.resyncs.inc()

    async def follow_surroundings(self) -> None:
        """Follows namespaces, services and controllers for ever."""
        if self.surroundings is None:
            await asyncio.Event().wait()
            return
        async with asyncio.TaskGroup() as group:
            for one in FOLLOWED:
                group.create_task(self.surroundings.follow(one))

    async def _surrounding(self, place: Place, event: msgspec.Struct) -> None:
        if self.complete:
            await self._appender.offer(_surrounding_key(place), event)

    def _everything(self) -> Iterator[tuple[Key, msgspec.Struct]]:
        if self.surroundings is not None:
            for place, event in self.surroundings.events():
                yield _surrounding_key(place), event
        for node in self._cache.nodes.values():
            yield ("node", node.metadata.uid), NodeUpserted(node=node)
        for pod in self._cache.logged_pods():
            yield ("pod", pod.metadata.uid), PodUpserted(pod=pod)


def _surrounding_key(place: Place) -> Key:
    kind, namespace, name = place
    return kind, f"{namespace}/{name}"


def _same(known: Node | Pod, now: Node | Pod) -> bool:
    """Whether nothing that placement reads has changed, versions aside."""
    return _versionless(known) == _versionless(now)


def _versionless(found: Node | Pod) -> tuple[ObjectMeta, object, object]:
    meta = msgspec.structs.replace(found.metadata, resource_version="-")
    return meta, found.spec, found.status


__all__ = ["ClusterWatcher", "WatchMetrics"]
