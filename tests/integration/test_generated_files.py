"""What is generated from code is as the code would write it now, and its readers accept it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from daas.common.nkeys import nkey_public, nkey_seed
from daas.common.subjects import Service
from daas.devstack.identities import keep_certificate
from daas.devstack.nats import nats_server_binary

ROOT = Path(__file__).resolve().parents[2]
METRIC = re.compile(r"\b(?:daas|process|seal_key_server)_[a-z_]+\b")
DECLARED = re.compile(r"\b(Counter|Gauge|Histogram)\(\s*\"((?:daas|seal_key_server)_[a-z_]+)\"")


@pytest.mark.parametrize(
    "script",
    [
        "infra/nats/render.py",
        "infra/docker/requirements.py",
        "infra/grafana/dashboards.py",
        "infra/prometheus/metrics.py",
    ],
)
def test_generated_files_are_current(script: str) -> None:
    checked = subprocess.run([sys.executable, ROOT / script, "--check"], capture_output=True, text=True, env=os.environ)
    assert checked.returncode == 0, f"run `python {script}`: {checked.stdout}{checked.stderr}"


def test_every_metric_on_a_dashboard_or_in_an_alert_is_one_that_the_code_has() -> None:
    exported = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
    for source in [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]:
        for kind, name in DECLARED.findall(source.read_text()):
            base = name.removesuffix("_total")
            suffixes = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}[kind]
            exported |= {base + suffix for suffix in suffixes}
    used = set(METRIC.findall((ROOT / "infra/prometheus/alerts.yml").read_text()))
    for path in ROOT.glob("infra/grafana/dashboards/*.json"):
        panels = json.loads(path.read_text())["panels"]
        used |= {name for panel in panels for name in METRIC.findall(panel["targets"][0]["expr"])}
    assert len(used) > 10
    assert used <= exported


def test_every_panel_has_a_place_of_its_own_and_asks_the_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load((ROOT / "infra/grafana/provisioning/datasources/prometheus.yml").read_text())
    uids = {each["uid"] for each in provisioned["datasources"]}
    dashboards = [json.loads(path.read_text()) for path in ROOT.glob("infra/grafana/dashboards/*.json")]
    assert len({model["uid"] for model in dashboards}) == len({model["title"] for model in dashboards}) > 4
    for model in dashboards:
        taken: set[tuple[int, int]] = set()
        for panel in model["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken
            assert at["x"] + at["w"] <= 24
            taken |= cells
            assert panel["datasource"]["uid"] in uids
            # Each name in the legend is a label that the expression keeps, or that of a whole series.
            grouped = re.search(r"\bby \(([^)]*)\)", panel["targets"][0]["expr"])
            shown = set(re.findall(r"\{\{(\w+)\}\}", panel["targets"][0]["legendFormat"]))
            assert grouped is None or shown <= set(grouped[1].replace(" ", "").split(",")), panel["title"]
        assert len({panel["id"] for panel in model["panels"]}) == len(model["panels"])


def test_every_runbook_link_of_an_alert_leads_to_a_heading() -> None:
    text = (ROOT / "docs/production.md").read_text()
    headings = {h.lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    text = (ROOT / "infra/prometheus/alerts.yml").read_text()
    links = re.findall(r'runbook_url: "\{\{ \$externalLabels\.runbooks \}\}/docs/production\.md#(\S+)"', text)
    assert len(links) == text.count("- alert: ")
    assert set(links) <= headings
    for name in ("prometheus.yml", "hosts.yml"):
        config = yaml.safe_load((ROOT / "infra/prometheus" / name).read_text())
        assert config["global"]["external_labels"]["runbooks"].startswith("https://")


def test_everything_that_prometheus_scrapes_is_a_container() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    names = set(compose["services"])
    for service in compose["services"].values():
        networks = service.get("networks", [])
        if isinstance(networks, dict):
            names |= {alias for each in networks.values() for alias in (each or {}).get("aliases", ())}
    jobs = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())["scrape_configs"]
    scraped = [each for job in jobs if job["job_name"] != "prometheus" for each in job["static_configs"]]
    assert {each["targets"][0].partition(":")[0] for each in scraped} <= names
    services = {"gateway", "enclave", "relay", "storage", "seal-keeper", "kms"}
    assert {each["labels"]["service"] for each in scraped} >= services


@pytest.mark.connected
def test_nats_server_accepts_the_configurations_of_one_and_of_three_servers(tmp_path: Path) -> None:
    keep_certificate(tmp_path / "tls", ["nats-1"])
    (tmp_path / "keys").mkdir()
    for number, service in enumerate(Service):
        (tmp_path / "keys" / f"{service.value}.pub").write_text(nkey_public(nkey_seed(bytes([number]) * 32)) + "\n")
    argv: list[str | Path] = [sys.executable, ROOT / "infra/nats/render.py", "--cluster", "prod"]
    argv += ["--keys", tmp_path / "keys"]
    subprocess.run([*argv, "--out", tmp_path], check=True, capture_output=True)
    for name in ("r1", "r3-nats-1", "r3-nats-2", "r3-nats-3"):
        config = tmp_path / f"{name}.conf"
        config.write_text(config.read_text().replace("/etc/nats/", f"{tmp_path}/tls/"))
        tested = subprocess.run([nats_server_binary(), "-t", "-c", config], capture_output=True, text=True)
        assert tested.returncode == 0, tested.stderr
