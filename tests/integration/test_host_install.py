"""What infra/nitro/install.sh puts on a host: files, modes, units that systemd accepts, settings that services take."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from daas.common.settings import ProcessSettings, load
from daas.gateway.settings import GatewaySettings
from daas.relay.settings import RelaySettings
from daas.sealkeeper.keyserver.settings import KeyServerProcessSettings
from daas.sealkeeper.kms.settings import KmsSettings
from daas.sealkeeper.settings import SealKeeperSettings
from daas.storage.settings import StorageSettings

ROOT = Path(__file__).resolve().parents[2]
NITRO = ROOT / "infra/nitro"
SETTINGS: dict[str, type[ProcessSettings]] = {
    "gateway": GatewaySettings,
    "relay": RelaySettings,
    "storage": StorageSettings,
    "sealkeeper": SealKeeperSettings,
    "kms": KmsSettings,
    "key-server": KeyServerProcessSettings,
}
MODULES = {"kms": "daas.sealkeeper.kms", "key-server": "daas.sealkeeper.keyserver"}


def install(root: Path, service: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", NITRO / "install.sh", service, "--root", root, *more],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        timeout=240,
        check=False,
    )


def installed(root: Path, service: str) -> dict[str, tuple[int, str]]:
    done = install(root, service, "--no-packages")
    assert done.returncode == 0, done.stderr
    return {
        f"/{path.relative_to(root)}": (stat.S_IMODE(path.stat().st_mode), path.read_text(encoding="utf-8"))
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


@pytest.mark.parametrize("service", sorted(SETTINGS))
def test_a_service_gets_a_user_a_unit_and_settings_that_it_accepts(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = installed(tmp_path, service)
    unit_name = "daas@.service" if service not in MODULES else f"daas-{service}.service"
    unit = files[f"/etc/systemd/system/{unit_name}"][1].replace("%i", service)
    assert f"User=daas-{service}\n" in unit
    assert files[f"/usr/lib/sysusers.d/daas-{service}.conf"][1].startswith(f"u daas-{service} - ")
    module = MODULES.get(service, f"daas.{service}")
    assert f"ExecStart=/opt/daas/{service}/bin/python3 -I -m {module}\n" in unit
    assert SETTINGS[service].__module__.startswith(module)
    assert stat.S_IMODE((tmp_path / "etc/daas" / service).stat().st_mode) == 0o700
    mode, text = files[f"/etc/daas/{service}.env"]
    assert mode == 0o600
    for name in [name for name in os.environ if name.startswith("DAAS_")]:
        monkeypatch.delenv(name)
    given = variables(text) | ({"DAAS_STATE_DIR": "/var/lib/daas"} if "DAAS_STATE_DIR" in unit else {})
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    load(SETTINGS[service])
    own = {value for value in given.values() if value.startswith("/etc/daas/")}
    assert all(value.startswith(f"/etc/daas/{service}/") for value in own)


def test_the_parent_instance_gets_the_watcher_the_forwarder_and_the_allocator(tmp_path: Path) -> None:
    files = installed(tmp_path, "enclave")
    assert {"/opt/daas/enclave/parent.py", "/opt/daas/enclave/forward.py"} <= set(files)
    assert files["/etc/daas/enclave.json"][0] == 0o600
    python = tmp_path / "opt/daas/bin/python3"
    assert python.samefile(sys.executable)
    for unit in ("daas-enclave", "daas-enclave-forward"):
        text = files[f"/etc/systemd/system/{unit}.service"][1]
        (command,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
        for program in re.findall(r"/opt/daas/\S+\.py", command):
            assert program in files
        helped = subprocess.run(
            [sys.executable, "-I", tmp_path / command.split()[3].lstrip("/"), "--help"], capture_output=True, text=True
        )
        for option in re.findall(r"--[a-z-]+", command):
            assert option in helped.stdout


def test_settings_that_are_there_stay_and_an_unknown_service_is_refused(tmp_path: Path) -> None:
    installed(tmp_path, "relay")
    (tmp_path / "etc/daas/relay.env").write_text("DAAS_CLUSTER=mine\n")
    assert installed(tmp_path, "relay")["/etc/daas/relay.env"][1] == "DAAS_CLUSTER=mine\n"
    refused = install(tmp_path, "everything")
    assert refused.returncode == 2
    assert "gateway, relay, storage, sealkeeper, kms, key-server, or enclave" in refused.stderr


def test_systemd_accepts_every_unit_and_every_user(tmp_path: Path) -> None:
    analyze, sysusers = shutil.which("systemd-analyze"), shutil.which("systemd-sysusers")
    if analyze is None or sysusers is None:
        pytest.skip("no systemd on this machine")
    units: list[str] = []
    for service in [*SETTINGS, "enclave"]:
        assert install(tmp_path, service, "--no-packages").returncode == 0
        program = tmp_path / "opt/daas" / service / "bin/python3"
        program.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", program)
    python = tmp_path / "opt/daas/bin/python3"
    python.unlink()
    for program in (python, tmp_path / "usr/bin/nitro-cli"):
        program.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", program)
    folder = tmp_path / "etc/systemd/system"
    for path in sorted(folder.iterdir()):
        # systemd looks for programs below the real root: only the paths differ from what a host gets.
        path.write_text(path.read_text().replace("ExecStart=/opt", f"ExecStart={tmp_path}/opt"))
        units.append(str(path) if "@" not in path.name else str(path).replace("@.", "@relay."))
    shutil.copy(folder / "daas@.service", folder / "daas@relay.service")
    checked = subprocess.run([analyze, "verify", "--recursive-errors=no", *units], capture_output=True, text=True)
    complaints = [line for line in checked.stderr.splitlines() if "daas" in line]
    assert complaints == []
    assert checked.returncode == 0, checked.stderr
    made = subprocess.run([sysusers, "--dry-run", f"--root={tmp_path}"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    for service in [*SETTINGS, "enclave"]:
        assert f"daas-{service}" in made.stderr


def test_prometheus_for_hosts_asks_every_service_where_its_settings_put_it() -> None:
    jobs = yaml.safe_load((ROOT / "infra/prometheus/hosts.yml").read_text(encoding="utf-8"))["scrape_configs"]
    ports = {
        each["labels"]["service"]: urlsplit(f"//{each['targets'][0]}").port
        for job in jobs
        for each in job["static_configs"]
        if job["job_name"] != "prometheus"
    }
    for service in SETTINGS:
        given = variables((NITRO / "env" / f"{service}.env").read_text(encoding="utf-8"))
        port = given.get("DAAS_KEY_SERVER_METRICS_PORT") or given["DAAS_HTTP_PORT"]
        assert ports[
            "key-server-1" if service == "key-server" else service.replace("sealkeeper", "seal-keeper")
        ] == int(port)
    forwarder = (NITRO / "systemd/daas-enclave-forward.service").read_text(encoding="utf-8")
    assert f"tcp:${{METRICS_HOST}}:{ports['enclave']}=vsock:16:8080" in forwarder
    containers = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert {job["job_name"] for job in jobs} == {job["job_name"] for job in containers["scrape_configs"]}


@pytest.mark.soak
@pytest.mark.connected
def test_what_is_installed_runs_with_nothing_of_this_environment(tmp_path: Path) -> None:
    done = install(tmp_path, "kms")
    assert done.returncode == 0, done.stderr
    ran = subprocess.run(
        [tmp_path / "opt/daas/kms/bin/python3", "-I", "-m", "daas.sealkeeper.kms", "--help"],
        capture_output=True,
        text=True,
        env={},
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert "DAAS_KMS_SOCKET" in ran.stdout
