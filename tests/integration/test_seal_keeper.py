"""The keeper answers over a real bus: seals, opens, refuses; nothing that it is told can be read by anyone else."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, Self

import aiohttp
import nats
import pytest
import pytest_asyncio
from support.secret_stage import SecretStage, bytes_below, secret

from daas.attestation import AttestationError, Measurement
from daas.common.bus import Bus, BusSettings
from daas.common.errors import DaasError, Refused
from daas.common.facts import fact_of
from daas.common.secret_facts import SecretDenied, SecretOpened, SecretSealed
from daas.common.subjects import SECRET_DENIED, SECRET_OPENED, SECRET_SEAL, SECRET_SEALED, Service, Stream
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process
from daas.ledger import Signer
from daas.seal import SessionKey, parse_address
from daas.secrets import SealedSecret, SecretReply, SecretRequest, State, right_of, state_of
from daas.secrets.keeper import Keeper, KeeperTrust

pytestmark = [pytest.mark.connected, pytest.mark.asyncio(loop_scope="module")]

PASSWORD = "tr0ub4dor-and-three"
DEADLINE_S = 120.0


class KeeperStage:
    """A SecretStage with a bus, a security module and a keeper; everything that crosses the bus is written down."""

    def __init__(self, stage: SecretStage) -> None:
        self.stage = stage
        directory = stage.directory
        self.nats = NatsServer(directory / "nats")
        self.nsm = Process(
            "nsm",
            ["python", "-m", "daas.devstack.nsm", "--enclave-per-connection", "--socket", directory / "nsm.sock",
             "--state", directory / "nsm"],
            log_path=directory / "logs" / "nsm.log",
        )  # fmt: skip
        self.crossed = bytearray()
        self.keeper: Process | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await asyncio.gather(self.nats.start(), self.nsm.start())
        async with await self.bus(Service.OPERATOR) as operator:
            await operator.declare()
        self._tap = await nats.connect(self.nats.url)

        async def write_down(message: Any) -> None:
            self.crossed.extend(message.subject.encode() + str(message.headers).encode() + message.data)

        await self._tap.subscribe(">", cb=write_down)
        await self._tap.flush()
        await self.start_keeper()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.keeper is not None
        await self.keeper.terminate()
        await self._tap.close()
        await asyncio.gather(self.nats.stop(), self.nsm.terminate())

    async def start_keeper(self) -> None:
        deployment, directory = self.stage.deployment, self.stage.directory
        assert deployment is not None
        servers = directory / "key-servers.json"
        servers.write_text(json.dumps({"threshold": 2, "servers": self.stage.servers()}))
        environment = {
            "DAAS_NATS_URL": self.nats.url,
            "DAAS_CLUSTER": "east",
            "DAAS_LOG_LEVEL": "debug",
            "DAAS_STATE_DIR": str(directory / "keeper"),
            "DAAS_SEAL_KEEPER_NSM": str(self.nsm.ready["socket"]),
            "DAAS_SEAL_KEEPER_LEDGER_URL": self.stage.ledger.ready["url"],
            "DAAS_SEAL_KEEPER_PACKAGE": deployment.package,
            "DAAS_SEAL_KEEPER_REGISTRY": deployment.registry,
            "DAAS_SEAL_KEEPER_KEY_SERVERS": str(servers),
            "DAAS_SEAL_KEEPER_POLICIES": json.dumps({"default": deployment.seal_policy}),
            "DAAS_SEAL_KEEPER_KUBECONFIG": self.stage.apiserver.ready["kubeconfig"],
            "DAAS_SEAL_KEEPER_SURVEY_S": "0.2",
        }
        self.keeper = Process(
            "sealkeeper",
            ["python", "-m", "daas.sealkeeper"],
            log_path=directory / "logs" / "sealkeeper.log",
            env=environment,
        )
        await self.keeper.start()

    async def bus(self, service: Service = Service.CLI) -> Bus:
        return await Bus.connect(service, BusSettings(nats_url=self.nats.url, cluster="east"))

    def trust(self, **changes: Any) -> KeeperTrust:
        assert self.stage.deployment is not None
        pcrs = self.nsm.ready["pcrs"]
        fields: dict[str, Any] = {
            "measurements": (Measurement(*(bytes.fromhex(pcrs[n]) for n in ("0", "1", "2"))),),
            "chain": bytes.fromhex(self.stage.deployment.chain),
            "registry": self.stage.deployment.registry,
            "development_root_sha256": bytes.fromhex(self.nsm.ready["root_sha256"]),
        }
        return KeeperTrust(**(fields | changes))

    async def open_as(self, keeper: Keeper, keystore: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
        assert self.stage.deployment is not None
        package = parse_address(self.stage.deployment.package)
        session = await SessionKey.create(Signer.from_file(keystore), package, ttl_min=1)
        async with await self.stage.connect(keystore) as ledger:
            right = await right_of(ledger, self.stage.deployment.registry)
        return await keeper.open(manifest, session, right)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeeperStage]:
    async with SecretStage(tmp_path_factory.mktemp("keeper")) as stage, KeeperStage(stage) as made:
        yield made


async def facts(bus: Bus, subject: Any, kind: type[Any], count: int) -> list[Any]:
    found = []
    async with asyncio.timeout(DEADLINE_S), aclosing(bus.read(Stream.SECRET, subjects=(subject,))) as messages:
        async for stored in messages:
            found.append(fact_of(stored, subject, kind))
            if len(found) == count:
                break
    return found


async def test_a_keeper_seals_for_others_opens_for_the_staked_and_tells_what_happened(world: KeeperStage) -> None:
    async with await world.bus() as bus:
        keeper = Keeper(bus, world.trust())
        manifest = await keeper.seal(secret("db", {"password": PASSWORD}), policy_name="default")
        assert state_of(manifest) is State.SEALED
        assert await keeper.seal(manifest, policy_name="default") == manifest
        reader = await world.stage.account("reader", stake_sui=20)
        assert await world.open_as(keeper, reader, manifest) == {"password": PASSWORD.encode()}
        stranger = await world.stage.account("stranger")
        with pytest.raises(Refused) as refused:
            await world.open_as(keeper, stranger, manifest)
        assert refused.value.reason == "not-enough-stake"

        (sealed,) = await facts(bus, SECRET_SEALED, SecretSealed, 1)
        assert (sealed.namespace, sealed.name, sealed.policy_name, sealed.values) == ("default", "db", "default", 1)
        (opened,) = await facts(bus, SECRET_OPENED, SecretOpened, 1)
        assert opened.requester == Signer.from_file(reader).address
        (denied,) = await facts(bus, SECRET_DENIED, SecretDenied, 1)
        assert (denied.action, denied.reason) == ("open", "not-enough-stake")
        assert denied.requester == Signer.from_file(stranger).address
        assert "less bonded stake" in denied.message
        assert sealed.simulated
        # daas opens what a keeper sealed, directly.
        await world.stage.apply(manifest)
        direct = await world.stage.daas("secret", "open", "default/db", "--key", "password", keystore=reader)
        assert direct.stdout_bytes == PASSWORD.encode()


async def test_a_keeper_refuses_what_it_must_with_a_reason(world: KeeperStage) -> None:
    async with await world.bus() as bus:
        keeper = Keeper(bus, world.trust())
        for manifest, policy, reason in [
            (secret("x", {"k": "v"}), "nobody-knows", "no-policy"),
            (secret("x", {}), "default", "secret-empty"),
            (secret("x", {"k": "v"}, type="kubernetes.io/tls"), "default", "secret-content"),
        ]:
            with pytest.raises(DaasError) as caught:
                await keeper.seal(manifest, policy_name=policy)
            assert caught.value.reason == reason
        moved = await keeper.seal(secret("here", {"k": "v"}), policy_name="default")
        metadata: Any = moved["metadata"]
        metadata["name"] = "there"
        reader = await world.stage.account("mover", stake_sui=20)
        with pytest.raises(Refused) as refused:
            await world.open_as(keeper, reader, moved)
        assert refused.value.reason == "sealed-elsewhere"
        with pytest.raises(Refused) as changed:
            await bus.request(
                SECRET_SEAL,
                SecretRequest(keeper=(await keeper.public_key()).hex(), sealed=base64.b64encode(bytes(90)).decode()),
                SecretReply,
                timeout_s=100,
            )
        assert changed.value.reason == "request-changed"


async def test_a_keeper_of_another_cluster_image_or_root_is_not_believed(world: KeeperStage) -> None:
    async with await world.bus() as bus:
        for trust in (
            world.trust(registry="0x" + "77" * 32),
            world.trust(measurements=(Measurement(*(bytes([9]) * 48 for _ in range(3))),)),
            world.trust(development_root_sha256=None),
        ):
            with pytest.raises(AttestationError):
                await Keeper(bus, trust).seal(secret("x", {"k": PASSWORD}), policy_name="default")


async def test_secrets_of_a_namespace_share_an_envelope_on_request(world: KeeperStage) -> None:
    async with await world.bus() as bus:
        keeper = Keeper(bus, world.trust())
        both = [
            await keeper.seal(
                secret(f"shared-{n}", {"k": "v"}, namespace="default"), policy_name="default", shared=True
            )
            for n in range(2)
        ]
        first, second = (SealedSecret.parse("east", manifest) for manifest in both)
        assert first.envelope.encoded == second.envelope.encoded


async def test_what_is_on_an_old_generation_is_counted_and_a_rotation_brings_it_to_nought(world: KeeperStage) -> None:
    async with await world.bus() as bus:
        await world.stage.daas_json("secret", "policy", "create", "counted", keystore=world.stage.admin)
        keeper = Keeper(bus, world.trust())
        for n in range(2):
            await world.stage.apply(await keeper.seal(secret(f"c{n}", {"k": "v"}), policy_name="counted"))
        async with await world.stage.connect(world.stage.admin) as ledger:
            row = (await world.stage.daas_json("secret", "policy", "list"))[0]
            await ledger.policies.rotate(row["policy"])
        await metric(world, 'daas_seal_keeper_secrets{policy="counted",state="old"} 2.0')
        done = await world.stage.daas_json("secret", "rotate", "counted", "-y", keystore=world.stage.admin)
        assert done["encrypted_again"] == 2
        await metric(world, 'daas_seal_keeper_secrets{policy="counted",state="current"} 2.0')


async def metric(world: KeeperStage, line: str) -> None:
    """Waits until a metric has a value."""
    assert world.keeper is not None
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{world.keeper.ready['http']}/metrics") as got:
                if line in await got.text():
                    return
            await asyncio.sleep(0.1)


async def test_a_keeper_that_was_restarted_has_another_key_which_is_found_at_once(world: KeeperStage) -> None:
    async with await world.bus() as bus:
        keeper = Keeper(bus, world.trust())
        before = await keeper.seal(secret("before", {"k": "v"}), policy_name="default")
        key = await keeper.public_key()
        assert world.keeper is not None
        await world.keeper.kill()
        await world.start_keeper()
        assert await keeper.public_key() != key
        after = await keeper.seal(secret("after", {"k": "v"}), policy_name="default")
        assert state_of(before) is state_of(after) is State.SEALED


async def test_nothing_that_crossed_the_bus_was_stored_or_was_logged_shows_a_secret_or_a_key(
    world: KeeperStage,
) -> None:
    """Runs last: it looks at everything that the tests above left behind."""
    values = [PASSWORD.encode(), base64.b64encode(PASSWORD.encode())]
    servers = sorted(world.stage.directory.glob("server-*.json"))
    values += [json.loads(server.read_text())["master_key"].encode() for server in servers]
    values += [keystore.read_bytes().strip() for keystore in sorted(world.stage.directory.glob("*.key"))]
    assert len(values) > 6
    assert len(world.crossed) > 10_000
    seen: dict[Any, bytes] = bytes_below(world.stage.directory) | {"the bus": bytes(world.crossed)}
    for where, content in seen.items():
        if isinstance(where, Path) and where.name.startswith("server-"):
            continue  # where the key servers keep their keys, mode 0600
        for value in values:
            assert value not in content, where
