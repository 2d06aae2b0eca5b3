"""The Move machine: runs linked bytecode, with integer widths from static typing and natives for the framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.binary import Op
from daas.devstack.ledger.charges import extra, weight
from daas.devstack.ledger.encoding import Value
from daas.devstack.ledger.errors import ExecutionFailedError, MoveAbortError, MoveLocation, RuntimeFailedError
from daas.devstack.ledger.gas import MEMORY_SHIFT, Meter
from daas.devstack.ledger.natives.registry import AbortError, NativeFailureError, NativeFunction, Ref, copy_value
from daas.devstack.ledger.program import CallSite, Function
from daas.devstack.ledger.type_tags import Type, substitute

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

CALL_DEPTH_MAX: Final = 200  # Move allows 1,024; the Python stack below us is the tighter bound, and our code is flat

# Plain ints: enum members are slow to compare in the loop below.
_POP, _RET, _BR_TRUE, _BR_FALSE, _BRANCH = map(int, (Op.POP, Op.RET, Op.BR_TRUE, Op.BR_FALSE, Op.BRANCH))
_COPY_LOC, _MOVE_LOC, _ST_LOC, _BORROW_LOC = map(int, (Op.COPY_LOC, Op.MOVE_LOC, Op.ST_LOC, Op.IMM_BORROW_LOC))
_BORROW_FIELD, _READ_REF, _WRITE_REF, _CALL = map(int, (Op.IMM_BORROW_FIELD, Op.READ_REF, Op.WRITE_REF, Op.CALL))
_PACK, _UNPACK, _LD_CONST, _ABORT = map(int, (Op.PACK, Op.UNPACK, Op.LD_CONST, Op.ABORT))
_LD_TRUE, _LD_FALSE, _NOT, _EQ, _NEQ = map(int, (Op.LD_TRUE, Op.LD_FALSE, Op.NOT, Op.EQ, Op.NEQ))
_LT, _GT, _LE, _GE, _OR, _AND = map(int, (Op.LT, Op.GT, Op.LE, Op.GE, Op.OR, Op.AND))
_ADD, _SUB, _MUL, _MOD, _DIV, _SHL, _SHR = map(int, (Op.ADD, Op.SUB, Op.MUL, Op.MOD, Op.DIV, Op.SHL, Op.SHR))
_BIT_OR, _BIT_AND, _XOR = map(int, (Op.BIT_OR, Op.BIT_AND, Op.XOR))
_VEC_PACK, _VEC_LEN, _VEC_BORROW = map(int, (Op.VEC_PACK, Op.VEC_LEN, Op.VEC_IMM_BORROW))
_VEC_PUSH, _VEC_POP, _VEC_UNPACK, _VEC_SWAP = map(int, (Op.VEC_PUSH_BACK, Op.VEC_POP_BACK, Op.VEC_UNPACK, Op.VEC_SWAP))
_LITERALS = frozenset(map(int, (Op.LD_U8, Op.LD_U16, Op.LD_U32, Op.LD_U64, Op.LD_U128, Op.LD_U256)))
_CASTS = frozenset(map(int, (Op.CAST_U8, Op.CAST_U16, Op.CAST_U32, Op.CAST_U64, Op.CAST_U128, Op.CAST_U256)))
# What happened, and for vectors the sub-status by which the Move machine tells one from the other.
_OUT_OF_BOUNDS: Final = "VECTOR_OPERATION_ERROR with sub-status 1"
_POP_EMPTY: Final = "VECTOR_OPERATION_ERROR with sub-status 2"
_UNPACK_MISMATCH: Final = "VECTOR_OPERATION_ERROR with sub-status 3"
_COMPOUND = frozenset({list, bytearray, bytes})
_STEPS_UNMETERED_MAX: Final = 1_000
_IGNORED = frozenset(map(int, (Op.NOP, Op.FREEZE_REF)))


def call(
    execution: Execution, callee: Function | NativeFunction, type_arguments: tuple[Type, ...], arguments: list[Value]
) -> list[Value]:
    """Call a function; its results in order.

    Raises:
        ExecutionFailedError: an abort, a failed primitive operation, or the end of the gas.
    """
    if isinstance(callee, NativeFunction):
        return _call_native(execution, callee, type_arguments, arguments)
    return run(execution, callee, type_arguments, arguments)


def _call_native(
    execution: Execution, callee: NativeFunction, type_arguments: tuple[Type, ...], arguments: list[Value]
) -> list[Value]:
    meter = execution.meter
    meter.charge(callee.cost)
    try:
        result = callee.implementation(execution, type_arguments, *arguments)
    except AbortError as abort:
        raise MoveAbortError(
            abort.code, MoveLocation(callee.address, abort.module or callee.module, abort.function or callee.name)
        ) from None
    except NativeFailureError as failure:
        location = MoveLocation(callee.address, failure.module or callee.module, failure.function or callee.name)
        raise RuntimeFailedError(failure.status, location) from None
    count = len(callee.returns)
    if count == 0:
        return []
    results = [result] if count == 1 else list(result)
    meter.step(0, count + (sum(map(weight, results)) << MEMORY_SHIFT))
    return results


def run(
    execution: Execution, function: Function, type_arguments: tuple[Type, ...], arguments: list[Value]
) -> list[Value]:
    """Run a function of a published module."""
    execution.depth += 1
    if execution.depth > CALL_DEPTH_MAX:
        raise _failed("CALL_STACK_OVERFLOW", function, 0, execution.meter, (0, 0))
    local: list[Value] = [*arguments, *([None] * function.local_count)]
    stack: list[Value] = []
    push, pop = stack.append, stack.pop
    code, meter = function.code, execution.meter
    position = steps = charges = 0
    while True:
        op, operand, charge = code[position]
        position += 1
        steps += 1
        charges += charge
        if op == _MOVE_LOC:
            push(local[operand])
            local[operand] = None
        elif op == _COPY_LOC:
            value = local[operand]
            if type(value) in _COMPOUND:
                charges += extra(value)
                value = copy_value(value)
            push(value)
        elif op == _ST_LOC:
            local[operand] = pop()
        elif op == _BORROW_LOC:
            push(Ref(local, operand))
        elif op == _BORROW_FIELD:
            push(Ref(pop().get(), operand))
        elif op == _READ_REF:
            value = pop().get()
            if type(value) in _COMPOUND:
                charges += extra(value)
                value = copy_value(value)
            push(value)
        elif op == _CALL:
            meter.step(steps, charges)
            steps = charges = 0
            _call_site(execution, operand, type_arguments, stack)
        elif op == _BR_FALSE:
            if not pop():
                position = operand
        elif op in _LITERALS:
            push(operand)
        elif op == _BR_TRUE:
            if pop():
                position = operand
        elif op == _BRANCH:
            position = operand
            if steps > _STEPS_UNMETERED_MAX:
                meter.step(steps, charges)
                steps = charges = 0
        elif op == _RET:
            meter.step(steps, charges)
            execution.depth -= 1
            return stack
        elif op == _WRITE_REF:
            reference, value = pop(), pop()
            if type(value) in _COMPOUND:
                charges += extra(value)
            reference.set(value)
        elif op == _LD_CONST:
            push(copy_value(operand))
        elif op in {_EQ, _NEQ}:
            right, left = pop(), pop()
            if type(left) is Ref:
                left, right = left.get(), right.get()
            if type(left) in _COMPOUND:
                charges += extra(left) + extra(right)
            push((left == right) == (op == _EQ))
        elif op == _PACK:
            fields = stack[-operand:]
            del stack[-operand:]
            push(fields)
        elif op == _UNPACK:
            stack.extend(pop())
        elif op == _POP:
            pop()
        elif op == _ABORT:
            meter.step(steps, charges)
            raise MoveAbortError(pop(), _location(function, position - 1))
        elif _LT <= op <= _GE:
            right, left = pop(), pop()
            push(_compare(op, left, right))
        elif op == _LD_TRUE:
            push(True)
        elif op == _LD_FALSE:
            push(False)
        elif op == _NOT:
            push(not pop())
        elif op == _OR:
            right = pop()
            push(pop() or right)
        elif op == _AND:
            right = pop()
            push(pop() and right)
        elif op in _CASTS:
            if stack[-1] > operand:
                raise _failed("ARITHMETIC_ERROR", function, position - 1, meter, (steps, charges))
        elif op == _VEC_LEN:
            push(len(pop().get()))
        elif op == _VEC_BORROW:
            index, vector = pop(), pop().get()
            if index >= len(vector):
                raise _failed(_OUT_OF_BOUNDS, function, position - 1, meter, (steps, charges))
            push(Ref(vector, index))
        elif op == _VEC_PUSH:
            item = pop()
            pop().get().append(item)
        elif op == _VEC_POP:
            vector = pop().get()
            if not vector:
                raise _failed(_POP_EMPTY, function, position - 1, meter, (steps, charges))
            push(vector.pop())
        elif op == _VEC_PACK:
            element, count = operand
            items = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            push(bytearray(items) if substitute(element, type_arguments) == "u8" else items)
        elif op == _VEC_UNPACK:
            vector = pop()
            if len(vector) != operand[1]:
                raise _failed(_UNPACK_MISMATCH, function, position - 1, meter, (steps, charges))
            stack.extend(vector)
        elif op == _VEC_SWAP:
            second, first, vector = pop(), pop(), pop().get()
            if max(first, second) >= len(vector):
                raise _failed(_OUT_OF_BOUNDS, function, position - 1, meter, (steps, charges))
            vector[first], vector[second] = vector[second], vector[first]
        elif op not in _IGNORED:
            right, left = pop(), pop()
            result = arithmetic(op, left, right, operand)
            if result is None:
                raise _failed("ARITHMETIC_ERROR", function, position - 1, meter, (steps, charges))
            push(result)


def arithmetic(op: int, left: int, right: int, bound: int) -> int | None:
    """An integer operation; None where Move aborts.

    `bound` is the greatest value of the operands' type; for shifts, its width in bits.
    """
    if op == _ADD:
        total = left + right
        return total if total <= bound else None
    if op == _SUB:
        return left - right if left >= right else None
    if op == _MUL:
        total = left * right
        return total if total <= bound else None
    if op in {_DIV, _MOD}:
        if right == 0:
            return None
        return left // right if op == _DIV else left % right
    if op == _BIT_AND:
        return left & right
    if op == _BIT_OR:
        return left | right
    if op == _XOR:
        return left ^ right
    if right >= bound:
        return None
    return (left << right) & ((1 << bound) - 1) if op == _SHL else left >> right


def _compare(op: int, left: int, right: int) -> bool:
    if op == _LT:
        return left < right
    if op == _GT:
        return left > right
    return left <= right if op == _LE else left >= right


def _call_site(execution: Execution, site: CallSite, type_arguments: tuple[Type, ...], stack: list[Any]) -> None:
    arguments = site.arguments
    if type_arguments and arguments:
        arguments = tuple(substitute(t, type_arguments) for t in arguments)
    count = site.parameter_count
    operands = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    stack.extend(call(execution, site.callee, arguments, operands))


def _location(function: Function, position: int) -> MoveLocation:
    return MoveLocation(function.address, function.module, function.name, function.index, position)


def _failed(
    status: str, function: Function, position: int, meter: Meter, used: tuple[int, int]
) -> ExecutionFailedError:
    meter.step(*used)
    return RuntimeFailedError(status, _location(function, position))
