"""The `sui.rpc.v2` gRPC services over the simulated ledger, and its HTTP control endpoint."""
