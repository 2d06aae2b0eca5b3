"""The demo: nodes, workloads, and the film of how they are placed, proved, anchored, bound and verified."""
