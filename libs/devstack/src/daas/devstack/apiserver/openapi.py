"""OpenAPI v3 documents: the operations and types that kubectl reads for validation, apply and explain."""

from functools import cache
from typing import Any

from daas.devstack.apiserver.resources import GROUP_VERSIONS, RESOURCES, Resource
from daas.devstack.apiserver.schema import MESSAGES, SCALARS, Field, message

Object = dict[str, Any]

_SCALAR_SCHEMAS: dict[str, Object] = {
    "str": {"type": "string"},
    "int": {"type": "integer", "format": "int64"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "time": {"type": "string", "format": "date-time"},
    "mtime": {"type": "string", "format": "date-time"},
    "qty": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "ios": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
    "any": {"type": "object"},
}
_META = frozenset({"ObjectMeta", "OwnerReference", "ManagedFieldsEntry", "LabelSelector", "LabelSelectorRequirement"})


def _reference(name: str) -> str:
    family = "io.k8s.apimachinery.pkg.apis.meta.v1" if name in _META else "io.k8s.api.core.v1"
    return f"{family}.{name}"


def _value(kind: str) -> Object:
    if kind in SCALARS:
        return dict(_SCALAR_SCHEMAS[kind])
    return {"allOf": [{"$ref": f"#/components/schemas/{_reference(kind)}"}], "default": {}}


def _field(spec: Field) -> Object:
    if spec.shape == "one":
        return _value(spec.type)
    if spec.shape == "map":
        out: Object = {"type": "object", "additionalProperties": _value(spec.type)}
        return out | {"x-kubernetes-map-type": "atomic"} if spec.atomic else out
    out = {"type": "array", "items": _value(spec.type)}
    if spec.keys is None:
        return out | {"x-kubernetes-list-type": "atomic"}
    if not spec.keys:
        return out | {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}
    return out | {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(spec.keys),
        "x-kubernetes-patch-merge-key": spec.keys[0],
        "x-kubernetes-patch-strategy": "merge",
    }


def _component(name: str) -> Object:
    kind = message(name)
    out: Object = {"type": "object", "properties": {field: _field(spec) for field, spec in kind.fields.items()}}
    if kind.atomic:
        out["x-kubernetes-map-type"] = "atomic"
    return out


def _closure(names: list[str]) -> list[str]:
    seen: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in seen or name not in MESSAGES:
            continue
        seen[name] = None
        todo += [spec.type for spec in message(name).fields.values()]
    return list(seen)


def _kind(resource: Resource) -> Object:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _parameters(*names: str) -> list[Object]:
    return [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]


def _operation(resource: Resource, verb: str) -> Object:
    write = ("dryRun", "fieldManager", "fieldValidation")
    names = {"get": (), "delete": ("dryRun", "gracePeriodSeconds", "propagationPolicy")}.get(verb, write)
    out: Object = {
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": _kind(resource),
        "parameters": _parameters(*names),
        "responses": {"200": {"description": "OK"}},
    }
    return out


def _paths(resource: Resource) -> Object:
    base = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    where = f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
    out: Object = {where: {"post": _operation(resource, "post")}}
    if "get" in resource.verbs:
        out[where]["get"] = _operation(resource, "get")
        out[where + "/{name}"] = {verb: _operation(resource, verb) for verb in ("get", "put", "patch", "delete")}
    return out


@cache
def index() -> Object:
    """The body of /openapi/v3."""
    paths = [f"apis/{group}/{version}" if group else f"api/{version}" for group, version in GROUP_VERSIONS]
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


@cache
def document(group: str, version: str) -> Object:
    """The body of /openapi/v3/api/v1 and /openapi/v3/apis/GROUP/VERSION. Raises KeyError for one not served."""
    if (group, version) not in GROUP_VERSIONS:
        raise KeyError(group, version)
    mine = [one for one in RESOURCES if (one.group, one.version) == (group, version)]
    schemas = {_reference(name): _component(name) for name in _closure([one.schema.name for one in mine])}
    for resource in mine:
        component = schemas[_reference(resource.schema.name)]
        component["properties"] = {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            **component["properties"],
        }
        component["x-kubernetes-group-version-kind"] = [_kind(resource)]
    paths: Object = {}
    for resource in mine:
        paths |= _paths(resource)
    return {
        "openapi": "3.0.0",
        "info": {"title": "K3s-DaaS development API server (simulated)", "version": "v1.32.4"},
        "paths": paths,
        "components": {"schemas": schemas},
    }
