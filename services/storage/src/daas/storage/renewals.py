"""Blobs in Walrus are kept alive: long before one may end it is stored again for longer."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from daas.common.errors import DaasError
from daas.common.logs import get_logger
from daas.etcd import EtcdClient
from daas.evidence import Keys
from daas.evidence.writer import EtcdWriter
from daas.storage.committer import Uploads
from daas.walrus import Holding, due, renew

log = get_logger("renewals")

#: Renewals of one round; what is left is due in the next one as well, and long before it is late.
ROUND_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class RenewalMetrics:
    """What became of renewals, and how near the first end is."""

    renewed: Counter
    failed: Counter
    blobs: Gauge
    first_end: Gauge

    @staticmethod
    def on(registry: CollectorRegistry) -> "RenewalMetrics":
        """Registers them."""
        return RenewalMetrics(
            renewed=Counter("daas_storage_renewed", "Blobs stored for longer", registry=registry),
            failed=Counter("daas_storage_renewal_failures", "Renewals that failed", ["reason"], registry=registry),
            blobs=Gauge("daas_storage_walrus_blobs", "Blobs that are kept alive", registry=registry),
            first_end=Gauge(
                "daas_storage_walrus_first_end_seconds",
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
        """Renews what is due; returns how many were."""
        holdings = [
            msgspec.json.decode(kv.value, type=Holding) async for kv in self._etcd.prefix(self._keys.holdings())
        ]
        ends = [held.expires_ms(self._epoch_ms) for held in holdings]
        self._metrics.blobs.set(len(holdings))
        self._metrics.first_end.set(min(ends, default=0) / 1000)
        renewed = 0
        for held in due(holdings, now_ms=now_ms, epoch_ms=self._epoch_ms)[:ROUND_MAX]:
            try:
                done = await renew(self._uploads.client, held, epochs=self._uploads.epochs, now_ms=now_ms)
                await self._writer.hold(done.after)
            except DaasError as error:
                self._metrics.failed.labels(error.reason).inc()
                log.warning("blob not renewed", blob=held.blob_id, reason=error.reason, error=error.message)
                continue
            renewed += 1
            self._metrics.renewed.inc()
        return renewed
