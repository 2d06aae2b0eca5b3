"""Public metadata and evidence to etcd and Walrus."""
