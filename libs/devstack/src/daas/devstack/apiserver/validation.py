"""Validation of objects on create and update, with the field paths and wording of kube-apiserver."""

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
from daas.devstack.apiserver.pod_validation import validate_pod_spec, validate_pod_update
from daas.devstack.apiserver.quantity import BAD_QUANTITY, parse
from daas.devstack.apiserver.resources import Resource

Object = dict[str, Any]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_1123_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*\Z")
DNS_1123_LABEL = re.compile(rf"{_LABEL}\Z")
DNS_1035_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
ANNOTATIONS_BYTES_MAX = 256 << 10
DATA_BYTES_MAX = 1 << 20

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def name_causes(resource: Resource, name: str, field: str = "metadata.name") -> list[Cause]:
    """What is wrong with an object's name."""
    if not name:
        return [required(field, "name or generateName is required")]
    if resource.group == "rbac.authorization.k8s.io":
        bad = name in (".", "..") or "/" in name or "%" in name
        return [invalid_value(field, name, "may not be '.' or '..', nor contain '/' or '%'")] if bad else []
    if resource.key == "namespaces":
        pattern, text, longest = DNS_1123_LABEL, _LABEL_TEXT, 63
    elif resource.key == "services":
        pattern, text, longest = DNS_1035_LABEL, _LABEL_1035_TEXT, 63
    else:
        pattern, text, longest = DNS_1123_SUBDOMAIN, _SUBDOMAIN_TEXT, 253
    out = []
    if len(name) > longest:
        out.append(invalid_value(field, name, f"must be no more than {longest} characters"))
    if not pattern.match(name):
        out.append(invalid_value(field, name, text))
    return out


def qualified_name_causes(key: str, field: str) -> list[Cause]:
    """What is wrong with a label, annotation or taint key."""
    prefix, slash, name = key.rpartition("/")
    out = []
    if slash and not DNS_1123_SUBDOMAIN.match(prefix):
        out.append(invalid_value(field, key, f"prefix part {_SUBDOMAIN_TEXT}"))
    if not name:
        out.append(invalid_value(field, key, "name part must be non-empty"))
    elif len(name) > 63:
        out.append(invalid_value(field, key, "name part must be no more than 63 characters"))
    if not QUALIFIED_NAME.match(name):
        out.append(invalid_value(field, key, _QUALIFIED_TEXT))
    return out


def label_causes(labels: Mapping[str, str], field: str) -> list[Cause]:
    """What is wrong with a map of labels."""
    out = []
    for key, value in labels.items():
        out += qualified_name_causes(key, field)
        if len(value) > 63:
            out.append(invalid_value(field, value, "must be no more than 63 characters"))
        if not LABEL_VALUE.match(value):
            out.append(invalid_value(field, value, _VALUE_TEXT))
    return out


def _meta(resource: Resource, meta: Object) -> list[Cause]:
    out = name_causes(resource, meta.get("name", ""))
    out += label_causes(meta.get("labels") or {}, "metadata.labels")
    annotations = meta.get("annotations") or {}
    size = 0
    for key, value in annotations.items():
        out += qualified_name_causes(key.lower(), "metadata.annotations")
        size += len(key) + len(value)
    if size > ANNOTATIONS_BYTES_MAX:
        text = f"Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes"
        out.append(Cause("FieldValueTooLong", text, "metadata.annotations"))
    for index, owner in enumerate(meta.get("ownerReferences") or ()):
        for name, text in (("apiVersion", "version must not be empty"), ("kind", "must not be empty")):
            if not owner.get(name):
                out.append(invalid_value(f"metadata.ownerReferences[{index}].{name}", "", text))
        for name in ("name", "uid"):
            if not owner.get(name):
                out.append(invalid_value(f"metadata.ownerReferences[{index}].{name}", "", "must not be empty"))
    for finalizer in meta.get("finalizers") or ():
        out += qualified_name_causes(finalizer, "metadata.finalizers")
        if "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion", "kubernetes"):
            text = "name is neither a standard finalizer name nor is it fully qualified"
            out.append(invalid_value("metadata.finalizers[0]", finalizer, text))
    return out


def _node(node: Object) -> list[Cause]:
    out: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate((node.get("spec") or {}).get("taints") or ()):
        field = f"metadata.taints[{index}]"
        out += qualified_name_causes(taint.get("key", ""), f"{field}.key")
        if not LABEL_VALUE.match(taint.get("value", "")):
            out.append(invalid_value(f"{field}.value", taint["value"], _VALUE_TEXT))
        effect = taint.get("effect", "")
        if not effect:
            out.append(required(f"{field}.effect"))
        elif effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            allowed = ("NoExecute", "NoSchedule", "PreferNoSchedule")
            out.append(unsupported_value(f"{field}.effect", effect, allowed))
        if (taint.get("key", ""), effect) in seen:
            out.append(duplicate(field, f"{taint.get('key', '')}:{effect}"))
        seen.add((taint.get("key", ""), effect))
    status = node.get("status") or {}
    for group in ("capacity", "allocatable"):
        for name, amount in (status.get(group) or {}).items():
            value = parse(amount)
            if value is None:
                out.append(invalid_value(f"status.{group}[{name}]", amount, BAD_QUANTITY))
            elif value < 0:
                out.append(invalid_value(f"status.{group}[{name}]", amount, "must be greater than or equal to 0"))
    return out


def _data(obj: Object, *, fields: tuple[str, ...]) -> list[Cause]:
    out: list[Cause] = []
    size = 0
    for field in fields:
        for key, value in (obj.get(field) or {}).items():
            if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) or key in (".", ".."):
                text = (
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
                    "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                )
                out.append(invalid_value(f"{field}[{key}]", key, text))
            size += len(value) * 3 // 4 if field != "data" or obj.get("type") else len(value)
    if size > DATA_BYTES_MAX:
        text = f"Too long: may not be more than {DATA_BYTES_MAX} bytes"
        out.append(Cause("FieldValueTooLong", text, fields[0] if obj.get("type") else ""))
    return out


_SECRET_KEYS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _secret(secret: Object) -> list[Cause]:
    out = _data(secret, fields=("data",))
    for key in _SECRET_KEYS.get(secret.get("type", ""), ()):
        if key not in (secret.get("data") or {}):
            out.append(required(f"data[{key}]"))
    return out


def _service(service: Object) -> list[Cause]:
    spec = service.get("spec") or {}
    out: list[Cause] = []
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec.get("type") not in kinds:
        out.append(unsupported_value("spec.type", spec.get("type", ""), kinds))
    headless = spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName"
    ports = spec.get("ports") or ()
    if not ports and not headless:
        out.append(required("spec.ports"))
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            out.append(required(f"{field}.name"))
        if not 1 <= port.get("port", 0) <= 65535:
            text = "must be between 1 and 65535, inclusive"
            out.append(invalid_value(f"{field}.port", port.get("port", 0), text))
    return out


def _lease(lease: Object) -> list[Cause]:
    spec = lease.get("spec") or {}
    out = []
    if (seconds := spec.get("leaseDurationSeconds")) is not None and seconds <= 0:
        out.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if (count := spec.get("leaseTransitions")) is not None and count < 0:
        out.append(invalid_value("spec.leaseTransitions", count, "must be greater than or equal to 0"))
    return out


def _event(event: Object) -> list[Cause]:
    involved = (event.get("involvedObject") or {}).get("namespace", "")
    namespace = event["metadata"].get("namespace", "")
    if involved != namespace and not (involved == "" and namespace == "default"):
        where = "involvedObject.namespace"
        return [invalid_value(where, involved, "does not match event.namespace")]
    return []


def _template(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    template = spec.get("template") or {}
    out = validate_pod_spec(template.get("spec") or {}, "spec.template.spec")
    if "selector" in spec:
        labels = (template.get("metadata") or {}).get("labels") or {}
        wanted = spec["selector"].get("matchLabels") or {}
        if any(labels.get(key) != value for key, value in wanted.items()):
            text = "`selector` does not match template `labels`"
            out.append(Cause("FieldValueInvalid", f"Invalid value: {labels}: {text}", "spec.template.metadata.labels"))
    return out


def _workload(obj: Object) -> list[Cause]:
    if not (obj.get("spec") or {}).get("selector"):
        return [required("spec.selector"), *_template(obj)]
    return _template(obj)


_VALIDATORS = {
    "pods": lambda pod: validate_pod_spec(pod.get("spec") or {}, "spec"),
    "nodes": _node,
    "configmaps": lambda one: _data(one, fields=("data", "binaryData")),
    "secrets": _secret,
    "services": _service,
    "leases.coordination.k8s.io": _lease,
    "events": _event,
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "jobs.batch": _template,
}


def validate_create(resource: Resource, obj: Object) -> list[Cause]:
    """What is wrong with a new object; empty if nothing."""
    out = _meta(resource, obj["metadata"])
    if validator := _VALIDATORS.get(resource.key):
        out += validator(obj)
    return out


def validate_update(resource: Resource, new: Object, old: Object, subresource: str) -> list[Cause]:
    """What is wrong with an update; empty if nothing."""
    out = _meta(resource, new["metadata"])
    for name in ("name", "namespace", "uid"):
        before, after = old["metadata"].get(name), new["metadata"].get(name)
        if before != after:
            out.append(invalid_value(f"metadata.{name}", after or "", "field is immutable"))
    key = resource.key
    if key == "pods" and not subresource:
        return out + validate_pod_update(new, old)
    if key in ("configmaps", "secrets"):
        if old.get("immutable") and (not new.get("immutable") or new.get("data") != old.get("data")):
            out.append(forbidden_field("data", "field is immutable when `immutable` is set"))
        if key == "secrets" and new.get("type") != old.get("type"):
            out.append(invalid_value("type", new.get("type", ""), "field is immutable"))
    if key in ("deployments.apps", "replicasets.apps") and not subresource:
        before, after = (one.get("spec", {}).get("selector") for one in (old, new))
        if before != after:
            out.append(Cause("FieldValueInvalid", f"Invalid value: {after}: field is immutable", "spec.selector"))
    if validator := _VALIDATORS.get(key):
        out += validator(new)
    return out
