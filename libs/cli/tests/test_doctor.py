"""What `daas doctor` makes of what services and servers say: one thing is broken at a time."""

from typing import Any

import pytest

from daas.cli.doctor.servers import NATS_MIN, looked, version
from daas.cli.doctor.services import BACKLOG_MAX, EXPIRY_MS_MIN, UNANCHORED_MAX, Answer, judge, roles
from daas.common.bus.inspection import Finding, Grade
from daas.common.errors import Unavailable

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
METRICS = "# TYPE daas_nats_permission_errors_total counter\ndaas_nats_permission_errors_total 0.0\n"
STATUS: dict[str, dict[str, Any]] = {
    "enclave": {
        "service": "enclave",
        "uptime_s": 12.5,
        "role": "active",
        "expires_ms": NOW_MS + 20 * HOUR_MS,
        "leaf_not_after_ms": NOW_MS + 2 * HOUR_MS,
        "clock_drift_ms": 3,
        "unanchored": 2,
        "consumers": {},
    },
    "relay": {
        "service": "relay",
        "uptime_s": 12.5,
        "balance_mist": 5_000_000_000,
        "low_balance": False,
        "account": "0xabc",
        "consumers": {"placement.decided": {"pending": 3, "unacknowledged": 64}},
    },
}


def answer(name: str, **changes: Any) -> Answer:
    status = STATUS[name] | changes.pop("status", {})
    fields: dict[str, Any] = {
        "ready": {"ready": True, "checks": {"nats": {"ok": True}}},
        "status": status,
        "metrics": METRICS,
    }
    return Answer(name, **(fields | changes))


def bad(given: Answer) -> list[Finding]:
    return [finding for finding in judge(given, NOW_MS) if finding.grade is not Grade.OK]


@pytest.mark.parametrize("name", STATUS)
def test_a_service_that_is_well_has_nothing_to_look_at(name: str) -> None:
    assert bad(answer(name)) == []
    assert next(finding.what for finding in judge(answer(name), NOW_MS)) == f"service {name}"


def failing(reason: str) -> dict[str, Any]:
    return {"ready": False, "checks": {"nats": {"ok": True}, "x": {"ok": False, "reason": reason, "message": "m"}}}


BROKEN = {
    "no answer": (answer("relay", error="ClientConnectorError"), Grade.WRONG, "service relay", "log"),
    "not registered": (answer("enclave", ready=failing("not-registered")), Grade.WRONG, "service enclave: x", "PCRs"),
    "no gas": (answer("relay", ready=failing("no-gas")), Grade.WRONG, "service relay: x", "SUI"),
    "another reason": (answer("relay", ready=failing("surprise")), Grade.WRONG, "service relay: x", "runbook"),
    "clock behind": (answer("relay", skew_s=-30.0), Grade.WRONG, "clock of relay", "chrony"),
    "clock ahead": (answer("relay", skew_s=30.0), Grade.WRONG, "clock of relay", "chrony"),
    "refused by NATS": (
        answer("relay", metrics=METRICS.replace("_total 0.0", "_total 2.0")),
        Grade.WRONG,
        "permissions of relay",
        "bus check",
    ),
    "backlog": (
        answer("relay", status={"consumers": {"placement.decided": {"pending": BACKLOG_MAX + 1}}}),
        Grade.WARNING,
        "backlog of relay",
        "waits for",
    ),
    "registration ends": (
        answer("enclave", status={"expires_ms": NOW_MS + EXPIRY_MS_MIN - 1}),
        Grade.WARNING,
        "service enclave: registration",
        "relay",
    ),
    "registration over": (
        answer("enclave", status={"expires_ms": NOW_MS - 1}),
        Grade.WRONG,
        "service enclave: registration",
        "relay",
    ),
    "certificate ends": (
        answer("enclave", status={"leaf_not_after_ms": NOW_MS + 60_000}),
        Grade.WARNING,
        "service enclave: certificate under the registration",
        "relay",
    ),
    "enclave's clock": (
        answer("enclave", status={"clock_drift_ms": -4_000}),
        Grade.WARNING,
        "service enclave: clock",
        "chrony",
    ),
    "not anchored": (
        answer("enclave", status={"unanchored": UNANCHORED_MAX + 1}),
        Grade.WRONG,
        "service enclave: decisions",
        "relay",
    ),
    "gas runs low": (answer("relay", status={"low_balance": True}), Grade.WARNING, "service relay: gas", "SUI"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_broken_thing_is_one_finding_that_says_what_to_do(name: str) -> None:
    given, grade, what, advice = BROKEN[name]
    [found] = bad(given)
    assert (found.grade, found.what) == (grade, what)
    assert advice in found.advice


def test_two_active_enclaves_are_worth_a_look() -> None:
    active, standby = answer("enclave"), answer("enclave", status={"role": "standby"})
    assert list(roles([active, standby])) == []
    [found] = roles([active, active])
    assert found.grade is Grade.WARNING
    assert list(roles([answer("relay")])) == []


@pytest.mark.parametrize(
    ("text", "grade"), [("2.12.2", Grade.OK), ("2.11", Grade.OK), ("2.9.25", Grade.WRONG), ("", Grade.WRONG)]
)
def test_a_server_that_is_too_old_is_wrong(text: str, grade: Grade) -> None:
    assert version("NATS", text, NATS_MIN).grade is grade


async def test_a_server_that_does_not_answer_is_a_finding_and_not_an_end() -> None:
    async def away() -> list[Finding]:
        raise Unavailable("nobody listens", reason="away")

    [found] = await looked("etcd", away, "start it")
    assert (found.grade, found.what, found.advice) == (Grade.WRONG, "etcd", "start it")
