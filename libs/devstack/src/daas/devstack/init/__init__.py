"""Prepares a development system whose parts run in containers: `python -m daas.devstack.init identities|deploy`.

`identities` comes before everything: an NKey for each service, a certificate and the configuration for NATS, the files
by which the API server asks the gateway and encrypts at rest, a master key for each Seal key server. `deploy` comes
when the servers are up: it declares the bus, publishes the Move package, creates the registry (simulated) and the seeds
of encryption at rest, and writes down for each part and for the command line what they need to know. Both may be
repeated; what was made stays.
"""
