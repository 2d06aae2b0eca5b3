"""The client against the embedded ledger in a process of its own: the whole life of a cluster's registry."""

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.common import decision, merkle
from daas.ledger import (
    Anchored,
    EnclaveRevoked,
    Ledger,
    Limits,
    MoveAbortError,
    NoGas,
    NoSuchObject,
    SignedTransaction,
    Signer,
    calls,
)

if TYPE_CHECKING:
    from libs.ledger.tests.conftest import Cluster, Server

pytestmark = pytest.mark.connected

PCRS = (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
POLICY = b"\x0b" * 32


async def test_a_registry_and_an_enclave_are_read_back_as_they_were_made(ledger: Ledger, cluster: "Cluster") -> None:
    registry = await ledger.registry(cluster.registry.address)
    assert (registry.simulated, registry.sequence, registry.policy) == (True, 0, POLICY)
    assert registry.chain == await ledger.chain_digest()
    enclave = await ledger.enclave(cluster.enclave)
    assert enclave.public_key == cluster.key.public_key().public_bytes_raw()
    assert (enclave.registry, enclave.simulated, enclave.operator) == (registry.address, True, ledger.address)
    assert registry.nonce == merkle.digest(cluster.registry.nonce + enclave.public_key)


async def test_a_reader_learns_the_package_from_the_registry(
    server: "Server", cluster: "Cluster", package: str
) -> None:
    async with await Ledger.connect(server.url) as reader:
        await reader.registry(cluster.registry.address)
        assert reader.package == package
        with pytest.raises(NoSuchObject):
            await reader.registry(cluster.enclave)
        with pytest.raises(NoSuchObject):
            await reader.enclave("0x" + "77" * 32)


async def test_anchors_advance_the_head_at_one_call_each(ledger: Ledger, cluster: "Cluster") -> None:
    previous = "00" * 32
    for sequence in range(1, 11):
        batch = cluster.batch(sequence, previous)
        before = ledger.rpc_calls
        effects = await ledger.submit(await ledger.build_anchor(batch))
        anchored = effects.only(Anchored)
        assert anchored.payload_digest == decision.payload_digest(batch.header)
        assert (anchored.sequence, anchored.simulated, anchored.enclave) == (sequence, True, cluster.enclave)
        if sequence > 1:
            assert ledger.rpc_calls - before == 1
        previous = anchored.payload_digest.hex()
    registry = await ledger.registry(cluster.registry.address)
    assert (registry.sequence, registry.head.hex(), registry.log_sequence) == (10, previous, 10)


async def test_one_anchor_costs_about_the_minimum_whatever_it_decides(ledger: Ledger, cluster: "Cluster") -> None:
    first = await ledger.submit(await ledger.build_anchor(cluster.batch(1, count=1)))
    previous = first.only(Anchored).payload_digest.hex()
    second = await ledger.submit(await ledger.build_anchor(cluster.batch(2, previous, count=512)))
    assert abs(second.gas_mist - first.gas_mist) < 1_000_000


async def test_several_batches_are_anchored_in_one_transaction_all_or_none(ledger: Ledger, cluster: "Cluster") -> None:
    first = cluster.batch(1)
    second = cluster.batch(2, decision.payload_digest(first.header).hex())
    gap = cluster.batch(4, decision.payload_digest(second.header).hex())
    with pytest.raises(MoveAbortError) as refused:
        await ledger.submit(await ledger.build_anchor(first, second, gap))
    assert (refused.value.name, refused.value.command) == ("ESequenceAhead", 2)
    assert (await ledger.registry(cluster.registry.address)).sequence == 0
    effects = await ledger.submit(await ledger.build_anchor(first, second))
    assert [event.sequence for event in effects.of(Anchored)] == [1, 2]


async def test_the_same_bytes_sent_again_have_the_same_fate(ledger: Ledger, cluster: "Cluster") -> None:
    transaction = await ledger.build_anchor(cluster.batch(1))
    stored = msgspec.json.decode(msgspec.json.encode(transaction), type=SignedTransaction)
    assert await ledger.transaction(transaction.digest) is None
    first = await ledger.submit(transaction)
    again = await ledger.submit(stored)
    assert (again.digest, again.events) == (first.digest, first.events) == (transaction.digest, first.events)
    known = await ledger.transaction(transaction.digest)
    assert known is not None
    assert known.events == first.events == await ledger.events(transaction.digest)
    assert (await ledger.registry(cluster.registry.address)).sequence == 1
    # The client goes on with the gas coin as it is now.
    following = cluster.batch(2, first.only(Anchored).payload_digest.hex())
    await ledger.submit(await ledger.build_anchor(following))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"sequence": 1}, "ESequenceTaken"),
        ({"sequence": 3}, "ESequenceAhead"),
        ({"previous": "aa" * 32}, "EWrongPredecessor"),
        ({"chain": "aa" * 32}, "EWrongChain"),
        ({"log_sequence": 1}, "ELogNotAhead"),
        ({"timestamp_ms": 1_000_000_000_000}, "EBatchTooOld"),
        ({"timestamp_ms": 9_000_000_000_000}, "EBatchFromFuture"),
    ],
)
async def test_the_ledger_refuses_a_batch_with(
    ledger: Ledger, cluster: "Cluster", changed: dict[str, Any], name: str
) -> None:
    effects = await ledger.submit(await ledger.build_anchor(cluster.batch(1)))
    fields: dict[str, Any] = {"sequence": 2, "previous": effects.only(Anchored).payload_digest.hex(), **changed}
    with pytest.raises(MoveAbortError) as refused:
        await ledger.submit(await ledger.build_anchor(cluster.batch(**fields)))
    assert (refused.value.module, refused.value.function, refused.value.name) == ("placement", "anchor", name)
    assert refused.value.effects is not None
    assert refused.value.effects.gas_mist > 0
    known = await ledger.transaction(refused.value.effects.digest)
    assert known is not None
    assert isinstance(known.failure, MoveAbortError)
    assert (await ledger.registry(cluster.registry.address)).sequence == 1


async def test_a_batch_signed_for_another_registry_is_refused_here(ledger: Ledger, cluster: "Cluster") -> None:
    call = calls.anchor(str(ledger.package), cluster.batch(1, registry="0x" + "55" * 32))
    other = calls.anchor(str(ledger.package), cluster.batch(1))
    redirected = msgspec.structs.replace(call, arguments=(other.arguments[0], *call.arguments[1:]))
    with pytest.raises(MoveAbortError) as refused:
        await ledger.run(redirected)
    assert refused.value.name == "EWrongRegistry"


async def test_a_batch_changed_in_any_field_no_longer_carries_a_signature(ledger: Ledger, cluster: "Cluster") -> None:
    batch = cluster.batch(1)
    for field_name, value in {
        "log_sequence": 2,
        "log_root": "12" * 32,
        "policy": "12" * 32,
        "state_root": "12" * 32,
        "decisions": "12" * 32,
        "count": 4,
        "expires_ms": 7,
    }.items():
        header = msgspec.structs.replace(batch.header, **{field_name: value})
        with pytest.raises(MoveAbortError) as refused:
            await ledger.submit(await ledger.build_anchor(msgspec.structs.replace(batch, header=header)))
        assert refused.value.name == "EBadSignature", field_name
    for forged in (
        msgspec.structs.replace(batch, timestamp_ms=batch.timestamp_ms + 1),
        msgspec.structs.replace(batch, signature=Ed25519PrivateKey.generate().sign(b"")),
    ):
        with pytest.raises(MoveAbortError) as refused:
            await ledger.submit(await ledger.build_anchor(forged))
        assert refused.value.name == "EBadSignature"


async def test_a_revoked_enclave_anchors_nothing(ledger: Ledger, cluster: "Cluster") -> None:
    effects = await ledger.revoke(cluster.enclave)
    assert effects.only(EnclaveRevoked).enclave == cluster.enclave
    with pytest.raises(MoveAbortError) as refused:
        await ledger.submit(await ledger.build_anchor(cluster.batch(1)))
    assert (refused.value.module, refused.value.name) == ("enclaves", "ERevoked")


async def test_one_nonce_registers_once(ledger: Ledger, cluster: "Cluster") -> None:
    with pytest.raises(MoveAbortError) as refused:
        await cluster.register(ledger)
    assert refused.value.name == "EWrongNonce"


async def test_a_malformed_attestation_document_is_refused_by_the_framework(ledger: Ledger) -> None:
    registry = await ledger.create_registry(simulated=False, policy=POLICY, pcrs=PCRS)
    with pytest.raises(MoveAbortError) as refused:
        await ledger.register_enclave(registry.address, b"not a document")
    assert (refused.value.module, refused.value.name) == ("nitro_attestation", "EParseError")


async def test_limits_policy_and_measurements_change_by_the_admin_only(
    server: "Server", ledger: Ledger, cluster: "Cluster"
) -> None:
    address = cluster.registry.address
    await ledger.set_limits(address, Limits(batch_age_ms=7_000))
    await ledger.set_policy(address, b"\x0c" * 32)
    await ledger.allow_measurement(address, (b"\x04" * 48, b"\x05" * 48, b"\x06" * 48))
    await ledger.retire_measurement(address, 1)
    registry = await ledger.registry(address)
    assert (registry.limits.batch_age_ms, registry.policy) == (7_000, b"\x0c" * 32)
    assert [measurement.version for measurement in registry.measurements] == [2]
    with pytest.raises(MoveAbortError) as refused:
        await ledger.submit(await ledger.build_anchor(cluster.batch(1)))
    assert refused.value.name == "EMeasurementRetired"
    stranger = Signer(os.urandom(32))
    server.fund(stranger.address)
    async with await Ledger.connect(server.url, stranger, package=ledger.package) as theirs:
        with pytest.raises(NoSuchObject) as missing:
            await theirs.set_policy(address, bytes(32))
    assert missing.value.reason == "capability-missing"


async def test_the_package_on_the_chain_agrees_with_ours_on_inclusion(ledger: Ledger) -> None:
    leaves = [bytes([n]) * n for n in range(1, 14)]
    for count in (1, 2, 3, 7, 13):
        tree = merkle.MerkleTree(leaves[:count])
        for index in range(count):
            path = tree.proof(index)
            assert await ledger.verify_inclusion(tree.root, leaves[index], index, count, path)
            for wrong in (
                (tree.root, leaves[index] + b"x", index, count, path),
                (tree.root, leaves[index], index + 1, count, path),
                (tree.root, leaves[index], index, count, (*path, bytes(32))),
                (bytes(32), leaves[index], index, count, path),
                (tree.root[:31], leaves[index], index, count, path),
            ):
                assert await ledger.verify_inclusion(*wrong) is merkle.verify(*wrong) is False


async def test_an_account_without_coins_is_told_so(server: "Server", package: str) -> None:
    async with await Ledger.connect(server.url, Signer(os.urandom(32)), package=package) as ledger:
        with pytest.raises(NoGas):
            await ledger.run(calls.verify_inclusion(package, root=b"", leaf=b"", index=0, count=0, path=()))
