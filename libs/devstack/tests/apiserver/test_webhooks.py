"""The API server asks webhooks as a real kube-apiserver v1.32 did, and does with the answers what that one did."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.webhook_server import RECORDED_ADMIN, VECTORS, WebhookServer, recorded, shape

pytestmark = pytest.mark.connected

PODS = "/api/v1/namespaces/m/pods"
SECRETS = "/api/v1/namespaces/m/secrets"
MAPS = "/api/v1/namespaces/m/configmaps"
USER = {
    "username": "sui:0xabc",
    "uid": "0xabc",
    "groups": ["daas:stakers", "daas:tier:gold"],
    "extra": {"k3s-daas.io/stake": ["1500"]},
}


def authn(body: Any) -> Any:
    known = str(body["spec"]["token"]).startswith("sui.")
    status = {"authenticated": True, "user": USER} if known else {"authenticated": False, "error": "not a Sui token"}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}


def authz(body: Any) -> Any:
    name = body["spec"]["resourceAttributes"].get("name", "")
    if name == "zzz":
        return None
    denied = name == "forbidden"
    status = {"allowed": False, "denied": denied, "reason": "stake 10 SUI is below 1000 SUI" if denied else ""}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status}


def review(body: Any, **response: Any) -> Any:
    answer = {"uid": body["request"]["uid"], "allowed": True, **response}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def patched(body: Any, *steps: dict[str, Any]) -> Any:
    patch = base64.b64encode(json.dumps(steps).encode()).decode()
    return review(body, patchType="JSONPatch", patch=patch)


def mutate(body: Any) -> Any:
    return patched(body, {"op": "add", "path": "/spec/schedulerName", "value": "k3s-daas"})


def validate(body: Any) -> Any:
    labels = ((body["request"]["object"] or {}).get("metadata") or {}).get("labels") or {}
    if "bad" in labels:
        return review(body, allowed=False, status={"code": 403, "message": "sealed secrets need a policy"})
    return review(body, warnings=["simulated"])


@pytest.fixture
def webhooks(tmp_path: Path) -> Iterator[WebhookServer]:
    directory = tmp_path / "webhooks"
    directory.mkdir()
    answers: dict[str, Callable[[Any], Any]] = {
        "/authn": authn,
        "/authz": authz,
        "/mutate": mutate,
        "/validate": validate,
        "/audit": lambda _: {},
    }
    server = WebhookServer(directory, answers)
    yield server
    server.stop()


class Cluster:
    """A server with the recorded configuration, a managed namespace m and an unmanaged one."""

    def __init__(self, server: Any, webhooks: WebhookServer) -> None:
        self.server = server
        self.webhooks = webhooks
        for name, labels in (("m", {"k3s-daas.io/managed": "true"}), ("other", {})):
            self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        answer: tuple[int, Any] = self.server.request(method, path, body, RECORDED_ADMIN if token is None else token)
        return answer

    def install(self, **change: Any) -> None:
        for manifest in self.webhooks.manifests():
            for hook in manifest.get("webhooks") or ():
                hook.update(change)
            plural = manifest["kind"].lower() + "s" if not manifest["kind"].endswith("y") else (
                manifest["kind"].lower()[:-1] + "ies")  # fmt: skip
            code, answer = self.ask("POST", f"/apis/admissionregistration.k8s.io/v1/{plural}", manifest)
            assert code == 201, answer


@pytest.fixture
def cluster(webhooks: WebhookServer, start_server: Callable[..., Any]) -> Cluster:
    return Cluster(start_server(*webhooks.flags()), webhooks)


def pod(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"run": name}},
        "spec": {"containers": [{"name": name, "image": "nginx", "resources": {}}], **spec},
        "status": {},
    }


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = 15.0) -> Any:
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return found


# Authentication --------------------------------------------------------------------------------------------------


def test_a_token_review_is_the_recorded_one_byte_for_byte_and_shows_our_certificate(cluster: Cluster) -> None:
    cluster.ask("GET", PODS, token="sui.alice.sig")
    exchange = cluster.webhooks.asked("/authn")[0]
    expected = recorded("authn")[0]
    assert exchange.body == expected["request"]
    assert exchange.path == expected["path"]
    assert exchange.client_certificate is expected["client_certificate"] is True
    for name in ("User-Agent", "Accept", "Content-Type"):
        assert exchange.headers[name] == expected["headers"][name]


def test_who_am_i_shows_the_answer_and_the_group_of_everyone(cluster: Cluster) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    code, answer = cluster.ask("POST", path, {}, token="sui.alice.sig")
    assert code == 201
    assert answer["status"]["userInfo"] == {**USER, "groups": [*USER["groups"], "system:authenticated"]}


def test_answers_about_tokens_are_remembered_yes_and_no(cluster: Cluster) -> None:
    for _ in range(3):
        assert cluster.ask("GET", PODS, token="sui.alice.sig")[0] == 403
        assert cluster.ask("GET", PODS, token="bogus")[0] == 401
    assert len(cluster.webhooks.asked("/authn")) == 2


def test_an_unreachable_authentication_webhook_means_unauthorized_and_is_asked_again(cluster: Cluster) -> None:
    port = cluster.webhooks.port
    cluster.webhooks.stop()
    assert cluster.ask("GET", PODS, token="sui.alice.sig")[0] == 401
    assert cluster.ask("GET", PODS)[0] == 200, "known tokens need no webhook"
    cluster.webhooks.start(port)
    assert cluster.ask("GET", PODS, token="sui.alice.sig")[0] == 403


def test_an_answer_for_another_audience_is_no_answer(cluster: Cluster) -> None:
    def for_others(body: Any) -> Any:
        answer = authn(body)
        answer["status"]["audiences"] = ["https://elsewhere"]
        return answer

    cluster.webhooks.answers["/authn"] = for_others
    assert cluster.ask("GET", PODS, token="sui.alice.sig")[0] == 401


# Authorization ---------------------------------------------------------------------------------------------------


def test_access_reviews_are_the_recorded_ones(cluster: Cluster) -> None:
    for path in (PODS, f"{SECRETS}/forbidden", f"{SECRETS}/other"):
        cluster.ask("GET", path, token="sui.alice.sig")
    sent = [one.body for one in cluster.webhooks.asked("/authz")]
    expected = [one["request"] for one in recorded("authz")]
    assert sent == [expected[0], expected[1], expected[2]]
    assert {one.path for one in cluster.webhooks.asked("/authz")} == {"/authz?timeout=3s"}


def test_a_denial_is_a_403_with_the_reason_and_so_says_can_i(cluster: Cluster) -> None:
    code, answer = cluster.ask("GET", f"{SECRETS}/forbidden", token="sui.alice.sig")
    told = [item for one in recorded("audit") for item in one["request"]["items"]]
    messages = [item["responseStatus"].get("message") for item in told]
    assert code == 403
    assert answer["message"] in messages
    assert "stake 10 SUI is below 1000 SUI" in answer["message"]
    attributes = {"namespace": "m", "verb": "get", "version": "*", "resource": "secrets", "name": "forbidden"}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    code, answer = cluster.ask("POST", path, {"spec": {"resourceAttributes": attributes}}, token="sui.alice.sig")
    assert answer["status"] == {"allowed": False, "denied": True, "reason": "stake 10 SUI is below 1000 SUI"}
    assert cluster.webhooks.asked("/authz")[-1].body == recorded("authz")[4]["request"]


def test_no_opinion_leaves_the_decision_to_rbac(cluster: Cluster) -> None:
    group = "/apis/rbac.authorization.k8s.io/v1"
    role = {"metadata": {"name": "reader"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]}
    binding = {
        "metadata": {"name": "stakers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "daas:stakers"}],
    }
    assert cluster.ask("GET", f"{SECRETS}/other", token="sui.alice.sig")[0] == 403
    assert cluster.ask("POST", f"{group}/namespaces/m/roles", role)[0] == 201
    assert cluster.ask("POST", f"{group}/namespaces/m/rolebindings", binding)[0] == 201
    assert cluster.ask("GET", f"{SECRETS}/other", token="sui.alice.sig")[0] == 404
    assert cluster.ask("GET", f"{SECRETS}/forbidden", token="sui.alice.sig")[0] == 403, "denied comes first"
    assert cluster.ask("GET", "/api/v1/namespaces/other/secrets/x", token="sui.alice.sig")[0] == 403


def test_requests_that_no_match_condition_selects_never_reach_the_webhook(cluster: Cluster) -> None:
    assert cluster.ask("GET", "/version", token="sui.alice.sig")[0] == 200
    assert cluster.ask("GET", f"{MAPS}/x", token="sui.alice.sig")[0] == 403
    assert cluster.ask("GET", f"{SECRETS}/x")[0] == 404, "system:masters goes by"
    assert cluster.webhooks.asked("/authz") == []


def test_a_broken_webhook_is_asked_five_times_and_gives_a_bare_500(
    webhooks: WebhookServer, start_server: Callable[..., Any]
) -> None:
    cluster = Cluster(start_server(*webhooks.flags()), webhooks)
    with pytest.raises(json.JSONDecodeError):  # text, as http.Error writes it
        cluster.ask("GET", f"{SECRETS}/zzz", token="sui.alice.sig")
    sent = [one.body for one in webhooks.asked("/authz")]
    assert sent == [one["request"] for one in recorded("authz") if one["status"] == 500][:5]


def test_a_webhook_that_does_not_answer_costs_its_time_out_and_under_noopinion_nothing_else(
    webhooks: WebhookServer, start_server: Callable[..., Any]
) -> None:
    open_ = (VECTORS / "authorization.yaml").read_text().replace("timeout: 3s", "timeout: 300ms")
    open_ = open_.replace("failurePolicy: Deny", "failurePolicy: NoOpinion")
    cluster = Cluster(start_server(*webhooks.flags(authorization=open_)), webhooks)
    group = "/apis/rbac.authorization.k8s.io/v1"
    role = {"metadata": {"name": "all"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "all"}
    subjects = [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "sui:0xabc"}]
    cluster.ask("POST", f"{group}/clusterroles", role)
    binding = {"metadata": {"name": "all"}, "roleRef": reference, "subjects": subjects}
    cluster.ask("POST", f"{group}/clusterrolebindings", binding)
    cluster.ask("GET", "/version", token="sui.alice.sig")
    webhooks.delay_s = 1.0
    assert cluster.ask("GET", f"{SECRETS}/x", token="sui.alice.sig")[0] == 404, "RBAC decides"
    assert len(webhooks.asked("/authz")) == 1, "a time-out is not asked again"


# Admission -------------------------------------------------------------------------------------------------------


def test_admission_reviews_have_the_recorded_shape_and_show_no_certificate(cluster: Cluster) -> None:
    cluster.install()
    tolerations = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    ]
    code, made = cluster.ask("POST", f"{PODS}?fieldManager=kubectl-run", pod())
    assert code == 201
    assert made["spec"]["schedulerName"] == "k3s-daas"
    assert made["spec"]["tolerations"] == tolerations
    query = "?fieldManager=kubectl-create&fieldValidation=Strict"
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"a": "Yg=="}}
    assert cluster.ask("POST", SECRETS + query, secret)[0] == 201
    assert cluster.ask("DELETE", f"{SECRETS}/s", {"propagationPolicy": "Background"})[0] == 200

    sent = [one for path in ("/mutate", "/validate") for one in cluster.webhooks.asked(path)]
    expected = [*recorded("mutate"), *recorded("validate")[:2]]
    assert len(sent) == len(expected)
    for mine, theirs in zip(sent, expected, strict=True):
        theirs["request"]["request"]["userInfo"].pop("extra")  # of the recording's client certificate
        assert mine.path == theirs["path"]
        assert mine.client_certificate is theirs["client_certificate"] is False
        assert mine.headers["User-Agent"] == theirs["headers"]["User-Agent"]
        assert _comparable(mine.body) == _comparable(theirs["request"])
        for name in ("kind", "resource", "operation", "namespace", "name", "dryRun", "options"):
            assert mine.body["request"][name] == theirs["request"]["request"][name]


def _comparable(review: Any) -> Any:
    """The shape; which fields a manager owns is a matter of what was sent."""
    found = shape(review)
    for name in ("object", "oldObject"):
        one = found["request"][name]
        if isinstance(one, dict):
            for entry in one["metadata"].get("managedFields") or ():
                entry.pop("fieldsV1")
    return found


def test_denials_and_warnings_reach_the_client(cluster: Cluster) -> None:
    cluster.install()
    code, answer = cluster.ask("POST", MAPS, {"metadata": {"name": "badcm", "labels": {"bad": "1"}}})
    message = 'admission webhook "secrets.k3s-daas.io" denied the request: sealed secrets need a policy'
    assert (code, answer["message"]) == (403, message)
    assert cluster.ask("GET", f"{MAPS}/badcm")[0] == 404


def test_namespace_selectors_and_match_conditions_hold(cluster: Cluster) -> None:
    cluster.install()
    assert cluster.ask("POST", "/api/v1/namespaces/other/pods", pod())[1]["spec"]["schedulerName"] == (
        "default-scheduler"
    )
    assert cluster.webhooks.asked("/mutate") == []
    conditions = [{"name": "not-b", "expression": "object.metadata.name != 'b'"}]
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/k3s-daas"
    _, configuration = cluster.ask("GET", path)
    configuration["webhooks"][0]["matchConditions"] = conditions
    assert cluster.ask("PUT", path, configuration)[0] == 200
    assert cluster.ask("POST", PODS, pod("b"))[1]["spec"]["schedulerName"] == "default-scheduler"
    assert cluster.ask("POST", PODS, pod("c"))[1]["spec"]["schedulerName"] == "k3s-daas"


@pytest.mark.parametrize(("policy", "code"), [("Fail", 500), ("Ignore", 201)])
def test_what_a_webhook_that_is_away_means_is_its_failure_policy(cluster: Cluster, policy: str, code: int) -> None:
    cluster.install(failurePolicy=policy)
    port = cluster.webhooks.port
    cluster.webhooks.stop()
    got, answer = cluster.ask("POST", PODS, pod())
    assert got == code
    if policy == "Fail":
        assert answer["reason"] == "InternalError"
        assert 'failed calling webhook "pods.k3s-daas.io"' in answer["message"]
        assert cluster.ask("POST", "/api/v1/namespaces/other/pods", pod())[0] == 201, "others are unaffected"
    cluster.webhooks.start(port)


def test_a_webhook_slower_than_its_time_out_is_a_failed_one(cluster: Cluster) -> None:
    cluster.install(timeoutSeconds=1)
    cluster.webhooks.delay_s = 2.0
    code, answer = cluster.ask("POST", PODS, pod())
    assert code == 500
    assert "/mutate?timeout=1s" in answer["message"]
    assert "context deadline exceeded" in answer["message"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda body: review(body, uid="another"),
        lambda body: {**review(body), "kind": "Review"},
        lambda body: review(body, patch="e30=", patchType="Merge"),
        lambda body: {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"},
        lambda _: "text",
    ],
    ids=["uid", "kind", "patch type", "no response", "no object"],
)
def test_an_answer_to_something_else_is_a_failure(cluster: Cluster, answer: Callable[[Any], Any]) -> None:
    cluster.install()
    cluster.webhooks.answers["/mutate"] = answer
    assert cluster.ask("POST", PODS, pod())[0] == 500


def test_a_webhook_is_asked_again_when_a_later_one_changed_the_object(cluster: Cluster) -> None:
    cluster.install()
    bundle = cluster.webhooks.manifests()[0]["webhooks"][0]["clientConfig"]["caBundle"]
    config = {"url": f"{cluster.webhooks.url}/later", "caBundle": bundle}
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    hook = {
        "name": "later.example.com",
        "clientConfig": config,
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    assert cluster.ask("POST", path, {"metadata": {"name": "z-later"}, "webhooks": [hook]})[0] == 201
    step = {"op": "add", "path": "/metadata/labels/later", "value": "1"}
    cluster.webhooks.answers["/later"] = lambda body: patched(body, step)
    code, made = cluster.ask("POST", PODS, pod())
    assert (code, made["metadata"]["labels"]["later"]) == (201, "1")
    first, second = cluster.webhooks.asked("/mutate")
    assert "later" not in first.body["request"]["object"]["metadata"]["labels"]
    assert second.body["request"]["object"]["metadata"]["labels"]["later"] == "1"
    assert len(cluster.webhooks.asked("/later")) == 1


def test_a_dry_run_asks_with_dry_run_set_and_refuses_where_a_webhook_has_side_effects(cluster: Cluster) -> None:
    cluster.install()
    code, made = cluster.ask("POST", f"{PODS}?dryRun=All", pod())
    assert (code, made["spec"]["schedulerName"]) == (201, "k3s-daas")
    request = cluster.webhooks.asked("/mutate")[0].body["request"]
    assert request["dryRun"] is True
    assert request["options"]["dryRun"] == ["All"]
    assert cluster.ask("GET", f"{PODS}/a")[0] == 404
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/k3s-daas"
    _, configuration = cluster.ask("GET", path)
    configuration["webhooks"][0]["sideEffects"] = "Some"
    cluster.ask("PUT", path, configuration)
    code, answer = cluster.ask("POST", f"{PODS}?dryRun=All", pod())
    assert (code, answer["reason"]) == (400, "BadRequest")


def test_an_admission_policy_denies_with_its_message(cluster: Cluster) -> None:
    cluster.install()
    code, answer = cluster.ask("POST", MAPS, {"metadata": {"name": "c", "labels": {"sensitive": "1"}}})
    assert code == 422
    assert answer["message"] == (
        "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'sealed-needs-policy' with binding "
        "'sealed-needs-policy' denied request: sensitive ConfigMaps must be sealed"
    )
    assert cluster.ask("POST", MAPS, {"metadata": {"name": "c", "labels": {"plain": "1"}}})[0] == 201


# Audit -----------------------------------------------------------------------------------------------------------


def test_audit_events_have_the_recorded_shape_and_secrets_stay_at_metadata(cluster: Cluster) -> None:
    cluster.install()
    cluster.ask("POST", f"{PODS}?fieldManager=kubectl-run", pod())
    cluster.ask("POST", SECRETS, {"metadata": {"name": "s"}, "data": {"a": "c2VjcmV0LXZhbHVl"}})
    cluster.ask("GET", f"{SECRETS}/forbidden", token="sui.alice.sig")

    def events() -> list[Any]:
        return [item for one in cluster.webhooks.asked("/audit") for item in one.body["items"]]

    wait_for(lambda: len([e for e in events() if e["objectRef"]["namespace"] == "m"]) >= 3, "three events")
    assert "c2VjcmV0LXZhbHVl" not in json.dumps(events())
    by_verb = {(e["objectRef"]["resource"], e["verb"]): e for e in events()}
    theirs = {
        (item["objectRef"]["resource"], item["verb"]): item
        for one in reversed(recorded("audit"))
        for item in one["request"]["items"]
        if item.get("responseStatus", {}).get("code") in (201, 403)
    }
    for key in (("pods", "create"), ("secrets", "create"), ("secrets", "get")):
        mine, expected = by_verb[key], theirs[key]
        expected["user"].pop("extra", None), mine["user"].pop("extra", None)
        assert set(mine) == set(expected), key
        assert mine["level"] == expected["level"]
        assert shape(mine["objectRef"]) == shape(expected["objectRef"])
        assert shape(mine["responseStatus"]) == shape(expected["responseStatus"])
    assert by_verb["pods", "create"]["annotations"].keys() >= {
        "authorization.k8s.io/decision",
        "mutation.webhook.admission.k8s.io/round_0_index_0",
        "patch.webhook.admission.k8s.io/round_0_index_0",
    }
    assert by_verb["secrets", "get"]["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert cluster.webhooks.asked("/audit")[0].client_certificate


def test_a_configuration_it_cannot_use_stops_the_server_at_its_start(webhooks: WebhookServer, tmp_path: Path) -> None:
    flags = webhooks.flags(authorization="apiVersion: v1\nkind: Nothing\n")
    command = [sys.executable, "-m", "daas.devstack.apiserver", "--state", str(tmp_path / "state"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "authorization-config" in done.stderr


def test_admission_webhooks_are_shown_the_certificate_that_is_meant_for_their_host(
    webhooks: WebhookServer, start_server: Callable[..., Any]
) -> None:
    pair = {
        f"client-{one}-data": base64.b64encode((webhooks.directory / f"apiserver.{end}").read_bytes()).decode()
        for one, end in (("certificate", "crt"), ("key", "key"))
    }
    for host, shown in ((f"127.0.0.1:{webhooks.port}", True), ("127.0.0.1:443", False)):
        users = {"apiVersion": "v1", "kind": "Config", "users": [{"name": host, "user": pair}]}
        (webhooks.directory / "admission.kubeconfig").write_text(json.dumps(users))
        version = "apiserver.config.k8s.io/v1"
        configuration = {"apiVersion": version, "kind": "WebhookAdmissionConfiguration"}
        configuration["kubeConfigFile"] = "admission.kubeconfig"
        plugins = [{"name": f"{n}AdmissionWebhook", "configuration": configuration} for n in ("Mutating", "Validating")]
        file = webhooks.directory / "admission.json"
        file.write_text(json.dumps({"apiVersion": version, "kind": "AdmissionConfiguration", "plugins": plugins}))
        webhooks.exchanges.clear()
        server = start_server(*webhooks.flags(), f"--admission-control-config-file={file}")
        cluster = Cluster(server, webhooks)
        if shown:
            cluster.install()
        assert cluster.ask("POST", PODS, pod(f"a-{webhooks.port}-{shown}".lower()))[0] == 201
        assert {one.client_certificate for one in webhooks.asked("/mutate")} == {shown}
        server.stop()
