"""The committed bytecode on values that the test holds: every call is a transaction of its own, all or nothing."""

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest

from daas.common import bcs
from daas.devstack.ledger import natives  # noqa: F401 - fills the tables of framework functions
from daas.devstack.ledger.binary import with_self_address
from daas.devstack.ledger.errors import MoveAbortError
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.gas import Meter
from daas.devstack.ledger.interpreter import call
from daas.devstack.ledger.natives.registry import Ref, copy_value
from daas.devstack.ledger.objects import CLOCK_ID, CLOCK_TYPE, Object, Owner, make_object
from daas.devstack.ledger.program import Package, Program
from daas.devstack.ledger.type_tags import GAS_COIN, SUI, TX_CONTEXT, Datatype, Reference, Type, Vector
from daas.ledger.events import decode_event
from daas.ledger.layout import decode_struct
from daas.ledger.package import Lineage, abort_name, committed_package

PACKAGE = bytes([0xDA]) * 32
PACKAGE_ADDRESS = "0x" + PACKAGE.hex()
OPERATOR, REPORTER, STRANGER = (bytes([n]) * 32 for n in (0x05, 0x06, 0x07))
CHAIN = bytes([0x0C]) * 32
POLICY = bytes([0x0B]) * 32
PCRS = tuple(bytes([n]) * 48 for n in (1, 2, 3))
KEY = bytes([0x0E]) * 32
NOW_MS = 1_732_260_000_000
DAY_MS = 24 * 3600 * 1000
LIMITS = {"registration_ttl_ms": 3_600_000, "document_age_ms": 300_000, "batch_age_ms": 86_400_000, "future_ms": 60_000}
PARAMETERS = {
    "operator_minimum_mist": 1_000,
    "node_minimum_mist": 100,
    "proposal_minimum_mist": 10,
    "unbonding_ms": 10 * DAY_MS,
    "slash_bps": 5_000,
    "reporter_bps": 1_000,
    "quorum_bps": 3_000,
    "voting_ms": 5 * DAY_MS,
    "timelock_ms": 2 * DAY_MS,
}
DOCUMENT = Datatype(SUI, "nitro_attestation", "NitroAttestationDocument", ())
_CAPS = {"AdminCap", "RevokerCap"}

E = TypeVar("E")


class Held(NamedTuple):
    """An object that the package has made: a cell that references point into."""

    type: Datatype
    cell: list[Any]
    owner: bytes | None

    @property
    def id(self) -> bytes:
        found: bytes = self.cell[0][0][0][0]
        return found

    @property
    def address(self) -> str:
        return "0x" + self.id.hex()


class Cluster(NamedTuple):
    """The shared objects of one cluster."""

    registry: Held
    pool: Held
    roster: Held


class Machine:
    """The package loaded once. Arguments are converted to what the parameter says; clock, context and capabilities are
    supplied."""

    def __init__(self, modules: Iterable[bytes] | None = None) -> None:
        self.program = Program()
        code = committed_package().modules if modules is None else modules
        package = Package(
            id=PACKAGE,
            version=1,
            digest=bytes(32),
            modules=tuple(with_self_address(module, PACKAGE) for module in code),
            previous=bytes(32),
            original=PACKAGE,
        )
        self.program.load(package)
        self.now_ms = NOW_MS
        self.transactions = 0
        self.fields: dict[bytes, Object] = {}
        self.execution = self._transaction(OPERATOR)

    def _transaction(self, sender: bytes) -> Execution:
        self.transactions += 1
        return Execution(
            self.program,
            self.fields.get,
            sender=sender,
            sponsor=None,
            digest=self.transactions.to_bytes(32, "big"),
            epoch=0,
            epoch_start_ms=0,
            gas_price=1000,
            meter=Meter(10_000_000),
        )

    def call(self, target: str, *arguments: Any, sender: bytes = OPERATOR) -> list[Any]:
        module, name = target.split("::")
        function = self.program.function(PACKAGE, module, name)
        assert function is not None, target
        given = iter(arguments)
        values = [self._argument(parameter, given) for parameter in function.parameters]
        assert next(given, None) is None, f"{target} takes fewer arguments"
        before = [(value, copy_value(value.get())) for value in values if isinstance(value, Ref)]
        self.execution = self._transaction(sender)
        try:
            results = call(self.execution, function, (), values)
        except MoveAbortError:
            for reference, value in before:
                reference.set(value)
            raise
        self._keep_fields()
        return results

    def refused(self, target: str, *arguments: Any, sender: bytes = OPERATOR) -> str:
        with pytest.raises(MoveAbortError) as refused:
            self.call(target, *arguments, sender=sender)
        location = refused.value.location
        assert location is not None
        name = abort_name(Lineage.first(PACKAGE_ADDRESS), _hex(location.address), location.module, refused.value.code)
        return f"{location.module}::{name or refused.value.code}"

    def _argument(self, parameter: Type, given: Any) -> Any:
        target = parameter.target if isinstance(parameter, Reference) else parameter
        if target == TX_CONTEXT:
            return Ref([None], 0)
        if target == CLOCK_TYPE:
            return Ref([self.value(CLOCK_TYPE, CLOCK_ID + bcs.u64(self.now_ms))], 0)
        if isinstance(target, Datatype) and target.name in _CAPS:
            return Ref([[[[bytes(32)]]]], 0)
        argument = next(given)
        if isinstance(argument, Held):
            return Ref(argument.cell, 0) if isinstance(parameter, Reference) else argument.cell[0]
        value = _plain(target, argument)
        return Ref([value], 0) if isinstance(parameter, Reference) else value

    def _keep_fields(self) -> None:
        for object_id, child in self.execution.children.items():
            if child.cell[0] is None:
                self.fields.pop(object_id, None)
                continue
            contents = self.program.codec.encode(child.type, child.cell[0])
            self.fields[object_id] = make_object(
                object_id, 1, Owner("object", child.parent), child.type, contents,
                previous=bytes(32), storage_mist=0, public_transfer=False,
            )  # fmt: skip

    def value(self, type_: Datatype, data: bytes) -> Any:
        return self.program.codec.decode(type_, data)

    def placed(self, name: str) -> list[Held]:
        """What the last call gave an owner, by name of the type."""
        return [
            Held(placed.type, [placed.value], placed.owner.address if placed.owner.kind == "address" else None)
            for placed in self.execution.placed.values()
            if placed.type.name == name
        ]

    def shared(self, name: str) -> Held:
        (held,) = self.placed(name)
        assert held.owner is None
        return held

    def owned(self, name: str) -> Held:
        (held,) = self.placed(name)
        assert held.owner is not None
        return held

    def paid(self) -> dict[bytes, int]:
        """Coins that the last call handed out: recipient and amount."""
        return {held.owner: held.cell[0][1][0] for held in self.placed("Coin") if held.owner is not None}

    def coin(self, amount_mist: int) -> Held:
        return Held(GAS_COIN, [[[[self.execution.fresh_id()]], [amount_mist]]], OPERATOR)

    def read(self, kind: type[E], held: Held) -> E:
        assert issubclass(kind, msgspec.Struct)
        return decode_struct(kind, bytes(self.program.codec.encode(held.type, held.cell[0])))

    def event(self, kind: type[E]) -> E:
        """The last call's one event of this class."""
        (found,) = [event for event in self.events() if isinstance(event, kind)]
        return found

    def events(self) -> list[Any]:
        """What the last call emitted, decoded as the client does it."""
        return [
            decode_event(
                f"{PACKAGE_ADDRESS}::{event.type.module}::{event.type.name}",
                event.contents,
                Lineage.first(PACKAGE_ADDRESS),
            )
            for event in self.execution.events
        ]

    # Clusters, stake and enclaves, as most tests need them.

    def parameters(self, **changed: int) -> Any:
        (made,) = self.call("parameters::new", *(PARAMETERS | changed).values())
        return made

    def create(self, *, simulated: bool = True, parameters: Any = None, **changed: Any) -> Cluster:
        self.call("cluster::create", *self.create_arguments(simulated=simulated, parameters=parameters, **changed))
        return Cluster(self.shared("Registry"), self.shared("StakePool"), self.shared("Roster"))

    def create_arguments(self, *, simulated: bool = True, parameters: Any = None, **changed: Any) -> list[Any]:
        made = self.parameters() if parameters is None else parameters
        fields = {"chain": CHAIN, "policy": POLICY, "pcr0": PCRS[0], "pcr1": PCRS[1], "pcr2": PCRS[2]} | LIMITS
        return [simulated, *(fields | changed).values(), made]

    def deposit(self, cluster: Cluster, amount_mist: int, sender: bytes = OPERATOR) -> None:
        self.call("stake::deposit", cluster.pool, self.coin(amount_mist), sender=sender)

    def enclave(self, cluster: Cluster, public_key: bytes = KEY, sender: bytes = OPERATOR) -> Held:
        """Registers a stand-in's key."""
        nonce = bytes(self.call("registry::nonce", cluster.registry)[0])
        arguments = (cluster.registry, cluster.pool, public_key, *PCRS, nonce, bytes(32))
        self.call("enclaves::register_simulated", *arguments, sender=sender)
        return self.shared("Enclave")


def _plain(type_: Type, value: Any) -> Any:
    if isinstance(type_, Vector):
        return bytearray(value) if type_.element == "u8" else [_plain(type_.element, item) for item in value]
    return value


def _hex(address: bytes) -> str:
    return "0x" + address.hex()
