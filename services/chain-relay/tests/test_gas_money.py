"""Money for gas: from coins or from the address balance, said to be low in time; without it the relay is not ready."""

import pytest
from support.relay import Enclave, RelayStage, until

from daas.common import subjects
from daas.common.messages import ChainBalanceLow
from daas.ledger import Ledger, Signer

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

Tip = tuple[int, str]
SUI = 10**9


async def said_low(stage: RelayStage) -> list[ChainBalanceLow]:
    return await stage.facts(subjects.CHAIN_BALANCE_LOW, ChainBalanceLow)


async def test_a_relay_without_money_is_not_ready_and_anchors_once_it_has_some(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    poor = Signer.generate(stage.folder / "poor.key")
    await stage.fund(poor.address, 250_000_000)
    await stage.stop_relay()
    await stage.start_relay(DAAS_RELAY_KEYSTORE=str(stage.folder / "poor.key"))
    # Its money goes where it does not pay: 100,000,000 MIST is what a transaction must be able to cost.
    async with await Ledger.connect(stage.ledger_url, poor) as itself:
        await itself.deposit_gas(149_000_000)
    decided = enclave.decide(*tip)
    await stage.publish(decided)

    async def refuses() -> bool:
        return "no-gas" in str(await stage.unready())

    await until(refuses, "it says that it has no gas")
    (low,) = [fact for fact in await said_low(stage) if fact.account == poor.address]
    assert (low.balance_mist, low.source, low.simulated) == (250_000_000, "coins", True)
    assert await stage.metric("daas_relay_low_balance") == 1
    assert await stage.head() == (tip[0] - 1, tip[1])

    await stage.fund(poor.address)
    (fact,) = await stage.wait_anchored(tip[0], first=tip[0])
    assert fact.payload_digest == decided.payload_digest

    async def ready() -> bool:
        return not await stage.unready()

    await until(ready, "it is ready")
    assert await stage.metric("daas_relay_low_balance") == 0
    await stage.stop_relay()
    await stage.start_relay()


async def test_the_address_balance_pays_and_leaves_the_coins_alone(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    operator = await stage.as_operator()
    await operator.deposit_gas(2 * SUI)
    coins = await stage.ledger.gas_balance()
    await stage.stop_relay()
    await stage.start_relay(DAAS_RELAY_GAS="address-balance")
    made = enclave.chain(30, *tip)
    for decided in made:
        await stage.publish(decided)
    found = await stage.wait_anchored(tip[0] + 29, first=tip[0])

    assert [f.payload_digest for f in found] == [d.payload_digest for d in made]
    assert (await stage.status())["balance_mist"] <= 2 * SUI
    assert await stage.ledger.gas_balance() == coins, "no coin was touched"
    async with await Ledger.connect(stage.ledger_url, stage.operator) as reader:
        left = await reader.balance() - coins
    paid = [(await stage.ledger.transaction(digest)) for digest in {f.tx_digest for f in found}]
    assert 2 * SUI - left == sum(effects.gas_mist for effects in paid if effects is not None)

    # The same bytes after a crash: what was sent is found again, nothing is paid twice.
    more = enclave.chain(20, tip[0] + 30, made[-1].payload_digest)
    for decided in more:
        await stage.publish(decided)
    await stage.kill_relay()
    await stage.start_relay(DAAS_RELAY_GAS="address-balance")
    again = await stage.wait_anchored(tip[0] + 49, first=tip[0] + 30)
    assert [f.payload_digest for f in again] == [d.payload_digest for d in more]
    await stage.stop_relay()
    await stage.start_relay()


async def test_that_money_runs_out_is_a_fact_once(stage: RelayStage, enclave: Enclave, tip: Tip) -> None:
    await stage.stop_relay()
    balance = await stage.ledger.gas_balance()
    threshold = balance - 1
    await stage.start_relay(DAAS_RELAY_LOW_BALANCE_MIST=str(threshold))
    before = await said_low(stage)
    await stage.publish(enclave.decide(*tip))
    await stage.wait_anchored(tip[0])

    async def said() -> bool:
        return len(await said_low(stage)) > len(before)

    await until(said, "the fact is out")
    (fact,) = (await said_low(stage))[len(before) :]
    assert fact.threshold_mist == threshold > fact.balance_mist
    assert fact.account == stage.operator.address
    status = await stage.status()
    assert status["low_balance"] is True
    await stage.stop_relay()
    await stage.start_relay(DAAS_RELAY_LOW_BALANCE_MIST=str(threshold))
    assert len(await said_low(stage)) == len(before) + 1, "nothing was paid since"
    await stage.stop_relay()
    await stage.start_relay()
