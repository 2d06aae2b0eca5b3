"""Public objects become facts: their public part when it changes, their end, and never what is not for the public."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from daas.common.errors import DecodeError, Unavailable
from daas.common.messages import MetadataChanged, encode
from daas.gateway.publicdata import PublicData, version_of

pytestmark = pytest.mark.connected
TIME = "2026-01-01T00:00:00Z"
Until = Callable[..., Awaitable[None]]


class Told:
    """PublicData at work, and the facts it told."""

    def __init__(self, client: Any) -> None:
        self.facts: dict[str, MetadataChanged] = {}
        self.refusals = 0
        self.data = PublicData(client, self._publish, CollectorRegistry(), watch_timeout_s=60)
        self.task = asyncio.create_task(self.data.run())

    async def _publish(self, fact: MetadataChanged, message_id: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the bus is away", reason="test")
        self.facts[message_id] = fact

    def of(self, kind: str, name: str) -> list[MetadataChanged]:
        return [fact for fact in self.facts.values() if (fact.kind, fact.name) == (kind, name)]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def told(cluster: Any) -> AsyncIterator[Told]:
    made = Told(cluster.client)
    yield made
    await made.stop()


async def config_map(cluster: Any, name: str, data: dict[str, str], **metadata: Any) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data}
    await cluster.client.request("POST", "/api/v1/namespaces/default/configmaps", body=body)


async def test_a_config_map_is_told_when_it_is_made_changed_and_gone(cluster: Any, told: Told, until: Until) -> None:
    await config_map(cluster, "app", {"mode": "fast"})
    await until(lambda: told.of("ConfigMap", "app"), "made")
    await cluster.client.request(
        "PATCH",
        "/api/v1/namespaces/default/configmaps/app",
        content_type="application/merge-patch+json",
        body={"data": {"mode": "slow"}},
    )
    await until(lambda: len(told.of("ConfigMap", "app")) == 2, "changed")
    told.refusals = 1
    await cluster.client.request("DELETE", "/api/v1/namespaces/default/configmaps/app")
    await until(lambda: len(told.of("ConfigMap", "app")) == 3, "gone, though the bus was away")
    made, changed, gone = told.of("ConfigMap", "app")
    assert (made.object["data"], changed.object["data"]) == ({"mode": "fast"}, {"mode": "slow"})
    assert (gone.deleted, gone.object, gone.uid) == (True, None, made.uid)
    assert made.resource_version < changed.resource_version < gone.resource_version


async def test_what_is_not_for_the_public_is_told_by_name_and_reason_alone(
    cluster: Any, told: Told, until: Until
) -> None:
    await config_map(cluster, "keys", {"env": "DB_PASSWORD=swordfish"})
    await config_map(cluster, "labelled", {"plain": "swordfish"}, labels={"k3s-daas.io/sensitive": "true"})
    await until(lambda: told.of("ConfigMap", "keys") and told.of("ConfigMap", "labelled"), "told")
    (keys,), (labelled,) = told.of("ConfigMap", "keys"), told.of("ConfigMap", "labelled")
    assert (keys.object, keys.withheld) == (None, "secret-password")
    assert (labelled.object, labelled.withheld) == (None, "sensitive-label")
    assert not any(b"swordfish" in encode(fact) for fact in told.facts.values())


async def test_a_node_is_told_without_addresses_and_not_again_for_its_heartbeats(
    cluster: Any, told: Told, until: Until
) -> None:
    await cluster.node("n1", cpu="4")
    await until(lambda: any(f.object["status"].get("capacity") for f in told.of("Node", "n1")), "with its capacity")
    before = len(told.of("Node", "n1"))
    await cluster.client.request(
        "PATCH",
        "/api/v1/nodes/n1/status",
        content_type="application/merge-patch+json",
        body={"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": TIME}]}},
    )
    await cluster.patch_node("n1", {"spec": {"unschedulable": True}})
    await until(lambda: any(f.object["spec"] for f in told.of("Node", "n1")), "cordoned")
    assert len(told.of("Node", "n1")) == before + 1
    assert set(told.of("Node", "n1")[-1].object["status"]) <= {"capacity", "allocatable", "nodeInfo"}


async def test_a_full_list_names_everything_there_is(cluster: Any, told: Told, until: Until) -> None:
    await until(lambda: len({f.kind for f in told.of("Namespace", "*") + told.of("ConfigMap", "*")}) == 2, "listed")
    (listed,) = told.of("Namespace", "*")
    assert listed.listed is not None
    assert "/default" in listed.listed
    told.data.check()


def test_a_resource_version_that_is_no_number_is_refused() -> None:
    assert version_of("17") == 17
    for text in ("", "x", "1" * 19):
        with pytest.raises(DecodeError, match="resource-version"):
            version_of(text)
