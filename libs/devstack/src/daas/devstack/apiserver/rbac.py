"""RBAC over the stored roles and bindings, without aggregation: who is granted what, and nothing is ever denied."""

from collections.abc import Iterator
from typing import Any

from daas.devstack.apiserver.access import Attributes, Decision, MastersOnly, User
from daas.devstack.apiserver.resources import BY_KEY
from daas.devstack.apiserver.storage import Storage

Object = dict[str, Any]

_GROUP = "rbac.authorization.k8s.io"
_CLUSTER_ROLES, _ROLES = BY_KEY[f"clusterroles.{_GROUP}"], BY_KEY[f"roles.{_GROUP}"]
_CLUSTER_BINDINGS, _BINDINGS = BY_KEY[f"clusterrolebindings.{_GROUP}"], BY_KEY[f"rolebindings.{_GROUP}"]


class Rbac:
    """What the bindings in the store grant, on top of what every cluster grants from the start."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._bootstrap = MastersOnly()

    async def authorize(self, user: User, attributes: Attributes) -> Decision:
        """Allowed, or no opinion."""
        first = await self._bootstrap.authorize(user, attributes)
        if first.allowed:
            return first
        for reason, rules in self._granted(user, attributes.namespace):
            if any(_covers(rule, attributes) for rule in rules):
                return Decision(allowed=True, reason=reason)
        return Decision(allowed=False)

    def _granted(self, user: User, namespace: str) -> Iterator[tuple[str, list[Object]]]:
        for record in self._storage.records(_CLUSTER_BINDINGS, None):
            binding = record.object()
            if subject := _subject(binding, user, ""):
                role = binding["roleRef"].get("name", "")
                reason = f'RBAC: allowed by ClusterRoleBinding "{record.name}" of ClusterRole "{role}" to {subject}'
                yield reason, self._rules(binding, "")
        if not namespace:
            return
        for record in self._storage.records(_BINDINGS, namespace):
            binding = record.object()
            if subject := _subject(binding, user, namespace):
                role = f'{binding["roleRef"].get("kind", "")} "{binding["roleRef"].get("name", "")}"'
                reason = f'RBAC: allowed by RoleBinding "{record.name}/{namespace}" of {role} to {subject}'
                yield reason, self._rules(binding, namespace)

    def _rules(self, binding: Object, namespace: str) -> list[Object]:
        role = binding["roleRef"]
        if role.get("kind") == "Role":
            record = self._storage.get(_ROLES, namespace, role.get("name", ""))
        else:
            record = self._storage.get(_CLUSTER_ROLES, "", role.get("name", ""))
        rules: list[Object] = (record.object().get("rules") or []) if record else []
        return rules


def _subject(binding: Object, user: User, namespace: str) -> str:
    """The first subject of a binding that is this user, as the reason names it; empty where none is."""
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name", "")
        if (kind == "User" and name == user.username) or (kind == "Group" and name in user.groups):
            return f'{kind} "{name}"'
        where = subject.get("namespace") or namespace
        if kind == "ServiceAccount" and user.username == f"system:serviceaccount:{where}:{name}":
            return f'ServiceAccount "{name}/{where}"'
    return ""


def _covers(rule: Object, wanted: Attributes) -> bool:
    def has(names: list[str] | None, value: str) -> bool:
        return "*" in (names or ()) or value in (names or ())

    if not has(rule.get("verbs"), wanted.verb):
        return False
    if wanted.path:
        return any(
            one in ("*", wanted.path) or (one.endswith("*") and wanted.path.startswith(one[:-1]))
            for one in rule.get("nonResourceURLs") or ()
        )
    resource = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    resources = rule.get("resources") or []
    matched = has(resources, resource) or (bool(wanted.subresource) and f"*/{wanted.subresource}" in resources)
    names = rule.get("resourceNames")
    return has(rule.get("apiGroups"), wanted.group) and matched and (not names or wanted.name in names)
