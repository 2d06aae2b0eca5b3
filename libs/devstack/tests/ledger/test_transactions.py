"""Transactions are admitted, executed, charged and recorded the way Sui does it."""

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daas.devstack.ledger.errors import LedgerError, TransactionRefusedError
from daas.devstack.ledger.execution import derive_field_id, derive_object_id
from daas.devstack.ledger.gas import rebate_mist
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.objects import CLOCK_ID, make_object, object_size
from daas.devstack.ledger.server import default_packages
from daas.devstack.ledger.store import Store
from daas.devstack.ledger.type_tags import GAS_COIN, SUI, format_type, parse_address, parse_type
from daas.devstack.ledger.wire import base58, unbase58

if TYPE_CHECKING:
    from libs.devstack.tests.ledger.conftest import Account

AMOUNT = (1_000).to_bytes(8, "little")


def split_and_send(account: "Account", recipient: bytes) -> tuple[list[bytes], list[bytes]]:
    inputs = [account.pure(AMOUNT), account.pure(recipient)]
    commands = [account.split(account.GAS, account.input(0)), account.transfer(account.input(1), account.result(0))]
    return inputs, commands


def publish(account: "Account", gas: Any) -> tuple[Any, bytes]:
    (path,) = default_packages()
    built = json.loads(Path(path).read_text())
    modules = [b64decode(code) for code in built["modules"]]
    command = account.publish(modules, [parse_address(d) for d in built["dependencies"]])
    executed = account.run(
        [account.pure(account.address)], [command, account.transfer(account.input(0), account.result(0))], gas
    )
    package = next(c for c in executed.effects.changed_objects if c.object_type == "package")
    return executed, parse_address(package.object_id)


def test_object_ids_come_from_the_transaction_digest_and_a_counter(ledger: Ledger, account: "Account") -> None:
    executed = account.run(*split_and_send(account, b"\x07" * 32), account.coins()[0])
    digest = unbase58(executed.digest)
    preimage = b"\xf1" + digest + bytes(8)
    assert derive_object_id(digest, 0) == hashlib.blake2b(preimage, digest_size=32).digest()
    (sent,) = ledger.store.owned(b"\x07" * 32, "address", b"", 10, "")
    assert (sent.id, sent.balance) == (derive_object_id(digest, 0), 1_000)


def test_a_dynamic_field_id_depends_on_parent_name_and_the_type_of_the_name() -> None:
    name = (5).to_bytes(8, "little")
    ids = {derive_field_id(bytes(32), "u64", name), derive_field_id(b"\x01" * 32, "u64", name)}
    assert len(ids | {derive_field_id(bytes(32), "u128", name)}) == 3
    preimage = b"\xf0" + bytes(32) + (8).to_bytes(8, "little") + name + b"\x02"
    assert hashlib.blake2b(preimage, digest_size=32).digest() in ids


def test_a_coin_is_charged_the_130_bytes_that_it_costs_on_sui() -> None:
    assert object_size(GAS_COIN, bytes(40)) == 130


def test_what_is_spent_is_what_the_summary_says(ledger: Ledger, account: "Account") -> None:
    before = account.coins()[0]
    executed = account.run(*split_and_send(account, b"\x07" * 32), before)
    used = executed.effects.gas_used
    after = ledger.object(before.id)
    assert after is not None
    assert before.balance is not None
    assert (used.computation_cost, used.storage_cost) == (1_000_000, 2 * 988_000)
    assert used.storage_rebate == rebate_mist(988_000)
    assert after.balance == before.balance - 1_000 - used.computation_cost - used.storage_cost + used.storage_rebate


def test_the_same_bytes_again_give_the_same_record_and_change_nothing(ledger: Ledger, account: "Account") -> None:
    data = account.data(*split_and_send(account, b"\x07" * 32), [account.coins()[0]])
    first = ledger.execute(data, [account.sign(data)])
    height = ledger.latest.sequence
    assert ledger.execute(data, [account.sign(data)]) == first
    assert ledger.latest.sequence == height
    assert len(ledger.store.owned(b"\x07" * 32, "address", b"", 10, "")) == 1


def test_a_stale_version_of_an_owned_object_is_refused_with_the_current_one(ledger: Ledger, account: "Account") -> None:
    coin = account.coins()[0]
    account.run(*split_and_send(account, b"\x07" * 32), coin)
    now = ledger.object(coin.id)
    assert now is not None
    with pytest.raises(TransactionRefusedError, match=f"not available for consumption, current version: {now.version}"):
        account.run(*split_and_send(account, b"\x08" * 32), coin)


def test_a_right_version_with_a_wrong_digest_is_refused(account: "Account") -> None:
    coin = account.coins()[0]
    forged = make_object(
        coin.id, coin.version, coin.owner, coin.type, coin.id + bytes(8),
        previous=bytes(32), storage_mist=0, public_transfer=True,
    )  # fmt: skip
    with pytest.raises(TransactionRefusedError, match="not available for consumption"):
        account.run(*split_and_send(account, b"\x07" * 32), forged)


def test_an_object_of_someone_else_is_refused(ledger: Ledger, account: "Account") -> None:
    other = ledger.object(ledger.mint(b"\x09" * 32, 5_000))
    assert other is not None
    inputs = [account.owned(other), account.pure(account.address)]
    with pytest.raises(TransactionRefusedError, match="not signed by the correct sender"):
        account.run(inputs, [account.transfer(account.input(1), account.input(0))], account.coins()[0])


def test_an_object_given_twice_is_refused(account: "Account") -> None:
    gas, coin, _ = account.coins()
    merge = [account.merge(account.input(0), account.input(1))]
    with pytest.raises(TransactionRefusedError, match="more than one"):
        account.run([account.owned(coin), account.owned(coin)], merge, gas)
    with pytest.raises(TransactionRefusedError, match="more than one"):
        account.run([account.owned(gas), account.owned(coin)], merge, gas)


def test_a_changed_byte_or_a_foreign_signature_is_refused(ledger: Ledger, account: "Account") -> None:
    data = account.data(*split_and_send(account, b"\x07" * 32), [account.coins()[0]])
    signature = account.sign(data)
    for bad in ([], [signature, signature], [signature[:-1]], [b"\x01" + signature[1:]]):
        with pytest.raises(TransactionRefusedError, match="Invalid user signature"):
            ledger.execute(data, bad)
    stranger = type(account)(ledger)
    with pytest.raises(TransactionRefusedError, match="no signature by"):
        ledger.execute(data, [stranger.sign(data)])
    with pytest.raises(TransactionRefusedError, match="not valid"):
        ledger.execute(data.replace(b"\x07" * 32, b"\x08" * 32), [signature])


def test_coins_split_merge_and_move_without_losing_a_mist(ledger: Ledger, account: "Account") -> None:
    gas, first, second = account.coins()
    inputs = [account.owned(first), account.owned(second), account.pure(AMOUNT), account.pure(b"\x07" * 32)]
    commands = [
        account.merge(account.input(0), account.input(1)),
        account.split(account.input(0), account.input(2), account.input(2)),
        account.merge(account.result(1, 0), account.result(1, 1)),
        account.transfer(account.input(3), account.result(1, 0)),
    ]
    executed = account.run(inputs, commands, gas)
    assert executed.effects.status.success
    assert ledger.object(second.id) is None
    kept = ledger.object(first.id)
    (sent,) = ledger.store.owned(b"\x07" * 32, "address", b"", 10, "")
    assert kept is not None
    assert (kept.balance, sent.balance) == (20_000_000_000 - 2_000, 2_000)
    assert {c.output_version for c in executed.effects.changed_objects if c.output_version} == {kept.version}


def test_the_gas_coin_itself_can_be_given_away(ledger: Ledger, account: "Account") -> None:
    gas = account.coins()[0]
    account.run([account.pure(b"\x07" * 32)], [account.transfer(account.input(0), account.GAS)], gas)
    held = ledger.object(gas.id)
    assert held is not None
    assert held.owner.address == b"\x07" * 32
    assert held.balance is not None
    assert held.balance > 9_990_000_000


def test_a_failed_transaction_is_charged_and_undone(ledger: Ledger, account: "Account") -> None:
    gas, coin, _ = account.coins()
    inputs = [account.owned(coin), account.pure((1 << 60).to_bytes(8, "little")), account.pure(b"\x07" * 32)]
    commands = [
        account.split(account.input(0), account.input(1)),
        account.transfer(account.input(2), account.result(0)),
    ]
    executed = account.run(inputs, commands, gas)
    error = executed.effects.status.error
    assert (executed.effects.status.success, error.kind.name, error.command) == (False, "INSUFFICIENT_COIN_BALANCE", 0)
    held, paid = ledger.object(coin.id), ledger.object(gas.id)
    assert held is not None
    assert paid is not None
    assert (held.balance, held.version) == (coin.balance, executed.effects.lamport_version)
    assert paid.balance is not None
    assert paid.balance < 10_000_000_000


def test_a_result_that_must_not_be_dropped_fails_the_transaction(account: "Account") -> None:
    executed = account.run([account.pure(AMOUNT)], [account.split(account.GAS, account.input(0))], account.coins()[0])
    assert executed.effects.status.error.kind.name == "UNUSED_VALUE_WITHOUT_DROP"


def test_publishing_our_package_runs_its_initialisers(ledger: Ledger, account: "Account") -> None:
    executed, package = publish(account, account.coins()[0])
    assert executed.effects.status.success, executed.effects.status.error
    made = {c.object_type.split("::", 1)[1] for c in executed.effects.changed_objects if "::" in c.object_type}
    assert {"registry::AdminCap", "registry::RevokerCap", "package::UpgradeCap"} <= made
    assert package in ledger.packages


def test_another_package_than_the_pinned_one_is_not_published(ledger: Ledger, account: "Account") -> None:
    (path,) = default_packages()
    built = json.loads(Path(path).read_text())
    command = account.publish([b64decode(built["modules"][1])], [parse_address(d) for d in built["dependencies"]])
    inputs = [account.pure(account.address)]
    executed = account.run(inputs, [command, account.transfer(account.input(0), account.result(0))], account.coins()[0])
    assert "is not pinned" in executed.effects.status.error.description
    assert not ledger.packages


def test_functions_of_a_published_package_are_not_callable_before_the_commit(account: "Account") -> None:
    (path,) = default_packages()
    built = json.loads(Path(path).read_text())
    command = account.publish([b64decode(built["modules"][1])], [parse_address(d) for d in built["dependencies"]])
    before = set(account.ledger.program.functions)
    account.run([], [command], account.coins()[0])
    assert set(account.ledger.program.functions) == before


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("enclaves::nothing", "FUNCTION_NOT_FOUND"),
        ("enclaves::admit", "NON_ENTRY_FUNCTION_INVOKED"),
        ("accounts::new", "NON_ENTRY_FUNCTION_INVOKED"),
        ("intent::placement", "ARITY_MISMATCH"),
    ],
)
def test_calls_that_can_not_be_made_say_why(account: "Account", path: str, kind: str) -> None:
    _, package = publish(account, account.coins()[0])
    executed = account.run([account.pure(b"\x01")], [account.call(package, path, account.input(0))], account.coins()[1])
    assert executed.effects.status.error.kind.name == kind


def test_a_transaction_can_not_transfer_in_a_modules_name(account: "Account") -> None:
    coin = account.coins()[1]
    tag = b"\x07" + SUI + b"\x04coin\x04Coin\x01\x07" + SUI + b"\x03sui\x03SUI\x00"
    inputs = [account.owned(coin), account.pure(b"\x07" * 32)]
    for function, succeeds in (("transfer", False), ("public_transfer", True)):
        call = account.call(SUI, f"transfer::{function}", account.input(0), account.input(1), types=[tag])
        held = account.ledger.object(coin.id)
        assert held is not None
        executed = account.run([account.owned(held), inputs[1]], [call], account.coins()[0])
        assert executed.effects.status.success is succeeds


def test_the_clock_is_shared_and_read_only(ledger: Ledger, account: "Account") -> None:
    clock = ledger.object(CLOCK_ID)
    assert clock is not None
    call = [account.call(SUI, "clock::timestamp_ms", account.input(0))]
    assert account.run([account.shared(clock, mutable=False)], call, account.coins()[0]).effects.status.success
    with pytest.raises(TransactionRefusedError, match="read only"):
        account.run([account.shared(clock, mutable=True)], call, account.coins()[0])
    with pytest.raises(TransactionRefusedError, match="initial version 1, not 2"):
        account.run([account.shared(clock, mutable=False, version=2)], call, account.coins()[0])


def test_checkpoints_name_their_predecessors_and_the_first_names_the_chain(ledger: Ledger, account: "Account") -> None:
    account.run(*split_and_send(account, b"\x07" * 32), account.coins()[0])
    found = [ledger.store.checkpoint(n) for n in range(ledger.latest.sequence + 1)]
    for previous, checkpoint in pairwise(found):
        assert previous is not None
        assert checkpoint is not None
        assert previous.digest in checkpoint.summary
        digest = hashlib.blake2b(b"CheckpointSummary::" + checkpoint.summary, digest_size=32).digest()
        assert checkpoint.digest == digest
    assert found[0] is not None
    assert found[0].digest == ledger.chain


def test_a_reopened_ledger_has_the_same_chain_objects_packages_and_records(
    open_ledger: Callable[[], Ledger], ledger: Ledger, account: "Account"
) -> None:
    executed, package = publish(account, account.coins()[0])
    coins, chain, latest = account.coins(), ledger.chain, ledger.latest
    record = ledger.store.executed(unbase58(executed.digest))
    again = open_ledger()
    assert (again.chain, again.latest) == (chain, latest)
    assert again.store.owned(account.address, "address", b"", 100, format_type(GAS_COIN)) == coins
    assert again.store.executed(unbase58(executed.digest)) == record
    assert again.program.function(package, "placement", "anchor") is not None


def test_one_process_at_a_time_has_the_state(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.latest.sequence == 0
    with pytest.raises(LedgerError, match="another process"):
        Store(tmp_path / "ledger")


@pytest.mark.parametrize("text", ["u8", "vector<0x2::coin::Coin<0x2::sui::SUI>>", "0x1::option::Option<vector<u8>>"])
def test_types_are_parsed_from_what_they_print(text: str) -> None:
    assert parse_type(format_type(parse_type(text))) == parse_type(text)


def test_digests_survive_base58() -> None:
    for digest in (bytes(32), b"\xff" * 32, b"\x00" + b"\x01" * 31):
        assert unbase58(base58(digest)) == digest
