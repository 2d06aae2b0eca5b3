"""The launchers of child processes and of nats-server."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daas.common.errors import Conflict, Unavailable
from daas.devstack.nats import NatsServer
from daas.devstack.process import Process

pytestmark = pytest.mark.connected

READY = 'import sys; print("hello"); print(\'{"ready": true, "port": 7}\', flush=True); sys.stdin.read(); '
FOREVER = READY + "import signal; signal.pause()"


def python(tmp_path: Path, code: str, **options: Any) -> Process:
    return Process("child", ["python", "-c", code], log_path=tmp_path / "child.log", **options)


async def test_a_child_announces_itself_and_its_output_is_logged(tmp_path: Path) -> None:
    child = python(tmp_path, FOREVER)
    async with child:
        assert child.ready == {"ready": True, "port": 7}
        assert child.running
        assert child.rss_bytes() > 1_000_000
    assert child.returncode == -signal.SIGTERM
    assert child.rss_bytes() == 0
    assert child.log_tail().startswith("hello\n")


async def test_a_child_that_ends_before_it_is_ready_is_an_error_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="code 3") as failed:
        await python(tmp_path, "import sys; sys.stderr.write('no such file'); sys.exit(3)").start()
    assert "no such file" in str(failed.value)


async def test_a_child_that_never_says_it_is_ready_is_killed(tmp_path: Path) -> None:
    child = python(tmp_path, "import signal; print('almost', flush=True); signal.pause()", ready_timeout_s=1.0)
    with pytest.raises(Unavailable, match="process-not-ready"):
        await child.start()
    assert child.returncode == -signal.SIGKILL


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = python(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER)
    await child.start()
    assert await child.terminate(timeout_s=0.3) == -signal.SIGKILL


async def test_a_child_can_be_killed_and_started_again_with_one_log(tmp_path: Path) -> None:
    child = python(tmp_path, FOREVER)
    await child.start()
    first = child.pid
    with pytest.raises(Unavailable, match="process-running"):
        await child.start()
    await child.kill()
    await child.kill()
    await child.start()
    assert child.pid != first
    await child.terminate()
    assert child.log_tail().count("hello\n") == 2


async def test_a_chatty_child_never_blocks(tmp_path: Path) -> None:
    code = READY + "print('x' * 3_000_000); [print('y' * 1000) for _ in range(3000)]"
    child = python(tmp_path, code)
    await child.start()
    assert await asyncio.wait_for(child.wait(), 100) == 0
    assert child.log_path.stat().st_size > 3_000_000


async def test_children_die_with_their_parent(tmp_path: Path) -> None:
    parent = python(
        tmp_path,
        "import asyncio, pathlib\n"
        "from daas.devstack.process import Process\n"
        "async def main():\n"
        f"    child = Process('grandchild', ['sleep', '1000'], log_path=pathlib.Path({str(tmp_path / 'g.log')!r}),\n"
        "                    announces=False)\n"
        "    await child.start()\n"
        '    print(\'{"ready": true, "pid": %d}\' % child.pid, flush=True)\n'
        "    await child.wait()\n"
        "asyncio.run(main())\n",
    )
    pid = (await parent.start())["pid"]
    assert _alive(pid)
    await parent.kill()
    async with asyncio.timeout(100):
        while _alive(pid):  # noqa: ASYNC110 - another process's end sets no event of ours
            await asyncio.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_environment_and_directory_are_passed_on_and_a_none_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAAS_TEST_GONE", "x")
    code = (
        "import os, json; print(json.dumps({'ready': True, 'cwd': os.getcwd(), "
        "'set': os.environ.get('DAAS_TEST_SET'), 'gone': os.environ.get('DAAS_TEST_GONE')}), flush=True)"
    )
    child = python(tmp_path, code, env={"DAAS_TEST_SET": "1", "DAAS_TEST_GONE": None}, cwd=tmp_path)
    said = await child.start()
    assert (said["cwd"], said["set"], said["gone"]) == (str(tmp_path), "1", None)
    assert await child.wait() == 0


async def test_a_process_that_was_never_started_says_so(tmp_path: Path) -> None:
    child = python(tmp_path, FOREVER)
    assert await child.terminate() is None
    await child.kill()
    with pytest.raises(Unavailable, match="process-not-started"):
        _ = child.pid


async def test_the_server_chooses_its_ports_and_keeps_them_over_a_restart(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "a") as first, NatsServer(tmp_path / "b") as second:
        assert first.url != second.url
        assert first.url.startswith("nats://127.0.0.1:")
        url, pid = first.url, first.process.pid
        await first.kill()
        assert not first.process.running
        await first.restart()
        assert first.url == url
        assert first.process.pid != pid
        async with aiohttp.ClientSession() as session, session.get(f"{first.monitor_url}/jsz") as response:
            assert (await response.json())["config"]["store_dir"].startswith(str(tmp_path / "a"))
    assert not first.process.running


async def test_a_configuration_that_the_server_refuses_is_shown(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no_such_setting"):
        await NatsServer(tmp_path / "nats", config="no_such_setting: 7\n").start()


async def test_a_stranger_on_the_port_is_noticed(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "a") as first:
        second = NatsServer(tmp_path / "b")
        second.url, second.monitor_url = first.url, first.monitor_url
        with pytest.raises((Conflict, Unavailable)):
            await second.start()


async def test_the_configuration_is_for_its_owner_only(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats"):
        assert (tmp_path / "nats" / "nats-server.conf").stat().st_mode & 0o077 == 0
