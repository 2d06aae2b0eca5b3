"""Everything a K3s server needs to ask the gateway: certificates, files, manifests; and a check of them."""

from daas.kube.install.files import Installation, install
from daas.kube.install.pki import Authority, Issued, rotate

__all__ = ["Authority", "Installation", "Issued", "install", "rotate"]
