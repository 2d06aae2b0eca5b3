"""Address balances hold money without coins, pay for gas, and are never overdrawn."""

from typing import TYPE_CHECKING, Any

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
import pytest

from daas.devstack.ledger.errors import MoveAbortError, TransactionRefusedError
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.funds import ACCUMULATOR_ROOT, accumulator_id, reservation_of
from daas.devstack.ledger.gas import Meter
from daas.devstack.ledger.interpreter import call
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.natives.registry import FUNCTIONS, Ref
from daas.devstack.ledger.objects import Object, Owner, make_object
from daas.devstack.ledger.program import Program
from daas.devstack.ledger.transaction_data import ObjectRef
from daas.devstack.ledger.type_tags import GAS_COIN, SUI, SUI_TYPE, format_type

if TYPE_CHECKING:
    from libs.devstack.tests.ledger.conftest import Account

SUI_TEXT = format_type(SUI_TYPE)
TAG = b"\x07" + SUI + b"\x03sui\x03SUI\x00"
BUDGET = 10_000_000
FRIEND = b"\x07" * 32


def fund(account: "Account", amount: int) -> Any:
    """Moves a part of a coin to the account's address balance."""
    inputs = [account.pure(amount.to_bytes(8, "little")), account.pure(account.address)]
    commands = [
        account.split(account.GAS, account.input(0)),
        account.call(SUI, "coin::send_funds", account.result(0), account.input(1), types=[TAG]),
    ]
    executed = account.run(inputs, commands, account.coins()[0])
    assert executed.effects.status.success, executed.effects.status.error
    return executed


def execute(account: "Account", inputs: list[bytes], commands: list[bytes], nonce: int = 0, **options: Any) -> Any:
    """Executes with the address balance paying for gas."""
    data = account.data(inputs, commands, [], budget=BUDGET, expiration=account.valid_now(nonce, **options))
    return proto.ExecutedTransaction.parse(account.ledger.execute(data, [account.sign(data)]))


def held(account: "Account", owner: bytes | None = None) -> int:
    return account.ledger.store.funds(owner or account.address, SUI_TEXT)


def test_sent_funds_are_in_the_balance_and_in_the_effects(account: "Account") -> None:
    executed = fund(account, 50_000_000)
    assert held(account) == 50_000_000
    (change,) = [c for c in executed.effects.changed_objects if c.accumulator_write is not None]
    assert change.object_id == "0x" + accumulator_id(account.address, SUI_TYPE).hex()
    assert (change.accumulator_write.operation.name, change.accumulator_write.integer_value) == ("MERGE", 50_000_000)


def test_the_balance_pays_for_gas_and_nothing_else_is_touched(account: "Account") -> None:
    fund(account, 50_000_000)
    coins = account.coins()
    executed = execute(account, [], [account.call(SUI, "address::length")])
    assert executed.effects.status.success
    assert executed.effects.gas_object is None
    assert held(account) == 50_000_000 - executed.effects.gas_used.computation_cost
    assert account.coins() == coins


def test_withdrawn_funds_become_a_coin(account: "Account") -> None:
    fund(account, 50_000_000)
    inputs = [account.withdrawal(5_000), account.pure(FRIEND)]
    commands = [
        account.call(SUI, "coin::redeem_funds", account.input(0), types=[TAG]),
        account.transfer(account.input(1), account.result(0)),
    ]
    executed = execute(account, inputs, commands)
    assert executed.effects.status.success, executed.effects.status.error
    (coin,) = account.ledger.store.owned(FRIEND, "address", b"", 10, "")
    used = executed.effects.gas_used
    assert coin.balance == 5_000
    assert held(account) == 50_000_000 - 5_000 - used.computation_cost - used.storage_cost
    totals = {change.address: int(change.amount) for change in executed.balance_changes}
    assert totals["0x" + FRIEND.hex()] == 5_000


def test_more_than_there_is_is_refused_before_execution(account: "Account") -> None:
    fund(account, 50_000_000)
    redeem = [account.call(SUI, "coin::redeem_funds", account.input(0), types=[TAG])]
    with pytest.raises(TransactionRefusedError, match="less than the requested"):
        execute(account, [account.withdrawal(50_000_000)], redeem)
    with pytest.raises(TransactionRefusedError, match="above zero"):
        execute(account, [account.withdrawal(0)], redeem)
    with pytest.raises(TransactionRefusedError, match="no sponsor"):
        execute(account, [account.withdrawal(5, from_sponsor=True)], redeem)
    assert held(account) == 50_000_000


def test_gas_from_the_balance_needs_a_window_of_validity(account: "Account") -> None:
    fund(account, 50_000_000)
    call_ = [account.call(SUI, "address::length")]
    data = account.data([], call_, [], budget=BUDGET)
    with pytest.raises(TransactionRefusedError, match="require ValidDuring"):
        account.ledger.execute(data, [account.sign(data)])
    with pytest.raises(TransactionRefusedError, match="this is epoch 0"):
        execute(account, [], call_, epochs=(1, 2))
    with pytest.raises(TransactionRefusedError, match=r"at most min_epoch \+ 1"):
        execute(account, [], call_, epochs=(0, 2))
    with pytest.raises(TransactionRefusedError, match="Invalid chain identifier"):
        execute(account, [], call_, chain=bytes(32))


def test_equal_transactions_are_told_apart_by_their_nonce_and_repeated_bytes_are_not_charged(
    account: "Account",
) -> None:
    fund(account, 50_000_000)
    call_ = [account.call(SUI, "address::length")]
    first, again, other = (execute(account, [], call_, nonce) for nonce in (1, 1, 2))
    assert first.digest == again.digest
    assert other.digest != first.digest
    assert held(account) == 50_000_000 - 2 * first.effects.gas_used.computation_cost


def test_the_gas_coin_can_not_be_used_where_there_is_none(account: "Account") -> None:
    fund(account, 50_000_000)
    executed = execute(
        account, [account.pure((5).to_bytes(8, "little"))], [account.split(account.GAS, account.input(0))]
    )
    assert executed.effects.status.error.kind.name == "COMMAND_ARGUMENT_ERROR"


def test_a_reservation_is_of_this_payer_chain_and_epoch() -> None:
    chain, payer = b"\x0c" * 32, b"\x05" * 32
    object_id = bytes(a ^ b for a, b in zip(accumulator_id(payer, SUI_TYPE), chain, strict=True))
    digest = (77).to_bytes(8, "little") + bytes(4) + b"\xac" * 20
    ref = ObjectRef(object_id, 0, digest)
    assert reservation_of(ref, payer, chain, 0) == 77
    assert reservation_of(ref, FRIEND, chain, 0) is None
    assert reservation_of(ref, payer, bytes(32), 0) is None
    assert reservation_of(ref, payer, chain, 1) is None
    assert ACCUMULATOR_ROOT.hex().endswith("0acc")


def test_an_object_sent_to_an_object_is_received_by_its_version_and_type(ledger: Ledger, account: "Account") -> None:
    parent = b"\x0a" * 32
    sent = make_object(
        b"\x0b" * 32, 4, Owner("address", parent), GAS_COIN, b"\x0b" * 32 + bytes(8),
        previous=bytes(32), storage_mist=0, public_transfer=True,
    )  # fmt: skip
    receive = FUNCTIONS[SUI, "transfer", "public_receive"]

    def execution(receivable: list[Object]) -> Execution:
        made = Execution(
            Program(), lambda _: None, sender=bytes(32), sponsor=None, digest=bytes(32), epoch=0, epoch_start_ms=0,
            gas_price=1_000, meter=Meter(1_000),
        )  # fmt: skip
        made.receivable = {o.id: o for o in receivable}
        return made

    one = execution([sent])
    uid = Ref([[[parent]]], 0)
    (coin,) = call(one, receive, (GAS_COIN,), [uid, [[sent.id], 4]])
    assert (coin[0][0][0], one.received) == (sent.id, {sent.id: sent})
    for arguments, type_, code in (
        ([uid, [[sent.id], 4]], GAS_COIN, 3),  # twice
        ([uid, [[sent.id], 5]], GAS_COIN, 3),
        ([Ref([[[FRIEND]]], 0), [[sent.id], 4]], GAS_COIN, 3),
    ):
        with pytest.raises(MoveAbortError) as refused:
            call(one, receive, (type_,), arguments)
        assert refused.value.code == code
    with pytest.raises(MoveAbortError) as mismatch:
        call(execution([sent]), receive, (SUI_TYPE,), [uid, [[sent.id], 4]])
    assert mismatch.value.code == 2


def test_an_object_to_receive_must_be_there_in_this_version_and_stays_where_it_is_not_taken(account: "Account") -> None:
    gas, other, _ = account.coins()
    executed = account.run([account.receiving(other)], [account.call(SUI, "address::length")], gas)
    assert executed.effects.status.success
    assert account.ledger.object(other.id) == other
    account.run([account.pure(FRIEND)], [account.transfer(account.input(0), account.GAS)], account.coins()[1])
    stale = [account.receiving(make_object(
        other.id, other.version + 1, other.owner, other.type, other.contents, previous=bytes(32), storage_mist=0,
        public_transfer=True,
    ))]  # fmt: skip
    with pytest.raises(TransactionRefusedError, match="not available for consumption"):
        account.run(stale, [account.call(SUI, "address::length")], account.coins()[0])
