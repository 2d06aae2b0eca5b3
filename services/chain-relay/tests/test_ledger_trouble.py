"""What a network does to transactions: cancels them in a crowd, finds inputs stale, is upgraded under the relay."""

import asyncio

import pytest
from support.next_package import next_package
from support.relay import Enclave, RelayStage

from daas.ledger import Anchored, Ledger

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

Tip = tuple[int, str]


async def test_transactions_cancelled_for_congestion_are_paid_once_each_and_tried_again(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    first = await stage.ledger.latest_checkpoint() + 1
    await stage.congest(3)
    made = enclave.chain(2, *tip)
    for decided in made:
        await stage.publish(decided)
    found = await stage.wait_anchored(tip[0] + 1, first=tip[0])

    assert [f.payload_digest for f in found] == [d.payload_digest for d in made]
    failed, anchored = [], []
    for number in range(first, await stage.ledger.latest_checkpoint() + 1):
        checkpoint = await stage.ledger.checkpoint(number)
        assert checkpoint is not None
        for transaction in checkpoint.transactions:
            if not transaction.succeeded:
                failed.append(transaction.digest)
            anchored += [e.sequence for e in transaction.events if isinstance(e, Anchored)]
    assert len(set(failed)) == len(failed) == 3, "each try has bytes of its own"
    assert anchored == [tip[0], tip[0] + 1]
    assert await stage.metric("daas_relay_transactions_failed_total") == 3
    assert tip[0] not in [f.sequence for f in await stage.refused()]


async def test_a_coin_that_somebody_else_has_spent_costs_another_try_and_no_batch(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    rebuilt = await stage.metric("daas_relay_rebuilt_total")
    made = enclave.chain(12, *tip)

    for place, decided in enumerate(made):
        await stage.publish(decided)
        await stage.wait_anchored(tip[0] + place)
        if place % 2:
            await (await stage.as_operator()).deposit_gas(1_000_000)
    found = await stage.wait_anchored(tip[0] + 11, first=tip[0])
    assert [f.payload_digest for f in found] == [d.payload_digest for d in made]
    assert len({f.tx_digest for f in found}) == 12
    assert await stage.metric("daas_relay_rebuilt_total") >= rebuilt + 5
    assert not [f for f in await stage.refused() if f.sequence >= tip[0]]


async def test_decisions_that_come_faster_than_transactions_share_them(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    made = enclave.chain(150, *tip)
    await asyncio.gather(*(stage.publish(decided) for decided in made))
    found = await stage.wait_anchored(tip[0] + 149, first=tip[0], timeout_s=60)
    assert [f.payload_digest for f in found] == [d.payload_digest for d in made]
    shared: dict[str, list[int]] = {}
    for fact in found:
        shared.setdefault(fact.tx_digest, []).append(fact.sequence)
    assert len(shared) <= 75
    assert all(numbers == list(range(numbers[0], numbers[0] + len(numbers))) for numbers in shared.values())
    assert max(map(len, shared.values())) > 4


async def test_a_relay_whose_package_has_been_replaced_stops_and_goes_on_with_the_next(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("upgrade")
    async with RelayStage(folder, pinned=[next_package().digest]) as stage:
        await stage.start_relay()
        enclave = await stage.enclave()
        registration = (await stage.registrations())[-1]
        one, two, three = enclave.chain(3, 1, "00" * 32)
        await stage.publish(one)
        await stage.wait_anchored(1)

        async with await Ledger.connect(stage.ledger_url, stage.operator, package=stage.package) as operator:
            upgrade = await operator.upgrade(next_package())
            for address in (stage.registry.address, *await operator.places(stage.registry.address)):
                await operator.migrate(address)
            await operator.migrate(registration.enclave)
        await stage.publish(two)
        assert stage.relay is not None
        assert await stage.relay.wait() == 2, "it can't go on, and does not pay for trying"

        stage.package = upgrade.package
        await stage.start_relay()
        await stage.publish(three)
        found = await stage.wait_anchored(3)
        assert [f.sequence for f in found] == [1, 2, 3]
        assert not await stage.refused()
        assert [f.enclave for f in await stage.registrations()] == [registration.enclave], "nothing is said twice"
