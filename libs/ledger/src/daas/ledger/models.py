"""Objects of the Move package and the outcome of transactions as frozen values; no network, no clients."""

from typing import TypeVar

import msgspec

from daas.common.messages import Header
from daas.ledger.errors import ExecutionError, NoSuchObject
from daas.ledger.event import Event
from daas.ledger.layout import U8, U64, Bool, Bytes, ObjectId

E = TypeVar("E", bound=Event)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A registry's time limits in milliseconds.

    Attributes:
        registration_ttl_ms: how long a registration lasts.
        document_age_ms: how old an attestation document may be when it is registered.
        batch_age_ms: how long after its signing time a batch may be anchored. A batch older than this can be anchored
            by nobody and blocks the chain until the limit is raised: keep it far above any outage.
        future_skew_ms: how far a signing time may lie ahead of the chain's clock.
    """

    registration_ttl_ms: U64 = 24 * 3600 * 1000
    document_age_ms: U64 = 5 * 60 * 1000
    batch_age_ms: U64 = 24 * 3600 * 1000
    future_skew_ms: U64 = 60 * 1000


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One allowed enclave image: its number in the registry and PCR0 to PCR2, 48 bytes each."""

    version: U64
    pcr0: Bytes
    pcr1: Bytes
    pcr2: Bytes


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """The shared object of one cluster, as of the moment it was read.

    Attributes:
        governed: whether the AdminCap has given up its say, so that only accepted proposals change the settings.
        policy: digest that enclaves must attest.
        nonce: what the next attestation document must carry, 32 bytes.
        sequence, head: number and payload digest of the newest anchored batch; 0 and 32 zero bytes before the first.
        log_sequence: last log entry folded by that batch.
        pool, roster: object ids of the cluster's StakePool and Roster.
    """

    address: ObjectId
    version: U64
    simulated: Bool
    governed: Bool
    chain: Bytes
    policy: Bytes
    measurements: tuple[Measurement, ...]
    next_measurement: U64
    limits: Limits
    nonce: Bytes
    sequence: U64
    head: Bytes
    log_sequence: U64
    pool: ObjectId
    roster: ObjectId


class Enclave(msgspec.Struct, frozen=True, kw_only=True):
    """One registration of one enclave key (32 bytes), as of the moment it was read."""

    address: ObjectId
    version: U64
    registry: ObjectId
    public_key: Bytes
    measurement_version: U64
    registered_ms: U64
    expires_ms: U64
    revoked: Bool
    simulated: Bool
    operator: ObjectId
    document_digest: Bytes


class SignedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A placement batch with what `placement::anchor` needs beside it.

    Attributes:
        timestamp_ms: the one inside the signed IntentMessage.
        signature: Ed25519, 64 bytes.
        enclave: object id of the signing key's registration.
    """

    header: Header
    timestamp_ms: int
    signature: bytes
    enclave: str


class ObjectReference(msgspec.Struct, frozen=True):
    """An owned or immutable object at one version; `digest` is base58."""

    object_id: str
    version: int
    digest: str


class SharedReference(msgspec.Struct, frozen=True):
    """A shared object: transactions name it by the version at which it was first shared."""

    object_id: str
    initial_version: int


class LedgerObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object as a full node shows it. `shared_version` is None where it is not shared."""

    reference: ObjectReference
    object_type: str
    shared_version: int | None
    contents: bytes
    balance: int


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What an address has in SUI, MIST: in all, and what of it is in no coin (its address balance)."""

    total: int
    without_coins: int


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch of the ledger: its number, and its reference gas price in MIST per unit."""

    number: int
    gas_price: int


class ObjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction did to an object; `reference` is None where it deleted it."""

    object_id: str
    object_type: str
    created: bool
    reference: ObjectReference | None
    shared_version: int | None


class SignedTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction ready to be sent, as often as needed: the same bytes have the same fate.

    Attributes:
        data: BCS of TransactionData.
        signatures: serialized signatures, 97 bytes each for Ed25519.
        digest: transaction digest, base58, known before it is sent.
    """

    data: bytes
    signatures: tuple[bytes, ...]
    digest: str


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What an executed transaction left behind.

    Attributes:
        failure: why it failed; None where it succeeded.
        checkpoint: the checkpoint it is in; None where the node has not said yet.
        timestamp_ms: time of that checkpoint, ms since the epoch; None as above.
        gas_mist: what it cost in all, MIST; negative where storage was given back.
    """

    digest: str
    failure: ExecutionError | None
    events: tuple[Event, ...]
    changes: tuple[ObjectChange, ...]
    checkpoint: int | None
    timestamp_ms: int | None
    gas_mist: int

    @property
    def succeeded(self) -> bool:
        """Whether it did what it says; a failed transaction changed nothing but its gas coin."""
        return self.failure is None

    def of(self, kind: type[E]) -> tuple[E, ...]:
        """Its events of one kind, in order."""
        return tuple(event for event in self.events if isinstance(event, kind))

    def only(self, kind: type[E]) -> E:
        """Its one event of this kind.

        Raises:
            NoSuchObject: `event-missing`: there is none, or more than one.
        """
        found = self.of(kind)
        if len(found) != 1:
            raise NoSuchObject(
                f"transaction {self.digest} has {len(found)} events {kind.__name__}, expected one",
                reason="event-missing",
            )
        return found[0]


class UpgradeCap(msgspec.Struct, frozen=True, kw_only=True):
    """The right to publish the next version of a package.

    Attributes:
        package: the newest version.
        policy: what it may change: 0 whatever is compatible, 128 additions, 192 dependencies.
    """

    address: ObjectId
    package: ObjectId
    version: U64
    policy: U8


class PackageUpgrade(msgspec.Struct, frozen=True, kw_only=True):
    """A new version of a package: its address, its number from 2 on, and the address of the version before it."""

    package: str
    version: int
    before: str
    effects: Effects


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A published package and the capabilities that went to the publisher."""

    package: str
    admin_cap: str
    revoker_cap: str
    upgrade_cap: str
    effects: Effects
