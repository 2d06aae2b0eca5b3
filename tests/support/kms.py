"""A ledger, key servers under the project's own policy, and KMS plugins as processes, with everything they need."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Self

import aiohttp
import msgspec
from aiohttp import web

from daas.common.errors import DaasError
from daas.devstack.process import Process
from daas.kms import keyring as keyrings
from daas.kms import servers as server_files
from daas.kms.keyring import Keyring
from daas.kms.rpc import KmsClient
from daas.kms.sealing import add_generation
from daas.kms.servers import KeyServers, KnownKeyServer
from daas.ledger import Ledger, Policy, Rules, Signer
from daas.ledger.approval import MoveApprovals
from daas.seal import MasterKey
from daas.seal.server import Approval, Denial, KeyServerApp, KeyServerSettings, OpenKeys, Rate

REQUIRED_STAKE_MIST: Final = 200_000
_FUNDS_MIST: Final = 1_000_000_000_000
_FAST: Final = Rate(per_second=1_000_000.0, burst=1_000_000)
_SETTINGS: Final = KeyServerSettings(network_rate=_FAST, user_rate=_FAST)


async def eventually(check: Callable[[], Awaitable[bool]], *, timeout_s: float = 120.0) -> None:
    """Waits until a condition holds; fails after a while."""
    async with asyncio.timeout(timeout_s):
        while not await check():  # noqa: ASYNC110 - conditions of other processes have no event
            await asyncio.sleep(0.02)


class KmsStage:
    """Everything a plugin needs, below one directory. Use `kms_stage`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keyring_path = root / "keyring.json"
        self.servers_path = root / "key-servers.json"
        self.keystore_path = root / "kms.key"
        # Below the group's order, whose first byte is 0x73.
        self.master_secrets = [b"\x01" + os.urandom(31) for _ in range(3)]
        self.master_keys = [MasterKey.from_bytes(secret) for secret in self.master_secrets]
        self.object_ids = [os.urandom(32) for _ in range(3)]
        self.ledger_process = Process(
            "ledger", ["python", "-m", "daas.devstack.ledger", "--state", root / "ledger"],
            log_path=root / "logs" / "ledger.log",
        )  # fmt: skip
        self._servers = contextlib.AsyncExitStack()
        self._plugins: list[Process] = []
        self.ledger: Ledger
        self.policy: Policy

    async def start(self) -> Self:
        """Ledger, policy, key servers, and a keyring with one generation."""
        await self.ledger_process.start()
        signer = Signer.generate(self.keystore_path)
        async with aiohttp.ClientSession() as http:
            request = {"FixedAmountRequest": {"recipient": signer.address, "amount": _FUNDS_MIST}}
            async with http.post(self.ledger_process.ready["faucet"], json=request) as answer:
                assert answer.status < 300
        self.ledger = await Ledger.connect(self.ledger_process.ready["url"], signer)
        self.package = (await self.ledger.publish()).package
        pcrs = (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
        self.registry = (await self.ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=pcrs)).address
        self.policy = await self.ledger.policies.create(self.registry, Rules(required_stake_mist=REQUIRED_STAKE_MIST))
        await self.stake()
        await self.start_key_servers()
        await self.new_keyring(self.policy)
        return self

    async def reset(self) -> None:
        """As after `start`, with the same ledger: no plugin, all key servers, a fresh keyring."""
        for process in self._plugins:
            await process.terminate()
        self._plugins.clear()
        await self.stop_key_servers()
        await self.start_key_servers()
        await self.new_keyring(self.policy)

    async def new_keyring(self, policy: Policy) -> None:
        """A keyring with one generation, under a policy."""
        self.policy_used = policy
        pool, _ = await self.ledger.places(self.registry)
        empty = Keyring(cluster="test", package=self.package, policy=policy.address, pool=pool)
        keyrings.save(self.keyring_path, add_generation(empty, self.key_servers, policy.namespace))

    async def stake(self, amount_mist: int = REQUIRED_STAKE_MIST) -> None:
        await self.ledger.staking.deposit(self.registry, amount_mist)

    async def start_key_servers(self, count: int = 3) -> None:
        """Key servers with the same keys as before, on new ports; the file says where."""
        urls = []
        for number in range(count):
            app = KeyServerApp(
                OpenKeys(self.object_ids[number], self.master_keys[number]),
                MoveApprovals(self.ledger, Approval, Denial, single_operator=True),
                settings=_SETTINGS,
            )
            runner = web.AppRunner(app.application(), access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            self._servers.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        urls += ["http://127.0.0.1:1"] * (3 - count)  # nobody listens there
        self.key_servers = KeyServers(
            threshold=2,
            servers=tuple(
                KnownKeyServer(
                    object_id="0x" + self.object_ids[number].hex(),
                    url=urls[number],
                    public_key=self.master_keys[number].public_key.hex(),
                    name=f"server-{number}",
                )
                for number in range(3)
            ),
        )
        temporary = self.servers_path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(self.key_servers))
        temporary.replace(self.servers_path)
        assert server_files.load(self.servers_path) == self.key_servers

    async def stop_key_servers(self) -> None:
        await self._servers.aclose()

    def rotate(self) -> Keyring:
        """One more generation in the keyring file."""
        keyring = add_generation(keyrings.load(self.keyring_path), self.key_servers, self.policy_used.namespace)
        keyrings.save(self.keyring_path, keyring)
        return keyring

    @property
    def socket(self) -> Path:
        return self.root / "kms.sock"

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    def environment(self) -> dict[str, str]:
        """The plugin's settings."""
        return {
            "DAAS_KMS_SOCKET": str(self.socket),
            "DAAS_KMS_KEYRING": str(self.keyring_path),
            "DAAS_KMS_KEY_SERVERS": str(self.servers_path),
            "DAAS_KMS_KEYSTORE": str(self.keystore_path),
            "DAAS_KMS_POLL_S": "0.1",
        }

    def plugin(self, *, announces: bool = True, environment: Mapping[str, str] | None = None) -> Process:
        """A plugin process, not started; `announces` false: do not wait until its seed is open."""
        process = Process(
            "kms",
            ["python", "-m", "daas.sealkeeper.kms"],
            log_path=self.root / "logs" / "kms.log",
            env={**self.environment(), **(environment or {})},
            announces=announces,
        )
        self._plugins.append(process)
        return process

    def client(self) -> KmsClient:
        return KmsClient(self.endpoint, timeout_s=30.0)

    async def status_error(self) -> str:
        """What Status refuses with; empty where it answers."""
        async with self.client() as client:
            try:
                await client.status()
            except DaasError as error:
                return error.message
        return ""

    async def refuses(self, *words: str) -> None:
        """Waits until Status refuses with these words."""
        said = ""

        async def refused() -> bool:
            nonlocal said
            said = await self.status_error()
            return bool(said) and all(word in said for word in words)

        try:
            await eventually(refused)
        except TimeoutError:
            raise AssertionError(f"expected a refusal with {words}, got {said!r}") from None

    async def key_id(self) -> str:
        async with self.client() as client:
            return (await client.status()).key_id

    async def close(self) -> None:
        for process in self._plugins:
            await process.terminate()
        await self.stop_key_servers()
        await self.ledger.close()
        await self.ledger_process.terminate()


@contextlib.asynccontextmanager
async def kms_stage(root: Path) -> AsyncIterator[KmsStage]:
    """A stage that is closed at the end."""
    stage = KmsStage(root)
    try:
        yield await stage.start()
    finally:
        await stage.close()
