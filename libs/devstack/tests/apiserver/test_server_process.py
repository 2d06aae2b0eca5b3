"""The server as a process: the recorded transcript, restarts, credentials, size."""

import importlib.util
import json
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil
import pytest

pytestmark = pytest.mark.connected

MAPS = "/api/v1/namespaces/default/configmaps"


def _transcript() -> Any:
    path = Path(__file__).parents[4] / "tests" / "vectors" / "kubectl" / "replay.py"
    spec = importlib.util.spec_from_file_location("kubectl_replay", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_every_recorded_kubectl_command_answers_as_on_a_real_server(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server()
    transcript = _transcript()
    assert len(json.loads(transcript.TRANSCRIPT.read_text())) >= 59
    assert transcript.replay(server.kubeconfig, tmp_path) == []


def test_a_killed_server_comes_back_with_everything_and_goes_on_counting(start_server: Callable[..., Any]) -> None:
    server = start_server()
    _, one = server.request("POST", MAPS, {"metadata": {"name": "one"}, "data": {"a": "1"}})
    _, two = server.request("POST", MAPS, {"metadata": {"name": "two"}})
    server.request("DELETE", f"{MAPS}/two")
    server.kill()
    server = start_server()
    assert server.request("GET", f"{MAPS}/one")[1]["data"] == {"a": "1"}
    assert server.request("GET", f"{MAPS}/two")[0] == 404
    _, three = server.request("POST", MAPS, {"metadata": {"name": "three"}})
    assert int(three["metadata"]["resourceVersion"]) > int(two["metadata"]["resourceVersion"])
    # A watch from before the restart goes on, with the deletion that happened before it.
    since = one["metadata"]["resourceVersion"]
    events = server.watch(f"{MAPS}?watch=true&resourceVersion={since}&timeoutSeconds=1")
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "two"),
        ("DELETED", "two"),
        ("ADDED", "three"),
    ]


def test_the_token_and_the_authority_survive_a_restart(start_server: Callable[..., Any]) -> None:
    first = start_server()
    token, authority = first.token, (first.state / "ca.crt").read_bytes()
    assert first.stop() == 0
    second = start_server()
    assert (second.token, (second.state / "ca.crt").read_bytes()) == (token, authority)


def test_history_that_was_compacted_stays_gone_after_a_restart(start_server: Callable[..., Any]) -> None:
    server = start_server("--history", "50")
    _, one = server.request("POST", MAPS, {"metadata": {"name": "one"}})
    for number in range(120):
        server.request("PUT", f"{MAPS}/one", {"metadata": {"name": "one"}, "data": {"n": str(number)}})
    assert server.stop() == 0
    server = start_server("--history", "50")
    assert server.request("GET", f"{MAPS}/one")[1]["data"] == {"n": "119"}
    since = one["metadata"]["resourceVersion"]
    events = server.watch(f"{MAPS}?watch=true&resourceVersion={since}&timeoutSeconds=1")
    assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 410)]


@pytest.mark.parametrize("token", ["", "not-the-token"])
def test_who_cannot_say_who_they_are_is_unauthorized(start_server: Callable[..., Any], token: str) -> None:
    server = start_server()
    code, body = server.request("GET", "/api/v1/namespaces", token=token)
    assert (code, body["reason"]) == (401, "Unauthorized")


def test_a_client_that_does_not_know_the_authority_refuses_to_talk(start_server: Callable[..., Any]) -> None:
    server = start_server()
    with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urlopen(Request(server.url + "/version"), context=ssl.create_default_context(), timeout=20)


def test_it_says_that_it_is_simulated_and_keeps_its_secrets_to_its_owner(start_server: Callable[..., Any]) -> None:
    server = start_server()
    assert server.ready["simulated"] is True
    assert server.request("GET", "/version")[1]["gitVersion"] == "v1.32.4+daas-simulated"
    private = ("kubeconfig", "admin.token", "server.key")
    assert {oct((server.state / name).stat().st_mode & 0o777) for name in private} == {"0o600"}


def test_an_idle_server_is_small(start_server: Callable[..., Any]) -> None:
    server = start_server()
    assert psutil.Process(server.process.pid).memory_info().rss < 120 << 20


def test_a_watch_ends_when_the_server_stops(start_server: Callable[..., Any]) -> None:
    server = start_server()
    headers = {"Authorization": f"Bearer {server.token}"}
    request = Request(f"{server.url}{MAPS}?watch=true&timeoutSeconds=600", headers=headers)
    with urlopen(request, context=server.tls, timeout=60) as response:
        assert server.stop() == 0
        assert response.read() == b""


def test_without_controllers_a_deleted_pod_on_a_node_waits_for_its_kubelet(start_server: Callable[..., Any]) -> None:
    server = start_server("--no-controllers")
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "example.invalid/c"}]}
    path = "/api/v1/namespaces/default/pods"
    server.request("POST", path, {"metadata": {"name": "web"}, "spec": spec})
    assert server.request("DELETE", f"{path}/web")[1]["metadata"]["deletionGracePeriodSeconds"] == 30
    assert server.request("GET", f"{path}/web")[0] == 200
    server.request("DELETE", f"{path}/web", {"gracePeriodSeconds": 0})
    assert server.request("GET", f"{path}/web")[0] == 404
