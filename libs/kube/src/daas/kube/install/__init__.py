"""Everything a K3s server needs to ask the gateway: certificates, files, manifests; and a check of them."""

from daas.kube.install.check import Finding, check_files
from daas.kube.install.cluster import check_cluster
from daas.kube.install.files import Installation, install, installed, issue_leaves
from daas.kube.install.pki import Authority, Issued, rotate

__all__ = [
    "Authority",
    "Finding",
    "Installation",
    "Issued",
    "check_cluster",
    "check_files",
    "install",
    "installed",
    "issue_leaves",
    "rotate",
]
