"""Prometheus itself on a running system: targets, metrics, dashboards and alerts as an operator would meet them."""

import asyncio
import json
import re
import ssl
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import kube_of, running
from support.prometheus import RULES, Prometheus, prometheus_binary

from daas.devstack.stack import Stack
from daas.identity import issue
from daas.ledger import Signer

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| [^|]+ \| ([^|]+) \|", re.MULTILINE)

pytestmark = [
    pytest.mark.connected,
    pytest.mark.timeout(240),
    pytest.mark.skipif(prometheus_binary() is None, reason="no prometheus on this machine"),
]

#: Panels without a series in a system where nothing has gone wrong: what they count begins with the first trouble.
EMPTY_WHILE_ALL_IS_WELL = {
    "Dead letters",
    "Bindings that failed",
    "Batches refused",
    "Full nodes in trouble",
    "Failed deliveries",
}


def panels() -> dict[str, str]:
    """Dashboard and title of every panel to its expression."""
    found = {}
    for path in sorted((ROOT / "infra/grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            found[f"{path.stem}: {panel['title']}"] = panel["targets"][0]["expr"]
    return found


def alerts() -> dict[str, str]:
    """Name of every alert to its expression."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


async def work(stack: Stack) -> None:
    """Pods that are placed, one that is not, and a Secret that is sealed."""
    async with kube_of(stack) as client:
        await create_nodes(client, [node(f"node-{n}") for n in range(2)])
        await create_namespace(client, "work")
        await create_pods(client, [*(pod(f"pod-{n}", "work") for n in range(10)), pod("huge", "work", cpu="100")])
        await wait_for_pods(client, "work", lambda seen: sum(bool(p.spec.node_name) for p in seen) == 10, timeout_s=120)
        managed = {"metadata": {"name": "shop", "labels": {"k3s-daas.io/managed": "true"}}}
        await client.request("POST", "/api/v1/namespaces", body=managed)
        labels = {"k3s-daas.io/seal-policy": "default"}
        body = {"metadata": {"name": "db", "labels": labels}, "stringData": {"password": "x"}}
        await client.request("POST", "/api/v1/namespaces/shop/secrets", body=body)


async def log_in(stack: Stack) -> None:
    """A person with a Sui key and no stake asks for pods: a login, an access review, and a refusal."""
    token = await issue(
        Signer.generate(stack.state_dir / "person.key"),
        cluster=stack.cluster,
        audience="k3s",
        now_ms=time.time_ns() // 1_000_000,
        lifetime_ms=600_000,
    )
    trusted = ssl.create_default_context(cafile=str(stack.state_dir / "apiserver/ca.crt"))
    url = f"{stack.ready('apiserver', 'url')}/api/v1/namespaces/work/pods"
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=trusted) as answer:
        assert answer.status == HTTPStatus.FORBIDDEN, await answer.text()


async def check_targets(prometheus: Prometheus) -> None:
    async def all_up() -> bool:
        active = (await prometheus.get("targets", state="active"))["activeTargets"]
        return len(active) == 9 and all(target["health"] == "up" for target in active)

    await prometheus.until("every target up", all_up)


async def check_metrics(prometheus: Prometheus) -> None:
    """Every documented metric is exposed; one without labels has its series, one with labels may still have none."""
    rows = ROW.findall((ROOT / "docs/metrics.md").read_text(encoding="utf-8"))
    assert len(rows) > 90
    exposed = {each["metric"]: each["type"] for each in await prometheus.get("targets/metadata")}
    shown = set(await prometheus.get("label/__name__/values"))
    for name, kind, labels in rows:
        assert exposed.get(name) == kind, name
        if labels.strip() == "-":
            assert (f"{name}_count" if kind == "histogram" else name) in shown, name


async def check_panels(prometheus: Prometheus) -> None:
    """Every panel shows something, but those that count troubles."""
    waiting = panels()
    empty = {name for name in waiting if name.partition(": ")[2] in EMPTY_WHILE_ALL_IS_WELL}
    assert len(empty) == len(EMPTY_WHILE_ALL_IS_WELL)

    async def all_shown() -> bool:
        for name, expression in list(waiting.items()):
            if await prometheus.query(expression):
                waiting.pop(name)
        return waiting.keys() <= empty

    try:
        await prometheus.until("every panel shown", all_shown)
    except AssertionError:
        raise AssertionError(f"panels without a series: {sorted(waiting.keys() - empty)}") from None


async def firing(prometheus: Prometheus) -> dict[str, dict[str, Any]]:
    found = (await prometheus.get("alerts"))["alerts"]
    return {each["labels"]["alertname"]: each for each in found if each["state"] == "firing"}


async def test_all_is_scraped_and_shown_and_what_dies_is_told(tmp_path: Path) -> None:
    async with running(tmp_path / "stack") as stack, Prometheus(tmp_path / "prometheus", stack) as prometheus:
        await asyncio.gather(work(stack), log_in(stack), check_targets(prometheus))
        await check_metrics(prometheus)
        await check_panels(prometheus)
        for expression in alerts().values():
            await prometheus.query(expression)
        groups = (await prometheus.get("rules"))["groups"]
        loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert loaded.keys() == alerts().keys()
        assert {rule["health"] for rule in loaded.values()} == {"ok"}
        assert await firing(prometheus) == {}

        await stack.kill("storage")
        await prometheus.until("storage told", lambda: told(prometheus, "ServiceDown"))
        alert = (await firing(prometheus))["ServiceDown"]
        assert alert["annotations"]["summary"] == "storage does not answer"
        assert (alert["labels"]["service"], alert["labels"]["severity"]) == ("storage", "page")


async def told(prometheus: Prometheus, name: str) -> bool:
    return name in await firing(prometheus)
