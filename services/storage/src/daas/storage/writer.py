"""Writing evidence to etcd: parts and index entries first, the manifest last, everything as often as it takes."""

import asyncio
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from daas.common import merkle
from daas.common.errors import Conflict, Refused
from daas.common.messages import DecidedLeaf, Header
from daas.etcd import MAX_TXN_OPERATIONS, MAX_VALUE_BYTES, Compare, EtcdClient, Get, Put, Relation, Target
from daas.evidence import Keys, Manifest, PodDecision
from daas.evidence.layout import decode_manifest

#: Level 6 halves the time of level 9 at 2 % more bytes on log entries.
_COMPRESSION_LEVEL: Final = 6
#: Tries to move `latest`: each failure means that someone else moved it, and batches are finitely many.
_LATEST_TRIES: Final = 1_000


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. `created` is False where it was there already."""

    key: str
    revision: int
    size: int
    digest: str
    created: bool


class EvidenceWriter:
    """Writes by the layout in `daas.evidence.layout`; every method may be repeated at any time.

    Args:
        etcd: the connection.
        keys: of the cluster.
    """

    def __init__(self, etcd: EtcdClient, keys: Keys) -> None:
        self._etcd = etcd
        self.keys = keys

    async def bundle(
        self, sequence: int, data: bytes, header: Header, payload_digest: str, leaves: Sequence[DecidedLeaf]
    ) -> Stored:
        """Stores a bundle with the index entries of its pods.

        Raises:
            Refused: `evidence-fork`: another batch is stored under this number.
            Unavailable: etcd is away.
        """
        key = self.keys.evidence(sequence)
        there = await self._manifest(key)
        if there is None:
            entries = [
                Put(
                    self.keys.pod_decision(leaf.namespace, leaf.name, leaf.pod_uid, sequence),
                    msgspec.json.encode(
                        PodDecision(
                            namespace=leaf.namespace,
                            name=leaf.name,
                            uid=leaf.pod_uid,
                            sequence=sequence,
                            index=index,
                            node=leaf.node,
                            payload_digest=payload_digest,
                        )
                    ),
                )
                for index, leaf in enumerate(leaves)
            ]
            await asyncio.gather(*(self._put_all(some) for some in _chunks(entries)))
        stored = await self._value(key, data, header)
        await self._advance(sequence)
        return stored

    async def snapshot(self, sequence: int, data: bytes) -> Stored:
        """Stores the scheduler's state after a batch.

        Raises:
            Refused: `evidence-fork`: another state is stored under this number.
            Unavailable: etcd is away.
        """
        return await self._value(self.keys.snapshot(sequence), data, None)

    async def fact(self, key: str, body: bytes) -> Stored:
        """Stores a fact as it was published; the first one under a key stays.

        Raises:
            Unavailable: etcd is away.
        """
        result = await self._etcd.txn([Compare.absent(key)], [Put(key, body)], [Get(key)], repeatable=True)
        kept = result.reads[0] if result.reads else None
        value = kept.value if kept else body
        return Stored(
            key=key,
            revision=kept.mod_revision if kept else result.revision,
            size=len(value),
            digest=merkle.digest(value).hex(),
            created=result.succeeded,
        )

    async def _value(self, key: str, data: bytes, header: Header | None) -> Stored:
        digest = merkle.digest(data).hex()
        packed = zlib.compress(data, _COMPRESSION_LEVEL)
        parts = [packed[at : at + MAX_VALUE_BYTES] for at in range(0, len(packed), MAX_VALUE_BYTES)]
        manifest = Manifest(digest=digest, size=len(data), parts=len(parts), header=header)
        there = await self._manifest(key)
        if there is None:
            for index, part in enumerate(parts):
                await self._etcd.put(self.keys.part(digest, index), part, repeatable=True)
        result = await self._etcd.txn(
            [Compare.absent(key)], [Put(key, msgspec.json.encode(manifest))], [Get(key)], repeatable=True
        )
        kept = result.reads[0] if result.reads else None
        if kept is None:
            return Stored(key=key, revision=result.revision, size=len(data), digest=digest, created=True)
        there = decode_manifest(kept.value)
        # The same batch may come with another anchored fact or snapshot hint; another header is another history.
        if there.header != header or (header is None and there.digest != digest):
            raise Refused(f"{key} holds other evidence ({there.digest}) than {digest}", reason="evidence-fork")
        return Stored(key=key, revision=kept.mod_revision, size=there.size, digest=there.digest, created=False)

    async def _manifest(self, key: str) -> Manifest | None:
        kv = await self._etcd.get(key)
        return decode_manifest(kv.value) if kv else None

    async def _put_all(self, puts: Sequence[Put]) -> None:
        await self._etcd.txn([], puts, repeatable=True)

    async def _advance(self, sequence: int) -> None:
        """Moves `latest` up to a number, and never down."""
        key, value = self.keys.latest, str(sequence).encode()
        for _ in range(_LATEST_TRIES):
            kv = await self._etcd.get(key)
            if kv is not None and int(kv.value) >= sequence:
                return
            guard = Compare.unchanged(kv) if kv else Compare(key, Target.CREATE_REVISION, 0, Relation.EQUAL)
            if (await self._etcd.txn([guard], [Put(key, value)], repeatable=True)).succeeded:
                return
        raise Conflict(f"{key} is moved by others all the time", reason="etcd-contention")


def _chunks(puts: Sequence[Put]) -> Iterator[Sequence[Put]]:
    """Transactions of at most 128 operations; index entries have some 300 bytes, so size is no matter."""
    for at in range(0, len(puts), MAX_TXN_OPERATIONS):
        yield puts[at : at + MAX_TXN_OPERATIONS]
