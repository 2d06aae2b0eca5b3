"""Public objects to etcd: each only forwards, whatever order or number of facts; never what is not for the public."""

from typing import Final

import msgspec

from daas.common.errors import Refused
from daas.common.messages import ChainPolicyChanged, MetadataChanged, decode
from daas.common.secretscan import Finding, SecretFound, scan
from daas.etcd import EtcdClient
from daas.evidence import Keys
from daas.evidence.metadata import PUBLIC_KINDS, MetadataRecord, decode_record, public_objects
from daas.evidence.writer import EtcdWriter

SENSITIVE_LABEL: Final = "k3s-daas.io/sensitive"
#: Above the age at which the stream drops facts (two days): no older fact can come once a record of an end is gone.
TOMBSTONE_S: Final = 7 * 86_400


class MetadataStore:
    """Keeps what the gateway tells of public objects.

    Args:
        etcd: the connection.
        writer: of the same.
        keys: of the cluster.
    """

    def __init__(self, etcd: EtcdClient, writer: EtcdWriter, keys: Keys) -> None:
        self._etcd = etcd
        self._writer = writer
        self._keys = keys

    async def changed(self, fact: MetadataChanged) -> str:
        """Keeps a fact; returns `stored`, `withheld`, `gone`, `listed` or `stale`.

        Raises:
            Refused: `not-public-kind`; or `secret-...`, redacted: what looks like a key is in it.
            Unavailable: etcd is away.
        """
        require_public_fact(fact)
        if fact.listed is not None:
            await self._listed(fact, frozenset(fact.listed))
            return "listed"
        record = MetadataRecord(
            kind=fact.kind,
            namespace=fact.namespace,
            name=fact.name,
            uid=fact.uid,
            resource_version=fact.resource_version,
            deleted=fact.deleted,
            object=fact.object,
            withheld=fact.withheld,
            withheld_at=fact.withheld_at,
        )
        if not await self._keep(record):
            return "stale"
        return "gone" if fact.deleted else "withheld" if fact.withheld else "stored"

    async def _keep(self, record: MetadataRecord) -> bool:
        def newer(there: bytes) -> bool:
            known = decode_record(there)
            # A deletion seen in a list may carry the version of the object itself.
            return (known.resource_version, known.deleted) < (record.resource_version, record.deleted)

        async def lease() -> int:
            return await self._etcd.grant(TOMBSTONE_S)

        key = self._keys.metadata(record.kind, record.namespace, record.name)
        return await self._writer.replace(
            key, msgspec.json.encode(record), newer, lease=lease if record.deleted else None
        )

    async def _listed(self, fact: MetadataChanged, names: frozenset[str]) -> None:
        """What a full list did not name, and was known before it, is gone."""
        missing = [
            record
            async for record in public_objects(self._etcd, self._keys, fact.kind)
            if record.resource_version < fact.resource_version and f"{record.namespace}/{record.name}" not in names
        ]
        for record in missing:
            await self._keep(
                MetadataRecord(
                    kind=record.kind,
                    namespace=record.namespace,
                    name=record.name,
                    uid=record.uid,
                    resource_version=fact.resource_version,
                    deleted=True,
                )
            )

    async def policy_changed(self, fact: ChainPolicyChanged, raw: bytes) -> bool:
        """Keeps the newest change of a policy, in the order of the ledger."""

        def newer(there: bytes) -> bool:
            known = decode(there, ChainPolicyChanged)
            return (known.checkpoint, known.event_index) < (fact.checkpoint, fact.event_index)

        return await self._writer.replace(self._keys.policy(fact.policy), raw, newer)


def require_public_fact(fact: MetadataChanged) -> None:
    """The second look, behind the gateway's own: on what is about to be kept for everybody.

    Raises:
        Refused: `not-public-kind` or `secret-...`; redacted.
    """
    where = f"{fact.kind}/{fact.namespace}/{fact.name}"
    if fact.kind not in PUBLIC_KINDS:
        raise _NotPublic(f"{where}: a {fact.kind} is not public", reason="not-public-kind", field="kind")
    if fact.object is None:
        return
    labels = fact.object.get("metadata", {}).get("labels") if isinstance(fact.object, dict) else None
    if isinstance(labels, dict) and SENSITIVE_LABEL in labels:
        raise SecretFound(Finding("sensitive-label", f"{where}.metadata.labels"))
    finding = scan(fact.object, where)
    if finding is not None:
        raise SecretFound(finding)


class _NotPublic(Refused):
    """A kind that may not be kept: its bytes are not kept in the refusal either."""

    redacted = True
