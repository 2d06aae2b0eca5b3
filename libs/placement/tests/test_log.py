"""Entries are read from nothing but their bytes; what is wrong is refused and the rest goes on."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_world import World, make_node, make_pod, placed

from daas.common import merkle
from daas.placement import Scheduler
from daas.placement.errors import LogSequenceError
from daas.placement.log import MAX_ENTRY_BYTES, LogEntry, NodeUpserted, PodUpserted, encode_entry

GOOD_POD = json.loads(msgspec.json.encode(PodUpserted(pod=make_pod("p"))))
GOOD_NODE = json.loads(msgspec.json.encode(NodeUpserted(node=make_node("n0"))))
NEWER = {**GOOD_NODE["node"], "metadata": {**GOOD_NODE["node"]["metadata"], "resourceVersion": "2"}}


def entry(*events: object, **fields: object) -> bytes:
    return json.dumps({"schema": 1, "timestamp_ms": 5, "source": "t", "events": list(events), **fields}).encode()


def changed(event: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(event))
    *parents, last = path.split(".")
    at: Any = copy
    for parent in parents:
        at = at[int(parent)] if parent.isdigit() else at.setdefault(parent, {})
    at[last] = value
    return copy


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (None, "malformed-event"),
        (7, "malformed-event"),
        ({}, "malformed-event"),
        ({"type": "pod_exploded"}, "malformed-event"),
        ({"type": "pod_upserted"}, "malformed-event"),
        ({"type": "pod_deleted", "uid": "", "namespace": "d", "name": "n"}, "malformed-event"),
        ({"type": "bind_failed", "uid": "u", "sequence": -1, "node": "n", "reason": ""}, "malformed-event"),
        ({"type": "bind_failed", "uid": "u", "sequence": 2**64, "node": "n", "reason": ""}, "malformed-event"),
        (changed(GOOD_POD, "pod.metadata.resourceVersion", "abc"), "malformed-version"),
        (changed(GOOD_POD, "pod.metadata.resourceVersion", "007"), "malformed-version"),
        (changed(GOOD_POD, "pod.metadata.resourceVersion", str(2**63)), "malformed-version"),
        (changed(GOOD_POD, "pod.metadata.resourceVersion", "-1"), "malformed-version"),
        (changed(GOOD_POD, "pod.metadata.namespace", ""), "missing-namespace"),
        (changed(GOOD_POD, "pod.metadata.uid", "x" * 300), "malformed-event"),
        (changed(GOOD_POD, "pod.spec.priority", 2**40), "malformed-event"),
        (changed(GOOD_POD, "pod.spec.containers.0.resources.requests.cpu", "1.5.5"), "malformed-quantity"),
        (changed(GOOD_POD, "pod.spec.overhead.cpu", "-1"), "negative-quantity"),
        (changed(GOOD_POD, "pod.spec.nodeSelector", {f"k{i}": "v" * 4000 for i in range(80)}), "object-too-large"),
        (changed({**GOOD_NODE, "node": NEWER}, "node.status.allocatable.cpu", "lots"), "malformed-quantity"),
        (
            changed(GOOD_NODE, "node.status.allocatable", {f"x.io/{i}": "1" for i in range(200)}),
            "malformed-event",
        ),
        ({"type": "resync_finished", "id": "never-started"}, "resync-unknown"),
    ],
)
def test_a_bad_event_is_refused_with_its_reason_and_its_neighbours_are_folded(event: object, reason: str) -> None:
    world = World()
    later = changed(changed(GOOD_POD, "pod.metadata.uid", "uid-z"), "pod.metadata.name", "z")
    applied = world.raw(entry(GOOD_NODE, event, later))
    assert [(refused.index, refused.reason) for refused in applied.refused] == [(1, reason)]
    assert placed(applied) == {"z": "n0"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed-entry"),
        (b"\xff\xfe", "malformed-entry"),
        (b"[]", "malformed-entry"),
        (b'{"schema":1}', "malformed-entry"),
        (entry(schema=2), "unknown-schema"),
        (entry(timestamp_ms=-1), "malformed-entry"),
        (entry(timestamp_ms=2**60), "malformed-entry"),
        (entry(timestamp_ms=1.5), "malformed-entry"),
        (entry(*[GOOD_NODE] * 513), "malformed-entry"),
        (b"[" * 100_000, "entry-too-deep"),
        (entry(deep=json.loads("[" * 70 + "]" * 70)), "entry-too-deep"),
        (b" " * (MAX_ENTRY_BYTES + 1), "entry-too-large"),
        (entry(GOOD_NODE)[:-1], "entry-too-deep"),
    ],
)
def test_an_entry_that_cannot_be_read_changes_the_log_root_and_nothing_else(data: bytes, reason: str) -> None:
    world = World()
    world.nodes(make_node("n0"))
    before = world.scheduler.head
    applied = world.raw(data)
    assert applied.decision is None
    assert [(refused.index, refused.reason) for refused in applied.refused] == [(-1, reason)]
    after = world.scheduler.head
    assert after.state_root == before.state_root
    assert (after.sequence, after.digest, after.log_sequence) == (before.sequence, before.digest, 2)
    assert after.log_root == merkle.digest(before.log_root + data)


def test_brackets_inside_strings_do_not_count_as_nesting() -> None:
    world = World()
    event = {"type": "bind_failed", "uid": "u", "sequence": 1, "node": "n", "reason": '{["' * 200}
    assert world.raw(entry(event, GOOD_NODE)).refused == ()
    assert world.scheduler.nodes == 1


def test_text_that_has_no_utf8_form_is_refused() -> None:
    world = World()
    applied = world.raw(
        b'{"schema":1,"timestamp_ms":5,"source":"t","events":[{"type":"pod_deleted",'
        b'"uid":"\\ud800","namespace":"d","name":"n"}]}'
    )
    assert len(applied.refused) == 1


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_fold(data: bytes) -> None:
    World().raw(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
paths = st.sampled_from(
    [
        "pod",
        "pod.metadata",
        "pod.metadata.uid",
        "pod.spec",
        "pod.spec.affinity",
        "pod.spec.containers",
        "pod.spec.containers.0.resources.requests",
        "pod.spec.nodeSelector",
        "pod.spec.tolerations",
        "pod.status",
    ]
)


@given(paths, json_values)
def test_no_value_in_a_pod_crashes_the_fold(path: str, value: object) -> None:
    world = World()
    applied = world.raw(entry(changed(GOOD_POD, path, value), GOOD_NODE))
    assert all(refused.index == 0 for refused in applied.refused)
    assert world.scheduler.nodes == 1
    Scheduler.restore(world.genesis, world.scheduler.snapshot())


def test_entries_must_follow_each_other() -> None:
    scheduler = World().scheduler
    with pytest.raises(LogSequenceError, match="log-gap"):
        scheduler.apply(2, entry())
    scheduler.apply(1, entry())
    with pytest.raises(LogSequenceError, match="log-repeated"):
        scheduler.apply(1, entry())
    assert scheduler.head.log_sequence == 1


def test_an_entry_survives_encoding_with_only_the_fields_that_are_read() -> None:
    full = {
        "metadata": {
            "name": "p",
            "namespace": "d",
            "uid": "u",
            "resourceVersion": "3",
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "env": [{"name": "SECRET"}]}]},
    }
    trimmed = encode_entry(
        LogEntry(
            timestamp_ms=1, source="t", events=(msgspec.convert({"pod": full, "type": "pod_upserted"}, PodUpserted),)
        )
    )
    assert b"SECRET" not in trimmed
    assert b"managedFields" not in trimmed
    assert json.loads(trimmed)["events"][0]["pod"]["metadata"]["resourceVersion"] == "3"
