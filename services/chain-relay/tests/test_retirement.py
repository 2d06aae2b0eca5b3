"""A key that its enclave has replaced: its registration is ended on the ledger, not before the grace is over."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.relay import Enclave, RelayStage, until

from daas.common import subjects
from daas.common.messages import EnclaveRegistered, EnclaveRevoked

pytestmark = [pytest.mark.connected, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

#: For a relay that is to retire nothing yet, and for one that finds everything due.
LATER, SOON = "600000", "1"


@pytest_asyncio.fixture(loop_scope="module")
async def patient(stage: RelayStage) -> AsyncIterator[RelayStage]:
    await stage.stop_relay()
    await stage.start_relay(DAAS_RELAY_RETIRE_REPLACED_MS=LATER)
    yield stage


async def replace(stage: RelayStage, old: Enclave) -> Enclave:
    """Another key of the same enclave, registered in the old one's place."""
    new = Enclave(stage)
    challenge = await stage.challenge()
    await new.attest(new.document(challenge.nonce), replaces=old.public_key)

    async def registered() -> bool:
        return new.public_key in [fact.public_key for fact in await stage.registrations()]

    await until(registered, "the new key is registered")
    return new


async def registration(stage: RelayStage, enclave: Enclave) -> EnclaveRegistered:
    return next(fact for fact in await stage.registrations() if fact.public_key == enclave.public_key)


async def ended(stage: RelayStage, enclave: Enclave) -> bool:
    facts = await stage.facts(subjects.ENCLAVE_REVOKED, EnclaveRevoked)
    return enclave.public_key in [fact.public_key for fact in facts if fact.enclave is not None]


async def test_a_replaced_key_signs_until_its_grace_is_over_and_never_again(patient: RelayStage) -> None:
    stage = patient
    old = await stage.enclave()
    new = await replace(stage, old)
    sequence, head = await stage.head()
    last = old.decide(sequence + 1, head)
    await stage.publish(last)
    await stage.wait_anchored(sequence + 1)
    assert not (await stage.ledger.enclave((await registration(stage, old)).enclave)).revoked

    # What is due is still known to a relay that was killed, and done by the next one.
    await stage.kill_relay()
    await stage.start_relay(DAAS_RELAY_RETIRE_REPLACED_MS=SOON)
    await until(lambda: ended(stage, old), "the old registration is over")
    assert (await stage.ledger.enclave((await registration(stage, old)).enclave)).revoked
    assert not (await stage.ledger.enclave((await registration(stage, new)).enclave)).revoked
    message = await stage.publish(old.decide(sequence + 2, last.payload_digest))
    assert (await stage.wait_refused(message)).reason == "revoked"
    await stage.publish(new.decide(sequence + 2, last.payload_digest))
    assert (await stage.wait_anchored(sequence + 2))[-1].public_key == new.public_key


async def test_a_replaced_key_that_is_over_anyway_costs_no_gas(patient: RelayStage) -> None:
    stage = patient
    over, old = await stage.enclave(), await stage.enclave()
    for enclave in (over, old):
        await replace(stage, enclave)
    await (await stage.as_operator()).revoke((await registration(stage, over)).enclave)
    await until(lambda: ended(stage, over), "the revocation is a fact")
    await stage.stop_relay()
    await stage.start_relay(DAAS_RELAY_RETIRE_REPLACED_MS=SOON)
    await until(lambda: ended(stage, old), "the old registration is over")
    assert await stage.metric("daas_relay_sends_total") == 1
