"""Static typing of a Move function's operand stack, so that arithmetic is bounded by the width of its operands.

The machine's values carry no types. Verified Move code has an empty stack at the border of every basic block, so one
pass over the instructions in order finds the type of every operand.
"""

from __future__ import annotations

from collections.abc import Sequence

from daas.devstack.ledger.binary import FunctionDefinition, FunctionHandle, Instruction, Module, Op, StructDefinition
from daas.devstack.ledger.errors import BytecodeError
from daas.devstack.ledger.type_tags import INTEGER_BITS, Datatype, Reference, Type, Vector, format_type, substitute

_LITERALS = {
    Op.LD_U8: "u8", Op.LD_U16: "u16", Op.LD_U32: "u32", Op.LD_U64: "u64", Op.LD_U128: "u128", Op.LD_U256: "u256",
    Op.LD_TRUE: "bool", Op.LD_FALSE: "bool",
}  # fmt: skip
CASTS = {
    Op.CAST_U8: "u8", Op.CAST_U16: "u16", Op.CAST_U32: "u32", Op.CAST_U64: "u64", Op.CAST_U128: "u128",
    Op.CAST_U256: "u256",
}  # fmt: skip
ARITHMETIC = frozenset({Op.ADD, Op.SUB, Op.MUL, Op.MOD, Op.DIV})
BITWISE = frozenset({Op.BIT_OR, Op.BIT_AND, Op.XOR})
SHIFTS = frozenset({Op.SHL, Op.SHR})
_COMPARISONS = frozenset({Op.EQ, Op.NEQ, Op.LT, Op.GT, Op.LE, Op.GE})
_BLOCK_ENDS = frozenset({Op.RET, Op.BR_TRUE, Op.BR_FALSE, Op.BRANCH, Op.ABORT})


class OperandTyper:
    """Walks one function once and yields, per instruction, the bit width of its integer operands (0 if none)."""

    def __init__(self, module: Module, function: FunctionDefinition) -> None:
        self.module = module
        self.function = function
        self.locals: Sequence[Type] = (*function.handle.parameters, *function.locals)
        self.stack: list[Type] = []

    def widths(self) -> list[int]:
        """One width per instruction.

        Raises:
            BytecodeError: the code does not keep the stack discipline that the Move verifier demands.
        """
        found = []
        for position, (op, operand) in enumerate(self.function.code):
            try:
                found.append(self._step(op, operand))
            except (IndexError, KeyError, ValueError, TypeError) as error:
                raise BytecodeError(
                    f"{self.module.name}::{self.function.handle.name} is ill-typed at instruction {position}: {error}"
                ) from error
            if op in _BLOCK_ENDS:
                self.stack.clear()
        return found

    def _drop(self, count: int) -> None:
        if count:
            if len(self.stack) < count:
                raise IndexError(f"{count} operands expected, {len(self.stack)} there")
            del self.stack[-count:]

    def _integer(self, type_: Type) -> int:
        if not isinstance(type_, str):
            raise TypeError(f"an integer expected, {format_type(type_)} there")
        return INTEGER_BITS[type_]

    def _step(self, op: Op, operand: int | tuple[int, int]) -> int:
        stack = self.stack
        if isinstance(operand, tuple):
            return self._vector_of(op, *operand)
        if literal := _LITERALS.get(op):
            stack.append(literal)
        elif op is Op.LD_CONST:
            stack.append(self.module.constants[operand][0])
        elif op in {Op.COPY_LOC, Op.MOVE_LOC}:
            stack.append(self.locals[operand])
        elif op in {Op.MUT_BORROW_LOC, Op.IMM_BORROW_LOC}:
            stack.append(Reference(self.locals[operand], mutable=op is Op.MUT_BORROW_LOC))
        elif op in ARITHMETIC or op in BITWISE:
            right, left = self._integer(stack.pop()), self._integer(stack[-1])
            if right != left:
                raise TypeError(f"u{left} and u{right} in one operation")
            return left
        elif op in SHIFTS:
            stack.pop()
            return self._integer(stack[-1])
        elif op in _COMPARISONS:
            self._drop(2)
            stack.append("bool")
        elif op in {Op.OR, Op.AND}:
            stack.pop()
        elif cast := CASTS.get(op):
            stack.pop()
            stack.append(cast)
            return INTEGER_BITS[cast]
        elif op is Op.READ_REF:
            reference = stack.pop()
            if not isinstance(reference, Reference):
                raise TypeError(f"a reference expected, {format_type(reference)} there")
            stack.append(reference.target)
        elif op in {Op.ST_LOC, Op.POP, Op.ABORT, Op.BR_TRUE, Op.BR_FALSE}:
            stack.pop()
        elif op is Op.WRITE_REF:
            self._drop(2)
        elif op in {Op.NOT, Op.NOP, Op.FREEZE_REF, Op.RET, Op.BRANCH}:
            pass
        else:
            self._structured(op, operand)
        return 0

    def _vector_of(self, op: Op, signature: int, count: int) -> int:
        (element,) = self.module.signatures[signature]
        if op is Op.VEC_PACK:
            self._drop(count)
            self.stack.append(Vector(element))
        else:
            self._drop(1)
            self.stack.extend([element] * count)
        return 0

    def _structured(self, op: Op, operand: int) -> None:
        stack, module = self.stack, self.module
        if op in {Op.CALL, Op.CALL_GENERIC}:
            handle, arguments = call_target(module, op, operand)
            self._drop(len(handle.parameters))
            stack.extend(substitute(t, arguments) for t in handle.returns)
        elif op in {Op.PACK, Op.PACK_GENERIC}:
            struct, arguments = struct_target(module, op, operand)
            self._drop(len(struct.fields))
            stack.append(Datatype(struct.handle.address, struct.handle.module, struct.handle.name, arguments))
        elif op in {Op.UNPACK, Op.UNPACK_GENERIC}:
            struct, arguments = struct_target(module, op, operand)
            self._drop(1)
            stack.extend(substitute(t, arguments) for _, t in struct.fields)
        elif op in {Op.MUT_BORROW_FIELD, Op.IMM_BORROW_FIELD}:
            struct, field = module.field_handles[operand]
            self._borrow(struct, field, ())
        elif op in {Op.MUT_BORROW_FIELD_GENERIC, Op.IMM_BORROW_FIELD_GENERIC}:
            (struct, field), arguments = module.field_instantiations[operand]
            self._borrow(struct, field, arguments)
        elif op is Op.VEC_LEN:
            self._drop(1)
            stack.append("u64")
        elif op in {Op.VEC_IMM_BORROW, Op.VEC_MUT_BORROW}:
            self._drop(2)
            stack.append(Reference(module.signatures[operand][0], mutable=op is Op.VEC_MUT_BORROW))
        elif op is Op.VEC_PUSH_BACK:
            self._drop(2)
        elif op is Op.VEC_POP_BACK:
            self._drop(1)
            stack.append(module.signatures[operand][0])
        elif op is Op.VEC_SWAP:
            self._drop(3)
        else:
            raise ValueError(f"{op.name} has no typing rule")

    def _borrow(self, struct: StructDefinition, field: int, arguments: tuple[Type, ...]) -> None:
        self._drop(1)
        self.stack.append(Reference(substitute(struct.fields[field][1], arguments), mutable=True))


def call_target(module: Module, op: Op, operand: int) -> tuple[FunctionHandle, tuple[Type, ...]]:
    """The function a call instruction names, with its type arguments."""
    if op is Op.CALL:
        return module.function_handles[operand], ()
    return module.function_instantiations[operand]


def struct_target(module: Module, op: Op, operand: int) -> tuple[StructDefinition, tuple[Type, ...]]:
    """The struct that a pack or unpack instruction names, with its type arguments."""
    if op in {Op.PACK, Op.UNPACK}:
        return module.structs[operand], ()
    return module.struct_instantiations[operand]


def typed(module: Module, function: FunctionDefinition) -> list[tuple[Instruction, int]]:
    """Every instruction of the function with the width of its integer operands."""
    return list(zip(function.code, OperandTyper(module, function).widths(), strict=True))
