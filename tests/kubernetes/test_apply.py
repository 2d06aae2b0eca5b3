"""Server-side apply and kubectl. Runs on any cluster."""

from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest

pytestmark = pytest.mark.connected

Kubectl = Callable[..., CompletedProcess[str]]


async def _apply(cluster: Any, namespace: str, manager: str, data: dict[str, str], **query: Any) -> Any:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": data}
    path = f"/api/v1/namespaces/{namespace}/configmaps/one"
    content_type = "application/apply-patch+yaml"
    return await cluster.request("PATCH", path, body, content_type=content_type, fieldManager=manager, **query)


async def test_what_a_manager_no_longer_applies_is_removed_and_others_fields_stay(cluster: Any, namespace: str) -> None:
    assert (await _apply(cluster, namespace, "alice", {"a": "1", "b": "2"})).status == 201
    assert (await _apply(cluster, namespace, "bob", {"c": "3"})).status == 200
    last = await _apply(cluster, namespace, "alice", {"a": "1"})
    assert (last.status, last.body["data"]) == (200, {"a": "1", "c": "3"})


async def test_a_field_of_another_manager_is_a_conflict_unless_forced(cluster: Any, namespace: str) -> None:
    await _apply(cluster, namespace, "alice", {"a": "1"})
    refused = await _apply(cluster, namespace, "bob", {"a": "2"})
    assert (refused.status, refused.body["reason"]) == (409, "Conflict")
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "alice": .data.a'
    assert refused.body["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "alice"', "field": ".data.a"}
    ]
    forced = await _apply(cluster, namespace, "bob", {"a": "2"}, force="true")
    assert forced.body["data"] == {"a": "2"}
    owners = {one["manager"]: one["fieldsV1"] for one in forced.body["metadata"]["managedFields"]}
    assert owners["bob"] == {"f:data": {"f:a": {}}}
    assert "f:a" not in owners.get("alice", {}).get("f:data", {})


async def test_the_same_value_is_shared_and_outlives_one_of_its_owners(cluster: Any, namespace: str) -> None:
    await _apply(cluster, namespace, "alice", {"a": "1"})
    assert (await _apply(cluster, namespace, "bob", {"a": "1"})).status == 200
    assert (await _apply(cluster, namespace, "alice", {})).body["data"] == {"a": "1"}


async def test_an_apply_without_a_manager_is_refused(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/one"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    refused = await cluster.request("PATCH", path, body, content_type="application/apply-patch+yaml")
    assert refused.status == 422
    assert "fieldManager: Required value: is required for apply patch" in refused.body["message"]


async def test_an_update_takes_the_ownership_of_what_it_changes(cluster: Any, namespace: str) -> None:
    await _apply(cluster, namespace, "alice", {"a": "1"})
    path = f"/api/v1/namespaces/{namespace}/configmaps/one"
    patch = {"data": {"a": "2"}}
    query = {"content_type": "application/merge-patch+json", "fieldManager": "carol"}
    await cluster.request("PATCH", path, patch, **query)
    refused = await _apply(cluster, namespace, "alice", {"a": "1"})
    assert refused.status == 409
    assert 'conflict with "carol" using v1' in refused.body["message"]


def test_kubectl_moves_an_object_from_client_side_to_server_side_apply(kubectl: Kubectl, namespace: str) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: moved}\ndata: {x: '1'}\n"
    assert kubectl("-n", namespace, "apply", "-f", "-", stdin=text).returncode == 0
    moved = kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=text.replace("'1'", "'2'"))
    assert (moved.returncode, moved.stdout) == (0, "configmap/moved serverside-applied\n"), moved.stderr


def test_kubectl_describes_runs_explains_and_drains(kubectl: Kubectl, namespace: str, node: str) -> None:
    run = kubectl("-n", namespace, "run", "web", "--image=example.invalid/web:1")
    assert run.stdout == "pod/web created\n", run.stderr
    described = kubectl("-n", namespace, "describe", "pod", "web").stdout
    assert "example.invalid/web:1" in described
    assert "QoS Class:" in described
    assert "FIELDS:" in kubectl("explain", "pod.spec.tolerations").stdout
    assert kubectl("cordon", node).stdout == f"node/{node} cordoned\n"
    assert kubectl("uncordon", node).stdout == f"node/{node} uncordoned\n"


def test_kubectl_creates_with_protobuf_bodies(kubectl: Kubectl, namespace: str) -> None:
    made = kubectl("-n", namespace, "create", "deployment", "shop", "--image=example.invalid/shop", "--replicas=0")
    assert made.stdout == "deployment.apps/shop created\n", made.stderr
    query = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image}"
    shown = kubectl("-n", namespace, "get", "deployment", "shop", "-o", query).stdout
    assert shown == "0 example.invalid/shop"


def test_kubectl_waits_for_the_end_of_a_namespace(kubectl: Kubectl, namespace: str) -> None:
    name = f"{namespace}-two"
    kubectl("create", "namespace", name)
    kubectl("-n", name, "create", "configmap", "one", "--from-literal=a=b")
    gone = kubectl("delete", "namespace", name, "--timeout=60s")
    assert gone.returncode == 0, gone.stderr
    assert "NotFound" in kubectl("get", "namespace", name).stderr
