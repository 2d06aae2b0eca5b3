"""The launcher of an etcd cluster: one cluster, no port but the clients', and state that survives."""

from pathlib import Path

import psutil
import pytest

from daas.devstack.etcd_cluster import EtcdCluster
from daas.etcd import EtcdClient

pytestmark = pytest.mark.connected


async def test_members_form_one_cluster_that_survives_being_stopped(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path / "etcd")
    async with cluster:
        ids = set()
        for member in cluster.members:
            async with EtcdClient([member.endpoint], timeout_ms=30_000) as client:
                status = await client.status()
                ids.add((status.cluster_id, status.member_id))
                await client.put("k", b"v")
            listening = psutil.Process(member.pid).net_connections(kind="tcp")
            ports = {c.laddr.port for c in listening if c.status == psutil.CONN_LISTEN}
            assert ports == {member.port}
        assert len({cluster_id for cluster_id, _ in ids}) == 1
        assert len(ids) == len(cluster.members) == 3
        endpoints = cluster.endpoints
    assert not any(member.running for member in cluster.members)
    async with cluster, EtcdClient(cluster.endpoints, timeout_ms=30_000) as client:
        assert cluster.endpoints == endpoints
        assert await client.get("k") is not None
