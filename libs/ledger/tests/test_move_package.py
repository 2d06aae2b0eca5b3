"""The committed bytecode is what the sources compile to, and says of itself what is true."""

import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from daas.common.errors import InvalidInput
from daas.ledger.package import Lineage, abort_name, committed_package, decode_package

MOVE = Path(__file__).resolve().parents[3] / "infra" / "move"
SOURCES = sorted((MOVE / "daas" / "sources").glob("*.move"))
PACKAGE = "0x" + "ab" * 32


def test_the_committed_digest_is_that_of_the_committed_modules() -> None:
    package = committed_package()
    assert package.computed_digest() == package.digest
    assert all(module.startswith(bytes.fromhex("a11ceb0b")) for module in package.modules)


def test_an_artefact_with_one_changed_byte_is_refused() -> None:
    package = committed_package()
    changed = bytearray(package.modules[0])
    changed[-1] ^= 1
    forged = msgspec.structs.replace(package, modules=(bytes(changed), *package.modules[1:]))
    with pytest.raises(InvalidInput) as refused:
        decode_package(msgspec.json.encode(forged))
    assert refused.value.reason == "package-digest"


def test_an_artefact_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        decode_package(b'{"modules": 7}')
    assert refused.value.reason == "package-format"


def test_the_builder_makes_the_committed_bytes(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (MOVE / "node_modules" / "@zktx.io" / "sui-move-builder").is_dir():
        pytest.skip("the builder is not installed: run `npm ci` in infra/move")
    output = tmp_path / "daas.json"
    built = subprocess.run(
        [node, "build.mjs", "--output", str(output)], cwd=MOVE, capture_output=True, text=True, timeout=120, check=False
    )
    assert built.returncode == 0, built.stderr
    assert output.read_bytes() == files("daas.ledger").joinpath("package/daas.json").read_bytes()


def test_the_artefact_names_the_builder_that_the_lockfile_pins() -> None:
    lock = json.loads((MOVE / "package-lock.json").read_text())
    version = lock["packages"]["node_modules/@zktx.io/sui-move-builder"]["version"]
    assert committed_package().builder == f"@zktx.io/sui-move-builder {version}"
    assert "resolved" not in lock["packages"]["node_modules/@zktx.io/sui-move-builder"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_abort_codes_are_named_documented_and_used(source: Path) -> None:
    text = source.read_text()
    constants = re.findall(r"((?:///.*\n)*)const (E\w+): u64 = (\d+);", text)
    if source.stem in {"cluster", "intent", "version"}:
        assert constants == []
    codes = [int(code) for _, _, code in constants]
    assert codes == list(range(len(codes))), "codes are numbered from 0 without gaps"
    for comment, name, code in constants:
        assert comment, f"{name} has no explanation"
        assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is never used"
        assert abort_name(Lineage.first(PACKAGE), PACKAGE, source.stem, int(code)) == name


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_sources_keep_to_the_subset_that_every_stage_understands(source: Path) -> None:
    code = re.sub(r"//.*", "", source.read_text())
    assert not re.search(r"\bpublic enum\b|\bbls12381\b|\bvec_map\b|\bvec_set\b", code)
    assert not re.search(r"\b(do|fold|map|filter|any|all|tabulate)!", code)


def test_an_abort_of_another_package_has_no_name_of_ours() -> None:
    assert abort_name(Lineage.first(PACKAGE), "0x" + "cd" * 32, "placement", 2) is None
    assert abort_name(Lineage.first(PACKAGE), "0x2", "nitro_attestation", 2) == "EVerifyError"
    assert abort_name(Lineage.first(PACKAGE), "0x2", "balance", 2) is None


def test_the_document_of_the_chain_says_what_the_sources_say() -> None:
    checked = subprocess.run(
        [sys.executable, str(MOVE / "tables.py"), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr
    document = (MOVE.parents[1] / "docs" / "chain.md").read_text()
    for module, names in committed_package().aborts.items():
        for code, name in names.items():
            assert f"| `{module}` | {code} | `{name}` | " in document
