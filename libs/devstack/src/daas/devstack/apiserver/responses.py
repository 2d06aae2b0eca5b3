"""HTTP answers: objects, lists, tables and refusals as bytes."""

from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web

from daas.devstack.apiserver.errors import ApiError
from daas.devstack.apiserver.resources import Object, Resource
from daas.devstack.apiserver.storage import Record
from daas.devstack.apiserver.tables import table

PARTIAL = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}


def json_response(body: bytes | Object, code: int = 200, warnings: Iterable[str] = ()) -> web.Response:
    """A JSON answer with a Warning header per warning."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    response = web.Response(body=raw, status=code, content_type="application/json")
    for text in warnings:
        response.headers.add("Warning", '299 - "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    return response


def refusal(error: ApiError) -> web.Response:
    """The answer to a refused request."""
    response = json_response(error.status(), error.code)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def success(code: int = 200, details: Object | None = None) -> Object:
    """The `Status` of something done."""
    out: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        out["details"] = details
    else:
        out["code"] = code
    return out


def view(resource: Resource, obj: Object) -> Object:
    """A stored object in the form of this version of its resource, without kind and apiVersion."""
    return resource.from_storage(obj) if resource.from_storage else obj


def encode(resource: Resource, record: Record) -> bytes:
    """One object with kind and apiVersion."""
    if resource.from_storage is None:
        return resource.prefix + record.raw[1:]
    return resource.prefix + orjson.dumps(resource.from_storage(record.object()))[1:]


def encode_item(resource: Resource, record: Record) -> bytes:
    """One object as it stands in a list: without kind and apiVersion, as the real server's typed lists."""
    if resource.from_storage is None:
        return record.raw
    return orjson.dumps(resource.from_storage(record.object()))


def encode_object(resource: Resource, obj: Object) -> bytes:
    """An object that is not in the store (a dry run) with kind and apiVersion."""
    return resource.prefix + orjson.dumps(view(resource, obj))[1:]


def encode_list(resource: Resource, items: list[bytes], meta: Object) -> bytes:
    """A typed list."""
    head = f'{{"kind":"{resource.kind}List","apiVersion":"{resource.group_version}","metadata":'.encode()
    return head + orjson.dumps(meta) + b',"items":[' + b",".join(items) + b"]}"


def wanted_form(accept: str) -> str:
    """The first form in an Accept header that this server has: Table, PartialObjectMetadata or JSON."""
    for one in accept.split(","):
        if "as=Table" in one and "g=meta.k8s.io" in one:
            return "Table"
        if "as=PartialObjectMetadata" in one:
            return "PartialObjectMetadata"
        if one.strip().startswith(("application/json", "*/*")):
            return "JSON"
    return "JSON"


def encode_table(
    resource: Resource, records: Iterable[Record], meta: Object, include: str, *, columns: bool = True
) -> bytes:
    """Records as a Table."""
    objects = (record.object() for record in records)
    return orjson.dumps(table(resource, objects, meta, include, columns=columns))


def encode_partial(record: Record) -> bytes:
    """The metadata alone."""
    value: dict[str, Any] = {**PARTIAL, "metadata": record.object()["metadata"]}
    return orjson.dumps(value)
