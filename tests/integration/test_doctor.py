"""`daas doctor` on a running stack: well, and with one part after the other taken away."""

import asyncio
import re
from pathlib import Path

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.facts import bus_of, running

from daas.cli.context import Context
from daas.cli.doctor.command import examine
from daas.common.bus.inspection import Finding, Grade
from daas.common.errors import InvalidInput
from daas.common.subjects import Service, Stream
from daas.devstack.stack import Stack

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]


ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = re.compile(r"^\| `(daas_\w+)` \| (\w+) \|", re.MULTILINE)


def wrong(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.grade is Grade.WRONG]


async def assert_metrics_are_documented(stack: Stack) -> None:
    """Every metric that a running service shows has its row in docs/metrics.md, with the kind that it has."""
    rows = DOCUMENTED.findall((ROOT / "docs/metrics.md").read_text(encoding="utf-8"))
    documented = {name.removesuffix("_total"): kind for name, kind in rows}
    async with aiohttp.ClientSession() as session:
        for url in stack.context()["services"].values():
            async with session.get(f"{url}/metrics") as answer:
                families = text_string_to_metric_families(await answer.text())
            shown = {f.name: f.type for f in families if f.name.startswith("daas_") and not f.name.endswith("_created")}
            assert shown
            assert shown.items() <= documented.items(), sorted(shown.items() - documented.items())


async def test_what_is_taken_away_is_named_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        context = msgspec.convert(stack.context(), Context)
        await assert_metrics_are_documented(stack)
        well = await examine(context)
        assert wrong(well) == [], well
        assert {"bus", "etcd", "ledger", "version of NATS", "version of Kubernetes"} <= {f.what for f in well}

        async with bus_of(stack, Service.OPERATOR) as bus:
            log = (await bus.jetstream.stream_info("DEV_CHAIN")).config
            await bus.jetstream.update_stream(log.evolve(max_bytes=1 << 20))
            assert wrong(await examine(context)) == ["stream DEV_CHAIN"]
            await bus.jetstream.update_stream(log)
        async with bus_of(stack, Service.RELAY) as bus:
            async for stored in bus.read(Stream.ENCLAVE):
                await bus.dead_letter(stored, InvalidInput("by the test", reason="test"))
                break
        assert "dead letters" in [f.what for f in await examine(context) if f.grade is Grade.WARNING]

        await stack.kill("gateway")
        assert wrong(await examine(context)) == ["service gateway"]
        await asyncio.gather(stack.start_service("gateway"), stack.kill("ledger"))
        context = msgspec.convert(stack.context(), Context)
        found = wrong(await examine(context))
        assert {"ledger", "service relay: ledger"} <= set(found)
        assert all("ledger" in what for what in found), "the ledger and who needs it"
