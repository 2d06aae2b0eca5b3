"""The Move machine agrees with the real one, run as WebAssembly with the real framework, on generated programs."""

import json
import os
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest
from move_programs import Call, Generator, Programs

from daas.devstack.ledger.binary import read_module, with_self_address
from daas.devstack.ledger.errors import MoveAbortError, RuntimeFailedError
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.gas import Meter
from daas.devstack.ledger.interpreter import call
from daas.devstack.ledger.natives.registry import Ref
from daas.devstack.ledger.program import Package, Program
from daas.devstack.ledger.type_tags import STD, SUI

REPOSITORY = Path(__file__).parents[4]
BUILDER = REPOSITORY / "infra/move/node_modules/@zktx.io/sui-move-builder"
MACHINE = Path(__file__).parent / "support/move_machine.mjs"
FRAMEWORK = os.environ.get("SUI_FRAMEWORK_DIR", "")
ADDRESS = bytes(31) + b"\xfa"
MANIFEST = '[package]\nname = "fuzz"\nedition = "2024"\n\n[addresses]\nfuzz = "0x0"\n'
EQUALITIES_MIN = 2_000
SEEDS = (1, 2)
PACKAGES = {STD: "std", SUI: "sui", ADDRESS: "fuzz"}

pytestmark = [
    pytest.mark.skipif(not FRAMEWORK, reason="SUI_FRAMEWORK_DIR names no framework sources"),
    pytest.mark.skipif(not BUILDER.exists() or shutil.which("node") is None, reason="node or the builder is missing"),
]


def real_machine(files: dict[str, str], *, test: bool) -> dict[str, object]:
    request = {"builder": str(BUILDER), "framework": FRAMEWORK, "files": files, "test": test}
    done = subprocess.run(
        ["node", str(MACHINE)], input=json.dumps(request), capture_output=True, text=True, timeout=240, check=True
    )
    answer: dict[str, object] = json.loads(done.stdout)
    assert "error" not in answer, str(answer["error"])[:4_000]
    return answer


def program_of(modules: list[bytes]) -> Program:
    program = Program()
    codes = tuple(with_self_address(code, ADDRESS) for code in modules)
    origins = tuple((m.name, s.handle.name, ADDRESS) for m in map(read_module, codes) for s in m.structs)
    program.load(Package(ADDRESS, 1, bytes(32), codes, bytes(32), ADDRESS, origins))
    return program


def observe(program: Program, wanted: Call) -> tuple[list[bytes], list[bytes], str]:
    """What the function returned, the events it emitted, and how the real machine would be told to expect a failure."""
    execution = Execution(
        program, lambda _: None, sender=bytes(32), sponsor=None, digest=bytes(32), epoch=0, epoch_start_ms=0,
        gas_price=1_000, meter=Meter(5_000_000),
    )  # fmt: skip
    function = program.functions[ADDRESS, "programs", wanted.function]
    arguments: list[object] = [value for _, value in wanted.arguments]
    if wanted.needs_context:
        arguments.append(Ref([None], 0))
    execution.calling = (ADDRESS, "programs")
    try:
        (out,) = call(execution, function, (), arguments)
    except (MoveAbortError, RuntimeFailedError) as failure:
        location = failure.location
        assert location is not None
        where = f"location = {PACKAGES[location.address]}::{location.module}"
        if isinstance(failure, MoveAbortError):
            return [], [], f"abort_code = {failure.code}, {where}"
        if failure.status == "ARITHMETIC_ERROR":
            return [], [], f"arithmetic_error, {where}"
        status, _, minor = failure.status.partition(" with sub-status ")
        assert status == "VECTOR_OPERATION_ERROR"
        return [], [], f"vector_error, minor_status = {minor}, {where}"
    return [bytes(item) for item in out], [event.contents for event in execution.events], ""


def expectations(program: Program, programs: Programs) -> tuple[str, int]:
    """A Move test module that holds the real machine to what ours did, and how many equalities it checks."""
    tests, equalities = [], 0
    for number, wanted in enumerate(programs.calls):
        out, events, failure = observe(program, wanted)
        arguments = [literal for literal, _ in wanted.arguments] + ["&mut ctx"] * wanted.needs_context
        lines = ["let mut ctx = tx_context::dummy();"] if wanted.needs_context else []
        lines.append(f"let out = programs::{wanted.function}({', '.join(arguments)});")
        if failure:
            tests.append(f"    #[test, expected_failure({failure})]\n")
            equalities += 1
        else:
            tests.append("    #[test]\n")
            lines.append(f"assert!(out.length() == {len(out)}, 1000);")
            lines += [f'assert!(out[{i}] == x"{value.hex()}", {i});' for i, value in enumerate(out)]
            if events:
                lines.append("let events = event::events_by_type<programs::Happened>();")
                lines.append(f"assert!(events.length() == {len(events)}, 2000);")
                lines += [
                    f'assert!(bcs::to_bytes(&events[{i}]) == x"{value.hex()}", {3000 + i});'
                    for i, value in enumerate(events)
                ]
            equalities += len(out) + len(events)
        body = "\n".join(f"        {line}" for line in lines)
        tests.append(f"    fun test_{number}() {{\n{body}\n    }}\n")
    head = "#[test_only, allow(unused_variable, unused_use)]\nmodule fuzz::expectations {\n"
    uses = "    use fuzz::programs;\n    use std::bcs;\n    use std::string;\n    use sui::event;\n\n"
    return head + uses + "\n".join(tests) + "}\n", equalities


@pytest.mark.parametrize("seed", SEEDS)
def test_generated_programs_do_the_same_on_the_real_machine(seed: int) -> None:
    generator = Generator(seed)
    generator.arithmetic(functions=70, calls=4)
    generator.containers(each=3, steps=30)
    generator.aborts()
    files = {"Move.toml": MANIFEST, "sources/fuzz.move": generator.programs.source()}
    built = real_machine(files, test=False)
    modules = built["modules"]
    assert isinstance(modules, list)
    program = program_of([b64decode(code) for code in modules])
    tests, equalities = expectations(program, generator.programs)
    judged = real_machine({**files, "tests/expectations.move": tests}, test=True)
    assert judged["passed"], str(judged["output"])[-4_000:]
    assert equalities * len(SEEDS) >= EQUALITIES_MIN


def test_the_comparison_notices_a_wrong_value() -> None:
    generator = Generator(1)
    generator.arithmetic(functions=1, calls=1)
    files = {"Move.toml": MANIFEST, "sources/fuzz.move": generator.programs.source()}
    arguments = ", ".join(text for text, _ in generator.programs.calls[0].arguments)
    tests = (
        "#[test_only]\nmodule fuzz::expectations {\n    use fuzz::programs;\n    #[test]\n    fun wrong() {\n"
        f"        let out = programs::arithmetic_0({arguments});\n"
        '        assert!(out[0] == x"ffffff", 0);\n    }\n}\n'
    )
    assert not real_machine({**files, "tests/expectations.move": tests}, test=True)["passed"]
