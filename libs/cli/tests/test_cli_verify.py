"""`daas verify` and `daas evidence` as people and programs use them: what they print, and how they exit."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daas.cli.context import Context, load_context
from daas.cli.verify import check_file, evidence_app, trust_of, verify_app
from daas.common.errors import ConfigurationError
from daas.devstack.etcd import EtcdServer
from daas.etcd import EtcdClient
from daas.evidence import Keys, encode_file
from daas.evidence.writer import EtcdWriter

sys.path.insert(0, str(Path(__file__).parents[2] / "evidence" / "tests" / "support"))

from evidence_world import CLUSTER, World, small_world

WORLD = small_world()
runner = CliRunner(env={"COLUMNS": "200"})


def context_of(world: World, **changes: object) -> dict[str, object]:
    trust, measurement = world.trust, world.measurement
    return {
        "cluster": CLUSTER,
        "nats_url": "nats://127.0.0.1:1",
        "etcd_endpoints": ["http://127.0.0.1:1"],
        "registry": "0x" + trust.registry.hex(),
        "chain": trust.chain.hex(),
        "attestation_root": trust.attestation_root.hex(),
        "allowed_pcrs": {"0": measurement.pcr0.hex(), "1": measurement.pcr1.hex(), "2": measurement.pcr2.hex()},
        "simulated": True,
    } | changes


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "context.json"
    path.write_text(json.dumps(context_of(WORLD)))
    monkeypatch.setenv("DAAS_CONTEXT", str(path))
    return path


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    path = tmp_path / "evidence.json"
    path.write_bytes(encode_file(WORLD.case(3)))
    return path


@pytest.mark.usefixtures("context")
def test_every_check_of_a_file_is_shown_with_a_tick_and_the_exit_code_is_0(evidence: Path) -> None:
    result = runner.invoke(verify_app, ["pod", "default", "web-3-1", "--evidence", str(evidence), "--offline"])
    assert result.exit_code == 0, result.output
    assert result.output.count("✓") == 12
    assert "simulated" in result.output
    assert "12 checks passed, 2 not made (offline)" in result.output


@pytest.mark.usefixtures("context")
def test_one_changed_bit_is_shown_with_a_cross_and_the_exit_code_is_1(evidence: Path) -> None:
    data = evidence.read_bytes()
    at = data.index(b'"tx_digest":"Anchored3"') + len(b'"tx_digest":"A')
    evidence.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    result = runner.invoke(verify_app, ["pod", "default", "web-3-1", "--evidence", str(evidence), "--offline"])
    assert result.exit_code == 1
    assert "✗ evidence" in result.output
    assert "refused by: evidence" in result.output


@pytest.mark.usefixtures("context")
def test_without_offline_a_missing_ledger_fails_the_checks_that_need_it(evidence: Path) -> None:
    result = runner.invoke(verify_app, ["batch", "--evidence", str(evidence), "-o", "json"])
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert report["failed"] == ["registration", "anchor"]
    assert {c["compared"] for c in report["checks"] if c["outcome"] == "unchecked"} == {"not checked: no ledger given"}


def test_a_ledger_that_does_not_answer_is_no_reason_to_go_without(context: Path, evidence: Path) -> None:
    changes = {"ledger_url": "http://127.0.0.1:1", "package": "0x" + "11" * 32}
    context.write_text(json.dumps(context_of(WORLD, **changes)))
    result = runner.invoke(verify_app, ["batch", "3", "--evidence", str(evidence), "-o", "json"])
    assert result.exit_code == 1
    failed = {c["name"]: c["compared"] for c in json.loads(result.output)["checks"] if c["outcome"] == "failed"}
    assert set(failed) == {"registration", "anchor"}


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize(
    "arguments",
    [["pod", "default"], ["batch"], ["batch", "0"], ["batch", "--evidence", "/nowhere"], ["all", "--from", "x"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert runner.invoke(verify_app, arguments).exit_code == 2


@pytest.mark.usefixtures("context")
def test_export_wants_a_pod_or_a_number(tmp_path: Path) -> None:
    result = runner.invoke(evidence_app, ["export", "a/b/c", str(tmp_path / "x")])
    assert result.exit_code == 2


def test_without_a_context_the_command_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAAS_CONTEXT", raising=False)
    result = runner.invoke(verify_app, ["batch", "1"])
    assert result.exit_code == 2
    assert "daas up" in result.output


def test_a_field_of_the_context_can_be_overruled_by_the_environment(context: Path) -> None:
    environment = {"DAAS_CONTEXT": str(context), "DAAS_CONTEXT_ETCD_ENDPOINTS": "http://a:1, http://b:2"}
    assert load_context(environment).etcd_endpoints == ("http://a:1", "http://b:2")
    assert load_context(environment | {"DAAS_CONTEXT_POLICY": '{"expires_ms": 5}'}).policy.expires_ms == 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"simulated": False}, "contradictory-context"),
        ({"chain": "00"}, "invalid-context"),
        ({"allowed_pcrs": []}, "invalid-context"),
        ({"surprise": 1}, "invalid-context"),
    ],
)
def test_a_context_that_can_not_be_meant_is_refused(context: Path, changes: dict[str, object], reason: str) -> None:
    context.write_text(json.dumps(context_of(WORLD, **changes)))
    with pytest.raises(ConfigurationError, match=reason):
        load_context({"DAAS_CONTEXT": str(context)})


def test_several_images_may_be_allowed_at_once(context: Path) -> None:
    image = context_of(WORLD)["allowed_pcrs"]
    context.write_text(json.dumps(context_of(WORLD, allowed_pcrs=[image, image])))
    assert len(trust_of(load_context({"DAAS_CONTEXT": str(context)})).measurements) == 2


def test_a_file_can_be_checked_without_the_command_line(context: Path, evidence: Path) -> None:
    loaded: Context = load_context({"DAAS_CONTEXT": str(context)})
    assert asyncio.run(check_file(loaded, evidence, sequence=3, offline=True)).ok


@pytest.fixture
def stored(tmp_path: Path, context: Path) -> Iterator[None]:
    """A real etcd with the evidence of the world's batches."""

    async def serve() -> tuple[EtcdServer, str]:
        server = EtcdServer(tmp_path / "etcd")
        await server.start()
        async with EtcdClient([server.endpoint], timeout_ms=20_000) as etcd:
            writer = EtcdWriter(etcd, Keys(CLUSTER))
            for bundle in WORLD.bundles.values():
                await writer.evidence(bundle, bundle.decision())
        return server, server.endpoint

    with asyncio.Runner() as loop:
        server, endpoint = loop.run(serve())
        context.write_text(json.dumps(context_of(WORLD, etcd_endpoints=[endpoint])))
        yield
        loop.run(server.stop())


@pytest.mark.connected
@pytest.mark.usefixtures("stored")
def test_pods_batches_and_the_whole_chain_are_verified_from_the_cluster_and_exported(tmp_path: Path) -> None:
    pod = runner.invoke(verify_app, ["pod", "default", "web-2-0", "--offline"])
    assert pod.exit_code == 0, pod.output
    assert "pod default/web-2-0, batch 2" in pod.output
    assert runner.invoke(verify_app, ["batch", "3", "--offline"]).exit_code == 0
    everything = runner.invoke(verify_app, ["all", "--offline"])
    assert everything.exit_code == 0, everything.output
    assert "one unbroken chain" in everything.output
    as_json = json.loads(runner.invoke(verify_app, ["all", "--offline", "-o", "json", "--from", "2"]).output)
    assert [report["sequence"] for report in as_json["reports"]] == [2, 3]
    file = tmp_path / "exported.json"
    assert runner.invoke(evidence_app, ["export", "default/web-2-0", str(file)]).exit_code == 0
    assert file.read_bytes() == encode_file(WORLD.case(2))
    assert runner.invoke(evidence_app, ["export", "3", str(file)]).exit_code == 0
    missing = runner.invoke(verify_app, ["pod", "default", "nobody", "--offline"])
    assert missing.exit_code == 1
    assert "no evidence about pod default/nobody" in missing.output
