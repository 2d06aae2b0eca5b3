"""The command line on an etcd that asks for TLS, a certificate and a user, with a context as the guide writes it."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.guarded_etcd import GuardedEtcd
from typer.testing import CliRunner

from daas.cli.audit import audit_app
from daas.cli.context import Context, load_context
from daas.cli.doctor.servers import etcd as look_at_etcd
from daas.cli.explain import explain_app
from daas.cli.verify import evidence_app, verify_app
from daas.common.errors import Refused
from daas.etcd import Credentials, EtcdClient
from daas.evidence import Keys, encode_file
from daas.evidence.writer import EtcdWriter

sys.path.insert(0, str(Path(__file__).parents[2] / "libs/evidence/tests/support"))

from evidence_world import CLUSTER, small_world

pytestmark = [pytest.mark.connected, pytest.mark.timeout(120)]
ROOT = Path(__file__).resolve().parents[2]
CLI = ROOT / "libs/cli/src/daas/cli"
WORLD = small_world()
runner = CliRunner(env={"COLUMNS": "200"})


def sample() -> dict[str, Any]:
    """The context of docs/production.md."""
    text = (ROOT / "docs/production.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```json\n(\{\n  \"cluster\".*?)^```", text, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = json.loads(block)
    return found


def test_the_guides_context_is_complete_and_is_taken_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "context.json"
    path.write_text(json.dumps(sample()))
    context = load_context({"DAAS_CONTEXT": str(path)})
    assert not context.simulated
    assert set(sample()) == {field.name for field in msgspec.structs.fields(Context)}


def test_every_command_reaches_etcd_by_the_one_way() -> None:
    others = {path.name for path in CLI.rglob("*.py") if re.search(r"\bEtcdClient\(", path.read_text(encoding="utf-8"))}
    assert others == {"stores.py"}


async def prepare(etcd: GuardedEtcd) -> None:
    """Evidence, and a user who may read it and nothing else."""
    await etcd.__aenter__()
    async with EtcdClient([etcd.endpoint], tls=etcd.tls, timeout_ms=20_000) as client:
        for number in (1, 2):
            bundle = WORLD.case(number).bundle
            await EtcdWriter(client, Keys(CLUSTER)).evidence(bundle, bundle.decision())
    await etcd.etcdctl("user", "add", "root:root-word")
    await etcd.etcdctl("user", "grant-role", "root", "root")
    await etcd.etcdctl("user", "add", "reader:reader-word")
    await etcd.etcdctl("role", "add", "reading")
    await etcd.etcdctl("role", "grant-permission", "reading", "--prefix=true", "read", Keys(CLUSTER).root)
    await etcd.etcdctl("user", "grant-role", "reader", "reading")
    await etcd.etcdctl("auth", "enable")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedEtcd]:
    etcd = GuardedEtcd(tmp_path_factory.mktemp("guarded") / "etcd")
    with asyncio.Runner() as loop:
        loop.run(prepare(etcd))
        yield etcd
        loop.run(etcd.__aexit__())


@pytest.fixture
def guarded(server: GuardedEtcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The guide's context, of this etcd and this chain; the file is what `DAAS_CONTEXT` names."""
    (tmp_path / "password").write_text("reader-word\n")
    trust, measured = WORLD.trust, WORLD.measurement
    context = sample() | {
        "cluster": CLUSTER,
        "etcd_endpoints": [server.endpoint],
        "etcd_ca_file": str(server.folder / "cert.pem"),
        "etcd_certificate_file": str(server.folder / "cert.pem"),
        "etcd_key_file": str(server.folder / "key.pem"),
        "etcd_password_file": str(tmp_path / "password"),
        "registry": "0x" + trust.registry.hex(),
        "chain": trust.chain.hex(),
        "attestation_root": trust.attestation_root.hex(),
        "allowed_pcrs": {"0": measured.pcr0.hex(), "1": measured.pcr1.hex(), "2": measured.pcr2.hex()},
        "simulated": True,
        "walrus_aggregators": [],
    }
    (tmp_path / "context.json").write_text(json.dumps(context))
    monkeypatch.setenv("DAAS_CONTEXT", str(tmp_path / "context.json"))
    return context


def test_evidence_is_verified_explained_exported_and_searched_through_tls_as_a_user(
    guarded: dict[str, Any], tmp_path: Path
) -> None:
    for app, arguments in (
        (verify_app, ["pod", "default", "web-2-1", "--offline"]),
        (verify_app, ["batch", "2", "--offline"]),
        (verify_app, ["all", "--offline"]),
        (explain_app, ["pod", "default/web-2-1", "--offline"]),
        (evidence_app, ["export", "2", str(tmp_path / "taken.json")]),
        (audit_app, ["search", "--since", "1d"]),
    ):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
    found = asyncio.run(look_at_etcd(msgspec.convert(guarded, Context)))
    assert "evidence up to batch 2" in found[-1].says


def test_who_may_only_read_restores_nothing(guarded: dict[str, Any], tmp_path: Path) -> None:
    assert guarded["etcd_user"] == "reader"
    (tmp_path / "taken.json").write_bytes(encode_file(WORLD.case(3)))
    refused = runner.invoke(evidence_app, ["import", str(tmp_path / "taken.json"), "--offline"])
    assert refused.exit_code == 1
    assert isinstance(refused.exception, Refused)
    assert refused.exception.reason == "etcd-not-allowed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"etcd_user": None, "etcd_password_file": None}, "etcd"),
        ({"etcd_certificate_file": None, "etcd_key_file": None}, "etcd"),
        ({"etcd_key_file": None}, "go together"),
        ({"etcd_password_file": None}, "go together"),
        ({"etcd_ca_file": None}, "go together"),
        ({"etcd_endpoints": ["http://127.0.0.1:1"]}, "go together"),
        ({"etcd_password_file": "/nowhere/password"}, "unreadable-file"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_read(
    guarded: dict[str, Any], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    (tmp_path / "context.json").write_text(json.dumps(guarded | changes))
    result = runner.invoke(verify_app, ["batch", "2", "--offline", "-o", "json"])
    assert result.exit_code == (2 if reason == "go together" else 1), result.output
    assert re.search(reason, f"{result.output} {result.exception}"), (result.output, result.exception)
    assert "reader-word" not in result.output


def test_a_user_is_never_shown_with_the_password() -> None:
    assert "word" not in repr(Credentials("reader", "reader-word"))
