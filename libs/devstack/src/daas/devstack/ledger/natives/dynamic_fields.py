"""`sui::dynamic_field`, `sui::dynamic_object_field`, and the tables and bags on top of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.natives.registry import AbortError, Ref, copy_value
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.type_tags import SUI, Datatype, Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
FIELD_MISSING: Final = 1
NOT_EMPTY: Final = 0
ID_TYPE: Final = Datatype(SUI, "object", "ID")

dynamic_field = framework_module("sui::dynamic_field")
dynamic_object_field = framework_module("sui::dynamic_object_field")
table = framework_module("sui::table")
object_table = framework_module("sui::object_table")
bag = framework_module("sui::bag")
object_bag = framework_module("sui::object_bag")


def _uid(uid: Ref) -> bytes:
    found: bytes = uid.get()[0][0]
    return found


def _parent(container: Ref) -> bytes:
    found: bytes = container.get()[0][0][0]
    return found


def _present(reference: Ref | None) -> Ref:
    if reference is None:
        raise AbortError(FIELD_MISSING, "dynamic_field::borrow_child_object")
    return reference


@dynamic_field.function("public fun add<K, V>(&mut UID, K, V)")
def _add(execution: Execution, types: Types, uid: Ref, key: Any, value: Any) -> None:
    execution.add_field(_uid(uid), types[0], key, types[1], value)


@dynamic_field.function("public fun borrow<K, V>(&UID, K): &V")
@dynamic_field.function("public fun borrow_mut<K, V>(&mut UID, K): &mut V")
def _borrow(execution: Execution, types: Types, uid: Ref, key: Any) -> Ref:
    return _present(execution.field(_uid(uid), types[0], key, types[1]))


@dynamic_field.function("public fun remove<K, V>(&mut UID, K): V")
def _remove(execution: Execution, types: Types, uid: Ref, key: Any) -> Any:
    return execution.remove_field(_uid(uid), types[0], key, types[1])


@dynamic_field.function("public fun remove_if_exists<K, V>(&mut UID, K): 0x1::option::Option<V>")
def _remove_if_exists(execution: Execution, types: Types, uid: Ref, key: Any) -> Any:
    if not execution.has_field(_uid(uid), types[0], key):
        return [bytearray() if types[1] == "u8" else []]
    value = execution.remove_field(_uid(uid), types[0], key, types[1])
    return [bytearray((value,)) if types[1] == "u8" else [value]]


@dynamic_field.function("public fun exists_<K>(&UID, K): bool")
def _exists(execution: Execution, types: Types, uid: Ref, key: Any) -> bool:
    return execution.has_field(_uid(uid), types[0], key)


@dynamic_field.function("public fun exists_with_type<K, V>(&UID, K): bool")
def _exists_with_type(execution: Execution, types: Types, uid: Ref, key: Any) -> bool:
    return execution.has_field(_uid(uid), types[0], key, types[1])


def _wrapper(key_type: Type) -> Datatype:
    return Datatype(SUI, "dynamic_object_field", "Wrapper", (key_type,))


def _object(execution: Execution, parent: bytes, types: Types, key: Any) -> tuple[bytes, Ref] | None:
    """The child's id and a reference to it; the field holds its id, and owns it."""
    reference = execution.field(parent, _wrapper(types[0]), [key], ID_TYPE)
    if reference is None:
        return None
    child_id = reference.get()[0]
    field_id = reference.container[0][0][0]
    assert isinstance(types[1], Datatype)
    return child_id, _present(execution.child_object(field_id, child_id, types[1]))


def _add_object(execution: Execution, parent: bytes, types: Types, key: Any, value: Any) -> None:
    field_id = execution.add_field(parent, _wrapper(types[0]), [key], ID_TYPE, [value[0][0][0]])
    assert isinstance(types[1], Datatype)
    execution.add_child_object(field_id, types[1], value)


def _remove_object(execution: Execution, parent: bytes, types: Types, key: Any) -> Any:
    found = _object(execution, parent, types, key)
    if found is None:
        raise AbortError(FIELD_MISSING, "dynamic_field::borrow_child_object")
    value = execution.take_child_object(found[0])
    execution.remove_field(parent, _wrapper(types[0]), [key], ID_TYPE)
    return value


@dynamic_object_field.function("public fun add<K, V>(&mut UID, K, V)")
def _field_add_object(execution: Execution, types: Types, uid: Ref, key: Any, value: Any) -> None:
    _add_object(execution, _uid(uid), types, key, value)


@dynamic_object_field.function("public fun borrow<K, V>(&UID, K): &V")
@dynamic_object_field.function("public fun borrow_mut<K, V>(&mut UID, K): &mut V")
def _borrow_object(execution: Execution, types: Types, uid: Ref, key: Any) -> Ref:
    found = _object(execution, _uid(uid), types, key)
    return _present(found[1] if found else None)


@dynamic_object_field.function("public fun remove<K, V>(&mut UID, K): V")
def _field_remove_object(execution: Execution, types: Types, uid: Ref, key: Any) -> Any:
    return _remove_object(execution, _uid(uid), types, key)


@dynamic_object_field.function("public fun exists_<K>(&UID, K): bool")
def _exists_object(execution: Execution, types: Types, uid: Ref, key: Any) -> bool:
    return execution.has_field(_uid(uid), _wrapper(types[0]), [key])


@dynamic_object_field.function("public fun exists_with_type<K, V>(&UID, K): bool")
def _exists_object_with_type(execution: Execution, types: Types, uid: Ref, key: Any) -> bool:
    return _has_object(execution, _uid(uid), types, key)


def _has_object(execution: Execution, parent: bytes, types: Types, key: Any) -> bool:
    reference = execution.field(parent, _wrapper(types[0]), [key], ID_TYPE)
    if reference is None:
        return False
    held = execution.child_type(reference.container[0][0][0], reference.get()[0])
    return held == types[1]


def _value_id(execution: Execution, parent: bytes, key_type: Type, key: Any) -> Any:
    reference = execution.field(parent, _wrapper(key_type), [key], ID_TYPE)
    return [[]] if reference is None else [[copy_value(reference.get())]]


@dynamic_object_field.function("public fun id<K>(&UID, K): 0x1::option::Option<ID>")
def _object_id(execution: Execution, types: Types, uid: Ref, key: Any) -> Any:
    return _value_id(execution, _uid(uid), types[0], key)


@object_table.function("public fun value_id<K, V>(&ObjectTable<K, V>, K): 0x1::option::Option<ID>")
@object_bag.function("public fun value_id<K>(&ObjectBag, K): 0x1::option::Option<ID>")
def _table_value_id(execution: Execution, types: Types, target: Ref, key: Any) -> Any:
    return _value_id(execution, _parent(target), types[0], key)


@table.function("public fun new<K, V>(&mut TxContext): Table<K, V>")
@object_table.function("public fun new<K, V>(&mut TxContext): ObjectTable<K, V>")
@bag.function("public fun new(&mut TxContext): Bag")
@object_bag.function("public fun new(&mut TxContext): ObjectBag")
def _new(execution: Execution, _types: Types, _context: Ref) -> Any:
    return [[[execution.fresh_id()]], 0]


@table.function("public fun add<K, V>(&mut Table<K, V>, K, V)")
@bag.function("public fun add<K, V>(&mut Bag, K, V)")
def _table_add(execution: Execution, types: Types, target: Ref, key: Any, value: Any) -> None:
    execution.add_field(_parent(target), types[0], key, types[1], value)
    target.get()[1] += 1


@table.function("public fun borrow<K, V>(&Table<K, V>, K): &V")
@table.function("public fun borrow_mut<K, V>(&mut Table<K, V>, K): &mut V")
@bag.function("public fun borrow<K, V>(&Bag, K): &V")
@bag.function("public fun borrow_mut<K, V>(&mut Bag, K): &mut V")
def _table_borrow(execution: Execution, types: Types, target: Ref, key: Any) -> Ref:
    return _present(execution.field(_parent(target), types[0], key, types[1]))


@table.function("public fun remove<K, V>(&mut Table<K, V>, K): V")
@bag.function("public fun remove<K, V>(&mut Bag, K): V")
def _table_remove(execution: Execution, types: Types, target: Ref, key: Any) -> Any:
    value = execution.remove_field(_parent(target), types[0], key, types[1])
    target.get()[1] -= 1
    return value


@table.function("public fun contains<K, V>(&Table<K, V>, K): bool")
def _table_contains(execution: Execution, types: Types, target: Ref, key: Any) -> bool:
    return execution.has_field(_parent(target), types[0], key, types[1])


@bag.function("public fun contains<K>(&Bag, K): bool")
def _bag_contains(execution: Execution, types: Types, target: Ref, key: Any) -> bool:
    return execution.has_field(_parent(target), types[0], key)


@bag.function("public fun contains_with_type<K, V>(&Bag, K): bool")
def _bag_contains_with_type(execution: Execution, types: Types, target: Ref, key: Any) -> bool:
    return execution.has_field(_parent(target), types[0], key, types[1])


@table.function("public fun length<K, V>(&Table<K, V>): u64")
@object_table.function("public fun length<K, V>(&ObjectTable<K, V>): u64")
@bag.function("public fun length(&Bag): u64")
@object_bag.function("public fun length(&ObjectBag): u64")
def _length(_execution: Execution, _types: Types, target: Ref) -> Any:
    return target.get()[1]


@table.function("public fun is_empty<K, V>(&Table<K, V>): bool")
@object_table.function("public fun is_empty<K, V>(&ObjectTable<K, V>): bool")
@bag.function("public fun is_empty(&Bag): bool")
@object_bag.function("public fun is_empty(&ObjectBag): bool")
def _is_empty(_execution: Execution, _types: Types, target: Ref) -> bool:
    return bool(target.get()[1] == 0)


@table.function("public fun destroy_empty<K, V>(Table<K, V>)")
@object_table.function("public fun destroy_empty<K, V>(ObjectTable<K, V>)")
@bag.function("public fun destroy_empty(Bag)")
@object_bag.function("public fun destroy_empty(ObjectBag)")
def _destroy_empty(execution: Execution, _types: Types, target: Any) -> None:
    if target[1]:
        raise AbortError(NOT_EMPTY)
    execution.delete_id(target[0][0][0])


@table.function("public fun drop<K, V>(Table<K, V>)")
def _drop(execution: Execution, _types: Types, target: Any) -> None:
    execution.delete_id(target[0][0][0])


@object_bag.function("public fun add<K, V>(&mut ObjectBag, K, V)")
@object_table.function("public fun add<K, V>(&mut ObjectTable<K, V>, K, V)")
def _object_table_add(execution: Execution, types: Types, target: Ref, key: Any, value: Any) -> None:
    _add_object(execution, _parent(target), types, key, value)
    target.get()[1] += 1


@object_bag.function("public fun borrow<K, V>(&ObjectBag, K): &V")
@object_table.function("public fun borrow<K, V>(&ObjectTable<K, V>, K): &V")
@object_bag.function("public fun borrow_mut<K, V>(&mut ObjectBag, K): &mut V")
@object_table.function("public fun borrow_mut<K, V>(&mut ObjectTable<K, V>, K): &mut V")
def _object_table_borrow(execution: Execution, types: Types, target: Ref, key: Any) -> Ref:
    found = _object(execution, _parent(target), types, key)
    return _present(found[1] if found else None)


@object_bag.function("public fun remove<K, V>(&mut ObjectBag, K): V")
@object_table.function("public fun remove<K, V>(&mut ObjectTable<K, V>, K): V")
def _object_table_remove(execution: Execution, types: Types, target: Ref, key: Any) -> Any:
    value = _remove_object(execution, _parent(target), types, key)
    target.get()[1] -= 1
    return value


@object_bag.function("public fun contains_with_type<K, V>(&ObjectBag, K): bool")
def _object_bag_contains_with_type(execution: Execution, types: Types, target: Ref, key: Any) -> bool:
    return _has_object(execution, _parent(target), types, key)


@object_bag.function("public fun contains<K>(&ObjectBag, K): bool")
@object_table.function("public fun contains<K, V>(&ObjectTable<K, V>, K): bool")
def _object_table_contains(execution: Execution, types: Types, target: Ref, key: Any) -> bool:
    return execution.has_field(_parent(target), _wrapper(types[0]), [key])
