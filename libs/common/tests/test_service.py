"""The service shell: readiness with reasons, endpoints, tasks, hooks, exit codes; in this process and as a real one."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bus_stage import Stage

from daas.common.bus import Event
from daas.common.errors import ConfigurationError, InvalidInput, Unavailable
from daas.common.messages import EnclaveRevoked
from daas.common.service import ServiceApp
from daas.common.subjects import ENCLAVE_REVOKED, PLACEMENT_DECIDED, POLICY_EVALUATE, Service
from daas.devstack.process import Process

pytestmark = pytest.mark.connected

SCRIPT = '''
import sys
from daas.common.bus import Event
from daas.common.messages import EnclaveRevoked
from daas.common.service import ServiceApp, ServiceSettings, main
from daas.common.subjects import ENCLAVE_REVOKED, Service


class StorageSettings(ServiceSettings):
    """Settings of a service made for a test."""

    service = Service.STORAGE


def build(settings: StorageSettings) -> ServiceApp:
    app = ServiceApp(Service.STORAGE, settings)

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked)
    async def note(event: Event[EnclaveRevoked]) -> None:
        app.status["seen"] = event.sequence

    return app


sys.exit(main(StorageSettings, build))
'''


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def checks(app: ServiceApp) -> dict[str, Any]:
    _, text = await get(f"{app.http_url}/readyz")
    found: dict[str, Any] = json.loads(text)["checks"]
    return found


async def test_a_ready_service_says_so_everywhere(
    stage: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    app = stage.app(Service.STORAGE, ready_file=tmp_path / "ready")

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked)
    async def nothing(_event: Event[EnclaveRevoked]) -> None: ...

    app.status["head"] = 7
    async with stage.serving(app):
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert line == {"ready": True, "service": "storage", "http": app.http_url}
        assert json.loads((tmp_path / "ready").read_text()) == line
        assert (await get(f"{app.http_url}/healthz"))[0] == 200
        assert (await get(f"{app.http_url}/readyz"))[0] == 200
        status = json.loads((await get(f"{app.http_url}/status"))[1])
        assert (status["service"], status["cluster"], status["ready"], status["head"]) == ("storage", "dev", True, 7)
        assert status["consumers"]["enclave.revoked"]["pending"] == 0
        metrics = (await get(f"{app.http_url}/metrics"))[1]
        assert "daas_nats_connected 1.0" in metrics
        assert "process_resident_memory_bytes" in metrics
    assert not (tmp_path / "ready").exists()


async def test_a_service_waits_for_nats_and_says_why_it_is_not_ready(stage: Stage) -> None:
    await stage.server.kill()
    app = stage.app(Service.STORAGE, nats_start_timeout_s=30)
    async with stage.serving(app, ready=False):
        await stage.until(lambda: app.http_url)
        assert (await get(f"{app.http_url}/healthz"))[0] == 200
        assert (await get(f"{app.http_url}/readyz"))[0] == 503
        assert (await checks(app))["nats"]["reason"] == "nats-disconnected"
        await stage.server.restart()
        await stage.until(app.ready.is_set)


async def test_a_service_gives_up_waiting_for_nats(stage: Stage) -> None:
    await stage.server.kill()
    assert await stage.app(Service.STORAGE, nats_start_timeout_s=0.3).serve() == 1


async def test_a_service_is_not_ready_while_nats_is_away_and_ready_again_after(stage: Stage) -> None:
    app = stage.app(Service.STORAGE)
    async with stage.serving(app):
        await stage.server.kill()

        async def down() -> bool:
            return (await checks(app))["nats"].get("reason") in {"nats-disconnected", "nats-timeout"}

        async def up() -> bool:
            return all(check["ok"] for check in (await checks(app)).values())

        await stage.until(down)
        await stage.server.restart()
        await stage.until(up)


async def test_a_failing_check_holds_readiness_back_with_its_reason(stage: Stage) -> None:
    app = stage.app(Service.STORAGE)
    well = asyncio.Event()

    @app.check("etcd")
    async def etcd() -> None:
        if not well.is_set():
            raise Unavailable("etcd does not answer", reason="etcd-away")

    @app.check("broken")
    async def broken() -> None:
        if not well.is_set():
            raise ZeroDivisionError

    async with stage.serving(app, ready=False):
        await stage.until(lambda: app._running is not None and app.http_url)
        found = await checks(app)
        assert found["etcd"] == {"ok": False, "reason": "etcd-away", "message": "etcd does not answer"}
        assert found["broken"]["reason"] == "unexpected-error"
        assert not app.ready.is_set()
        well.set()
        await stage.until(app.ready.is_set)


async def test_a_task_that_ends_or_raises_stops_the_service_with_exit_code_1(stage: Stage) -> None:
    async def ends() -> None:
        return

    async def raises() -> None:
        raise Unavailable("the ledger is gone", reason="ledger-gone")

    async def breaks() -> None:
        raise ZeroDivisionError

    for run in (ends, raises, breaks):
        app = stage.app(Service.STORAGE)
        app.task("work")(run)
        assert await app.serve() == 1


async def test_hooks_and_tasks_run_in_order_and_a_cancelled_task_may_finish(stage: Stage) -> None:
    app = stage.app(Service.STORAGE)
    order: list[str] = []

    @app.on_start
    async def first() -> None:
        await app.bus.check()
        order.append("start")

    @app.task("work")
    async def work() -> None:
        order.append("task")
        try:
            await asyncio.Event().wait()
        finally:
            await app.bus.check()
            order.append("task finished")

    @app.on_stop
    async def last() -> None:
        order.append("stop, registered first")

    @app.on_stop
    async def but_one() -> None:
        await app.bus.check()
        order.append("stop, registered last")
        raise ZeroDivisionError

    async with stage.serving(app) as serving:
        app.stop()
        assert await serving == 0
    assert order == ["start", "task", "task finished", "stop, registered last", "stop, registered first"]


async def test_a_start_hook_that_fails_stops_the_service(stage: Stage) -> None:
    for error, code in (
        (Unavailable("no", reason="no"), 1),
        (ConfigurationError("no", reason="no"), 2),
        (ZeroDivisionError(), 1),
    ):
        app = stage.app(Service.STORAGE)

        async def fail(error: Exception = error) -> None:
            raise error

        app.on_start(fail)
        assert await app.serve() == code


async def test_a_port_that_is_taken_stops_the_service(stage: Stage) -> None:
    app = stage.app(Service.STORAGE)
    async with stage.serving(app):
        port = int(app.http_url.rpartition(":")[2])
        assert await stage.app(Service.STORAGE, http_port=port).serve() == 1


async def test_only_subjects_of_the_catalogue_row_can_be_handled_and_once(stage: Stage) -> None:
    app = stage.app(Service.STORAGE)

    @app.on(ENCLAVE_REVOKED, EnclaveRevoked)
    async def nothing(_event: Event[EnclaveRevoked]) -> None: ...

    with pytest.raises(ConfigurationError, match="second-handler"):
        app.on(ENCLAVE_REVOKED, EnclaveRevoked)
    with pytest.raises(InvalidInput, match="not-a-consumer"):
        stage.app(Service.GATEWAY).on(PLACEMENT_DECIDED, EnclaveRevoked)
    with pytest.raises(ConfigurationError, match="no-stream"):
        stage.app(Service.ENCLAVE).on(POLICY_EVALUATE, EnclaveRevoked)


async def test_a_service_process_announces_itself_handles_stays_small_and_stops_in_order(
    stage: Stage, tmp_path: Path
) -> None:
    script = tmp_path / "storage_service.py"
    script.write_text(SCRIPT)
    bus = await stage.bus(Service.RELAY)
    process = Process(
        "storage", [sys.executable, script], log_path=tmp_path / "log", env={"DAAS_NATS_URL": stage.server.url}
    )
    async with process:
        assert process.ready["service"] == "storage"
        revoked = EnclaveRevoked(public_key="ab" * 32, enclave=None, reason="r", message="m", simulated=True)
        await bus.publish(ENCLAVE_REVOKED, revoked, message_id="x")

        async def handled() -> bool:
            return bool(json.loads((await get(f"{process.ready['http']}/status"))[1]).get("seen") == 1)

        await stage.until(handled)
        assert process.rss_bytes() < 80_000_000
        assert await process.terminate() == 0
    events = [json.loads(line).get("event") for line in process.log_tail().splitlines()]
    assert events[-2:] == ["stopping", "stopped"]


async def test_a_service_process_refuses_an_unknown_setting_and_explains_the_known_ones(tmp_path: Path) -> None:
    script = tmp_path / "storage_service.py"
    script.write_text(SCRIPT)
    process = Process(
        "storage",
        [sys.executable, script],
        log_path=tmp_path / "log",
        env={"DAAS_STORAGE_COLOUR": "blue"},
        announces=False,
    )
    await process.start()
    assert await process.wait() == 2
    assert "DAAS_STORAGE_COLOUR is not a setting" in process.log_tail()
    told = Process("storage", [sys.executable, script, "--help"], log_path=tmp_path / "help", announces=False)
    await told.start()
    assert await told.wait() == 0
    assert "DAAS_NATS_URL" in told.log_tail()
