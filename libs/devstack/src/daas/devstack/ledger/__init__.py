"""A *simulated* Sui ledger for one operator: Move bytecode interpreted behind `sui.rpc.v2`, without any consensus."""
