"""The events of the Move package, typed: fields stand in the order of the Move structs they are decoded from."""

from typing import TypeVar

from daas.common.errors import DecodeError
from daas.ledger import cluster_events
from daas.ledger.address import parse_type
from daas.ledger.event import Event, UnknownEvent
from daas.ledger.layout import U32, U64, Bool, Bytes, ObjectId, decode_struct
from daas.ledger.package import Lineage


class RegistryCreated(Event, frozen=True, kw_only=True):
    """A cluster's registry came to be; `simulated` never changes after this."""

    registry: ObjectId
    simulated: Bool
    chain: Bytes
    policy: Bytes
    nonce: Bytes
    pool: ObjectId
    roster: ObjectId


class MeasurementsChanged(Event, frozen=True, kw_only=True):
    """An enclave image was allowed, or is allowed no more."""

    registry: ObjectId
    version: U64
    pcr0: Bytes
    pcr1: Bytes
    pcr2: Bytes
    allowed: Bool
    simulated: Bool


class LimitsChanged(Event, frozen=True, kw_only=True):
    """The registry's time limits are others now."""

    registry: ObjectId
    registration_ttl_ms: U64
    document_age_ms: U64
    batch_age_ms: U64
    future_skew_ms: U64
    simulated: Bool


class PolicyChanged(Event, frozen=True, kw_only=True):
    """Enclaves registered from now on must have attested this policy."""

    registry: ObjectId
    policy: Bytes
    simulated: Bool


class NonceRotated(Event, frozen=True, kw_only=True):
    """The next attestation document must carry this nonce."""

    registry: ObjectId
    nonce: Bytes
    simulated: Bool


class HandedOver(Event, frozen=True, kw_only=True):
    """From now on only accepted proposals change the cluster's settings."""

    registry: ObjectId
    simulated: Bool


class RegistryMigrated(Event, frozen=True, kw_only=True):
    """A registry was brought up to a newer version of the package."""

    registry: ObjectId
    from_version: U64
    to_version: U64
    simulated: Bool


class EnclaveRegistered(Event, frozen=True, kw_only=True):
    """A key may sign for the registry until `expires_ms`."""

    registry: ObjectId
    enclave: ObjectId
    public_key: Bytes
    measurement_version: U64
    registered_ms: U64
    expires_ms: U64
    operator: ObjectId
    document_digest: Bytes
    simulated: Bool


class EnclaveRevoked(Event, frozen=True, kw_only=True):
    """A registration was ended."""

    registry: ObjectId
    enclave: ObjectId
    public_key: Bytes
    simulated: Bool


class EnclaveMigrated(Event, frozen=True, kw_only=True):
    """A registration was brought up to a newer version of the package."""

    enclave: ObjectId
    from_version: U64
    to_version: U64
    simulated: Bool


class Anchored(Event, frozen=True, kw_only=True):
    """A placement batch became the head of the registry's chain."""

    registry: ObjectId
    sequence: U64
    payload_digest: Bytes
    previous: Bytes
    log_sequence: U64
    log_root: Bytes
    policy: Bytes
    state_root: Bytes
    decisions: Bytes
    count: U32
    expires_ms: U64
    enclave: ObjectId
    public_key: Bytes
    timestamp_ms: U64
    simulated: Bool


class EquivocationReported(Event, frozen=True, kw_only=True):
    """One key has signed two different batches with one number; its operator was slashed."""

    registry: ObjectId
    enclave: ObjectId
    public_key: Bytes
    operator: ObjectId
    reporter: ObjectId
    sequence: U64
    first_digest: Bytes
    second_digest: Bytes
    slashed_mist: U64
    simulated: Bool


E = TypeVar("E", bound=Event)

_TYPES: dict[tuple[str, str], type[Event]] = {
    ("registry", "RegistryCreated"): RegistryCreated,
    ("registry", "MeasurementsChanged"): MeasurementsChanged,
    ("registry", "LimitsChanged"): LimitsChanged,
    ("registry", "PolicyChanged"): PolicyChanged,
    ("registry", "NonceRotated"): NonceRotated,
    ("registry", "HandedOver"): HandedOver,
    ("registry", "RegistryMigrated"): RegistryMigrated,
    ("enclaves", "EnclaveRegistered"): EnclaveRegistered,
    ("enclaves", "EnclaveRevoked"): EnclaveRevoked,
    ("enclaves", "EnclaveMigrated"): EnclaveMigrated,
    ("placement", "Anchored"): Anchored,
    ("placement", "EquivocationReported"): EquivocationReported,
    **cluster_events.TYPES,
}


def decode_event(event_type: str, contents: bytes, package: Lineage | None) -> Event:
    """The event as its class, or `UnknownEvent` where it is not one that this version of `package` emits.

    Args:
        event_type: the Move type, `0x...::module::Name`.
        contents: its BCS.
        package: our package; None: no event is ours.

    Raises:
        DecodeError: `event-contents`: it claims to be ours and does not decode.
    """
    name = parse_type(event_type)
    ours = package is not None and name.package in package.types
    kind = _TYPES.get((name.module, name.name)) if ours else None
    if kind is None:
        return UnknownEvent(event_type=event_type, contents=contents)
    try:
        return decode_struct(kind, contents)
    except DecodeError as error:
        raise DecodeError(f"{event_type}: {error.message}", reason="event-contents") from None
