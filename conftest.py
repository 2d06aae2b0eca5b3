"""For all tests: properties are held to behaviour, never to time; how fast something is, benchmarks tell."""

import os

from hypothesis import settings

# Before anything imports gRPC; see daas.devstack.process.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

settings.register_profile("k3s-daas", deadline=None)
settings.load_profile("k3s-daas")
