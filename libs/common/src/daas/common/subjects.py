"""The subject catalogue: the only place where a subject, a stream or a durable is spelled.

Everything that must agree with it is derived from it: stream and consumer declarations, NATS permissions, the
monitoring documentation. Subjects read `daas.v1.<cluster>.<context>.<fact>`; facts are in the past tense, requests
are verbs.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from daas.common.errors import InvalidInput

ROOT: Final = "daas.v1"
MEBIBYTE: Final = 1024 * 1024
#: One log entry of 512 events stays below this; nats-server's max_payload is set to it (its advice is 8 MiB at most).
MAX_PAYLOAD_BYTES: Final = 8 * MEBIBYTE
#: What a publisher may send in one message: leaves room for headers and for a dead letter that wraps it in base64.
MAX_MESSAGE_BYTES: Final = 4 * MEBIBYTE

_CLUSTER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Service(StrEnum):
    """Who speaks on the bus. The value is the NATS user, the CloudEvents source and the durable's prefix."""

    GATEWAY = "gateway"
    ENCLAVE = "enclave"
    RELAY = "relay"
    STORAGE = "storage"
    SEAL_KEEPER = "seal-keeper"
    CLI = "cli"
    MONITOR = "monitor"
    OPERATOR = "operator"


class Kind(StrEnum):
    """What a message on a subject is."""

    LOG = "log"
    FACT = "fact"
    REQUEST = "request"
    ADVISORY = "advisory"


class Stream(StrEnum):
    """JetStream streams, one per bounded context."""

    LOG = "LOG"
    PLACEMENT = "PLACEMENT"
    ENCLAVE = "ENCLAVE"
    POLICY = "POLICY"
    PLAN = "PLAN"
    SECRET = "SECRET"  # noqa: S105 - the name of a stream
    CHAIN = "CHAIN"
    METADATA = "METADATA"
    STORAGE = "STORAGE"
    DLQ = "DLQ"
    ADVISORY = "ADVISORY"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one stream. Whichever is met first removes the oldest messages.

    Attributes:
        max_age_s: seconds a message is kept.
        max_bytes: size of the stream on disk.
        duplicate_window_s: how long a Nats-Msg-Id is remembered.
    """

    max_age_s: int
    max_bytes: int
    duplicate_window_s: int = 120


DAY_S: Final = 86_400
#: Reasons: the LOG must outlive the oldest snapshot an enclave may restart from; facts are archived by storage within
#: seconds and kept for operators; dead letters wait for a human.
LIMITS: Final[dict[Stream, StreamLimits]] = {
    Stream.LOG: StreamLimits(max_age_s=7 * DAY_S, max_bytes=8192 * MEBIBYTE),
    Stream.PLACEMENT: StreamLimits(max_age_s=7 * DAY_S, max_bytes=4096 * MEBIBYTE),
    Stream.ENCLAVE: StreamLimits(max_age_s=30 * DAY_S, max_bytes=64 * MEBIBYTE),
    Stream.POLICY: StreamLimits(max_age_s=7 * DAY_S, max_bytes=1024 * MEBIBYTE),
    Stream.PLAN: StreamLimits(max_age_s=30 * DAY_S, max_bytes=512 * MEBIBYTE),
    Stream.SECRET: StreamLimits(max_age_s=7 * DAY_S, max_bytes=256 * MEBIBYTE),
    Stream.CHAIN: StreamLimits(max_age_s=30 * DAY_S, max_bytes=256 * MEBIBYTE),
    Stream.METADATA: StreamLimits(max_age_s=2 * DAY_S, max_bytes=2048 * MEBIBYTE),
    Stream.STORAGE: StreamLimits(max_age_s=2 * DAY_S, max_bytes=256 * MEBIBYTE),
    # A dead letter may be written again by whoever reads the server's advisory about it, much later.
    Stream.DLQ: StreamLimits(max_age_s=30 * DAY_S, max_bytes=512 * MEBIBYTE, duplicate_window_s=DAY_S),
    # The server's own advisories about messages it gave up on wait here until the service in question is back.
    Stream.ADVISORY: StreamLimits(max_age_s=7 * DAY_S, max_bytes=64 * MEBIBYTE),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """One row of the catalogue.

    Attributes:
        name: what follows `daas.v1.<cluster>.`.
        kind: log entry, fact, request or advisory.
        publishers: who may publish it; a message from anyone else is forged.
        consumers: who reacts to it with a durable of its own (requests: who answers).
        stream: where it is kept; None for requests, which are not.
    """

    name: str
    kind: Kind
    publishers: frozenset[Service]
    consumers: frozenset[Service] = field(default_factory=frozenset)
    stream: Stream | None = None

    def full(self, cluster: str) -> str:
        """The NATS subject in a cluster."""
        return f"{prefix(cluster)}.{self.name}"

    @property
    def event_type(self) -> str:
        """The CloudEvents type: the subject without the cluster."""
        return f"{ROOT}.{self.name}"


def prefix(cluster: str) -> str:
    """`daas.v1.<cluster>`, the cluster being a DNS label.

    Raises:
        InvalidInput: `cluster-name`.
    """
    if not _CLUSTER.fullmatch(cluster):
        raise InvalidInput(f"cluster {cluster!r} is not a DNS label", reason="cluster-name", field="cluster")
    return f"{ROOT}.{cluster}"


def _row(name: str, kind: Kind, publishers: str, consumers: str, stream: Stream | None) -> Subject:
    services = {s.value: s for s in Service}
    return Subject(
        name,
        kind,
        frozenset(services[p] for p in publishers.split()),
        frozenset(services[c] for c in consumers.split()),
        stream,
    )


LOG_CLUSTER: Final = _row("log.cluster", Kind.LOG, "gateway relay", "enclave storage", Stream.LOG)
PLACEMENT_DECIDED: Final = _row("placement.decided", Kind.FACT, "enclave", "relay storage", Stream.PLACEMENT)
PLACEMENT_RECEIVED: Final = _row("placement.received", Kind.FACT, "enclave", "storage", Stream.PLACEMENT)
PLACEMENT_ANCHORED: Final = _row("placement.anchored", Kind.FACT, "relay", "gateway storage enclave", Stream.PLACEMENT)
PLACEMENT_REFUSED: Final = _row("placement.refused", Kind.FACT, "relay", "storage", Stream.PLACEMENT)
PLACEMENT_BOUND: Final = _row("placement.bound", Kind.FACT, "gateway", "storage", Stream.PLACEMENT)
PLACEMENT_BIND_FAILED: Final = _row("placement.bind_failed", Kind.FACT, "gateway", "storage", Stream.PLACEMENT)
ENCLAVE_CHALLENGED: Final = _row("enclave.challenged", Kind.FACT, "relay", "enclave", Stream.ENCLAVE)
ENCLAVE_ATTESTED: Final = _row("enclave.attested", Kind.FACT, "enclave", "relay storage", Stream.ENCLAVE)
ENCLAVE_REGISTERED: Final = _row("enclave.registered", Kind.FACT, "relay", "enclave gateway storage", Stream.ENCLAVE)
ENCLAVE_REVOKED: Final = _row("enclave.revoked", Kind.FACT, "relay", "enclave gateway storage", Stream.ENCLAVE)
POLICY_EVALUATE: Final = _row("policy.evaluate", Kind.REQUEST, "gateway", "enclave", None)
POLICY_DECIDED: Final = _row("policy.decided", Kind.FACT, "enclave", "storage", Stream.POLICY)
ALLOCATION_PLAN: Final = _row("allocation.plan", Kind.REQUEST, "gateway cli", "enclave", None)
ALLOCATION_PLANNED: Final = _row("allocation.planned", Kind.FACT, "enclave", "storage", Stream.PLAN)
REBALANCE_PLAN: Final = _row("rebalance.plan", Kind.REQUEST, "gateway cli", "enclave", None)
REBALANCE_PLANNED: Final = _row("rebalance.planned", Kind.FACT, "enclave", "storage", Stream.PLAN)
SECRET_SEAL: Final = _row("secret.seal", Kind.REQUEST, "gateway cli", "seal-keeper", None)
SECRET_OPEN: Final = _row("secret.open", Kind.REQUEST, "gateway cli", "seal-keeper", None)
SECRET_SEALED: Final = _row("secret.sealed", Kind.FACT, "seal-keeper", "storage", Stream.SECRET)
SECRET_OPENED: Final = _row("secret.opened", Kind.FACT, "seal-keeper", "storage", Stream.SECRET)
SECRET_DENIED: Final = _row("secret.denied", Kind.FACT, "seal-keeper", "storage", Stream.SECRET)
#: Whom requests about secrets are encrypted to; those who ask read the newest.
SECRET_KEEPER_ATTESTED: Final = _row("secret.keeper_attested", Kind.FACT, "seal-keeper", "gateway", Stream.SECRET)
CHAIN_STAKE_CHANGED: Final = _row("chain.stake_changed", Kind.FACT, "relay", "gateway seal-keeper", Stream.CHAIN)
CHAIN_POLICY_CHANGED: Final = _row(
    "chain.policy_changed", Kind.FACT, "relay", "gateway seal-keeper storage", Stream.CHAIN
)
CHAIN_SLASHED: Final = _row("chain.slashed", Kind.FACT, "relay", "gateway seal-keeper", Stream.CHAIN)
CHAIN_BALANCE_LOW: Final = _row("chain.balance_low", Kind.FACT, "relay", "", Stream.CHAIN)
METADATA_CHANGED: Final = _row("metadata.changed", Kind.FACT, "gateway", "storage", Stream.METADATA)
AUDIT_RECORDED: Final = _row("audit.recorded", Kind.FACT, "gateway", "storage", Stream.METADATA)
STORAGE_STORED: Final = _row("storage.stored", Kind.FACT, "storage", "", Stream.STORAGE)

CATALOGUE: Final[tuple[Subject, ...]] = tuple(v for v in list(globals().values()) if isinstance(v, Subject))

#: Any service may put what it refuses here: `dlq.<stream>`.
DLQ: Final = "dlq"


#: nats-server publishes these, followed by `.<stream>.<consumer>`, when it stops delivering a message.
ADVISORIES: Final = (
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES",
    "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED",
)


def dlq_subject(cluster: str, stream: str) -> str:
    """Where messages of a stream go that nobody can take: `daas.v1.<cluster>.dlq.<stream>`."""
    return f"{prefix(cluster)}.{DLQ}.{stream.lower()}"


def stream_name(cluster: str, stream: Stream) -> str:
    """The JetStream name: clusters share a server, so the cluster is part of it."""
    prefix(cluster)
    return f"{cluster.upper()}_{stream.value}"


def stream_subjects(cluster: str, stream: Stream) -> list[str]:
    """The subjects a stream keeps in a cluster, sorted."""
    if stream is Stream.DLQ:
        return [f"{prefix(cluster)}.{DLQ}.>"]
    if stream is Stream.ADVISORY:
        kept = sorted({s.stream for s in CATALOGUE if s.stream is not None})
        return [f"{advisory}.{stream_name(cluster, of)}.*" for advisory in ADVISORIES for of in kept]
    return sorted(s.full(cluster) for s in CATALOGUE if s.stream is stream)


def durable_name(service: Service, subject: Subject) -> str:
    """The durable consumer of a service on a subject: `<service>-<context>-<fact>`."""
    if service not in subject.consumers:
        raise InvalidInput(
            f"{service.value} is not a consumer of {subject.name}", reason="not-a-consumer", field="consumers"
        )
    return f"{service.value}-{subject.name}".replace(".", "-").replace("_", "-")


def max_deliver(service: Service) -> int:
    """After how many failed deliveries a message of a service's durables is dead.

    Storage waits for etcd and Walrus, or for the fact before, as long as an outage may last: at 10 s a try 28 hours.
    """
    return 10_000 if service is Service.STORAGE else 20


def ack_wait_s(service: Service) -> float:
    """After how many silent seconds of a service's process its deliveries count as lost.

    Running handlers say that they are alive. Pods wait for the gateway and the relay: another delivery comes soon.
    """
    return 5.0 if service in {Service.GATEWAY, Service.RELAY} else 30.0


def advisory_durable(service: Service) -> str:
    """The durable under which a service reads the advisories about its own durables."""
    return f"{service.value}-advisories"


def by_subject(cluster: str) -> dict[str, Subject]:
    """Full NATS subject to catalogue row."""
    return {s.full(cluster): s for s in CATALOGUE}


#: Object store buckets (JetStream), with who writes and who reads them.
SNAPSHOT_BUCKET: Final = "snapshots"


def bucket_name(cluster: str, bucket: str) -> str:
    """The object-store bucket of a cluster."""
    prefix(cluster)
    return f"{cluster}-{bucket}"
