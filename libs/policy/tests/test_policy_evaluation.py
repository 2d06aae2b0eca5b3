"""What policies answer, what is remembered, and what is signed."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daas.common import bcs
from daas.policy import (
    SCHEMA,
    VERBS,
    AccessDecision,
    AccessRequest,
    Address,
    Answer,
    Evaluator,
    Node,
    Outcome,
    PolicySet,
    RequestError,
    ResourceClass,
    UrlPath,
)

ALICE = "0x" + "a1" * 32
BASE = """
@id("members-read")
permit(principal in K3s::Tier::"member", action in K3s::Action::"read", resource is K3s::Resource)
unless { resource.resource == "secrets" };

@id("own-node-secrets")
permit(principal is K3s::Node, action == K3s::Action::"get", resource is K3s::Resource)
when { resource.resource == "secrets" && principal.stake >= 1000 && principal has operator };

@id("stake-writes")
permit(principal, action in K3s::Action::"write", resource in K3s::Namespace::"shared") when { principal.stake >= 50 };

@id("metrics")
permit(principal, action == K3s::Action::"get", resource == K3s::Path::"/metrics");

@id("sealed")
forbid(principal, action, resource is K3s::Resource)
when { resource has sealPolicy && resource.sealPolicy == "vault" }
unless { principal in K3s::Tier::"guardian" };

@id("overflow")
permit(principal, action == K3s::Action::"use", resource) when { principal.stake * 9223372036854775807 > 1 };
"""
NIGHT = '@id("night") forbid(principal, action in K3s::Action::"write", resource) when { context.minuteOfDay < 360 };'
WEEKEND = '@id("weekend") forbid(principal, action in K3s::Action::"write", resource) when { context.weekday >= 5 };'


@pytest.fixture(name="base", scope="module")
def _base() -> PolicySet:
    return PolicySet.load(1, {"base.cedar": BASE})


def ask(verb: str, target: Any, stake: int = 0, **kwargs: Any) -> AccessRequest:
    principal = kwargs.pop("principal", Address(address=ALICE, stake_sui=stake))
    return AccessRequest(principal=principal, verb=verb, target=target, **kwargs)


PODS = ResourceClass(resource="pods", namespace="shared")
STAKED = Node(name="n1", stake_sui=1000, operator=ALICE)
SECRETS = ResourceClass(resource="secrets", namespace="shared")


@pytest.mark.parametrize(
    ("request_", "allowed", "outcome", "policies"),
    [
        (ask("list", PODS), False, "not-permitted", ()),
        (ask("list", PODS, 1), True, "permitted", ("members-read",)),
        (ask("list", PODS, 10**6), True, "permitted", ("members-read",)),
        (ask("get", SECRETS, 10**6), False, "not-permitted", ()),
        (ask("create", PODS, 49), False, "not-permitted", ()),
        (ask("create", PODS, 50), True, "permitted", ("stake-writes",)),
        (ask("create", ResourceClass(resource="pods", namespace="other"), 50), False, "not-permitted", ()),
        (ask("get", SECRETS, principal=STAKED), True, "permitted", ("own-node-secrets",)),
        (ask("get", SECRETS, principal=Node(name="n1", stake_sui=999, operator=ALICE)), False, "not-permitted", ()),
        (ask("get", SECRETS, principal=Node(name="n1", stake_sui=1000)), False, "not-permitted", ()),
        (ask("get", UrlPath(path="/metrics")), True, "permitted", ("metrics",)),
        (ask("get", UrlPath(path="/metrics/x"), 10**6), False, "not-permitted", ()),
        (ask("list", ResourceClass(resource="pods", seal_policy="vault"), 1), False, "forbidden", ("sealed",)),
        (ask("list", ResourceClass(resource="pods", seal_policy="vault"), 10**5), True, "permitted", ("members-read",)),
        (ask("use", PODS, 3), False, "failed", ()),
    ],
)  # fmt: skip
def test_policies_answer_by_stake_tier_node_and_class(
    base: PolicySet, request_: AccessRequest, allowed: bool, outcome: str, policies: tuple[str, ...]
) -> None:
    assert Evaluator(base).answer(request_) == Answer(allowed, Outcome(outcome), policies)


def test_a_policy_that_fails_denies_even_where_another_permits() -> None:
    everything = '@id("everything") permit(principal, action, resource);'
    policies = PolicySet.load(1, {"a": everything, "base": BASE})
    assert Evaluator(policies).answer(ask("get", PODS)).allowed
    assert Evaluator(policies).answer(ask("use", PODS, 3)) == Answer(False, Outcome.FAILED, ("everything",))


def test_no_policies_permit_nothing() -> None:
    assert not Evaluator(PolicySet.load(1, {})).answer(ask("get", PODS, 10**10)).allowed


def test_time_is_the_logs_in_minutes_and_days() -> None:
    evaluator = Evaluator(PolicySet.load(1, {"base": BASE, "night": NIGHT, "weekend": WEEKEND}))
    tuesday_noon_ms = 1_763_467_200_000 + 12 * 3_600_000 - (1_763_467_200_000 % 86_400_000)
    assert evaluator.answer(ask("create", PODS, 50, timestamp_ms=tuesday_noon_ms)).allowed
    at_night = ask("create", PODS, 50, timestamp_ms=tuesday_noon_ms - 8 * 3_600_000)
    assert evaluator.answer(at_night).policies == ("night",)
    saturday = ask("create", PODS, 50, timestamp_ms=tuesday_noon_ms + 4 * 86_400_000)
    assert evaluator.answer(saturday).policies == ("weekend",)


def test_answers_are_remembered_by_question_and_by_minute_only_where_it_matters(base: PolicySet) -> None:
    evaluator = Evaluator(base)
    first = evaluator.answer(ask("list", PODS, 1))
    assert evaluator.answer(ask("list", PODS, 1, timestamp_ms=10**12)) is first
    assert (evaluator.evaluated, evaluator.remembered) == (1, 1)
    evaluator.answer(ask("list", PODS, 2))
    evaluator.answer(ask("list", ResourceClass(resource="pods"), 1))
    assert evaluator.evaluated == 3
    timed = Evaluator(PolicySet.load(1, {"base": BASE, "night": NIGHT}))
    for timestamp_ms in (0, 59_999, 60_000):
        timed.answer(ask("list", PODS, 1, timestamp_ms=timestamp_ms))
    assert (timed.evaluated, timed.remembered) == (2, 1)


def test_memory_is_bounded_and_forgets_what_was_not_asked_for_longest(base: PolicySet) -> None:
    evaluator = Evaluator(base, memory=2)
    for stake in (1, 2, 1, 3, 1, 2):
        evaluator.answer(ask("list", PODS, stake))
    assert (evaluator.evaluated, evaluator.remembered) == (4, 2)


names = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="/"), min_size=1, max_size=20
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.builds(Address, address=st.just(ALICE), stake_sui=st.integers(0, 10**10), node=st.none() | names),
        st.builds(Node, name=names, stake_sui=st.integers(0, 10**10), operator=st.none() | st.just(ALICE)),
    ),
    st.sampled_from(sorted(VERBS)),
    st.builds(
        ResourceClass, group=names, resource=names, subresource=names, namespace=names, seal_policy=st.none() | names
    ),
    st.integers(0, 2**62),
)
def test_any_well_formed_question_fits_the_schema_and_memory_changes_no_answer(
    base: PolicySet, principal: Address | Node, verb: str, target: ResourceClass, timestamp_ms: int
) -> None:
    request = AccessRequest(principal=principal, verb=verb, target=target, timestamp_ms=timestamp_ms)
    evaluator = Evaluator(base)
    answer = evaluator.answer(request)
    assert evaluator.answer(request) == answer == Evaluator(base).answer(request)
    assert answer.outcome is not Outcome.FAILED or verb == "use"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ask("frobnicate", PODS), "unknown-verb"),
        (ask("list", UrlPath(path="/x")), "unknown-verb"),
        (ask("get", UrlPath(path="x")), "request-name"),
        (ask("get", UrlPath(path="/" + "x" * 2000)), "request-name"),
        (ask("get", PODS, -1), "request-stake"),
        (ask("get", PODS, 10**10 + 1), "request-stake"),
        (ask("get", PODS, timestamp_ms=-1), "request-time"),
        (ask("get", PODS, timestamp_ms=2**70), "request-time"),
        (ask("get", ResourceClass(resource="")), "request-name"),
        (ask("get", ResourceClass(resource="pods", subresource="log/x")), "request-name"),
        (ask("get", ResourceClass(resource="pods", namespace="a\x00b")), "request-name"),
        (ask("get", ResourceClass(resource="pods", namespace="\ud800")), "request-name"),
        (ask("get", PODS, principal=Address(address="0xAB")), "request-address"),
        (ask("get", PODS, principal=Node(name="")), "request-name"),
        (ask("get", PODS, principal=Node(name="n", operator="bob")), "request-address"),
    ],
)
def test_questions_that_no_policy_could_judge_are_refused(
    base: PolicySet, request_: AccessRequest, reason: str
) -> None:
    with pytest.raises(RequestError) as caught:
        Evaluator(base).answer(request_)
    assert caught.value.reason == reason


def decide(base: PolicySet, request: AccessRequest) -> AccessDecision:
    return AccessDecision(
        chain=b"\x01" * 32,
        registry=b"\x02" * 32,
        policy=base.digest,
        request=request.digest(),
        log_sequence=7,
        answer=Evaluator(base).answer(request),
        expires_ms=1_000,
    )


def test_the_signed_bytes_are_the_intent_the_time_and_the_decision(base: PolicySet) -> None:
    request = ask("list", PODS, 1, timestamp_ms=5)
    decision = decide(base, request)
    reader = bcs.Reader(decision.signed_bytes(5))
    assert (reader.u8(), reader.u64()) == (2, 5)
    assert (reader.bytes_(), reader.address()) == (b"\x01" * 32, b"\x02" * 32)
    assert (reader.bytes_(), reader.bytes_()) == (base.digest, request.digest())
    assert (reader.u64(), reader.boolean(), reader.u8()) == (7, True, 0)
    assert reader.vector(reader.string) == ["members-read"]
    assert reader.u64() == 1_000
    reader.end()
    assert len(decision.digest()) == 32


def test_a_decision_speaks_of_one_question_and_one_policy_set(base: PolicySet) -> None:
    request = ask("list", PODS, 1)
    decision = decide(base, request)
    assert decision.is_about(request, base)
    assert not decision.is_about(ask("list", PODS, 2), base)
    assert not decision.is_about(ask("list", PODS, 1, timestamp_ms=60_000), base)
    assert not decision.is_about(request, PolicySet.load(2, {"base.cedar": BASE}))


def test_answers_and_digests_are_the_same_in_every_process(base: PolicySet) -> None:
    script = f"""
from daas.policy import *
policies = PolicySet.load(1, {{"base.cedar": {BASE!r}}})
principal, target = Address(address={ALICE!r}, stake_sui=50), ResourceClass(resource="pods", namespace="shared")
request = AccessRequest(principal=principal, verb="create", target=target)
print(policies.digest.hex(), request.digest().hex(), Evaluator(policies).answer(request).policies)
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    request = ask("create", PODS, 50)
    assert outputs == {f"{base.digest.hex()} {request.digest().hex()} ('stake-writes',)\n"}


def test_the_schema_knows_every_verb() -> None:
    assert all(f'action "{verb}"' in SCHEMA for verb in VERBS)
