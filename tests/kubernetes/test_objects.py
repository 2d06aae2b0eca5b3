"""Objects: create, read, update, patch, delete, conflicts, validation, pages and selectors. Runs on any cluster."""

from typing import Any

import pytest

pytestmark = pytest.mark.connected


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pending_pod(name: str, **labels: str) -> dict[str, Any]:
    containers = [{"name": "c", "image": "example.invalid/c:1", "resources": {"requests": {"cpu": "100m"}}}]
    spec = {"schedulerName": "nobody-schedules", "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


async def test_what_is_created_can_be_read_replaced_and_deleted_and_is_then_gone(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = await cluster.request("POST", path, config_map("one", a="1"))
    assert made.status == 201
    assert made.body["metadata"]["uid"]
    made.body["data"] = {"a": "2"}
    replaced = await cluster.request("PUT", f"{path}/one", made.body)
    assert replaced.status == 200
    assert int(replaced.body["metadata"]["resourceVersion"]) > int(made.body["metadata"]["resourceVersion"])
    assert (await cluster.request("GET", f"{path}/one")).body["data"] == {"a": "2"}
    gone = await cluster.request("DELETE", f"{path}/one")
    assert (gone.status, gone.body["status"], gone.body["details"]["name"]) == (200, "Success", "one")
    missing = await cluster.request("GET", f"{path}/one")
    assert (missing.status, missing.body["reason"]) == (404, "NotFound")
    assert missing.body["message"] == 'configmaps "one" not found'


async def test_a_name_that_is_taken_is_refused(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await cluster.request("POST", path, config_map("one"))
    again = await cluster.request("POST", path, config_map("one"))
    assert (again.status, again.body["reason"]) == (409, "AlreadyExists")


async def test_a_stale_resource_version_is_a_conflict_and_changes_nothing(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = (await cluster.request("POST", path, config_map("one", a="1"))).body
    await cluster.request("PUT", f"{path}/one", first | {"data": {"a": "2"}})
    stale = await cluster.request("PUT", f"{path}/one", first | {"data": {"a": "3"}})
    assert (stale.status, stale.body["reason"]) == (409, "Conflict")
    assert "the object has been modified" in stale.body["message"]
    assert (await cluster.request("GET", f"{path}/one")).body["data"] == {"a": "2"}


async def test_a_write_that_changes_nothing_keeps_the_resource_version(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = (await cluster.request("POST", path, config_map("one", a="1"))).body
    same = await cluster.request("PUT", f"{path}/one", first)
    assert same.body["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_nothing_is_created_in_a_namespace_that_does_not_exist(cluster: Any) -> None:
    refused = await cluster.request("POST", "/api/v1/namespaces/no-such-namespace/configmaps", config_map("one"))
    assert (refused.status, refused.body["message"]) == (404, 'namespaces "no-such-namespace" not found')


async def test_a_dry_run_answers_but_stores_nothing(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    dry = await cluster.request("POST", path, config_map("one", a="1"), dryRun="All")
    assert (dry.status, dry.body["data"]) == (201, {"a": "1"})
    assert (await cluster.request("GET", f"{path}/one")).status == 404


async def test_a_generated_name_extends_the_prefix(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = await cluster.request("POST", path, {"metadata": {"generateName": "part-"}})
    assert made.body["metadata"]["name"].startswith("part-")
    assert len(made.body["metadata"]["name"]) == len("part-") + 5


async def test_deleting_with_another_uid_is_refused(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await cluster.request("POST", path, config_map("one"))
    body = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    refused = await cluster.request("DELETE", f"{path}/one", body)
    assert (refused.status, refused.body["reason"]) == (409, "Conflict")
    assert "does not match the UID in record" in refused.body["message"]


async def test_a_finalizer_holds_a_deleted_object_until_it_is_removed(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = config_map("held")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    await cluster.request("POST", path, body)
    held = await cluster.request("DELETE", f"{path}/held")
    assert held.body["metadata"]["deletionTimestamp"]
    assert (await cluster.request("GET", f"{path}/held")).status == 200
    patch = {"metadata": {"finalizers": None}}
    await cluster.request("PATCH", f"{path}/held", patch, content_type="application/merge-patch+json")
    assert (await cluster.request("GET", f"{path}/held")).status == 404


@pytest.mark.parametrize(
    ("content_type", "patch"),
    [
        ("application/merge-patch+json", {"data": {"a": None, "b": "2"}}),
        ("application/strategic-merge-patch+json", {"data": {"a": None, "b": "2"}}),
        (
            "application/json-patch+json",
            [{"op": "remove", "path": "/data/a"}, {"op": "add", "path": "/data/b", "value": "2"}],
        ),
    ],
)
async def test_each_kind_of_patch_removes_and_adds(cluster: Any, namespace: str, content_type: str, patch: Any) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await cluster.request("POST", path, config_map("one", a="1", c="3"))
    patched = await cluster.request("PATCH", f"{path}/one", patch, content_type=content_type)
    assert (patched.status, patched.body["data"]) == (200, {"b": "2", "c": "3"})


async def test_a_strategic_patch_merges_containers_by_name(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    await cluster.request("POST", path, pending_pod("web"))
    patch = {"spec": {"containers": [{"name": "c", "image": "example.invalid/c:2"}]}}
    content_type = "application/strategic-merge-patch+json"
    patched = await cluster.request("PATCH", f"{path}/web", patch, content_type=content_type)
    container = patched.body["spec"]["containers"][0]
    assert (container["image"], container["resources"]) == ("example.invalid/c:2", {"requests": {"cpu": "100m"}})


async def test_the_status_is_written_by_its_own_path_only(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    await cluster.request("POST", path, pending_pod("web"))
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes fit"}
    patch = {"status": {"conditions": [condition]}}
    content_type = "application/strategic-merge-patch+json"
    await cluster.request("PATCH", f"{path}/web", patch, content_type=content_type)
    assert "conditions" not in (await cluster.request("GET", f"{path}/web")).body["status"]
    await cluster.request("PATCH", f"{path}/web/status", patch, content_type=content_type)
    stored = (await cluster.request("GET", f"{path}/web")).body["status"]["conditions"]
    assert [(one["type"], one["reason"]) for one in stored] == [("PodScheduled", "Unschedulable")]


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"containers": []}, "spec.containers", "FieldValueRequired"),
        ({"containers": [{"name": "c"}]}, "spec.containers[0].image", "FieldValueRequired"),
        ({"containers": [{"name": "C!", "image": "i"}]}, "spec.containers[0].name", "FieldValueInvalid"),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy", "FieldValueNotSupported"),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
            "spec.tolerations[0].operator",
            "FieldValueInvalid",
        ),
    ],
)
async def test_an_invalid_pod_is_refused_with_the_field_that_is_to_blame(
    cluster: Any, namespace: str, change: dict[str, Any], field: str, reason: str
) -> None:
    pod = pending_pod("bad")
    pod["spec"] |= change
    refused = await cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    assert (refused.status, refused.body["reason"], refused.body["details"]["kind"]) == (422, "Invalid", "Pod")
    assert (field, reason) in [(one["field"], one["reason"]) for one in refused.body["details"]["causes"]]


async def test_an_unknown_field_is_refused_warned_about_or_ignored_as_asked(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = config_map("one") | {"bogus": 1}
    strict = await cluster.request("POST", path, body, fieldValidation="Strict")
    assert (strict.status, strict.body["reason"]) == (400, "BadRequest")
    assert 'strict decoding error: unknown field "bogus"' in strict.body["message"]
    warned = await cluster.request("POST", path, body, fieldValidation="Warn", dryRun="All")
    assert 'unknown field \\"bogus\\"' in warned.headers["Warning"]
    ignored = await cluster.request("POST", path, body, fieldValidation="Ignore", dryRun="All")
    assert "Warning" not in ignored.headers
    assert "bogus" not in ignored.body


async def test_a_value_of_the_wrong_type_is_a_bad_request(cluster: Any, namespace: str) -> None:
    body = config_map("one") | {"data": {"a": 1}}
    refused = await cluster.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    assert (refused.status, refused.body["reason"]) == (400, "BadRequest")
    assert "cannot unmarshal number into Go struct field ConfigMap.data of type string" in refused.body["message"]


async def test_a_pods_node_cannot_be_changed_by_an_update(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    pod = (await cluster.request("POST", path, pending_pod("web"))).body
    pod["spec"]["nodeName"] = "elsewhere"
    refused = await cluster.request("PUT", f"{path}/web", pod)
    assert refused.status == 422
    assert "pod updates may not change fields other than" in refused.body["message"]


async def test_pages_together_are_one_consistent_list(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(7):
        await cluster.request("POST", path, config_map(f"page-{number}"), fieldManager="test")
    query = {"labelSelector": "!absent", "limit": 3}
    first = (await cluster.request("GET", path, **query)).body
    # What happens between the pages is not seen by them.
    await cluster.request("DELETE", f"{path}/page-6")
    await cluster.request("POST", path, config_map("page-9"))
    names = [one["metadata"]["name"] for one in first["items"]]
    page = first
    while token := page["metadata"].get("continue"):
        page = (await cluster.request("GET", path, **query, **{"continue": token})).body
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [one["metadata"]["name"] for one in page["items"]]
    assert [name for name in names if name.startswith("page-")] == [f"page-{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=a", ["one"]),
        ("app==a", ["one"]),
        ("app!=a", ["three", "two"]),
        ("app in (a, b)", ["one", "two"]),
        ("app notin (a)", ["three", "two"]),
        ("app", ["one", "two"]),
        ("!app", ["three"]),
        ("app,tier=x", ["two"]),
    ],
)
async def test_label_selectors_select(cluster: Any, namespace: str, selector: str, names: list[str]) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    for pod in (pending_pod("one", app="a"), pending_pod("two", app="b", tier="x"), pending_pod("three", tier="y")):
        await cluster.request("POST", path, pod)
    found = (await cluster.request("GET", path, labelSelector=selector)).body["items"]
    assert [one["metadata"]["name"] for one in found] == names


async def test_field_selectors_select_and_refuse_what_is_not_indexed(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    await cluster.request("POST", path, pending_pod("web"))
    selector = "spec.schedulerName=nobody-schedules,spec.nodeName=,status.phase!=Running"
    found = (await cluster.request("GET", path, fieldSelector=selector)).body["items"]
    assert [one["metadata"]["name"] for one in found] == ["web"]
    refused = await cluster.request("GET", path, fieldSelector="spec.bogus=1")
    assert (refused.status, refused.body["message"]) == (400, "field label not supported: spec.bogus")


async def test_a_lease_must_be_updated_with_its_resource_version(cluster: Any, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    body = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}
    lease = (await cluster.request("POST", path, body)).body
    blind = await cluster.request("PUT", f"{path}/leader", body)
    assert (blind.status, blind.body["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")
    lease["spec"]["holderIdentity"] = "b"
    assert (await cluster.request("PUT", f"{path}/leader", lease)).status == 200
    assert (await cluster.request("PUT", f"{path}/leader", lease)).status == 409


async def test_an_event_is_the_same_object_in_both_of_its_groups(cluster: Any, namespace: str) -> None:
    body = {
        "metadata": {"name": "placed.1"},
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingController": "example.com/scheduler",
        "reportingInstance": "one",
        "action": "Binding",
        "reason": "Scheduled",
        "regarding": {"kind": "Pod", "namespace": namespace, "name": "web"},
        "note": "assigned to n1",
        "type": "Normal",
    }
    made = await cluster.request("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)
    assert made.status == 201, made.body
    path = f"/api/v1/namespaces/{namespace}/events"
    core = (await cluster.request("GET", path, fieldSelector="involvedObject.name=web")).body["items"][0]
    assert (core["message"], core["reportingComponent"]) == ("assigned to n1", "example.com/scheduler")
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    event = (await cluster.request("GET", path, fieldSelector="regarding.name=web")).body["items"][0]
    assert (event["note"], event["regarding"]["name"]) == ("assigned to n1", "web")
