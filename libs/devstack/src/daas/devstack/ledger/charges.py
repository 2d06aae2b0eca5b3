"""What instructions and values weigh in gas: the static charge of each instruction, and the memory that values take."""

from __future__ import annotations

from typing import Any, Final

from daas.devstack.ledger.binary import Op
from daas.devstack.ledger.encoding import Value
from daas.devstack.ledger.gas import MEMORY_SHIFT, PRIMITIVE_BYTES, REFERENCE_BYTES, STRUCT_BYTES
from daas.devstack.ledger.type_tags import ADDRESS_LENGTH

_VECTOR_BYTES: Final = 8
_STACK_TYPE_BYTES: Final = 1  # what the schedule takes for a primitive whose value it does not look at

_ONE_PUSH: Final = 1
_PLAIN_PUSH: Final = _ONE_PUSH | _STACK_TYPE_BYTES << MEMORY_SHIFT
_REFERENCE_PUSH: Final = _ONE_PUSH | REFERENCE_BYTES << MEMORY_SHIFT
_VALUE_PUSH: Final = _ONE_PUSH | PRIMITIVE_BYTES << MEMORY_SHIFT

_STATIC: Final[dict[Op, int]] = {
    Op.COPY_LOC: _VALUE_PUSH,
    Op.READ_REF: _VALUE_PUSH,
    Op.WRITE_REF: PRIMITIVE_BYTES << MEMORY_SHIFT,
    Op.MOVE_LOC: _REFERENCE_PUSH,
    Op.MUT_BORROW_LOC: _REFERENCE_PUSH,
    Op.IMM_BORROW_LOC: _REFERENCE_PUSH,
    Op.MUT_BORROW_FIELD: _REFERENCE_PUSH,
    Op.IMM_BORROW_FIELD: _REFERENCE_PUSH,
    Op.MUT_BORROW_FIELD_GENERIC: _REFERENCE_PUSH,
    Op.IMM_BORROW_FIELD_GENERIC: _REFERENCE_PUSH,
    Op.FREEZE_REF: _REFERENCE_PUSH,
    Op.VEC_IMM_BORROW: _REFERENCE_PUSH,
    Op.VEC_MUT_BORROW: _REFERENCE_PUSH,
    Op.EQ: _ONE_PUSH | (_STACK_TYPE_BYTES + 2 * PRIMITIVE_BYTES) << MEMORY_SHIFT,
    Op.NEQ: _ONE_PUSH | (_STACK_TYPE_BYTES + 2 * PRIMITIVE_BYTES) << MEMORY_SHIFT,
    Op.PACK: _ONE_PUSH | STRUCT_BYTES << MEMORY_SHIFT,
    Op.PACK_GENERIC: _ONE_PUSH | STRUCT_BYTES << MEMORY_SHIFT,
    Op.VEC_PACK: _ONE_PUSH | _VECTOR_BYTES << MEMORY_SHIFT,
    Op.VEC_POP_BACK: _ONE_PUSH,
}
_NO_PUSH: Final = frozenset({
    Op.POP, Op.RET, Op.BR_TRUE, Op.BR_FALSE, Op.BRANCH, Op.ST_LOC, Op.CALL, Op.CALL_GENERIC, Op.ABORT, Op.NOP,
    Op.VEC_PUSH_BACK, Op.VEC_SWAP,
})  # fmt: skip


def static_charge(op: Op, resolved: Any, constant_bytes: int = 0) -> int:
    """Pushes, and bytes of memory shifted by MEMORY_SHIFT, of one instruction with its resolved operand.

    What an instruction copies, writes or compares counts as one primitive here; the machine adds the rest.
    """
    if op in {Op.UNPACK, Op.UNPACK_GENERIC}:
        return int(resolved)
    if op is Op.VEC_UNPACK:
        return int(resolved[1])
    if op is Op.LD_CONST:
        return _ONE_PUSH | constant_bytes << MEMORY_SHIFT
    if op in _NO_PUSH:
        return 0
    return _STATIC.get(op, _PLAIN_PUSH)


def weight(value: Value) -> int:
    """Bytes of memory that a value takes; integers inside structs count as 64 bits wide."""
    kind = type(value)
    if kind is list:
        total = STRUCT_BYTES
        for item in value:
            total += weight(item)
        return total
    if kind is bytearray:
        return STRUCT_BYTES + len(value)
    if kind is bytes:
        return ADDRESS_LENGTH
    return PRIMITIVE_BYTES


def extra(value: Value) -> int:
    """What a value weighs beyond a primitive, shifted as charges are."""
    return (weight(value) - PRIMITIVE_BYTES) << MEMORY_SHIFT
