"""Writes the Grafana dashboards: `python infra/grafana/dashboards.py` (`--check`: fails where one is stale)."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent / "dashboards"
WIDTH = 12
HEIGHT = 8

#: Dashboard to rows of (title, unit, legend, expression); two panels beside each other.
DASHBOARDS: dict[str, list[tuple[str, str, str, str]]] = {
    "overview": [
        ("Services that answer", "short", "{{service}}", 'up{job="daas"}'),
        ("Connected to NATS", "short", "{{service}}", "daas_nats_connected"),
        ("Pods bound per second", "ops", "bound", "sum(rate(daas_gateway_bound_total[1m]))"),
        (
            "Decisions, anchors and stored batches per second",
            "ops",
            "{{subject}}",
            'sum by (subject) (rate(daas_published_total{subject=~"placement.(decided|anchored)|storage.stored"}[1m]))',
        ),
        (
            "From the anchor to the binding",
            "s",
            "p99",
            "histogram_quantile(0.99, sum by (le) (rate(daas_gateway_bind_seconds_bucket[5m])))",
        ),
        ("Dead letters", "short", "{{service}} {{subject}} {{reason}}", "increase(daas_dead_letters_total[10m])"),
        ("Bindings that failed", "short", "{{reason}}", "increase(daas_gateway_bind_failed_total[10m])"),
        ("Newest stored batch", "short", "batch", "max(daas_storage_head)"),
    ],
    "enclave": [
        ("May sign", "short", "{{instance}}", "daas_enclave_may_sign"),
        (
            "Time to the end of the registration",
            "s",
            "{{instance}}",
            "daas_enclave_registration_expires_timestamp_seconds - time()",
        ),
        (
            "Time to the end of the certificate under it",
            "s",
            "{{instance}}",
            "daas_enclave_leaf_expires_timestamp_seconds - time()",
        ),
        ("Clock against the hypervisor's", "s", "{{instance}}", "abs(daas_enclave_clock_drift_seconds)"),
        (
            "Receipts and attestations per minute",
            "short",
            "{{subject}}",
            'sum by (subject) (increase(daas_published_total{subject=~"placement.received|enclave.attested"}[1m]))',
        ),
    ],
    "bus": [
        ("Published per second", "ops", "{{service}} {{subject}}", "rate(daas_published_total[1m])"),
        (
            "Publish to acknowledgement, p99",
            "s",
            "{{service}} {{subject}}",
            "histogram_quantile(0.99, sum by (le, service, subject) (rate(daas_publish_seconds_bucket[5m])))",
        ),
        ("Handled per second", "ops", "{{service}} {{subject}}", "rate(daas_handled_total[1m])"),
        (
            "Handler time, p99",
            "s",
            "{{service}} {{subject}}",
            "histogram_quantile(0.99, sum by (le, service, subject) (rate(daas_handle_seconds_bucket[5m])))",
        ),
        ("Handlers running", "short", "{{service}} {{subject}}", "daas_in_flight"),
        ("Failed deliveries", "short", "{{service}} {{subject}} {{reason}}", "increase(daas_failed_total[5m])"),
        ("Refused by NATS", "short", "{{service}}", "increase(daas_nats_permission_errors_total[5m])"),
        ("Reconnections", "short", "{{service}}", "increase(daas_nats_reconnects_total[5m])"),
        ("Resident memory", "bytes", "{{service}}", 'process_resident_memory_bytes{job="daas"}'),
        ("Processor", "percentunit", "{{service}}", 'rate(process_cpu_seconds_total{job="daas"}[1m])'),
    ],
}


def panel(number: int, title: str, unit: str, legend: str, expression: str) -> dict[str, Any]:
    """One time series."""
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "gridPos": {"x": WIDTH * (number % 2), "y": HEIGHT * (number // 2), "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "expr": expression, "legendFormat": legend}],
    }


def dashboard(name: str) -> str:
    """The JSON model of one dashboard."""
    model = {
        "uid": f"daas-{name}",
        "title": f"K3s-DaaS {name}",
        "tags": ["k3s-daas"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": [panel(number, *row) for number, row in enumerate(DASHBOARDS[name])],
    }
    return json.dumps(model, indent=1) + "\n"


def main() -> int:
    """Writes or checks every dashboard."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is stale")
    check = parser.parse_args().check
    stale = []
    for name in DASHBOARDS:
        path = OUT / f"{name}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != dashboard(name):
            stale.append(name)
            if not check:
                path.write_text(dashboard(name), encoding="utf-8")
    sys.stdout.write(f"stale: {', '.join(stale)}\n" if stale else "all current\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
