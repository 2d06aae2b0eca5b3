"""The servers under a cluster, judged: versions, answers, streams, dead letters, and how far the ledger is."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from daas.cli.context import Context
from daas.cli.stores import etcd_of
from daas.common.bus import Bus, BusSettings
from daas.common.bus.inspection import Finding, Grade, inspect
from daas.common.errors import DaasError
from daas.common.subjects import Service, Stream
from daas.evidence import EvidenceStore
from daas.kube.client import KubeClient
from daas.ledger import Ledger

#: What this was built and tested with; older servers lack what is used.
NATS_MIN: Final = (2, 11)
ETCD_MIN: Final = (3, 5)
KUBERNETES_MIN: Final = (1, 32)
#: Batches that storage may be behind: it writes within seconds.
EVIDENCE_LAG_MAX: Final = 100
_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)")


def version(what: str, text: str, least: tuple[int, int]) -> Finding:
    """Whether a server is new enough."""
    match = _NUMBERS.search(text)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    if found < least:
        wanted = ".".join(map(str, least))
        return Finding(Grade.WRONG, f"version of {what}", text, f"use {wanted} or newer")
    return Finding(Grade.OK, f"version of {what}", text)


async def looked(what: str, look: Callable[[], Awaitable[list[Finding]]], advice: str) -> list[Finding]:
    """The findings, or the one that it could not be looked at."""
    try:
        return await look()
    except DaasError as error:
        return [Finding(Grade.WRONG, what, f"{error.message} ({error.reason})", advice)]


async def bus(context: Context) -> list[Finding]:
    """NATS: version, streams, durables, dead letters."""
    settings = BusSettings(nats_url=context.nats_url, cluster=context.cluster, nats_start_timeout_s=5)
    async with await Bus.connect(Service.CLI, settings) as connection:
        findings = [version("NATS", str(connection.client.connected_server_version), NATS_MIN)]
        findings += _shortened(await inspect(connection))
        first, last = await connection.stream_bounds(Stream.DLQ)
        letters = last - first + 1 if last else 0
        if letters > 0:
            findings.append(
                Finding(
                    Grade.WARNING,
                    "dead letters",
                    f"{letters} messages that nobody could take",
                    "`nats stream view <CLUSTER>_DLQ` says why; docs/production.md#dead-letters",
                )
            )
    return findings


def _shortened(findings: list[Finding]) -> list[Finding]:
    """What is as it should be in one line."""
    good = sum(finding.grade is Grade.OK for finding in findings)
    rest = [finding for finding in findings if finding.grade is not Grade.OK]
    return [Finding(Grade.OK, "bus", f"{good} streams, durables and buckets as the catalogue wants them"), *rest]


async def etcd(context: Context) -> list[Finding]:
    """etcd: version, size, how far the evidence is."""
    async with etcd_of(context) as client:
        status = await client.status()
        newest = await EvidenceStore(client, context.cluster).latest()
    return [
        version("etcd", status.version, ETCD_MIN),
        Finding(Grade.OK, "etcd", f"{status.database_bytes} bytes, evidence up to batch {newest}"),
    ]


async def ledger(context: Context) -> list[Finding]:
    """The ledger: answers, chain, package and registry versions, and whether storage keeps up with it."""
    if context.ledger_url is None or context.package is None:
        return [Finding(Grade.WARNING, "ledger", "the context names none", "set ledger_url and package in the context")]
    async with await Ledger.connect(context.ledger_url, package=context.package) as client:
        chain = (await client.chain_digest()).hex()
        registry = await client.registry(context.registry)
        current = await client.package_version()
    findings = [Finding(Grade.OK, "ledger", f"chain {chain[:12]}…, {registry.sequence} batches anchored")]
    if chain != context.chain:
        findings.append(
            Finding(Grade.WRONG, "ledger", f"is of chain {chain}, expected {context.chain}", "name another full node")
        )
    if registry.version != current:
        findings.append(
            Finding(
                Grade.WRONG,
                "version of the registry",
                f"{registry.version}, the package is at {current}",
                "migrate it: docs/upgrade.md",
            )
        )
    if registry.simulated != context.simulated:
        findings.append(
            Finding(Grade.WRONG, "registry", f"simulated={registry.simulated}", "the context is of another cluster")
        )
    async with etcd_of(context) as store:
        behind = registry.sequence - await EvidenceStore(store, context.cluster).latest()
    if behind > EVIDENCE_LAG_MAX:
        findings.append(
            Finding(Grade.WARNING, "evidence", f"is {behind} batches behind the ledger", "look at storage and etcd")
        )
    return findings


async def kubernetes(context: Context) -> list[Finding]:
    """The API server: answers, version."""
    if context.kubeconfig is None:
        return []
    async with await KubeClient.connect(Path(context.kubeconfig)) as client:
        said: dict[str, Any] = msgspec.json.decode(await client.request("GET", "/version"))
    return [version("Kubernetes", str(said.get("gitVersion", "")), KUBERNETES_MIN)]
