"""The objects of the API that belong to an installation: namespace, RBAC, admission webhooks, admission policies."""

from typing import Any, Final

Object = dict[str, Any]

NAMESPACE: Final = "k3s-daas"
SERVICE_ACCOUNT: Final = "gateway"
SEAL_POLICY_LABEL: Final = "k3s-daas.io/seal-policy"
SENSITIVE_LABEL: Final = "k3s-daas.io/sensitive"
#: Everyone with a valid login token is in this group; what they may do beyond it is RBAC's and stake's business.
STAKERS: Final = "daas:stakers"
_ADMISSION: Final = "admissionregistration.k8s.io/v1"
_RBAC: Final = "rbac.authorization.k8s.io"


def namespace() -> list[Object]:
    """Ours; not managed by ourselves, so that the gateway can start while it is away."""
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]


def rbac() -> list[Object]:
    """What the gateway's service account may do: read, bind, report, and hold its lease."""
    rules = [
        {"apiGroups": [""], "resources": ["nodes", "pods", "namespaces", "services", "replicationcontrollers"],
         "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims", "persistentvolumes"],
         "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses", "csinodes"],
         "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["scheduling.k8s.io", "scheduling.x-k8s.io"], "resources": ["podgroups"],
         "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        # Of Secrets the gateway asks for metadata alone: whether a pod that is admitted mounts a sealed one.
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["replicasets", "statefulsets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/binding", "bindings"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch", "update"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "get", "patch", "update"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["k3s-daas-gateway"],
         "verbs": ["get", "update"]},
    ]  # fmt: skip
    account = {"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}
    name = "k3s-daas-gateway"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount",
         "metadata": {"name": SERVICE_ACCOUNT, "namespace": NAMESPACE}},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
         "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name}, "subjects": [account]},
    ]  # fmt: skip


def _rule(operations: list[str], resources: list[str]) -> Object:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": operations,
        "resources": resources,
        "scope": "Namespaced",
    }


def admission(gateway_url: str, ca_bundle: str, managed_label: str) -> list[Object]:
    """Webhooks for managed namespaces, and the static rules that need no webhook at all."""
    selector = {"matchLabels": {managed_label: "true"}}
    common: Object = {
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 3,
        "namespaceSelector": selector,
        "matchConditions": [{"name": "not-system", "expression": "!request.userInfo.username.startsWith('system:')"}],
    }
    mutating = {
        "name": "pods.k3s-daas.io",
        "clientConfig": {"url": f"{gateway_url}/mutate", "caBundle": ca_bundle},
        "rules": [_rule(["CREATE"], ["pods"])],
        "reinvocationPolicy": "IfNeeded",
        **common,
    }
    # Controllers (a ReplicaSet's, a Job's) create pods as system:serviceaccount:kube-system:*: theirs are ours too.
    mutating["matchConditions"] = [
        {"name": "not-nodes", "expression": "!request.userInfo.username.startsWith('system:node:')"}
    ]
    sealing = {
        "name": "seal.k3s-daas.io",
        "clientConfig": {"url": f"{gateway_url}/mutate", "caBundle": ca_bundle},
        "rules": [_rule(["CREATE", "UPDATE"], ["secrets"])],
        "objectSelector": {"matchExpressions": [{"key": SEAL_POLICY_LABEL, "operator": "Exists"}]},
        "reinvocationPolicy": "IfNeeded",
        **common,
        "timeoutSeconds": 10,
    }
    validating = {
        "name": "secrets.k3s-daas.io",
        "clientConfig": {"url": f"{gateway_url}/validate", "caBundle": ca_bundle},
        "rules": [_rule(["CREATE", "UPDATE"], ["secrets", "configmaps"])],
        **common,
    }
    return [
        {"apiVersion": _ADMISSION, "kind": "MutatingWebhookConfiguration", "metadata": {"name": "k3s-daas"},
         "webhooks": [mutating, sealing]},
        {"apiVersion": _ADMISSION, "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "k3s-daas"},
         "webhooks": [validating]},
        *_policy(
            "k3s-daas-sensitive-configmaps", selector, ["configmaps"],
            f"!has(object.metadata.labels) || !('{SENSITIVE_LABEL}' in object.metadata.labels)",
            "a sensitive ConfigMap belongs into a sealed Secret",
        ),
        *_policy(
            "k3s-daas-proof-annotations", selector, ["pods"],
            "!has(object.metadata.annotations) || "
            "!object.metadata.annotations.exists(name, name in ['k3s-daas.io/proof', 'k3s-daas.io/payload-digest', "
            "'k3s-daas.io/anchor-tx'])",
            "proof annotations come with the binding and nowhere else",
        ),
    ]  # fmt: skip


def _policy(name: str, selector: Object, resources: list[str], expression: str, message: str) -> list[Object]:
    return [
        {
            "apiVersion": _ADMISSION,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "namespaceSelector": selector,
                    "resourceRules": [_rule(["CREATE"], resources)],
                },
                "validations": [{"expression": expression, "message": message, "reason": "Forbidden"}],
            },
        },
        {
            "apiVersion": _ADMISSION,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]
