"""Kubernetes to bus: watch, log, binding."""
