"""What `placement` accepts and refuses, executed from the committed bytecode: anchors, inclusion, equivocation."""

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from move_machine import CHAIN, DAY_MS, NOW_MS, OPERATOR, PARAMETERS, REPORTER, STRANGER, Cluster, Held, Machine

from daas.common import bcs, decision, merkle
from daas.common.messages import Header
from daas.ledger.cluster import StakePool
from daas.ledger.cluster_events import Slashed, StakeChanged
from daas.ledger.events import Anchored, EnclaveRevoked, EquivocationReported
from daas.ledger.models import Registry

KEY = Ed25519PrivateKey.from_private_bytes(b"\x21" * 32)


class Signer:
    """A cluster with an enclave whose private key the test holds."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.cluster: Cluster = machine.create()
        machine.deposit(self.cluster, 2_000)
        self.enclave: Held = machine.enclave(self.cluster, KEY.public_key().public_bytes_raw())

    def header(self, **changed: Any) -> Header:
        fields: dict[str, Any] = {
            "chain": CHAIN.hex(),
            "registry": self.cluster.registry.address,
            "sequence": 1,
            "previous": "00" * 32,
            "log_sequence": 9,
            "log_root": "11" * 32,
            "policy": "22" * 32,
            "state_root": "33" * 32,
            "decisions": "44" * 32,
            "count": 3,
            "expires_ms": NOW_MS + 30_000,
        }
        return Header(**(fields | changed))

    def anchor(self, header: Header, timestamp_ms: int = NOW_MS, signature: bytes | None = None) -> list[Any]:
        message = decision.intent_message(1, timestamp_ms, decision.header_bcs(header))
        return [
            self.cluster.registry,
            self.enclave,
            bytes.fromhex(header.chain),
            bytes.fromhex(header.registry[2:]),
            header.sequence,
            bytes.fromhex(header.previous),
            header.log_sequence,
            *(bytes.fromhex(root) for root in (header.log_root, header.policy, header.state_root, header.decisions)),
            header.count,
            header.expires_ms,
            timestamp_ms,
            KEY.sign(message) if signature is None else signature,
        ]

    def signed(self, payload: bytes, timestamp_ms: int = NOW_MS) -> list[Any]:
        """Timestamp, payload and signature of one piece of evidence."""
        return [timestamp_ms, payload, KEY.sign(b"\x01" + bcs.u64(timestamp_ms) + payload)]

    def report(self, first: list[Any], second: list[Any]) -> list[Any]:
        return [self.cluster.registry, self.cluster.pool, self.enclave, *first, *second]


@pytest.fixture
def signer(machine: Machine) -> Signer:
    return Signer(machine)


def test_the_next_batch_becomes_the_head(machine: Machine, signer: Signer) -> None:
    header = signer.header()
    machine.call("placement::anchor", *signer.anchor(header))
    event = machine.event(Anchored)
    digest = decision.payload_digest(header)
    assert (event.sequence, event.payload_digest, event.enclave) == (1, digest, signer.enclave.address)
    state = machine.read(Registry, signer.cluster.registry)
    assert (state.sequence, state.head, state.log_sequence) == (1, digest, 9)
    following = signer.header(sequence=2, previous=digest.hex(), log_sequence=10)
    machine.call("placement::anchor", *signer.anchor(following))
    assert machine.refused("placement::anchor", *signer.anchor(following)) == "placement::ESequenceTaken"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"registry": "0x" + "55" * 32}, "placement::EWrongRegistry"),
        ({"chain": "55" * 32}, "placement::EWrongChain"),
        ({"sequence": 0}, "placement::ESequenceTaken"),
        ({"sequence": 2}, "placement::ESequenceAhead"),
        ({"previous": "55" * 32}, "placement::EWrongPredecessor"),
        ({"log_sequence": 0}, "placement::ELogNotAhead"),
        ({"log_root": "55" * 31}, "placement::EDigestLength"),
        ({"policy": "55" * 31}, "placement::EDigestLength"),
        ({"state_root": "55" * 33}, "placement::EDigestLength"),
        ({"decisions": ""}, "placement::EDigestLength"),
    ],
)
def test_a_batch_is_refused_with(machine: Machine, signer: Signer, changed: dict[str, Any], code: str) -> None:
    assert machine.refused("placement::anchor", *signer.anchor(signer.header(**changed))) == code


@pytest.mark.parametrize(
    ("timestamp_ms", "code"), [(NOW_MS - 86_400_001, "EBatchTooOld"), (NOW_MS + 60_001, "EBatchFromFuture")]
)
def test_a_batch_of_another_time_is_refused(machine: Machine, signer: Signer, timestamp_ms: int, code: str) -> None:
    refused = machine.refused("placement::anchor", *signer.anchor(signer.header(), timestamp_ms))
    assert refused == f"placement::{code}"


def test_a_batch_needs_the_signature_of_a_current_enclave(machine: Machine, signer: Signer) -> None:
    header = signer.header()
    refused = machine.refused("placement::anchor", *signer.anchor(header, signature=bytes(64)))
    assert refused == "enclaves::EBadSignature"
    machine.call("enclaves::revoke", signer.enclave)
    assert machine.refused("placement::anchor", *signer.anchor(header)) == "enclaves::ERevoked"


def test_inclusion_is_judged_as_our_library_does(machine: Machine) -> None:
    leaves = [bytes([n]) * n for n in range(1, 12)]
    tree = merkle.MerkleTree(leaves)
    for index in range(len(leaves)):
        path = list(tree.proof(index))
        for root, leaf, at, width, siblings in (
            (tree.root, leaves[index], index, 11, path),
            (tree.root, leaves[index] + b"x", index, 11, path),
            (tree.root, leaves[index], index, 11, [*path, bytes(32)]),
            (tree.root, leaves[index], index, 11, path[:-1]),
            (tree.root, leaves[index], index, 11, [sibling[1:] for sibling in path]),
            (tree.root, leaves[index], 11, 11, path),
            (tree.root[1:], leaves[index], index, 11, path),
        ):
            (answer,) = machine.call("placement::verify_inclusion", root, leaf, at, width, siblings)
            assert answer is merkle.verify(root, leaf, at, width, tuple(siblings))


def test_two_batches_with_one_number_cost_the_operator(machine: Machine, signer: Signer) -> None:
    first, second = signer.header(), signer.header(decisions="45" * 32)
    evidence = [signer.signed(decision.header_bcs(header)) for header in (first, second)]
    machine.call("placement::report_equivocation", *signer.report(*evidence), sender=REPORTER)
    event = machine.event(EquivocationReported)
    assert (event.sequence, event.slashed_mist, event.simulated) == (1, 1_000, True)
    assert (event.operator, event.reporter) == ("0x" + OPERATOR.hex(), "0x" + REPORTER.hex())
    assert event.first_digest == decision.payload_digest(first)
    slashed = machine.event(Slashed)
    assert (slashed.amount_mist, slashed.reporter_mist, slashed.treasury_mist) == (1_000, 100, 900)
    assert machine.event(StakeChanged).reason == 4
    assert machine.event(EnclaveRevoked).enclave == signer.enclave.address
    assert machine.paid() == {REPORTER: 100}
    pool = machine.read(StakePool, signer.cluster.pool)
    assert (pool.funds, pool.bonded_mist, pool.treasury) == (1_000, 1_000, 900)
    assert machine.refused("placement::anchor", *signer.anchor(first)) == "enclaves::ERevoked"


def test_a_pair_is_paid_for_once_in_whatever_order(machine: Machine, signer: Signer) -> None:
    first, second, third = (
        signer.signed(decision.header_bcs(signer.header(decisions=root * 32))) for root in ("45", "46", "47")
    )
    machine.call("placement::report_equivocation", *signer.report(first, second), sender=REPORTER)
    for pair in ((first, second), (second, first)):
        refused = machine.refused("placement::report_equivocation", *signer.report(*pair), sender=STRANGER)
        assert refused == "enclaves::EAlreadyReported"
    # Another contradiction of the same key costs again.
    machine.call("placement::report_equivocation", *signer.report(third, first), sender=REPORTER)
    assert machine.event(EquivocationReported).slashed_mist == 500


def test_stake_on_its_way_out_is_slashed_too(machine: Machine, signer: Signer) -> None:
    pool = signer.cluster.pool
    machine.call("stake::request_withdraw", pool, 500)
    machine.call("stake::request_withdraw", pool, 1_300)
    machine.now_ms += 2 * PARAMETERS["unbonding_ms"] + DAY_MS
    pair = [signer.signed(decision.header_bcs(signer.header(decisions=root * 32))) for root in ("45", "46")]
    machine.call("placement::report_equivocation", *signer.report(*pair), sender=REPORTER)
    assert machine.event(Slashed).amount_mist == 1_000
    changed = machine.event(StakeChanged)
    assert (changed.bonded_mist, changed.unbonding_mist) == (0, 1_000)
    (coin,) = machine.call("stake::withdraw", pool)
    assert coin[1] == [1_000]


def test_an_operator_without_stake_loses_its_key_only(machine: Machine) -> None:
    signer = Signer.__new__(Signer)
    signer.machine = machine
    signer.cluster = machine.create(parameters=machine.parameters(operator_minimum_mist=0))
    signer.enclave = machine.enclave(signer.cluster, KEY.public_key().public_bytes_raw())
    pair = [signer.signed(decision.header_bcs(signer.header(decisions=root * 32))) for root in ("45", "46")]
    machine.call("placement::report_equivocation", *signer.report(*pair), sender=REPORTER)
    assert machine.event(EquivocationReported).slashed_mist == 0
    assert machine.event(EnclaveRevoked).enclave == signer.enclave.address


def test_the_whole_stake_is_the_most_that_can_be_lost(machine: Machine, signer: Signer) -> None:
    all_of_it = machine.parameters(slash_bps=10_000, reporter_bps=0)
    machine.call("stake::set_parameters", signer.cluster.registry, signer.cluster.pool, all_of_it)
    machine.call("stake::request_withdraw", signer.cluster.pool, 700)
    first, second, third = (
        signer.signed(decision.header_bcs(signer.header(decisions=root * 32))) for root in ("45", "46", "47")
    )
    machine.call("placement::report_equivocation", *signer.report(first, second), sender=REPORTER)
    assert machine.event(Slashed).treasury_mist == 2_000
    assert machine.paid() == {}
    machine.call("placement::report_equivocation", *signer.report(first, third), sender=REPORTER)
    assert machine.event(EquivocationReported).slashed_mist == 0
    pool = machine.read(StakePool, signer.cluster.pool)
    assert (pool.funds, pool.bonded_mist, pool.treasury, pool.accounts.size) == (0, 0, 2_000, 0)


def test_what_is_no_contradiction_costs_nothing(machine: Machine, signer: Signer) -> None:
    payload = decision.header_bcs(signer.header())
    good = signer.signed(payload)
    for other, code in (
        (signer.signed(payload, NOW_MS + 1), "placement::ESamePayload"),
        (signer.signed(decision.header_bcs(signer.header(sequence=2))), "placement::EDifferentSequences"),
        (signer.signed(decision.header_bcs(signer.header(chain="55" * 32))), "placement::EWrongChain"),
        (signer.signed(decision.header_bcs(signer.header(registry="0x" + "55" * 32))), "placement::EWrongRegistry"),
        (signer.signed(payload + b"\x00"), "placement::ETrailingBytes"),
        (signer.signed(payload[:-1]), "bcs::0"),
        ([NOW_MS, decision.header_bcs(signer.header(count=4)), good[2]], "enclaves::EBadSignature"),
        ([NOW_MS, decision.header_bcs(signer.header(count=4)), bytes(63)], "enclaves::ESignatureLength"),
    ):
        for pair in ((good, other), (other, good)):
            assert machine.refused("placement::report_equivocation", *signer.report(*pair)) == code
    stranger = machine.create()
    arguments = [stranger.registry, signer.cluster.pool, signer.enclave, *good, *good]
    assert machine.refused("placement::report_equivocation", *arguments) == "stake::EWrongRegistry"
    arguments = [stranger.registry, stranger.pool, signer.enclave, *good, *good]
    assert machine.refused("placement::report_equivocation", *arguments) == "enclaves::EWrongRegistry"
    assert machine.read(StakePool, signer.cluster.pool).bonded_mist == 2_000


def test_another_intent_is_no_batch(machine: Machine, signer: Signer) -> None:
    header = signer.header()
    pair = []
    for changed in (header, msgspec.structs.replace(header, count=4)):
        payload = decision.header_bcs(changed)
        pair.append([NOW_MS, payload, KEY.sign(b"\x02" + bcs.u64(NOW_MS) + payload)])
    assert machine.refused("placement::report_equivocation", *signer.report(*pair)) == "enclaves::EBadSignature"
