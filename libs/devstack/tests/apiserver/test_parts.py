"""The parts that need no server: storage, patches, ownership of fields, protobuf, selectors, quantities, tables."""

import contextlib
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daas.devstack.apiserver import managed, patch, protobuf, quantity, selectors, tables
from daas.devstack.apiserver.defaults import qos_class
from daas.devstack.apiserver.errors import ApiError
from daas.devstack.apiserver.resources import BY_KEY, event_from_core, event_to_core
from daas.devstack.apiserver.schema import MESSAGES, SCALARS, message, prune
from daas.devstack.apiserver.storage import IdentityTransform, Storage

MAPS = BY_KEY["configmaps"]
UNTIMED = settings(deadline=None)  # examples write sqlite files: on a busy machine one takes over 200 ms


def _object(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "data": data}


def _store(path: Path | None = None, history: int = 1000) -> Storage:
    return Storage(path, IdentityTransform(), history_events_max=history)


def test_every_type_names_only_known_types_and_numbers_each_field_once() -> None:
    for kind in MESSAGES.values():
        numbers = [field.number for field in kind.wire]
        assert len(numbers) == len(set(numbers)), kind.name
        for field in kind.wire:
            assert field.type in SCALARS or field.type in MESSAGES, (kind.name, field.name)


@UNTIMED
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40), st.data())
def test_a_list_as_of_a_version_is_what_was_there_then(steps: list[tuple[str, bool]], data: st.DataObject) -> None:
    store = _store()
    versions = {store.version: dict[str, str]()}
    now: dict[str, str] = {}
    for number, (name, delete) in enumerate(steps):
        if delete and name in now:
            store.delete(MAPS, _object(name))
            del now[name]
        elif name in now:
            store.update(MAPS, _object(name, n=str(number)))
            now[name] = str(number)
        else:
            store.create(MAPS, _object(name, n=str(number)))
            now[name] = str(number)
        versions[store.version] = dict(now)
    at = data.draw(st.sampled_from(sorted(versions)))
    seen = {one.name: one.object()["data"]["n"] for one in store.records(MAPS, None, at)}
    assert seen == versions[at]
    store.close()


@UNTIMED
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 20))
def test_a_store_read_back_is_the_store_that_was_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool]], history: int
) -> None:
    path = tmp_path_factory.mktemp("store") / "log.sqlite"
    store = _store(path, history)
    for number, (name, delete) in enumerate(steps):
        there = store.get(MAPS, "default", name) is not None
        if there and delete:
            store.delete(MAPS, _object(name))
        elif there:
            store.update(MAPS, _object(name, n=str(number)))
        elif not delete:
            store.create(MAPS, _object(name, n=str(number)))
    before = (store.version, store.compacted, [one.raw for one in store.records(MAPS, None)])
    events = store.since(MAPS, store.compacted)
    store.close()
    again = _store(path, history)
    assert (again.version, again.compacted, [one.raw for one in again.records(MAPS, None)]) == before
    assert again.since(MAPS, again.compacted) == events
    again.close()


def test_what_lies_before_the_window_is_gone() -> None:
    store = _store(history=10)
    store.create(MAPS, _object("a"))
    first = store.version
    for number in range(30):
        store.update(MAPS, _object("a", n=str(number)))
    with pytest.raises(ApiError, match="too old resource version") as refused:
        store.since(MAPS, first)
    assert (refused.value.code, refused.value.reason) == (410, "Expired")
    store.close()


def test_an_unknown_field_is_named_by_its_path_and_dropped() -> None:
    unknown: list[str] = []
    pod = {"spec": {"containers": [{"name": "c", "bogus": 1}], "nodeSelector": {"any": "key"}}}
    kept = prune(message("Pod"), pod, "", unknown)
    assert unknown == ["spec.containers[0].bogus"]
    assert kept == {"spec": {"containers": [{"name": "c"}], "nodeSelector": {"any": "key"}}}


def test_a_strategic_patch_follows_its_directives() -> None:
    pod = {"spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeSelector": {"x": "1"}}}
    change = {
        "spec": {
            "containers": [{"name": "a", "$patch": "delete"}, {"name": "c"}],
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
            "nodeSelector": {"$patch": "replace", "y": "2"},
        }
    }
    patched = patch.strategic_patch(message("Pod"), pod, change)
    assert patched == {"spec": {"containers": [{"name": "c"}, {"name": "b"}], "nodeSelector": {"y": "2"}}}


def test_finalizers_are_merged_and_removed_one_by_one() -> None:
    pod = {"metadata": {"finalizers": ["a/a", "b/b"]}}
    added = patch.strategic_patch(message("Pod"), pod, {"metadata": {"finalizers": ["c/c"]}})
    assert added["metadata"]["finalizers"] == ["a/a", "b/b", "c/c"]
    change = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/a"]}}
    assert patch.strategic_patch(message("Pod"), added, change)["metadata"]["finalizers"] == ["b/b", "c/c"]


_POD = {
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}], "hostNetwork": True},
}


def test_field_sets_survive_their_encoding() -> None:
    paths = frozenset(managed.flatten(message("Pod"), _POD))
    assert managed.from_fields_v1(managed.to_fields_v1(paths)) == paths
    port = ("f:spec", "f:containers", 'k:{"name":"c"}', "f:ports", 'k:{"containerPort":80,"protocol":"TCP"}')
    assert (*port, "f:containerPort") in paths


@UNTIMED
@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4),
)
def test_after_a_forced_apply_the_fields_are_there_and_owned(first: dict[str, str], second: dict[str, str]) -> None:
    kind = message("ConfigMap")
    obj: dict[str, Any] = {"metadata": {}}
    for manager, data in (("alice", first), ("bob", second)):
        entry = managed.Entry(manager, "Apply", "v1", "", "2026-01-01T00:00:00Z", frozenset())
        obj = managed.apply(kind, obj, {"metadata": {"name": "one"}, "data": data}, entry, force=True)
    assert obj.get("data", {}) == first | second
    owners = {one.manager: one.paths for one in managed.read_entries(obj["metadata"])}
    assert {path[1][2:] for path in owners.get("bob", ()) if len(path) == 2} == set(second)


def _chunk(number: int, payload: bytes) -> bytes:
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


def test_a_protobuf_secret_is_decoded() -> None:
    meta = _chunk(1, b"s1") + _chunk(11, _chunk(1, b"app") + _chunk(2, b"web"))
    entry = _chunk(1, b"key") + _chunk(2, b"\x00\xff")
    raw = _chunk(1, meta) + _chunk(2, entry) + _chunk(3, b"Opaque")
    envelope = _chunk(1, _chunk(1, b"v1") + _chunk(2, b"Secret")) + _chunk(2, raw)
    assert protobuf.decode(protobuf.MAGIC + envelope) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s1", "labels": {"app": "web"}},
        "data": {"key": "AP8="},
        "type": "Opaque",
    }


@UNTIMED
@given(st.binary(max_size=200))
def test_protobuf_noise_is_refused_never_a_crash(noise: bytes) -> None:
    envelope = _chunk(1, _chunk(1, b"v1") + _chunk(2, b"Pod"))
    for body in (noise, protobuf.MAGIC + noise, protobuf.MAGIC + envelope + b"\x12" + struct.pack("B", 100) + noise):
        with contextlib.suppress(ApiError):  # a refusal; anything else fails the test
            assert protobuf.decode(body)["apiVersion"] is not None


@pytest.mark.parametrize("text", ["a b", "a in", "a in (b", "=b", "a=b=c", "a=b,,c", "!!a"])
def test_a_malformed_label_selector_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        selectors.parse_labels(text)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("text", "value"),
    [("100m", Fraction(1, 10)), ("1Gi", 1 << 30), ("1.5k", 1500), ("2e3", 2000), ("0", 0), ("-1", -1)],
)
def test_quantities_are_exact(text: str, value: Fraction | int) -> None:
    assert quantity.parse(text) == value


@pytest.mark.parametrize("text", ["", "1 Gi", "1KI", "abc", "1e", "--1", "1e99"])
def test_what_is_no_quantity_is_none(text: str) -> None:
    assert quantity.parse(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (3600, "60m"), (10_800, "3h"), (90_000, "25h")],
)
def test_ages_read_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert tables.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}}, "Guaranteed"),
    ],
)
def test_the_quality_of_service_follows_from_the_resources(resources: dict[str, Any], expected: str) -> None:
    assert qos_class({"containers": [{"resources": resources}]}) == expected


def test_an_event_keeps_everything_between_its_two_forms() -> None:
    core = {
        "metadata": {},
        "involvedObject": {"name": "web"},
        "message": "m",
        "source": {"component": "c"},
        "count": 3,
        "reportingComponent": "r",
    }
    assert event_to_core(event_from_core(core)) == core
