"""The HTTP API for monitors: what was decided, anchored and bound, as lists, as proofs, and as it happens."""
