"""The key server process: where its keys come from, what it refuses to start with, what it never shows."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from daas.common.errors import ConfigurationError
from daas.seal import MasterKey
from daas.sealkeeper.keyserver.keyfile import ServerKey, make_key_file, read_key_file

IDS = {"DAAS_KEY_SERVER_PACKAGE": "0x" + "ab" * 32, "DAAS_KEY_SERVER_REGISTRY": "0x" + "cd" * 32}
URL = {"DAAS_KEY_SERVER_LEDGER_URL": "http://127.0.0.1:1"}
SECRET = "0123456789abcdef" * 4


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DAAS_")}
    return subprocess.run(
        [sys.executable, "-m", "daas.sealkeeper.keyserver", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_key_file_is_private_is_read_as_it_was_made_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "server.json"
    made = make_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    read = read_key_file(path)
    assert (read.object_id, read.public_key) == (made.object_id, made.public_key)
    with pytest.raises(ConfigurationError):
        make_key_file(path)
    assert make_key_file(tmp_path / "named.json", b"\x07" * 32).object_id == b"\x07" * 32


def test_a_key_file_that_others_may_read_or_that_is_none_is_refused_without_quoting_it(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    for content, mode in [
        (json.dumps({"object_id": "0x" + "11" * 32, "master_key": SECRET}), 0o640),
        (json.dumps({"object_id": "0x11", "master_key": SECRET}), 0o600),
        (json.dumps({"object_id": "0x" + "11" * 32, "master_key": "ff" * 32}), 0o600),
        (f"no JSON: {SECRET}", 0o600),
    ]:
        path.write_text(content)
        path.chmod(mode)
        with pytest.raises(ConfigurationError) as caught:
            read_key_file(path)
        assert SECRET not in str(caught.value)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    for missing in (link, tmp_path / "nothing.json"):
        with pytest.raises(ConfigurationError):
            read_key_file(missing)


def test_a_server_key_neither_prints_nor_pickles_its_secret() -> None:
    key = ServerKey(b"\x01" * 32, bytes.fromhex(SECRET))
    assert key.public_key == MasterKey.from_bytes(bytes.fromhex(SECRET)).public_key
    assert SECRET not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (IDS, "DAAS_KEY_SERVER_LEDGER_URL"),
        (URL | IDS, "DAAS_KEY_SERVER_KEY_FILES"),
        (URL | IDS | {"DAAS_KEY_SERVER_MASTER_KEY": SECRET}, "DAAS_KEY_SERVER_OBJECT_ID"),
        (URL | IDS | {"DAAS_KEY_SERVER_NONSENSE": "1"}, "DAAS_KEY_SERVER_NONSENSE"),
        (URL | IDS | {"DAAS_KEY_SERVER_KEY_FILES": "/nonexistent/key.json"}, "/nonexistent/key.json"),
        (
            URL | IDS | {"DAAS_KEY_SERVER_KEY_FILES": "a", "DAAS_KEY_SERVER_MASTER_KEY": SECRET},
            "contradictory-settings",
        ),
    ],
    ids=["no-ledger", "no-key", "no-object", "unknown", "no-file", "two-sources"],
)
def test_settings_that_cannot_work_refuse_to_start_by_name_and_show_no_key(
    environment: dict[str, str], said: str
) -> None:
    done = run(**environment)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr + done.stdout


def test_help_names_every_setting_and_a_ledger_that_is_away_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for variable in ("DAAS_KEY_SERVER_KEY_FILES", "DAAS_KEY_SERVER_SIMULATED", "DAAS_KEY_SERVER_PORT"):
        assert variable in shown.stdout
    assert run("--wrong").returncode == 2
    keys = {"DAAS_KEY_SERVER_KEY_FILES": str(tmp_path / "key.json"), "DAAS_KEY_SERVER_MAKE_KEYS": "true"}
    away = run(**(URL | IDS | keys))
    assert away.returncode == 1
    assert "daas-key-server: " in away.stderr
    assert "Traceback" not in away.stderr
