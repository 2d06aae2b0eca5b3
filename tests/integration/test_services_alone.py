"""Each service runs alone: `--help` lists every setting, and what can't work refuses to start with a clear reason."""

import os
import subprocess
import sys

import pytest

SERVICES = ("gateway", "enclave", "relay", "storage", "sealkeeper")
#: Namespaces of settings that are not the module's name.
NAMESPACES = {"sealkeeper": "SEAL_KEEPER"}


def run(service: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DAAS_")}
    return subprocess.run(
        [sys.executable, "-m", f"daas.{service}", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_help_lists_every_setting_with_its_variable_and_exits_with_0(service: str) -> None:
    done = run(service, "--help")
    assert done.returncode == 0
    own = f"DAAS_{NAMESPACES.get(service, service.upper())}_"
    for variable in ("DAAS_NATS_URL", "DAAS_CLUSTER", "DAAS_HTTP_PORT", own):
        assert variable in done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_an_unknown_setting_in_the_services_own_namespace_refuses_to_start(service: str) -> None:
    variable = f"DAAS_{NAMESPACES.get(service, service.upper())}_NONSENSE"
    done = run(service, **{variable: "1"})
    assert done.returncode == 2
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_setting_is_named() -> None:
    done = run("relay")
    assert done.returncode == 2
    assert "DAAS_RELAY_LEDGER_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_enclave_without_a_security_module_refuses_to_start_with_the_reason() -> None:
    done = run("enclave", DAAS_ENCLAVE_NSM="/nonexistent/nsm")
    assert done.returncode != 0
    assert "/nonexistent/nsm" in done.stderr
    assert "Traceback" not in done.stderr
