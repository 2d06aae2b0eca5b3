"""The behaviour tests of this folder against a real K3s in a container, where Docker has its image."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from testcontainers.community.k3s import K3SContainer

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.connected, pytest.mark.timeout(1800)]


def _image() -> str:
    """The K3s that docker-compose.yml pins."""
    image: str = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["k3s"]["image"]
    return image


@pytest.fixture
def k3s(tmp_path: Path) -> Iterator[Path]:
    """The kubeconfig of a K3s server in a container."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    known = subprocess.run(["docker", "image", "inspect", _image()], capture_output=True, text=True, check=False)
    if known.returncode != 0:
        pytest.skip(f"Docker does not have {_image()}: {known.stderr.strip()}")
    with K3SContainer(_image()) as server:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(server.config_yaml())
        yield kubeconfig


def test_the_behaviour_tests_hold_on_a_real_k3s(k3s: Path) -> None:
    here = Path(__file__)
    arguments = ["-q", str(here.parent), "-m", "not soak", "--deselect", str(here.relative_to(ROOT))]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        env={**os.environ, "DAAS_KUBECONFIG": str(k3s)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
