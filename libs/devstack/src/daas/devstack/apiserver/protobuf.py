r"""Kubernetes protobuf request bodies (`k8s\0` + runtime.Unknown) decoded by the field numbers of `schema`."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from daas.devstack.apiserver.errors import ApiError
from daas.devstack.apiserver.schema import MESSAGES, Field

MAGIC = b"k8s\x00"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_DEPTH_MAX = 32  # a pod inside a deployment nests 12 deep


def _malformed(why: str) -> ApiError:
    return ApiError(400, "BadRequest", f"couldn't decode the protobuf body: {why}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _malformed(f"truncated or oversized varint at byte {at}")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, payload) of each field; wire types 0 and 2 are all that Kubernetes uses in the kinds served."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
        elif key & 7 == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise _malformed(f"field {key >> 3} is {length} bytes long, {len(data) - at} are left")
            yield key >> 3, data[at : at + length]
            at += length
        else:
            raise _malformed(f"wire type {key & 7} of field {key >> 3} is not used by Kubernetes")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _text(value: bytes | int) -> str:
    if isinstance(value, int):
        raise _malformed("a number where a string was expected")
    return value.decode("utf-8", "replace")


def _timestamp(data: bytes, *, micro: bool) -> str | None:
    parts = {number: value for number, value in _fields(data) if isinstance(value, int)}
    if not parts:
        return None
    moment = datetime.fromtimestamp(_signed(parts.get(1, 0)), UTC)
    if micro:
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{parts.get(2, 0) // 1000:06d}Z"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _scalar(kind: str, value: bytes | int) -> Any:
    if kind in ("int", "bool"):
        if not isinstance(value, int):
            raise _malformed(f"bytes where {kind} was expected")
        return bool(value) if kind == "bool" else _signed(value)
    if kind == "str":
        return _text(value)
    if isinstance(value, int):
        raise _malformed(f"a number where {kind} was expected")
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if kind in ("time", "mtime"):
        return _timestamp(value, micro=kind == "mtime")
    inner = dict(_fields(value)) if kind in ("qty", "ios") else {}
    if kind == "qty":
        return _text(inner.get(1, b"0"))
    if kind == "ios":
        return _text(inner.get(3, b"")) if inner.get(1) == 1 else _signed(int(inner.get(2, 0)))
    return None  # free JSON never comes in the bodies kubectl's typed clients send


def _value(spec: Field, value: bytes | int, depth: int) -> Any:
    if spec.type in MESSAGES:
        if isinstance(value, int):
            raise _malformed(f"a number where {spec.type} was expected")
        return decode_message(spec.type, value, depth + 1)
    return _scalar(spec.type, value)


def decode_message(name: str, data: bytes, depth: int = 0) -> dict[str, Any]:
    """The message as the JSON object it stands for; Go's zero values of non-pointer fields are left out."""
    if depth > _DEPTH_MAX:
        raise _malformed(f"nested deeper than {_DEPTH_MAX}")
    known = {spec.number: spec for spec in MESSAGES[name].wire}
    out: dict[str, Any] = {}
    for number, payload in _fields(data):
        spec = known.get(number)
        if spec is None:
            continue
        if spec.shape == "map":
            if isinstance(payload, int):
                raise _malformed(f"a number where a map entry of {spec.name} was expected")
            entry = dict(_fields(payload))
            out.setdefault(spec.name, {})[_text(entry.get(1, b""))] = _value(spec, entry.get(2, b""), depth)
            continue
        value = _value(spec, payload, depth)
        if spec.shape == "list":
            out.setdefault(spec.name, []).append(value)
        elif spec.inline:
            out.update(value)
        elif value is not None and (spec.pointer or value not in ("", 0, False, {})):
            out[spec.name] = value
    return out


def decode(body: bytes) -> dict[str, Any]:
    """A request body as the JSON object it stands for, with kind and apiVersion. Raises ApiError 400 or 415."""
    if not body.startswith(MAGIC):
        raise _malformed("the first four bytes are not the Kubernetes magic")
    envelope = dict(_fields(body[len(MAGIC) :]))
    type_meta, raw = envelope.get(1, b""), envelope.get(2, b"")
    if isinstance(type_meta, int) or isinstance(raw, int):
        raise _malformed("runtime.Unknown has a number where bytes were expected")
    names = dict(_fields(type_meta))
    api_version, kind = _text(names.get(1, b"")), _text(names.get(2, b""))
    message = "EventsEvent" if api_version == "events.k8s.io/v1" and kind == "Event" else kind
    if message not in MESSAGES:
        raise ApiError(415, "UnsupportedMediaType", f"no protobuf decoder for {api_version}, Kind={kind}")
    return {"apiVersion": api_version, "kind": kind, **decode_message(message, raw)}
