"""Encryption at rest as kube-apiserver does it: an EncryptionConfiguration with KMS v2 providers and identity."""
