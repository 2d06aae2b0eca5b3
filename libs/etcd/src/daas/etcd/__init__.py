"""An asyncio etcd v3 client on generated stubs."""
