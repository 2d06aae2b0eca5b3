"""Which requests a webhook or a policy is about: rules, namespace and object selectors, match conditions."""

from collections.abc import Mapping
from typing import Any

from daas.devstack.apiserver.admission import Operation
from daas.devstack.apiserver.resources import BY_KEY
from daas.devstack.apiserver.storage import Storage

Object = dict[str, Any]
EXEMPT_GROUP = "admissionregistration.k8s.io"  # or nobody could take back a configuration that refuses everything


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a metav1.LabelSelector selects these labels; a missing or empty one selects everything."""
    if not selector:
        return True
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for one in selector.get("matchExpressions") or ():
        key, values = one.get("key", ""), one.get("values") or ()
        held = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not held.get(one.get("operator", ""), False):
            return False
    return True


def _rule_covers(rule: Mapping[str, Any], operation: Operation) -> bool:
    def has(names: list[str] | None, value: str) -> bool:
        return "*" in (names or ()) or value in (names or ())

    resource, sub = operation.resource, operation.subresource
    scope = rule.get("scope") or "*"
    if scope != "*" and (scope == "Namespaced") is not resource.namespaced:
        return False
    if not has(rule.get("operations"), operation.verb) or not has(rule.get("apiGroups"), resource.group):
        return False
    if not has(rule.get("apiVersions"), resource.version):
        return False
    names = rule.get("resources") or ()
    if sub:
        wanted = {f"{resource.plural}/{sub}", f"{resource.plural}/*", f"*/{sub}", "*/*"}
    else:
        wanted = {resource.plural, "*", "*/*"}
    names_ok = not rule.get("resourceNames") or operation.name in rule["resourceNames"]
    return bool(wanted & set(names)) and names_ok


def namespace_of(storage: Storage, operation: Operation, obj: Object | None) -> Object | None:
    """The namespace a request happens in: of a Namespace itself, what it is about; None at the cluster scope."""
    if operation.resource.key == "namespaces":
        return obj if obj is not None else operation.old
    if not operation.resource.namespaced:
        return None
    record = storage.get(BY_KEY["namespaces"], "", operation.namespace)
    return record.object() if record else None


def matches(
    storage: Storage,
    operation: Operation,
    obj: Object | None,
    *,
    rules: list[Object],
    excluded: list[Object] | None = None,
    namespace_selector: Object | None,
    object_selector: Object | None,
) -> bool:
    """Whether rules and selectors pick this request."""
    if operation.resource.group == EXEMPT_GROUP:
        return False
    if not any(_rule_covers(rule, operation) for rule in rules):
        return False
    if any(_rule_covers(rule, operation) for rule in excluded or ()):
        return False
    namespace = namespace_of(storage, operation, obj)
    if namespace_selector and (operation.resource.namespaced or operation.resource.key == "namespaces"):
        labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
        if not selects(namespace_selector, labels):
            return False
    if not object_selector:
        return True
    seen = [one for one in (obj, operation.old) if one is not None]
    return any(selects(object_selector, (one.get("metadata") or {}).get("labels") or {}) for one in seen)
