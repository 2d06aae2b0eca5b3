"""The functions of the Move package as values: one constructor per function, arguments in Move's order."""

from daas.common import bcs
from daas.common.messages import Header
from daas.ledger.address import CLOCK_ADDRESS, FRAMEWORK_ADDRESS, parse_address
from daas.ledger.models import Limits, SignedBatch
from daas.ledger.transaction import Argument, MoveCall, Object, Pure, Result

#: PCR0, PCR1 and PCR2, 48 bytes each.
Pcrs = tuple[bytes, bytes, bytes]

_CLOCK = Object(CLOCK_ADDRESS)


def _bytes(value: bytes) -> Pure:
    return Pure(bcs.bytes_(value))


def _hex(value: str) -> Pure:
    return _bytes(bytes.fromhex(value))


def _u64(value: int) -> Pure:
    return Pure(bcs.u64(value))


def _limits(limits: Limits) -> tuple[Argument, ...]:
    return (
        _u64(limits.registration_ttl_ms),
        _u64(limits.document_age_ms),
        _u64(limits.batch_age_ms),
        _u64(limits.future_skew_ms),
    )


def create_registry(
    package: str, admin_cap: str, *, simulated: bool, chain: bytes, policy: bytes, pcrs: Pcrs, limits: Limits
) -> MoveCall:
    """`registry::create`: shares the registry of a new cluster."""
    arguments: tuple[Argument, ...] = (
        Object(admin_cap),
        Pure(bcs.boolean(simulated)),
        _bytes(chain),
        _bytes(policy),
        *(_bytes(pcr) for pcr in pcrs),
        *_limits(limits),
    )
    return MoveCall(package, "registry", "create", arguments)


def allow_measurement(package: str, admin_cap: str, registry: str, pcrs: Pcrs) -> MoveCall:
    """`registry::allow_measurement`: one more enclave image may be registered."""
    cap, shared = Object(admin_cap), Object(registry, mutable=True)
    arguments: tuple[Argument, ...] = (cap, shared, *(_bytes(pcr) for pcr in pcrs))
    return MoveCall(package, "registry", "allow_measurement", arguments)


def retire_measurement(package: str, admin_cap: str, registry: str, version: int) -> MoveCall:
    """`registry::retire_measurement`: enclaves of that image can anchor nothing from now on."""
    arguments = (Object(admin_cap), Object(registry, mutable=True), _u64(version))
    return MoveCall(package, "registry", "retire_measurement", arguments)


def set_limits(package: str, admin_cap: str, registry: str, limits: Limits) -> MoveCall:
    """`registry::set_limits`."""
    arguments = (Object(admin_cap), Object(registry, mutable=True), *_limits(limits))
    return MoveCall(package, "registry", "set_limits", arguments)


def set_policy(package: str, admin_cap: str, registry: str, policy: bytes) -> MoveCall:
    """`registry::set_policy`: what enclaves registered from now on must have attested."""
    arguments = (Object(admin_cap), Object(registry, mutable=True), _bytes(policy))
    return MoveCall(package, "registry", "set_policy", arguments)


def load_document(document: bytes) -> MoveCall:
    """`sui::nitro_attestation::load_nitro_attestation`: verifies a document up to the AWS root."""
    return MoveCall(FRAMEWORK_ADDRESS, "nitro_attestation", "load_nitro_attestation", (_bytes(document), _CLOCK))


def register(package: str, registry: str, document_command: int) -> MoveCall:
    """`enclaves::register` with the document that command number `document_command` has loaded."""
    arguments = (Object(registry, mutable=True), Result(document_command), _CLOCK)
    return MoveCall(package, "enclaves", "register", arguments)


def register_simulated(
    package: str,
    admin_cap: str,
    registry: str,
    *,
    public_key: bytes,
    pcrs: Pcrs,
    nonce: bytes,
    document_digest: bytes,
) -> MoveCall:
    """`enclaves::register_simulated`: only where the registry was created simulated."""
    arguments: tuple[Argument, ...] = (
        Object(admin_cap),
        Object(registry, mutable=True),
        _bytes(public_key),
        *(_bytes(pcr) for pcr in pcrs),
        _bytes(nonce),
        _bytes(document_digest),
        _CLOCK,
    )
    return MoveCall(package, "enclaves", "register_simulated", arguments)


def revoke(package: str, revoker_cap: str, enclave: str) -> MoveCall:
    """`enclaves::revoke`."""
    return MoveCall(package, "enclaves", "revoke", (Object(revoker_cap), Object(enclave, mutable=True)))


def anchor(package: str, batch: SignedBatch) -> MoveCall:
    """`placement::anchor`: the registry is the one that the batch was signed for."""
    header: Header = batch.header
    arguments = (
        Object(header.registry, mutable=True),
        Object(batch.enclave),
        _hex(header.chain),
        Pure(parse_address(header.registry)),
        _u64(header.sequence),
        _hex(header.previous),
        _u64(header.log_sequence),
        _hex(header.log_root),
        _hex(header.policy),
        _hex(header.state_root),
        _hex(header.decisions),
        Pure(bcs.u32(header.count)),
        _u64(header.expires_ms),
        _u64(batch.timestamp_ms),
        _bytes(batch.signature),
        _CLOCK,
    )
    return MoveCall(package, "placement", "anchor", arguments)


def verify_inclusion(
    package: str, *, root: bytes, leaf: bytes, index: int, count: int, path: tuple[bytes, ...]
) -> MoveCall:
    """`placement::verify_inclusion`: a pure function of the package; returns bool."""
    arguments = (_bytes(root), _bytes(leaf), _u64(index), _u64(count), Pure(bcs.vector(bcs.bytes_, path)))
    return MoveCall(package, "placement", "verify_inclusion", arguments)
