"""What the real server fills in: defaulting of each kind, and what its strategies set on create."""

import base64
from typing import Any

from daas.devstack.apiserver.quantity import parse
from daas.devstack.apiserver.resources import Resource

Object = dict[str, Any]


def _probe(probe: Object) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    if http := probe.get("httpGet"):
        http.setdefault("path", "/")
        http.setdefault("scheme", "HTTP")


def _pull_policy(image: str) -> str:
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def container(one: Object) -> None:
    """Defaults of a container."""
    one.setdefault("resources", {})
    one.setdefault("terminationMessagePath", "/dev/termination-log")
    one.setdefault("terminationMessagePolicy", "File")
    one.setdefault("imagePullPolicy", _pull_policy(one.get("image", "")))
    for port in one.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in one:
            _probe(one[name])
    for variable in one.get("env") or ():
        if reference := (variable.get("valueFrom") or {}).get("fieldRef"):
            reference.setdefault("apiVersion", "v1")
    resources = one["resources"]
    for name, limit in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(name, limit)


def _volume(volume: Object) -> None:
    sources = ("secret", "configMap", "downwardAPI", "projected")
    found = [name for name in sources if name in volume]
    for name in found:
        volume[name].setdefault("defaultMode", 420)
    if len(volume) == 1:
        volume["emptyDir"] = {}
    for source in (volume.get("projected") or {}).get("sources") or ():
        if token := source.get("serviceAccountToken"):
            token.setdefault("expirationSeconds", 3600)
    if path := volume.get("hostPath"):
        path.setdefault("type", "")


def pod_spec(spec: Object) -> None:
    """Defaults of a pod's spec, or a template's."""
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    if account := spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", account)
    elif account := spec.get("serviceAccount"):
        spec["serviceAccountName"] = account
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for one in spec.get(group) or ():
            container(one)
    for volume in spec.get("volumes") or ():
        _volume(volume)
    for constraint in spec.get("topologySpreadConstraints") or ():
        constraint.setdefault("nodeAffinityPolicy", "Honor")
        constraint.setdefault("nodeTaintsPolicy", "Ignore")


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from the cpu and memory of all containers."""
    guaranteed, any_set = True, False
    for one in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = one.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in ("cpu", "memory"):
            request, limit = requests.get(name), limits.get(name)
            wanted = [parse(value) for value in (request, limit) if value is not None]
            any_set = any_set or any(wanted)
            if limit is None or not parse(limit) or (request is not None and parse(request) != parse(limit)):
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _pod(pod: Object) -> None:
    spec = pod.setdefault("spec", {})
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)


def _secret(secret: Object) -> None:
    for name, value in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[name] = base64.b64encode(value.encode()).decode()
    secret.setdefault("type", "Opaque")


def _service(service: Object) -> None:
    spec = service.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port", 0))
    service.setdefault("status", {"loadBalancer": {}})


def _deployment(deployment: Object) -> None:
    spec = deployment.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def _replica_set(replica_set: Object) -> None:
    spec = replica_set.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    if template := spec.get("template"):
        pod_spec(template.setdefault("spec", {}))


def _job(job: Object) -> None:
    spec = job.setdefault("spec", {})
    spec.setdefault("completionMode", "NonIndexed")
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "TerminatingOrFailed")
    pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def _node(node: Object) -> None:
    node.setdefault("spec", {})
    status = node.setdefault("status", {})
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))
    status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
    empty = ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion")
    names = (*empty, "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture")
    status["nodeInfo"] = dict.fromkeys(names, "") | (status.get("nodeInfo") or {})


def _namespace(namespace: Object) -> None:
    labels = namespace["metadata"].setdefault("labels", {})
    labels.setdefault("kubernetes.io/metadata.name", namespace["metadata"].get("name", ""))


def _priority_class(priority: Object) -> None:
    priority.setdefault("value", 0)
    priority.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _claim(claim: Object) -> None:
    claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def _persistent_volume(volume: Object) -> None:
    spec = volume.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")


def _storage_class(storage_class: Object) -> None:
    storage_class.setdefault("reclaimPolicy", "Delete")
    storage_class.setdefault("volumeBindingMode", "Immediate")


_DEFAULTS = {
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _persistent_volume,
    "storageclasses.storage.k8s.io": _storage_class,
    "pods": _pod,
    "secrets": _secret,
    "services": _service,
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "jobs.batch": _job,
    "nodes": _node,
    "namespaces": _namespace,
    "priorityclasses.scheduling.k8s.io": _priority_class,
}


def apply_defaults(resource: Resource, obj: Object) -> None:
    """Fill in what the kind's defaulting sets, on every write."""
    if found := _DEFAULTS.get(resource.key):
        found(obj)


def prepare_for_create(resource: Resource, obj: Object) -> None:
    """What the kind's strategy sets on create only; status sent by the client is dropped where the real server does."""
    key = resource.key
    if key == "pods":
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}
    elif key == "namespaces":
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    elif key in ("deployments.apps", "jobs.batch"):
        obj["status"] = {}
    elif key == "replicasets.apps":
        obj["status"] = {"replicas": 0}
    elif key == "persistentvolumeclaims":
        obj["status"] = {"phase": "Pending"}
    elif key == "persistentvolumes":
        obj["status"] = {"phase": "Available"}
    elif key == "poddisruptionbudgets.policy":
        obj["status"] = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}
    elif key == "services":
        obj["status"] = {"loadBalancer": {}}
