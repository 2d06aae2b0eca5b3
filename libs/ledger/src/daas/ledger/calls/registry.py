"""Calls of `cluster`, `registry`, `enclaves` and `placement`."""

from daas.common import bcs
from daas.common.decision import header_bcs
from daas.common.messages import Header
from daas.ledger.address import FRAMEWORK_ADDRESS, parse_address
from daas.ledger.calls.common import CLOCK, Pcrs, hex_digits, octets, u64, u64s
from daas.ledger.calls.stake import parameters as new_parameters
from daas.ledger.cluster import Parameters
from daas.ledger.models import Limits, SignedBatch
from daas.ledger.transaction import Argument, MoveCall, Object, Pure, Result


def _limits(limits: Limits) -> tuple[Argument, ...]:
    return u64s(limits.registration_ttl_ms, limits.document_age_ms, limits.batch_age_ms, limits.future_skew_ms)


def create_registry(
    package: str,
    admin_cap: str,
    *,
    simulated: bool,
    chain: bytes,
    policy: bytes,
    pcrs: Pcrs,
    limits: Limits,
    parameters: Parameters,
) -> tuple[MoveCall, MoveCall]:
    """`cluster::create`, and before it the call that makes its parameters: both are the first of their transaction."""
    arguments: tuple[Argument, ...] = (
        Object(admin_cap),
        Pure(bcs.boolean(simulated)),
        octets(chain),
        octets(policy),
        *(octets(pcr) for pcr in pcrs),
        *_limits(limits),
        Result(0),
    )
    return new_parameters(package, parameters), MoveCall(package, "cluster", "create", arguments)


def allow_measurement(package: str, admin_cap: str, registry: str, pcrs: Pcrs) -> MoveCall:
    """`registry::allow_measurement`: one more enclave image may be registered."""
    cap, shared = Object(admin_cap), Object(registry, mutable=True)
    arguments: tuple[Argument, ...] = (cap, shared, *(octets(pcr) for pcr in pcrs))
    return MoveCall(package, "registry", "allow_measurement", arguments)


def retire_measurement(package: str, admin_cap: str, registry: str, version: int) -> MoveCall:
    """`registry::retire_measurement`: enclaves of that image can anchor nothing from now on."""
    arguments = (Object(admin_cap), Object(registry, mutable=True), u64(version))
    return MoveCall(package, "registry", "retire_measurement", arguments)


def set_limits(package: str, admin_cap: str, registry: str, limits: Limits) -> MoveCall:
    """`registry::set_limits`."""
    arguments = (Object(admin_cap), Object(registry, mutable=True), *_limits(limits))
    return MoveCall(package, "registry", "set_limits", arguments)


def set_policy(package: str, admin_cap: str, registry: str, policy: bytes) -> MoveCall:
    """`registry::set_policy`: what enclaves registered from now on must have attested."""
    arguments = (Object(admin_cap), Object(registry, mutable=True), octets(policy))
    return MoveCall(package, "registry", "set_policy", arguments)


def hand_over(package: str, admin_cap: str, registry: str) -> MoveCall:
    """`registry::hand_over`: from now on only accepted proposals change the cluster's settings."""
    return MoveCall(package, "registry", "hand_over", (Object(admin_cap), Object(registry, mutable=True)))


def load_document(document: bytes) -> MoveCall:
    """`sui::nitro_attestation::load_nitro_attestation`: verifies a document up to the AWS root."""
    return MoveCall(FRAMEWORK_ADDRESS, "nitro_attestation", "load_nitro_attestation", (octets(document), CLOCK))


def register(package: str, registry: str, pool: str, document_command: int) -> MoveCall:
    """`enclaves::register` with the document that command number `document_command` has loaded."""
    arguments = (Object(registry, mutable=True), Object(pool, mutable=True), Result(document_command), CLOCK)
    return MoveCall(package, "enclaves", "register", arguments)


def register_simulated(
    package: str,
    admin_cap: str,
    registry: str,
    pool: str,
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
        Object(pool, mutable=True),
        octets(public_key),
        *(octets(pcr) for pcr in pcrs),
        octets(nonce),
        octets(document_digest),
        CLOCK,
    )
    return MoveCall(package, "enclaves", "register_simulated", arguments)


def revoke(package: str, revoker_cap: str, enclave: str) -> MoveCall:
    """`enclaves::revoke`."""
    return MoveCall(package, "enclaves", "revoke", (Object(revoker_cap), Object(enclave, mutable=True)))


def retire(package: str, enclave: str) -> MoveCall:
    """`enclaves::retire`: the operator ends a registration of its own."""
    return MoveCall(package, "enclaves", "retire", (Object(enclave, mutable=True),))


def anchor(package: str, batch: SignedBatch) -> MoveCall:
    """`placement::anchor`: the registry is the one that the batch was signed for."""
    header: Header = batch.header
    arguments = (
        Object(header.registry, mutable=True),
        Object(batch.enclave),
        hex_digits(header.chain),
        Pure(parse_address(header.registry)),
        u64(header.sequence),
        hex_digits(header.previous),
        u64(header.log_sequence),
        hex_digits(header.log_root),
        hex_digits(header.policy),
        hex_digits(header.state_root),
        hex_digits(header.decisions),
        Pure(bcs.u32(header.count)),
        u64(header.expires_ms),
        u64(batch.timestamp_ms),
        octets(batch.signature),
        CLOCK,
    )
    return MoveCall(package, "placement", "anchor", arguments)


def report_equivocation(
    package: str, registry: str, pool: str, *, enclave: str, first: SignedBatch, second: SignedBatch
) -> MoveCall:
    """`placement::report_equivocation`: two batches with one number under one key."""
    evidence: list[Argument] = []
    for batch in (first, second):
        evidence += [u64(batch.timestamp_ms), octets(header_bcs(batch.header)), octets(batch.signature)]
    shared = (Object(registry), Object(pool, mutable=True), Object(enclave, mutable=True))
    return MoveCall(package, "placement", "report_equivocation", (*shared, *evidence))


def verify_inclusion(
    package: str, *, root: bytes, leaf: bytes, index: int, count: int, path: tuple[bytes, ...]
) -> MoveCall:
    """`placement::verify_inclusion`: a pure function of the package; returns bool."""
    arguments = (octets(root), octets(leaf), u64(index), u64(count), Pure(bcs.vector(bcs.bytes_, path)))
    return MoveCall(package, "placement", "verify_inclusion", arguments)
