"""Strict verifier for AWS Nitro attestation documents, and an NSM client."""
