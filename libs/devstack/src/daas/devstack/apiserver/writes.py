"""create, update, patch and apply: defaulting, admission, validation, ownership of fields, storage."""

import copy
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

import orjson

from daas.devstack.apiserver import errors, managed, patch
from daas.devstack.apiserver.admission import Chain, Operation
from daas.devstack.apiserver.defaults import apply_defaults, prepare_for_create
from daas.devstack.apiserver.request import Call, typed
from daas.devstack.apiserver.resources import BY_KEY, Object, Resource
from daas.devstack.apiserver.responses import view
from daas.devstack.apiserver.services import allocate_cluster_ip
from daas.devstack.apiserver.storage import Record, Storage
from daas.devstack.apiserver.validation import validate_create, validate_update

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # apimachinery's alphabet for generated names: no vowels, no words
_STATUS_IS_SEPARATE = frozenset(
    {
        *("pods", "nodes", "namespaces", "services", "deployments.apps", "replicasets.apps", "jobs.batch"),
        *("persistentvolumeclaims", "persistentvolumes", "poddisruptionbudgets.policy"),
        *("podgroups.scheduling.k8s.io", "podgroups.scheduling.x-k8s.io"),
    }
)
_SET_BY_SERVER = (
    *("uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "resourceVersion"),
)
_PATCH_ATTEMPTS = 5  # as the real server's patch handler


def now() -> str:
    """The time as metav1.Time: RFC 3339, whole seconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _generate(prefix: str) -> str:
    return prefix[:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5))


def current(storage: Storage, call: Call) -> Record:
    """The object a request names. Raises ApiError 404."""
    target = call.target
    record = storage.get(target.resource, target.namespace or "", target.name)
    if record is None:
        raise errors.not_found(target.resource.plural, target.resource.group, target.name)
    return record


def operation_of(
    call: Call,
    verb: str,
    name: str,
    old: Object | None = None,
    options: Object | None = None,
    *,
    resource: Resource | None = None,
    subresource: str | None = None,
) -> Operation:
    """What admission is asked about."""
    target = call.target
    if options is None:
        kind = "CreateOptions" if verb == "CREATE" else "UpdateOptions"
        options = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
        options |= {key: call.query[key] for key in ("fieldManager", "fieldValidation") if call.query.get(key)}
        if call.dry_run:
            options["dryRun"] = ["All"]
    return Operation(
        verb,
        resource or BY_KEY.get(target.resource.key, target.resource),
        target.subresource if subresource is None else subresource,
        target.namespace or (name if target.resource.key == "namespaces" else ""),
        name,
        call.user,
        call.dry_run,
        old,
        options,
        call.warnings,
        call.trail.annotations,
    )


class Writer:
    """The write path of ordinary objects."""

    def __init__(self, storage: Storage, admission: Chain) -> None:
        self._storage = storage
        self._admission = admission

    def _entry(self, call: Call, resource: Resource, operation: str) -> managed.Entry:
        sub = call.target.subresource
        return managed.Entry(call.field_manager, operation, resource.group_version, sub, now(), frozenset())

    async def create(self, call: Call, body: Any, *, entries: list[Object] | None = None) -> Record | Object:
        """Store a new object; its record, or the object itself on a dry run. `entries`: ownership already known.

        Raises ApiError 400, 403, 404, 409 and 422.
        """
        resource, namespace = call.target.resource, call.target.namespace
        obj = typed(
            body,
            resource.kind,
            resource.group_version,
            resource.schema,
            validation=call.field_validation,
            warnings=call.warnings,
        )
        if resource.to_storage is not None:
            obj = resource.to_storage(obj)
        meta = obj["metadata"] = dict(obj.get("metadata") or {})
        self._check_scope(resource, namespace, meta)
        if meta.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        for name in (
            "uid",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "managedFields",
            "resourceVersion",
        ):
            meta.pop(name, None)
        meta["creationTimestamp"] = None
        obj = {"metadata": meta, **{name: value for name, value in obj.items() if name != "metadata"}}
        apply_defaults(resource, obj)
        obj = await self._mutate(call, resource, operation_of(call, "CREATE", meta.get("name", "")), obj)
        meta = obj["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = _generate(meta["generateName"])
        meta["uid"], meta["creationTimestamp"] = str(uuid.uuid4()), now()
        if resource.generation:
            meta["generation"] = 1
        prepare_for_create(resource, obj)
        if causes := validate_create(resource, obj):
            raise errors.invalid(resource.kind, resource.group, meta.get("name", ""), causes)
        if resource.key == "services":
            allocate_cluster_ip(self._storage, obj)
        if self._storage.get(resource, meta.get("namespace", ""), meta["name"]) is not None:
            raise errors.already_exists(resource.plural, resource.group, meta["name"])
        if entries is None:
            schema = BY_KEY[resource.key].schema
            managed.track_update(schema, None, obj, self._entry(call, resource, "Update"))
        else:
            meta["managedFields"] = entries
        await self._admission.validate(operation_of(call, "CREATE", meta["name"]), obj)
        # Validating webhooks take their time: the name may have been taken meanwhile.
        if self._storage.get(resource, meta.get("namespace", ""), meta["name"]) is not None:
            raise errors.already_exists(resource.plural, resource.group, meta["name"])
        if call.dry_run:
            return obj
        return self._storage.create(resource, obj)

    async def _mutate(self, call: Call, resource: Resource, operation: Operation, obj: Object) -> Object:
        """The mutating phase; what webhooks see carries managedFields, as on a real server."""
        call.trail.request_object = {**obj, "metadata": {**obj["metadata"]}}
        obj = {**obj, "metadata": {**obj["metadata"]}}
        if self._admission.asks_webhooks(operation, obj):
            managed.track_update(BY_KEY[resource.key].schema, operation.old, obj, self._entry(call, resource, "Update"))
        changed = await self._admission.mutate(operation, obj)
        changed["metadata"].pop("managedFields", None)
        apply_defaults(resource, changed)
        return changed

    @staticmethod
    def _check_scope(resource: Resource, namespace: str | None, meta: Object) -> None:
        given = meta.get("namespace", "")
        if not resource.namespaced:
            meta.pop("namespace", None)
            return
        if given and given != namespace:
            text = "the namespace of the provided object does not match the namespace sent on the request"
            raise errors.bad_request(text)
        meta["namespace"] = namespace

    async def update(self, call: Call, body: Any) -> tuple[Record | Object, bool]:
        """PUT: replace an object; the new record (or the object on a dry run) and whether it was created.

        Raises ApiError 400, 404, 409 and 422.
        """
        resource = call.target.resource
        new = typed(
            body,
            resource.kind,
            resource.group_version,
            resource.schema,
            validation=call.field_validation,
            warnings=call.warnings,
        )
        name = (new.get("metadata") or {}).get("name", "")
        if name != call.target.name:
            text = f"the name of the object ({name}) does not match the name on the URL ({call.target.name})"
            raise errors.bad_request(text)
        if resource.namespaced:
            self._check_scope(resource, call.target.namespace, new["metadata"])
        if resource.to_storage is not None:
            new = resource.to_storage(new)
        record = current(self._storage, call)
        return await self.replace(call, record, new), False

    async def replace(
        self,
        call: Call,
        record: Record,
        new: Object,
        *,
        applied: bool = False,
    ) -> Record | Object:
        """Bring `new` (stored form, typed) into the place of `record`; `applied`: its managedFields are right."""
        resource, subresource = BY_KEY[call.target.resource.key], call.target.subresource
        old = record.object()
        new = copy.copy(new)
        meta = new["metadata"] = dict(new.get("metadata") or {})
        self._check_versions(resource, record, old, meta)
        entries = meta.get("managedFields")
        for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            meta.pop(name, None)
            if name in old["metadata"]:
                meta[name] = old["metadata"][name]
        meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        new = self._by_subresource(resource, subresource, new, old)
        apply_defaults(resource, new)
        operation = operation_of(call, "UPDATE", record.name, old)
        new = await self._mutate(call, resource, operation, new)
        meta = new["metadata"]
        if causes := validate_update(resource, new, old, subresource):
            raise errors.invalid(resource.kind, resource.group, record.name, causes)
        if resource.generation and new.get("spec") != old.get("spec"):
            meta["generation"] = old["metadata"].get("generation", 0) + 1
        if not applied:
            managed.track_update(resource.schema, old, new, self._entry(call, call.target.resource, "Update"))
        elif entries is not None:
            meta["managedFields"] = entries
        await self._admission.validate(operation, new)
        if self._unchanged(new, old) and not self._storage.is_stale(resource, record):
            return record
        if self._storage.get(resource, record.namespace, record.name) is not record:
            raise errors.modified(resource.plural, resource.group, record.name)
        if call.dry_run:
            return new
        if self._finished(resource, new):
            return self._storage.delete(resource, new)
        return self._storage.update(resource, new)

    @staticmethod
    def _check_versions(resource: Resource, record: Record, old: Object, meta: Object) -> None:
        version, uid = meta.get("resourceVersion", ""), meta.get("uid", "")
        if uid and uid != old["metadata"]["uid"]:
            failed = f"UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
            raise errors.precondition(resource.plural, resource.group, record.namespace, record.name, failed)
        if version and version != str(record.version):
            raise errors.modified(resource.plural, resource.group, record.name)
        if not version and resource.key == "leases.coordination.k8s.io":
            cause = errors.Cause(
                "FieldValueInvalid", "Invalid value: 0x0: must be specified for an update", "metadata.resourceVersion"
            )
            raise errors.invalid(resource.kind, resource.group, record.name, [cause])

    @staticmethod
    def _by_subresource(resource: Resource, subresource: str, new: Object, old: Object) -> Object:
        """What this endpoint may change, over what it may not."""
        if subresource == "status":
            out = {**old, "metadata": new["metadata"]}
            out.pop("status", None)
            if "status" in new:
                out["status"] = new["status"]
            return out
        if subresource == "finalize":
            return {**old, "spec": new.get("spec") or {}}
        if resource.key == "namespaces":
            new = {**new, "spec": old.get("spec", {})}
        if resource.key in _STATUS_IS_SEPARATE:
            new = {name: value for name, value in new.items() if name != "status"}
            if "status" in old:
                new["status"] = old["status"]
        if resource.key == "services":
            spec = new["spec"] = dict(new.get("spec") or {})
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if not spec.get(name) and name in old["spec"]:
                    spec[name] = old["spec"][name]
        return new

    @staticmethod
    def _unchanged(new: Object, old: Object) -> bool:
        def bare(obj: Object) -> Object:
            meta = obj["metadata"]
            kept = {k: v for k, v in meta.items() if v not in ({}, []) and k != "managedFields"}
            return {**obj, "metadata": kept}

        def owners(obj: Object) -> list[Object]:
            listed = obj["metadata"].get("managedFields") or []
            return [{k: v for k, v in one.items() if k != "time"} for one in listed]

        return bare(new) == bare(old) and owners(new) == owners(old)

    @staticmethod
    def _finished(resource: Resource, obj: Object) -> bool:
        """Whether nothing holds a deleted object any longer."""
        meta = obj["metadata"]
        if not meta.get("deletionTimestamp") or meta.get("finalizers"):
            return False
        if resource.key == "namespaces":
            return not (obj.get("spec") or {}).get("finalizers")
        return not meta.get("deletionGracePeriodSeconds")

    async def patch(self, call: Call, content_type: str, body: Any, raw: bytes) -> tuple[Record | Object, bool]:
        """PATCH of every kind; the new record (or the object on a dry run) and whether it was created."""
        media = content_type.partition(";")[0].strip()
        if media == patch.APPLY_PATCH:
            return await self._apply(call, body)
        for attempt in range(_PATCH_ATTEMPTS):
            record = current(self._storage, call)
            try:
                return await self._patch_once(call, record, media, body, raw), False
            except errors.ApiError as refused:
                moved = self._storage.get(call.target.resource, record.namespace, record.name) is not record
                if refused.reason != "Conflict" or not moved or attempt == _PATCH_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _patch_once(self, call: Call, record: Record, media: str, body: Any, raw: bytes) -> Record | Object:
        resource = call.target.resource
        shown = {"kind": resource.kind, "apiVersion": resource.group_version, **view(resource, record.object())}
        if media == patch.JSON_PATCH:
            patched = patch.json_patch(shown, body)
        elif not isinstance(body, dict):
            raise errors.bad_request("error decoding patch: it is not a JSON object")
        elif media == patch.MERGE_PATCH:
            patched = patch.merge_patch(shown, body)
        elif media == patch.STRATEGIC_PATCH:
            patched = patch.strategic_patch(resource.schema, shown, body)
        else:
            kinds = (patch.JSON_PATCH, patch.MERGE_PATCH, patch.STRATEGIC_PATCH, patch.APPLY_PATCH)
            raise errors.unsupported_media_type(media, kinds)
        warnings: list[str] = []
        new = typed(
            patched, resource.kind, resource.group_version, resource.schema, validation="Warn", warnings=warnings
        )
        if warnings and call.field_validation == "Strict":
            text = f"strict decoding error: {', '.join(warnings)}"
            raise errors.invalid("", "", "", [errors.invalid_value("patch", raw.decode("utf-8", "replace"), text)])
        if call.field_validation == "Warn":
            call.warnings.extend(warnings)
        if resource.to_storage is not None:
            new = resource.to_storage(new)
        return await self.replace(call, record, new)

    async def _apply(self, call: Call, body: Any) -> tuple[Record | Object, bool]:
        resource, target = call.target.resource, call.target
        if not call.query.get("fieldManager"):
            cause = errors.required("fieldManager", "is required for apply patch")
            raise errors.invalid("PatchOptions", "meta.k8s.io", "", [cause])
        config = self._apply_config(call, body)
        record = self._storage.get(resource, target.namespace or "", target.name)
        entry = self._entry(call, resource, "Apply")
        force = call.query.get("force") in ("1", "true")
        schema = BY_KEY[resource.key].schema
        if record is None:
            if target.subresource:
                raise errors.not_found(resource.plural, resource.group, target.name)
            made = managed.apply(schema, {"metadata": {}}, config, entry, force=force)
            shown = {"kind": resource.kind, "apiVersion": resource.group_version, **view(resource, made)}
            entries = shown["metadata"].pop("managedFields", [])
            return await self.create(call, shown, entries=entries), True
        merged = managed.apply(schema, record.object(), config, entry, force=force)
        annotations = merged["metadata"].get("annotations") or {}
        if entry.manager == managed.KUBECTL and managed.LAST_APPLIED in annotations:
            # So that going back to client-side apply finds what was applied last.
            last = {"kind": resource.kind, "apiVersion": resource.group_version, **view(resource, config)}
            merged["metadata"]["annotations"] = annotations | {managed.LAST_APPLIED: orjson.dumps(last).decode() + "\n"}
        uid = config["metadata"].get("uid")
        merged["metadata"]["uid"] = uid or merged["metadata"]["uid"]
        merged["metadata"]["resourceVersion"] = config["metadata"].get("resourceVersion") or str(record.version)
        return await self.replace(call, record, merged, applied=True), False

    @staticmethod
    def _apply_config(call: Call, body: Any) -> Object:
        resource, target = call.target.resource, call.target
        warnings: list[str] = []
        config = typed(
            body, resource.kind, resource.group_version, resource.schema, validation="Warn", warnings=warnings
        )
        if warnings:
            field = warnings[0].split('"')[1]
            where = f"{target.namespace or ''}/{target.name}; {resource.group_version}, Kind={resource.kind}"
            text = f"failed to create typed patch object ({where}): .{field}: field not declared in schema"
            raise errors.ApiError(500, "", text)
        if resource.to_storage is not None:
            config = resource.to_storage(config)
        meta = config["metadata"] = dict(config.get("metadata") or {})
        if meta.get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        given = meta.setdefault("name", target.name)
        if given != target.name:
            text = f"the name of the object ({given}) does not match the name on the URL ({target.name})"
            raise errors.bad_request(text)
        if target.namespace and meta.get("namespace", target.namespace) != target.namespace:
            text = "the namespace of the provided object does not match the namespace sent on the request"
            raise errors.bad_request(text)
        return config
