"""Sealed Kubernetes Secrets: envelopes, stored form, classes, and the messages of a keeper."""
