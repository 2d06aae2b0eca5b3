"""The webhooks' answers: who a token is, what stake forbids, what is stored of a pod or a Secret, and what is told."""

import base64
import json
from typing import Any

import jsonpatch
import pytest
from prometheus_client import CollectorRegistry
from support.webhook_server import recorded

from daas.common.errors import InvalidInput, Unavailable
from daas.common.messages import AuditRecorded, ChainStakeChanged
from daas.gateway.settings import GatewaySettings
from daas.gateway.webhooks.admission import AdmissionReviewer
from daas.gateway.webhooks.audit import FACT_BYTES_MAX, AuditSink, batches
from daas.gateway.webhooks.authentication import TokenReviewer
from daas.gateway.webhooks.authorization import AccessReviewer
from daas.gateway.webhooks.breaker import CircuitBreaker
from daas.gateway.webhooks.policy import Question, Verdict
from daas.gateway.webhooks.stake import StakeBook
from daas.identity import Tiers, issue
from daas.policy import load_folder
from daas.policy.tiers import DEFAULT_TIERS
from daas.seal.signatures import Ed25519Signer

NOW_MS = 1_760_000_000_000
SUI = 10**9
ALICE = Ed25519Signer(b"\x01" * 32)
AUDIENCE = "https://127.0.0.1:26443"


def changed(account: str, bonded_mist: int) -> ChainStakeChanged:
    return ChainStakeChanged(
        registry="0x" + "11" * 32,
        tx_digest="t",
        event_index=0,
        checkpoint=1,
        timestamp_ms=1,
        simulated=True,
        account=account,
        change="deposited",
        amount_mist=1,
        bonded_mist=bonded_mist,
        unbonding_mist=0,
    )


class Book(StakeBook):
    """A book that has been read to its end."""

    def __init__(self, *, complete: bool = True) -> None:
        super().__init__(None, CollectorRegistry())
        if complete:
            self._complete.set()


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class Engine:
    """A policy engine that wants 1000 SUI of whoever reads Secrets."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.away = False

    async def evaluate(self, question: Question) -> Verdict:
        self.asked.append(question)
        if self.away:
            raise Unavailable("nobody answers", reason="no-responders")
        denied = question.request.resource == "secrets" and question.stake_mist < 1000 * SUI
        reason = f"stake {question.stake_mist // SUI} SUI is below 1000 SUI" if denied else ""
        return Verdict(request_id=question.request_id, denied=denied, reason=reason)


# Who is this -----------------------------------------------------------------------------------------------------


def reviewer(book: StakeBook) -> TokenReviewer:
    return TokenReviewer(
        cluster="dev",
        audience="k3s",
        stakes=book,
        tiers=Tiers.parse("bronze=10,gold=1000"),
        clock_ms=lambda: NOW_MS,
        registry=CollectorRegistry(),
    )


def token_review(token: str) -> dict[str, Any]:
    body: dict[str, Any] = recorded("authn")[0]["request"]
    body["spec"]["token"] = token
    return body


async def test_a_token_becomes_a_user_with_groups_by_stake() -> None:
    book = Book()
    book.fold(changed(ALICE.address, 1500 * SUI), 7)
    token = await issue(ALICE, cluster="dev", audience=AUDIENCE, now_ms=NOW_MS)
    status = (await reviewer(book).review(token_review(token)))["status"]
    assert status["authenticated"] is True
    assert status["audiences"] == [AUDIENCE]
    user = status["user"]
    assert (user["username"], user["uid"]) == (f"sui:{ALICE.address}", ALICE.address)
    assert user["groups"] == ["daas:accounts", "daas:stakers", "daas:tier:gold"]
    assert user["extra"]["k3s-daas.io/stake"] == [str(1500 * SUI)]


@pytest.mark.parametrize(
    ("change", "word"),
    [({"cluster": "other"}, "cluster"), ({"audience": "k3s"}, "asked was"), ({"now_ms": NOW_MS - 10**7}, "expired")],
)
async def test_a_token_for_elsewhere_is_refused_with_the_reason(change: dict[str, Any], word: str) -> None:
    claims = {"cluster": "dev", "audience": AUDIENCE, "now_ms": NOW_MS, **change}
    status = (await reviewer(Book()).review(token_review(await issue(ALICE, **claims))))["status"]
    assert status["authenticated"] is False
    assert word in status["error"]
    assert "user" not in status


async def test_nobody_is_anybody_before_the_stakes_are_known() -> None:
    token = await issue(ALICE, cluster="dev", audience=AUDIENCE, now_ms=NOW_MS)
    with pytest.raises(Unavailable):
        await reviewer(Book(complete=False)).review(token_review(token))


@pytest.mark.parametrize("body", [{}, {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1beta1"}])
async def test_another_kind_of_review_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await reviewer(Book()).review(body)


# May they --------------------------------------------------------------------------------------------------------


def access(engine: Engine, book: StakeBook, clock: Clock) -> AccessReviewer:
    return AccessReviewer(
        engine, book, clock_ms=lambda: NOW_MS, clock_s=clock, registry=CollectorRegistry()
    )  # fmt: skip


def access_review(user: str = f"sui:{ALICE.address}", groups: tuple[str, ...] = (), name: str = "s") -> dict[str, Any]:
    body: dict[str, Any] = recorded("authz")[1]["request"]
    body["spec"] |= {"user": user, "groups": list(groups)}
    body["spec"]["resourceAttributes"]["name"] = name
    return body


async def test_it_denies_with_a_reason_or_has_no_opinion_and_never_allows() -> None:
    engine, book, clock = Engine(), Book(), Clock()
    it = access(engine, book, clock)
    poor = (await it.review(access_review()))["status"]
    assert poor == {"allowed": False, "denied": True, "reason": "stake 0 SUI is below 1000 SUI"}
    book.fold(changed(ALICE.address, 1000 * SUI), 1)
    assert (await it.review(access_review()))["status"] == {"allowed": False, "denied": False, "reason": ""}


async def test_a_slash_takes_effect_with_the_next_question_though_answers_are_remembered() -> None:
    engine, book, clock = Engine(), Book(), Clock()
    it = access(engine, book, clock)
    book.fold(changed(ALICE.address, 1000 * SUI), 1)
    for _ in range(3):
        assert (await it.review(access_review()))["status"]["denied"] is False
    assert len(engine.asked) == 1
    book.fold(changed(ALICE.address, 1 * SUI), 2)
    assert (await it.review(access_review()))["status"]["denied"] is True


async def test_one_question_serves_all_objects_of_a_class_and_names_none_of_them() -> None:
    engine, book, clock = Engine(), Book(), Clock()
    it = access(engine, book, clock)
    for n in range(50):
        await it.review(access_review(name=f"s{n}"))
    (question,) = engine.asked
    assert (question.request.name, question.request.resource) == ("", "secrets")


async def test_paths_outside_the_resource_api_are_asked_about_too() -> None:
    engine, book, clock = Engine(), Book(), Clock()
    it = access(engine, book, clock)
    body = access_review()
    del body["spec"]["resourceAttributes"]
    with pytest.raises(InvalidInput):
        await it.review(body)
    body["spec"]["nonResourceAttributes"] = {"path": "/metrics", "verb": "get"}
    await it.review(body)
    assert (engine.asked[0].request.path, engine.asked[0].request.resource) == ("/metrics", "")


async def test_stake_in_the_request_counts_for_nothing() -> None:
    engine, book, clock = Engine(), Book(), Clock()
    body = access_review()
    body["spec"]["extra"] = {"k3s-daas.io/stake": [str(10**18)]}
    assert (await access(engine, book, clock).review(body))["status"]["denied"] is True


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("admin", ("system:masters",)),
        ("system:kube-controller-manager", ()),
        ("system:node:a", ("system:nodes",)),
        ("system:serviceaccount:kube-system:coredns", ()),
        ("k3s-cloud-controller-manager", ()),
    ],
)
async def test_system_identities_are_not_held_up_even_when_the_engine_is_away(user: str, groups: Any) -> None:
    engine, clock = Engine(), Clock()
    engine.away = True
    status = (await access(engine, Book(complete=False), clock).review(access_review(user, groups)))["status"]
    assert status["denied"] is False
    assert engine.asked == []


async def test_without_the_engine_everyone_else_is_denied_and_after_five_failures_nobody_waits_for_it() -> None:
    engine, clock = Engine(), Clock()
    it = access(engine, Book(), clock)
    engine.away = True
    for n in range(9):
        status = (await it.review(access_review(name=f"s{n}")))["status"]
        assert status["denied"] is True
        assert "can't be checked" in status["reason"]
    assert len(engine.asked) == 5
    clock.s += 1.1  # one probe
    engine.away = False
    body = access_review()
    body["spec"]["resourceAttributes"]["resource"] = "pods"
    assert (await it.review(body))["status"]["denied"] is False
    assert not it.breaker.open


def test_a_breaker_waits_longer_after_each_failed_probe_and_lets_one_probe_through() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock, failures_max=1, pause_first_s=1, pause_max_s=4)
    for pause in (1, 2, 4, 4):
        assert breaker.may_ask()
        breaker.failed()
        clock.s += pause - 0.1
        assert not breaker.may_ask()
        clock.s += 0.2
    assert breaker.may_ask()
    assert not breaker.may_ask(), "one probe at a time"
    breaker.gave_up()
    assert breaker.may_ask()


# May this be stored ----------------------------------------------------------------------------------------------


@pytest.fixture
def admission() -> AdmissionReviewer:
    return AdmissionReviewer("east", "k3s-daas", CollectorRegistry())


async def test_a_recorded_pod_gets_our_scheduler_and_its_result_is_left_alone(admission: AdmissionReviewer) -> None:
    body = recorded("mutate")[0]["request"]
    response = (await admission.mutate(body))["response"]
    assert (response["uid"], response["allowed"]) == (body["request"]["uid"], True)
    patched = jsonpatch.apply_patch(body["request"]["object"], json.loads(base64.b64decode(response["patch"])))
    assert patched["spec"]["schedulerName"] == "k3s-daas"
    body["request"]["object"] = patched
    assert "patch" not in (await admission.mutate(body))["response"]


@pytest.mark.parametrize("change", [{"nodeName": "n1"}, {"schedulerName": "k3s-daas"}])
async def test_a_pod_that_stands_or_is_ours_already_is_not_changed(
    admission: AdmissionReviewer, change: dict[str, str]
) -> None:
    body = recorded("mutate")[0]["request"]
    body["request"]["object"]["spec"] |= change
    assert "patch" not in (await admission.mutate(body))["response"]


async def test_another_scheduler_is_replaced_with_a_warning(admission: AdmissionReviewer) -> None:
    body = recorded("mutate")[0]["request"]
    body["request"]["object"]["spec"]["schedulerName"] = "volcano"
    assert "volcano" in (await admission.mutate(body))["response"]["warnings"][0]


async def test_recorded_secrets_and_configmaps_without_our_labels_pass(admission: AdmissionReviewer) -> None:
    for exchange in recorded("validate"):
        assert (await admission.validate(exchange["request"]))["response"]["allowed"] is True


@pytest.mark.parametrize(
    ("kind", "labels", "data", "word"),
    [
        ("Secret", {"k3s-daas.io/seal-policy": "p"}, {"a": "Yg=="}, "is not sealed"),
        ("Secret", {"k3s-daas.io/seal-policy": "p"}, {"a": "%%"}, "not base64"),
        ("Secret", {"k3s-daas.io/seal-policy": "p"}, {}, "is not sealed"),
        ("ConfigMap", {"k3s-daas.io/sensitive": "true"}, {"a": "b"}, "ConfigMaps are public"),
        ("ConfigMap", {"k3s-daas.io/seal-policy": "p"}, {"a": "b"}, "only Secrets"),
    ],
)
async def test_what_asks_for_sealing_and_is_not_sealed_is_not_stored(
    admission: AdmissionReviewer, kind: str, labels: dict[str, str], data: dict[str, str], word: str
) -> None:
    body = recorded("validate")[0]["request"]
    body["request"]["kind"]["kind"] = kind
    body["request"]["object"] |= {"data": data}
    body["request"]["object"]["metadata"]["labels"] = labels
    response = (await admission.validate(body))["response"]
    assert response["allowed"] is False
    assert word in response["status"]["message"]


# What happened ---------------------------------------------------------------------------------------------------


async def test_of_secrets_only_metadata_leaves_whatever_the_api_server_tells() -> None:
    facts: dict[str, AuditRecorded] = {}

    async def publish(fact: AuditRecorded, message_id: str) -> None:
        facts[message_id] = fact

    sink = AuditSink(publish, CollectorRegistry())
    body = recorded("audit")[0]["request"]
    leaky = json.loads(json.dumps(body["items"][0]))
    leaky["objectRef"] |= {"resource": "secrets"}
    leaky["requestObject"] = {"kind": "Secret", "data": {"a": "c2VjcmV0"}}
    listed = {**leaky, "objectRef": {"resource": "anything"}, "responseObject": {"kind": "SecretList", "x": "c2VjcmV0"}}
    password = {"kind": "Pod", "spec": {"containers": [{"env": [{"name": "DB_PASSWORD", "value": "hunter2hunter2"}]}]}}
    telling = {**leaky, "objectRef": {"resource": "pods"}, "requestObject": password}
    body["items"] += [leaky, listed, telling]
    await sink.take(body)
    await sink.take(body)
    assert len(facts) == 1, "the same list has the same message id"
    (fact,) = facts.values()
    assert fact.stripped == 3
    assert "c2VjcmV0" not in json.dumps(fact.events)
    assert "hunter2" not in json.dumps(fact.events)
    assert fact.events[-1]["objectRef"] == {"resource": "pods"}, "that it happened is told"
    assert {"requestObject", "responseObject"} <= set(fact.events[0])


def test_long_lists_become_several_facts() -> None:
    events = [{"n": n, "text": "x" * 100_000} for n in range(25)]
    groups = list(batches(events))
    assert [event for group in groups for event in group] == events
    assert all(len(json.dumps(group)) < 1.1 * FACT_BYTES_MAX for group in groups)


async def test_what_the_bus_does_not_take_is_said_and_counted() -> None:
    async def away(_fact: AuditRecorded, _message_id: str) -> None:
        raise Unavailable("away", reason="test")

    registry = CollectorRegistry()
    with pytest.raises(Unavailable):
        await AuditSink(away, registry).take(recorded("audit")[0]["request"])
    count = registry.get_sample_value("daas_gateway_audit_events_total", {"outcome": "failed"})
    assert count == len(recorded("audit")[0]["request"]["items"])


# One set of tiers --------------------------------------------------------------------------------------------------


def test_groups_for_rbac_are_named_like_the_tiers_that_policies_judge_by() -> None:
    groups = Tiers.parse(GatewaySettings.model_fields["gateway_tiers"].default)
    assert len(DEFAULT_TIERS) == 4
    for tier in DEFAULT_TIERS[1:]:  # everybody is in the first, and in daas:accounts
        found = groups.of(tier.stake_sui * SUI)
        assert found is not None
        assert (found.name, found.stake_mist_min) == (tier.name, tier.stake_sui * SUI)
    assert load_folder().tiers == DEFAULT_TIERS
