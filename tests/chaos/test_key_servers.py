"""Key servers that are away, slow, lying or replaced, clocks that are off, a ledger that is gone: the right answer, or
a refusal with the reason."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.doors import Door, shifted
from support.secret_stage import SecretStage, secret

from daas.common.errors import DaasError, Refused, Unavailable
from daas.ledger import MoveAbortError, Policy, Rules, Signer
from daas.seal import ClientSettings, SealClient, SessionKey, parse_address
from daas.seal.session import system_clock_ms
from daas.secrets import (
    KeyServers,
    KnownKeyServer,
    Right,
    SealedSecret,
    SealParameters,
    SharedObject,
    approve_ptb,
    open_secret,
    right_of,
    seal_secret,
    shared_object,
)

pytestmark = [pytest.mark.connected, pytest.mark.asyncio(loop_scope="module")]

PLAIN = {"k": b"the value"}
#: A machine that is busy with other tests answers late; a server behind a door that holds never does.
PATIENT = ClientSettings(timeout_ms=10_000, deadline_ms=20_000, attempts_max=2)
HURRIED = ClientSettings(timeout_ms=1_000, deadline_ms=2_000, attempts_max=1)
MINUTE_MS = 60_000


class Drill:
    """A sealed Secret, three key servers behind doors, and a reader with stake."""

    def __init__(self, stage: SecretStage, doors: list[Door]) -> None:
        self.stage, self.doors = stage, doors
        self.faults: list[str] = []
        self.reader = Path()
        self.package = ""

    async def prepare(self) -> None:
        deployment = self.stage.deployment
        assert deployment is not None
        self.package = deployment.package
        self.reader = await self.stage.account("drill-reader", stake_sui=20)
        async with await self.stage.connect(self.reader) as ledger:
            self.policy: SharedObject = await shared_object(ledger, deployment.seal_policy)
            self.right: Right = await right_of(ledger, deployment.registry)
        self.secret = self.seal(await self.read_policy(deployment.seal_policy))

    async def read_policy(self, address: str) -> Policy:
        async with await self.stage.connect(self.reader) as ledger:
            return await ledger.policies.policy(address)

    def key_servers(self) -> KeyServers:
        servers = [
            KnownKeyServer(each["object_id"], door.url, each["public_key"], each["name"])
            for each, door in zip(self.stage.servers(), self.doors, strict=True)
        ]
        return KeyServers(2, tuple(servers))

    def seal(self, policy: Policy, name: str = "drilled") -> SealedSecret:
        parameters = SealParameters(
            cluster="east",
            package=self.package,
            policy_name="default",
            policy=policy.address,
            generation=policy.generation,
            usage_limit=policy.rules.usage_limit,
            key_servers=self.key_servers(),
        )
        manifest = seal_secret(secret(name, {"k": "the value"}), parameters, parameters.key_servers.encryptor())
        return SealedSecret.parse("east", manifest)

    async def session(self, keystore: Path | None = None, off_by_ms: int = 0) -> SessionKey:
        signer = Signer.from_file(keystore or self.reader)
        clock = shifted(system_clock_ms, off_by_ms)
        return await SessionKey.create(signer, parse_address(self.package), ttl_min=5, clock=clock)

    async def open(self, settings: ClientSettings = PATIENT, *, off_by_ms: int = 0) -> dict[str, bytes]:
        self.faults = []

        def note(server: Any, error: DaasError) -> None:
            self.faults.append(f"{server.label} {error.reason}")

        session = await self.session(off_by_ms=off_by_ms)
        async with SealClient(self.key_servers().known(), settings=settings, on_fault=note) as client:
            return await open_secret(
                client, session, self.secret, package=self.package, policy=self.policy, right=self.right
            )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Drill]:
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(SecretStage(tmp_path_factory.mktemp("drills")))
        doors = [await stack.enter_async_context(Door(each["url"])) for each in stage.servers()]
        drill = Drill(stage, doors)
        await drill.prepare()
        yield drill


@pytest.fixture
def drill(world: Drill) -> Drill:
    """Every drill begins with all doors open."""
    for door, server in zip(world.doors, world.stage.servers(), strict=True):
        door.way, door.behind = "open", server["url"]
    return world


@pytest.mark.parametrize("way", ["shut", "slow", "lying"])
async def test_one_of_three_that_is_down_slow_or_lying_changes_nothing(drill: Drill, way: str) -> None:
    drill.doors[0].way = way
    before = drill.doors[0].asked
    assert await drill.open() == PLAIN
    assert drill.doors[0].asked > before


async def test_a_liar_whose_answer_is_needed_is_named_and_worked_around(drill: Drill) -> None:
    drill.doors[1].way = "lying"
    drill.doors[2].way = "shut"
    with pytest.raises(DaasError) as caught:
        await drill.open()
    assert "server-2" in caught.value.message
    assert any(fault.startswith("server-2 ") for fault in drill.faults)
    drill.doors[2].way = "open"
    assert await drill.open() == PLAIN


@pytest.mark.parametrize("way", ["shut", "slow"])
async def test_two_of_three_down_or_slow_is_an_answer_to_try_again(drill: Drill, way: str) -> None:
    drill.doors[0].way = drill.doors[1].way = way
    with pytest.raises(Unavailable) as caught:
        await drill.open(HURRIED)
    assert caught.value.reason == "key-servers-unavailable"
    for door in drill.doors:
        door.way = "open"
    assert await drill.open() == PLAIN


async def test_a_server_that_was_restarted_with_another_key_is_noticed(drill: Drill) -> None:
    other = await drill.stage.key_server_process("other-key", drill.stage.directory / "server-other.json")
    try:
        drill.doors[0].behind = other.ready["http"]
        assert await drill.open() == PLAIN
        drill.doors[1].way = "shut"
        with pytest.raises(DaasError) as caught:
            await drill.open(HURRIED)
        assert "server-1" in caught.value.message
    finally:
        await other.terminate()


async def test_a_requester_whose_clock_is_a_minute_behind_is_served_and_one_ahead_is_told(drill: Drill) -> None:
    assert await drill.open(off_by_ms=-MINUTE_MS) == PLAIN
    with pytest.raises(Refused) as caught:
        await drill.open(off_by_ms=MINUTE_MS + 5_000)
    assert caught.value.reason == "invalid-certificate"


async def test_six_at_once_get_three_tickets_and_a_ticket_is_good_in_its_session_alone(drill: Drill) -> None:
    stage = drill.stage
    assert stage.deployment is not None
    async with await stage.connect(stage.admin) as ledger:
        rules = Rules(usage_limit=3, ticket_ttl_ms=600_000)
        policy = await ledger.policies.create(stage.deployment.registry, rules)
        shared = await shared_object(ledger, policy.address)
    sealed = drill.seal(policy, "counted")
    accounts = await asyncio.gather(*(stage.account(f"racer-{n}") for n in range(6)))
    sessions = [await drill.session(account) for account in accounts]

    async def race(n: int) -> tuple[int, Right] | str:
        async with await stage.connect(accounts[n]) as ledger:
            inner_id = sealed.envelope.sealed.inner_id
            try:
                ticket = await ledger.policies.buy_ticket(policy, inner_id, sessions[n].verification_key)
            except MoveAbortError as error:
                return error.name or ""
            return n, await right_of(ledger, policy.registry, ticket=ticket.address)

    results = await asyncio.gather(*(race(n) for n in range(6)))
    winners = [result for result in results if isinstance(result, tuple)]
    assert [result for result in results if isinstance(result, str)] == ["ELimitReached"] * 3
    assert len(winners) == 3
    async with SealClient(drill.key_servers().known(), settings=PATIENT) as client:
        for n, right in winners:
            opened = await open_secret(client, sessions[n], sealed, package=drill.package, policy=shared, right=right)
            assert opened == PLAIN
        n, right = winners[0]
        other = await drill.session(accounts[n])
        with pytest.raises(Refused) as caught:
            await open_secret(client, other, sealed, package=drill.package, policy=shared, right=right)
        assert caught.value.reason == "wrong-ticket"
        # Nor by naming the ticket's session in a request of another one: the ledger can't see that, key servers do.
        claimed = approve_ptb(drill.package, sealed.envelope, shared, right, sessions[n].verification_key)
        with pytest.raises(Refused):
            await client.decrypt(sealed.envelope.sealed, other, claimed)


async def test_without_the_ledger_nobody_gets_a_key_and_all_are_told_to_try_again(drill: Drill) -> None:
    """Runs last: the ledger does not come back."""
    await drill.stage.ledger.kill()
    with pytest.raises(Unavailable) as caught:
        await drill.open(HURRIED)
    assert caught.value.reason == "key-servers-unavailable"
