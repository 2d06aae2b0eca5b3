"""The KMS v2 plugin: data keys of Kubernetes API servers under seeds that are Seal objects.

`plugin` answers, `seeds` opens the seeds and keeps them in memory, `listener` and `server` listen, `app` puts it all
together. It needs no NATS; and key servers, with a full node behind them, only until the seeds are open.
"""
