"""One binding: every check against the live view, the POST, and what a refusal of the API server means."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from daas.common.errors import DaasError
from daas.gateway.cache import ClusterCache
from daas.kube import KubeClient, KubeConflict, KubeNotFound, KubeUnavailable, bind, get_pod
from daas.placement.model import Pod

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
#: A conflict with a pod that is neither bound nor deleted is a race inside the API server: it is over at once.
RACES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is to be bound where, until when, and what the binding says about its proof."""

    uid: str
    namespace: str
    name: str
    node: str
    expires_ms: int
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bound:
    """The pod stands on its node.

    Attributes:
        bound_ms: when we knew.
        created_ms: when the pod was created, 0 where that is not known.
        now: False where it stood there before this attempt.
    """

    bound_ms: int
    created_ms: int
    now: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The pod was not bound: `node-gone`, `node-unschedulable`, `pod-gone`, `capacity`, `expired`, `conflict`,
    `api-error`, and one sentence.
    """

    reason: str
    message: str


class PodBinder:
    """Binds pods, a bounded number at a time.

    Args:
        client: the API server.
        cache: the live view; reservations are made here.
        clock_ms: Unix time in milliseconds.
        concurrency: binds in flight.
        attempts_max: tries while the API server is away or overloaded.
    """

    def __init__(
        self,
        client: KubeClient,
        cache: ClusterCache,
        clock_ms: Callable[[], int],
        *,
        concurrency: int = 32,
        attempts_max: int = 8,
        retry_first_s: float = RETRY_FIRST_S,
    ) -> None:
        self._client = client
        self._cache = cache
        self._clock_ms = clock_ms
        self._slots = asyncio.Semaphore(concurrency)
        self._attempts_max = attempts_max
        self._retry_first_s = retry_first_s

    async def bind(self, attempt: Attempt) -> Bound | Failed:
        """Binds a pod, or says why not; never raises for what the API server answers."""
        async with self._slots:
            pod = self._cache.pods.get(attempt.uid)
            if pod is None:
                return Failed("pod-gone", f"pod {attempt.uid} no longer exists")
            created_ms = self._cache.created_ms(pod)
            refused = self._standing(attempt, pod.spec.node_name, pod.metadata.deletion_timestamp, created_ms)
            if refused is not None:
                return refused
            if self._clock_ms() > attempt.expires_ms:
                return _expired(attempt)
            refusal = self._cache.reserve(pod, attempt.node)
            if refusal is not None:
                return Failed(refusal.reason, refusal.message)
            bound = False
            try:
                outcome = await self._post(attempt, pod, created_ms)
                bound = isinstance(outcome, Bound)
                return outcome
            finally:
                if not bound:
                    self._cache.release(attempt.uid)

    async def _post(self, attempt: Attempt, pod: Pod, created_ms: int) -> Bound | Failed:
        delay_s = self._retry_first_s
        races = 0
        for number in range(1, self._attempts_max + 1):
            try:
                await bind(
                    self._client,
                    namespace=attempt.namespace,
                    name=attempt.name,
                    uid=attempt.uid,
                    node=attempt.node,
                    annotations=attempt.annotations,
                )
            except KubeNotFound as error:
                return Failed("pod-gone", error.message)
            except KubeConflict as error:
                known = await self._after_conflict(attempt, created_ms, error)
                if known is not None:
                    return known
                races += 1
                if races == RACES_MAX:
                    return Failed("conflict", error.message)
            except KubeUnavailable as error:
                if number == self._attempts_max:
                    return Failed("api-error", error.message)
                await asyncio.sleep(max(delay_s, error.retry_after_s or 0.0))
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            except DaasError as error:
                return Failed("api-error", error.message)
            else:
                return Bound(self._clock_ms(), created_ms, now=True)
            refused = self._changed(attempt, pod, created_ms)
            if refused is not None:
                return refused
        return Failed("api-error", f"no binding after {self._attempts_max} attempts")

    def _changed(self, attempt: Attempt, pod: Pod, created_ms: int) -> Bound | Failed | None:
        """What the wait before another attempt has changed."""
        now = self._cache.pods.get(attempt.uid)
        if now is None:
            return Failed("pod-gone", f"pod {attempt.uid} no longer exists")
        standing = self._standing(attempt, now.spec.node_name, now.metadata.deletion_timestamp, created_ms)
        if standing is not None:
            return standing
        if self._clock_ms() > attempt.expires_ms:
            return _expired(attempt)
        self._cache.release(attempt.uid)
        refusal = self._cache.reserve(pod, attempt.node)
        return None if refusal is None else Failed(refusal.reason, refusal.message)

    async def _after_conflict(self, attempt: Attempt, created_ms: int, conflict: KubeConflict) -> Bound | Failed | None:
        """What a 409 means: the server's own copy of the pod tells. None where it should be tried again."""
        try:
            pod = await get_pod(self._client, attempt.namespace, attempt.name)
        except KubeNotFound as error:
            return Failed("pod-gone", error.message)
        except KubeUnavailable:
            return None
        except DaasError as error:
            return Failed("api-error", error.message)
        if pod.metadata.uid != attempt.uid:
            return Failed("pod-gone", f"{attempt.namespace}/{attempt.name} is another pod by now: {conflict.message}")
        return self._standing(attempt, pod.spec.node_name, pod.metadata.deletion_timestamp, created_ms)

    def _standing(self, attempt: Attempt, node: str, deletion: str | None, created_ms: int) -> Bound | Failed | None:
        """What the pod's present state says: bound as decided, bound elsewhere, going away; None while it waits."""
        if node == attempt.node:
            return Bound(self._clock_ms(), created_ms, now=False)
        if node:
            return Failed("conflict", f"the pod is bound to {node} already")
        if deletion is not None:
            return Failed("pod-gone", "the pod is being deleted")
        return None


def _expired(attempt: Attempt) -> Failed:
    return Failed("expired", f"the decision was valid until {attempt.expires_ms} ms")
