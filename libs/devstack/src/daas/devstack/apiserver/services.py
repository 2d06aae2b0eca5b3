"""Cluster addresses for services: the next free one of the development service network."""

from ipaddress import IPv4Address

from daas.devstack.apiserver.errors import Cause, invalid
from daas.devstack.apiserver.resources import BY_KEY, Object
from daas.devstack.apiserver.storage import Storage

FIRST = int(IPv4Address("10.43.0.10"))  # K3s's default service network
COUNT_MAX = 65_000
NODE_PORT_FIRST, NODE_PORT_LAST = 30_000, 32_767


def allocate_cluster_ip(storage: Storage, service: Object) -> None:
    """Set clusterIP, clusterIPs, the IP family and node ports. Raises ApiError 422 for an address that is taken."""
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return
    taken: set[str] = set()
    ports: set[int] = set()
    for record in storage.records(BY_KEY["services"], None):
        other = record.object()["spec"]
        taken.add(other.get("clusterIP", ""))
        ports |= {one["nodePort"] for one in other.get("ports") or () if one.get("nodePort")}
    asked = spec.get("clusterIP", "")
    if asked and asked != "None" and asked in taken:
        text = f'Invalid value: ["{asked}"]: failed to allocate IP {asked}: provided IP is already allocated'
        cause = Cause("FieldValueInvalid", text, "spec.clusterIPs")
        raise invalid("Service", "", service["metadata"]["name"], [cause])
    if not asked:
        asked = next(str(IPv4Address(FIRST + n)) for n in range(COUNT_MAX) if str(IPv4Address(FIRST + n)) not in taken)
    spec["clusterIP"], spec["clusterIPs"] = asked, [asked]
    spec["ipFamilies"], spec["ipFamilyPolicy"] = ["IPv4"], "SingleStack"
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        for port in spec.get("ports") or ():
            if not port.get("nodePort"):
                port["nodePort"] = next(n for n in range(NODE_PORT_FIRST, NODE_PORT_LAST + 1) if n not in ports)
            ports.add(port["nodePort"])
