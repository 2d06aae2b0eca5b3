"""`daas node join` for real, up to the point where k3s would start: ledger, three key servers, sealed join token."""

import asyncio
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from typer.testing import CliRunner

from daas.cli.main import app
from daas.common.errors import ConfigurationError, DaasError, InvalidInput, Refused
from daas.devstack.process import Process
from daas.ledger import Ledger, Parameters, Signer
from daas.ledger.approval import MoveApprovals
from daas.seal import MasterKey, NotEnoughKeys
from daas.seal.server import Approval, Denial, KeyServerApp, OpenKeys

pytestmark = pytest.mark.connected

TOKEN = "K10" + "ab" * 32 + "::server:" + "5ecre7" * 5
PCRS = ("--pcr0", "11" * 48, "--pcr1", "22" * 48, "--pcr2", "33" * 48)
SERVER = "https://10.0.0.1:6443"
MINIMUM_SUI = 10
START_DEADLINE_S = 60


class KeyServerThread:
    """Three key servers of daas.seal on a loop of their own, which ask the ledger about the project's package."""

    def __init__(self, ledger_url: str, package: str) -> None:
        self._ledger_url, self._package = ledger_url, package
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.servers: list[dict[str, Any]] = []

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(START_DEADLINE_S)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_DEADLINE_S)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            ledger = await stack.enter_async_context(await Ledger.connect(self._ledger_url, package=self._package))
            approvals = MoveApprovals(ledger, Approval, Denial, single_operator=True)
            for number in range(3):
                key, object_id = MasterKey.generate(), os.urandom(32)
                served = KeyServerApp(OpenKeys(object_id, key), approvals).application()
                runner = web.AppRunner(served, access_log=None, shutdown_timeout=0.1)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.servers.append(
                    {
                        "object_id": "0x" + object_id.hex(),
                        "url": f"http://127.0.0.1:{runner.addresses[0][1]}",
                        "public_key": key.public_key.hex(),
                        "name": f"server-{number}",
                    }
                )
            self._ready.set()
            await self._stop.wait()


class Stage:
    """A cluster on the ledger with an administrator, its key servers, and as many machines as a test wants."""

    def __init__(self, directory: Path, ready: dict[str, str]) -> None:
        self.directory, self.ready = directory, ready
        self.key_servers = directory / "key-servers.json"
        self.sealed = directory / "sealed.json"
        self.context: dict[str, Any] = {}
        self.admin = self.machine("admin")
        published = self.run_json(
            self.admin, "chain", "publish", "--ledger-url", ready["url"], *PCRS, "--simulated", "-y"
        )
        self.context = {
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
        (directory / "context.json").write_text(json.dumps(self.context))

    def machine(self, name: str) -> Path:
        """A new key with money."""
        keystore = self.directory / f"{name}.key"
        address = self.run_json(keystore, "chain", "init", str(keystore))["address"]
        self.run_json(keystore, "chain", "fund", address, "--faucet", self.ready["faucet"], "--amount", "100")
        return keystore

    def run(self, keystore: Path, *arguments: str, answer: str | None = None) -> Any:
        environment = {"DAAS_KEYSTORE": str(keystore), "DAAS_CONTEXT": str(self.directory / "context.json")}
        return CliRunner().invoke(app, list(arguments), env=environment, input=answer)

    def run_json(self, keystore: Path, *arguments: str) -> dict[str, Any]:
        done = self.run(keystore, *arguments, "-o", "json")
        assert done.exit_code == 0, (done.output, done.exception)
        said: dict[str, Any] = json.loads(done.output)
        return said

    def require(self, minimum_sui: int) -> None:
        """Makes the administrator ask this much stake for each node."""

        async def change() -> None:
            signer = Signer.from_file(self.admin)
            async with await Ledger.connect(self.ready["url"], signer, package=self.context["package"]) as ledger:
                parameters = Parameters(node_minimum_mist=minimum_sui * 10**9)
                await ledger.staking.set_parameters(self.context["registry"], parameters)

        asyncio.run(change())

    def write_key_servers(self, servers: list[dict[str, Any]]) -> Path:
        self.key_servers.write_text(json.dumps({"threshold": 2, "servers": servers}))
        return self.key_servers

    def seal(self) -> dict[str, Any]:
        token_file = self.directory / "node-token"
        token_file.touch(mode=0o600)
        token_file.write_text(TOKEN + "\n")
        return self.run_json(
            self.admin, "node", "token", "seal", "--token-file", str(token_file),
            "--key-servers", str(self.key_servers), "--out", str(self.sealed), "-y",
        )  # fmt: skip

    def join(
        self, keystore: Path, name: str, *more: str, into: Path | None = None, answer: str | None = None
    ) -> tuple[Any, Path]:
        directory = into or self.directory / f"k3s-{keystore.stem}"
        done = self.run(
            keystore, "node", "join", name, "--server", SERVER, "--sealed", str(self.sealed),
            "--key-servers", str(self.key_servers), "--dir", str(directory), *more, answer=answer,
        )  # fmt: skip
        return done, directory / "config.yaml"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("join")
    with asyncio.Runner() as runner:
        ledger = Process(
            "ledger",
            ["python", "-m", "daas.devstack.ledger", "--state", directory / "ledger"],
            log_path=directory / "ledger.log",
        )
        stage = Stage(directory, runner.run(ledger.start()))
        stage.require(MINIMUM_SUI)
        key_servers = KeyServerThread(stage.ready["url"], stage.context["package"])
        key_servers.start()
        stage.write_key_servers(key_servers.servers)
        stage.seal()
        yield stage
        key_servers.stop()
        runner.run(ledger.terminate())


def refused(done: Any, config: Path, reason: str) -> None:
    """The key servers said no for this reason, and the machine got nothing."""
    assert isinstance(done.exception, NotEnoughKeys), (done.output, done.exception)
    assert reason in done.exception.message
    assert TOKEN not in done.output + str(done.exception)
    assert not config.exists()


def test_a_machine_stakes_registers_opens_the_token_and_is_ready_to_start(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    assert TOKEN not in stage.sealed.read_text()
    keystore = stage.machine("fresh")
    unwilling, config = stage.join(keystore, "edge-1", answer="n\n")
    assert unwilling.exit_code == 1
    assert "10 SUI" in unwilling.output
    assert not config.exists()
    assert stage.run(keystore, "node", "show", "edge-1").exception.reason == "no-node"
    with caplog.at_level(logging.DEBUG):
        done, _ = stage.join(keystore, "edge-1", answer="y\n")
    assert done.exit_code == 0, (done.output, done.exception)
    assert yaml.safe_load(config.read_text()) == {"server": SERVER, "token": TOKEN, "node-name": "edge-1"}
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert f"k3s agent --config {config}" in done.output.replace("\n", "")
    assert TOKEN not in done.output + caplog.text
    assert stage.run_json(keystore, "stake", "show")["bonded"] == "10 SUI"
    assert [path.name for path in config.parent.iterdir()] == ["config.yaml"]


def test_joining_again_costs_nothing_asks_before_it_replaces_and_needs_only_two_servers(stage: Stage) -> None:
    keystore = stage.machine("again")
    first, config = stage.join(keystore, "edge-2", "-y")
    assert first.exit_code == 0, (first.output, first.exception)
    unwilling, _ = stage.join(keystore, "edge-2", answer="n\n")
    assert unwilling.exit_code == 1
    servers = json.loads(stage.key_servers.read_text())["servers"]
    try:
        stage.write_key_servers([*servers[:2], servers[2] | {"url": "http://127.0.0.1:1"}])
        again, _ = stage.join(keystore, "edge-2", "-y", "-o", "json")
    finally:
        stage.write_key_servers(servers)
    assert again.exit_code == 0, (again.output, again.exception)
    assert json.loads(again.output)["deposited"] == "0 SUI"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_a_draining_node_opens_nothing(stage: Stage) -> None:
    keystore = stage.machine("leaving")
    stage.run_json(keystore, "stake", "deposit", "10")
    stage.run_json(keystore, "node", "register", "edge-3")
    stage.run_json(keystore, "node", "drain", "edge-3", "-y")
    refused(*stage.join(keystore, "edge-3", "-y"), "EDraining")


def test_another_key_opens_nothing_and_pays_nothing(stage: Stage) -> None:
    owner, stranger = stage.machine("owner"), stage.machine("stranger")
    stage.run_json(owner, "stake", "deposit", "10")
    stage.run_json(owner, "node", "register", "edge-4")
    refused(*stage.join(stranger, "edge-4", "-y"), "ENotThisNode")
    assert stage.run_json(stranger, "stake", "show")["bonded"] == "0 SUI"


def test_a_node_whose_operator_has_too_little_stake_opens_nothing_until_there_is_enough(stage: Stage) -> None:
    operator, machine = stage.machine("operator"), stage.machine("machine")
    stage.run_json(operator, "stake", "deposit", "10")
    identity = Signer.from_file(machine).address
    stage.run_json(operator, "node", "register", "edge-5", "--identity", identity)
    stage.require(MINIMUM_SUI + 5)
    try:
        refused(*stage.join(machine, "edge-5", "-y"), "ENotEnoughStake")
        stage.run_json(operator, "stake", "deposit", "5")
        done, config = stage.join(machine, "edge-5", "-y")
    finally:
        stage.require(MINIMUM_SUI)
    assert done.exit_code == 0, (done.output, done.exception)
    assert yaml.safe_load(config.read_text())["token"] == TOKEN


def test_a_replaced_token_opens_no_more_and_its_successor_does(stage: Stage) -> None:
    keystore = stage.machine("late")
    generation = stage.run_json(stage.admin, "node", "token", "rotate", "-y")["generation"]
    stale, config = stage.join(keystore, "edge-6", "-y")
    assert isinstance(stale.exception, Refused)
    assert stale.exception.reason == "join-token-replaced"
    assert not config.exists()
    assert stage.run_json(keystore, "stake", "show")["bonded"] == "0 SUI"
    assert stage.seal()["generation"] == generation
    done, _ = stage.join(keystore, "edge-6", "-y")
    assert done.exit_code == 0, (done.output, done.exception)


def test_nothing_is_staked_where_the_known_servers_can_not_open_the_token_or_nothing_can_be_written(
    stage: Stage, tmp_path: Path
) -> None:
    keystore = stage.machine("vain")
    servers = json.loads(stage.key_servers.read_text())["servers"]
    try:
        stage.write_key_servers(servers[:1])
        alone, _ = stage.join(keystore, "edge-8", "-y")
    finally:
        stage.write_key_servers(servers)
    assert isinstance(alone.exception, ConfigurationError)
    assert "1 shares of the token, 2 open it" in alone.exception.message
    (tmp_path / "file").touch()
    nowhere, _ = stage.join(keystore, "edge-8", "-y", into=tmp_path / "file")
    assert isinstance(nowhere.exception, ConfigurationError)
    assert nowhere.exception.reason == "config-file"
    assert stage.run_json(keystore, "stake", "show")["bonded"] == "0 SUI"


def test_a_token_that_others_may_read_is_not_sealed_and_not_shown(stage: Stage, tmp_path: Path) -> None:
    token_file = tmp_path / "node-token"
    for content, mode in ((TOKEN, 0o644), (TOKEN + "\nand more", 0o600), ("", 0o600)):
        token_file.write_text(content)
        token_file.chmod(mode)
        done = stage.run(
            stage.admin, "node", "token", "seal", "--token-file", str(token_file),
            "--key-servers", str(stage.key_servers), "--out", str(tmp_path / "sealed.json"),
        )  # fmt: skip
        assert isinstance(done.exception, ConfigurationError)
        assert done.exception.reason == "token-file"
        assert TOKEN not in done.output + str(done.exception)
    assert not (tmp_path / "sealed.json").exists()


@pytest.mark.parametrize("server", ["http://10.0.0.1:6443", "10.0.0.1", "https://", "https://user@host", "https://a/b"])
def test_a_server_that_is_no_https_address_is_refused_before_anything_happens(stage: Stage, server: str) -> None:
    done = stage.run(
        stage.admin, "node", "join", "edge-7", "--server", server, "--sealed", str(stage.sealed),
        "--key-servers", str(stage.key_servers), "--dir", str(stage.directory / "unused"),
    )  # fmt: skip
    assert isinstance(done.exception, InvalidInput)
    assert done.exception.reason == "server-url"


def test_files_that_are_no_such_files_are_named(stage: Stage, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"threshold": 0, "servers": []}')
    done = stage.run(
        stage.admin, "node", "join", "edge-7", "--server", SERVER, "--sealed", str(stage.sealed),
        "--key-servers", str(broken), "--dir", str(tmp_path),
    )  # fmt: skip
    assert isinstance(done.exception, DaasError)
    assert done.exception.reason == "key-servers"
    assert str(broken) in done.exception.message
