"""Kubernetes client, reflector and the models of the fields we read."""
