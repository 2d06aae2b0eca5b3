"""Seals and opens Secrets for others; Seal key servers; the KMS v2 plugin of the API server."""
