"""The description of the API, served with it: OpenAPI 3.1, the schemas taken from the very types that are encoded."""

from typing import Any, Final

import msgspec

from daas.common.errors import Problem
from daas.gateway.api.events import FACTS
from daas.gateway.api.index import Batch
from daas.gateway.api.views import BatchDetail, BatchPage, NodePage, PodProof

Object = dict[str, Any]
VERSION: Final = "1"
_JSON: Final = "application/json"
_SEQUENCE: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_NAME: Final = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}


def _answer(text: str, schema: Object) -> Object:
    return {"description": text, "content": {_JSON: {"schema": schema}}}


def _parameter(name: str, place: str, schema: Object, text: str, *, required: bool = False) -> Object:
    return {"name": name, "in": place, "schema": schema, "description": text, "required": required or place == "path"}


def document() -> Object:
    """The whole document."""
    types = (BatchPage, BatchDetail, Batch, NodePage, PodProof, Problem)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    page, detail, _, nodes, proof, problem = schemas
    refused = {
        "400": _answer("The request is malformed.", problem),
        "503": _answer("Something this needs is away.", problem),
    }
    missing = {"404": _answer("There is no such thing.", problem)}
    paths: Object = {
        "/v1/batches": {
            "get": {
                "operationId": "listBatches",
                "summary": "Anchored decisions in order",
                "parameters": [
                    _parameter("after", "query", _SEQUENCE, "only decisions with a higher number"),
                    _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 500}, "default 100"),
                ],
                "responses": {"200": _answer("A page.", page), **refused},
            }
        },
        "/v1/batches/{sequence}": {
            "get": {
                "operationId": "getBatch",
                "summary": "One anchored decision with its leaves, as it was signed",
                "parameters": [_parameter("sequence", "path", _SEQUENCE, "its number")],
                "responses": {"200": _answer("The decision.", detail), **refused, **missing},
            }
        },
        "/v1/pods/{namespace}/{name}/proof": {
            "get": {
                "operationId": "getPodProof",
                "summary": "Why a pod is where it is: leaf, Merkle path, signature and anchor",
                "parameters": [
                    _parameter("namespace", "path", _NAME, "of the pod"),
                    _parameter("name", "path", _NAME, "of the pod"),
                ],
                "responses": {"200": _answer("The proof.", proof), **refused, **missing},
            }
        },
        "/v1/nodes": {
            "get": {
                "operationId": "listNodes",
                "summary": "Nodes, and what is taken on them, as the gateway sees them now",
                "responses": {"200": _answer("All nodes, by name.", nodes), **refused},
            }
        },
        "/v1/events": {
            "get": {
                "operationId": "followEvents",
                "summary": "Facts as they come (server-sent events); id: is the stream sequence",
                "parameters": [
                    _parameter("facts", "query", {"type": "string"}, f"some of {', '.join(FACTS)}, comma-separated"),
                    _parameter("from", "query", _SEQUENCE, "begin at this stream sequence instead of now"),
                    _parameter("Last-Event-ID", "header", _SEQUENCE, "go on after this event"),
                ],
                "responses": {
                    "200": {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
                    **refused,
                },
            }
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "K3s-DaaS gateway", "version": VERSION},
        "paths": paths,
        "components": {"schemas": components},
    }
