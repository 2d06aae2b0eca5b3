"""Watches: resume, filters, bookmarks, timeouts, and the end of history. Runs on any cluster."""

from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.connected


def _map(name: str, data: str = "", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": {"x": data}}


def _seen(events: list[Any]) -> list[tuple[str, str]]:
    return [(one["type"], one["object"]["metadata"].get("name", "")) for one in events if one["type"] != "BOOKMARK"]


async def test_a_watch_resumes_after_the_version_it_names_and_misses_nothing(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    version = (await cluster.request("GET", path)).body["metadata"]["resourceVersion"]
    await cluster.request("POST", path, {"metadata": {"name": "one"}})
    patch = {"data": {"a": "Yg=="}}
    await cluster.request("PATCH", f"{path}/one", patch, content_type="application/merge-patch+json")
    await cluster.request("DELETE", f"{path}/one")
    events = await cluster.watch(path, lambda seen: len(seen) == 3, resourceVersion=version, timeoutSeconds=10)
    assert _seen(events) == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]
    versions = [int(one["object"]["metadata"]["resourceVersion"]) for one in events]
    assert versions == sorted(set(versions))
    # From the middle: only what came after it.
    rest = await cluster.watch(path, lambda seen: len(seen) == 1, resourceVersion=versions[1], timeoutSeconds=10)
    assert _seen(rest) == [("DELETED", "one")]
    assert rest[0]["object"]["data"] == {"a": "Yg=="}


async def test_an_object_that_enters_or_leaves_the_selection_is_added_or_deleted(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    version = (await cluster.request("GET", path)).body["metadata"]["resourceVersion"]
    await cluster.request("POST", path, _map("one"))
    for value in ("in", "out"):
        patch = {"metadata": {"labels": {"side": value}}}
        await cluster.request("PATCH", f"{path}/one", patch, content_type="application/merge-patch+json")
    query = {"resourceVersion": version, "labelSelector": "side=in", "timeoutSeconds": 10}
    events = await cluster.watch(path, lambda seen: len(seen) == 2, **query)
    assert _seen(events) == [("ADDED", "one"), ("DELETED", "one")]
    assert events[1]["object"]["metadata"]["labels"] == {"side": "in"}


async def test_without_a_version_a_watch_begins_with_what_there_is(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    await cluster.request("POST", path, {"metadata": {"name": "one"}})
    events = await cluster.watch(path, lambda seen: len(seen) == 1, timeoutSeconds=10)
    assert _seen(events) == [("ADDED", "one")]


async def test_a_watch_with_bookmarks_ends_in_time_and_names_a_version_to_go_on_from(
    cluster: Any, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    version = (await cluster.request("GET", path)).body["metadata"]["resourceVersion"]
    await cluster.request("POST", path, {"metadata": {"name": "one"}})
    query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": 5}
    events = await cluster.watch(path, lambda _: False, **query)
    bookmarks = [one["object"] for one in events if one["type"] == "BOOKMARK"]
    # A real one sends them about once a minute; a shorter watch may see none.
    assert bookmarks or not cluster.simulated
    for one in bookmarks:
        assert one["kind"] == "ConfigMap"
        assert int(one["metadata"]["resourceVersion"]) > int(version)


async def test_a_streamed_list_ends_with_a_marked_bookmark(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    await cluster.request("POST", path, {"metadata": {"name": "one"}})
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    events = await cluster.watch(path, lambda seen: seen[-1]["type"] == "BOOKMARK", timeoutSeconds=10, **query)
    assert _seen(events) == [("ADDED", "one")]
    assert events[-1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"


async def test_a_version_that_was_compacted_is_gone_for_watches_lists_and_pages(cluster: Any, namespace: str) -> None:
    if not cluster.simulated:
        pytest.skip("a real cluster cannot be made to compact by its API")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in ("one", "two"):
        await cluster.request("POST", path, _map(name))
    page = (await cluster.request("GET", path, limit=1)).body["metadata"]
    version = page["resourceVersion"]
    for number in range(400):
        await cluster.request("PUT", f"{path}/one", _map("one", str(number)))
    events = await cluster.watch(path, lambda _: False, resourceVersion=version, timeoutSeconds=10)
    assert [(one["type"], one["object"]["code"], one["object"]["reason"]) for one in events] == [
        ("ERROR", 410, "Expired")
    ]
    rest = await cluster.request("GET", path, limit=1, **{"continue": page["continue"]})
    assert (rest.status, rest.body["reason"]) == (410, "Expired")
    exact = await cluster.request("GET", path, resourceVersion=version, resourceVersionMatch="Exact")
    assert exact.status == 410


async def test_a_version_of_the_future_is_refused_and_one_that_is_no_number_too(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    version = int((await cluster.request("GET", path)).body["metadata"]["resourceVersion"])
    future = await cluster.request("GET", path, resourceVersion=version + 1_000_000)
    assert future.status == 504
    assert "Too large resource version" in future.body["message"]
    assert (await cluster.request("GET", path, resourceVersion="abc")).status == 500


async def test_the_clients_raw_methods_list_and_watch(cluster: Any, namespace: str) -> None:
    made = {"metadata": {"name": "one"}}
    await cluster.request("POST", f"/api/v1/namespaces/{namespace}/secrets", made)
    response = await cluster.core.list_namespaced_secret_without_preload_content(namespace, limit=500)
    listed = orjson.loads(await response.read())
    assert [one["metadata"]["name"] for one in listed["items"]] == ["one"]
    response = await cluster.core.list_namespaced_secret_without_preload_content(
        namespace, watch=True, resource_version="0", allow_watch_bookmarks=True, timeout_seconds=10
    )
    line = await response.content.readline()
    response.close()
    assert orjson.loads(line)["object"]["kind"] == "Secret"
