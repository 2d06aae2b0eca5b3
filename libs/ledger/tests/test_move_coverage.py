"""No function of the package that anybody can call, and no abort code, is without a test that names it."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "infra" / "move" / "daas" / "sources"
TESTS = "\n".join(path.read_text() for path in sorted(HERE.glob("test_*.py")) if path.name != Path(__file__).name)
SUPPORT = (HERE / "support" / "move_machine.py").read_text()


def without_test_code(source: Path) -> str:
    return re.sub(r"^#\[test_only\]\n.*$", "", source.read_text(), flags=re.MULTILINE)


def callable_functions() -> list[str]:
    return [
        f"{source.stem}::{name}"
        for source in sorted(SOURCES.glob("*.move"))
        for name in re.findall(r"^(?:public|entry) fun (\w+)", without_test_code(source), re.MULTILINE)
    ]


def abort_codes() -> list[str]:
    return [
        f"{source.stem}::{name}"
        for source in sorted(SOURCES.glob("*.move"))
        for name in re.findall(r"^const (E\w+): u64", source.read_text(), re.MULTILINE)
    ]


@pytest.mark.parametrize("target", callable_functions())
def test_a_function_is_called_by_a_test(target: str) -> None:
    module, name = target.split("::")
    listed = re.search(rf'"{name}"', TESTS) and re.search(rf'f"{module}::{{\w+}}"', TESTS)
    assert f'"{target}"' in TESTS + SUPPORT or listed, f"no test calls {target}"


@pytest.mark.parametrize("code", abort_codes())
def test_an_abort_is_provoked_by_a_test(code: str) -> None:
    module, name = code.split("::")
    by_parts = re.search(rf'"{name}"', TESTS) and re.search(rf'f"{module}::{{\w+}}"', TESTS)
    generic = name in {"EWrongVersion", "EAlreadyMigrated"} and f"::{name}" in TESTS
    assert f'"{code}"' in TESTS or by_parts or generic, f"no test provokes {code}"
