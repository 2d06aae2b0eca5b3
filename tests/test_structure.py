"""The house keeps its shape: who may import whom, and where stand-ins may live."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = {path.parent.name: path.parent for path in sorted(ROOT.glob("libs/*/pyproject.toml"))}
SERVICES = {path.parent.name: path.parent for path in sorted(ROOT.glob("services/*/pyproject.toml"))}
PACKAGES = {**LIBRARIES, **SERVICES}

#: Which of our modules each library may import beside itself and daas.common.
LIBRARY_MAY_IMPORT = {
    "common": set(),
    "attestation": set(),
    "placement": set(),
    "ledger": set(),
    "kube": set(),
    "etcd": set(),
    "seal": set(),
    "identity": {"daas.seal"},
    "secrets": {"daas.attestation", "daas.seal"},
    "policy": set(),
    "walrus": set(),
    "kms": {"daas.seal", "daas.secrets"},
    "evidence": {"daas.attestation", "daas.placement", "daas.etcd", "daas.walrus"},
    "devstack": {"daas.attestation", "daas.kms", "daas.kube", "daas.ledger", "daas.seal"},
}


def module_of(package: Path) -> str:
    settings = tomllib.loads((package / "pyproject.toml").read_text())
    return str(settings["tool"]["uv"]["build-backend"]["module-name"])


MODULES = {name: module_of(package) for name, package in PACKAGES.items()}
SERVICE_MODULES = {MODULES[name] for name in SERVICES}


def imports_of(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(package: Path) -> dict[str, set[str]]:
    """Module of ours (daas.<package>) to the files of this package that import it."""
    found: dict[str, set[str]] = {}
    for source in package.glob("src/**/*.py"):
        for name in imports_of(source):
            if name.startswith("daas."):
                top = ".".join(name.split(".")[:2])
                found.setdefault(top, set()).add(str(source.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_imports_no_service_and_only_the_libraries_named_for_it(name: str) -> None:
    if name == "cli":
        allowed = {MODULES[other] for other in LIBRARIES}
    else:
        allowed = {"daas.common", MODULES[name]} | LIBRARY_MAY_IMPORT[name]
    strangers = {module: files for module, files in ours(LIBRARIES[name]).items() if module not in allowed}
    assert not strangers


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_imports_libraries_but_no_other_service_and_no_stand_in(name: str) -> None:
    forbidden = (SERVICE_MODULES - {MODULES[name]}) | {"daas.devstack", "daas.cli"}
    assert not {module: files for module, files in ours(SERVICES[name]).items() if module in forbidden}


def test_only_the_cli_and_tests_reach_the_stand_ins() -> None:
    users = {name for name, package in PACKAGES.items() if "daas.devstack" in ours(package)}
    assert users <= {"devstack", "cli"}
    for name, package in PACKAGES.items():
        settings = tomllib.loads((package / "pyproject.toml").read_text())
        assert "k3s-daas-devstack" not in settings["project"]["dependencies"], name


def test_the_engine_imports_nothing_of_ours_but_merkle_bcs_and_errors_and_does_no_io() -> None:
    allowed = {"daas.common.merkle", "daas.common.bcs", "daas.common.errors"}
    impure = {"asyncio", "os", "socket", "time", "random", "secrets", "threading", "subprocess", "pathlib", "uuid"}
    for source in LIBRARIES["placement"].glob("src/**/*.py"):
        names = imports_of(source)
        foreign = {
            n
            for n in names
            if n.startswith("daas.common")
            and n != "daas.common"
            and not any(n == a or n.startswith(a + ".") for a in allowed)
        }
        assert not foreign, source
        assert not {n.split(".")[0] for n in names} & impure, source


def test_only_one_module_of_the_ledger_library_imports_pysui() -> None:
    users = {
        source.name
        for source in LIBRARIES["ledger"].glob("src/**/*.py")
        if any(name.split(".")[0] == "pysui" for name in imports_of(source))
    }
    assert len(users) == 1


@pytest.mark.parametrize("name", PACKAGES)
def test_every_import_of_a_package_of_ours_is_a_declared_dependency(name: str) -> None:
    settings = tomllib.loads((PACKAGES[name] / "pyproject.toml").read_text())
    declared = {re.split(r"[\[<>=]", d)[0] for d in settings["project"]["dependencies"]}
    extras = settings["project"].get("optional-dependencies", {})
    declared |= {d for group in extras.values() for d in group}
    distribution = {MODULES[n]: f"k3s-daas-{MODULES[n].removeprefix('daas.')}" for n in PACKAGES}
    needed = {distribution[module] for module in ours(PACKAGES[name]) if module != MODULES[name]}
    assert needed <= declared


def test_daas_is_a_namespace_that_no_package_owns() -> None:
    assert not list(ROOT.glob("libs/*/src/daas/__init__.py")) + list(ROOT.glob("services/*/src/daas/__init__.py"))


@pytest.mark.parametrize("name", PACKAGES)
def test_every_module_says_in_its_first_line_what_it_is_for(name: str) -> None:
    for source in PACKAGES[name].glob("src/**/*.py"):
        if "_pb2" not in source.name:
            assert ast.get_docstring(ast.parse(source.read_text())), source


def test_no_file_names_the_host_of_a_package_registry() -> None:
    hosts = re.compile(r"pypi\.org|pythonhosted\.|npmjs\.|deb\.debian\.")
    for pattern in ("infra/**/*.txt", "infra/**/*.json", "**/pyproject.toml", "Makefile"):
        for path in ROOT.glob(pattern):
            if "node_modules" not in path.parts and ".venv" not in path.parts:
                assert not hosts.search(path.read_text()), path
