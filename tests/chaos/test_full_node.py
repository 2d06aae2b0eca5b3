"""A relay behind a misbehaving full node: each batch is anchored once, in order, and no gas is paid twice."""

import asyncio
import time
from pathlib import Path

import pytest
from support.full_node import Faults, FullNode
from support.relay import Enclave, RelayStage, until

from daas.common import subjects
from daas.common.messages import EnclaveRevoked
from daas.ledger import Anchored, EnclaveRegistered

pytestmark = [pytest.mark.connected]

FAULTS = Faults(
    drop=0.06,
    lose=0.08,
    delay=0.2,
    delay_s=0.05,
    repeat=0.08,
    deny=0.4,
    lag=0.3,
    reset=0.02,
    stream_s=3.0,
    stream_lose=0.3,
)
RATE_PER_S = 60.0
#: Fewer than the relay would take: more transactions for the same number of batches.
BATCHES_MAX = 4


class Account:
    """What the ledger itself says of an account's transactions from a checkpoint on."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self.gas_mist = 0
        self.anchored: list[tuple[int, str, str]] = []
        self.failed = 0

    @classmethod
    async def read(cls, stage: RelayStage, first: int) -> "Account":
        """Every transaction on the stage's ledger is the operator's: nobody else has an account there."""
        found = cls()
        for number in range(first, await stage.ledger.latest_checkpoint() + 1):
            checkpoint = await stage.ledger.checkpoint(number)
            assert checkpoint is not None
            for transaction in checkpoint.transactions:
                effects = await stage.ledger.transaction(transaction.digest)
                assert effects is not None
                found.digests.append(transaction.digest)
                found.gas_mist += effects.gas_mist
                found.failed += not effects.succeeded
                found.anchored += [
                    (e.sequence, e.payload_digest.hex(), transaction.digest)
                    for e in transaction.events
                    if isinstance(e, Anchored)
                ]
        return found


async def run(folder: Path, count: int, *, timeout_s: float) -> None:
    async with RelayStage(folder) as stage:
        async with FullNode(stage.ledger_url, seed=count) as proxy:
            stage.relay_ledger_url = proxy.url
            await stage.start_relay(DAAS_RELAY_BATCHES_MAX=str(BATCHES_MAX))
            enclave = await stage.enclave()
            first = await stage.ledger.latest_checkpoint() + 1
            before_mist = await stage.ledger.balance()
            proxy.faults = FAULTS
            started = time.monotonic()
            made = enclave.chain(count, 1, "0" * 64)
            for decided in made:
                await stage.publish(decided)
                await asyncio.sleep(1 / RATE_PER_S)
            found = await stage.wait_anchored(count, timeout_s=timeout_s)
            took_s = time.monotonic() - started
            proxy.faults = Faults()
            sends = await stage.metric("daas_relay_sends_total")
            rebuilt = await stage.metric("daas_relay_rebuilt_total")
            await stage.stop_relay()
        account = await Account.read(stage, first)
        paid_mist = before_mist - await stage.ledger.balance()
        refused, dead = await stage.refused(), await stage.dead_letters()

    print(
        f"\n{count} batches in {len(account.digests)} transactions, {took_s:.1f} s; {sends:.0f} sends, "
        f"{rebuilt:.0f} built anew, {account.failed} failed, {paid_mist} MIST; faults {dict(proxy.done)}"
    )
    expected = [(d.header.sequence, d.payload_digest) for d in made]
    assert [(f.sequence, f.payload_digest) for f in found] == expected, "the facts: each once, in order"
    assert [(n, d) for n, d, _ in account.anchored] == expected, "the ledger: each once, in order"
    assert {f.payload_digest: f.tx_digest for f in found} == {d: tx for _, d, tx in account.anchored}
    assert len(account.digests) == len(set(account.digests))
    assert set(account.digests) == {f.tx_digest for f in found}, "no transaction but those that anchored"
    assert account.failed == 0
    assert paid_mist == account.gas_mist, "what was paid is what the distinct transactions cost"
    assert not refused
    assert not dead
    assert proxy.done.total() > count / 5, proxy.done


@pytest.mark.timeout(240)
async def test_behind_a_misbehaving_node_150_batches_are_each_anchored_once_and_paid_once(tmp_path: Path) -> None:
    await run(tmp_path, 150, timeout_s=120)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_behind_a_misbehaving_node_2000_batches_are_each_anchored_once_and_paid_once(tmp_path: Path) -> None:
    await run(tmp_path, 2_000, timeout_s=900)


@pytest.mark.timeout(300)
async def test_streams_that_are_cut_and_nodes_that_lag_neither_lose_nor_double_an_event(tmp_path: Path) -> None:
    faults = Faults(drop=0.05, lose=0.05, deny=0.3, lag=0.3, stream_s=0.3, stream_lose=0.5)
    async with RelayStage(tmp_path) as stage, FullNode(stage.ledger_url, faults, seed=3) as proxy:
        stage.relay_ledger_url = proxy.url
        await stage.start_relay()
        # Somebody else's transactions: the operator registers and revokes without the relay.
        registered = [await _register_beside_the_relay(stage) for _round in range(12)]
        for enclave in registered[::2]:
            await (await stage.as_operator()).revoke(enclave)

        async def all_seen() -> bool:
            revoked = await stage.facts(subjects.ENCLAVE_REVOKED, EnclaveRevoked)
            return len(await stage.registrations()) >= 12 and len(revoked) >= 6

        await until(all_seen, "all events are facts", timeout_s=90)
        await stage.kill_relay()
        await stage.start_relay()
        await stage.stop_relay()
        facts = [f.enclave for f in await stage.registrations()]
        revoked = [f.enclave for f in await stage.facts(subjects.ENCLAVE_REVOKED, EnclaveRevoked)]
    assert facts == registered
    assert revoked == registered[::2]
    assert proxy.done["cut"]


async def _register_beside_the_relay(stage: RelayStage) -> str:
    registry = await stage.ledger.registry(stage.registry.address)
    effects = await (await stage.as_operator()).register_simulated(
        registry.address,
        public_key=Enclave(stage).key.public_key().public_bytes_raw(),
        pcrs=stage.pcrs(),
        nonce=registry.nonce,
        document_digest=bytes(32),
    )
    return effects.only(EnclaveRegistered).enclave


@pytest.mark.timeout(300)
async def test_while_the_node_is_away_decisions_wait_in_their_stream_and_none_is_lost(tmp_path: Path) -> None:
    async with RelayStage(tmp_path) as stage, FullNode(stage.ledger_url) as proxy:
        stage.relay_ledger_url = proxy.url
        await stage.start_relay()
        enclave = await stage.enclave()
        proxy.away = True
        proxy.cut()
        for decided in enclave.chain(200, 1, "0" * 64):
            await stage.publish(decided)

        async def held() -> bool:
            consumer = (await stage.status())["consumers"]["placement.decided"]
            return bool(consumer["in_flight"] == 64 and consumer["pending"] + consumer["unacknowledged"] == 200)

        await until(held, "the relay holds no more than 64 decisions")
        proxy.away = False
        found = await stage.wait_anchored(200, timeout_s=60)
        dead = await stage.dead_letters()
    assert [f.sequence for f in found] == list(range(1, 201))
    assert not dead


@pytest.mark.timeout(300)
async def test_of_two_nodes_one_may_die(tmp_path: Path) -> None:
    async with (
        RelayStage(tmp_path) as stage,
        FullNode(stage.ledger_url) as first,
        FullNode(stage.ledger_url) as second,
    ):
        first.away = True
        stage.relay_ledger_url = f"{first.url},{second.url}"
        await stage.start_relay()
        enclave = await stage.enclave()
        for decided in enclave.chain(20, 1, "0" * 64):
            await stage.publish(decided)
        assert len(await stage.wait_anchored(20)) == 20
