"""A small cluster's true history for tests: a real scheduler, real signatures, documents of the software NSM, and a
ledger that holds what was anchored.
"""

import base64
from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.attestation import POLICY_REGISTER, cbor
from daas.common import merkle
from daas.common.decision import INTENT_FAIRNESS, INTENT_PLACEMENT, header_bcs, intent_message, payload_digest
from daas.common.errors import NotFound
from daas.common.fairness import FairnessClaim
from daas.common.messages import (
    DecidedLeaf,
    EnclaveAttested,
    EnclaveRegistered,
    Header,
    PlacementAnchored,
    PlacementDecided,
    encode,
)
from daas.devstack.nsm import DevelopmentAuthority, SoftwareNsm, create_root, development_measurement
from daas.enclave.messages import claim_of
from daas.evidence import (
    AnchoredEvent,
    Case,
    EvidenceBundle,
    LedgerTransaction,
    RawEntry,
    RegisteredEvent,
    Snapshot,
    case_of,
)
from daas.evidence.trust import Trust
from daas.placement import Decision, FairnessCertificate, Policy, Scheduler
from daas.placement.log import Event, LogEntry, NodeUpserted, PodUpserted, encode_entry
from daas.placement.model import Node, Pod

START_MS = 1_764_000_000_000
CLUSTER = "test"
CHAIN = bytes(range(32))
REGISTRY = bytes(range(100, 132))


def a_node(name: str, cpu: str = "4") -> NodeUpserted:
    return NodeUpserted(
        node=msgspec.convert(
            {
                "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"},
                "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
            },
            Node,
        )
    )


def a_pod(name: str, cpu: str = "100m", uid: str | None = None) -> PodUpserted:
    return PodUpserted(
        pod=msgspec.convert(
            {
                "metadata": {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "resourceVersion": "7"},
                "spec": {
                    "schedulerName": "k3s-daas",
                    "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}],
                },
            },
            Pod,
        )
    )


@dataclass
class RecordedLedger:
    """The ledger's answers, from the transactions that this history made."""

    chain_digest: str
    transactions: dict[str, LedgerTransaction] = field(default_factory=dict)

    async def chain(self) -> str:
        return self.chain_digest

    async def transaction(self, digest: str) -> LedgerTransaction:
        if digest not in self.transactions:
            raise NotFound(f"no transaction {digest}", reason="no-transaction")
        return self.transactions[digest]


class World:
    """Log, decisions, anchors and bundles, as they come about.

    Attributes:
        log: exact bytes of the log entries; entry n stands at index n - 1.
        decided: exact bytes of the decided messages, by batch.
        bundles, snapshots: by batch.
    """

    def __init__(self) -> None:
        self.policy = Policy()
        root = create_root(START_MS)
        self.authority = DevelopmentAuthority(root)
        self.measurement = development_measurement()
        self.trust = Trust(
            cluster=CLUSTER,
            chain=CHAIN,
            registry=REGISTRY,
            attestation_root=self.authority.root_sha256,
            measurements=(self.measurement,),
            policy=self.policy,
        )
        self.scheduler = Scheduler(self.trust.genesis)
        self.ledger = RecordedLedger(CHAIN.hex())
        self.log: list[bytes] = []
        self.headers: dict[int, Header] = {}
        self.decided: dict[int, bytes] = {}
        self.bundles: dict[int, EvidenceBundle] = {}
        self.snapshots: dict[int, bytes] = {}
        self.now_ms = START_MS
        self.nonce = merkle.digest(b"first nonce")
        self.key = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x01")
        self._bundled_to = 0
        self.attest()

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def registry_id(self) -> str:
        return "0x" + REGISTRY.hex()

    def document_now(self) -> bytes:
        """A document about the current key and the registry's present nonce."""
        nsm = SoftwareNsm(self.authority, self.measurement, lambda: self.now_ms)
        nsm.pcrs.extend(POLICY_REGISTER, self.trust.policy.digest())
        nsm.pcrs.lock(POLICY_REGISTER)
        request = {"Attestation": {"public_key": self.public_key, "nonce": self.nonce, "user_data": self.trust.binding}}
        answer = cbor.loads(nsm.process(cbor.dumps(request)))
        assert isinstance(answer, dict)
        attestation = answer["Attestation"]
        assert isinstance(attestation, dict)
        document = attestation["document"]
        assert isinstance(document, bytes)
        return document

    def attest(self) -> None:
        """Registers the current key with a fresh document, as relay and ledger would."""
        self.document = self.document_now()
        self.nonce = merkle.digest(self.nonce + self.public_key)
        event = RegisteredEvent(
            registry=self.registry_id,
            enclave="0x" + merkle.digest(b"enclave" + self.public_key + self.nonce).hex(),
            public_key=self.public_key.hex(),
            measurement_version=1,
            registered_ms=self.now_ms,
            expires_ms=self.now_ms + 24 * 3_600_000,
            document_digest=merkle.digest(self.document).hex(),
            simulated=True,
        )
        digest = f"Registered{len(self.ledger.transactions)}"
        self.ledger.transactions[digest] = LedgerTransaction(
            digest=digest,
            succeeded=True,
            checkpoint=len(self.ledger.transactions),
            registered=(event,),
            nonces=((self.registry_id, self.nonce.hex()),),
        )
        self.attested = EnclaveAttested(
            public_key=self.public_key.hex(),
            policy=self.policy.digest().hex(),
            document=base64.b64encode(self.document).decode(),
            simulated=True,
        )
        self.registered = EnclaveRegistered(
            public_key=event.public_key,
            enclave=event.enclave,
            registry=event.registry,
            measurement_version=event.measurement_version,
            tx_digest=digest,
            registered_ms=event.registered_ms,
            expires_ms=event.expires_ms,
            simulated=True,
            next_nonce=self.nonce.hex(),
            document_digest=event.document_digest,
        )

    def entry(self, *events: Event) -> PlacementDecided | None:
        """Appends a log entry; anchors and bundles the decision that it leads to."""
        self.now_ms += 1_000
        data = encode_entry(LogEntry(timestamp_ms=self.now_ms, source="gateway", events=events))
        return self.raw_entry(data)

    def raw_entry(self, data: bytes) -> PlacementDecided | None:
        self.log.append(data)
        applied = self.scheduler.apply(len(self.log), data)
        if applied.decision is None or applied.fairness is None:
            return None
        return self._anchor(applied.decision, applied.fairness)

    def _anchor(self, decision: Decision, fairness: FairnessCertificate) -> PlacementDecided:
        decided = self.with_fairness(self.sign(decision), claim_of(fairness))
        header, sequence = decided.header, decided.header.sequence
        tx_digest = f"Anchored{sequence}"
        event = AnchoredEvent(
            payload_digest=decided.payload_digest,
            enclave=self.registered.enclave,
            public_key=decided.public_key,
            timestamp_ms=decided.timestamp_ms,
            simulated=True,
            **{name: getattr(header, name) for name in Header.__struct_fields__ if name != "chain"},
        )
        checkpoint = len(self.ledger.transactions)
        self.ledger.transactions[tx_digest] = LedgerTransaction(
            digest=tx_digest, succeeded=True, checkpoint=checkpoint, anchored=(event,)
        )
        anchored = PlacementAnchored(
            sequence=sequence,
            payload_digest=decided.payload_digest,
            public_key=decided.public_key,
            decided_sequence=sequence,
            tx_digest=tx_digest,
            checkpoint=checkpoint,
            timestamp_ms=self.now_ms,
            simulated=True,
        )
        self.headers[sequence], self.decided[sequence] = header, encode(decided)
        self.snapshots[sequence] = self.scheduler.snapshot()
        self.bundles[sequence] = EvidenceBundle(
            cluster=CLUSTER,
            decided=self.decided[sequence],
            previous=self.headers.get(sequence - 1),
            log=tuple(
                RawEntry(sequence=n, data=self.log[n - 1]) for n in range(self._bundled_to + 1, header.log_sequence + 1)
            ),
            document=self.document,
            registered=self.registered,
            anchored=anchored,
        )
        self._bundled_to = header.log_sequence
        return decided

    def with_fairness(self, decided: PlacementDecided, claim: FairnessClaim) -> PlacementDecided:
        """The decision with a certificate that is signed for it."""
        payload = claim.signed_payload(payload_digest(decided.header))
        signature = self.key.sign(intent_message(INTENT_FAIRNESS, decided.timestamp_ms, payload)).hex()
        return msgspec.structs.replace(decided, fairness=msgspec.structs.replace(claim, signature=signature))

    def sign(self, decision: Decision) -> PlacementDecided:
        batch = decision.batch
        header = Header(
            chain=batch.chain.hex(),
            registry="0x" + batch.registry.hex(),
            sequence=batch.sequence,
            previous=batch.previous.hex(),
            log_sequence=batch.log_sequence,
            log_root=batch.log_root.hex(),
            policy=batch.policy.hex(),
            state_root=batch.state_root.hex(),
            decisions=batch.decisions.hex(),
            count=batch.count,
            expires_ms=batch.expires_ms,
        )
        leaves = tuple(
            DecidedLeaf(**{name: getattr(leaf, name) for name in DecidedLeaf.__struct_fields__})
            for leaf in decision.leaves
        )
        message = intent_message(INTENT_PLACEMENT, decision.timestamp_ms, header_bcs(header))
        return PlacementDecided(
            header=header,
            payload_digest=payload_digest(header).hex(),
            timestamp_ms=decision.timestamp_ms,
            public_key=self.public_key.hex(),
            signature=self.key.sign(message).hex(),
            simulated=True,
            leaves=leaves,
        )

    def case(self, sequence: int, *, start: int = 0) -> Case:
        """The evidence of a batch: from the snapshot after batch `start`, or from the beginning."""
        snapshot = Snapshot(sequence=start, data=self.snapshots[start]) if start else None
        return case_of([self.bundles[n] for n in range(start + 1, sequence + 1)], snapshot)


def small_world(batches: int = 3) -> World:
    """Three nodes, then batches of a few pods each, with ticks and a damaged entry in between."""
    world = World()
    world.entry(*(a_node(f"node-{n}") for n in range(3)))
    for number in range(1, batches + 1):
        world.entry()
        if number == 2:
            world.raw_entry(b"not an entry")
        world.entry(*(a_pod(f"web-{number}-{n}") for n in range(number + 1)), a_pod(f"huge-{number}", cpu="64"))
    assert sorted(world.bundles) == list(range(1, batches + 1))
    return world
