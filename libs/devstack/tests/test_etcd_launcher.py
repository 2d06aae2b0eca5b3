"""The etcd launcher: a port the kernel chose, state that survives a kill, no process left behind."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from daas.common.errors import Unavailable
from daas.devstack.etcd import EtcdServer

pytestmark = pytest.mark.connected


@pytest_asyncio.fixture
async def launched_etcd(tmp_path: Path) -> AsyncIterator[EtcdServer]:
    async with EtcdServer(tmp_path / "etcd") as server:
        yield server


def listening_ports(pid: int) -> set[tuple[str, int]]:
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}


async def test_it_listens_on_one_loopback_port_that_the_kernel_chose(launched_etcd: EtcdServer) -> None:
    assert listening_ports(launched_etcd.pid) == {("127.0.0.1", launched_etcd.port)}
    assert launched_etcd.endpoint == f"http://127.0.0.1:{launched_etcd.port}"


async def test_two_servers_started_at_once_get_different_ports(tmp_path: Path) -> None:
    one, two = EtcdServer(tmp_path / "one"), EtcdServer(tmp_path / "two")
    try:
        await asyncio.gather(one.start(), two.start())
        assert one.port != two.port
    finally:
        await asyncio.gather(one.stop(), two.stop())


async def test_after_a_kill_it_comes_back_on_the_same_port_as_another_process(launched_etcd: EtcdServer) -> None:
    pid, port = launched_etcd.pid, launched_etcd.port
    await launched_etcd.kill()
    assert not launched_etcd.running
    assert not psutil.pid_exists(pid)
    await launched_etcd.restart()
    assert launched_etcd.port == port
    assert launched_etcd.pid != pid


async def test_stop_leaves_no_process_behind(tmp_path: Path) -> None:
    server = EtcdServer(tmp_path / "etcd")
    await server.start()
    pid = server.pid
    await server.stop()
    assert not psutil.pid_exists(pid)
    assert not server.running
    await server.stop()


async def test_a_restart_onto_a_port_that_someone_took_says_so(launched_etcd: EtcdServer) -> None:
    await launched_etcd.stop()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", launched_etcd.port))
        thief.listen()
        with pytest.raises(Unavailable, match="address already in use"):
            await launched_etcd.start()
    await launched_etcd.start()
    assert launched_etcd.running


async def test_a_state_directory_that_can_not_be_used_fails_with_the_servers_own_words(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    server = EtcdServer(tmp_path)
    with pytest.raises(Unavailable, match="start-failed"):
        await server.start()
    assert not server.running


async def test_settings_of_another_etcd_in_the_environment_do_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")
    async with EtcdServer(tmp_path / "etcd") as server:
        assert "ETCD_LISTEN_CLIENT_URLS" not in psutil.Process(server.pid).environ()


async def test_before_it_is_started_there_is_no_process(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="process-not-started"):
        _ = EtcdServer(tmp_path).pid
