"""The whole gateway as a process between a real nats-server and a real API server, killed at bad moments."""

import asyncio
import base64
import functools
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from daas.common.bus import Bus, BusSettings
from daas.common.errors import ConfigurationError
from daas.common.messages import DeadLetter, Message, PlacementBindFailed, PlacementBound, decode
from daas.common.subjects import PLACEMENT_ANCHORED, PLACEMENT_DECIDED, Service, Stream
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.gateway.settings import GatewaySettings
from daas.placement.log import decode_entry, decode_event

DEADLINE_S = 120.0


class House:
    """A gateway, its servers, and the two neighbours who speak to it."""

    def __init__(self, gateway: Process, enclave: Bus, relay: Bus, decide: Any, anchor: Any) -> None:
        self.gateway = gateway
        self.enclave = enclave
        self.relay = relay
        self._decide = decide
        self._anchor = anchor

    async def place(self, sequence: int, places: list[tuple[str, str, str | None]], **options: Any) -> None:
        """Publishes a decision and its anchor, as enclave and relay would."""
        decided = self._decide(sequence, places, **options)
        stored = await self.enclave.publish(PLACEMENT_DECIDED, decided, message_id=f"decided/{sequence}")
        await self.relay.publish(
            PLACEMENT_ANCHORED, self._anchor(decided, stored), message_id=f"anchored/{decided.payload_digest}"
        )

    async def stored(self, stream: Stream) -> list[Any]:
        first, last = await self.relay.stream_bounds(stream)
        return [await self.relay.fetch(stream, sequence) for sequence in range(max(first, 1), last + 1)]

    async def facts(self, kind: type[Message], name: str) -> list[Any]:
        bodies = [
            decode(message.data, kind)
            for message in await self.stored(Stream.PLACEMENT)
            if message.subject.endswith(f".{name}")
        ]
        return [one for body in bodies for one in (body.each() if isinstance(body, PlacementBound) else [body])]

    async def log_events(self) -> list[dict[str, Any]]:
        return [
            msgspec.to_builtins(decode_event(raw))
            for message in await self.stored(Stream.LOG)
            for raw in decode_entry(message.data).events
        ]

    async def get(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(self.gateway.ready["http"] + path) as response:
            return response.status, await response.text()


async def eventually(probe: Callable[[], Any], what: str) -> Any:
    """The first true answer of an async probe."""
    end = time.monotonic() + DEADLINE_S
    while True:
        found = await probe()
        if found:
            return found
        assert time.monotonic() < end, what
        await asyncio.sleep(0.05)


@pytest.fixture
async def house(apiserver: Any, tmp_path: Path, decide: Any, anchor: Any) -> AsyncIterator[House]:
    async with NatsServer(tmp_path / "nats") as nats:
        settings = BusSettings(nats_url=nats.url, cluster="test")
        gateway = Process(
            "gateway",
            ["python", "-m", "daas.gateway"],
            log_path=tmp_path / "gateway.log",
            env={
                "DAAS_NATS_URL": nats.url,
                "DAAS_CLUSTER": "test",
                "DAAS_GATEWAY_KUBECONFIG": str(apiserver.kubeconfig),
                "DAAS_GATEWAY_TRUST_RELAY": "true",
            },
        )
        async with Bus(Service.ENCLAVE, settings) as enclave, Bus(Service.RELAY, settings) as relay:
            await relay.declare()
            yield House(gateway, enclave, relay, decide, anchor)
            await gateway.terminate()


@pytest.mark.connected
async def test_from_watch_to_bound_fact_over_real_servers(house: House, cluster: Any) -> None:
    await cluster.node("n1")
    uid = await cluster.pod("a")
    huge = await cluster.pod("huge", cpu="64")
    await house.gateway.start()

    async def listed() -> list[dict[str, Any]]:
        events = [event for event in await house.log_events() if event["type"] != "namespace_upserted"]
        return events[:5] if len(events) >= 5 else []

    assert [event["type"] for event in await eventually(listed, "no resync")] == [
        "resync_started",
        "node_upserted",
        "pod_upserted",
        "pod_upserted",
        "resync_finished",
    ]
    await house.place(1, [(uid, "a", "n1"), (huge, "huge", None)], reasons=1 << 5)
    (bound,) = await eventually(lambda: house.facts(PlacementBound, "placement.bound"), "not bound")
    assert (bound.pod_uid, bound.node, bound.sequence, bound.index) == (uid, "n1", 1, 0)
    pod = await cluster.get_pod("a")
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["metadata"]["annotations"]["k3s-daas.io/proof"] == "1/0"

    async def logged() -> bool:
        return any(event.get("pod", {}).get("spec", {}).get("nodeName") == "n1" for event in await house.log_events())

    await eventually(logged, "the bound pod did not reach the log")

    async def reported() -> bool:
        return {event["reason"] for event in await cluster.events()} == {"Scheduled", "FailedScheduling"}

    await eventually(reported, "no events")
    status, ready = await house.get("/readyz")
    assert status == 200, ready

    async def shown() -> bool:
        status = json.loads((await house.get("/status"))[1])
        return bool(status["pods"] == 2 and status["decision_settled"] == 1)

    await eventually(shown, "the status does not follow")
    _, metrics = await house.get("/metrics")
    assert "daas_gateway_bound_total 1.0" in metrics


@pytest.mark.connected
async def test_a_failed_bind_is_a_fact_and_goes_back_into_the_log(house: House, cluster: Any) -> None:
    await cluster.node("n1", cpu="1")
    uid = await cluster.pod("big", cpu="2")
    await house.gateway.start()
    await house.place(1, [(uid, "big", "n1")])
    (failed,) = await eventually(lambda: house.facts(PlacementBindFailed, "placement.bind_failed"), "no fact")
    assert (failed.pod_uid, failed.reason, failed.sequence) == (uid, "capacity", 1)
    events = [event for event in await house.log_events() if event["type"] == "bind_failed"]
    assert events == [{"type": "bind_failed", "uid": uid, "sequence": 1, "node": "n1", "reason": "capacity"}]


@pytest.mark.connected
async def test_log_time_goes_on_while_a_pod_waits(house: House, cluster: Any) -> None:
    await cluster.node("n1")
    await cluster.pod("waits")
    await house.gateway.start()

    async def ticks() -> list[int]:
        entries = [decode_entry(message.data) for message in await house.stored(Stream.LOG)]
        return [entry.timestamp_ms for entry in entries if not entry.events]

    async def two() -> list[int]:
        found = await ticks()
        return found if len(found) >= 2 else []

    found = await eventually(two, "no ticks")
    assert all(later - earlier >= 1_000 for earlier, later in itertools.pairwise(found))


@pytest.mark.connected
async def test_an_anchor_whose_decision_was_altered_is_buried_and_binds_nothing(
    house: House, cluster: Any, decide: Any, anchor: Any
) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    uid = await cluster.pod("a")
    await house.gateway.start()
    stored = await house.enclave.publish(PLACEMENT_DECIDED, decide(1, [(uid, "a", "n2")]), message_id="decided/forged")
    body = anchor(decide(1, [(uid, "a", "n1")]), stored)
    await house.relay.publish(PLACEMENT_ANCHORED, body, message_id="anchored/forged")

    async def letters() -> list[DeadLetter]:
        return [decode(message.data, DeadLetter) for message in await house.stored(Stream.DLQ)]

    (letter,) = await eventually(letters, "not buried")
    assert letter.reason == "not-the-anchored-decision"
    assert json.loads(base64.b64decode(letter.body))["payload_digest"] == body.payload_digest
    assert "nodeName" not in (await cluster.get_pod("a"))["spec"]


@pytest.mark.connected
async def test_a_gateway_killed_in_the_middle_of_its_binds_binds_every_pod_once(house: House, cluster: Any) -> None:
    for index in range(4):
        await cluster.node(f"n{index}", cpu="64")
    uids = {f"p{index}": await cluster.pod(f"p{index}", cpu="10m") for index in range(120)}
    names = list(uids)
    await house.gateway.start()
    for sequence in range(1, 7):
        part = names[20 * (sequence - 1) : 20 * sequence]
        await house.place(sequence, [(uids[name], name, f"n{sequence % 4}") for name in part])

    async def bound_at_least(count: int) -> bool:
        return len(await house.facts(PlacementBound, "placement.bound")) >= count

    for count in (1, 40, 80):
        await eventually(functools.partial(bound_at_least, count), f"{count} not bound")
        await house.gateway.kill()
        await house.gateway.start()

    async def all_bound() -> bool:
        return {fact.name for fact in await house.facts(PlacementBound, "placement.bound")} == set(names)

    await eventually(all_bound, "pods were lost")
    facts = await house.facts(PlacementBound, "placement.bound")
    assert len(facts) == len(names), "each exactly once"
    assert len({(fact.name, fact.node, fact.sequence) for fact in facts}) == len(names)
    assert not await house.facts(PlacementBindFailed, "placement.bind_failed")
    for name in names:
        assert (await cluster.get_pod(name))["spec"]["nodeName"] == next(f.node for f in facts if f.name == name)


def test_the_relays_word_is_taken_only_where_a_setting_says_so() -> None:
    ledger: dict[str, Any] = {
        "gateway_ledger_url": "http://n",
        "gateway_package": f"0x{1:064x}",
        "gateway_registry": f"0x{2:064x}",
    }
    trusting = {"gateway_trust_relay": True}
    assert GatewaySettings.model_validate(ledger).gateway_trust_relay is False
    assert GatewaySettings.model_validate(trusting).gateway_ledger_url is None
    for given in ({}, ledger | trusting):
        with pytest.raises(ConfigurationError, match=r"DAAS_GATEWAY_TRUST_RELAY=true.*one of the two"):
            GatewaySettings.model_validate(given)


async def test_help_lists_every_setting_and_unknown_ones_refuse_to_start(tmp_path: Path) -> None:
    told = Process("help", ["python", "-m", "daas.gateway", "--help"], log_path=tmp_path / "help", announces=False)
    await told.start()
    assert await told.wait() == 0
    text = (tmp_path / "help").read_text()
    assert "DAAS_GATEWAY_KUBECONFIG" in text
    assert "DAAS_GATEWAY_BIND_CONCURRENCY" in text
    refused = Process(
        "refused",
        ["python", "-m", "daas.gateway"],
        log_path=tmp_path / "refused",
        env={"DAAS_GATEWAY_WINDOW": "5"},
        announces=False,
    )
    await refused.start()
    assert await refused.wait() == 2
    assert "DAAS_GATEWAY_WINDOW" in (tmp_path / "refused").read_text()
