"""A request as the API machinery sees it: verb, resource and options from path and query, and the decoded body."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml
from aiohttp import web

from daas.devstack.apiserver import protobuf
from daas.devstack.apiserver.access import Attributes, User
from daas.devstack.apiserver.errors import ApiError, bad_request, path_not_found, unsupported_media_type
from daas.devstack.apiserver.resources import Object, Resource, find
from daas.devstack.apiserver.schema import Message, TypeMismatch, prune

BODY_BYTES_MAX = 3 << 20  # kube-apiserver's limit for request bodies
JSON, YAML = "application/json", "application/yaml"
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path under /api or /apis points at."""

    resource: Resource
    namespace: str | None
    name: str
    subresource: str


def parse_target(path: str) -> Target:
    """The target of a resource path. Raises ApiError 404."""
    parts = [part for part in path.split("/") if part]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise path_not_found()
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = find(group, version, rest[0])
    if resource is None or len(rest) > 3 or (namespace is not None and not resource.namespaced):
        raise path_not_found()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if subresource and resource.subresource(subresource) is None:
        raise path_not_found()
    if name and resource.namespaced and namespace is None:
        raise path_not_found()
    return Target(resource, namespace, name, subresource)


def verb_of(method: str, target: Target, query: Mapping[str, str]) -> str:
    """The API verb of an HTTP method. Raises ApiError 405."""
    if method == "GET":
        if target.name:
            return "get"
        return "watch" if query.get("watch") in ("1", "true") else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    if method not in _VERBS:
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})
    return _VERBS[method]


@dataclass(slots=True)
class Trail:
    """What a request leaves for the audit log."""

    annotations: dict[str, str] = field(default_factory=dict)
    request_object: Object | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One authorized request on a resource."""

    http: web.BaseRequest
    user: User
    verb: str
    target: Target
    warnings: list[str]
    trail: Trail = field(default_factory=Trail)

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters."""
        return self.http.query

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be stored. Raises ApiError 400 for anything but `All`."""
        value = self.http.query.get("dryRun", "")
        if value not in ("", "All"):
            raise bad_request(f'invalid dryRun value "{value}": supported values: "All"')
        return value == "All"

    @property
    def field_manager(self) -> str:
        """Who owns what this request changes."""
        given = self.http.query.get("fieldManager")
        return given or self.http.headers.get("User-Agent", "unknown").partition("/")[0]

    @property
    def field_validation(self) -> str:
        """Strict, Warn or Ignore."""
        return self.http.query.get("fieldValidation") or "Warn"

    def attributes(self) -> Attributes:
        """For the authorizer."""
        resource = self.target.resource
        return Attributes(
            verb=self.verb,
            group=resource.group,
            version=resource.version,
            resource=resource.plural,
            subresource=self.target.subresource,
            namespace=self.target.namespace or "",
            name=self.target.name,
        )


def _yaml(text: bytes) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as wrong:
        raise bad_request(f"error decoding YAML: {wrong}") from wrong


def decode_body(content_type: str, body: bytes) -> Any:
    """A body as JSON data. Raises ApiError 400 or 415."""
    media = content_type.partition(";")[0].strip()
    if media == protobuf.MEDIA_TYPE:
        return protobuf.decode(body)
    if media in ("application/yaml", "application/apply-patch+yaml"):
        return _yaml(body)
    if media and not media.endswith("json"):
        raise unsupported_media_type(media, (JSON, YAML, protobuf.MEDIA_TYPE))
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as wrong:
        raise bad_request(f"the body is not valid JSON: {wrong}") from wrong


def typed(
    value: Any, kind: str, group_version: str, schema: Message, *, validation: str, warnings: list[str]
) -> Object:
    """`value` as an object of that type: unknown fields refused, warned about or dropped, as `validation` says.

    Raises ApiError 400.
    """
    if not isinstance(value, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): it is not an object")
    got, version = value.get("kind") or kind, value.get("apiVersion") or group_version
    if (got, version) != (kind, group_version):
        text = f'{got} in version "{version}" cannot be handled as a {kind}: no kind "{got}" is registered here'
        raise bad_request(text)
    unknown: list[str] = []
    try:
        out = prune(schema, value, "", unknown)
    except TypeMismatch as wrong:
        version = group_version.rpartition("/")[2]
        raise bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {wrong}') from wrong
    if unknown:
        listed = [f'unknown field "{field}"' for field in unknown]
        if validation == "Strict":
            version = group_version.rpartition("/")[2]
            text = f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: '
            raise bad_request(text + ", ".join(listed))
        if validation == "Warn":
            warnings += listed
    out.pop("kind", None)
    out.pop("apiVersion", None)
    return out
