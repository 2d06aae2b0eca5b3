"""Public objects in etcd: each as its newest version has it, or the fact that it is gone."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from daas.common.errors import DecodeError
from daas.common.messages import U64, Name, Text
from daas.etcd import EtcdClient
from daas.evidence.layout import Keys

#: Kinds that are kept; everything else is refused.
PUBLIC_KINDS = frozenset({"Namespace", "Service", "ConfigMap", "Node"})


class MetadataRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A public object.

    Attributes:
        resource_version: a record is only replaced by one with a higher number.
        deleted: it is gone; the record stays as long as an older fact may still come, and then ends with its lease.
        object: its public part.
        withheld, withheld_at: why it is not here (a machine-readable reason), and where in it the cause lies.
    """

    kind: Name
    namespace: str
    name: Name
    uid: Text
    resource_version: U64
    deleted: bool = False
    object: Any = None
    withheld: Name | None = None
    withheld_at: Text | None = None


def decode_record(data: bytes) -> MetadataRecord:
    """The record.

    Raises:
        DecodeError: `stored-malformed`.
    """
    try:
        return msgspec.json.decode(data, type=MetadataRecord)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"a public object in etcd: {error}", reason="stored-malformed") from None


async def public_objects(etcd: EtcdClient, keys: Keys, kind: str) -> AsyncIterator[MetadataRecord]:
    """All objects of a kind that exist, in the order of namespace and name."""
    async for kv in etcd.prefix(keys.metadata_of(kind)):
        record = decode_record(kv.value)
        if not record.deleted:
            yield record
