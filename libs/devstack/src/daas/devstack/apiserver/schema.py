"""The API types as values: field names, protobuf numbers, list keys; decoding that prunes and reports unknown fields.

One table drives protobuf bodies, strict field validation, strategic merge patch, server-side apply and OpenAPI.

Notation, one message per entry (continuation lines are indented):
    Name: field=number:type ...
    str int bool bytes time mtime qty ios any   scalars (mtime: microseconds, ios: int-or-string, any: free JSON)
    T?        a Go pointer: zero is a value     ~=n:T      T's fields are inlined in JSON
    [T]       atomic list                       [T@a,b]    list keyed by a and b (strategic merge uses the first)
    [str@]    set                               {T}        map from string, {T}! the same but atomic
    Name!:    the whole struct is atomic for server-side apply
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from daas.devstack.apiserver.types.core import CORE
from daas.devstack.apiserver.types.groups import GROUPS
from daas.devstack.apiserver.types.meta import META, REVIEWS, WORKLOADS
from daas.devstack.apiserver.types.pod import POD
from daas.devstack.apiserver.types.policy import ADMISSION, RBAC
from daas.devstack.apiserver.types.storage import STORAGE

SCALARS = frozenset({"str", "int", "bool", "bytes", "time", "mtime", "qty", "ios", "any"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `shape` is "one", "list" or "map"; `type` a scalar or a message name."""

    name: str
    number: int
    type: str
    shape: str
    pointer: bool = False
    keys: tuple[str, ...] | None = None  # None: atomic list; (): a set; names: a keyed list
    atomic: bool = False
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One struct type; `fields` as JSON sees it (inlined ones lifted), `wire` as protobuf sees it."""

    name: str
    atomic: bool
    wire: tuple[Field, ...]
    fields: Mapping[str, Field] = field(default_factory=dict)


def _parse_field(text: str) -> Field:
    name, _, rest = text.partition("=")
    number, _, kind = rest.partition(":")
    inline, shape, keys, atomic = name == "~", "one", None, False
    pointer = kind.endswith("?")
    kind = kind.removesuffix("?")
    if kind.startswith("["):
        shape = "list"
        kind, at, names = kind[1:-1].partition("@")
        keys = tuple(filter(None, names.split(","))) if at else None
    elif kind.startswith("{"):
        atomic = kind.endswith("!")
        shape, kind = "map", kind.removesuffix("!")[1:-1]
    return Field(name, int(number), kind, shape, pointer=pointer, keys=keys, atomic=atomic, inline=inline)


def _parse(*tables: str) -> dict[str, Message]:
    wire: dict[str, Message] = {}
    for table in tables:
        entries: list[str] = []
        for line in table.strip().splitlines():
            if line.startswith(" "):
                entries[-1] += line
            else:
                entries.append(line)
        for entry in entries:
            head, _, body = entry.partition(": ")
            name = head.removesuffix("!")
            wire[name] = Message(name, head.endswith("!"), tuple(_parse_field(part) for part in body.split()))

    def lifted(message: Message) -> dict[str, Field]:
        found: dict[str, Field] = {}
        for one in message.wire:
            if one.inline:
                found |= lifted(wire[one.type])
            else:
                found[one.name] = one
        return found

    return {name: Message(name, message.atomic, message.wire, lifted(message)) for name, message in wire.items()}


MESSAGES: Mapping[str, Message] = _parse(META, REVIEWS, WORKLOADS, CORE, POD, ADMISSION, RBAC, STORAGE, GROUPS)


@cache
def message(name: str) -> Message:
    """The message of that name. Raises KeyError for a type this server does not know."""
    return MESSAGES[name]


class TypeMismatch(Exception):
    """A JSON value of the wrong type, worded as Go's decoder does."""


def _go_name(kind: str) -> str:
    return {"str": "string", "int": "int32", "bool": "bool", "bytes": "[]uint8"}.get(kind, "v1." + kind)


def _json_name(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


_SCALAR_OK: dict[str, Callable[[Any], bool]] = {
    "str": lambda v: isinstance(v, str),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "bool": lambda v: isinstance(v, bool),
    "bytes": lambda v: isinstance(v, str),
    "time": lambda v: isinstance(v, str),
    "mtime": lambda v: isinstance(v, str),
    "qty": lambda v: isinstance(v, (str, int, float)) and not isinstance(v, bool),
    "ios": lambda v: isinstance(v, (str, int)) and not isinstance(v, bool),
    "any": lambda _: True,
}


def _wrong(kind: str, value: object, owner: str, path: str) -> TypeMismatch:
    dotted = path.replace("[", ".").replace("]", "")
    clean = ".".join(part for part in dotted.split(".") if not part.isdigit())
    return TypeMismatch(
        f"json: cannot unmarshal {_json_name(value)} into Go struct field {owner}.{clean} of type {_go_name(kind)}"
    )


def _one(kind: str, value: Any, owner: str, path: str, unknown: list[str]) -> Any:
    if kind not in SCALARS:
        if not isinstance(value, dict):
            raise _wrong(kind, value, owner, path)
        return prune(MESSAGES[kind], value, path, unknown)
    if not _SCALAR_OK[kind](value):
        raise _wrong(kind, value, owner, path)
    if kind == "qty" and not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return value


def prune(kind: Message, value: Mapping[str, Any], path: str, unknown: list[str]) -> dict[str, Any]:
    """`value` with only the fields of `kind`, nulls dropped; the paths of unknown fields are appended to `unknown`.

    Raises TypeMismatch where a value cannot be decoded into its field.
    """
    out: dict[str, Any] = {}
    fields = kind.fields
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        spec = fields.get(name)
        if spec is None:
            if not path and name in ("kind", "apiVersion"):
                out[name] = item
            else:
                unknown.append(here)
            continue
        if item is None:
            continue
        shape, type_ = spec.shape, spec.type
        if shape == "one":
            out[name] = _one(type_, item, kind.name, here, unknown)
        elif shape == "list":
            if not isinstance(item, list):
                raise _wrong(type_, item, kind.name, here)
            out[name] = [_one(type_, each, kind.name, f"{here}[{index}]", unknown) for index, each in enumerate(item)]
        else:
            if not isinstance(item, dict):
                raise _wrong("map[string]string", item, kind.name, here)
            # Go decodes null into the zero value, which only a map of strings can show.
            out[name] = {
                key: _one(type_, "" if each is None else each, kind.name, here, unknown)
                for key, each in item.items()
                if each is not None or type_ == "str"
            }
    return out
