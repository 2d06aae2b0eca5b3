"""Before a pod with claims is bound: its volumes are chosen or asked for on its node, and waited for.

The rules are the engine's own, asked again of what the watches know now. A claim that waits for its first consumer is
told its node by an annotation (K3s's local-path provisioner makes the volume then), a volume made by hand is set aside
for its claim; what comes of it, the watches tell. Waiting is bounded by the decision's expiry and holds up nobody else.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from daas.common.errors import DaasError
from daas.gateway.binding import Attempt, Failed
from daas.gateway.cache import ClusterCache
from daas.gateway.surroundings import Surroundings
from daas.kube import KubeClient, KubeConflict, KubeNotFound, KubeUnavailable, patch_claim_node, set_volume_aside
from daas.placement.model import Node, Pod
from daas.placement.reasons import Reason
from daas.placement.storage import PersistentVolume, PersistentVolumeClaim, StorageClass
from daas.placement.volumes import ClaimKey, choose_volumes, claims_of, needs_of, node_refusal

#: Tries of one request while the API server is away.
ATTEMPTS_MAX: Final = 4
RETRY_FIRST_S: Final = 0.1
_VOLUME: Final = msgspec.json.Decoder(PersistentVolume)


class LiveStorage:
    """Claims, volumes and classes as the watches know them."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def claim(self, key: ClaimKey) -> PersistentVolumeClaim | None:
        """A claim by namespace and name."""
        event = self._surroundings.known("PersistentVolumeClaim", *key)
        return None if event is None else event.claim

    def volume(self, name: str) -> PersistentVolume | None:
        """A volume by name."""
        event = self._surroundings.known("PersistentVolume", "", name)
        return None if event is None else event.volume

    def storage_class(self, name: str) -> StorageClass | None:
        """A class by name."""
        event = self._surroundings.known("StorageClass", "", name)
        return None if event is None else event.storage_class

    def volumes_of_class(self, name: str) -> Iterable[PersistentVolume]:
        """The volumes of a class, by name."""
        volumes = (event.volume for event in self._surroundings.all_of("PersistentVolume"))
        return (volume for volume in volumes if volume.spec.storage_class_name == name)

    def holder(self, _key: ClaimKey) -> str:
        """Nobody: who uses a claim already was the engine's to look at."""
        return ""

    def promised(self, _volume: str) -> bool:
        """Nothing: what was set aside says so itself."""
        return False


class VolumeBinder:
    """Makes a pod's volumes ready on its node.

    Args:
        client: the API server.
        cache: pods and nodes as they are now.
        surroundings: claims, volumes and classes as they are now.
        clock_ms: Unix time in milliseconds.
    """

    def __init__(
        self, client: KubeClient, cache: ClusterCache, surroundings: Surroundings, clock_ms: Callable[[], int]
    ) -> None:
        self._client = client
        self._cache = cache
        self._surroundings = surroundings
        self._storage = LiveStorage(surroundings)
        self._clock_ms = clock_ms
        self._turn = asyncio.Lock()

    def concerns(self, uid: str) -> bool:
        """Whether a pod that waits for its node has claims."""
        pod = self._cache.pods.get(uid)
        return pod is not None and not pod.spec.node_name and bool(pod.spec.volumes) and bool(claims_of(pod))

    async def prepare(self, attempt: Attempt) -> Failed | None:
        """Waits until all claims of the pod are bound and reach its node; a reason where they won't be.

        Never raises for what the API server answers.
        """
        try:
            async with asyncio.timeout(max(attempt.expires_ms - self._clock_ms(), 0) / 1000):
                return await self._prepare(attempt)
        except TimeoutError:
            return Failed("volume-not-bound", f"the pod's claims were not bound until {attempt.expires_ms} ms")

    async def _prepare(self, attempt: Attempt) -> Failed | None:
        asked = False
        while True:
            pod, node = self._cache.pods.get(attempt.uid), self._cache.nodes.get(attempt.node)
            if pod is None:
                return Failed("pod-gone", f"pod {attempt.uid} no longer exists")
            if node is None:
                return Failed("node-gone", f"node {attempt.node} does not exist")
            needs = needs_of(attempt.namespace, attempt.uid, claims_of(pod), self._storage)
            refusal = node_refusal(needs, node) & ~(Reason.CLAIM_UNBOUND if asked else Reason(0))
            if refusal:
                return Failed("volume", f"the pod's volumes can't be had on {attempt.node}: {refusal.name}")
            if self._ready(pod):
                return None
            if not asked:
                # one pod at a time: two must not choose the same volume before the first of them has it
                async with self._turn:
                    failed = await self._ask(attempt, pod, node)
                if failed is not None:
                    return failed
                asked = True
                continue
            await self._surroundings.claim_change()

    def _ready(self, pod: Pod) -> bool:
        namespace = pod.metadata.namespace
        claims = (self._storage.claim((namespace, name)) for name, _ in claims_of(pod))
        return all(claim is not None and claim.bound for claim in claims)

    async def _ask(self, attempt: Attempt, pod: Pod, node: Node) -> Failed | None:
        """Sets volumes aside and names the node on claims whose volume is made."""
        needs = needs_of(attempt.namespace, attempt.uid, claims_of(pod), self._storage)
        for (namespace, name), volume in choose_volumes(needs, node) or ():
            claim = self._storage.claim((namespace, name))
            if claim is None:
                return Failed("volume", f"claim {name} is gone")
            failed = await self._insist(claim, volume, attempt.node)
            if failed is not None:
                return failed
        return None

    async def _insist(self, claim: PersistentVolumeClaim, volume: str, node: str) -> Failed | None:
        delay_s = RETRY_FIRST_S
        for _ in range(ATTEMPTS_MAX):
            try:
                if volume:
                    return await self._set_aside(claim, volume)
                meta = claim.metadata
                await patch_claim_node(self._client, namespace=meta.namespace, name=meta.name, uid=meta.uid, node=node)
            except KubeUnavailable as error:
                await asyncio.sleep(max(delay_s, error.retry_after_s or 0.0))
                delay_s *= 2
            except (KubeNotFound, KubeConflict) as error:
                return Failed("volume", error.message)
            except DaasError as error:
                return Failed("api-error", error.message)
            else:
                return None
        return Failed("api-error", f"claim {claim.metadata.name} could not be written {ATTEMPTS_MAX} times")

    async def _set_aside(self, claim: PersistentVolumeClaim, volume: str) -> Failed | None:
        found = _VOLUME.decode(await self._client.request("GET", f"/api/v1/persistentvolumes/{volume}"))
        meta, reference = claim.metadata, found.spec.claim_ref
        if reference is not None and (reference.namespace, reference.name) != (meta.namespace, meta.name):
            return Failed("volume", f"volume {volume} belongs to {reference.namespace}/{reference.name}")
        if reference is None or not reference.uid:
            await set_volume_aside(
                self._client,
                volume=volume,
                namespace=meta.namespace,
                claim=meta.name,
                claim_uid=meta.uid,
                resource_version=found.metadata.resource_version,
            )
        return None
