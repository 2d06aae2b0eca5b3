"""The development Kubernetes API server (simulated): what kubectl and clients need of a real one."""

from daas.devstack.apiserver.development import Running, start

__all__ = ["Running", "start"]
