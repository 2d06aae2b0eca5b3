"""The three patches of the Kubernetes API applied to an object: JSON patch, JSON merge patch, strategic merge patch."""

from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException

from daas.devstack.apiserver.errors import ApiError, bad_request
from daas.devstack.apiserver.schema import MESSAGES, Field, Message

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
OPERATIONS_MAX = 10_000  # the real server's limit for one JSON patch


def json_patch(obj: dict[str, Any], operations: object) -> dict[str, Any]:
    """RFC 6902. Raises ApiError 400 or 422."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > OPERATIONS_MAX:
        text = f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", text)
    try:
        result = jsonpatch.apply_patch(obj, operations)
    except jsonpatch.JsonPatchTestFailed as failed:
        raise ApiError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {failed}"
        ) from failed
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError) as failed:
        text = "the server rejected our request due to an error in our request"
        raise ApiError(422, "Invalid", text, {}) from failed
    if not isinstance(result, dict):
        raise bad_request("the patch leaves something that is not an object")
    return result


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = merge_patch(out.get(name), value)
    return out


def strategic_patch(kind: Message, target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Strategic merge patch: lists with a merge key are merged by it; `$patch`, `$retainKeys`, `$setElementOrder` and
    `$deleteFromPrimitiveList` as in apimachinery's strategicpatch. Raises ApiError 400.
    """
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown $patch directive {directive!r}")
    out = dict(target)
    retain = patch.get("$retainKeys")
    if isinstance(retain, list):
        out = {name: value for name, value in out.items() if name in retain}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            listed = name.partition("/")[2]
            out[listed] = [one for one in out.get(listed) or [] if one not in value]
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            out.pop(name, None)
        else:
            out[name] = _strategic_field(kind.fields.get(name), out.get(name), value)
    for name, order in patch.items():
        if name.startswith("$setElementOrder/"):
            listed = name.partition("/")[2]
            spec = kind.fields.get(listed)
            if isinstance(out.get(listed), list) and spec is not None:
                out[listed] = _ordered(out[listed], order, spec)
    return out


def _strategic_field(spec: Field | None, old: Any, new: Any) -> Any:
    if isinstance(new, dict):
        base = old if isinstance(old, dict) else {}
        if spec is not None and spec.shape == "one" and spec.type in MESSAGES:
            return strategic_patch(MESSAGES[spec.type], base, new)
        if new.get("$patch") == "replace":
            return {name: value for name, value in new.items() if name != "$patch"}
        return merge_patch(base, {name: value for name, value in new.items() if name != "$patch"})
    if isinstance(new, list) and spec is not None and spec.shape == "list" and spec.keys is not None:
        return _strategic_list(spec, old if isinstance(old, list) else [], new)
    return new


def _strategic_list(spec: Field, old: list[Any], new: list[Any]) -> list[Any]:
    if not spec.keys:
        return list(dict.fromkeys([*old, *new]))
    merge_key = spec.keys[0]
    if any(isinstance(one, dict) and one.get("$patch") == "replace" for one in new):
        return [one for one in new if one.get("$patch") != "replace"]
    out = list(old)
    for item in new:
        if not isinstance(item, dict) or merge_key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {merge_key}")
        matches = [index for index, one in enumerate(out) if one.get(merge_key) == item[merge_key]]
        if item.get("$patch") == "delete":
            out = [one for one in out if one.get(merge_key) != item[merge_key]]
        elif matches:
            out[matches[0]] = strategic_patch(MESSAGES[spec.type], out[matches[0]], item)
        else:
            out.append(strategic_patch(MESSAGES[spec.type], {}, item))
    return out


def _ordered(items: list[Any], order: list[Any], spec: Field) -> list[Any]:
    """Items named by `order` in that order; the others keep their place relative to their predecessor."""
    key = spec.keys[0] if spec.keys else None

    def identity(one: Any) -> Any:
        return one.get(key) if key is not None and isinstance(one, dict) else one

    rank = {identity(one): place for place, one in enumerate(order)}
    placed: list[tuple[int, int, Any]] = []
    last = -1
    for position, item in enumerate(items):
        last = rank.get(identity(item), last)
        placed.append((last, position, item))
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]
