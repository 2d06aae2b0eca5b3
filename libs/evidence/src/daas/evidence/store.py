"""The evidence of a cluster, read back from etcd and Walrus: digests are checked before anything is believed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from daas.common.errors import DecodeError, InvalidInput, NotFound
from daas.common.messages import Header
from daas.etcd import EtcdClient
from daas.evidence.bundle import Case, EvidenceBundle, Snapshot, case_of, decode_bundle
from daas.evidence.layout import Keys, Manifest, PodDecision, decode_manifest, decode_pod_decision
from daas.evidence.values import ValueReader
from daas.walrus import WalrusClient

#: A replay through more batches than this wants a snapshot in between.
MAX_REPLAY_BATCHES: Final = 10_000


class EvidenceStore:
    """Reads what the storage service wrote.

    Args:
        etcd: the connection; closed by whoever made it.
        cluster: name of the cluster on the bus.
        walrus: for what is kept there.
    """

    def __init__(self, etcd: EtcdClient, cluster: str, *, walrus: WalrusClient | None = None) -> None:
        self.keys = Keys(cluster)
        self.cluster = cluster
        self._etcd = etcd
        self.values = ValueReader(etcd, self.keys, walrus)

    async def latest(self) -> int:
        """Number of the newest stored batch; 0 before the first."""
        kv = await self._etcd.get(self.keys.latest)
        return int(kv.value) if kv else 0

    async def bundle(self, sequence: int) -> EvidenceBundle:
        """The bundle of a batch.

        Raises:
            NotFound: `no-evidence`.
            DecodeError: what is stored is damaged.
        """
        return decode_bundle(await self.values.read(await self._manifest(sequence)))

    async def header(self, sequence: int) -> Header:
        """The header of a batch, as the manifest of its bundle has it.

        Raises:
            NotFound: `no-evidence`.
        """
        header = (await self._manifest(sequence)).header
        if header is None:
            raise DecodeError(f"the manifest of batch {sequence} has no header", reason="stored-malformed")
        return header

    async def pod(self, namespace: str, name: str) -> tuple[PodDecision, ...]:
        """All decisions about pods of this name, oldest first."""
        found = [decode_pod_decision(kv.value) async for kv in self._etcd.prefix(self.keys.pod(namespace, name))]
        return tuple(sorted(found, key=lambda decision: decision.sequence))

    async def newest_decision(self, namespace: str, name: str, uid: str | None = None) -> PodDecision:
        """The newest decision about a pod.

        Raises:
            NotFound: `no-evidence`: none is stored.
        """
        decisions = [d for d in await self.pod(namespace, name) if uid in (None, d.uid)]
        if not decisions:
            raise NotFound(f"no evidence about pod {namespace}/{name} is stored", reason="no-evidence", field="name")
        return decisions[-1]

    async def snapshots(self) -> tuple[int, ...]:
        """Numbers of the batches after which a state is stored, ascending."""
        return await self.places(self.keys.snapshots())

    async def snapshot(self, sequence: int) -> Snapshot:
        """The scheduler's state after a batch.

        Raises:
            NotFound: `no-snapshot`.
        """
        kv = await self._etcd.get(self.keys.snapshot(sequence))
        if kv is None:
            raise NotFound(f"no state after batch {sequence} is stored", reason="no-snapshot", field="sequence")
        return Snapshot(sequence=sequence, data=await self.values.read(decode_manifest(kv.value)))

    async def facts(self, prefix: str) -> AsyncIterator[tuple[int, bytes]]:
        """Facts that are kept as they were published: place in their stream, and exact bytes, ascending.

        Args:
            prefix: what their keys start with; the rest is the place.
        """
        async for kv in self._etcd.prefix(prefix):
            yield int(kv.key.removeprefix(prefix)), kv.value

    async def fact(self, key: str) -> bytes:
        """One such fact.

        Raises:
            NotFound: `no-evidence`.
        """
        kv = await self._etcd.get(key)
        if kv is None:
            raise NotFound(f"nothing is stored under {key}", reason="no-evidence")
        return kv.value

    async def places(self, prefix: str) -> tuple[int, ...]:
        """The places of all such facts, ascending."""
        return tuple([int(kv.key.removeprefix(prefix)) async for kv in self._etcd.prefix(prefix, keys_only=True)])

    async def case(self, sequence: int) -> Case:
        """Everything that is needed to verify a batch: its bundle, those since the newest snapshot, and that snapshot.

        Where a bundle in between is missing the case holds what follows it, and replaying it will say so.

        Raises:
            NotFound: `no-evidence` for the batch itself.
            InvalidInput: `replay-length`: more than 10,000 batches since the newest snapshot.
        """
        last = await self.bundle(sequence)
        start = max((s for s in await self.snapshots() if s < sequence), default=0)
        if sequence - start > MAX_REPLAY_BATCHES:
            raise InvalidInput(
                f"{sequence - start} batches lie between the newest snapshot and batch {sequence}; "
                f"at most {MAX_REPLAY_BATCHES} are replayed",
                reason="replay-length",
            )
        between = await asyncio.gather(*(self._bundle_or_none(s) for s in range(start + 1, sequence)))
        bundles = _tail([*between, last])
        whole = len(bundles) == sequence - start
        return case_of(bundles, await self.snapshot(start) if start and whole else None)

    async def _bundle_or_none(self, sequence: int) -> EvidenceBundle | None:
        try:
            return await self.bundle(sequence)
        except NotFound:
            return None

    async def _manifest(self, sequence: int) -> Manifest:
        kv = await self._etcd.get(self.keys.evidence(sequence))
        if kv is None:
            raise NotFound(f"no evidence of batch {sequence} is stored", reason="no-evidence", field="sequence")
        return decode_manifest(kv.value)


def _tail(bundles: Sequence[EvidenceBundle | None]) -> tuple[EvidenceBundle, ...]:
    """What follows the last gap."""
    tail: list[EvidenceBundle] = []
    for bundle in reversed(bundles):
        if bundle is None:
            break
        tail.append(bundle)
    return tuple(reversed(tail))
