"""get and list: selectors, pages, tables, and lists as of a resource version."""

import base64
from collections.abc import Iterator

import orjson
from aiohttp import web

from daas.devstack.apiserver.errors import ApiError, bad_request, not_found, too_large_version, unreadable_version
from daas.devstack.apiserver.request import Call
from daas.devstack.apiserver.resources import Object, Resource
from daas.devstack.apiserver.responses import (
    PARTIAL,
    encode,
    encode_item,
    encode_list,
    encode_partial,
    encode_table,
    json_response,
    wanted_form,
)
from daas.devstack.apiserver.selectors import Predicate, parse_fields, parse_labels
from daas.devstack.apiserver.storage import Record, Storage


class Filter:
    """The namespace, label selector and field selector of one request."""

    def __init__(self, call: Call) -> None:
        resource, query = call.target.resource, call.query
        self.namespace = call.target.namespace
        self.labels: Predicate | None = parse_labels(query.get("labelSelector", ""))
        selector = query.get("fieldSelector", "")
        self.fields: Predicate | None = None
        if selector:
            self.fields = parse_fields(selector, resource.selectable, resource.unsupported_field)
        # Storage keeps the fields under the labels of the stored form; other versions name them differently.
        self._renamed = resource.selectable if resource.storage_key else None

    @property
    def everything(self) -> bool:
        """Whether no selector narrows the namespace."""
        return self.labels is None and self.fields is None

    def matches(self, record: Record) -> bool:
        """Whether the record is what the request asks for."""
        if self.namespace is not None and record.namespace != self.namespace:
            return False
        if self.labels is not None and not self.labels(record.labels):
            return False
        if self.fields is None:
            return True
        values = record.fields
        if self._renamed is not None:
            values = {label: values.get(path, "") for label, path in self._renamed.items()}
        return self.fields(values)


def parse_version(text: str, parameter: str = "resourceVersion") -> int | None:
    """A resource version from a query, None for the empty one. Raises ApiError 500, as kube-apiserver does."""
    if not text:
        return None
    if not text.isdecimal():
        raise unreadable_version(parameter, text)
    return int(text)


def _encode_continue(version: int, record: Record) -> str:
    start = f"{record.namespace}/{record.name}\x00"
    return (
        base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start}))
        .decode()
        .rstrip("=")
    )


def _decode_continue(token: str) -> tuple[int, tuple[str, str]]:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, start = int(value["rv"]), str(value["start"])
        namespace, slash, name = start.removesuffix("\x00").partition("/")
    except (ValueError, KeyError, TypeError) as wrong:
        raise bad_request(f"continue key is not valid: {wrong}") from wrong
    if not slash or value.get("v") != "meta.k8s.io/v1":
        raise bad_request("continue key is not valid: unrecognized encoded version")
    return version, (namespace, name)


def get(storage: Storage, call: Call) -> web.Response:
    """One object. Raises ApiError 404."""
    resource, target = call.target.resource, call.target
    record = storage.get(resource, target.namespace or "", target.name)
    if record is None:
        raise not_found(resource.plural, resource.group, target.name)
    form = wanted_form(call.http.headers.get("Accept", ""))
    if form == "Table":
        meta = {"resourceVersion": str(record.version)}
        return json_response(encode_table(resource, [record], meta, call.query.get("includeObject", "Metadata")))
    if form == "PartialObjectMetadata":
        return json_response(encode_partial(record))
    return json_response(encode(resource, record))


def _limit(call: Call) -> int:
    text = call.query.get("limit", "0")
    if not text.isdecimal():
        raise bad_request(f'limit: Invalid value: "{text}": strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _snapshot(storage: Storage, call: Call) -> tuple[int, Iterator[Record]]:
    """The version of the list and its records in order, from where the page begins."""
    resource, query = call.target.resource, call.query
    namespace = call.target.namespace
    version = parse_version(query.get("resourceVersion", ""))
    match = query.get("resourceVersionMatch", "")
    if match and (version is None or match not in ("Exact", "NotOlderThan") or (match == "Exact" and not version)):
        raise bad_request(f'resourceVersionMatch: Invalid value: "{match}": not allowed with this resourceVersion')
    token = query.get("continue", "")
    if token:
        if version:
            raise bad_request("specifying resource version is not allowed when using continue")
        at, after = _decode_continue(token)
        try:
            storage.check_window(at)
        except ApiError as gone:
            text = (
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter."
            )
            raise ApiError(410, "Expired", text) from gone
        records = storage.records(resource, namespace, at)
        return at, (one for one in records if (one.namespace, one.name) > after)
    if version is not None and version > storage.version:
        raise too_large_version(version, storage.version)
    exact = match == "Exact" or (match == "" and version and _limit(call))
    at = version if exact and version else storage.version
    return at, storage.records(resource, namespace, at)


def list_objects(storage: Storage, call: Call) -> web.Response:
    """A list, whole or a page of it. Raises ApiError 400, 410 and 504 as the real server does."""
    resource = call.target.resource
    wanted, limit = Filter(call), _limit(call)
    version, records = _snapshot(storage, call)
    found: list[Record] = []
    meta: Object = {"resourceVersion": str(version)}
    remaining = 0
    for record in records:
        if not wanted.everything and not wanted.matches(record):
            continue
        if limit and len(found) == limit:
            meta["continue"] = _encode_continue(version, found[-1])
            if not wanted.everything:
                break  # the real server counts the rest only where no selector applies
            remaining += 1
            continue
        found.append(record)
    if remaining:
        meta["remainingItemCount"] = remaining
    return json_response(encode_records(resource, found, meta, call))


def encode_records(resource: Resource, found: list[Record], meta: Object, call: Call) -> bytes:
    """A list in the form the request accepts."""
    form = wanted_form(call.http.headers.get("Accept", ""))
    if form == "Table":
        return encode_table(resource, found, meta, call.query.get("includeObject", "Metadata"))
    if form == "PartialObjectMetadata":
        items = [{**PARTIAL, "metadata": one.object()["metadata"]} for one in found]
        return orjson.dumps({**PARTIAL, "kind": "PartialObjectMetadataList", "metadata": meta, "items": items})
    return encode_list(resource, [encode_item(resource, one) for one in found], meta)
