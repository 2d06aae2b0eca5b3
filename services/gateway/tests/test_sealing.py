"""Admission of sealed Secrets and of the pods that mount them: what is stored, what is changed, what is refused."""

import base64
import copy
import json
from typing import Any

import jsonpatch
import pytest
from prometheus_client import CollectorRegistry
from sealed_world import parameters, release, secret
from support.webhook_server import recorded

from daas.common.errors import NotFound, Unavailable
from daas.gateway.webhooks.admission import AdmissionReviewer
from daas.gateway.webhooks.unseal import CONTAINER, PLAN, UnsealContainer, secret_names
from daas.secrets import SealedSecret, seal_secret

SEALED = {"db", "tls"}
DATA = {"user": b"admin", "password": b"correct horse battery staple"}


class Known:
    """The API server's view: these are sealed."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.away = False

    async def sealed(self, namespace: str, names: set[str]) -> set[str]:
        self.asked.append(names)
        if self.away:
            raise Unavailable("the API server is away", reason="kube-connection")
        return names & SEALED


class Sealer:
    """Seals under the policy `default`, of which it knows the public parameters."""

    async def seal(self, manifest: dict[str, Any], *, policy_name: str) -> dict[str, Any]:
        if policy_name != "default":
            raise NotFound(f"no Seal policy is called {policy_name}", reason="no-policy")
        chosen = parameters()
        return seal_secret(manifest, chosen, chosen.key_servers.encryptor())


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def admission(known: Known) -> AdmissionReviewer:
    unseal = UnsealContainer("registry.example/daas:1", "/etc/rancher/k3s-daas")
    return AdmissionReviewer("east", "k3s-daas", CollectorRegistry(), sealer=Sealer(), known=known, unseal=unseal)


def review(resource: str, obj: dict[str, Any], *, operation: str = "CREATE", dry_run: bool = False) -> dict[str, Any]:
    """A request as the recorded API server makes it, with another object in it."""
    body: dict[str, Any] = copy.deepcopy(recorded("mutate")[0]["request"])
    kind = {"pods": "Pod", "secrets": "Secret"}[resource]
    body["request"] |= {"operation": operation, "dryRun": dry_run, "namespace": "shop", "object": obj}
    body["request"]["kind"] = {"group": "", "version": "v1", "kind": kind}
    body["request"]["resource"] = {"group": "", "version": "v1", "resource": resource}
    return body


def patched(obj: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server goes on with it."""
    if "patch" not in response:
        return obj
    done: dict[str, Any] = jsonpatch.apply_patch(obj, json.loads(base64.b64decode(response["patch"])))
    return done


def pod(volumes: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    mounts = [{"name": one["name"], "mountPath": f"/{one['name']}"} for one in volumes]
    containers = [{"name": "app", "image": "registry.example/app", "volumeMounts": mounts}]
    return {"metadata": {"name": "web"}, "spec": {"containers": containers, "volumes": volumes, **spec}}


async def mutated(admission: AdmissionReviewer, obj: dict[str, Any], **options: Any) -> dict[str, Any]:
    response = (await admission.mutate(review("pods", obj, **options)))["response"]
    assert response["allowed"], response
    return patched(obj, response)


async def test_a_pod_that_mounts_a_sealed_secret_gets_it_opened_into_memory(admission: AdmissionReviewer) -> None:
    items = [{"key": "password", "path": "pw"}]
    volumes = [
        {"name": "data", "secret": {"secretName": "db", "items": items, "defaultMode": 0o400}},
        {"name": "plain", "secret": {"secretName": "public"}},
    ]
    before = pod(volumes, initContainers=[{"name": "first", "image": "registry.example/first"}])
    spec = (await mutated(admission, before))["spec"]
    assert spec["schedulerName"] == "k3s-daas"
    assert [one["name"] for one in spec["initContainers"]] == [CONTAINER, "first"]
    assert spec["containers"] == before["spec"]["containers"]
    by_name = {one["name"]: one for one in spec["volumes"]}
    assert by_name["data"] == {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}}
    assert by_name["plain"] == volumes[1]
    assert by_name["k3s-daas-sealed-0"]["secret"] == {"secretName": "db", "defaultMode": 0o400}
    ours = spec["initContainers"][0]
    mounted = {one["mountPath"]: (one["name"], one.get("readOnly", False)) for one in ours["volumeMounts"]}
    assert mounted["/k3s-daas/sealed/0"] == ("k3s-daas-sealed-0", True)
    assert mounted["/k3s-daas/opened/0"] == ("data", False)
    assert mounted["/k3s-daas/node"] == ("k3s-daas-node", True)
    (plan,) = (json.loads(one["value"]) for one in ours["env"] if one["name"] == PLAN)
    assert plan == [
        {
            "secret": "db",
            "from": "/k3s-daas/sealed/0",
            "to": "/k3s-daas/opened/0",
            "mode": 0o400,
            "items": items,
        }
    ]
    assert all(one["name"] != "k3s-daas-node" for one in spec["containers"][0]["volumeMounts"])


async def test_a_pod_is_changed_once_and_a_volume_added_later_is_served_too(admission: AdmissionReviewer) -> None:
    once = await mutated(admission, pod([{"name": "data", "secret": {"secretName": "db"}}]))
    assert await mutated(admission, once) == once
    later = copy.deepcopy(once)  # another webhook has added a volume, and ours is asked again
    later["spec"]["volumes"].append({"name": "more", "secret": {"secretName": "tls", "optional": True}})
    twice = await mutated(admission, later)
    assert [one["name"] for one in twice["spec"]["initContainers"]] == [CONTAINER]
    (plan,) = (json.loads(one["value"]) for one in twice["spec"]["initContainers"][0]["env"] if one["name"] == PLAN)
    assert [(one["secret"], one["to"]) for one in plan] == [("db", "/k3s-daas/opened/0"), ("tls", "/k3s-daas/opened/1")]
    assert plan[1]["optional"] is True
    assert await mutated(admission, twice) == twice


async def test_a_pod_without_sealed_secrets_is_left_alone(admission: AdmissionReviewer, known: Known) -> None:
    before = pod([{"name": "plain", "secret": {"secretName": "public"}}], schedulerName="k3s-daas")
    assert await mutated(admission, before) == before
    assert known.asked == [{"public"}]
    await mutated(admission, pod([]))
    assert known.asked == [{"public"}], "a pod that names no Secret asks nobody"


REFERENCE = {"name": "db", "key": "password"}


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"imagePullSecrets": [{"name": "db"}]}, "imagePullSecrets"),
        (
            {"containers": [{"name": "app", "env": [{"name": "PW", "valueFrom": {"secretKeyRef": REFERENCE}}]}]},
            "container app (env PW)",
        ),
        ({"containers": [{"name": "app", "envFrom": [{"secretRef": {"name": "db"}}]}]}, "container app (envFrom)"),
        ({"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "db"}}]}]}, "container i (envFrom)"),
        ({"volumes": [{"name": "p", "projected": {"sources": [{"secret": {"name": "db"}}]}}]}, "projected volume p"),
    ],
)
async def test_a_use_that_would_get_ciphertext_is_refused_with_what_to_do(
    admission: AdmissionReviewer, spec: dict[str, Any], word: str
) -> None:
    obj = pod([])
    obj["spec"] |= spec
    assert secret_names(obj) == {"db"}
    response = (await admission.mutate(review("pods", obj)))["response"]
    assert not response["allowed"]
    assert word in response["status"]["message"]
    assert "mount it as a volume" in response["status"]["message"]


async def test_while_nobody_can_say_what_is_sealed_no_pod_with_secrets_is_admitted(
    admission: AdmissionReviewer, known: Known
) -> None:
    known.away = True
    with pytest.raises(Unavailable):
        await admission.mutate(review("pods", pod([{"name": "data", "secret": {"secretName": "db"}}])))


def labelled(data: dict[str, bytes], policy: str = "default", **fields: Any) -> dict[str, Any]:
    return secret(data, labels={"k3s-daas.io/seal-policy": policy}) | fields


async def test_a_labelled_secret_is_sealed_before_it_is_stored_and_only_once(admission: AdmissionReviewer) -> None:
    plain = labelled({"user": DATA["user"]}, stringData={"password": DATA["password"].decode()})
    del plain["metadata"]["namespace"]  # the request says it
    response = (await admission.mutate(review("secrets", plain)))["response"]
    stored = patched(plain, response)
    for value in DATA.values():
        assert value.decode() not in json.dumps(stored)
        assert base64.b64encode(value).decode() not in json.dumps(stored)
    assert "stringData" not in stored
    stored["metadata"]["namespace"] = "shop"
    parsed = SealedSecret.parse("east", stored)
    assert parsed.open(release(parsed.envelope)) == DATA
    again = (await admission.mutate(review("secrets", stored, operation="UPDATE")))["response"]
    assert "patch" not in again
    assert (await admission.validate(review("secrets", stored)))["response"]["allowed"]


async def test_a_dry_run_seals_nothing_and_is_not_refused_for_it(admission: AdmissionReviewer) -> None:
    response = (await admission.mutate(review("secrets", labelled(DATA), dry_run=True)))["response"]
    assert response["allowed"]
    assert "patch" not in response
    assert "default" in response["warnings"][0]
    assert (await admission.validate(review("secrets", labelled(DATA), dry_run=True)))["response"]["allowed"]
    assert not (await admission.validate(review("secrets", labelled(DATA))))["response"]["allowed"]


@pytest.mark.parametrize(
    ("obj", "word"),
    [
        (labelled(DATA, policy="unknown"), "no-policy"),
        (labelled(DATA) | {"type": "kubernetes.io/tls"}, "secret-content"),
        (labelled(DATA) | {"type": "kubernetes.io/service-account-token"}, "secret-type"),
        (labelled({}), "secret-empty"),
        (labelled(DATA) | {"data": {"a": "%%"}}, "secret-data"),
    ],
)
async def test_a_secret_that_cannot_be_sealed_is_refused_without_a_word_of_its_content(
    admission: AdmissionReviewer, obj: dict[str, Any], word: str
) -> None:
    response = (await admission.mutate(review("secrets", obj)))["response"]
    assert not response["allowed"]
    assert word in response["status"]["message"]
    for value in DATA.values():
        assert value.decode() not in response["status"]["message"]


async def test_a_sealed_secret_with_a_plain_value_or_from_elsewhere_is_not_stored(admission: AdmissionReviewer) -> None:
    chosen = parameters()
    sealed = seal_secret(labelled(DATA), chosen, chosen.key_servers.encryptor())
    mixed = copy.deepcopy(sealed)
    mixed["data"]["new"] = base64.b64encode(b"plain").decode()
    moved = copy.deepcopy(sealed)
    moved["metadata"]["name"] = "other"
    for obj, word in ((mixed, "secret-partly-sealed"), (moved, "sealed-elsewhere")):
        assert "patch" not in (await admission.mutate(review("secrets", obj)))["response"]
        response = (await admission.validate(review("secrets", obj)))["response"]
        assert not response["allowed"]
        assert word in response["status"]["message"]
