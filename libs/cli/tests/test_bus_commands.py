"""`daas bus apply|check|keys` against a real server: what differs from the catalogue is named, with what to do."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from daas.cli.bus import bus_app
from daas.common.bus import Bus, BusSettings
from daas.common.nats_config import authorization
from daas.common.nkeys import nkey_public
from daas.common.subjects import Service
from daas.devstack.nats import NatsServer

CLUSTER = "test"
runner = CliRunner(env={"COLUMNS": "240"})


def run(*arguments: str) -> Result:
    return runner.invoke(bus_app, list(arguments))


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats") as server:
        yield server


async def daas_bus(nats: NatsServer, command: str, *more: str) -> Result:
    return await asyncio.to_thread(run, command, "--nats-url", nats.url, "--cluster", CLUSTER, *more)


async def findings(nats: NatsServer, *more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = await daas_bus(nats, "check", "-o", "json", *more)
    return result.exit_code, {f"{f['grade']} {f['what']}": f for f in json.loads(result.output)["findings"]}


def of(found: dict[str, dict[str, Any]], grade: str) -> list[str]:
    return [key.removeprefix(f"{grade} ") for key in found if key.startswith(f"{grade} ")]


@pytest.mark.connected
@pytest.mark.timeout(300)
async def test_a_server_is_checked_from_empty_to_complete_and_whatever_was_changed_since(nats: NatsServer) -> None:
    code, found = await findings(nats)
    assert code == 1
    assert "stream TEST_LOG" in of(found, "wrong")
    assert "apply" in found["wrong stream TEST_LOG"]["advice"]

    assert (await daas_bus(nats, "apply")).exit_code == 0
    code, found = await findings(nats)
    assert code == 0, "durables are made by their services"
    assert "consumer TEST_PLACEMENT > relay-placement-decided" in of(found, "warning")

    assert (await daas_bus(nats, "apply", "--consumers")).exit_code == 0
    code, found = await findings(nats)
    assert (code, of(found, "wrong"), of(found, "warning")) == (0, [], [])
    assert "consumer TEST_ADVISORY > storage-advisories" in of(found, "ok")

    async with await Bus.connect(Service.OPERATOR, BusSettings(nats_url=nats.url, cluster=CLUSTER)) as bus:
        durable = (await bus.jetstream.consumer_info("TEST_PLACEMENT", "gateway-placement-anchored")).config
        await bus.jetstream.add_consumer("TEST_PLACEMENT", durable.evolve(ack_wait=77))
    _, found = await findings(nats)
    assert of(found, "warning") == ["consumer TEST_PLACEMENT > gateway-placement-anchored"]
    assert "waits 77.0 s" in found["warning consumer TEST_PLACEMENT > gateway-placement-anchored"]["says"]
    assert (await daas_bus(nats, "apply", "--consumers")).exit_code == 0
    assert of((await findings(nats))[1], "warning") == []

    async with await Bus.connect(Service.OPERATOR, BusSettings(nats_url=nats.url, cluster=CLUSTER)) as bus:
        log = (await bus.jetstream.stream_info("TEST_LOG")).config
        await bus.jetstream.update_stream(log.evolve(max_age=600))
        await bus.jetstream.add_stream(name="TEST_TAP", subjects=["daas.v1.test.tapped.>"])
        await bus.jetstream.delete_consumer("TEST_PLACEMENT", "relay-placement-decided")
        await bus.jetstream.add_consumer(
            "TEST_PLACEMENT", durable_name="relay-placement-decided", ack_policy="explicit"
        )
        await bus.jetstream.add_consumer("TEST_SECRET", durable_name="somebody", ack_policy="explicit")
    code, found = await findings(nats)
    assert code == 1
    assert of(found, "wrong") == ["stream TEST_LOG", "consumer TEST_PLACEMENT > relay-placement-decided"]
    assert "max_age is 600" in found["wrong stream TEST_LOG"]["says"]
    assert sorted(of(found, "warning")) == ["consumer TEST_SECRET > somebody", "stream TEST_TAP"]


def test_keys_are_made_once_readable_by_their_owner_alone(tmp_path: Path) -> None:
    first = run("keys", str(tmp_path / "keys"))
    assert first.exit_code == 0
    seeds = sorted((tmp_path / "keys").glob("*.seed"))
    assert [seed.stem for seed in seeds] == sorted(service.value for service in Service)
    assert {stat.S_IMODE(seed.stat().st_mode) for seed in seeds} == {0o600}
    for seed in seeds:
        assert nkey_public(seed.read_text()) == seed.with_suffix(".pub").read_text().strip()
        assert seed.read_text() not in first.output
    again = run("keys", str(tmp_path / "keys"))
    assert again.output == first.output.replace(" made", " kept")
    seeds[0].chmod(0o644)
    refused = run("keys", str(tmp_path / "keys"))
    assert refused.exit_code == 1
    assert getattr(refused.exception, "reason", "") == "key-mode"


def _configuration(change: Callable[[dict[str, Any]], object]) -> str:
    """A server's configuration as it is rendered, changed by hand."""
    keys = {service: f"{service.value}-password-of-the-test" for service in Service}
    block = json.loads(authorization(CLUSTER, keys).removeprefix("authorization: "))
    users = {user["user"]: user for user in block["users"]}
    change(users)
    block["users"] = list(users.values())
    return f"port: -1\nauthorization: {json.dumps(block)}\n"


FORGED, NEEDED = "daas.v1.test.placement.decided", "daas.v1.test.placement.anchored"


@pytest.mark.parametrize(
    ("user", "change", "says"),
    [
        ("gateway", lambda given: given["publish"]["allow"].append(FORGED), f"{FORGED}, which the catalogue does not"),
        ("relay", lambda given: given["publish"]["allow"].remove(NEEDED), f"may not publish {NEEDED}"),
        ("monitor", lambda given: given.pop("publish"), "may publish everything"),
        ("seal-keeper", lambda given: given.pop("allow_responses"), "may not answer requests"),
    ],
)
@pytest.mark.connected
async def test_permissions_that_were_changed_by_hand_are_named(
    nats: NatsServer, tmp_path: Path, user: str, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    assert (await daas_bus(nats, "apply")).exit_code == 0
    path = tmp_path / "nats.conf"
    path.write_text(_configuration(lambda users: users))
    code, found = await findings(nats, "--config", str(path))
    assert code == 0, of(found, "wrong")
    path.write_text(_configuration(lambda users: change(users[user]["permissions"])))
    code, found = await findings(nats, "--config", str(path))
    assert (code, of(found, "wrong")) == (1, [f"user {user}"])
    assert says in found[f"wrong user {user}"]["says"]
