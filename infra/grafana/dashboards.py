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
        ("Services that answer", "short", "{{service}}", 'up{job=~"daas|key-servers"}'),
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
    "secrets": [
        (
            "Secrets by policy, state",
            "short",
            "{{policy}} {{state}}",
            "sum by (policy, state) (daas_seal_keeper_secrets)",
        ),
        (
            "Asked of seal-keeper per second",
            "ops",
            "{{action}} {{outcome}}",
            "sum by (action, outcome) (rate(daas_seal_keeper_requests_total[5m]))",
        ),
        (
            "seal-keeper's time, p99",
            "s",
            "{{action}}",
            "histogram_quantile(0.99, sum by (le, action) (rate(daas_seal_keeper_seconds_bucket[5m])))",
        ),
        (
            "Asked of key servers per second",
            "ops",
            "{{service}} {{outcome}}",
            "sum by (service, outcome) (rate(seal_key_server_requests_total[5m]))",
        ),
        (
            "A policy on the ledger, p99",
            "s",
            "{{service}}",
            "histogram_quantile(0.99, sum by (le, service) (rate(seal_key_server_policy_seconds_bucket[5m])))",
        ),
        ("Key servers that answer", "short", "{{service}}", 'up{job="key-servers"}'),
        ("Open seeds of encryption at rest", "short", "open", "daas_kms_seeds_open"),
        (
            "Calls of the API server per second",
            "ops",
            "{{method}} {{answer}}",
            "sum by (method, answer) (rate(daas_kms_calls_total[5m]))",
        ),
    ],
    "access": [
        (
            "Webhook requests per second",
            "ops",
            "{{path}} {{code}}",
            "sum by (path, code) (rate(daas_gateway_webhook_requests_total[5m]))",
        ),
        (
            "Webhooks' time, p99",
            "s",
            "{{path}}",
            "histogram_quantile(0.99, sum by (le, path) (rate(daas_gateway_webhook_seconds_bucket[5m])))",
        ),
        ("Logins", "ops", "{{outcome}}", "sum by (outcome) (rate(daas_gateway_token_reviews_total[5m]))"),
        ("Access reviews", "ops", "{{outcome}}", "sum by (outcome) (rate(daas_gateway_access_reviews_total[5m]))"),
        (
            "Admission",
            "ops",
            "{{webhook}} {{outcome}}",
            "sum by (webhook, outcome) (rate(daas_gateway_admission_reviews_total[5m]))",
        ),
        ("Anchors looked up", "ops", "{{outcome}}", "sum by (outcome) (rate(daas_gateway_anchors_checked_total[5m]))"),
        ("Accounts whose stake is known", "short", "accounts", "daas_gateway_stake_accounts"),
        ("Facts about stake not believed", "short", "refused", "increase(daas_gateway_stake_refused_total[10m])"),
    ],
    "ledger": [
        ("Batches anchored per second", "ops", "anchored", "rate(daas_relay_anchored_total[1m])"),
        (
            "From decided to anchored",
            "s",
            "p99",
            "histogram_quantile(0.99, sum by (le) (rate(daas_relay_anchor_seconds_bucket[5m])))",
        ),
        ("Decisions that wait", "short", "waiting", "daas_relay_waiting"),
        ("Batches refused", "short", "{{reason}}", "increase(daas_relay_refused_total[10m])"),
        ("Balance, MIST", "short", "balance", "daas_relay_balance_mist"),
        ("Gas per minute, MIST", "short", "gas", "increase(daas_relay_gas_mist_total[1m])"),
        ("Full nodes in trouble", "short", "{{reason}}", "increase(daas_relay_node_trouble_total[10m])"),
        ("Stored per second", "ops", "{{kind}}", "sum by (kind) (rate(daas_storage_stored_total[1m]))"),
        ("Values that wait to be stored", "short", "{{kind}}", "sum by (kind) (daas_storage_waiting)"),
        ("Blobs kept in Walrus", "short", "blobs", "daas_storage_walrus_blobs"),
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
