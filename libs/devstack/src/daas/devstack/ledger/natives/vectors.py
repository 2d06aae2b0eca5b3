"""`std::vector` and `std::option`: the functions that are not single instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.natives.registry import AbortError, NativeFailureError, Ref
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.type_tags import Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
INDEX_OUT_OF_BOUNDS: Final = 0x20000
OPTION_IS_SET: Final = 0x40000
OPTION_NOT_SET: Final = 0x40001
# An assertion without a code aborts with its line and a marker that the compiler writes: this is `take`'s.
_ASSERTION_WITHOUT_CODE: Final = 0x8000_0000_0000_0000

vector = framework_module("std::vector")
option = framework_module("std::option")


def _empty(type_: Type) -> Any:
    return bytearray() if type_ == "u8" else []


def some(type_: Type, value: Any) -> Any:
    """The Move value `option::some(value)`."""
    held = _empty(type_)
    held.append(value)
    return [held]


@vector.function("public fun append<T>(&mut vector<T>, vector<T>)")
def _append(_execution: Execution, _types: Types, target: Ref, other: Any) -> None:
    target.get().extend(other)


@vector.function("public fun reverse<T>(&mut vector<T>)")
def _reverse(_execution: Execution, _types: Types, target: Ref) -> None:
    target.get().reverse()


@vector.function("public fun is_empty<T>(&vector<T>): bool")
def _is_empty(_execution: Execution, _types: Types, target: Ref) -> bool:
    return not target.get()


@vector.function("public fun contains<T>(&vector<T>, &T): bool")
def _contains(_execution: Execution, _types: Types, target: Ref, item: Ref) -> bool:
    return item.get() in target.get()


@vector.function("public fun index_of<T>(&vector<T>, &T): (bool, u64)")
def _index_of(_execution: Execution, _types: Types, target: Ref, item: Ref) -> tuple[bool, int]:
    for position, value in enumerate(target.get()):
        if value == item.get():
            return True, position
    return False, 0


@vector.function("public fun singleton<T>(T): vector<T>")
def _singleton(_execution: Execution, types: Types, item: Any) -> Any:
    return some(types[0], item)[0]


@vector.function("public fun remove<T>(&mut vector<T>, u64): T")
def _remove(_execution: Execution, _types: Types, target: Ref, position: int) -> Any:
    if position >= len(target.get()):
        raise AbortError(INDEX_OUT_OF_BOUNDS)
    return target.get().pop(position)


@vector.function("public fun insert<T>(&mut vector<T>, T, u64)")
def _insert(_execution: Execution, _types: Types, target: Ref, item: Any, position: int) -> None:
    if position > len(target.get()):
        raise AbortError(INDEX_OUT_OF_BOUNDS)
    target.get().insert(position, item)


@vector.function("public fun swap_remove<T>(&mut vector<T>, u64): T")
def _swap_remove(_execution: Execution, _types: Types, target: Ref, position: int) -> Any:
    items = target.get()
    if not items:
        raise AbortError(INDEX_OUT_OF_BOUNDS)
    if position >= len(items):
        raise NativeFailureError("VECTOR_OPERATION_ERROR with sub-status 1")
    items[position], items[-1] = items[-1], items[position]
    return items.pop()


@vector.function("public fun skip<T>(vector<T>, u64): vector<T>")
def _skip(_execution: Execution, _types: Types, items: Any, count: int) -> Any:
    return items[count:]


@vector.function("public fun take<T>(vector<T>, u64): vector<T>")
def _take(_execution: Execution, _types: Types, items: Any, count: int) -> Any:
    if count > len(items):
        raise AbortError(_ASSERTION_WITHOUT_CODE)
    return items[:count]


@vector.function("public fun flatten<T>(vector<vector<T>>): vector<T>")
def _flatten(_execution: Execution, types: Types, items: Any) -> Any:
    joined = _empty(types[0])
    for item in items:
        joined.extend(item)
    return joined


@option.function("public fun swap_or_fill<T>(&mut Option<T>, T): Option<T>")
def _swap_or_fill(_execution: Execution, types: Types, target: Ref, value: Any) -> Any:
    before = target.get()[0]
    target.get()[0] = some(types[0], value)[0]
    return [before]


@option.function("public fun borrow_with_default<T>(&Option<T>, &T): &T")
def _borrow_with_default(_execution: Execution, _types: Types, target: Ref, default: Ref) -> Ref:
    return Ref(target.get()[0], 0) if target.get()[0] else default


@option.function("public fun none<T>(): Option<T>")
def _none(_execution: Execution, types: Types) -> Any:
    return [_empty(types[0])]


@option.function("public fun some<T>(T): Option<T>")
def _some_function(_execution: Execution, types: Types, value: Any) -> Any:
    return some(types[0], value)


@option.function("public fun is_none<T>(&Option<T>): bool")
def _is_none(_execution: Execution, _types: Types, target: Ref) -> bool:
    return not target.get()[0]


@option.function("public fun is_some<T>(&Option<T>): bool")
def _is_some(_execution: Execution, _types: Types, target: Ref) -> bool:
    return bool(target.get()[0])


@option.function("public fun contains<T>(&Option<T>, &T): bool")
def _option_contains(_execution: Execution, _types: Types, target: Ref, item: Ref) -> bool:
    held = target.get()[0]
    return bool(held) and held[0] == item.get()


def _held(target: Any) -> Any:
    if not target[0]:
        raise AbortError(OPTION_NOT_SET)
    return target[0]


@option.function("public fun borrow<T>(&Option<T>): &T")
@option.function("public fun borrow_mut<T>(&mut Option<T>): &mut T")
def _borrow(_execution: Execution, _types: Types, target: Ref) -> Ref:
    return Ref(_held(target.get()), 0)


@option.function("public fun get_with_default<T>(&Option<T>, T): T")
def _get_with_default(_execution: Execution, _types: Types, target: Ref, default: Any) -> Any:
    held = target.get()[0]
    return held[0] if held else default


@option.function("public fun destroy_with_default<T>(Option<T>, T): T")
def _destroy_with_default(_execution: Execution, _types: Types, target: Any, default: Any) -> Any:
    return target[0][0] if target[0] else default


@option.function("public fun fill<T>(&mut Option<T>, T)")
def _fill(_execution: Execution, _types: Types, target: Ref, value: Any) -> None:
    if target.get()[0]:
        raise AbortError(OPTION_IS_SET)
    target.get()[0].append(value)


@option.function("public fun extract<T>(&mut Option<T>): T")
def _extract(_execution: Execution, _types: Types, target: Ref) -> Any:
    return _held(target.get()).pop()


@option.function("public fun swap<T>(&mut Option<T>, T): T")
def _swap(_execution: Execution, _types: Types, target: Ref, value: Any) -> Any:
    held = _held(target.get())
    before, held[0] = held[0], value
    return before


@option.function("public fun destroy_some<T>(Option<T>): T")
def _destroy_some(_execution: Execution, _types: Types, target: Any) -> Any:
    return _held(target)[0]


@option.function("public fun destroy_none<T>(Option<T>)")
def _destroy_none(_execution: Execution, _types: Types, target: Any) -> None:
    if target[0]:
        raise AbortError(OPTION_IS_SET)


@option.function("public fun to_vec<T>(Option<T>): vector<T>")
def _to_vec(_execution: Execution, _types: Types, target: Any) -> Any:
    return target[0]
