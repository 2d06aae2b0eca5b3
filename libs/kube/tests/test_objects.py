"""Bindings, conditions, events, leases and credentials against a real server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from daas.common.errors import ConfigurationError
from daas.kube import (
    BoundPod,
    KubeClient,
    KubeConflict,
    KubeNotFound,
    KubeRefused,
    KubeUnavailable,
    Lease,
    LeaseMeta,
    LeaseSpec,
    bind,
    get_lease,
    get_pod,
    load_configuration,
    patch_pod_scheduled,
    put_lease,
    record_event,
)
from daas.kube.objects import micro_time

CREATE = "/api/v1/namespaces/default/pods"
NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)


async def create_pod(kube: KubeClient, manifest: Any, name: str) -> BoundPod:
    await kube.request("POST", CREATE, body=manifest(name))
    return await get_pod(kube, "default", name)


@pytest.mark.connected
async def test_a_binding_sets_node_and_annotations_and_happens_once(kube: KubeClient, manifest: Any) -> None:
    pod = await create_pod(kube, manifest, "bound")
    arguments: dict[str, Any] = {"namespace": "default", "name": "bound", "annotations": {"k3s-daas.io/proof": "7/0"}}
    await bind(kube, uid=pod.metadata.uid, node="n1", **arguments)
    after = await get_pod(kube, "default", "bound")
    assert after.spec.node_name == "n1"
    assert after.metadata.annotations is not None
    assert after.metadata.annotations["k3s-daas.io/proof"] == "7/0"
    with pytest.raises(KubeConflict):
        await bind(kube, uid=pod.metadata.uid, node="n2", **arguments)


@pytest.mark.connected
async def test_a_binding_for_another_uid_is_refused(kube: KubeClient, manifest: Any) -> None:
    await create_pod(kube, manifest, "again")
    with pytest.raises(KubeConflict):
        await bind(kube, namespace="default", name="again", uid="an-older-one", node="n1", annotations={})
    assert (await get_pod(kube, "default", "again")).spec.node_name == ""
    with pytest.raises(KubeNotFound):
        await bind(kube, namespace="default", name="never", uid="u", node="n1", annotations={})


@pytest.mark.connected
async def test_the_condition_is_set_unless_the_pod_has_moved_on(kube: KubeClient, manifest: Any) -> None:
    pod = await create_pod(kube, manifest, "waits")
    arguments: dict[str, Any] = {
        "namespace": "default",
        "name": "waits",
        "uid": pod.metadata.uid,
        "resource_version": pod.metadata.resource_version,
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
        "now": NOW,
    }
    await patch_pod_scheduled(kube, **arguments)
    raw = msgspec.json.decode(await kube.request("GET", f"{CREATE}/waits"))
    (condition,) = [c for c in raw["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert condition["status"] == "False"
    assert condition["reason"] == "Unschedulable"
    assert condition["message"] == "0/3 nodes are available"
    with pytest.raises(KubeConflict):
        await patch_pod_scheduled(kube, **arguments)


@pytest.mark.connected
async def test_an_event_is_posted_once_and_counts_how_often_it_was_said(kube: KubeClient, manifest: Any) -> None:
    pod = await create_pod(kube, manifest, "told")
    arguments: dict[str, Any] = {
        "namespace": "default",
        "name": "told",
        "uid": pod.metadata.uid,
        "reason": "FailedScheduling",
        "action": "Scheduling",
        "warning": True,
        "controller": "k3s-daas-scheduler",
        "instance": "test",
        "now": NOW,
    }
    assert await record_event(kube, note="no node", **arguments)
    assert not await record_event(kube, note="no node", **arguments)
    assert await record_event(kube, note="still no node", **arguments)
    events = msgspec.json.decode(await kube.request("GET", "/api/v1/namespaces/default/events"))["items"]
    assert sorted(event["message"] for event in events) == ["no node", "still no node"]
    assert {event["involvedObject"]["uid"] for event in events} == {pod.metadata.uid}
    assert not await record_event(kube, note="no node", **arguments)
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    found = msgspec.json.decode(await kube.request("GET", path))["items"]
    assert {event["note"]: event.get("series", {}).get("count", 1) for event in found} == {
        "no node": 3,
        "still no node": 1,
    }
    arguments |= {"warning": False, "reason": "Scheduled"}
    for _ in range(2):  # a message that came again after a crash says nothing new
        await record_event(kube, note="assigned", **arguments)
    (said,) = [e for e in msgspec.json.decode(await kube.request("GET", path))["items"] if e["note"] == "assigned"]
    assert "series" not in said


@pytest.mark.connected
async def test_only_the_first_of_two_holders_gets_a_lease(kube: KubeClient) -> None:
    meta = LeaseMeta(name="gateway", namespace="default")
    mine = LeaseSpec(holder_identity="a", lease_duration_seconds=15, renew_time=micro_time(NOW))
    first = await put_lease(kube, Lease(metadata=meta, spec=mine))
    with pytest.raises(KubeConflict):
        await put_lease(kube, Lease(metadata=meta, spec=mine))
    assert (await get_lease(kube, "default", "gateway")).spec.holder_identity == "a"
    renewed = await put_lease(
        kube, msgspec.structs.replace(first, spec=msgspec.structs.replace(mine, lease_transitions=1))
    )
    assert renewed.metadata.resource_version != first.metadata.resource_version
    with pytest.raises(KubeConflict):
        await put_lease(kube, first)


@pytest.mark.connected
async def test_a_wrong_token_is_refused_and_a_foreign_ca_is_not_trusted(apiserver: Any, tmp_path: Path) -> None:
    config = yaml.safe_load(apiserver.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "not-the-token"}
    wrong = tmp_path / "wrong.kubeconfig"
    wrong.write_text(yaml.safe_dump(config))
    async with await KubeClient.connect(wrong) as client:
        with pytest.raises(KubeRefused) as refusal:
            await client.request("GET", CREATE)
    assert refusal.value.reason == "kube-unauthorized"
    assert "not-the-token" not in str(refusal.value)

    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    wrong.write_text(yaml.safe_dump(config))
    async with await KubeClient.connect(wrong) as client:
        with pytest.raises(KubeUnavailable):
            await client.request("GET", CREATE)


async def test_a_kubeconfig_without_verified_tls_is_refused(tmp_path: Path) -> None:
    def write(cluster: dict[str, Any]) -> Path:
        path = tmp_path / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                }
            )
        )
        return path

    insecure: tuple[dict[str, Any], ...] = (
        {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True},
        {"server": "http://127.0.0.1:1"},
    )
    for cluster in insecure:
        with pytest.raises(ConfigurationError) as refusal:
            await load_configuration(write(cluster))
        assert refusal.value.reason == "kubeconfig-insecure"
    assert (await load_configuration(write({"server": "https://127.0.0.1:1"}))).host == "https://127.0.0.1:1"


async def test_a_missing_or_malformed_kubeconfig_says_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        await load_configuration(tmp_path / "none")
    assert refusal.value.reason == "kubeconfig-missing"
    broken = tmp_path / "broken"
    broken.write_text("clusters: 7\n")
    with pytest.raises(ConfigurationError) as refusal:
        await load_configuration(broken)
    assert refusal.value.reason == "kubeconfig-invalid"
    with pytest.raises(ConfigurationError):
        await load_configuration(None)
