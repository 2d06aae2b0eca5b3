"""The enclave's snapshots: copied as they appear, and thinned out without ever taking one that a replay needs.

The newest are all kept. Of the older ones so many remain that from each batch the state to start its replay from is at
most `gap` batches back; a batch before the oldest starts from the first.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from daas.common import subjects
from daas.common.bus import Bus
from daas.common.errors import DaasError, NotFound, Refused
from daas.common.logs import get_logger
from daas.etcd import Compare, Delete, EtcdClient
from daas.evidence import EvidenceStore
from daas.evidence.layout import decode_manifest
from daas.evidence.packing import Stored, Value, packed

log = get_logger("snapshots")

#: Snapshots that are removed in one round, so that a long history does not hold up the newest.
REMOVED_MAX: Final = 64


def removable(kept: Sequence[int], *, newest: int, gap: int) -> list[int]:
    """Which of ascending numbers may go.

    Args:
        kept: what is stored.
        newest: so many of the highest stay.
        gap: a removal never leaves neighbours (or the beginning, 0, and the first) further apart than this.
    """
    gone: list[int] = []
    before = 0
    for at, number in enumerate(kept[:-newest] if newest else kept):
        after = kept[at + 1] if at + 1 < len(kept) else number
        if after - before <= gap and after != number:
            gone.append(number)
        else:
            before = number
    return gone


class Snapshots:
    """Copies and thins out.

    Args:
        bus: where the enclave puts them.
        etcd, store: where they are kept.
        commit: makes a value durable.
        known: told the numbers of all that are stored, ascending.
        registry: for the counters.
        poll_s: pause between looks.
        newest, gap: see `removable`.
    """

    def __init__(
        self,
        bus: Bus,
        etcd: EtcdClient,
        store: EvidenceStore,
        commit: Callable[[Value], asyncio.Future[Stored]],
        known: Callable[[tuple[int, ...]], None],
        *,
        registry: CollectorRegistry,
        poll_s: float,
        newest: int,
        gap: int,
    ) -> None:
        self._bus = bus
        self._etcd = etcd
        self._store = store
        self._commit = commit
        self._tell = known
        self._poll_s = poll_s
        self._newest = newest
        self._gap = gap
        self._known: tuple[int, ...] | None = None
        self._failures = Counter(
            "daas_storage_snapshot_failures", "Rounds of copying snapshots that failed", registry=registry
        )
        self._removed = Counter("daas_storage_snapshots_removed", "Snapshots thinned out", registry=registry)
        self._kept = Gauge("daas_storage_snapshots", "Snapshots that are kept", registry=registry)

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            try:
                await self.round()
            except DaasError as error:
                self._failures.inc()
                log.warning("snapshots not copied", reason=error.reason, error=error.message)
            await asyncio.sleep(self._poll_s)

    async def round(self) -> None:
        """Copies what is new, then removes what is too many."""
        if self._known is None:
            self._set(await self._store.snapshots())
        for name in await self._bus.list_objects(subjects.SNAPSHOT_BUCKET):
            # One that was thinned out before is not copied again while the enclave still has it.
            if name.isdecimal() and int(name) > (self._known or (0,))[-1]:
                await self._copy(name)
        for number in removable(self._known or (), newest=self._newest, gap=self._gap)[:REMOVED_MAX]:
            await self._remove(number)

    def _set(self, known: tuple[int, ...]) -> None:
        self._known = known
        self._kept.set(len(known))
        self._tell(known)

    async def _copy(self, name: str) -> None:
        try:
            data = await self._bus.get_object(subjects.SNAPSHOT_BUCKET, name)
        except NotFound:
            return  # removed by the enclave in favour of newer ones
        sequence = int(name)
        value = await asyncio.to_thread(packed, self._store.keys.snapshot(sequence), f"snapshot-{sequence:020d}", data)
        try:
            stored = await self._commit(value)
        except Refused as error:
            # Two enclaves' states after one batch differ: the ledger anchors one; a verifier finds out which.
            self._failures.inc()
            log.warning("snapshot refused", sequence=sequence, reason=error.reason, error=error.message)
            return
        self._set(tuple(sorted({*(self._known or ()), sequence})))
        log.info("snapshot stored", sequence=sequence, size=stored.size)

    async def _remove(self, sequence: int) -> None:
        """The manifest first: whoever is about to read by it finds the bytes, or finds it gone and starts earlier."""
        key = self._store.keys.snapshot(sequence)
        kv = await self._etcd.get(key)
        if kv is not None:
            manifest = decode_manifest(kv.value)
            await self._etcd.txn([Compare.unchanged(kv)], [Delete(key)], repeatable=True)
            if not await self._shared(manifest.digest):
                for index in range(manifest.parts):
                    await self._etcd.delete(self._store.keys.part(manifest.digest, index))
        self._removed.inc()
        self._set(tuple(number for number in self._known or () if number != sequence))
        log.info("snapshot removed", sequence=sequence)

    async def _shared(self, digest: str) -> bool:
        """Whether another snapshot has the same bytes: a state that no batch in between has changed."""
        async for kv in self._etcd.prefix(self._store.keys.snapshots()):
            if decode_manifest(kv.value).digest == digest:
                return True
        return False
