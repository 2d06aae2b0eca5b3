"""The Move machine keeps integers within the width of their type, and says where it stopped."""

import contextlib
import json
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.devstack.ledger.binary import (
    FunctionDefinition,
    FunctionHandle,
    Instruction,
    Module,
    Op,
    read_module,
    with_self_address,
)
from daas.devstack.ledger.errors import (
    BytecodeError,
    ExecutionFailedError,
    LedgerError,
    MoveAbortError,
    RuntimeFailedError,
)
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.gas import INTERNAL, Meter, instruction_cost, memory_cost, round_up
from daas.devstack.ledger.interpreter import run
from daas.devstack.ledger.natives import FUNCTIONS
from daas.devstack.ledger.program import Function, Program
from daas.devstack.ledger.server import default_packages
from daas.devstack.ledger.type_tags import SUI, Type

ADDRESS = bytes(31) + b"\xaa"
WIDTHS = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "u128": 128, "u256": 256}
OPERATIONS = {Op.ADD: "+", Op.SUB: "-", Op.MUL: "*", Op.DIV: "//", Op.MOD: "%"}


def function_of(code: list[Instruction], parameters: tuple[Type, ...] = (), returns: tuple[Type, ...] = ()) -> Function:
    handle = FunctionHandle(ADDRESS, "test", "subject", parameters, returns, ())
    definition = FunctionDefinition(handle, 7, 1, False, (), tuple(code))
    module = Module(
        address=ADDRESS, name="test", function_handles=(handle,), function_instantiations=(), signatures=(),
        constants=(), structs=(), struct_instantiations=(), field_handles=(), field_instantiations=(),
        functions=(definition,), imports=(),
    )  # fmt: skip
    program = Program()
    function = Function(definition)
    function.code = program._link(module, definition, ADDRESS)
    return function


def execution(units: int = 1_000_000) -> Execution:
    return Execution(
        Program(), lambda _: None, sender=bytes(32), sponsor=None, digest=bytes(32), epoch=0, epoch_start_ms=0,
        gas_price=1_000, meter=Meter(units),
    )  # fmt: skip


@given(st.sampled_from(sorted(WIDTHS)), st.sampled_from(sorted(OPERATIONS)), st.data())
def test_arithmetic_gives_the_exact_result_or_aborts(width: str, op: Op, data: st.DataObject) -> None:
    most = (1 << WIDTHS[width]) - 1
    edge = st.sampled_from([0, 1, most // 2, most - 1, most])
    left = data.draw(edge | st.integers(0, most))
    right = data.draw(edge | st.integers(0, most))
    subject = function_of([(Op.MOVE_LOC, 0), (Op.MOVE_LOC, 1), (op, 0), (Op.RET, 0)], (width, width), (width,))
    exact = None
    if right or op not in {Op.DIV, Op.MOD}:
        exact = eval(f"left {OPERATIONS[op]} right", {"left": left, "right": right})
    if exact is not None and 0 <= exact <= most:
        assert run(execution(), subject, (), [left, right]) == [exact]
        return
    with pytest.raises(RuntimeFailedError, match="ARITHMETIC_ERROR") as failure:
        run(execution(), subject, (), [left, right])
    assert failure.value.location is not None
    assert (failure.value.location.function, failure.value.location.instruction) == ("subject", 2)


@given(st.sampled_from(sorted(WIDTHS)), st.integers(0, 255), st.data())
def test_shifts_drop_what_leaves_the_width_and_abort_beyond_it(width: str, by: int, data: st.DataObject) -> None:
    bits = WIDTHS[width]
    value = data.draw(st.integers(0, (1 << bits) - 1))
    for op, expected in ((Op.SHL, (value << by) % (1 << bits)), (Op.SHR, value >> by)):
        subject = function_of([(Op.MOVE_LOC, 0), (Op.MOVE_LOC, 1), (op, 0), (Op.RET, 0)], (width, "u8"), (width,))
        if by < bits:
            assert run(execution(), subject, (), [value, by]) == [expected]
        else:
            with pytest.raises(RuntimeFailedError):
                run(execution(), subject, (), [value, by])


@pytest.mark.parametrize(("cast", "bits"), [(Op.CAST_U8, 8), (Op.CAST_U16, 16), (Op.CAST_U32, 32), (Op.CAST_U64, 64)])
def test_a_cast_that_would_lose_bits_aborts(cast: Op, bits: int) -> None:
    subject = function_of([(Op.MOVE_LOC, 0), (cast, 0), (Op.RET, 0)], ("u256",))
    assert run(execution(), subject, (), [(1 << bits) - 1]) == [(1 << bits) - 1]
    with pytest.raises(RuntimeFailedError):
        run(execution(), subject, (), [1 << bits])


def test_operands_of_two_widths_are_refused_before_anything_runs() -> None:
    with pytest.raises(BytecodeError, match="u8 and u64"):
        function_of([(Op.LD_U8, 1), (Op.LD_U64, 1), (Op.ADD, 0), (Op.RET, 0)])


def test_an_abort_names_its_code_function_and_instruction() -> None:
    subject = function_of([(Op.NOP, 0), (Op.LD_U64, 42), (Op.ABORT, 0)])
    with pytest.raises(MoveAbortError) as failure:
        run(execution(), subject, (), [])
    location = failure.value.location
    assert location is not None
    assert (failure.value.code, location.module, location.function_index, location.instruction) == (42, "test", 7, 2)


def test_an_endless_loop_ends_with_its_gas() -> None:
    with pytest.raises(ExecutionFailedError) as failure:
        run(execution(50), function_of([(Op.BRANCH, 0)]), (), [])
    assert failure.value.kind == "INSUFFICIENT_GAS"


@pytest.mark.parametrize(
    ("count", "cost"),
    [(0, 0), (20_000, 20_000), (50_000, 80_000), (100_000, 580_000), (200_000, 5_580_000), (200_001, 5_580_100)],
)
def test_instructions_cost_more_beyond_each_border_of_the_schedule(count: int, cost: int) -> None:
    assert instruction_cost(count) == cost


def test_memory_costs_double_beyond_its_first_border() -> None:
    assert memory_cost(100_001) == 100_002


@pytest.mark.parametrize(("units", "charged"), [(0, 1_000), (1, 1_000), (1_000, 1_000), (1_001, 2_000)])
def test_units_are_charged_in_steps_of_a_thousand(units: int, charged: int) -> None:
    assert round_up(units) == charged


def test_a_pushed_constant_costs_its_instruction_its_push_and_its_bytes() -> None:
    used = execution()
    run(used, function_of([(Op.LD_U64, 1), (Op.POP, 0), (Op.RET, 0)]), (), [])
    assert used.meter.internal() == 3 + 1 + 1
    assert used.meter.units() * INTERNAL == 1_000_000


def built_modules() -> list[bytes]:
    (path,) = default_packages()
    return [b64decode(code) for code in json.loads(Path(path).read_text())["modules"]]


def test_every_framework_function_that_our_package_calls_is_there_with_its_signature() -> None:
    called = set()
    for code in built_modules():
        module = read_module(with_self_address(code, ADDRESS))
        for handle in module.function_handles:
            if handle.address == ADDRESS:
                continue
            native = FUNCTIONS[handle.address, handle.module, handle.name]
            assert (native.parameters, native.returns) == (handle.parameters, handle.returns), handle.name
            assert len(native.type_parameters) == len(handle.constraints)
            called.add((handle.address, handle.name))
    assert (SUI, "share_object") in called


@given(st.binary(max_size=200))
def test_bytes_that_are_no_module_are_refused(junk: bytes) -> None:
    with pytest.raises(LedgerError):
        read_module(b"\xa1\x1c\xeb\x0b\x06\x00\x00\x00" + junk)


@given(st.integers(0, 2**16), st.integers(0, 255))
def test_a_module_with_a_damaged_byte_is_refused_or_read_but_never_crashes_the_reader(at: int, value: int) -> None:
    code = bytearray(built_modules()[0])
    code[at % len(code)] = value
    with contextlib.suppress(BytecodeError):
        read_module(bytes(code))
