"""What an installation says about admission: two webhooks for what has to be asked, policies for what is a fixed rule.

Whose request it is decides nothing here, but for mirror pods, which only a kubelet makes: administrators and service
accounts store Secrets too. An outage of the gateway holds up no more than pods of managed namespaces and Secrets that
ask to be sealed; the policies are evaluated by the API server itself, and so are in force in every namespace.
"""

from typing import Any, Final

Object = dict[str, Any]

SEAL_POLICY_LABEL: Final = "k3s-daas.io/seal-policy"
SENSITIVE_LABEL: Final = "k3s-daas.io/sensitive"
#: What the binder says about a placement.
PROOF_ANNOTATIONS: Final = (
    "k3s-daas.io/proof", "k3s-daas.io/payload-digest", "k3s-daas.io/anchor-tx", "k3s-daas.io/simulated",
)  # fmt: skip
MUTATE, VALIDATE = "/mutate", "/validate"
_API: Final = "admissionregistration.k8s.io/v1"
_NAME: Final = "k3s-daas"


def admission(gateway_url: str, ca_bundle: str, managed_label: str) -> list[Object]:
    """Webhooks, and the static rules that need no webhook at all."""
    managed = {"matchLabels": {managed_label: "true"}}
    return [
        {"apiVersion": _API, "kind": "MutatingWebhookConfiguration", "metadata": {"name": _NAME},
         "webhooks": [_pods(gateway_url, ca_bundle, managed), _seal(gateway_url, ca_bundle)]},
        {"apiVersion": _API, "kind": "ValidatingWebhookConfiguration", "metadata": {"name": _NAME},
         "webhooks": [_sealed(gateway_url, ca_bundle)]},
        *_sensitive_configmaps(),
        *_proof_annotations(),
        *_node_names(managed),
    ]  # fmt: skip


def _rule(operations: list[str], resources: list[str]) -> Object:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": operations,
        "resources": resources,
        "scope": "Namespaced",
    }


def _hook(name: str, url: str, ca_bundle: str, rule: Object, timeout_s: int) -> Object:
    return {
        "name": name,
        "clientConfig": {"url": url, "caBundle": ca_bundle},
        "rules": [rule],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": timeout_s,
    }


def _pods(gateway_url: str, ca_bundle: str, managed: Object) -> Object:
    """Pods of managed namespaces, also those that controllers make; not the mirror pods of kubelets."""
    hook = _hook("pods.k3s-daas.io", gateway_url + MUTATE, ca_bundle, _rule(["CREATE"], ["pods"]), 3)
    return hook | {
        "reinvocationPolicy": "IfNeeded",
        "namespaceSelector": managed,
        "matchConditions": [
            {"name": "not-nodes", "expression": "!request.userInfo.username.startsWith('system:node:')"}
        ],
    }


def _labelled() -> Object:
    return {"matchExpressions": [{"key": SEAL_POLICY_LABEL, "operator": "Exists"}]}


def _seal(gateway_url: str, ca_bundle: str) -> Object:
    """Secrets that ask for it, whoever writes them and wherever; sealing takes the keeper some seconds."""
    rule = _rule(["CREATE", "UPDATE"], ["secrets"])
    hook = _hook("seal.k3s-daas.io", gateway_url + MUTATE, ca_bundle, rule, 10)
    return hook | {"reinvocationPolicy": "IfNeeded", "objectSelector": _labelled()}


def _sealed(gateway_url: str, ca_bundle: str) -> Object:
    """The same Secrets once more when nothing changes them any longer: stored sealed or not at all."""
    rule = _rule(["CREATE", "UPDATE"], ["secrets"])
    hook = _hook("secrets.k3s-daas.io", gateway_url + VALIDATE, ca_bundle, rule, 3)
    return hook | {"objectSelector": _labelled()}


def _sensitive_configmaps() -> list[Object]:
    """No ConfigMap becomes sensitive, and one that was when this came into force does not become public."""
    held = [
        f"(has(object.metadata.labels) && '{label}' in object.metadata.labels) == "
        f"(oldObject != null && has(oldObject.metadata.labels) && '{label}' in oldObject.metadata.labels)"
        for label in (SENSITIVE_LABEL, SEAL_POLICY_LABEL)
    ]
    return _policy(
        "k3s-daas-sensitive-configmaps",
        {"resourceRules": [_rule(["CREATE", "UPDATE"], ["configmaps"])]},
        [(one, "a sensitive ConfigMap belongs into a sealed Secret; the label comes and goes with the object")
         for one in held],
    )  # fmt: skip


def _proof_annotations() -> list[Object]:
    """They come with pods/binding, which is no update of the pod, and stay; metadata can be written by /status too."""
    names = ", ".join(f"'{name}'" for name in PROOF_ANNOTATIONS)
    unchanged = (
        f"[{names}].all(name, (name in variables.now) == (name in variables.before) && "
        "(!(name in variables.now) || variables.now[name] == variables.before[name]))"
    )
    return _policy(
        "k3s-daas-proof-annotations",
        {"resourceRules": [_rule(["CREATE"], ["pods"]), _rule(["UPDATE"], ["pods", "pods/*"])]},
        [(unchanged, "proof annotations come with the binding and nowhere else, and stay as they are")],
        variables=[
            ("now", "has(object.metadata.annotations) ? object.metadata.annotations : {}"),
            ("before", ("oldObject != null && has(oldObject.metadata.annotations) ? "
                       "oldObject.metadata.annotations : {}")),
        ],
    )  # fmt: skip


def _node_names(managed: Object) -> list[Object]:
    """Whoever names a node has no need of a scheduler. A DaemonSet's pods name theirs by affinity and are scheduled."""
    mirror = (
        "has(object.metadata.annotations) && 'kubernetes.io/config.mirror' in object.metadata.annotations && "
        "request.userInfo.username == 'system:node:' + object.spec.nodeName"
    )
    return _policy(
        "k3s-daas-node-names",
        {"namespaceSelector": managed, "resourceRules": [_rule(["CREATE"], ["pods"])]},
        [(f"!has(object.spec.nodeName) || object.spec.nodeName == '' || ({mirror})",
          "the nodes of this namespace's pods are decided by its scheduler: use affinity, not nodeName")],
    )  # fmt: skip


def _policy(
    name: str, constraints: Object, rules: list[tuple[str, str]], variables: list[tuple[str, str]] | None = None
) -> list[Object]:
    spec: Object = {"failurePolicy": "Fail", "matchConstraints": constraints}
    if variables:
        spec["variables"] = [{"name": one, "expression": expression} for one, expression in variables]
    spec["validations"] = [
        {"expression": expression, "message": message, "reason": "Forbidden"} for expression, message in rules
    ]
    return [
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec},
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]
