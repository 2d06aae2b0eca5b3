"""Kubernetes KMS v2: messages, stored objects, and key encryption keys that are Seal objects.

`api_pb2`, `rpc` and `stored` are what API servers and plugins agree on. `envelope`, `keyring`, `seal` and `restore` are
this project's plugin: what it makes of a data key, which sealed seeds it knows, how they are opened, and how everything
is read again without it.
"""
