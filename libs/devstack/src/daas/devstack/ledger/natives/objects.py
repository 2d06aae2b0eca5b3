"""`sui::object`, `sui::tx_context`, `sui::clock`, `sui::event`, `sui::address`, `sui::package`, `sui::types`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.gas import GAS_PRICE
from daas.devstack.ledger.natives.registry import AbortError, Ref, copy_value
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.type_tags import ADDRESS_LENGTH, Datatype, Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
ADDRESS_PARSE_ERROR: Final = 0
TOO_PERMISSIVE: Final = 1
ALREADY_AUTHORIZED: Final = 2
NOT_AUTHORIZED: Final = 3
WRONG_UPGRADE_CAP: Final = 4

tx_context = framework_module("sui::tx_context")
object_ = framework_module("sui::object")
clock = framework_module("sui::clock")
event = framework_module("sui::event")
address = framework_module("sui::address")
package = framework_module("sui::package")
sui_types = framework_module("sui::types")


def object_id(reference: Ref) -> bytes:
    """The id of the object behind a reference: every object starts with its UID."""
    found: bytes = reference.get()[0][0][0]
    return found


@object_.function("public fun new(&mut TxContext): UID")
def _new(execution: Execution, _types: Types, _context: Ref) -> Any:
    return [[execution.fresh_id()]]


@object_.function("public fun delete(UID)")
def _delete(execution: Execution, _types: Types, uid: Any) -> None:
    execution.delete_id(uid[0][0])


@object_.function("public fun id<T>(&T): ID")
def _id_(_execution: Execution, _types: Types, reference: Ref) -> Any:
    return [object_id(reference)]


@object_.function("public fun borrow_id<T>(&T): &ID")
def _borrow_id(_execution: Execution, _types: Types, reference: Ref) -> Ref:
    return Ref(reference.get()[0], 0)


@object_.function("public fun id_address<T>(&T): address")
def _id_address(_execution: Execution, _types: Types, reference: Ref) -> bytes:
    return object_id(reference)


@object_.function("public fun id_bytes<T>(&T): vector<u8>")
def _id_bytes(_execution: Execution, _types: Types, reference: Ref) -> bytearray:
    return bytearray(object_id(reference))


@object_.function("public fun id_to_bytes(&ID): vector<u8>")
def _id_to_bytes(_execution: Execution, _types: Types, reference: Ref) -> bytearray:
    return bytearray(reference.get()[0])


@object_.function("public fun id_to_address(&ID): address")
def _id_to_address(_execution: Execution, _types: Types, reference: Ref) -> Any:
    return reference.get()[0]


@object_.function("public fun id_from_bytes(vector<u8>): ID")
def _id_from_bytes(_execution: Execution, _types: Types, data: bytearray) -> Any:
    return [_address_of(data)]


@object_.function("public fun id_from_address(address): ID")
def _id_from_address(_execution: Execution, _types: Types, value: bytes) -> Any:
    return [value]


@object_.function("public fun uid_as_inner(&UID): &ID")
def _uid_as_inner(_execution: Execution, _types: Types, uid: Ref) -> Ref:
    return Ref(uid.get(), 0)


@object_.function("public fun uid_to_inner(&UID): ID")
def _uid_to_inner(_execution: Execution, _types: Types, uid: Ref) -> Any:
    return [uid.get()[0][0]]


@object_.function("public fun uid_to_bytes(&UID): vector<u8>")
def _uid_to_bytes(_execution: Execution, _types: Types, uid: Ref) -> bytearray:
    return bytearray(uid.get()[0][0])


@object_.function("public fun uid_to_address(&UID): address")
def _uid_to_address(_execution: Execution, _types: Types, uid: Ref) -> Any:
    return uid.get()[0][0]


@tx_context.function("public fun sender(&TxContext): address")
def _sender(execution: Execution, _types: Types, _context: Ref) -> bytes:
    return execution.sender


@tx_context.function("public fun digest(&TxContext): &vector<u8>")
def _digest(execution: Execution, _types: Types, _context: Ref) -> Ref:
    return Ref([bytearray(execution.digest)], 0)


@tx_context.function("public fun epoch(&TxContext): u64")
def _epoch(execution: Execution, _types: Types, _context: Ref) -> int:
    return execution.epoch


@tx_context.function("public fun epoch_timestamp_ms(&TxContext): u64")
def _epoch_timestamp_ms(execution: Execution, _types: Types, _context: Ref) -> int:
    return execution.epoch_start_ms


@tx_context.function("public fun sponsor(&TxContext): 0x1::option::Option<address>")
def _sponsor(execution: Execution, _types: Types, _context: Ref) -> Any:
    return [[execution.sponsor]] if execution.sponsor else [[]]


@tx_context.function("public fun reference_gas_price(&TxContext): u64")
def _reference_gas_price(_execution: Execution, _types: Types, _context: Ref) -> int:
    return GAS_PRICE


@tx_context.function("public fun gas_price(&TxContext): u64")
def _gas_price(execution: Execution, _types: Types, _context: Ref) -> int:
    return execution.gas_price


@tx_context.function("public fun fresh_object_address(&mut TxContext): address")
def _fresh_object_address(execution: Execution, _types: Types, _context: Ref) -> bytes:
    return execution.fresh_id()


@clock.function("public fun timestamp_ms(&Clock): u64")
def _timestamp_ms(_execution: Execution, _types: Types, reference: Ref) -> Any:
    return reference.get()[1]


@event.function("public fun emit<T>(T)")
def _emit(execution: Execution, types: Types, value: Any) -> None:
    execution.emit(types[0], value)


def _address_of(data: bytes | bytearray) -> bytes:
    if len(data) != ADDRESS_LENGTH:
        raise AbortError(ADDRESS_PARSE_ERROR, "address::from_bytes")
    return bytes(data)


@address.function("public fun from_bytes(vector<u8>): address")
def _from_bytes(_execution: Execution, _types: Types, data: bytearray) -> bytes:
    return _address_of(data)


@address.function("public fun to_bytes(address): vector<u8>")
def _to_bytes(_execution: Execution, _types: Types, value: bytes) -> bytearray:
    return bytearray(value)


@address.function("public fun to_u256(address): u256")
def _to_u256(_execution: Execution, _types: Types, value: bytes) -> int:
    return int.from_bytes(value, "big")


@address.function("public fun from_u256(u256): address")
def _from_u256(_execution: Execution, _types: Types, value: int) -> bytes:
    return value.to_bytes(ADDRESS_LENGTH, "big")


@address.function("public fun length(): u64")
def _length(_execution: Execution, _types: Types) -> int:
    return ADDRESS_LENGTH


@package.function("public fun upgrade_package(&UpgradeCap): ID")
def _upgrade_package(_execution: Execution, _types: Types, cap: Ref) -> Any:
    return [cap.get()[1][0]]


@package.function("public fun version(&UpgradeCap): u64")
def _version(_execution: Execution, _types: Types, cap: Ref) -> Any:
    return cap.get()[2]


@package.function("public fun upgrade_policy(&UpgradeCap): u8")
def _upgrade_policy(_execution: Execution, _types: Types, cap: Ref) -> Any:
    return cap.get()[3]


@package.function("public fun authorize_upgrade(&mut UpgradeCap, u8, vector<u8>): UpgradeTicket")
def _authorize_upgrade(_execution: Execution, _types: Types, cap: Ref, policy: int, digest: bytearray) -> Any:
    held = cap.get()
    if held[1][0] == bytes(ADDRESS_LENGTH):
        raise AbortError(ALREADY_AUTHORIZED)
    if policy < held[3]:
        raise AbortError(TOO_PERMISSIVE)
    ticket = [[held[0][0][0]], held[1], policy, digest]
    held[1] = [bytes(ADDRESS_LENGTH)]
    return ticket


@package.function("public fun commit_upgrade(&mut UpgradeCap, UpgradeReceipt)")
def _commit_upgrade(_execution: Execution, _types: Types, cap: Ref, receipt: Any) -> None:
    held = cap.get()
    if held[0][0][0] != receipt[0][0]:
        raise AbortError(WRONG_UPGRADE_CAP)
    if held[1][0] != bytes(ADDRESS_LENGTH):
        raise AbortError(NOT_AUTHORIZED)
    held[1] = receipt[1]
    held[2] += 1


def _restrict(policy: int) -> Callable[[Execution, Types, Ref], None]:
    def restrict(_execution: Execution, _types: Types, cap: Ref) -> None:
        if cap.get()[3] > policy:
            raise AbortError(TOO_PERMISSIVE, "package::restrict")
        cap.get()[3] = policy

    return restrict


for _name, _policy in (("additive", 128), ("dep", 192)):
    package.function(f"public entry fun only_{_name}_upgrades(&mut UpgradeCap)")(_restrict(_policy))


def _constant(policy: int) -> Callable[[Execution, Types], int]:
    return lambda _execution, _types: policy


for _name, _policy in (("compatible", 0), ("additive", 128), ("dep_only", 192)):
    package.function(f"public fun {_name}_policy(): u8")(_constant(_policy))


def _struct_field(declaration: str, index: int) -> None:
    @package.function(declaration)
    def getter(_execution: Execution, _types: Types, target: Ref) -> Any:
        return copy_value(target.get()[index])


_struct_field("public fun ticket_package(&UpgradeTicket): ID", 1)
_struct_field("public fun ticket_policy(&UpgradeTicket): u8", 2)
_struct_field("public fun receipt_cap(&UpgradeReceipt): ID", 0)
_struct_field("public fun receipt_package(&UpgradeReceipt): ID", 1)


@package.function("public fun ticket_digest(&UpgradeTicket): &vector<u8>")
def _ticket_digest(_execution: Execution, _types: Types, ticket: Ref) -> Ref:
    return Ref(ticket.get(), 3)


@package.function("public entry fun make_immutable(UpgradeCap)")
def _make_immutable(execution: Execution, _types: Types, cap: Any) -> None:
    execution.delete_id(cap[0][0][0])


@sui_types.function("public fun is_one_time_witness<T>(&T): bool")
def _is_one_time_witness(execution: Execution, types: Types, _witness: Ref) -> bool:
    (kind,) = types
    return isinstance(kind, Datatype) and kind.name == kind.module.upper() and execution.program.abilities(kind) == 2
