"""Access decisions out of a file count only where their key was an enclave's, under these policies, at that time."""

import msgspec
import pytest
from evidence_world import RecordedLedger, World

from daas.common.access import AccessRecord, PolicyDecided
from daas.common.errors import DecodeError, Refused
from daas.common.messages import encode
from daas.evidence.access import AccessFact, AccessFile, AccessKeys, KeyEvidence, decode_access, encode_access

replace = msgspec.structs.replace


def a_fact(world: World, *times_ms: int) -> PolicyDecided:
    record = AccessRecord(
        account="0x" + "ab" * 32,
        stake_sui=1,
        stake_version=1,
        verb="get",
        group="",
        resource="pods",
        subresource="",
        namespace="n",
        timestamp_ms=0,
        log_sequence=1,
        allowed=True,
        outcome="permitted",
        policies=("p",),
        expires_ms=2,
        signature="ab" * 64,
    )
    return PolicyDecided(
        chain=world.trust.chain.hex(),
        registry=world.registry_id,
        policy=world.policy.access,
        policy_version=1,
        public_key=world.public_key.hex(),
        simulated=True,
        decisions=tuple(replace(record, timestamp_ms=time_ms) for time_ms in times_ms or (world.now_ms,)),
    )


def keys_of(
    world: World, *evidence: KeyEvidence, source: RecordedLedger | None = None, offline: bool = False
) -> AccessKeys:
    found = evidence or (KeyEvidence(registered=world.registered, document=world.document),)
    file = AccessFile(cluster=world.trust.cluster, facts=(), keys=found)
    again = decode_access(encode_access(file))
    assert again == file
    return AccessKeys(again, world.trust, source=source, now_ms=world.now_ms, offline=offline)


async def test_a_key_that_document_and_ledger_vouch_for_is_checked_once_for_all_its_decisions() -> None:
    world = World()
    keys = keys_of(world, source=world.ledger)
    for _ in range(2):
        await keys.check(a_fact(world, world.now_ms, world.now_ms + 1))
    (report,) = keys.reports
    assert report.ok
    assert [check.name for check in report.checks] == ["attestation", "measurements", "binding", "registration"]


async def test_without_a_ledger_a_key_counts_only_for_those_who_do_without() -> None:
    world = World()
    with pytest.raises(Refused, match="registration") as refused:
        await keys_of(world).check(a_fact(world))
    assert refused.value.reason == "access-key"
    await keys_of(world, offline=True).check(a_fact(world))


async def test_a_decision_before_or_after_the_registration_of_its_key_is_refused() -> None:
    world = World()
    for time_ms in (world.registered.registered_ms - 120_000, world.registered.expires_ms):
        with pytest.raises(Refused) as refused:
            await keys_of(world, offline=True).check(a_fact(world, world.now_ms, time_ms))
        assert refused.value.reason == "access-key"


async def test_each_decision_counts_under_the_registration_of_its_time() -> None:
    world = World()
    first = KeyEvidence(registered=world.registered, document=world.document)
    early_ms = world.now_ms
    world.now_ms = world.registered.expires_ms + 1_000
    world.attest()
    second = KeyEvidence(registered=world.registered, document=world.document)
    keys = keys_of(world, first, second, source=world.ledger)
    await keys.check(a_fact(world, early_ms, world.now_ms))
    assert len(keys.reports) == 2


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("chain", "00" * 32, "access-registry"),
        ("registry", "0x" + "00" * 32, "access-registry"),
        ("policy", "00" * 32, "access-policy"),
        ("public_key", "00" * 32, "access-key"),
    ],
)
async def test_a_decision_of_elsewhere_is_refused(field: str, value: str, reason: str) -> None:
    world = World()
    with pytest.raises(Refused) as refused:
        await keys_of(world, offline=True).check(replace(a_fact(world), **{field: value}))
    assert refused.value.reason == reason


async def test_a_key_under_another_document_or_without_one_is_not_vouched_for() -> None:
    world, other = World(), World()
    forged = KeyEvidence(registered=world.registered, document=other.document)
    with pytest.raises(Refused) as refused:
        await keys_of(world, forged, offline=True).check(a_fact(world))
    assert refused.value.reason == "access-key"
    file = AccessFile(cluster="test", facts=(), keys=())
    with pytest.raises(Refused):
        await AccessKeys(file, world.trust, source=None, now_ms=world.now_ms, offline=True).check(a_fact(world))


def test_what_is_no_such_file_is_refused() -> None:
    with pytest.raises(DecodeError) as refused:
        decode_access(b"{}")
    assert refused.value.reason == "evidence-malformed"
    fact = AccessFact(sequence=1, data=encode(a_fact(World())))
    assert decode_access(encode_access(AccessFile(cluster="c", facts=(fact,), keys=()))).facts == (fact,)
