"""Registrations and whatever else happens on the ledger: checked before it is paid for, a fact once it is there."""

import base64
from dataclasses import dataclass

import pytest
from support.relay import POLICY, Enclave, RelayStage, now_ms, until

from daas.attestation import POLICY_REGISTER, policy_register
from daas.common import merkle, subjects
from daas.common.messages import (
    ChainPolicyChanged,
    ChainSlashed,
    ChainStakeChanged,
    EnclaveAttested,
    EnclaveRegistered,
    EnclaveRevoked,
    PlacementDecided,
    encode,
)
from daas.common.subjects import Stream
from daas.devstack.nsm.forge import PCRS, Forge
from daas.ledger import EnclaveRegistered as RegisteredOnChain
from daas.ledger import Limits, SignedBatch
from daas.ledger.cluster import Rules
from daas.placement.log import StakeChanged, decode_entry, decode_event

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

Tip = tuple[int, str]


@dataclass(frozen=True)
class Refusal:
    dead: str
    fact: EnclaveRevoked


async def revocations(stage: RelayStage) -> list[EnclaveRevoked]:
    return await stage.facts(subjects.ENCLAVE_REVOKED, EnclaveRevoked)


async def refusal(stage: RelayStage, enclave: Enclave, message: int) -> Refusal:
    """Waits until a document is refused, and returns how the fact and the dead letter say it."""
    letter = await stage.wait_dead(Stream.ENCLAVE, message)
    fact = next(f for f in reversed(await revocations(stage)) if f.public_key == enclave.public_key)
    assert fact.enclave is None
    return Refusal(letter.reason, fact)


async def log_entries(stage: RelayStage) -> list[StakeChanged]:
    """What the relay has appended to the cluster log, in order: one event an entry."""
    found = []
    for stored in await stage.stored(Stream.LOG, subjects.LOG_CLUSTER):
        entry = decode_entry(stored.data)
        assert entry.source == "relay"
        (event,) = map(decode_event, entry.events)
        assert isinstance(event, StakeChanged)
        found.append(event)
    return found


async def test_a_fresh_document_registers_its_key_and_the_nonce_moves_on(stage: RelayStage) -> None:
    enclave = Enclave(stage)
    challenge = await stage.challenge()
    fact = await enclave.register()
    on_chain = await stage.ledger.enclave(fact.enclave)
    assert on_chain.public_key.hex() == fact.public_key == enclave.public_key
    assert (fact.registry, fact.simulated) == (stage.registry.address, True)
    assert fact.expires_ms == on_chain.expires_ms
    assert (await stage.challenge()).nonce != challenge.nonce
    # Whoever keeps documents finds the one that counted by what the ledger has said of it.
    assert fact.next_nonce == merkle.digest(bytes.fromhex(challenge.nonce + fact.public_key)).hex()
    assert fact.document_digest == on_chain.document_digest.hex()


async def test_a_document_that_answers_an_old_nonce_is_refused_and_the_new_one_given_out(stage: RelayStage) -> None:
    old = await stage.challenge()
    await stage.enclave()
    late = Enclave(stage)
    message = await late.attest(late.document(old.nonce))
    found = await refusal(stage, late, message)
    assert found.dead == found.fact.reason == "nonce"
    await late.register()


async def test_documents_that_vouch_for_something_else_are_refused_before_gas_is_spent(stage: RelayStage) -> None:
    sends = await stage.metric("daas_relay_sends_total")
    challenge = await stage.challenge()
    reasons = {}
    for name, measure, changes in (
        ("another policy", (), {"user_data": merkle.digest(b"another")}),
        ("another image", ("other",), {}),
        ("another key", (), {"public_key": bytes(32)}),
        ("a short key", (), {"public_key": bytes(31)}),
    ):
        enclave = Enclave(stage, measure)
        message = await enclave.attest(enclave.document(challenge.nonce, **changes))
        reasons[name] = (await refusal(stage, enclave, message)).fact.reason
    assert reasons == {
        "another policy": "user-data",
        "another image": "pcr-mismatch",
        "another key": "public-key",
        "a short key": "public-key-shape",
    }
    assert await stage.metric("daas_relay_sends_total") == sends


async def test_an_enclave_whose_policy_register_holds_another_policy_is_refused(stage: RelayStage) -> None:
    enclave = Enclave(stage, policy=merkle.digest(b"another"))
    message = await enclave.attest(enclave.document((await stage.challenge()).nonce))
    assert (await refusal(stage, enclave, message)).fact.reason == "pcr-mismatch"


async def test_a_document_under_another_root_is_refused(stage: RelayStage) -> None:
    enclave = Enclave(stage)
    nonce = bytes.fromhex((await stage.challenge()).nonce)
    binding = merkle.digest(stage.registry.chain + bytes.fromhex(stage.registry.address[2:]) + POLICY)
    key = enclave.key.public_key().public_bytes_raw()
    pcrs = PCRS | {POLICY_REGISTER: policy_register(POLICY)}
    forged = Forge.create(now_ms()).document(nonce=nonce, user_data=binding, public_key=key, pcrs=pcrs)
    message = await enclave.attest(forged)
    assert (await refusal(stage, enclave, message)).fact.reason == "root-not-pinned"


@pytest.mark.parametrize("document", [b"", b"\x00", b"not a document" * 10, b"\x84\x44" + bytes(200)])
async def test_bytes_that_are_no_document_are_refused(stage: RelayStage, document: bytes) -> None:
    enclave = Enclave(stage)
    message = await enclave.attest(document + enclave.public_key.encode()[:4] if document else document)
    found = await refusal(stage, enclave, message)
    assert found.fact.reason
    assert found.dead == found.fact.reason


async def test_an_altered_document_is_refused(stage: RelayStage) -> None:
    enclave = Enclave(stage)
    document = bytearray(enclave.document((await stage.challenge()).nonce))
    document[-1] ^= 1
    message = await enclave.attest(bytes(document))
    assert (await refusal(stage, enclave, message)).fact.reason == "cose-signature"


async def test_what_is_no_base64_is_refused(stage: RelayStage) -> None:
    enclave = Enclave(stage)
    message = await enclave.attest(b"x" + enclave.public_key.encode(), document="***")
    assert (await refusal(stage, enclave, message)).fact.reason == "document-base64"


async def test_the_same_document_in_a_second_message_changes_nothing(stage: RelayStage) -> None:
    enclave = Enclave(stage)
    document = enclave.document((await stage.challenge()).nonce)
    await enclave.attest(document)

    async def registered() -> bool:
        return enclave.public_key in [f.public_key for f in await stage.registrations()]

    await until(registered, "registered")
    before = await stage.registrations()
    sends = await stage.metric("daas_relay_sends_total")
    body = EnclaveAttested(
        public_key=enclave.public_key,
        policy="00" * 32,
        document=base64.b64encode(document).decode(),
        simulated=True,
    )
    await stage.enclave_bus.publish(subjects.ENCLAVE_ATTESTED, body, message_id=f"again:{enclave.public_key}")
    after = Enclave(stage)
    await after.register()
    found = await stage.registrations()
    assert found[: len(before)] == before
    assert [f.public_key for f in found[len(before) :]] == [after.public_key]
    assert await stage.metric("daas_relay_sends_total") == sends + 1


async def test_a_registration_that_somebody_else_made_is_a_fact_and_its_key_may_sign(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    other = Enclave(stage)
    registry = await stage.ledger.registry(stage.registry.address)
    effects = await (await stage.as_operator()).register_simulated(
        registry.address,
        public_key=other.key.public_key().public_bytes_raw(),
        pcrs=stage.pcrs(),
        nonce=registry.nonce,
        document_digest=bytes(32),
    )
    on_chain = effects.only(RegisteredOnChain)

    async def there() -> bool:
        return on_chain.enclave in [f.enclave for f in await stage.registrations()]

    await until(there, "the fact is out")
    fact: EnclaveRegistered = (await stage.registrations())[-1]
    assert (fact.public_key, fact.tx_digest) == (other.public_key, effects.digest)
    await stage.publish(other.decide(*tip))
    assert (await stage.wait_anchored(tip[0]))[-1].public_key == other.public_key


async def test_a_revoked_key_is_refused_without_spending_gas(stage: RelayStage, enclave: Enclave, tip: Tip) -> None:
    bad = await stage.enclave()
    registration = (await stage.registrations())[-1]
    await (await stage.as_operator()).revoke(registration.enclave)

    async def said() -> bool:
        return registration.enclave in [f.enclave for f in await revocations(stage)]

    await until(said, "the revocation is a fact")
    sends = await stage.metric("daas_relay_sends_total")
    message = await stage.publish(bad.decide(*tip))
    assert (await stage.wait_refused(message)).reason == "revoked"
    assert await stage.metric("daas_relay_sends_total") == sends
    # Nor after a restart, nor where the relay has lost its memory.
    await stage.stop_relay()
    for path in (stage.folder / "relay").iterdir():
        path.unlink()
    before = await revocations(stage)
    await stage.start_relay()
    again = await stage.publish(bad.decide(*tip, salt="-again"))
    assert (await stage.wait_refused(again)).reason == "revoked"
    assert await revocations(stage) == before, "nothing is said twice"


async def test_keys_of_an_image_that_is_allowed_no_more_are_over(stage: RelayStage, enclave: Enclave, tip: Tip) -> None:
    operator = await stage.as_operator()
    await operator.allow_measurement(stage.registry.address, stage.pcrs(("newer",)))
    newer = Enclave(stage, ("newer",))
    registration = await newer.register()
    await (await stage.as_operator()).retire_measurement(stage.registry.address, registration.measurement_version)

    async def said() -> bool:
        return registration.enclave in [f.enclave for f in await revocations(stage)]

    await until(said, "the end of the image is a fact")
    assert (await revocations(stage))[-1].reason == "measurement-retired"
    message = await stage.publish(newer.decide(*tip))
    assert (await stage.wait_refused(message)).reason == "measurement-retired"


async def test_a_registration_ends_with_its_time_and_the_enclave_is_told(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    operator = await stage.as_operator()
    await operator.set_limits(stage.registry.address, Limits(registration_ttl_ms=3_000))
    short = await stage.enclave()
    expires_ms = (await stage.registrations())[-1].expires_ms
    await (await stage.as_operator()).set_limits(stage.registry.address, Limits())

    async def over() -> bool:
        return now_ms() > expires_ms

    await until(over, "the registration has expired")
    message = await stage.publish(short.decide(*tip))
    assert (await stage.wait_refused(message)).reason == "expired"
    said = (await revocations(stage))[-1]
    assert (said.public_key, said.enclave, said.reason) == (short.public_key, None, "expired")


async def test_a_decision_of_a_key_that_nobody_registered_is_refused(
    stage: RelayStage, enclave: Enclave, tip: Tip
) -> None:
    message = await stage.publish(Enclave(stage).decide(*tip))
    assert (await stage.wait_refused(message)).reason == "unregistered-key"
    letter = await stage.wait_dead(Stream.PLACEMENT, message)
    assert letter.reason == "unregistered-key"


async def test_bytes_that_are_no_decision_are_a_dead_letter(stage: RelayStage, enclave: Enclave, tip: Tip) -> None:
    good: PlacementDecided = enclave.decide(*tip)
    raw = encode(good).replace(b'"count":2', b'"count":-2')
    message = await stage.enclave_bus.publish(subjects.PLACEMENT_DECIDED, raw, message_id="malformed")
    assert (await stage.wait_dead(Stream.PLACEMENT, message)).reason == "malformed-message"
    await stage.publish(good)
    await stage.wait_anchored(tip[0])


async def test_stakes_and_policies_are_facts_in_the_order_of_the_ledger(stage: RelayStage, enclave: Enclave) -> None:
    registry = stage.registry.address
    operator = await stage.as_operator()
    await operator.staking.deposit(registry, 5_000)
    await operator.staking.deposit(registry, 7_000)
    await operator.staking.request_withdraw(registry, 2_000)
    policy = await operator.policies.create(registry, Rules(required_stake_mist=1))
    await operator.policies.set_rules(policy.address, Rules(required_stake_mist=2))

    async def there() -> bool:
        return len(await stage.facts(subjects.CHAIN_POLICY_CHANGED, ChainPolicyChanged)) == 2

    await until(there, "the last one is a fact")
    stakes = await stage.facts(subjects.CHAIN_STAKE_CHANGED, ChainStakeChanged)
    assert [(s.change, s.amount_mist, s.bonded_mist, s.unbonding_mist) for s in stakes] == [
        ("deposited", 5_000, 5_000, 0),
        ("deposited", 7_000, 12_000, 0),
        ("withdrawal-requested", 2_000, 10_000, 2_000),
    ]
    assert {s.account for s in stakes} == {stage.operator.address}
    assert [s.checkpoint for s in stakes] == sorted({s.checkpoint for s in stakes})
    policies = await stage.facts(subjects.CHAIN_POLICY_CHANGED, ChainPolicyChanged)
    assert [(p.policy, p.change) for p in policies] == [(policy.address, "created"), (policy.address, "changed")]
    told = await log_entries(stage)
    assert [(e.account, e.bonded_mist, e.unbonding_mist, e.checkpoint, e.timestamp_ms) for e in told] == [
        (s.account, s.bonded_mist, s.unbonding_mist, s.checkpoint, s.timestamp_ms) for s in stakes
    ]
    # Read again from the first checkpoint on, nothing is said twice.
    await stage.stop_relay()
    for path in (stage.folder / "relay").iterdir():
        path.unlink()
    await stage.start_relay()
    assert await stage.facts(subjects.CHAIN_STAKE_CHANGED, ChainStakeChanged) == stakes
    assert await log_entries(stage) == told
    assert await stage.facts(subjects.CHAIN_POLICY_CHANGED, ChainPolicyChanged) == policies


async def test_a_slash_is_a_fact_beside_the_stake_that_is_left(stage: RelayStage, enclave: Enclave, tip: Tip) -> None:
    liar = await stage.enclave()
    registration = (await stage.registrations())[-1]
    operator = await stage.as_operator()
    await operator.staking.deposit(stage.registry.address, 1_000_000)
    account = await operator.staking.account(stage.registry.address, operator.address)
    pair = [
        SignedBatch(
            header=decided.header,
            timestamp_ms=decided.timestamp_ms,
            signature=bytes.fromhex(decided.signature),
            enclave=registration.enclave,
        )
        for decided in (liar.decide(*tip, salt="-one"), liar.decide(*tip, salt="-two"))
    ]
    effects = await operator.report_equivocation(stage.registry.address, *pair)

    async def there() -> bool:
        return bool(await stage.facts(subjects.CHAIN_SLASHED, ChainSlashed))

    await until(there, "the slash is a fact")
    (slashed,) = await stage.facts(subjects.CHAIN_SLASHED, ChainSlashed)
    stake = (await stage.facts(subjects.CHAIN_STAKE_CHANGED, ChainStakeChanged))[-1]
    assert (slashed.account, slashed.reporter, slashed.tx_digest) == (
        operator.address,
        operator.address,
        effects.digest,
    )
    assert slashed.amount_mist == slashed.reporter_mist + slashed.treasury_mist > 0
    assert (stake.change, stake.account, stake.tx_digest) == ("slashed", operator.address, effects.digest)
    held_mist = account.bonded_mist + account.unbonding_mist
    assert stake.bonded_mist + stake.unbonding_mist == held_mist - slashed.amount_mist
    entry = (await log_entries(stage))[-1]
    assert (entry.account, entry.bonded_mist, entry.checkpoint) == (stake.account, stake.bonded_mist, stake.checkpoint)

    async def over() -> bool:
        return registration.enclave in [f.enclave for f in await revocations(stage)]

    await until(over, "the liar's registration has ended")
