"""Writing to etcd: parts and index entries first, manifests last, everything as often as it takes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from daas.common import merkle
from daas.common.errors import Conflict, DaasError, Refused
from daas.common.messages import PlacementDecided
from daas.etcd import MAX_TXN_OPERATIONS, Compare, EtcdClient, Get, Put, Relation, Target
from daas.evidence.bundle import EvidenceBundle
from daas.evidence.layout import Keys, Manifest, PatchRef, decode_manifest
from daas.evidence.packing import Backend, Stored, Value, evidence_value, stored_of
from daas.walrus import Holding

T = TypeVar("T")

#: Tries to move a key: each failure means that someone else moved it.
_TRIES: Final = 1_000
#: Requests to etcd at a time: it syncs its log for all of them at once.
_CONCURRENT_WRITES: Final = 32
#: Manifests of one transaction: each has a guard, a write and, where it fails, a read.
_MANIFESTS: Final = 32
#: Facts of one transaction: each has a guard and a write.
_FACTS: Final = 64


class EtcdWriter:
    """Writes by the layout in `daas.evidence.layout`; every method may be repeated at any time.

    Args:
        etcd: the connection.
        keys: of the cluster.
    """

    def __init__(self, etcd: EtcdClient, keys: Keys) -> None:
        self._etcd = etcd
        self.keys = keys
        self._writes = asyncio.Semaphore(_CONCURRENT_WRITES)

    async def evidence(self, bundle: EvidenceBundle, decided: PlacementDecided) -> Stored:
        """Stores one bundle in etcd.

        Raises:
            Refused: `evidence-fork`: another batch is stored under this number.
            Unavailable: etcd is away.
        """
        value = evidence_value(self.keys, bundle, decided)
        result = (await self.present([value])).get(value.key)
        if result is None:
            await self.bytes_of([value])
            await self.index_of([value])
            result = (await self.manifests([value], Backend.ETCD, {}, ()))[value.key]
        if not isinstance(result, Stored):
            raise result
        await self.advance(decided.header.sequence)
        return result

    async def present(self, values: Sequence[Value]) -> dict[str, Stored | DaasError]:
        """By key, what is stored already, or the refusal of those that say something else than what is stored."""
        found: dict[str, Stored | DaasError] = {}
        for some in _chunks(values, MAX_TXN_OPERATIONS):
            result = await self._etcd.txn([], [Get(value.key) for value in some], repeatable=True)
            for value, kv in zip(some, result.reads, strict=True):
                if kv is not None:
                    found[value.key] = _judged(value, decode_manifest(kv.value), kv.mod_revision)
        return found

    async def bytes_of(self, values: Sequence[Value]) -> None:
        """Writes the bytes of values."""
        parts = [
            (self.keys.part(value.digest, index), part) for value in values for index, part in enumerate(value.parts())
        ]
        await self._all(lambda one: self._etcd.put(*one, repeatable=True), parts)

    async def index_of(self, values: Sequence[Value]) -> None:
        """Writes the index entries of values."""
        puts = [Put(entry.key, entry.value) for value in values for entry in value.index]
        await self._all(lambda some: self._etcd.txn([], some, repeatable=True), list(_chunks(puts, MAX_TXN_OPERATIONS)))

    async def manifests(
        self,
        values: Sequence[Value],
        backend: Backend,
        patches: Mapping[str, tuple[PatchRef, ...]],
        holdings: Sequence[Holding],
    ) -> dict[str, Stored | DaasError]:
        """Writes manifests, each if absent, after the blobs that their bytes are in. In the order of the values."""
        results: dict[str, Stored | DaasError] = {}
        for holding in holdings:
            await self.hold(holding)
        simulated = any(holding.simulated for holding in holdings)
        for some in _chunks(values, _MANIFESTS):
            manifests = {value.key: value.manifest(backend, patches.get(value.key, ())) for value in some}
            puts = [Put(key, msgspec.json.encode(manifest)) for key, manifest in manifests.items()]
            done = await self._etcd.txn([Compare.absent(key) for key in manifests], puts, repeatable=True)
            if done.succeeded:
                for key, manifest in manifests.items():
                    results[key] = stored_of(key, manifest, done.revision, created=True, simulated=simulated)
                continue
            for value, put in zip(some, puts, strict=True):
                results[value.key] = await self._manifest(value, put, manifests[value.key], simulated=simulated)
        return results

    async def _manifest(self, value: Value, put: Put, manifest: Manifest, *, simulated: bool) -> Stored | DaasError:
        one = await self._etcd.txn([Compare.absent(put.key)], [put], [Get(put.key)], repeatable=True)
        kept = one.reads[0] if one.reads else None
        if kept is None:
            return stored_of(put.key, manifest, one.revision, created=True, simulated=simulated)
        return _judged(value, decode_manifest(kept.value), kept.mod_revision)

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

    async def facts(self, facts: Mapping[str, bytes]) -> list[Stored]:
        """Stores some facts by key, many at once; the first one under a key stays.

        Raises:
            Unavailable: etcd is away.
        """
        results: list[Stored] = []
        for some in _chunks(list(facts.items()), _FACTS):
            guards = [Compare.absent(key) for key, _ in some]
            done = await self._etcd.txn(guards, [Put(key, body) for key, body in some], repeatable=True)
            for key, body in some:
                if done.succeeded:
                    digest = merkle.digest(body).hex()
                    results.append(Stored(key=key, revision=done.revision, size=len(body), digest=digest, created=True))
                else:  # some are there already
                    results.append(await self.fact(key, body))
        return results

    async def advance(self, sequence: int) -> None:
        """Moves `latest` up to a number, and never down."""
        await self.replace(self.keys.latest, str(sequence).encode(), lambda there: int(there) < sequence)

    async def hold(self, holding: Holding) -> bool:
        """Notes a blob in Walrus, or that it lives longer now; never for less long than it did."""

        def longer(there: bytes) -> bool:
            known = msgspec.json.decode(there, type=Holding)
            return (known.end_epoch, known.stored_ms) < (holding.end_epoch, holding.stored_ms)

        return await self.replace(self.keys.holding(holding.blob_id), msgspec.json.encode(holding), longer)

    async def replace(
        self,
        key: str,
        value: bytes,
        newer: Callable[[bytes], bool],
        *,
        lease: Callable[[], Awaitable[int]] | None = None,
    ) -> bool:
        """Writes a key if it is absent or `newer` says so of what is there; True where it was written.

        The guard is the version that was read, so of any number of writers in any order the newest stays.

        Raises:
            Conflict: `etcd-contention`. Unavailable: etcd is away.
        """
        for _ in range(_TRIES):
            kv = await self._etcd.get(key)
            if kv is not None and not newer(kv.value):
                return False
            guard = Compare.unchanged(kv) if kv else Compare(key, Target.CREATE_REVISION, 0, Relation.EQUAL)
            put = Put(key, value, await lease() if lease else 0)
            if (await self._etcd.txn([guard], [put], repeatable=True)).succeeded:
                return True
        raise Conflict(f"{key} is moved by others all the time", reason="etcd-contention")

    async def _all(self, write: Callable[[T], Awaitable[object]], items: Iterable[T]) -> None:
        async def one(item: T) -> None:
            async with self._writes:
                await write(item)

        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))


def _judged(value: Value, there: Manifest, revision: int) -> Stored | DaasError:
    if not value.agrees(there):
        return Refused(f"{value.key} holds other evidence ({there.digest}) than {value.digest}", reason="evidence-fork")
    return stored_of(value.key, there, revision, created=False)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]
