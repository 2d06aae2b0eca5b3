"""Validation of pod specs and of updates to pods, with the field paths and wording of kube-apiserver."""

import copy
import re
from collections.abc import Mapping
from typing import Any

from daas.devstack.apiserver.errors import (
    Cause,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
    unsupported_value,
)
from daas.devstack.apiserver.quantity import BAD_QUANTITY, parse

Object = dict[str, Any]

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_DNS_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_POD_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _resources(resources: Mapping[str, Any], field: str) -> list[Cause]:
    out: list[Cause] = []
    values: dict[str, dict[str, Any]] = {"limits": {}, "requests": {}}
    for group in ("limits", "requests"):
        for name, amount in (resources.get(group) or {}).items():
            where = f"{field}.{group}[{name}]"
            value = parse(amount)
            if value is None:
                out.append(invalid_value(where, amount, BAD_QUANTITY))
                continue
            values[group][name] = value
            if value < 0:
                out.append(invalid_value(where, amount, "must be greater than or equal to 0"))
            if "/" not in name and name not in ("cpu", "memory", "ephemeral-storage", "storage"):
                if not name.startswith("hugepages-"):
                    text = "must be a standard resource type or fully qualified"
                    out.append(invalid_value(f"{field}.{group}[{name}]", name, text))
            elif "/" in name and value.denominator != 1:
                out.append(invalid_value(where, amount, "must be an integer"))
    for name, value in values["requests"].items():
        limit = values["limits"].get(name)
        if limit is not None and value > limit:
            shown = resources["requests"][name]
            text = f"must be less than or equal to {name} limit of {resources['limits'][name]}"
            out.append(invalid_value(f"{field}.requests", shown, text))
    return out


def _containers(spec: Object, group: str, field: str, seen: set[str]) -> list[Cause]:
    out: list[Cause] = []
    volumes = {one.get("name") for one in spec.get("volumes") or ()}
    for index, one in enumerate(spec.get(group) or ()):
        where = f"{field}.{group}[{index}]"
        name = one.get("name", "")
        if not name:
            out.append(required(f"{where}.name"))
        elif not _DNS_LABEL.match(name) or len(name) > 63:
            out.append(invalid_value(f"{where}.name", name, _DNS_LABEL_TEXT))
        elif name in seen:
            out.append(duplicate(f"{where}.name", name))
        seen.add(name)
        if (not one.get("image") and not field.startswith("spec.template")) or not one.get("image"):
            out.append(required(f"{where}.image"))
        policies = ("Always", "IfNotPresent", "Never")
        if one.get("imagePullPolicy") not in (None, *policies):
            out.append(unsupported_value(f"{where}.imagePullPolicy", one["imagePullPolicy"], policies))
        out += _resources(one.get("resources") or {}, f"{where}.resources")
        for place, port in enumerate(one.get("ports") or ()):
            at = f"{where}.ports[{place}]"
            if "containerPort" not in port:
                out.append(required(f"{at}.containerPort"))
            elif not 1 <= port["containerPort"] <= 65535:
                text = "must be between 1 and 65535, inclusive"
                out.append(invalid_value(f"{at}.containerPort", port["containerPort"], text))
            protocols = ("SCTP", "TCP", "UDP")
            if port.get("protocol", "TCP") not in protocols:
                out.append(unsupported_value(f"{at}.protocol", port["protocol"], protocols))
        for place, mount in enumerate(one.get("volumeMounts") or ()):
            at = f"{where}.volumeMounts[{place}]"
            if mount.get("name") not in volumes:
                out.append(Cause("FieldValueNotFound", f'Not found: "{mount.get("name", "")}"', f"{at}.name"))
            if not mount.get("mountPath"):
                out.append(required(f"{at}.mountPath"))
    return out


def _tolerations(tolerations: list[Object], field: str) -> list[Cause]:
    out: list[Cause] = []
    for index, one in enumerate(tolerations):
        where = f"{field}[{index}]"
        operator, effect = one.get("operator", ""), one.get("effect", "")
        if not one.get("key") and operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            out.append(invalid_value(f"{where}.operator", operator, text))
        if operator not in ("", "Equal", "Exists"):
            out.append(unsupported_value(f"{where}.operator", operator, ("Equal", "Exists")))
        if operator == "Exists" and one.get("value"):
            out.append(invalid_value(f"{where}.operator", "", "value must be empty when `operator` is 'Exists'"))
        effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
        if effect and effect not in effects:
            out.append(unsupported_value(f"{where}.effect", effect, effects))
        if one.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            out.append(invalid_value(f"{where}.effect", effect, text))
    return out


def _node_terms(terms: list[Object], field: str) -> list[Cause]:
    out: list[Cause] = []
    operators = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")
    for index, term in enumerate(terms):
        for place, one in enumerate(term.get("matchExpressions") or ()):
            where = f"{field}[{index}].matchExpressions[{place}]"
            operator, values = one.get("operator", ""), one.get("values") or ()
            if operator in ("In", "NotIn") and not values:
                out.append(required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
            elif operator in ("Exists", "DoesNotExist") and values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                out.append(forbidden_field(f"{where}.values", text))
            elif operator in ("Gt", "Lt") and len(values) != 1:
                out.append(
                    required(f"{where}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
                )
            elif operator not in operators:
                out.append(invalid_value(f"{where}.operator", operator, "not a valid selector operator"))
    return out


def _affinity(affinity: Object, field: str) -> list[Cause]:
    node = affinity.get("nodeAffinity") or {}
    out: list[Cause] = []
    wanted = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if wanted is not None:
        at = f"{field}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        terms = wanted.get("nodeSelectorTerms") or []
        if not terms:
            out.append(required(at, "must have at least one node selector term"))
        out += _node_terms(terms, at)
    for index, one in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        at = f"{field}.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        if not 1 <= one.get("weight", 0) <= 100:
            out.append(invalid_value(f"{at}.weight", one.get("weight", 0), "must be in the range 1-100"))
        out += _node_terms([one.get("preference") or {}], f"{at}.preference")
    return out


def validate_pod_spec(spec: Object, field: str) -> list[Cause]:
    """What is wrong with a pod's spec (defaults already filled in); `field` is its path."""
    out: list[Cause] = []
    names: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        name = volume.get("name", "")
        if not name:
            out.append(required(f"{field}.volumes[{index}].name"))
        elif name in names:
            out.append(duplicate(f"{field}.volumes[{index}].name", name))
        names.add(name)
    seen: set[str] = set()
    if not spec.get("containers"):
        out.append(required(f"{field}.containers"))
    out += _containers(spec, "containers", field, seen)
    out += _containers(spec, "initContainers", field, seen)
    for name, allowed in (
        ("restartPolicy", ("Always", "Never", "OnFailure")),
        ("dnsPolicy", ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")),
    ):
        if spec.get(name) not in allowed:
            out.append(unsupported_value(f"{field}.{name}", spec.get(name, ""), allowed))
    if spec.get("terminationGracePeriodSeconds", 30) < 0:
        text = "must be greater than or equal to 0"
        value = spec["terminationGracePeriodSeconds"]
        out.append(invalid_value(f"{field}.terminationGracePeriodSeconds", value, text))
    out += _tolerations(spec.get("tolerations") or [], f"{field}.tolerations")
    out += _affinity(spec.get("affinity") or {}, f"{field}.affinity")
    for name, amount in (spec.get("overhead") or {}).items():
        if parse(amount) is None:
            out.append(invalid_value(f"{field}.overhead[{name}]", amount, BAD_QUANTITY))
    if spec.get("schedulingGates") and spec.get("nodeName"):
        text = "cannot be set until all schedulingGates have been cleared"
        out.append(forbidden_field(f"{field}.nodeName", text))
    return out


def _masked(new: Object, old: Object) -> Object:
    """`new`'s spec with everything an update may change set back to what it was."""
    spec: Object = copy.deepcopy(new["spec"])
    before = old["spec"]
    for group in ("containers", "initContainers"):
        if len(spec.get(group) or ()) == len(before.get(group) or ()):
            for one, was in zip(spec.get(group) or (), before.get(group) or (), strict=True):
                one["image"] = was.get("image", "")
    for name in ("activeDeadlineSeconds", "tolerations"):
        spec.pop(name, None)
        if name in before:
            spec[name] = before[name]
    if before.get("terminationGracePeriodSeconds", 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        spec["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    if before.get("schedulingGates"):
        left = [one for one in spec.get("schedulingGates") or () if one in before["schedulingGates"]]
        if left == (spec.get("schedulingGates") or []):
            spec["schedulingGates"] = before["schedulingGates"]
            # While gated, the node selector may only become narrower.
            if (before.get("nodeSelector") or {}).items() <= (spec.get("nodeSelector") or {}).items():
                spec.pop("nodeSelector", None)
                if "nodeSelector" in before:
                    spec["nodeSelector"] = before["nodeSelector"]
    return spec


def validate_pod_update(new: Object, old: Object) -> list[Cause]:
    """What is wrong with an update of a pod outside its subresources."""
    out: list[Cause] = []
    after, before = new["spec"], old["spec"]
    for group in ("containers", "initContainers"):
        if len(after.get(group) or ()) != len(before.get(group) or ()):
            return [forbidden_field(f"spec.{group}", f"pod updates may not add or remove {group}")]
        for index, one in enumerate(after.get(group) or ()):
            if not one.get("image"):
                out.append(required(f"spec.{group}[{index}].image"))
    kept = after.get("tolerations") or []
    if any(one not in kept for one in before.get("tolerations") or ()):
        text = "existing toleration can not be modified except its tolerationSeconds"
        out.append(forbidden_field("spec.tolerations", text))
    out += _tolerations(kept, "spec.tolerations")
    masked = _masked(new, old)
    if masked != before:
        changed = sorted(name for name in masked.keys() | before.keys() if masked.get(name) != before.get(name))
        listed = "".join(f"\n- {name}: {before.get(name)!r}\n+ {name}: {masked.get(name)!r}" for name in changed)
        out.append(forbidden_field("spec", _POD_UPDATE_TEXT + listed))
    return out
