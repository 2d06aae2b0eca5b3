"""The deterministic scheduling engine, its proofs and the replay verifier."""
