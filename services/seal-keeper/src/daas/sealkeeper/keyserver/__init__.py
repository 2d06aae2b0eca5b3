"""Seal key servers as a process: `daas-key-server`, or `python -m daas.sealkeeper.keyserver`."""
