"""What the services say of themselves, judged: readiness, clocks, registrations, gas, backlog, refused permissions."""

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from daas.common.bus.inspection import Finding, Grade

_TIMEOUT: Final = aiohttp.ClientTimeout(total=6)
#: An HTTP date has whole seconds; beyond this, certificates and registrations are judged differently by two machines.
CLOCK_S_MAX: Final = 3.0
#: Every service gets through this in seconds; more is a service that does not keep up or is held up.
BACKLOG_MAX: Final = 1_000
#: The enclave waits where 256 decisions are not anchored.
UNANCHORED_MAX: Final = 64
#: Below this the next renewal can no longer fail twice.
EXPIRY_MS_MIN: Final = 10 * 60_000
_DENIED: Final = re.compile(r"^daas_nats_permission_errors_total (\d+)", re.MULTILINE)

#: What to do about a readiness check that fails, by its reason.
ADVICE: Final = {
    "nats-unreachable": "look at NATS and at the service's DAAS_NATS_URL",
    "nats-disconnected": "look at NATS and at the service's DAAS_NATS_URL",
    "stream-missing": "`daas bus apply`",
    "consumer-missing": "`daas bus apply --consumers`, or DAAS_NATS_DECLARE=true",
    "not-registered": "look at the relay's log for why the document was refused: PCRs allowed, policy, root, nonce",
    "registration-expired": "look at relay and ledger: the renewal was not registered in time",
    "clock-drift": "set the parent's clock (chrony) and restart the enclave; see docs/production.md",
    "clock-unknown": "look at the enclave's log: the NSM does not answer",
    "catching-up": "wait: the log is being folded; if it stays, look at stream LOG and the enclave's log",
    "ledger-away": "look at the full node; name a second one in DAAS_RELAY_LEDGER_URL",
    "no-gas": "send SUI to the relay's account",
}


@dataclass(frozen=True)
class Answer:
    """What one service answered; `error` where it did not.

    Attributes:
        skew_s: its clock minus ours, as the HTTP date shows it.
    """

    name: str
    ready: dict[str, Any]
    status: dict[str, Any]
    metrics: str = ""
    skew_s: float = 0.0
    error: str = ""


async def ask(names: dict[str, str]) -> list[Answer]:
    """Asks every service, all at once."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        return await asyncio.gather(*(_ask(session, name, url) for name, url in sorted(names.items())))


async def _ask(session: aiohttp.ClientSession, name: str, url: str) -> Answer:
    try:
        async with session.get(f"{url}/readyz") as response:
            ready = await response.json(content_type=None)
            date = response.headers.get("Date")
            skew_s = parsedate_to_datetime(date).timestamp() - time.time() if date else 0.0
        async with session.get(f"{url}/status") as response:
            status = await response.json(content_type=None)
        async with session.get(f"{url}/metrics") as response:
            return Answer(name, ready, status, await response.text(), skew_s)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return Answer(name, {}, {}, error=f"{type(error).__name__}: {error}")


def judge(answer: Answer, now_ms: int) -> Iterator[Finding]:
    """Everything that one service's answers say."""
    what = f"service {answer.name}"
    if answer.error:
        yield Finding(
            Grade.WRONG,
            what,
            f"does not answer ({answer.error})",
            "start it, or look at its log: exit 2 names a setting",
        )
        return
    failing = {n: check for n, check in answer.ready.get("checks", {}).items() if not check.get("ok")}
    for name, check in failing.items():
        reason = str(check.get("reason"))
        advice = ADVICE.get(reason, "look at its log; docs/production.md has the runbook")
        yield Finding(Grade.WRONG, f"{what}: {name}", f"{check.get('message', '')} ({reason})", advice)
    if not failing:
        yield Finding(Grade.OK, what, f"ready for {answer.status.get('uptime_s', 0):.0f} s")
    yield from _clock(answer)
    yield from _permissions(answer)
    yield from _backlog(answer)
    kind = answer.status.get("service")
    if kind == "enclave":
        yield from enclave(what, answer.status, now_ms)
    elif kind == "relay":
        yield from _relay(what, answer.status)
    elif kind == "gateway" and answer.status.get("trusts_relay"):
        said = "binds on the relay's word, without a look at the ledger"
        yield Finding(
            Grade.WARNING, what, said, "DAAS_GATEWAY_LEDGER_URL, _PACKAGE and _REGISTRY let it look for itself"
        )


def _clock(answer: Answer) -> Iterator[Finding]:
    # The date is cut to its second, so the service's clock is between it and a second more.
    apart = min(abs(answer.skew_s), abs(answer.skew_s + 1.0))
    if apart > CLOCK_S_MAX:
        yield Finding(
            Grade.WRONG,
            f"clock of {answer.name}",
            f"is about {answer.skew_s:+.0f} s from this machine's",
            "run a time service (chrony) on both: certificates, registrations and batches are judged by time",
        )


def _permissions(answer: Answer) -> Iterator[Finding]:
    match = _DENIED.search(answer.metrics.replace(".0", ""))
    if match is not None and int(match[1]) > 0:
        yield Finding(
            Grade.WRONG,
            f"permissions of {answer.name}",
            f"NATS refused it {match[1]} subject(s)",
            "the log names them (`nats refused`); `daas bus check --config`; docs/production.md#nats-refuses-a-service",
        )


def _backlog(answer: Answer) -> Iterator[Finding]:
    for label, facts in answer.status.get("consumers", {}).items():
        pending = facts.get("pending", 0) + facts.get("unacknowledged", 0)
        if pending > BACKLOG_MAX:
            yield Finding(
                Grade.WARNING,
                f"backlog of {answer.name}",
                f"{pending} messages on {label} wait",
                "look whether it grows (Grafana: consumers); if so, look at what the service waits for",
            )


def enclave(what: str, status: dict[str, Any], now_ms: int) -> Iterator[Finding]:
    """Registration, certificate, clock and un-anchored decisions of an enclave."""
    for field, thing in (("expires_ms", "registration"), ("leaf_not_after_ms", "certificate under the registration")):
        until = status.get(field)
        if until is None:
            continue
        left_min = (until - now_ms) // 60_000
        if until - now_ms < EXPIRY_MS_MIN:
            yield Finding(
                Grade.WARNING if until > now_ms else Grade.WRONG,
                f"{what}: {thing}",
                f"ends in {left_min} min" if until > now_ms else "is over",
                "the enclave should have a new key by now: look at the relay (gas, ledger) and at refused documents",
            )
        else:
            yield Finding(Grade.OK, f"{what}: {thing}", f"lasts {left_min} min more")
    drift_ms = status.get("clock_drift_ms")
    if drift_ms is not None and abs(drift_ms) > 1_000:
        yield Finding(Grade.WARNING, f"{what}: clock", f"is {drift_ms} ms from the hypervisor's", ADVICE["clock-drift"])
    unanchored = status.get("unanchored", 0)
    if unanchored > UNANCHORED_MAX:
        yield Finding(
            Grade.WRONG,
            f"{what}: decisions",
            f"{unanchored} are not anchored",
            "look at the relay: ledger, gas, refusals (docs/production.md#decisions-are-not-anchored)",
        )


def _relay(what: str, status: dict[str, Any]) -> Iterator[Finding]:
    balance = status.get("balance_mist")
    if balance is None:
        return
    sui = f"{balance / 1e9:.3f} SUI on {status.get('account')}"
    if status.get("low_balance"):
        yield Finding(Grade.WARNING, f"{what}: gas", sui, "send SUI to this account before anchoring stops")
    else:
        yield Finding(Grade.OK, f"{what}: gas", sui)


def roles(answers: list[Answer]) -> Iterator[Finding]:
    """Exactly one enclave is active; the storage's newest batch is near the ledger's."""
    found = [a.status.get("role") for a in answers if a.status.get("service") == "enclave"]
    if found and found.count("active") != 1:
        yield Finding(
            Grade.WARNING,
            "enclaves",
            f"roles: {', '.join(str(role) for role in found)}",
            "one is active as soon as a decision is due; two at once cost gas for copies and no more",
        )
