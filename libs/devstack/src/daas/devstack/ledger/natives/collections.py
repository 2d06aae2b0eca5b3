"""`sui::vec_map` and `sui::vec_set`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.natives.registry import AbortError, Ref, copy_value
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.type_tags import Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
KEY_EXISTS: Final = 0
KEY_MISSING: Final = 1
MAP_NOT_EMPTY: Final = 2
INDEX_OUT_OF_BOUNDS: Final = 3
MAP_EMPTY: Final = 4
UNEQUAL_LENGTHS: Final = 5

vec_map = framework_module("sui::vec_map")
vec_set = framework_module("sui::vec_set")


def _vector(type_: Type, items: list[Any]) -> Any:
    return bytearray(items) if type_ == "u8" else items


def _position(entries: list[Any], key: Any) -> int:
    for position, entry in enumerate(entries):
        if entry[0] == key:
            return position
    raise AbortError(KEY_MISSING, "vec_map::get_idx")


def _has(entries: list[Any], key: Any) -> bool:
    return any(entry[0] == key for entry in entries)


@vec_map.function("public fun empty<K, V>(): VecMap<K, V>")
def _empty(_execution: Execution, _types: Types) -> Any:
    return [[]]


@vec_map.function("public fun insert<K, V>(&mut VecMap<K, V>, K, V)")
def _insert(_execution: Execution, _types: Types, target: Ref, key: Any, value: Any) -> None:
    entries = target.get()[0]
    if _has(entries, key):
        raise AbortError(KEY_EXISTS)
    entries.append([key, value])


@vec_map.function("public fun remove<K, V>(&mut VecMap<K, V>, &K): (K, V)")
def _remove(_execution: Execution, _types: Types, target: Ref, key: Ref) -> tuple[Any, Any]:
    entries = target.get()[0]
    removed_key, value = entries.pop(_position(entries, key.get()))
    return removed_key, value


@vec_map.function("public fun get<K, V>(&VecMap<K, V>, &K): &V")
@vec_map.function("public fun get_mut<K, V>(&mut VecMap<K, V>, &K): &mut V")
def _get(_execution: Execution, _types: Types, target: Ref, key: Ref) -> Ref:
    entries = target.get()[0]
    return Ref(entries[_position(entries, key.get())], 1)


@vec_map.function("public fun try_get<K, V>(&VecMap<K, V>, &K): 0x1::option::Option<V>")
def _try_get(_execution: Execution, types: Types, target: Ref, key: Ref) -> Any:
    found = [copy_value(entry[1]) for entry in target.get()[0] if entry[0] == key.get()]
    return [_vector(types[1], found)]


@vec_map.function("public fun contains<K, V>(&VecMap<K, V>, &K): bool")
def _contains(_execution: Execution, _types: Types, target: Ref, key: Ref) -> bool:
    return _has(target.get()[0], key.get())


@vec_map.function("public fun length<K, V>(&VecMap<K, V>): u64")
@vec_map.function("public fun size<K, V>(&VecMap<K, V>): u64")
@vec_set.function("public fun length<K>(&VecSet<K>): u64")
@vec_set.function("public fun size<K>(&VecSet<K>): u64")
def _size(_execution: Execution, _types: Types, target: Ref) -> int:
    return len(target.get()[0])


@vec_map.function("public fun is_empty<K, V>(&VecMap<K, V>): bool")
@vec_set.function("public fun is_empty<K>(&VecSet<K>): bool")
def _is_empty(_execution: Execution, _types: Types, target: Ref) -> bool:
    return not target.get()[0]


@vec_map.function("public fun destroy_empty<K, V>(VecMap<K, V>)")
def _destroy_empty(_execution: Execution, _types: Types, target: Any) -> None:
    if target[0]:
        raise AbortError(MAP_NOT_EMPTY)


@vec_map.function("public fun keys<K, V>(&VecMap<K, V>): vector<K>")
def _keys(_execution: Execution, types: Types, target: Ref) -> Any:
    return _vector(types[0], [copy_value(entry[0]) for entry in target.get()[0]])


@vec_map.function("public fun into_keys_values<K, V>(VecMap<K, V>): (vector<K>, vector<V>)")
def _into_keys_values(_execution: Execution, types: Types, target: Any) -> tuple[Any, Any]:
    entries = target[0]
    return _vector(types[0], [e[0] for e in entries]), _vector(types[1], [e[1] for e in entries])


@vec_map.function("public fun get_idx<K, V>(&VecMap<K, V>, &K): u64")
def _get_idx(_execution: Execution, _types: Types, target: Ref, key: Ref) -> int:
    return _position(target.get()[0], key.get())


@vec_map.function("public fun get_entry_by_idx<K, V>(&VecMap<K, V>, u64): (&K, &V)")
@vec_map.function("public fun get_entry_by_idx_mut<K, V>(&mut VecMap<K, V>, u64): (&K, &mut V)")
def _get_entry_by_idx(_execution: Execution, _types: Types, target: Ref, position: int) -> tuple[Ref, Ref]:
    entries = target.get()[0]
    if position >= len(entries):
        raise AbortError(INDEX_OUT_OF_BOUNDS)
    return Ref(entries[position], 0), Ref(entries[position], 1)


@vec_map.function("public fun pop<K, V>(&mut VecMap<K, V>): (K, V)")
def _pop(_execution: Execution, _types: Types, target: Ref) -> tuple[Any, Any]:
    entries = target.get()[0]
    if not entries:
        raise AbortError(MAP_EMPTY)
    key, value = entries.pop()
    return key, value


@vec_map.function("public fun get_idx_opt<K, V>(&VecMap<K, V>, &K): 0x1::option::Option<u64>")
def _get_idx_opt(_execution: Execution, _types: Types, target: Ref, key: Ref) -> Any:
    return [[position for position, entry in enumerate(target.get()[0]) if entry[0] == key.get()][:1]]


@vec_map.function("public fun remove_entry_by_idx<K, V>(&mut VecMap<K, V>, u64): (K, V)")
def _remove_entry_by_idx(_execution: Execution, _types: Types, target: Ref, position: int) -> tuple[Any, Any]:
    entries = target.get()[0]
    if position >= len(entries):
        raise AbortError(INDEX_OUT_OF_BOUNDS)
    key, value = entries.pop(position)
    return key, value


@vec_map.function("public fun from_keys_values<K, V>(vector<K>, vector<V>): VecMap<K, V>")
def _from_keys_values(_execution: Execution, _types: Types, keys: Any, values: Any) -> Any:
    if len(keys) != len(values):
        raise AbortError(UNEQUAL_LENGTHS)
    entries: list[Any] = []
    for key, value in zip(keys, values, strict=True):
        if _has(entries, key):
            raise AbortError(KEY_EXISTS, "vec_map::insert")
        entries.append([key, value])
    return [entries]


@vec_set.function("public fun from_keys<K>(vector<K>): VecSet<K>")
def _from_keys(_execution: Execution, _types: Types, keys: Any) -> Any:
    for position, key in enumerate(keys):
        if key in keys[:position]:
            raise AbortError(KEY_EXISTS, "vec_set::insert")
    return [keys]


@vec_set.function("public fun empty<K>(): VecSet<K>")
def _set_empty(_execution: Execution, types: Types) -> Any:
    return [_vector(types[0], [])]


@vec_set.function("public fun singleton<K>(K): VecSet<K>")
def _set_singleton(_execution: Execution, types: Types, key: Any) -> Any:
    return [_vector(types[0], [key])]


@vec_set.function("public fun insert<K>(&mut VecSet<K>, K)")
def _set_insert(_execution: Execution, _types: Types, target: Ref, key: Any) -> None:
    if key in target.get()[0]:
        raise AbortError(KEY_EXISTS)
    target.get()[0].append(key)


@vec_set.function("public fun remove<K>(&mut VecSet<K>, &K)")
def _set_remove(_execution: Execution, _types: Types, target: Ref, key: Ref) -> None:
    if key.get() not in target.get()[0]:
        raise AbortError(KEY_MISSING)
    target.get()[0].remove(key.get())


@vec_set.function("public fun contains<K>(&VecSet<K>, &K): bool")
def _set_contains(_execution: Execution, _types: Types, target: Ref, key: Ref) -> bool:
    return key.get() in target.get()[0]


@vec_set.function("public fun keys<K>(&VecSet<K>): &vector<K>")
def _set_keys(_execution: Execution, _types: Types, target: Ref) -> Ref:
    return Ref(target.get(), 0)


@vec_set.function("public fun into_keys<K>(VecSet<K>): vector<K>")
def _set_into_keys(_execution: Execution, _types: Types, target: Any) -> Any:
    return target[0]
