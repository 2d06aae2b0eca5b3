"""delete: preconditions, grace for pods on nodes, finalizers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from daas.devstack.apiserver import errors
from daas.devstack.apiserver.admission import Chain
from daas.devstack.apiserver.request import Call
from daas.devstack.apiserver.resources import BY_KEY, Object, Resource
from daas.devstack.apiserver.storage import Record, Storage
from daas.devstack.apiserver.writes import operation_of


class Deleter:
    """The delete path of all objects."""

    def __init__(self, storage: Storage, admission: Chain) -> None:
        self._storage = storage
        self._admission = admission

    async def delete(self, call: Call, record: Record, options: Object) -> tuple[Record, bool]:
        """Delete one object; what is left or was, and whether it is gone. Raises ApiError 403 and 409."""
        resource = BY_KEY[call.target.resource.key]
        given = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", **options}
        await self._admission.admit_delete(operation_of(call, "DELETE", record.name, record.object(), given))
        obj = record.object()
        meta = obj["metadata"]
        self._check_preconditions(resource, record, meta, options.get("preconditions") or {})
        grace_seconds = self._grace_seconds(call, resource, obj, options)
        held = bool(meta.get("finalizers")) or (
            resource.key == "namespaces" and (obj.get("spec") or {}).get("finalizers")
        )
        dry = call.dry_run or "All" in (options.get("dryRun") or ())
        if grace_seconds == 0 and not held:
            if dry:
                return record, True
            return self._storage.delete(resource, obj), True
        if meta.get("deletionTimestamp") and grace_seconds >= meta.get("deletionGracePeriodSeconds", 0):
            return record, False  # already on its way, and not to go sooner
        meta["deletionTimestamp"] = (datetime.now(UTC) + timedelta(seconds=grace_seconds)).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )
        meta["deletionGracePeriodSeconds"] = grace_seconds
        if resource.generation:
            meta["generation"] = meta.get("generation", 0) + 1
        if resource.key == "namespaces":
            del meta["deletionGracePeriodSeconds"]
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        if dry:
            return record, False
        return self._storage.update(resource, obj), False

    @staticmethod
    def _check_preconditions(resource: Resource, record: Record, meta: Object, wanted: Object) -> None:
        where = (resource.kind, resource.group, record.name)
        if (uid := wanted.get("uid")) and uid != meta["uid"]:
            failed = (
                f"the UID in the precondition ({uid}) does not match the UID in record ({meta['uid']}). "
                "The object might have been deleted and then recreated"
            )
            raise errors.precondition_of_delete(*where, failed)
        if (version := wanted.get("resourceVersion")) and version != str(record.version):
            failed = (
                f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record "
                f"({record.version}). The object might have been modified"
            )
            raise errors.precondition_of_delete(*where, failed)

    @staticmethod
    def _grace_seconds(call: Call, resource: Resource, obj: Object, options: Object) -> int:
        """Pods bound to a node get time to end; everything else goes at once."""
        if resource.key != "pods":
            return 0
        spec, phase = obj.get("spec") or {}, (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Failed", "Succeeded"):
            return 0
        asked = options.get("gracePeriodSeconds")
        if asked is None and (text := call.query.get("gracePeriodSeconds")):
            if not text.isdecimal():
                raise errors.bad_request(f'gracePeriodSeconds: Invalid value: "{text}"')
            asked = int(text)
        if asked is None:
            asked = spec.get("terminationGracePeriodSeconds", 30)
        return max(int(asked), 0)


def parse_delete_options(body: bytes, decoded: Any) -> Object:
    """DeleteOptions of a request body; none is fine. Raises ApiError 400."""
    if not body:
        return {}
    if not isinstance(decoded, dict):
        raise errors.bad_request("DeleteOptions must be an object")
    grace_seconds = decoded.get("gracePeriodSeconds")
    if grace_seconds is not None and not isinstance(grace_seconds, int):
        raise errors.bad_request(f"gracePeriodSeconds must be a number, got {orjson.dumps(grace_seconds).decode()}")
    return decoded
