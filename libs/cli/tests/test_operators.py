"""The operators' commands against a real embedded ledger: stake, nodes, governance, images."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.next_package import next_package
from typer.testing import CliRunner

from daas.cli.ledger import mist, sui
from daas.cli.main import app
from daas.common.errors import ConfigurationError, DaasError, InvalidInput
from daas.devstack.process import Process
from daas.ledger import MoveAbortError

pytestmark = pytest.mark.connected

PCRS = ("--pcr0", "11" * 48, "--pcr1", "22" * 48, "--pcr2", "33" * 48)


class World:
    """A ledger, a key with money, and a published package."""

    def __init__(self, directory: Path, ready: dict[str, str]) -> None:
        self.keystore = directory / "operator.key"
        self.ready = ready
        self.environment = {"DAAS_KEYSTORE": str(self.keystore), "DAAS_CONTEXT": str(directory / "context.json")}
        made = self.run_json("chain", "init", str(self.keystore))
        self.address = made["address"]
        self.run("chain", "fund", "--faucet", ready["faucet"], "--amount", "1000")
        published = self.run_json("chain", "publish", "--ledger-url", ready["url"], *PCRS, "--simulated", "--yes")
        context = {
            "cluster": "test",
            "nats_url": "nats://127.0.0.1:1",
            "etcd_endpoints": ["http://127.0.0.1:1"],
            "ledger_url": ready["url"],
            "registry": published["registry"],
            "chain": published["chain"],
            "package": published["package"],
            "attestation_root": "44" * 32,
            "allowed_pcrs": {"0": "11" * 48, "1": "22" * 48, "2": "33" * 48},
            "simulated": True,
        }
        (directory / "context.json").write_text(json.dumps(context))

    def run(self, *arguments: str, answer: str | None = None) -> Any:
        return CliRunner().invoke(app, list(arguments), env=self.environment, input=answer)

    def run_json(self, *arguments: str) -> dict[str, Any]:
        done = self.run(*arguments, "-o", "json")
        assert done.exit_code == 0, (done.output, done.exception)
        said: dict[str, Any] = json.loads(done.output)
        return said


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("operators")
    with asyncio.Runner() as runner:
        ledger = Process(
            "ledger",
            [
                *("python", "-m", "daas.devstack.ledger", "--state", directory / "ledger"),
                *("--package-digest", next_package().digest),
            ],
            log_path=directory / "ledger.log",
        )
        ready = runner.run(ledger.start())
        yield World(directory, ready)
        runner.run(ledger.terminate())


def test_a_new_key_is_private_and_never_overwritten(world: World) -> None:
    assert stat.S_IMODE(world.keystore.stat().st_mode) == 0o600
    again = world.run("chain", "init", str(world.keystore))
    assert isinstance(again.exception, ConfigurationError)
    assert again.exception.reason == "keystore-exists"


def test_the_registry_shows_that_it_is_simulated(world: World) -> None:
    status = world.run_json("chain", "status")
    assert status["simulated"] is True
    assert status["anchored batches"] == 0
    assert "simulated" in world.run("chain", "status").output


def test_stake_is_deposited_shown_and_unbonded_after_a_question(world: World) -> None:
    world.run_json("stake", "deposit", "100")
    assert world.run_json("stake", "show")["bonded"] == "100 SUI"
    refused = world.run("stake", "withdraw", "40", answer="n\n")
    assert refused.exit_code == 1
    assert world.run_json("stake", "show", world.address)["unbonding"] == "0 SUI"
    asked = world.run("stake", "withdraw", "40", answer="y\n")
    assert asked.exit_code == 0
    shown = world.run_json("stake", "show")
    assert (shown["bonded"], shown["unbonding"], shown["free"]) == ("60 SUI", "40 SUI", "0 SUI")


def test_a_node_is_registered_drained_and_deregistered(world: World) -> None:
    assert world.run_json("node", "register", "edge-1")["operator"] == world.address
    taken = world.run("node", "register", "edge-1")
    assert isinstance(taken.exception, MoveAbortError)
    assert world.run_json("node", "heartbeat", "edge-1")["name"] == "edge-1"
    assert world.run_json("node", "drain", "edge-1", "--yes")["draining"] is True
    world.run_json("node", "deregister", "edge-1", "--yes")
    gone = world.run("node", "show", "edge-1")
    assert isinstance(gone.exception, DaasError)
    assert gone.exception.reason == "no-node"


def test_a_proposal_is_made_voted_on_and_not_executed_before_its_time(world: World) -> None:
    world.run_json("stake", "deposit", "50")
    proposed = world.run_json("govern", "propose", "parameters", "quorum_bps=2500")
    address = proposed["proposal"]
    assert proposed["does"] == "change the stake parameters"
    voted = world.run_json("govern", "vote", address, "yes", "--yes")
    assert voted["accepted so far"] is True
    early = world.run("govern", "execute", address, "--yes")
    assert isinstance(early.exception, MoveAbortError)
    assert world.run_json("govern", "show", address)["executed"] is False


def test_nodes_and_proposals_are_listed(world: World) -> None:
    world.run_json("node", "register", "edge-2")
    nodes: Any = world.run_json("node", "list")
    assert [node["name"] for node in nodes] == ["edge-2"]
    assert "edge-2" in world.run("node", "list").output
    world.run_json("stake", "deposit", "1")
    proposed = world.run_json("govern", "propose", "limits", "future_skew_ms=30000")["proposal"]
    proposals: Any = world.run_json("govern", "list")
    assert proposals[0]["proposal"] == proposed
    assert "change the time limits" in world.run("govern", "list").output


def test_the_gas_of_the_signer_or_of_anyone_else_is_shown(world: World) -> None:
    own = world.run_json("chain", "status")
    assert own["account"] == world.address
    assert own["gas"].endswith(" SUI")
    assert own["gas"] != "0 SUI"
    assert world.run_json("chain", "status", "0x" + "07" * 32)["gas"] == "0 SUI"


def test_an_unknown_parameter_is_named_with_those_that_there_are(world: World) -> None:
    wrong = world.run("govern", "propose", "parameters", "quorum=1")
    assert isinstance(wrong.exception, InvalidInput)
    assert "quorum_bps" in wrong.exception.message


def test_an_image_is_allowed_and_retired(world: World) -> None:
    allowed = world.run_json("enclave", "allow", "--pcr0", "55" * 48, "--pcr1", "66" * 48, "--pcr2", "77" * 48)
    assert allowed["images"] == 2
    world.run_json("enclave", "retire", "2", "--yes")
    assert world.run_json("chain", "status")["images"] == 1


def test_money_moves_to_the_address_balance(world: World) -> None:
    moved = world.run_json("chain", "deposit-gas", "2.5")
    assert moved["deposited"] == "2.5 SUI"
    assert mist(moved["in all"].removesuffix(" SUI")) - mist(moved["coins"].removesuffix(" SUI")) == 2_500_000_000


def test_the_package_is_upgraded_and_the_clusters_objects_follow(world: World, tmp_path: Path) -> None:
    built = tmp_path / "daas.json"
    built.write_bytes(msgspec.json.encode(next_package()))
    refused = world.run("chain", "upgrade", "--package", str(built), answer="n\n")
    assert refused.exit_code == 1
    upgraded = world.run_json("chain", "upgrade", "--package", str(built), "--yes")
    assert (upgraded["version"], upgraded["objects' version"]) == (2, 2)
    assert upgraded["before"] == upgraded["first version"] != upgraded["package"]

    unmoved = world.run("chain", "upgrade", "--package", str(built), "--yes")
    assert isinstance(unmoved.exception, DaasError)
    assert unmoved.exception.reason == "capability-missing", "the context still names the version before"
    moved: Any = world.run_json("chain", "migrate", "--package", upgraded["package"], "--yes")
    status = world.run_json("chain", "status")
    assert status["registry"] in [each["object"] for each in moved]
    assert len(moved) >= 3
    nothing: Any = world.run_json("chain", "migrate", "--package", upgraded["package"], "--yes")
    assert nothing == []

    late = world.run("stake", "deposit", "1")
    assert isinstance(late.exception, MoveAbortError)
    assert late.exception.name == "EWrongVersion"
    world.environment["DAAS_CONTEXT_PACKAGE"] = upgraded["package"]
    world.run_json("stake", "deposit", "1")
    assert world.run_json("chain", "status")["package"] == upgraded["package"]


def test_without_a_key_the_command_says_where_one_may_be(world: World) -> None:
    done = CliRunner().invoke(
        app, ["stake", "deposit", "1"], env={"DAAS_CONTEXT": world.environment["DAAS_CONTEXT"], "DAAS_KEYSTORE": ""}
    )
    assert isinstance(done.exception, ConfigurationError)
    assert done.exception.reason == "no-key"


@pytest.mark.parametrize(("text", "amount"), [("1", 10**9), ("0.000000001", 1), ("2.5", 2_500_000_000)])
def test_amounts_in_sui_are_exact(text: str, amount: int) -> None:
    assert mist(text) == amount
    assert sui(amount) == f"{text} SUI"


@pytest.mark.parametrize("text", ["0", "-1", "1e-10", "NaN", "Infinity", "ten", ""])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        mist(text)
