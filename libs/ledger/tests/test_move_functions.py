"""What each function of the Move package accepts and refuses, executed from the committed bytecode.

No genuine attestation document carries the nonce of a registry of ours, so `enclaves::register` is given documents as
the framework hands them over after it has verified them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from daas.common import bcs, merkle
from daas.devstack.ledger import natives  # noqa: F401 - fills the tables of framework functions
from daas.devstack.ledger.binary import with_self_address
from daas.devstack.ledger.errors import MoveAbortError
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.gas import Meter
from daas.devstack.ledger.interpreter import call
from daas.devstack.ledger.natives.registry import Ref
from daas.devstack.ledger.objects import CLOCK_ID, CLOCK_TYPE
from daas.devstack.ledger.program import Program
from daas.devstack.ledger.type_tags import SUI, Datatype
from daas.ledger.layout import decode_struct
from daas.ledger.models import Enclave, Registry
from daas.ledger.package import abort_name, committed_package

PACKAGE = bytes([0xDA]) * 32
SENDER = bytes([0x05]) * 32
CHAIN = bytes([0x0C]) * 32
POLICY = bytes([0x0B]) * 32
PCRS = tuple(bytes([n]) * 48 for n in (1, 2, 3))
KEY = bytes([0x0E]) * 32
NOW_MS = 1_732_260_000_000
LIMITS = {"registration_ttl_ms": 3_600_000, "document_age_ms": 300_000, "batch_age_ms": 86_400_000, "future_ms": 60_000}
DOCUMENT = Datatype(SUI, "nitro_attestation", "NitroAttestationDocument", ())


class Shared(NamedTuple):
    """An object that the package has shared: a cell that references point into."""

    type: Datatype
    cell: list[Any]


class Machine:
    """The package loaded once; every call is a transaction of its own on values held by the test."""

    def __init__(self) -> None:
        self.program = Program()
        self.program.load(with_self_address(module, PACKAGE) for module in committed_package().modules)
        self.now_ms = NOW_MS
        self.transactions = 0
        self.execution = self.transaction()

    def transaction(self) -> Execution:
        self.transactions += 1
        self.execution = Execution(
            self.program,
            lambda _: None,
            sender=SENDER,
            sponsor=None,
            digest=self.transactions.to_bytes(32, "big"),
            epoch=0,
            epoch_start_ms=0,
            gas_price=1000,
            meter=Meter(10_000_000),
        )
        return self.execution

    def call(self, target: str, *arguments: Any) -> list[Any]:
        module, name = target.split("::")
        function = self.program.function(PACKAGE, module, name)
        assert function is not None
        return call(self.transaction(), function, (), list(arguments))

    def refused(self, target: str, *arguments: Any) -> str:
        with pytest.raises(MoveAbortError) as refused:
            self.call(target, *arguments)
        location = refused.value.location
        assert location is not None
        package = "0x" + PACKAGE.hex()
        return f"{location.module}::{abort_name(package, package, location.module, refused.value.code)}"

    def value(self, type_: Datatype, data: bytes) -> Any:
        return self.program.codec.decode(type_, data)

    def clock(self) -> Ref:
        return Ref([self.value(CLOCK_TYPE, CLOCK_ID + bcs.u64(self.now_ms))], 0)

    def shared(self, name: str) -> Shared:
        (placed,) = [placed for placed in self.execution.placed.values() if placed.type.name == name]
        assert placed.owner.kind == "shared"
        return Shared(placed.type, [placed.value])

    def read(self, kind: Any, shared: Shared) -> Any:
        return decode_struct(kind, bytes(self.program.codec.encode(shared.type, shared.cell[0])))


def cap() -> Ref:
    return Ref([[[[bytes(32)]]]], 0)


def context() -> Ref:
    return Ref([None], 0)


def create_arguments(*, simulated: bool, **changed: Any) -> list[Any]:
    fields = {"chain": CHAIN, "policy": POLICY, "pcr0": PCRS[0], "pcr1": PCRS[1], "pcr2": PCRS[2]} | LIMITS | changed
    values = [bytearray(value) if isinstance(value, bytes) else value for value in fields.values()]
    return [cap(), simulated, *values, context()]


def create(machine: Machine, *, simulated: bool) -> Shared:
    machine.call("registry::create", *create_arguments(simulated=simulated))
    return machine.shared("Registry")


def option(value: bytes | None) -> bytes:
    return bcs.vector(bcs.bytes_, [] if value is None else [value])


def document(machine: Machine, registry: Shared, **changed: Any) -> Any:
    state = machine.read(Registry, registry)
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


def register(machine: Machine, registry: Shared, **changed: Any) -> list[Any]:
    return [Ref(registry.cell, 0), document(machine, registry, **changed), machine.clock(), context()]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


@pytest.fixture(autouse=True)
def present(machine: Machine) -> None:
    machine.now_ms = NOW_MS


@pytest.fixture
def registry(machine: Machine) -> Shared:
    return create(machine, simulated=False)


def test_a_registry_starts_with_what_it_was_given(machine: Machine, registry: Shared) -> None:
    state = machine.read(Registry, registry)
    assert (state.simulated, state.chain, state.policy, state.sequence, state.head) == (
        False,
        CHAIN,
        POLICY,
        0,
        bytes(32),
    )
    assert [(m.version, m.pcr0, m.pcr1, m.pcr2) for m in state.measurements] == [(1, *PCRS)]
    assert state.nonce == merkle.digest(bytes.fromhex(state.address[2:]) + CHAIN)
    assert [event.type.name for event in machine.execution.events] == ["RegistryCreated", "MeasurementsChanged"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"chain": bytes(31)}, "EDigestLength"),
        ({"policy": bytes(33)}, "EDigestLength"),
        ({"pcr0": bytes(48)}, "EZeroPcr"),
        ({"pcr1": bytes(48)}, "EZeroPcr"),
        ({"pcr2": bytes(48)}, "EZeroPcr"),
        ({"pcr1": b"\x01" * 32}, "EPcrLength"),
        ({"registration_ttl_ms": 0}, "EInvalidLimit"),
        ({"batch_age_ms": 31_622_400_001}, "EInvalidLimit"),
    ],
)
@pytest.mark.parametrize("simulated", [True, False])
def test_a_registry_is_not_created_with(machine: Machine, simulated: bool, changed: dict[str, Any], code: str) -> None:
    assert machine.refused("registry::create", *create_arguments(simulated=simulated, **changed)) == f"registry::{code}"


def test_a_fresh_genuine_document_registers_its_key(machine: Machine, registry: Shared) -> None:
    before = machine.read(Registry, registry)
    machine.call("enclaves::register", *register(machine, registry))
    enclave = machine.read(Enclave, machine.shared("Enclave"))
    assert (enclave.public_key, enclave.measurement_version, enclave.revoked, enclave.simulated) == (
        KEY,
        1,
        False,
        False,
    )
    assert (enclave.registered_ms, enclave.expires_ms) == (NOW_MS, NOW_MS + LIMITS["registration_ttl_ms"])
    assert (enclave.registry, enclave.operator) == (before.address, "0x" + SENDER.hex())
    assert machine.read(Registry, registry).nonce == merkle.digest(before.nonce + KEY)
    assert [event.type.name for event in machine.execution.events] == ["NonceRotated", "EnclaveRegistered"]


def test_pcrs_are_found_by_index_wherever_they_stand(machine: Machine, registry: Shared) -> None:
    shuffled = [(31, b"\x09" * 48), (2, PCRS[2]), (0, PCRS[0]), (4, bytes(48)), (1, PCRS[1])]
    machine.call("enclaves::register", *register(machine, registry, pcrs=shuffled))
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
def test_a_document_is_refused_with(machine: Machine, registry: Shared, changed: dict[str, Any], code: str) -> None:
    before = machine.read(Registry, registry)
    assert machine.refused("enclaves::register", *register(machine, registry, **changed)) == f"enclaves::{code}"
    assert machine.read(Registry, registry) == before


@pytest.mark.parametrize("timestamp_ms", [NOW_MS - 300_000, NOW_MS + 60_000])
def test_a_document_at_the_edge_of_its_time_is_good(machine: Machine, registry: Shared, timestamp_ms: int) -> None:
    machine.call("enclaves::register", *register(machine, registry, timestamp_ms=timestamp_ms))


def test_one_document_registers_once(machine: Machine, registry: Shared) -> None:
    nonce = machine.read(Registry, registry).nonce
    machine.call("enclaves::register", *register(machine, registry))
    again = register(machine, registry, nonce=nonce)
    assert machine.refused("enclaves::register", *again) == "enclaves::EWrongNonce"


def test_a_simulated_registry_takes_no_genuine_document(machine: Machine) -> None:
    registry = create(machine, simulated=True)
    assert machine.refused("enclaves::register", *register(machine, registry)) == "enclaves::ESimulated"


def stand_in(machine: Machine, registry: Shared, **changed: bytes) -> list[Any]:
    fields = {
        "public_key": KEY,
        "pcr0": PCRS[0],
        "pcr1": PCRS[1],
        "pcr2": PCRS[2],
        "nonce": machine.read(Registry, registry).nonce,
        "digest": bytes(32),
    } | changed
    values = [bytearray(value) for value in fields.values()]
    return [cap(), Ref(registry.cell, 0), *values, machine.clock(), context()]


def test_a_real_registry_takes_no_stand_in(machine: Machine, registry: Shared) -> None:
    arguments = stand_in(machine, registry)
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
def test_a_stand_in_is_refused_with(machine: Machine, changed: dict[str, bytes], code: str) -> None:
    registry = create(machine, simulated=True)
    arguments = stand_in(machine, registry, **changed)
    assert machine.refused("enclaves::register_simulated", *arguments) == f"enclaves::{code}"


def test_an_enclave_is_current_until_it_expires_is_revoked_or_its_image_is_retired(machine: Machine) -> None:
    registry, stranger = create(machine, simulated=True), create(machine, simulated=True)
    arguments = stand_in(machine, registry)
    machine.call("enclaves::register_simulated", *arguments)
    enclave = machine.shared("Enclave")

    def use(of: Shared = registry) -> list[Any]:
        return [Ref(enclave.cell, 0), Ref(of.cell, 0), machine.clock()]

    machine.call("enclaves::assert_current", *use())
    assert machine.refused("enclaves::assert_current", *use(stranger)) == "enclaves::EWrongRegistry"
    machine.now_ms = NOW_MS + LIMITS["registration_ttl_ms"] - 1
    machine.call("enclaves::assert_current", *use())
    machine.now_ms += 1
    assert machine.refused("enclaves::assert_current", *use()) == "enclaves::EExpired"
    machine.now_ms = NOW_MS
    other = [bytearray(bytes([n]) * 48) for n in (7, 8, 9)]
    machine.call("registry::allow_measurement", cap(), Ref(registry.cell, 0), *other)
    machine.call("enclaves::assert_current", *use())
    machine.call("registry::retire_measurement", cap(), Ref(registry.cell, 0), 1)
    assert machine.refused("enclaves::assert_current", *use()) == "enclaves::EMeasurementRetired"
    machine.call("enclaves::revoke", cap(), Ref(enclave.cell, 0))
    assert [event.type.name for event in machine.execution.events] == ["EnclaveRevoked"]
    assert machine.refused("enclaves::assert_current", *use()) == "enclaves::ERevoked"
    machine.call("enclaves::revoke", cap(), Ref(enclave.cell, 0))
    assert machine.execution.events == []


def test_the_allowed_set_is_bounded_and_never_uses_a_number_twice(machine: Machine, registry: Shared) -> None:
    cell = Ref(registry.cell, 0)
    for n in range(10, 17):
        machine.call("registry::allow_measurement", cap(), cell, *(bytearray(bytes([n]) * 48) for _ in range(3)))
    ninth = [bytearray(b"\x63" * 48) for _ in range(3)]
    assert machine.refused("registry::allow_measurement", cap(), cell, *ninth) == "registry::ETooManyMeasurements"
    machine.call("registry::retire_measurement", cap(), cell, 8)
    known = [bytearray(pcr) for pcr in PCRS]
    assert machine.refused("registry::allow_measurement", cap(), cell, *known) == "registry::EMeasurementExists"
    assert machine.refused("registry::retire_measurement", cap(), cell, 8) == "registry::EUnknownMeasurement"
    machine.call("registry::allow_measurement", cap(), cell, *(bytearray(pcr) for pcr in ninth))
    assert sorted(m.version for m in machine.read(Registry, registry).measurements) == [1, 2, 3, 4, 5, 6, 7, 9]


def test_objects_of_another_version_are_used_by_nothing_and_migrated_once(machine: Machine) -> None:
    registry = create(machine, simulated=True)
    machine.call("enclaves::register_simulated", *stand_in(machine, registry))
    enclave = machine.shared("Enclave")
    cell, registered = Ref(registry.cell, 0), Ref(enclave.cell, 0)
    assert machine.refused("registry::migrate", cap(), cell) == "registry::EAlreadyMigrated"
    assert machine.refused("enclaves::migrate", cap(), registered) == "enclaves::EAlreadyMigrated"
    registry.cell[0][1] = enclave.cell[0][1] = 0
    assert machine.refused("registry::set_policy", cap(), cell, bytearray(32)) == "registry::EWrongVersion"
    assert machine.refused("enclaves::revoke", cap(), registered) == "enclaves::EWrongVersion"
    machine.call("registry::migrate", cap(), cell)
    machine.call("enclaves::migrate", cap(), registered)
    machine.call("registry::set_policy", cap(), cell, bytearray(32))
    machine.call("enclaves::revoke", cap(), registered)
