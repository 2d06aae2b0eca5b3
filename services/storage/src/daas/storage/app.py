"""The storage service: which facts it takes, what it writes for each, and what it tells about it."""

from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from daas.common import subjects
from daas.common.access import PolicyDecided
from daas.common.bus import Event
from daas.common.errors import InvalidInput, Unavailable
from daas.common.logs import get_logger
from daas.common.messages import (
    AuditRecorded,
    ChainPolicyChanged,
    EnclaveAttested,
    EnclaveRegistered,
    EnclaveRevoked,
    M,
    MetadataChanged,
    PlacementAnchored,
    PlacementBindFailed,
    PlacementBound,
    PlacementReceived,
    PlacementRefused,
    StorageStored,
    encode,
)
from daas.common.plans import ALLOCATION, REBALANCE, Planned
from daas.common.secret_facts import SecretDenied, SecretOpened, SecretSealed
from daas.common.secretscan import SecretFound
from daas.common.service import ServiceApp
from daas.common.subjects import Service
from daas.common.tracing import span
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore, Keys
from daas.evidence.packing import Stored
from daas.evidence.writer import EtcdWriter
from daas.storage.archive import Archive
from daas.storage.auditing import audit_value
from daas.storage.committer import CommitMetrics, Committer, Uploads
from daas.storage.metadata import MetadataStore
from daas.storage.outbox import Outbox
from daas.storage.renewals import RenewalMetrics, Renewals
from daas.storage.settings import StorageSettings
from daas.storage.snapshots import Snapshots

log = get_logger("storage")

#: Facts of one kind that are written at the same time.
_IN_FLIGHT: Final = 64
#: Of an upload, what is left for the form around the files.
_FORM_SHARE: Final = 0.9


class Storage:
    """The service's handlers and tasks, registered on a ServiceApp.

    Args:
        app: the shell.
        settings: the settings.
    """

    def __init__(self, app: ServiceApp, settings: StorageSettings) -> None:
        self._app = app
        self._settings = settings
        metrics = app.metrics
        self._stored = Counter("daas_storage_stored", "Values stored", ["kind"], registry=metrics)
        self._metadata_facts = Counter(
            "daas_storage_metadata", "Facts about public objects, by outcome", ["outcome"], registry=metrics
        )
        self._secrets = Counter(
            "daas_storage_secrets_refused", "What looked like a secret, by rule", ["rule"], registry=metrics
        )
        self._head = Gauge("daas_storage_head", "Newest stored batch", registry=metrics)
        self._commits = CommitMetrics(
            stored=self._stored,
            waiting=Gauge("daas_storage_waiting", "Values that wait for their group", ["kind"], registry=metrics),
            retries=Counter(
                "daas_storage_retries", "Groups that could not be written yet", ["kind", "reason"], registry=metrics
            ),
            seconds=Histogram(
                "daas_storage_commit_seconds", "How long a group took to be durable", ["kind"], registry=metrics
            ),
        )
        self._renewal_metrics = RenewalMetrics.on(metrics)
        self._walrus = settings.walrus()
        self._etcd = EtcdClient(
            settings.etcd_endpoints,
            tls=settings.etcd_tls(),
            timeout_ms=settings.storage_etcd_timeout_ms,
            user=settings.etcd_credentials(),
        )
        keys = Keys(settings.cluster)
        writer = EtcdWriter(self._etcd, keys)
        uploads = self._uploads()
        self._committers = {
            kind: Committer(
                kind,
                backend,
                writer,
                uploads,
                outbox=self._outbox(kind),
                metrics=self._commits,
                latest=kind == "evidence",
            )
            for kind, backend in (
                ("evidence", settings.storage_evidence_backend),
                ("audit", settings.storage_audit_backend),
                ("snapshot", settings.storage_snapshot_backend),
            )
        }
        self._keys = keys
        self._writer = writer
        self._store = EvidenceStore(self._etcd, settings.cluster, walrus=self._walrus)
        self._metadata = MetadataStore(self._etcd, writer, keys)
        self._archive: Archive | None = None
        app.on_start(self.start)
        app.on_stop(self.stop)
        app.check("etcd")(self.check_etcd)
        if uploads is not None:
            app.check("walrus")(self.check_walrus)
            renewals = Renewals(
                self._etcd,
                writer,
                keys,
                uploads,
                self._renewal_metrics,
                epoch_ms=settings.storage_walrus_epoch_ms,
                every_s=settings.storage_walrus_renewal_s,
            )
            app.task("renewals")(renewals.run)
        for kind, committer in self._committers.items():
            app.task(f"commit-{kind}")(committer.run)
        app.task("snapshots")(self.copy_snapshots)
        many = partial(app.on, in_flight=_IN_FLIGHT)
        many(subjects.PLACEMENT_ANCHORED, PlacementAnchored)(self.anchored)
        many(subjects.PLACEMENT_REFUSED, PlacementRefused)(self.refused)
        many(subjects.PLACEMENT_RECEIVED, PlacementReceived)(self.received)
        many(subjects.PLACEMENT_BOUND, PlacementBound)(self.bound)
        many(subjects.PLACEMENT_BIND_FAILED, PlacementBindFailed)(self.bind_failed)
        many(subjects.POLICY_DECIDED, PolicyDecided)(self.access_decided)
        many(subjects.ALLOCATION_PLANNED, Planned)(self.planned)
        many(subjects.REBALANCE_PLANNED, Planned)(self.planned)
        many(subjects.ENCLAVE_ATTESTED, EnclaveAttested)(self.attested)
        many(subjects.ENCLAVE_REGISTERED, EnclaveRegistered)(self.registered)
        many(subjects.ENCLAVE_REVOKED, EnclaveRevoked)(self.revoked)
        many(subjects.METADATA_CHANGED, MetadataChanged)(self.metadata_changed)
        many(subjects.AUDIT_RECORDED, AuditRecorded)(self.audited)
        many(subjects.SECRET_SEALED, SecretSealed)(partial(self.secret_fact, "sealed"))
        many(subjects.SECRET_OPENED, SecretOpened)(partial(self.secret_fact, "opened"))
        many(subjects.SECRET_DENIED, SecretDenied)(partial(self.secret_fact, "denied"))
        many(subjects.CHAIN_POLICY_CHANGED, ChainPolicyChanged)(self.policy_changed)

    def _uploads(self) -> Uploads | None:
        settings = self._settings
        if self._walrus is None:
            return None
        return Uploads(
            client=self._walrus,
            epochs=settings.storage_walrus_epochs,
            linger_s=settings.storage_walrus_linger_ms / 1000,
            bytes_max=int(settings.storage_walrus_upload_bytes * _FORM_SHARE),
        )

    def _outbox(self, kind: str) -> Outbox:
        directory = self._settings.state_dir
        return Outbox(directory / "outbox" / kind if directory is not None else None)

    @property
    def archive(self) -> Archive:
        """The archive, once started."""
        assert self._archive is not None, "started"
        return self._archive

    async def start(self) -> None:
        """Takes up the bus."""
        self._archive = Archive(self._app.bus, self._etcd, self._store, self._committers["evidence"].commit)

    async def stop(self) -> None:
        """Closes the connections."""
        await self._etcd.close()
        if self._walrus is not None:
            await self._walrus.close()

    async def check_etcd(self) -> None:
        """Ready while etcd answers."""
        self._app.status["head"] = await self._store.latest()
        for kind, committer in self._committers.items():
            self._app.status[kind] = committer.backend.value
            if committer.problem is not None:
                raise Unavailable(f"{kind}: {committer.problem.message}", reason=committer.problem.reason)

    async def check_walrus(self) -> None:
        """Ready while an aggregator answers."""
        assert self._walrus is not None, "only registered with it"
        await self._walrus.check()

    async def anchored(self, event: Event[PlacementAnchored]) -> None:
        """Stores the bundle of an anchored batch, and says so once it is durable."""
        with span("store evidence", sequence=event.body.sequence):
            stored, entries = await self.archive.anchored(event.body)
        sequence = event.body.sequence
        await self._tell("evidence", stored, sequence, simulated=event.body.simulated)
        head = max(sequence, self._app.status.get("head", 0))
        self._head.set(head)
        self._app.status["head"] = head
        log.info("stored", sequence=sequence, size=stored.size, entries=entries, created=stored.created)

    async def audited(self, event: Event[AuditRecorded]) -> None:
        """Archives a batch of audit events."""
        value = audit_value(event.body, self._keys, lambda rule: self._secrets.labels(rule).inc())
        if value is not None:
            stored = await self._committers["audit"].commit(value)
            await self._tell("audit", stored, None, simulated=False)

    async def metadata_changed(self, event: Event[MetadataChanged]) -> None:
        """Keeps a public object's newest state."""
        try:
            outcome = await self._metadata.changed(event.body)
        except SecretFound as error:
            self._secrets.labels(error.finding.rule).inc()
            raise
        self._metadata_facts.labels(outcome).inc()

    async def secret_fact(self, fact: str, event: Event[M]) -> None:
        """Keeps what happened to a sealed Secret; what is in it is not in the fact."""
        await self._fact(f"secret-{fact}", self._keys.secret_fact(fact, event.sequence), event)

    async def policy_changed(self, event: Event[ChainPolicyChanged]) -> None:
        """Keeps the newest change of a policy."""
        if await self._metadata.policy_changed(event.body, event.raw):
            self._stored.labels("policy").inc()

    async def refused(self, event: Event[PlacementRefused]) -> None:
        """Keeps the fact that a batch was not anchored."""
        await self._fact("refusal", f"{self._keys.refusals(event.body.sequence)}{event.sequence:020d}", event)

    async def received(self, event: Event[PlacementReceived]) -> None:
        """Keeps a receipt for the log up to an entry; of several for one entry the first."""
        await self._fact("receipt", self._keys.receipt(event.body.log_sequence), event)

    async def bound(self, event: Event[PlacementBound]) -> None:
        """Keeps what was bound, pod by pod."""
        facts = {
            self._keys.bound(pod.namespace, pod.name, pod.pod_uid, pod.sequence): encode(pod)
            for pod in event.body.each()
        }
        for stored in await self._writer.facts(facts):
            if stored.created:
                self._stored.labels("bound").inc()

    async def bind_failed(self, event: Event[PlacementBindFailed]) -> None:
        """Keeps the fact that a pod could not be bound."""
        body = event.body
        key = self._keys.bind_failed(body.namespace, body.name, body.pod_uid, body.sequence)
        await self._fact("bind-failed", key, event)

    async def access_decided(self, event: Event[PolicyDecided]) -> None:
        """Keeps signed access decisions as they were published."""
        await self._fact("access", self._keys.access(event.sequence), event)

    async def planned(self, event: Event[Planned]) -> None:
        """Keeps a signed plan.

        Raises:
            InvalidInput: `plan-kind`: the key would say what is not so.
        """
        if event.body.kind not in (ALLOCATION, REBALANCE):
            raise InvalidInput(f"{event.body.kind!r} is no kind of plan", reason="plan-kind", field="kind")
        await self._fact("plan", self._keys.plan(event.body.kind, event.sequence), event)

    async def attested(self, event: Event[EnclaveAttested]) -> None:
        """Keeps an attestation document by the key it vouches for."""
        key = f"{self._keys.attestations(event.body.public_key)}{event.sequence:020d}"
        stored = await self._fact("attestation", key, event)
        self.archive.forget(event.body.public_key)
        await self._tell("attestation", stored, None, simulated=event.body.simulated)

    async def registered(self, event: Event[EnclaveRegistered]) -> None:
        """Keeps a registration by its key."""
        await self._fact(
            "registration", f"{self._keys.registrations(event.body.public_key)}{event.sequence:020d}", event
        )
        self.archive.forget(event.body.public_key)

    async def revoked(self, event: Event[EnclaveRevoked]) -> None:
        """Keeps a revocation by its key."""
        await self._fact("revocation", f"{self._keys.revocations(event.body.public_key)}{event.sequence:020d}", event)

    async def copy_snapshots(self) -> None:
        """Copies the enclave's snapshots as they appear, for ever, and thins out old ones."""
        settings = self._settings
        snapshots = Snapshots(
            self._app.bus,
            self._etcd,
            self._store,
            self._committers["snapshot"].commit,
            lambda known: setattr(self.archive, "snapshots", known),
            registry=self._app.metrics,
            poll_s=settings.storage_snapshot_poll_s,
            newest=settings.storage_snapshots_kept,
            gap=settings.storage_snapshot_gap,
        )
        await snapshots.run()

    async def _fact(self, kind: str, key: str, event: Event[M]) -> Stored:
        stored = await self._writer.fact(key, event.raw)
        if stored.created:
            self._stored.labels(kind).inc()
        return stored

    async def _tell(self, kind: str, stored: Stored, sequence: int | None, *, simulated: bool) -> None:
        """Says that something is durable; saying it again has the same id."""
        await self._app.bus.publish(
            subjects.STORAGE_STORED,
            StorageStored(
                kind=kind,
                key=stored.key,
                revision=stored.revision,
                size=stored.size,
                digest=stored.digest,
                sequence=sequence,
                simulated=simulated or stored.simulated,
                blob=stored.blob,
                patch=stored.patch,
            ),
            message_id=f"stored:{stored.key}",
        )


def build(settings: StorageSettings) -> ServiceApp:
    """The service, ready to run."""
    app = ServiceApp(Service.STORAGE, settings)
    Storage(app, settings)
    return app
