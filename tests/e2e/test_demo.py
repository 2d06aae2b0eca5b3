"""The demo is the first thing that a newcomer runs: it must show every act, end by itself, and leave nothing behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.connected, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]


def processes_below(directory: Path) -> list[str]:
    """Command lines of live processes that name a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(directory) in line:
                found.append(line)
    return found


@pytest.mark.parametrize("with_kubectl", [True, False], ids=["kubectl", "client"])
def test_the_demo_places_proves_verifies_refuses_a_broken_byte_and_stops(tmp_path: Path, with_kubectl: bool) -> None:
    if with_kubectl and shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200"}
    if not with_kubectl:
        environment["PATH"] = str(Path(sys.executable).parent)
    done = subprocess.run(
        [sys.executable, "-m", "daas.cli", "demo"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "bound" in done.stdout
    assert "191 of 200" in done.stdout
    assert "verified: all" in done.stdout
    assert "refused by: evidence" in done.stdout
    assert "refused with exit code 1" in done.stdout
    assert "is in 0 of the" in done.stdout
    assert "edge-1, with 20 SUI at stake, reads the password" in done.stdout
    assert "edge-2, with nothing at stake, is refused" in done.stdout
    assert "less bonded stake than the policy asks for" in done.stderr
    assert "simulated" in done.stdout
    assert ("created with kubectl" if with_kubectl else "created with the kubernetes client") in done.stdout
    assert not processes_below(tmp_path)
    assert not list(tmp_path.glob("daas-demo-*")), "the state directory is left behind"
