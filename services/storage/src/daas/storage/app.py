"""The storage service: which facts it takes, what it writes for each, and what it tells about it."""

import asyncio
from functools import partial
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from daas.common import subjects
from daas.common.bus import Event
from daas.common.errors import NotFound, Refused, Unavailable
from daas.common.messages import (
    EnclaveAttested,
    EnclaveRegistered,
    EnclaveRevoked,
    M,
    PlacementAnchored,
    PlacementBindFailed,
    PlacementBound,
    PlacementReceived,
    PlacementRefused,
    StorageStored,
)
from daas.common.service import ServiceApp
from daas.common.subjects import Service
from daas.etcd import EtcdClient
from daas.storage.archive import Archive
from daas.storage.settings import StorageSettings
from daas.storage.writer import Stored

log = structlog.get_logger(__name__)

#: A fact waits for etcd, or for the fact before it, as long as an outage may last: at 10 s a try, some 28 hours.
_MAX_DELIVER: Final = 10_000
#: Facts of one kind that are written at the same time.
_IN_FLIGHT: Final = 64


class Storage:
    """The service's handlers and tasks, registered on a ServiceApp.

    Args:
        app: the shell.
        settings: the settings.
    """

    def __init__(self, app: ServiceApp, settings: StorageSettings) -> None:
        self._app = app
        self._settings = settings
        self._etcd: EtcdClient | None = None
        self._archive: Archive | None = None
        self._stored = Counter("daas_storage_stored", "Values written to etcd", ["kind"], registry=app.metrics)
        self._snapshot_failures = Counter(
            "daas_storage_snapshot_failures", "Rounds of copying snapshots that failed", registry=app.metrics
        )
        self._head = Gauge("daas_storage_head", "Newest stored batch", registry=app.metrics)
        app.on_start(self.start)
        app.on_stop(self.stop)
        app.check("etcd")(self.check_etcd)
        app.task("snapshots")(self.copy_snapshots)
        # One at a time and in order: a bundle needs its predecessor's header.
        app.on(subjects.PLACEMENT_ANCHORED, PlacementAnchored, in_flight=1, max_deliver=_MAX_DELIVER)(self.anchored)
        many = partial(app.on, in_flight=_IN_FLIGHT, max_deliver=_MAX_DELIVER)
        many(subjects.PLACEMENT_REFUSED, PlacementRefused)(self.refused)
        many(subjects.PLACEMENT_RECEIVED, PlacementReceived)(self.received)
        many(subjects.PLACEMENT_BOUND, PlacementBound)(self.bound)
        many(subjects.PLACEMENT_BIND_FAILED, PlacementBindFailed)(self.bind_failed)
        many(subjects.ENCLAVE_ATTESTED, EnclaveAttested)(self.attested)
        many(subjects.ENCLAVE_REGISTERED, EnclaveRegistered)(self.registered)
        many(subjects.ENCLAVE_REVOKED, EnclaveRevoked)(self.revoked)

    @property
    def archive(self) -> Archive:
        """The archive, once started."""
        assert self._archive is not None, "started"
        return self._archive

    async def start(self) -> None:
        """Connects to etcd and says how far the evidence reaches."""
        settings = self._settings
        self._etcd = EtcdClient(
            settings.etcd_endpoints, tls=settings.etcd_tls(), timeout_ms=settings.storage_etcd_timeout_ms
        )
        self._archive = Archive(self._app.bus, self._etcd, self._app.bus.cluster)

    async def stop(self) -> None:
        """Closes the connection to etcd."""
        if self._etcd is not None:
            await self._etcd.close()

    async def check_etcd(self) -> None:
        """Ready while etcd answers."""
        self._app.status["head"] = await self.archive.store.latest()

    async def anchored(self, event: Event[PlacementAnchored]) -> None:
        """Stores the bundle of an anchored batch, and says so once it is durable."""
        stored, bundle = await self.archive.anchored(event.body)
        sequence = event.body.sequence
        await self._tell("evidence", stored, sequence, simulated=event.body.simulated)
        self._head.set(sequence)
        self._app.status["head"] = sequence
        log.info("stored", sequence=sequence, size=stored.size, entries=len(bundle.log), created=stored.created)

    async def refused(self, event: Event[PlacementRefused]) -> None:
        """Keeps the fact that a batch was not anchored."""
        key = f"{self.archive.store.keys.refusals(event.body.sequence)}{event.sequence:020d}"
        await self._fact("refusal", key, event)

    async def received(self, event: Event[PlacementReceived]) -> None:
        """Keeps a receipt for the log up to an entry; of several for one entry the first."""
        await self._fact("receipt", self.archive.store.keys.receipt(event.body.log_sequence), event)

    async def bound(self, event: Event[PlacementBound]) -> None:
        """Keeps the fact that a pod was bound."""
        body = event.body
        key = self.archive.store.keys.bound(body.namespace, body.name, body.pod_uid, body.sequence)
        await self._fact("bound", key, event)

    async def bind_failed(self, event: Event[PlacementBindFailed]) -> None:
        """Keeps the fact that a pod could not be bound."""
        body = event.body
        key = self.archive.store.keys.bind_failed(body.namespace, body.name, body.pod_uid, body.sequence)
        await self._fact("bind-failed", key, event)

    async def attested(self, event: Event[EnclaveAttested]) -> None:
        """Keeps an attestation document by the key it vouches for."""
        key = f"{self.archive.store.keys.attestations(event.body.public_key)}{event.sequence:020d}"
        stored = await self._fact("attestation", key, event)
        await self._tell("attestation", stored, None, simulated=event.body.simulated)

    async def registered(self, event: Event[EnclaveRegistered]) -> None:
        """Keeps a registration by its key."""
        key = f"{self.archive.store.keys.registrations(event.body.public_key)}{event.sequence:020d}"
        await self._fact("registration", key, event)

    async def revoked(self, event: Event[EnclaveRevoked]) -> None:
        """Keeps a revocation by its key."""
        key = f"{self.archive.store.keys.revocations(event.body.public_key)}{event.sequence:020d}"
        await self._fact("revocation", key, event)

    async def copy_snapshots(self) -> None:
        """Copies the enclave's snapshots as they appear, for ever: the enclave keeps only the newest few."""
        while True:
            try:
                await self._copy_new_snapshots()
            except Unavailable as error:
                self._snapshot_failures.inc()
                log.warning("snapshots not copied", reason=error.reason, error=error.message)
            await asyncio.sleep(self._settings.storage_snapshot_poll_s)

    async def _copy_new_snapshots(self) -> None:
        if not self.archive.snapshots:
            self.archive.snapshots = await self.archive.store.snapshots()
        for name in await self._app.bus.list_objects(subjects.SNAPSHOT_BUCKET):
            if name.isdecimal() and int(name) not in self.archive.snapshots:
                await self._copy_snapshot(name)

    async def _copy_snapshot(self, name: str) -> None:
        try:
            data = await self._app.bus.get_object(subjects.SNAPSHOT_BUCKET, name)
        except NotFound:
            return  # removed by the enclave in favour of newer ones
        sequence = int(name)
        try:
            stored = await self.archive.writer.snapshot(sequence, data)
        except Refused as error:
            # Two enclaves' states after one batch differ: the ledger anchors one; a verifier finds out which.
            self._snapshot_failures.inc()
            log.warning("snapshot refused", sequence=sequence, reason=error.reason, error=error.message)
            return
        self.archive.snapshots = tuple(sorted({*self.archive.snapshots, sequence}))
        self._stored.labels("snapshot").inc()
        log.info("snapshot stored", sequence=sequence, size=stored.size)

    async def _fact(self, kind: str, key: str, event: Event[M]) -> Stored:
        stored = await self.archive.writer.fact(key, event.raw)
        if stored.created:
            self._stored.labels(kind).inc()
        return stored

    async def _tell(self, kind: str, stored: Stored, sequence: int | None, *, simulated: bool) -> None:
        """Says that something is durable; saying it again has the same id."""
        if kind == "evidence" and stored.created:
            self._stored.labels(kind).inc()
        await self._app.bus.publish(
            subjects.STORAGE_STORED,
            StorageStored(
                kind=kind,
                key=stored.key,
                revision=stored.revision,
                size=stored.size,
                digest=stored.digest,
                sequence=sequence,
                simulated=simulated,
            ),
            message_id=f"stored:{stored.key}",
        )


def build(settings: StorageSettings) -> ServiceApp:
    """The service, ready to run."""
    app = ServiceApp(Service.STORAGE, settings)
    Storage(app, settings)
    return app
