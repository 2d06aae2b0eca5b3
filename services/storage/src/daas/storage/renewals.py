"""Blobs in Walrus are kept alive: long before one may end it is stored again for longer.

Only while something needs it: what nothing refers to any more is let go, and ends with its time. It can't be deleted,
since everything is stored as permanent.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from daas.common.errors import DaasError
from daas.common.logs import get_logger
from daas.etcd import MAX_TXN_OPERATIONS, Compare, Delete, EtcdClient, Get, KeyValue
from daas.evidence import Keys
from daas.evidence.layout import decode_manifest
from daas.evidence.writer import EtcdWriter
from daas.storage.committer import Uploads
from daas.walrus import Holding, due, renew

log = get_logger("renewals")

#: Renewals of one round; what is left is due in the next one as well, and long before it is late.
ROUND_MAX: Final = 1_000
#: A holding is written seconds before the manifests that refer to its blob; younger ones are never let go.
YOUNG_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class RenewalMetrics:
    """What became of renewals, and how near the first end is."""

    renewed: Counter
    failed: Counter
    let_go: Counter
    blobs: Gauge
    first_end: Gauge

    @staticmethod
    def on(registry: CollectorRegistry) -> "RenewalMetrics":
        """Registers them."""
        return RenewalMetrics(
            renewed=Counter("daas_storage_renewed", "Blobs stored for longer", registry=registry),
            failed=Counter("daas_storage_renewal_failures", "Renewals that failed", ["reason"], registry=registry),
            let_go=Counter(
                "daas_storage_walrus_let_go", "Blobs that nothing refers to and that are not renewed", registry=registry
            ),
            blobs=Gauge("daas_storage_walrus_blobs", "Blobs that are kept alive", registry=registry),
            first_end=Gauge(
                "daas_storage_walrus_first_end_timestamp_seconds",
                "Unix time at which the first blob may end; 0 where there is none",
                registry=registry,
            ),
        )


class Renewals:
    """The job.

    Args:
        etcd, writer, keys: where holdings are.
        uploads: Walrus.
        epoch_ms: length of an epoch.
        every_s: pause between rounds.
        metrics: see `RenewalMetrics`.
    """

    def __init__(
        self,
        etcd: EtcdClient,
        writer: EtcdWriter,
        keys: Keys,
        uploads: Uploads,
        metrics: RenewalMetrics,
        *,
        epoch_ms: int,
        every_s: float,
    ) -> None:
        self._etcd = etcd
        self._writer = writer
        self._keys = keys
        self._uploads = uploads
        self._metrics = metrics
        self._epoch_ms = epoch_ms
        self._every_s = every_s

    async def run(self) -> None:
        """Round after round."""
        while True:
            try:
                await self.round(time.time_ns() // 1_000_000)
            except DaasError as error:
                self._metrics.failed.labels(error.reason).inc()
                log.warning("renewals not looked at", reason=error.reason, error=error.message)
            await asyncio.sleep(self._every_s)

    async def round(self, now_ms: int) -> int:
        """Renews what is due and still needed; returns how many were."""
        found = {kv.key: kv async for kv in self._etcd.prefix(self._keys.holdings())}
        holdings = [msgspec.json.decode(kv.value, type=Holding) for kv in found.values()]
        ends = [held.expires_ms(self._epoch_ms) for held in holdings]
        self._metrics.blobs.set(len(holdings))
        self._metrics.first_end.set(min(ends, default=0) / 1000)
        renewed = 0
        for held in due(holdings, now_ms=now_ms, epoch_ms=self._epoch_ms)[:ROUND_MAX]:
            try:
                if now_ms - held.stored_ms >= YOUNG_MS and not await self._needed(held):
                    await self._let_go(held, found[self._keys.holding(held.blob_id)])
                    continue
                done = await renew(self._uploads.client, held, epochs=self._uploads.epochs, now_ms=now_ms)
                await self._writer.hold(done.after)
            except DaasError as error:
                self._metrics.failed.labels(error.reason).inc()
                log.warning("blob not renewed", blob=held.blob_id, reason=error.reason, error=error.message)
                continue
            renewed += 1
            self._metrics.renewed.inc()
        return renewed

    async def _needed(self, held: Holding) -> bool:
        """Whether a manifest refers to the blob, or it is unknown which ones might."""
        if not held.users:
            return True
        for at in range(0, len(held.users), MAX_TXN_OPERATIONS):
            reads = [Get(key) for key in held.users[at : at + MAX_TXN_OPERATIONS]]
            for kv in (await self._etcd.txn([], reads, repeatable=True)).reads:
                if kv is not None and any(p.quilt == held.blob_id for p in decode_manifest(kv.value).patches):
                    return True
        return False

    async def _let_go(self, held: Holding, kv: KeyValue) -> None:
        """Forgets a blob, unless it was stored anew in the meantime."""
        done = await self._etcd.txn([Compare.unchanged(kv)], [Delete(kv.key)], repeatable=True)
        if done.succeeded:
            self._metrics.let_go.inc()
            log.info("blob let go", blob=held.blob_id, end_epoch=held.end_epoch)
