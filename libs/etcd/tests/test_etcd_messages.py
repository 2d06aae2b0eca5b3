"""The committed messages are those of the proto file, and their bytes are those of etcd's own definitions."""

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from daas.common.errors import Conflict, DaasError, InvalidInput, NotFound, Refused, Unavailable
from daas.etcd import Compacted, Compare, Relation, Target
from daas.etcd import rpc_pb2 as rpc
from daas.etcd.errors import from_status
from daas.etcd.model import compare_to_wire, prefix_end

REPOSITORY = Path(__file__).parents[3]


def test_regenerating_the_messages_gives_the_committed_files(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", "-Idaas/etcd=."),
            *(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", "daas/etcd/rpc.proto"),
        ],
        cwd=REPOSITORY / "infra" / "proto" / "etcd",
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    for name in ("rpc_pb2.py", "rpc_pb2.pyi"):
        committed = REPOSITORY / "libs" / "etcd" / "src" / "daas" / "etcd" / name
        assert (tmp_path / "daas" / "etcd" / name).read_text() == committed.read_text()


def test_field_numbers_are_etcds() -> None:
    wire = rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=b"k", create_revision=3)
    assert wire.SerializeToString() == b"\x10\x01\x1a\x01k\x28\x03"
    event = rpc.Event(type=rpc.Event.DELETE, kv=rpc.KeyValue(key=b"k", mod_revision=9))
    assert rpc.WatchResponse(events=[event]).SerializeToString() == b"\x5a\x09\x08\x01\x12\x05\x0a\x01k\x18\x09"


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Unavailable),
        (grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Compacted),
        (grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", InvalidInput),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large", InvalidInput),
        (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found", NotFound),
        (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", Refused),
        (grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: lease already exists", Conflict),
    ],
)
def test_a_status_says_who_can_do_what(code: grpc.StatusCode, details: str, expected: type[DaasError]) -> None:
    assert type(from_status(code, details, "Range")) is expected


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a/", b"a0"), (b"a\xff", b"b"), (b"\xff\xff", b"\x00"), (b"a\xfe", b"a\xff")]
)
def test_a_prefix_ends_before_the_next_one(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


@pytest.mark.parametrize(
    "compare", [Compare("k", Target.VALUE, 1), Compare("k", Target.VERSION, b"1", Relation.GREATER)]
)
def test_a_comparison_with_an_operand_of_the_wrong_kind_is_refused(compare: Compare) -> None:
    with pytest.raises(InvalidInput, match="etcd-compare-operand"):
        compare_to_wire(compare)
