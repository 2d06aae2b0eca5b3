"""Every alert on series made for it, as promtool evaluates it: quiet while all is well, and firing with its words."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "infra/prometheus/alerts.yml"
#: Between samples, as in infra/prometheus/prometheus.yml. Values are in promtool's notation: `0x6 1x12` is one minute
#: of 0 and two of 1; `_x6` is a minute without the series. promtool's clock starts at 0.
INTERVAL = "10s"


@dataclass(frozen=True)
class Case:
    """One alert on one set of series.

    Attributes:
        alert: its name.
        series: series to their values.
        quiet: times at which it must not fire.
        firing: a time at which it must; None if never.
        labels: of what fires, beside the severity.
        summary: as it is shown.
    """

    alert: str
    series: dict[str, str]
    quiet: tuple[str, ...]
    firing: str | None
    labels: dict[str, str] = field(default_factory=dict)
    summary: str = ""


def series(name: str, **labels: str) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


RELAY = {"job": "daas", "service": "relay", "instance": "relay:8080"}
KEY_SERVER = {"job": "key-servers", "service": "key-server-2", "instance": "key-server-2:9184"}
LETTER = {"service": "storage", "subject": "placement.decided", "reason": "forged"}
ODD = {"service": "gateway", "where": "placement.anchored"}
NO_BIND = {"service": "gateway", "reason": "capacity"}
ENCLAVE = {"service": "enclave", "instance": "enclave:8080"}
KMS = {"instance": "kms:8080"}

LETTERS = series("daas_dead_letters_total", **LETTER)
ODDS = series("daas_unexpected_errors_total", **ODD)
NO_BINDS = series("daas_gateway_bind_failed_total", **NO_BIND)
DECIDED = series("daas_published_total", service="enclave", subject="placement.decided")
ANCHORED = series("daas_published_total", service="relay", subject="placement.anchored")
WAITING = series("daas_relay_waiting", service="relay")
MAY_SIGN = series("daas_enclave_may_sign", **ENCLAVE)
EXPIRES = series("daas_enclave_registration_expires_timestamp_seconds", **ENCLAVE)
DRIFT = series("daas_enclave_clock_drift_seconds", **ENCLAVE)
GENERATION, OPEN, LISTED = (series(f"daas_kms_{name}", **KMS) for name in ("generation", "seeds_open", "seeds_listed"))
REFUSED = series("daas_kms_calls_total", method="decrypt", answer="seed-not-open", **KMS)
FIRST_END = series("daas_storage_walrus_first_end_timestamp_seconds", instance="storage:8080")


def secrets(state: str) -> str:
    return series("daas_seal_keeper_secrets", policy="default", state=state)


def webhook(bound: str) -> str:
    return series("daas_gateway_webhook_seconds_bucket", path="/authz", le=bound)


NOT_ANCHORED = "decisions are made, but none is anchored"
RETIRED = "the registration of enclave:8080 ends within half an hour and has not been renewed"
SEED = "the KMS plugin of kms:8080 could not open a seed"

CASES = [
    Case("ServiceDown", {series("up", **RELAY): "1x12 0x60"}, ("2m", "3m"), "4m", RELAY, "relay does not answer"),
    Case(
        "BusDisconnected",
        {'daas_nats_connected{service="relay"}': "1x12 0x60"},
        ("2m", "3m"),
        "4m",
        {"service": "relay"},
        "relay has no connection to NATS",
    ),
    Case(
        "BusPermissionRefused",
        {'daas_nats_permission_errors_total{service="relay"}': "0x12 1x120"},
        ("1m", "15m"),
        "5m",
        {"service": "relay"},
        "NATS refused relay a subject",
    ),
    # The first dead letter of a kind makes the series: it begins at 1.
    Case(
        "DeadLetters",
        {LETTERS: "_x12 1x120"},
        ("1m", "15m"),
        "5m",
        LETTER,
        "storage put placement.decided aside: forged",
    ),
    Case(
        "DeadLetters",
        {LETTERS: "3x90 4x120"},
        ("12m", "30m"),
        "20m",
        LETTER,
        "storage put placement.decided aside: forged",
    ),
    # After a restart the counter begins again, an hour after the last one.
    Case(
        "DeadLetters",
        {LETTERS: "3x90 _x270 1x90"},
        ("30m", "59m"),
        "62m",
        LETTER,
        "storage put placement.decided aside: forged",
    ),
    Case(
        "UnexpectedErrors",
        {ODDS: "_x12 1x120"},
        ("1m", "15m"),
        "5m",
        ODD,
        "gateway met an error outside its error tree, in placement.anchored",
    ),
    # The ledger goes away: decisions go on for a while, then the enclave waits, and so does the relay.
    Case(
        "DecisionsNotAnchored",
        {DECIDED: "0+1x60 60x120", ANCHORED: "0+1x30 30x150", WAITING: "0x30 5x150"},
        ("4m", "9m"),
        "25m",
        {},
        NOT_ANCHORED,
    ),
    Case("DecisionsNotAnchored", {DECIDED: "0+1x90", WAITING: "0x90"}, ("30s",), "10m", {}, NOT_ANCHORED),
    Case("DecisionsNotAnchored", {DECIDED: "0+1x90", ANCHORED: "0+1x90", WAITING: "3x90"}, ("2m", "15m"), None),
    Case("DecisionsNotAnchored", {DECIDED: "7x90", ANCHORED: "7x90", WAITING: "0x90"}, ("2m", "15m"), None),
    Case(
        "RelayBalanceLow",
        {"daas_relay_low_balance": "0x12 1x60"},
        ("2m", "3m"),
        "4m",
        {},
        "the account that pays for anchors runs out of money",
    ),
    Case("BindingsFail", {NO_BINDS: "_x12 11x120"}, ("1m", "15m"), "5m", NO_BIND, "bindings fail: capacity"),
    Case("BindingsFail", {NO_BINDS: "50x90 50+2x20"}, ("14m",), "18m", NO_BIND, "bindings fail: capacity"),
    Case("BindingsFail", {NO_BINDS: "_x12 3x120"}, ("5m", "10m"), None),
    Case(
        "EnclaveMayNotSign",
        {MAY_SIGN: "1x12 0x60"},
        ("2m", "4m"),
        "5m",
        ENCLAVE,
        "enclave is not registered, or its clock is wrong",
    ),
    # It ends after an hour; a renewal in time keeps it quiet; what has ended is EnclaveMayNotSign's to say.
    Case("RegistrationEnds", {EXPIRES: "3600x500"}, ("29m", "61m"), "31m", ENCLAVE, RETIRED),
    Case("RegistrationEnds", {EXPIRES: "3600x170 7200x170"}, ("29m", "50m"), None),
    Case("RegistrationEnds", {EXPIRES: "0x60"}, ("5m",), None),
    Case(
        "EnclaveClockDrifts",
        {DRIFT: "0x12 -3x60"},
        ("2m", "6m"),
        "8m",
        ENCLAVE,
        "the clock of enclave:8080 is 3 s from the hypervisor's",
    ),
    Case(
        "KeyServerDown",
        {series("up", **KEY_SERVER): "1x12 0x60"},
        ("2m", "6m"),
        "8m",
        KEY_SERVER,
        "key-server-2 does not answer",
    ),
    Case("SeedNotOpen", {GENERATION: "0x60", OPEN: "0x60", LISTED: "0x60"}, ("1m",), "3m", KMS, SEED),
    Case("SeedNotOpen", {GENERATION: "2x60", OPEN: "1x60", LISTED: "2x60"}, ("1m",), "3m", KMS, SEED),
    Case("SeedNotOpen", {GENERATION: "2x60", OPEN: "2x60", LISTED: "2x60"}, ("9m",), None),
    Case(
        "KmsCallsFail",
        {REFUSED: "0x12 0+1x90", series("daas_kms_calls_total", method="decrypt", answer="ok", **KMS): "0+9x100"},
        ("2m", "5m"),
        "15m",
        {"answer": "seed-not-open", **KMS},
        "the KMS plugin refuses its API server: seed-not-open",
    ),
    Case(
        "SecretsNotSealed",
        {secrets("current"): "9x90", secrets("plain"): "0x12 1x60", secrets("broken"): "0x90"},
        ("2m", "6m"),
        "8m",
        {"policy": "default"},
        "Secrets labelled for default are not sealed, or not as they should be",
    ),
    Case(
        "WebhooksSlow",
        {webhook("0.5"): "0+5x120", webhook("2.5"): "0+5x60 300+6x60", webhook("+Inf"): "0+5x60 300+6x60"},
        ("9m", "11m"),
        "20m",
        {"path": "/authz"},
        "the gateway takes 2.38 s to answer the API server on /authz",
    ),
    Case(
        "BlobsEnd",
        {FIRST_END: "90000x500"},
        ("50m", "69m"),
        "75m",
        {"instance": "storage:8080"},
        "evidence in Walrus ends within a day and has not been renewed",
    ),
    Case("BlobsEnd", {FIRST_END: "0x90"}, ("15m",), None),
    Case(
        "StorageBehind",
        {series("daas_storage_waiting", kind="evidence", service="storage"): "0x12 2000x90"},
        ("2m", "11m"),
        "13m",
        {"kind": "evidence"},
        "2000 values of kind evidence wait to be stored",
    ),
]


def rules() -> dict[str, dict[str, Any]]:
    """Every alert of the file, by name."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def unit_test(case: Case) -> dict[str, Any]:
    """A case as promtool reads it."""
    rule = rules()[case.alert]
    expected = {
        "exp_labels": {**rule["labels"], **case.labels},
        "exp_annotations": {**rule["annotations"], "summary": case.summary},
    }
    expectations: list[dict[str, Any]] = [
        {"eval_time": at, "alertname": case.alert, "exp_alerts": []} for at in case.quiet
    ]
    if case.firing is not None:
        expectations.append({"eval_time": case.firing, "alertname": case.alert, "exp_alerts": [expected]})
    return {
        "name": f"{case.alert} {case.series}",
        "interval": INTERVAL,
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": expectations,
    }


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool on this machine")
    return found


def test_every_alert_has_a_case_in_which_it_fires_and_a_time_at_which_it_is_quiet() -> None:
    firing = {case.alert for case in CASES if case.firing is not None}
    assert firing == rules().keys()
    assert {case.alert for case in CASES if case.quiet} == rules().keys()
    for name, rule in rules().items():
        said = {case.summary for case in CASES if case.alert == name and case.firing is not None}
        pattern = re.sub(r"\\\{\\\{.*?\\\}\\\}", ".+", re.escape(rule["annotations"]["summary"]))
        assert all(re.fullmatch(pattern, each) for each in said), name


def test_every_alert_is_quiet_and_fires_as_its_cases_say(tmp_path: Path) -> None:
    file = tmp_path / "alerts_test.yml"
    file.write_text(
        yaml.safe_dump(
            {"rule_files": [str(RULES)], "evaluation_interval": INTERVAL, "tests": [unit_test(case) for case in CASES]}
        )
    )
    tested = subprocess.run([promtool(), "test", "rules", file], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_promtool_accepts_the_alert_rules_and_the_configuration(tmp_path: Path) -> None:
    text = (ROOT / "infra/prometheus/prometheus.yml").read_text(encoding="utf-8")
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/", f"{RULES.parent}/"))
    for what, path in (("rules", RULES), ("config", config)):
        checked = subprocess.run([promtool(), "check", what, path], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
