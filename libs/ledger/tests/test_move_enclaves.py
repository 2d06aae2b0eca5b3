"""What `cluster`, `registry`, `measurements` and `enclaves` accept and refuse, executed from the committed bytecode.

No genuine attestation document carries the nonce of a registry of ours, so `enclaves::register` is given documents as
the framework hands them over after it has verified them.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from move_machine import (
    CHAIN,
    DOCUMENT,
    KEY,
    LIMITS,
    NOW_MS,
    OPERATOR,
    PCRS,
    POLICY,
    REPORTER,
    STRANGER,
    Cluster,
    Machine,
)

from daas.common import bcs, merkle
from daas.ledger.events import (
    EnclaveRegistered,
    EnclaveRevoked,
    HandedOver,
    LimitsChanged,
    NonceRotated,
    PolicyChanged,
)
from daas.ledger.models import Enclave, Registry


def option(value: bytes | None) -> bytes:
    return bcs.vector(bcs.bytes_, [] if value is None else [value])


def document(machine: Machine, cluster: Cluster, **changed: Any) -> Any:
    state = machine.read(Registry, cluster.registry)
    binding = merkle.digest(CHAIN + bytes.fromhex(state.address[2:]) + POLICY)
    fields: dict[str, Any] = {
        "timestamp_ms": NOW_MS,
        "pcrs": [*enumerate(PCRS), (3, bytes(48)), (4, bytes(48)), (8, bytes(48))],
        "public_key": KEY,
        "user_data": binding,
        "nonce": state.nonce,
    } | changed
    pcrs: Sequence[tuple[int, bytes]] = fields["pcrs"]
    data = b"".join(
        (
            bcs.bytes_(b"i-0-enc0"),
            bcs.u64(fields["timestamp_ms"]),
            bcs.bytes_(b"SHA384"),
            bcs.vector(lambda entry: bcs.u8(entry[0]) + bcs.bytes_(entry[1]), pcrs),
            option(fields["public_key"]),
            option(fields["user_data"]),
            option(fields["nonce"]),
        )
    )
    return machine.value(DOCUMENT, data)


def register(machine: Machine, cluster: Cluster, **changed: Any) -> list[Any]:
    return [cluster.registry, cluster.pool, document(machine, cluster, **changed)]


@pytest.fixture
def cluster(machine: Machine) -> Cluster:
    """A real cluster, and an operator with just enough stake."""
    made = machine.create(simulated=False)
    machine.deposit(made, 1_000)
    return made


@pytest.fixture
def stand_in(machine: Machine) -> Cluster:
    """A simulated cluster that asks no stake."""
    return machine.create(simulated=True, parameters=machine.parameters(operator_minimum_mist=0))


def test_a_registry_starts_with_what_it_was_given(machine: Machine) -> None:
    cluster = machine.create(simulated=False)
    assert [type(event).__name__ for event in machine.events()] == ["RegistryCreated", "MeasurementsChanged"]
    state = machine.read(Registry, cluster.registry)
    assert (state.simulated, state.governed, state.chain, state.policy) == (False, False, CHAIN, POLICY)
    assert (state.sequence, state.head, state.log_sequence) == (0, bytes(32), 0)
    assert [(m.version, m.pcr0, m.pcr1, m.pcr2) for m in state.measurements] == [(1, *PCRS)]
    assert state.nonce == merkle.digest(bytes.fromhex(state.address[2:]) + CHAIN)
    assert (state.pool, state.roster) == (cluster.pool.address, cluster.roster.address)


def test_what_a_registry_says_of_itself_is_what_it_holds(machine: Machine, cluster: Cluster) -> None:
    state = machine.read(Registry, cluster.registry)
    for function, value in {
        "is_simulated": state.simulated,
        "is_governed": state.governed,
        "chain": state.chain,
        "policy": state.policy,
        "nonce": state.nonce,
        "sequence": state.sequence,
        "head": state.head,
        "log_sequence": state.log_sequence,
        "registration_ttl_ms": state.limits.registration_ttl_ms,
        "document_age_ms": state.limits.document_age_ms,
        "batch_age_ms": state.limits.batch_age_ms,
        "future_skew_ms": state.limits.future_skew_ms,
        "attested_binding": merkle.digest(CHAIN + cluster.registry.id + POLICY),
    }.items():
        assert machine.call(f"registry::{function}", cluster.registry) == [value], function
    assert machine.call("registry::measurement_of", cluster.registry, *PCRS) == [1]
    assert machine.call("registry::measurement_of", cluster.registry, *reversed(PCRS)) == [0]
    assert machine.call("registry::is_allowed", cluster.registry, 1) == [True]
    assert machine.call("registry::is_allowed", cluster.registry, 2) == [False]
    assert machine.call("version::current") == [1]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"chain": bytes(31)}, "registry::EDigestLength"),
        ({"policy": bytes(33)}, "registry::EDigestLength"),
        ({"pcr0": bytes(48)}, "measurements::EZeroPcr"),
        ({"pcr1": bytes(48)}, "measurements::EZeroPcr"),
        ({"pcr2": bytes(48)}, "measurements::EZeroPcr"),
        ({"pcr1": b"\x01" * 32}, "measurements::EPcrLength"),
        ({"registration_ttl_ms": 0}, "registry::EInvalidLimit"),
        ({"batch_age_ms": 31_622_400_001}, "registry::EInvalidLimit"),
    ],
)
@pytest.mark.parametrize("simulated", [True, False])
def test_a_cluster_is_not_created_with(machine: Machine, simulated: bool, changed: dict[str, Any], code: str) -> None:
    assert machine.refused("cluster::create", *machine.create_arguments(simulated=simulated, **changed)) == code


def test_only_a_simulated_cluster_may_ask_no_stake_of_its_operators(machine: Machine) -> None:
    free = machine.parameters(operator_minimum_mist=0)
    machine.create(simulated=True, parameters=free)
    arguments = machine.create_arguments(simulated=False, parameters=free)
    assert machine.refused("cluster::create", *arguments) == "stake::EStakeRequired"


def test_a_fresh_genuine_document_registers_its_key(machine: Machine, cluster: Cluster) -> None:
    before = machine.read(Registry, cluster.registry)
    machine.call("enclaves::register", *register(machine, cluster))
    held = machine.shared("Enclave")
    assert [type(event) for event in machine.events()] == [NonceRotated, EnclaveRegistered]
    enclave = machine.read(Enclave, held)
    assert (enclave.public_key, enclave.measurement_version, enclave.revoked, enclave.simulated) == (
        KEY,
        1,
        False,
        False,
    )
    assert (enclave.registered_ms, enclave.expires_ms) == (NOW_MS, NOW_MS + LIMITS["registration_ttl_ms"])
    assert (enclave.registry, enclave.operator) == (before.address, "0x" + OPERATOR.hex())
    assert machine.read(Registry, cluster.registry).nonce == merkle.digest(before.nonce + KEY)
    for function, value in {
        "public_key": KEY,
        "operator": OPERATOR,
        "expires_ms": enclave.expires_ms,
        "is_revoked": False,
        "is_simulated": False,
    }.items():
        assert machine.call(f"enclaves::{function}", held) == [value]


def test_pcrs_are_found_by_index_wherever_they_stand(machine: Machine, cluster: Cluster) -> None:
    shuffled = [(31, b"\x09" * 48), (2, PCRS[2]), (0, PCRS[0]), (4, bytes(48)), (1, PCRS[1])]
    machine.call("enclaves::register", *register(machine, cluster, pcrs=shuffled))
    assert machine.read(Enclave, machine.shared("Enclave")).public_key == KEY


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"nonce": None}, "EWrongNonce"),
        ({"nonce": b""}, "EWrongNonce"),
        ({"nonce": bytes(32)}, "EWrongNonce"),
        ({"user_data": None}, "EWrongBinding"),
        ({"user_data": bytes(32)}, "EWrongBinding"),
        ({"public_key": None}, "EKeyLength"),
        ({"public_key": bytes(31)}, "EKeyLength"),
        ({"public_key": bytes(33)}, "EKeyLength"),
        ({"timestamp_ms": NOW_MS - 300_001}, "EDocumentTooOld"),
        ({"timestamp_ms": NOW_MS + 60_001}, "EDocumentFromFuture"),
        ({"timestamp_ms": 2**64 - 1}, "EDocumentFromFuture"),
        ({"pcrs": list(enumerate(PCRS[:2]))}, "EMissingPcr"),
        ({"pcrs": [*enumerate(PCRS), (1, PCRS[1])]}, "EMissingPcr"),
        ({"pcrs": []}, "EMissingPcr"),
        ({"pcrs": [(n, bytes(48)) for n in range(3)]}, "EMeasurementNotAllowed"),
        ({"pcrs": [(0, PCRS[1]), (1, PCRS[0]), (2, PCRS[2])]}, "EMeasurementNotAllowed"),
    ],
)
def test_a_document_is_refused_with(machine: Machine, cluster: Cluster, changed: dict[str, Any], code: str) -> None:
    before = machine.read(Registry, cluster.registry)
    assert machine.refused("enclaves::register", *register(machine, cluster, **changed)) == f"enclaves::{code}"
    assert machine.read(Registry, cluster.registry) == before


@pytest.mark.parametrize("timestamp_ms", [NOW_MS - 300_000, NOW_MS + 60_000])
def test_a_document_at_the_edge_of_its_time_is_good(machine: Machine, cluster: Cluster, timestamp_ms: int) -> None:
    machine.call("enclaves::register", *register(machine, cluster, timestamp_ms=timestamp_ms))


def test_one_document_registers_once(machine: Machine, cluster: Cluster) -> None:
    nonce = machine.read(Registry, cluster.registry).nonce
    machine.call("enclaves::register", *register(machine, cluster))
    again = register(machine, cluster, nonce=nonce)
    assert machine.refused("enclaves::register", *again) == "enclaves::EWrongNonce"


def test_an_operator_without_enough_stake_registers_nothing(machine: Machine) -> None:
    cluster = machine.create(simulated=False)
    assert machine.refused("enclaves::register", *register(machine, cluster)) == "stake::ENotEnoughStake"
    machine.deposit(cluster, 999)
    assert machine.refused("enclaves::register", *register(machine, cluster)) == "stake::ENotEnoughStake"
    machine.deposit(cluster, 1)
    machine.call("enclaves::register", *register(machine, cluster))


def test_stake_in_another_cluster_does_not_count(machine: Machine, cluster: Cluster) -> None:
    other = machine.create(simulated=False)
    arguments = [other.registry, cluster.pool, document(machine, other)]
    assert machine.refused("enclaves::register", *arguments) == "stake::EWrongRegistry"


def test_a_simulated_registry_takes_no_genuine_document(machine: Machine, stand_in: Cluster) -> None:
    assert machine.refused("enclaves::register", *register(machine, stand_in)) == "enclaves::ESimulated"


def simulated_arguments(machine: Machine, cluster: Cluster, **changed: bytes) -> list[Any]:
    fields = {
        "public_key": KEY,
        "pcr0": PCRS[0],
        "pcr1": PCRS[1],
        "pcr2": PCRS[2],
        "nonce": machine.read(Registry, cluster.registry).nonce,
        "digest": bytes(32),
    } | changed
    return [cluster.registry, cluster.pool, *fields.values()]


def test_a_real_registry_takes_no_stand_in(machine: Machine, cluster: Cluster) -> None:
    arguments = simulated_arguments(machine, cluster)
    assert machine.refused("enclaves::register_simulated", *arguments) == "enclaves::ENotSimulated"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"public_key": bytes(31)}, "EKeyLength"),
        ({"nonce": bytes(32)}, "EWrongNonce"),
        ({"digest": bytes(31)}, "EDigestLength"),
        ({"pcr0": bytes(48)}, "EMeasurementNotAllowed"),
    ],
)
def test_a_stand_in_is_refused_with(machine: Machine, stand_in: Cluster, changed: dict[str, bytes], code: str) -> None:
    arguments = simulated_arguments(machine, stand_in, **changed)
    assert machine.refused("enclaves::register_simulated", *arguments) == f"enclaves::{code}"


def test_a_simulated_cluster_with_a_minimum_asks_for_it(machine: Machine) -> None:
    cluster = machine.create(simulated=True)
    arguments = simulated_arguments(machine, cluster)
    assert machine.refused("enclaves::register_simulated", *arguments) == "stake::ENotEnoughStake"
    machine.deposit(cluster, 1_000)
    machine.call("enclaves::register_simulated", *arguments)


def test_an_enclave_is_current_until_it_expires_is_revoked_or_its_image_is_retired(
    machine: Machine, stand_in: Cluster
) -> None:
    stranger = machine.create()
    enclave = machine.enclave(stand_in)
    machine.call("enclaves::assert_current", enclave, stand_in.registry)
    refused = machine.refused("enclaves::assert_current", enclave, stranger.registry)
    assert refused == "enclaves::EWrongRegistry"
    machine.now_ms = NOW_MS + LIMITS["registration_ttl_ms"] - 1
    machine.call("enclaves::assert_current", enclave, stand_in.registry)
    machine.now_ms += 1
    assert machine.refused("enclaves::assert_current", enclave, stand_in.registry) == "enclaves::EExpired"
    machine.now_ms = NOW_MS
    machine.call("registry::allow_measurement", stand_in.registry, *(bytes([n]) * 48 for n in (7, 8, 9)))
    machine.call("enclaves::assert_current", enclave, stand_in.registry)
    machine.call("registry::retire_measurement", stand_in.registry, 1)
    assert machine.refused("enclaves::assert_current", enclave, stand_in.registry) == "enclaves::EMeasurementRetired"
    machine.call("enclaves::revoke", enclave)
    assert machine.event(EnclaveRevoked).public_key == KEY
    assert machine.refused("enclaves::assert_current", enclave, stand_in.registry) == "enclaves::ERevoked"
    machine.call("enclaves::revoke", enclave)
    assert machine.events() == []


def test_an_operator_ends_its_own_registration_and_no_other(machine: Machine, stand_in: Cluster) -> None:
    enclave = machine.enclave(stand_in)
    assert machine.refused("enclaves::retire", enclave, sender=STRANGER) == "enclaves::ENotOperator"
    machine.call("enclaves::retire", enclave)
    assert machine.event(EnclaveRevoked).enclave == enclave.address
    assert machine.call("enclaves::is_revoked", enclave) == [True]


def test_a_signature_has_64_bytes_and_is_the_enclaves_own(machine: Machine, stand_in: Cluster) -> None:
    enclave = machine.enclave(stand_in)
    arguments = (enclave, 1, NOW_MS, b"payload")
    assert machine.refused("enclaves::assert_signed", *arguments, bytes(63)) == "enclaves::ESignatureLength"
    assert machine.refused("enclaves::assert_signed", *arguments, bytes(64)) == "enclaves::EBadSignature"
    assert machine.call("intent::placement") == [1]
    assert machine.call("intent::message", 1, 258, b"ab") == [b"\x01" + (258).to_bytes(8, "little") + b"ab"]


def test_the_allowed_set_is_bounded_and_never_uses_a_number_twice(machine: Machine, cluster: Cluster) -> None:
    registry = cluster.registry
    for n in range(10, 17):
        machine.call("registry::allow_measurement", registry, *([bytes([n]) * 48] * 3))
    ninth = [b"\x63" * 48] * 3
    refused = machine.refused("registry::allow_measurement", registry, *ninth)
    assert refused == "measurements::ETooManyMeasurements"
    machine.call("registry::retire_measurement", registry, 8)
    refused = machine.refused("registry::allow_measurement", registry, *PCRS)
    assert refused == "measurements::EMeasurementExists"
    refused = machine.refused("registry::retire_measurement", registry, 8)
    assert refused == "measurements::EUnknownMeasurement"
    machine.call("registry::allow_measurement", registry, *ninth)
    assert sorted(m.version for m in machine.read(Registry, registry).measurements) == [1, 2, 3, 4, 5, 6, 7, 9]


def test_a_measurement_says_what_it_is_of(machine: Machine) -> None:
    (made,) = machine.call("measurements::measurement", 3, *PCRS)
    assert machine.call("measurements::version", made) == [3]
    for name, pcr in zip(("pcr0", "pcr1", "pcr2"), PCRS, strict=True):
        assert machine.call(f"measurements::{name}", made) == [pcr]


def test_what_the_admin_changes_is_his_until_he_hands_the_cluster_over(machine: Machine, cluster: Cluster) -> None:
    registry = cluster.registry
    machine.call("registry::set_limits", registry, 1, 2, 3, 4)
    assert machine.event(LimitsChanged).batch_age_ms == 3
    machine.call("registry::set_policy", registry, b"\x0c" * 32)
    assert machine.event(PolicyChanged).policy == b"\x0c" * 32
    assert machine.refused("registry::set_policy", registry, bytes(31)) == "registry::EDigestLength"
    machine.call("registry::hand_over", registry)
    assert machine.event(HandedOver).registry == registry.address
    assert machine.read(Registry, registry).governed
    measurement = [b"\x63" * 48] * 3
    for target, arguments in {
        "registry::set_limits": (registry, 1, 2, 3, 4),
        "registry::set_policy": (registry, POLICY),
        "registry::allow_measurement": (registry, *measurement),
        "registry::retire_measurement": (registry, 1),
        "registry::hand_over": (registry,),
        "stake::set_parameters": (registry, cluster.pool, machine.parameters()),
    }.items():
        assert machine.refused(target, *arguments, sender=REPORTER) == "registry::EGoverned", target
