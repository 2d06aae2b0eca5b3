"""The deterministic scheduler behind the bus, its key and its attestation."""
