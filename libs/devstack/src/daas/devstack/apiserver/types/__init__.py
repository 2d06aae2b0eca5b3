"""The API types as text tables: names, protobuf field numbers, list keys; one module per family."""
