"""`daas audit search` over a real archive, and `daas evidence import` into a real store."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daas.cli.audit import audit_app, moment_ms
from daas.cli.verify import evidence_app, verify_app
from daas.common import merkle
from daas.common.errors import InvalidInput
from daas.devstack.etcd import EtcdServer
from daas.etcd import EtcdClient
from daas.evidence import Keys, encode_file
from daas.evidence.audit import encode_events, summary_of
from daas.evidence.packing import Backend, packed
from daas.evidence.writer import EtcdWriter

sys.path.insert(0, str(Path(__file__).parents[2] / "evidence" / "tests" / "support"))

from evidence_world import CLUSTER, small_world

pytestmark = pytest.mark.connected
WORLD = small_world()
runner = CliRunner(env={"COLUMNS": "200"})


def event(hour: int, user: str, resource: str, name: str, code: int = 200) -> dict[str, Any]:
    return {
        "auditID": f"{hour}-{user}-{name}",
        "stageTimestamp": f"2026-03-01T{hour:02}:00:00.000000Z",
        "verb": "get",
        "user": {"username": user},
        "objectRef": {"resource": resource, "namespace": "default", "name": name},
        "responseStatus": {"code": code},
    }


BATCHES = (
    [event(1, "alice", "pods", "a"), event(2, "bob", "secrets", "b", 403)],
    [event(3, "alice", "secrets", "b"), event(4, "carol", "configmaps", "c", 404)],
)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def serve() -> EtcdServer:
        server = EtcdServer(tmp_path / "etcd")
        await server.start()
        keys = Keys(CLUSTER)
        async with EtcdClient([server.endpoint], timeout_ms=20_000) as etcd:
            writer = EtcdWriter(etcd, keys)
            for batch in BATCHES:
                data, summary = encode_events(batch), summary_of(batch)
                key = keys.audit(summary.last_ms, merkle.digest(data).hex())
                value = packed(key, "audit", data, audit=summary)
                await writer.bytes_of([value])
                await writer.manifests([value], Backend.ETCD, {}, ())
        return server

    with asyncio.Runner() as loop:
        server = loop.run(serve())
        measurement, trust = WORLD.measurement, WORLD.trust
        context = tmp_path / "context.json"
        pcrs = {"0": measurement.pcr0.hex(), "1": measurement.pcr1.hex(), "2": measurement.pcr2.hex()}
        context.write_text(
            json.dumps(
                {
                    "cluster": CLUSTER,
                    "nats_url": "nats://127.0.0.1:1",
                    "etcd_endpoints": [server.endpoint],
                    "registry": "0x" + trust.registry.hex(),
                    "chain": trust.chain.hex(),
                    "attestation_root": trust.attestation_root.hex(),
                    "allowed_pcrs": pcrs,
                    "simulated": True,
                }
            )
        )
        monkeypatch.setenv("DAAS_CONTEXT", str(context))
        yield
        loop.run(server.stop())


def found(*arguments: str) -> list[str]:
    result = runner.invoke(audit_app, ["search", "--since", "2026-03-01", "-o", "json", *arguments])
    assert result.exit_code == 0, result.output
    return [json.loads(line)["auditID"] for line in result.output.splitlines()]


@pytest.mark.usefixtures("archive")
def test_events_are_found_by_time_user_resource_and_verdict_and_by_all_of_them() -> None:
    everything = ["1-alice-a", "2-bob-b", "3-alice-b", "4-carol-c"]
    assert found() == everything
    assert found("--until", "2026-03-01T02:30:00Z") == everything[:2]
    assert found("--user", "alice") == ["1-alice-a", "3-alice-b"]
    assert found("--resource", "secrets") == ["2-bob-b", "3-alice-b"]
    assert found("--resource", "secrets/default/b", "--user", "bob") == ["2-bob-b"]
    assert found("--verdict", "forbid") == ["2-bob-b"]
    assert found("--verdict", "error") == ["4-carol-c"]
    assert found("--user", "mallory") == []
    assert found("--limit", "3") == everything[:3]


@pytest.mark.usefixtures("archive")
def test_the_table_names_who_did_what_and_what_came_of_it() -> None:
    shown = runner.invoke(audit_app, ["search", "--since", "2026-03-01", "--verdict", "forbid"])
    assert shown.exit_code == 0, shown.output
    for word in ("bob", "get", "secrets", "default/b", "forbid", "403", "1 events"):
        assert word in shown.output
    assert runner.invoke(audit_app, ["search", "--verdict", "perhaps"]).exit_code == 2
    assert runner.invoke(audit_app, ["search", "--since", "yesterday"]).exit_code == 2


@pytest.mark.usefixtures("archive")
def test_a_file_is_imported_where_its_batch_is_missing_and_only_if_it_verifies(tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    file.write_bytes(encode_file(WORLD.case(1)))
    assert runner.invoke(verify_app, ["batch", "1", "--offline"]).exit_code == 1
    first, again = (runner.invoke(evidence_app, ["import", str(file), "--offline"]) for _ in range(2))
    assert "evidence of batch 1 stored" in first.output
    assert "was stored already" in again.output
    assert runner.invoke(verify_app, ["pod", "default", "web-1-0", "--offline"]).exit_code == 0
    damaged = file.read_bytes().replace(b'"signature"', b'"signatur"', 1)
    file.write_bytes(damaged if damaged != file.read_bytes() else b"{}")
    assert runner.invoke(evidence_app, ["import", str(file), "--offline"]).exit_code == 1


def test_a_moment_is_a_time_or_how_long_ago() -> None:
    assert moment_ms("2026-03-01T00:00:00Z", 0) == moment_ms("2026-03-01", 0) == 1_772_323_200_000
    assert moment_ms("90s", 100_000) == 10_000
    assert moment_ms("2d", 2 * 86_400_000) == 0
    with pytest.raises(InvalidInput, match="usage"):
        moment_ms("soon", 0)
