"""Transactions are encoded as Sui reads them: pysui's own BCS classes decode ours and encode the same bytes."""

import warnings

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.common.errors import InvalidInput
from daas.common.messages import Header
from daas.ledger import calls
from daas.ledger.address import CLOCK_ADDRESS, format_address, format_digest
from daas.ledger.models import ObjectReference, SharedReference, SignedBatch, SignedTransaction
from daas.ledger.signer import Signer
from daas.ledger.transaction import (
    MAX_PURE_BYTES,
    Command,
    GasCoin,
    GasPayment,
    MoveCall,
    Object,
    Publish,
    Pure,
    Reference,
    Result,
    SplitCoins,
    TransferObjects,
    encode_transaction,
    sign_transaction,
    spent_mist,
    transaction_digest,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pysui's dependencies deprecate each other; that is theirs to settle
    from pysui.sui.sui_bcs import bcs as pysui_bcs

SIGNER = Signer(bytes(range(32)))
REGISTRY, ENCLAVE, CAP, PACKAGE, POOL = (format_address(bytes([n]) * 32) for n in (1, 2, 3, 4, 8))
COIN = ObjectReference(format_address(b"\x05" * 32), 7, format_digest(b"\x06" * 32))
GAS = GasPayment((COIN,), 1000, 50_000_000)
REFERENCES: dict[str, Reference] = {
    REGISTRY: SharedReference(REGISTRY, 11),
    ENCLAVE: SharedReference(ENCLAVE, 12),
    POOL: SharedReference(POOL, 14),
    CLOCK_ADDRESS: SharedReference(CLOCK_ADDRESS, 1),
    CAP: ObjectReference(CAP, 13, format_digest(b"\x07" * 32)),
}


def signed_batch(sequence: int = 1) -> SignedBatch:
    header = Header(
        chain="aa" * 32,
        registry=REGISTRY,
        sequence=sequence,
        previous="00" * 32,
        log_sequence=5,
        log_root="bb" * 32,
        policy="cc" * 32,
        state_root="dd" * 32,
        decisions="ee" * 32,
        count=3,
        expires_ms=1_732_260_060_000,
    )
    return SignedBatch(header=header, timestamp_ms=1_732_260_000_000, signature=bytes(64), enclave=ENCLAVE)


def encode(*commands: Command) -> bytes:
    return encode_transaction(commands, REFERENCES, SIGNER.address, GAS)


def test_pysui_reads_an_anchor_as_it_was_meant() -> None:
    data = encode(calls.anchor(PACKAGE, signed_batch()))
    decoded = pysui_bcs.TransactionData.deserialize(data)
    assert bytes(decoded.serialize()) == data
    transaction = decoded.value
    (command,) = transaction.TransactionKind.value.Command
    assert (command.enum_name, command.value.Module, command.value.Function) == ("MoveCall", "placement", "anchor")
    shared = {
        bytes(item.value.value.ObjectID.Address): (item.value.value.SequenceNumber, item.value.value.Mutable)
        for item in transaction.TransactionKind.value.Inputs
        if item.enum_name == "Object"
    }
    assert shared == {
        bytes([1]) * 32: (11, True),
        bytes([2]) * 32: (12, False),
        bytes(31) + b"\x06": (1, False),
    }
    assert (transaction.GasData.Price, transaction.GasData.Budget) == (1000, 50_000_000)
    assert bytes(transaction.Sender.Address).hex() == SIGNER.address[2:]


def test_several_batches_name_each_object_once() -> None:
    data = encode(calls.anchor(PACKAGE, signed_batch(1)), calls.anchor(PACKAGE, signed_batch(2)))
    kind = pysui_bcs.TransactionData.deserialize(data).value.TransactionKind.value
    objects = [bytes(i.value.value.ObjectID.Address) for i in kind.Inputs if i.enum_name == "Object"]
    assert len(kind.Command) == 2
    assert len(objects) == len(set(objects)) == 3


def test_pysui_reads_publish_transfer_and_results() -> None:
    data = encode(
        Publish((b"module one", b"module two"), ("0x1", "0x2")),
        TransferObjects((Result(0),), SIGNER.address),
        calls.load_document(b"document"),
        calls.register(PACKAGE, REGISTRY, POOL, 2),
        calls.revoke(PACKAGE, CAP, ENCLAVE),
    )
    decoded = pysui_bcs.TransactionData.deserialize(data)
    assert bytes(decoded.serialize()) == data
    names = [command.enum_name for command in decoded.value.TransactionKind.value.Command]
    assert names == ["Publish", "TransferObjects", "MoveCall", "MoveCall", "MoveCall"]


def test_pysui_reads_a_deposit_out_of_the_gas_coin() -> None:
    commands = calls.stake.deposit(PACKAGE, POOL, 5_000)
    data = encode(*commands)
    decoded = pysui_bcs.TransactionData.deserialize(data)
    assert bytes(decoded.serialize()) == data
    kind = decoded.value.TransactionKind.value
    assert [command.enum_name for command in kind.Command] == ["SplitCoin", "MoveCall"]
    assert bytes(kind.Inputs[0].value) == (5_000).to_bytes(8, "little")
    assert spent_mist(commands) == 5_000
    assert spent_mist([SplitCoins(Result(0), (7,)), *calls.stake.withdraw(PACKAGE, POOL, SIGNER.address)]) == 0
    assert isinstance(commands[0], SplitCoins)
    assert commands[0].coin == GasCoin()


arguments = st.one_of(
    st.binary(max_size=200).map(Pure),
    st.sampled_from([REGISTRY, ENCLAVE, CAP, CLOCK_ADDRESS]).map(Object),
    st.integers(0, 65535).map(Result),
)
names = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)
moves = st.builds(MoveCall, st.just(PACKAGE), names, names, st.lists(arguments, max_size=6).map(tuple))


@given(st.lists(moves, min_size=1, max_size=4))
def test_any_transaction_survives_pysui(commands: list[MoveCall]) -> None:
    data = encode(*commands)
    assert bytes(pysui_bcs.TransactionData.deserialize(data).serialize()) == data


def test_the_same_transaction_has_the_same_bytes_signature_and_digest() -> None:
    data = encode(calls.anchor(PACKAGE, signed_batch()))
    first, second = sign_transaction(data, SIGNER), sign_transaction(data, SIGNER)
    assert first == second
    assert first.digest == transaction_digest(data)


def test_a_signed_transaction_survives_being_written_down() -> None:
    transaction = sign_transaction(encode(calls.anchor(PACKAGE, signed_batch())), SIGNER)
    assert msgspec.json.decode(msgspec.json.encode(transaction), type=SignedTransaction) == transaction


def test_what_the_protocol_would_refuse_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidInput) as refused:
        encode(calls.load_document(bytes(MAX_PURE_BYTES)))
    assert refused.value.reason == "argument-size"
    big = MoveCall(PACKAGE, "m", "f", tuple(Pure(bytes(MAX_PURE_BYTES)) for _ in range(8)))
    with pytest.raises(InvalidInput) as refused:
        encode(big)
    assert refused.value.reason == "transaction-size"
