"""The development Kubernetes API server (simulated): what kubectl and the clients need of the real one, in one process."""

from daas.devstack.apiserver.development import Running, start

__all__ = ["Running", "start"]
