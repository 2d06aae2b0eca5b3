"""Who owns which field: `managedFields` of updates and server-side apply (structured-merge-diff's rules over `schema`).

A set of fields is a set of paths; a path is a tuple of FieldsV1 steps: `f:name`, `k:{"name":"c"}`, `v:"value"`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from daas.devstack.apiserver.errors import ApiError
from daas.devstack.apiserver.schema import MESSAGES, Field, Message

Path = tuple[str, ...]
Paths = frozenset[Path]

# Set by the server or part of the identity: no manager owns them.
_UNOWNED = frozenset(
    ("f:metadata", f"f:{name}")
    for name in (
        *("name", "namespace", "creationTimestamp", "uid", "generation", "managedFields", "resourceVersion"),
        *("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"),
    )
) | {("f:apiVersion",), ("f:kind",), ("f:metadata",), ("f:spec",), ("f:status",)}

KUBECTL = "kubectl"  # the field manager of kubectl's server-side apply
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Entry:
    """One manager's share."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    paths: Paths


def _step(spec: Field, item: Any) -> str:
    if not spec.keys:
        return "v:" + orjson.dumps(item).decode()
    # Protocol is the only list key with a default in the kinds served.
    key = {name: item.get(name, "TCP" if name == "protocol" else None) for name in spec.keys}
    return "k:" + orjson.dumps(key, option=orjson.OPT_SORT_KEYS).decode()


def _keyed(spec: Field | None, value: Any) -> bool:
    return spec is not None and spec.shape == "list" and spec.keys is not None and isinstance(value, list)


def _children(
    kind: Message | None, spec: Field | None, value: Any
) -> Iterator[tuple[str, Any, Field | None, Message | None]]:
    """(step, value, field, message) of what lies directly below; nothing below atomic values and scalars."""
    if isinstance(value, dict):
        if kind is not None and (spec is None or spec.shape != "map"):
            if kind.atomic:
                return
            for name, item in value.items():
                child = kind.fields.get(name)
                below = MESSAGES.get(child.type) if child is not None and child.shape == "one" else None
                yield f"f:{name}", item, child, below
        elif spec is not None and spec.shape == "map" and not spec.atomic:
            for name, item in value.items():
                yield f"f:{name}", item, None, MESSAGES.get(spec.type)
    elif _keyed(spec, value) and spec is not None:
        for item in value:
            yield _step(spec, item), item, None, MESSAGES.get(spec.type)


def flatten(kind: Message, obj: Mapping[str, Any]) -> dict[Path, Any]:
    """Every owned path of an object and what is there: leaves carry their value, containers carry None."""
    out: dict[Path, Any] = {}

    def walk(path: Path, value: Any, spec: Field | None, message: Message | None) -> None:
        below = list(_children(message, spec, value))
        if not below:
            out[path] = value
            return
        if isinstance(value, dict):
            out[path] = None  # FieldsV1's "."; lists have none
        for step, item, child, inner in below:
            walk((*path, step), item, child, inner)

    for step, item, child, inner in _children(kind, None, dict(obj)):
        if step not in ("f:apiVersion", "f:kind"):
            walk((step,), item, child, inner)
    return {path: value for path, value in out.items() if not _is_unowned(path)}


def _is_unowned(path: Path) -> bool:
    return path[:2] in _UNOWNED or (len(path) == 1 and path in _UNOWNED)


def applied_paths(kind: Message, config: Mapping[str, Any]) -> Paths:
    """The paths an apply configuration claims: its leaves, and the items of keyed lists."""
    flat = flatten(kind, config)
    return frozenset(path for path, value in flat.items() if value is not None or path[-1][:2] == "k:")


def to_fields_v1(paths: Paths) -> dict[str, Any]:
    """The FieldsV1 tree of a set of paths."""
    tree: dict[str, Any] = {}
    for path in sorted(paths, key=len):
        node = tree
        for step in path[:-1]:
            node = node.setdefault(step, {})
        node.setdefault(path[-1], {})
    members = set(paths)

    def mark(node: dict[str, Any], path: Path) -> None:
        for step, child in node.items():
            if child:
                here = (*path, step)
                mark(child, here)
                if here in members:
                    child["."] = {}

    mark(tree, ())
    return tree


def from_fields_v1(tree: Mapping[str, Any]) -> Paths:
    """The set of paths of a FieldsV1 tree."""
    out: set[Path] = set()

    def walk(node: Mapping[str, Any], path: Path) -> None:
        if path and (not node or "." in node):
            out.add(path)
        for step, child in node.items():
            if step != ".":
                walk(child, (*path, step))

    walk(tree, ())
    return frozenset(out)


def read_entries(meta: Mapping[str, Any]) -> list[Entry]:
    """The entries in an object's metadata."""
    return [
        Entry(
            one.get("manager", ""),
            one.get("operation", "Update"),
            one.get("apiVersion", ""),
            one.get("subresource", ""),
            one.get("time", ""),
            from_fields_v1(one.get("fieldsV1") or {}),
        )
        for one in meta.get("managedFields") or ()
    ]


def write_entries(meta: dict[str, Any], entries: list[Entry]) -> None:
    """Put entries into an object's metadata: applies first, then by time, as the real server sorts them."""
    kept = [entry for entry in entries if entry.paths]
    kept.sort(key=lambda entry: (entry.operation != "Apply", entry.time, entry.manager))
    meta["managedFields"] = [
        {
            "manager": entry.manager,
            "operation": entry.operation,
            "apiVersion": entry.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_fields_v1(entry.paths),
        }
        | ({"subresource": entry.subresource} if entry.subresource else {})
        for entry in kept
    ]
    if not kept:
        del meta["managedFields"]


def track_update(
    kind: Message,
    old: Mapping[str, Any] | None,
    new: dict[str, Any],
    entry: Entry,
) -> None:
    """Record a create, update or patch: `entry` (its paths ignored) now owns what changed, nobody what is gone."""
    after = flatten(kind, new)
    if old is None:
        write_entries(new["metadata"], [replace(entry, paths=frozenset(after))])
        return
    before = flatten(kind, old)
    changed = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
    gone = frozenset(path for path in before if path not in after)
    entries = read_entries(old["metadata"])
    if not changed and not gone:
        write_entries(new["metadata"], entries)
        return
    out: list[Entry] = []
    mine = changed
    for one in entries:
        same = (one.manager, one.operation, one.api_version, one.subresource) == (
            *(entry.manager, entry.operation, entry.api_version, entry.subresource),
        )
        if same:
            mine |= one.paths - gone
        else:
            out.append(replace(one, paths=one.paths - changed - gone))
    if mine:
        out.append(replace(entry, paths=mine))
    write_entries(new["metadata"], out)


# Server-side apply -------------------------------------------------------------------------------------------------


def _merge(kind: Message, live: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(live)
    for name, value in config.items():
        spec = kind.fields.get(name)
        out[name] = _merge_field(spec, out.get(name), value)
    return out


def _merge_field(spec: Field | None, live: Any, value: Any) -> Any:
    if spec is None or live is None:
        return value
    inner = MESSAGES.get(spec.type)
    if spec.shape == "one" and inner is not None and not inner.atomic and isinstance(live, dict):
        return _merge(inner, live, value)
    if spec.shape == "map" and not spec.atomic and isinstance(live, dict):
        return {**live, **value}
    if _keyed(spec, value) and isinstance(live, list):
        items = {_step(spec, one): one for one in live}
        for one in value:
            step = _step(spec, one)
            items[step] = _merge(inner, items[step], one) if inner is not None and step in items else one
        return list(items.values())
    return value


def _remove(kind: Message | None, spec: Field | None, value: Any, path: Path) -> Any:
    """`value` without what lies at `path`; None where nothing is left of it."""
    step, rest = path[0], path[1:]
    if isinstance(value, dict) and step.startswith("f:"):
        name = step[2:]
        if name not in value:
            return value
        out = dict(value)
        child = kind.fields.get(name) if kind is not None else None
        below = MESSAGES.get(child.type) if child is not None and child.shape == "one" else None
        left = _remove(below, child, out[name], rest) if rest else None
        if left is None:
            del out[name]
        else:
            out[name] = left
        return out
    if _keyed(spec, value) and spec is not None:
        items = []
        for one in value:
            if _step(spec, one) == step:
                if not rest:
                    continue
                items.append(_remove(MESSAGES.get(spec.type), None, one, rest))
            else:
                items.append(one)
        return items or None
    return value


def _kept_by_client_side_apply(kind: Message, live: Mapping[str, Any], before: Mapping[Path, Any]) -> Paths:
    """What `kubectl apply` set and nobody changed since: the same kubectl may take it over without a conflict."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    try:
        last = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return frozenset()
    if not isinstance(last, dict):
        return frozenset()
    return frozenset(path for path, value in flatten(kind, last).items() if before.get(path) == value)


def apply(
    kind: Message,
    live: dict[str, Any],
    config: Mapping[str, Any],
    entry: Entry,
    *,
    force: bool,
) -> dict[str, Any]:
    """Server-side apply of `config` to `live` as manager `entry` (its paths ignored); the new object.

    Raises ApiError 409 with one cause per field another manager owns with another value, unless `force`.
    """
    claimed = applied_paths(kind, config)
    merged = _merge(kind, live, config)
    before, after = flatten(kind, live), flatten(kind, merged)
    changed = {path for path in claimed if path in before and before[path] != after.get(path)}
    entries = read_entries(live.get("metadata") or {})
    previous: Paths = frozenset()
    others: list[Entry] = []
    for one in entries:
        if (one.manager, one.operation, one.subresource) == (entry.manager, "Apply", entry.subresource):
            previous |= one.paths
        else:
            others.append(one)
    conflicts = [(one, path) for one in others for path in sorted(one.paths & changed)]
    if conflicts and not force:
        allowed = _kept_by_client_side_apply(kind, live, before) if entry.manager == KUBECTL else frozenset()
        if left := [(one, path) for one, path in conflicts if path not in allowed]:
            raise _conflict(left)
    others = [replace(one, paths=one.paths - changed) for one in others]
    kept = frozenset[Path]().union(claimed, *(one.paths for one in others))
    for path in sorted(previous - kept, key=len, reverse=True):
        if not any(other[: len(path)] == path for other in kept):
            removed = _remove(kind, None, merged, path)
            merged = removed if isinstance(removed, dict) else merged
    merged["metadata"] = dict(merged["metadata"])
    write_entries(merged["metadata"], [*others, replace(entry, operation="Apply", paths=claimed)])
    return merged


def _dotted(path: Path) -> str:
    out = ""
    for step in path:
        mark, value = step[:2], step[2:]
        if mark == "f:":
            out += "." + value
        elif mark == "k:":
            pairs = orjson.loads(value)
            out += "[" + ",".join(f"{name}={orjson.dumps(one).decode()}" for name, one in pairs.items()) + "]"
        else:
            out += f"[={value}]"
    return out


def _conflict(conflicts: list[tuple[Entry, Path]]) -> ApiError:
    def owner(one: Entry) -> str:
        text = f'"{one.manager}"'
        if one.subresource:
            text += f' with subresource "{one.subresource}"'
        if one.operation == "Update":
            text += f" using {one.api_version}" + (f" at {one.time}" if one.time else "")
        return text

    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner(one)}", "field": _dotted(path)}
        for one, path in conflicts
    ]
    count = len(conflicts)
    if count == 1:
        summary = f"conflict with {owner(conflicts[0][0])}: {_dotted(conflicts[0][1])}"
    else:
        by_owner: dict[str, list[str]] = {}
        for one, path in conflicts:
            by_owner.setdefault(owner(one), []).append(_dotted(path))
        summary = "conflicts with " + "".join(
            f"{name}:\n" + "".join(f"- {field}\n" for field in fields) for name, fields in by_owner.items()
        ).rstrip("\n")
    text = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {summary}"
    return ApiError(409, "Conflict", text, {"causes": causes})
