"""Anchors proofs on Sui and turns chain events into facts on the bus."""
