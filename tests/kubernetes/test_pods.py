"""Pods: defaults, binding, eviction, graceful deletion. Runs on any cluster."""

from typing import Any

import pytest

pytestmark = pytest.mark.connected


async def _pending(cluster: Any, namespace: str, name: str = "web", **meta: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "example.invalid/c", "resources": {"requests": {"memory": "64Mi"}}}]
    body = {
        "metadata": {"name": name, **meta},
        "spec": {"schedulerName": "nobody-schedules", "containers": containers, "terminationGracePeriodSeconds": 0},
    }
    made = await cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    assert made.status == 201, made.body
    pod: dict[str, Any] = made.body
    return pod


def _binding(name: str, node: str, **meta: Any) -> dict[str, Any]:
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, **meta}, "target": target}


async def test_a_new_pod_is_defaulted_as_by_the_real_server(cluster: Any, namespace: str) -> None:
    pod = await _pending(cluster, namespace)
    spec, status = pod["spec"], pod["status"]
    assert (status["phase"], status["qosClass"]) == ("Pending", "Burstable")
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["priority"]) == ("Always", "ClusterFirst", 0)
    assert (spec["preemptionPolicy"], spec["enableServiceLinks"]) == ("PreemptLowerPriority", True)
    container = spec["containers"][0]
    assert (container["imagePullPolicy"], container["terminationMessagePath"]) == ("Always", "/dev/termination-log")
    seconds = {one["key"]: one["tolerationSeconds"] for one in spec["tolerations"]}
    assert seconds == {"node.kubernetes.io/not-ready": 300, "node.kubernetes.io/unreachable": 300}


async def test_a_binding_assigns_the_pod_copies_annotations_and_marks_it_scheduled(
    cluster: Any, namespace: str, node: str
) -> None:
    pod = await _pending(cluster, namespace, annotations={"kept": "1"})
    annotations = {"k3s-daas.io/proof": "7/0"}
    body = _binding("web", node, uid=pod["metadata"]["uid"], annotations=annotations)
    bound = await cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods/web/binding", body)
    assert (bound.status, bound.body["kind"], bound.body["status"]) == (201, "Status", "Success")
    after = (await cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/web")).body
    assert after["spec"]["nodeName"] == node
    assert after["metadata"]["annotations"] == {"kept": "1", "k3s-daas.io/proof": "7/0"}
    conditions = {one["type"]: one["status"] for one in after["status"]["conditions"]}
    assert conditions["PodScheduled"] == "True"


async def test_the_clients_raw_method_binds_too(cluster: Any, namespace: str, node: str) -> None:
    await _pending(cluster, namespace)
    response = await cluster.core.create_namespaced_pod_binding_without_preload_content(
        "web", namespace, _binding("web", node)
    )
    assert response.status == 201


async def test_the_bindings_collection_binds_too(cluster: Any, namespace: str, node: str) -> None:
    await _pending(cluster, namespace)
    bound = await cluster.request("POST", f"/api/v1/namespaces/{namespace}/bindings", _binding("web", node))
    assert bound.status == 201


async def test_a_pod_is_bound_once(cluster: Any, namespace: str, node: str) -> None:
    await _pending(cluster, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/web/binding"
    await cluster.request("POST", path, _binding("web", node))
    for other in (node, "another"):
        again = await cluster.request("POST", path, _binding("web", other))
        assert (again.status, again.body["reason"]) == (409, "Conflict")
        assert f'pod web is already assigned to node "{node}"' in again.body["message"]


async def test_a_binding_for_another_uid_is_refused(cluster: Any, namespace: str, node: str) -> None:
    await _pending(cluster, namespace)
    body = _binding("web", node, uid="00000000-0000-0000-0000-000000000000")
    refused = await cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods/web/binding", body)
    assert (refused.status, refused.body["reason"]) == (409, "Conflict")
    assert "Precondition failed: UID in precondition" in refused.body["message"]
    after = (await cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/web")).body
    assert "nodeName" not in after["spec"]


async def test_a_gated_pod_is_not_bound(cluster: Any, namespace: str, node: str) -> None:
    body = {
        "metadata": {"name": "gated"},
        "spec": {
            "schedulingGates": [{"name": "example.com/wait"}],
            "containers": [{"name": "c", "image": "example.invalid/c"}],
        },
    }
    await cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    path = f"/api/v1/namespaces/{namespace}/pods/gated/binding"
    refused = await cluster.request("POST", path, _binding("gated", node))
    assert refused.status == 409
    assert "non-empty .spec.schedulingGates" in refused.body["message"]


async def test_a_binding_of_a_pod_that_is_not_there_is_not_found(cluster: Any, namespace: str, node: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/nosuch/binding"
    assert (await cluster.request("POST", path, _binding("nosuch", node))).status == 404


async def test_a_pending_pod_is_deleted_at_once(cluster: Any, namespace: str) -> None:
    await _pending(cluster, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/web"
    assert (await cluster.request("DELETE", path)).status == 200
    assert (await cluster.request("GET", path)).status == 404


async def test_an_eviction_deletes_the_pod(cluster: Any, namespace: str) -> None:
    await _pending(cluster, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/web"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web", "namespace": namespace}}
    assert (await cluster.request("POST", f"{path}/eviction", body)).status == 201
    assert (await cluster.request("GET", path)).status == 404
