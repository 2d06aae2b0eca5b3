"""Access decisions by a real enclave process over a real bus: answered, signed, recorded, and checked by a stranger."""

import contextlib
from pathlib import Path

import msgspec
import pytest
from support.enclave_world import World, world

from daas.common import subjects
from daas.common.access import PolicyDecided, Question, ResourceRequest, Verdict
from daas.common.errors import InvalidInput, Refused
from daas.common.facts import fact_of
from daas.common.subjects import Stream
from daas.placement import Policy
from daas.policy import Evaluator, load_folder
from daas.policy.record import verify

__all__ = ["world"]
pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

SUI = 10**9
ALICE = "sui:0x" + "ab" * 32


def question(number: int, resource: str, stake_sui: int, user: str = ALICE, verb: str = "get") -> Question:
    return Question(
        request_id=f"r{number}",
        user=user,
        groups=(),
        stake_mist=stake_sui * SUI,
        stake_version=number,
        request=ResourceRequest(verb=verb, resource=resource, namespace="n"),
        time_ms=1_760_000_000_000 + number,
    )


async def ask(world: World, *questions: Question) -> list[Verdict]:
    return [await world.gateway.request(subjects.POLICY_EVALUATE, one, Verdict, timeout_s=100) for one in questions]


async def recorded(world: World, count: int) -> list[PolicyDecided]:
    facts: list[PolicyDecided] = []
    async with contextlib.aclosing(world.relay.read(Stream.POLICY)) as messages:
        async for message in messages:
            facts.append(fact_of(message, subjects.POLICY_DECIDED, PolicyDecided))
            if sum(len(fact.decisions) for fact in facts) >= count:
                return facts
    raise AssertionError("unreachable")


async def test_stake_decides_and_every_decision_is_signed_and_recorded(world: World) -> None:
    await world.enclave()
    verdicts = await ask(
        world,
        question(1, "pods", 0),
        question(2, "pods", 1),
        question(3, "secrets", 999),
        question(4, "secrets", 1000),
        question(5, "pods", 1),
    )
    assert [verdict.denied for verdict in verdicts] == [True, False, True, False, False]
    assert "with 0 SUI at stake: no policy permits it" in verdicts[0].reason
    assert "forbidden by secrets-take-an-operators-stake" in verdicts[2].reason
    facts = await recorded(world, 5)
    evaluator = Evaluator(load_folder())
    assert sum(verify(fact, evaluator) for fact in facts) == 5
    attested = await world.attested_again()
    assert {fact.public_key for fact in facts} == {attested.public_key}
    assert attested.policy == Policy(access=evaluator.policies.digest.hex()).digest().hex()


async def test_a_changed_record_is_refused_with_what_is_wrong(world: World) -> None:
    await world.enclave()
    await ask(world, question(1, "secrets", 5))
    (fact,) = await recorded(world, 1)
    evaluator = Evaluator(load_folder())
    (record,) = fact.decisions
    replace = msgspec.structs.replace
    for change in ({"allowed": True}, {"stake_sui": 5000}, {"account": "0x" + "cd" * 32}, {"log_sequence": 9}):
        with pytest.raises(Refused, match="access-signature"):
            verify(replace(fact, decisions=(replace(record, **change),)), evaluator)
    with pytest.raises(Refused, match="access-policy"):
        verify(replace(fact, policy="00" * 32), evaluator)


async def test_what_no_policy_could_judge_is_refused_as_malformed(world: World) -> None:
    await world.enclave()
    with pytest.raises(InvalidInput, match="unknown-principal"):
        await ask(world, question(1, "pods", 1, user="alice"))
    with pytest.raises(InvalidInput, match="unknown-verb"):
        await ask(world, question(2, "pods", 1, verb="*"))


async def test_an_own_set_is_loaded_and_attested_and_a_bad_one_stops_the_start_with_its_place(
    world: World,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "set.json").write_text('{"version": 7}')
    (folder / "own.cedar").write_text(
        '@id("nobody")\npermit (principal, action, resource) when { principal.height == 1 };'
    )
    bad = world.process("bad", DAAS_ENCLAVE_POLICIES=str(folder))
    with pytest.raises(Exception, match=r"own\.cedar:2:\d+.*policy-type") as stopped:
        await bad.start()
    assert bad.returncode == 2, stopped

    (folder / "own.cedar").write_text('@id("everyone")\npermit (principal, action, resource);')
    await world.enclave("own", DAAS_ENCLAVE_POLICIES=str(folder))
    (verdict,) = await ask(world, question(1, "secrets", 0))
    assert not verdict.denied
    digest = load_folder(folder).digest.hex()
    assert verdict.policy == digest
    assert (await world.attested_again()).policy == Policy(access=digest).digest().hex()
