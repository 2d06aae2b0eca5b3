"""The package under the real Move compiler and virtual machine: in WebAssembly, or the `sui` command."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MOVE = Path(__file__).resolve().parents[3] / "infra" / "move"
TIMEOUT_S = 180


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    if not (MOVE / "node_modules" / "@zktx.io" / "sui-move-builder").is_dir():
        pytest.skip("the builder is not installed: run `npm ci` in infra/move")
    return found


def framework() -> str:
    found = os.environ.get("SUI_FRAMEWORK_DIR")
    if not found:
        pytest.skip("SUI_FRAMEWORK_DIR names no checkout of the Sui repository")
    return found


def run(*command: str, folder: Path = MOVE) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_real_framework_compiles_to_the_committed_bytecode() -> None:
    run(node(), "build.mjs", "--check", "--framework", framework())


def test_the_move_unit_tests_pass_on_the_real_virtual_machine() -> None:
    assert "failed: 0" in run(node(), "test.mjs", "--framework", framework())


def test_the_move_unit_tests_pass_with_the_sui_command(tmp_path: Path) -> None:
    sui = shutil.which("sui")
    if sui is None:
        pytest.skip("the sui command is not installed")
    copy = shutil.copytree(MOVE / "daas", tmp_path / "daas")
    run(sui, "move", "test", folder=copy)
