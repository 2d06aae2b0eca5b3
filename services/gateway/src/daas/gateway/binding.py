"""One binding: every check against the live view, the POST, and what a refusal of the API server means."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from daas.common.errors import DaasError
from daas.gateway.cache import ClusterCache
from daas.gateway.concurrency import AdaptiveConcurrency
from daas.kube import KubeClient, KubeConflict, KubeNotFound, KubeUnavailable, bind, get_pod

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
    """The pod was not bound: `node-gone`, `node-unschedulable`, `pod-gone`, `capacity`, `volume`,
    `volume-not-bound`, `expired`, `conflict`,
    `api-error`, and one sentence.
    """

    reason: str
    message: str


class PodBinder:
    """Binds pods, as many at a time as the API server takes best.

    Args:
        client: the API server.
        cache: the live view; reservations are made here.
        clock_ms: Unix time in milliseconds.
        concurrency: most binds in flight; see `AdaptiveConcurrency`.
        attempts_max: tries while the API server is away or overloaded.
    """

    def __init__(
        self,
        client: KubeClient,
        cache: ClusterCache,
        clock_ms: Callable[[], int],
        *,
        concurrency: int = 128,
        attempts_max: int = 8,
        retry_first_s: float = RETRY_FIRST_S,
    ) -> None:
        self._client = client
        self._cache = cache
        self._clock_ms = clock_ms
        self.concurrency = AdaptiveConcurrency(concurrency, time.monotonic)
        self._attempts_max = attempts_max
        self._retry_first_s = retry_first_s

    async def bind(self, attempt: Attempt) -> Bound | Failed:
        """Binds a pod, or says why not; never raises for what the API server answers."""
        delay_s = self._retry_first_s
        races = 0
        last: DaasError | None = None
        for _ in range(self._attempts_max):
            async with self.concurrency.slot():
                answer = await self._once(attempt)
                if isinstance(answer, KubeUnavailable):
                    self.concurrency.overloaded()
            if not isinstance(answer, DaasError):
                return answer
            last = answer
            if isinstance(answer, KubeUnavailable):
                await asyncio.sleep(max(delay_s, answer.retry_after_s or 0.0))
                delay_s = min(delay_s * 2, RETRY_MAX_S)
                continue
            races += 1
            if races == RACES_MAX:
                return Failed("conflict", answer.message)
        said = last.message if last is not None else ""
        return Failed("api-error", f"no binding after {self._attempts_max} attempts: {said}")

    async def _once(self, attempt: Attempt) -> Bound | Failed | KubeUnavailable | KubeConflict:
        """Every check against the live view and one POST; an error where another attempt may go better."""
        pod = self._cache.pods.get(attempt.uid)
        if pod is None:
            return Failed("pod-gone", f"pod {attempt.uid} no longer exists")
        created_ms = self._cache.created_ms(pod)
        standing = self._standing(attempt, pod.spec.node_name, pod.metadata.deletion_timestamp, created_ms)
        if standing is not None:
            return standing
        if self._clock_ms() > attempt.expires_ms:
            return Failed("expired", f"the decision was valid until {attempt.expires_ms} ms")
        refusal = self._cache.reserve(pod, attempt.node)
        if refusal is not None:
            return Failed(refusal.reason, refusal.message)
        outcome: Bound | Failed | KubeUnavailable | KubeConflict | None = None
        try:
            outcome = await self._post(attempt, created_ms)
        finally:
            if not isinstance(outcome, Bound):
                self._cache.release(attempt.uid)
        return outcome

    async def _post(self, attempt: Attempt, created_ms: int) -> Bound | Failed | KubeUnavailable | KubeConflict:
        try:
            with self.concurrency.request():
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
            return await self._after_conflict(attempt, created_ms, error) or error
        except KubeUnavailable as error:
            return error
        except DaasError as error:
            return Failed("api-error", error.message)
        return Bound(self._clock_ms(), created_ms, now=True)

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
