"""Settings from the environment, their help, and what is refused."""

import pytest
from pydantic import Field, SecretStr

from daas.common.errors import ConfigurationError
from daas.common.settings import BusSettings, ServiceSettings, help_text, load, main
from daas.common.subjects import Service


class RelaySettings(ServiceSettings):
    """Settings of the relay in these tests."""

    service = Service.RELAY
    relay_gas_budget: int = Field(default=100, description="most gas for one transaction", ge=1)
    relay_key: SecretStr = Field(description="the key that pays")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAAS_RELAY_KEY", "a secret")


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAAS_CLUSTER", "blue")
    monkeypatch.setenv("DAAS_RELAY_GAS_BUDGET", "7")
    monkeypatch.setenv("DAAS_NATS_REPLICAS", "3")
    loaded = load(RelaySettings)
    assert loaded.nats_replicas == 3
    assert (loaded.cluster, loaded.relay_gas_budget, loaded.relay_key.get_secret_value()) == ("blue", 7, "a secret")
    assert "a secret" not in repr(loaded)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DAAS_RELAY_GAS_BUGET", "did you mean DAAS_RELAY_GAS_BUDGET"),
        ("DAAS_RELAY_COLOUR", "--help"),
        ("DAAS_NATS_ULR", "did you mean DAAS_NATS_URL"),
        ("DAAS_NATS_COLOUR", "--help"),
        ("DAAS_HTTP_PROXY", "--help"),
        ("DAAS_CLUSTR", "did you mean DAAS_CLUSTER"),
        ("DAAS_SATE_DIR", "did you mean DAAS_STATE_DIR"),
    ],
)
def test_unknown_names_are_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigurationError, match="unknown-setting") as refused:
        load(RelaySettings)
    assert name in str(refused.value)
    assert hint in str(refused.value)


@pytest.mark.parametrize("name", ["DAAS_GATEWAY_COLOUR", "DAAS_TEST_X", "DAAS_DEV_DIR", "DAAS_SEAL_KEEPER_X", "DAAS_X"])
def test_names_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    assert load(RelaySettings).cluster == "dev"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"DAAS_RELAY_GAS_BUDGET": "none"}, "invalid-setting"),
        ({"DAAS_RELAY_GAS_BUDGET": "0"}, "invalid-setting"),
        ({"DAAS_HTTP_PORT": "65536"}, "invalid-setting"),
        ({"DAAS_CLUSTER": "Not A Label"}, "invalid-setting"),
        ({"DAAS_NATS_URL": "http://x"}, "nats-url"),
        ({"DAAS_NATS_USER": "me"}, "contradictory-settings"),
        ({"DAAS_NATS_PASSWORD": "hidden"}, "contradictory-settings"),
        (
            {"DAAS_NATS_USER": "me", "DAAS_NATS_PASSWORD": "hidden", "DAAS_NATS_NKEY_FILE": "/x"},
            "contradictory-settings",
        ),
        ({"DAAS_NATS_TLS_FIRST": "true"}, "contradictory-settings"),
    ],
)
def test_wrong_and_contradictory_values_are_refused_without_being_quoted(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], reason: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=reason) as refused:
        load(RelaySettings)
    assert "hidden" not in str(refused.value)


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAAS_RELAY_KEY")
    with pytest.raises(ConfigurationError, match="DAAS_RELAY_KEY"):
        load(RelaySettings)


def test_help_names_every_setting_with_type_default_and_description() -> None:
    text = help_text(RelaySettings, "python -m daas.relay")
    for name in RelaySettings.model_fields:
        assert f"DAAS_{name.upper()}" in text
    assert "DAAS_RELAY_GAS_BUDGET  <int>  (default 100)" in text
    assert "DAAS_RELAY_KEY  <secret>  (required)" in text
    assert "DAAS_LOG_LEVEL  <debug | info | warning | error>  (default info)" in text
    assert "most gas for one transaction" in text
    assert "Settings of the relay in these tests." in text


def test_main_explains_refuses_and_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class App:
        def run(self) -> int:
            return 7

    def build(settings: RelaySettings) -> App:
        if settings.relay_gas_budget == 13:
            raise ConfigurationError("13 is unlucky", reason="unlucky")
        return App()

    assert main(RelaySettings, build, ["--help"]) == 0
    assert "DAAS_RELAY_GAS_BUDGET" in capsys.readouterr().out
    assert main(RelaySettings, build, []) == 7
    assert main(RelaySettings, build, ["now"]) == 2
    monkeypatch.setenv("DAAS_RELAY_GAS_BUDGET", "13")
    assert main(RelaySettings, build, []) == 2
    assert "13 is unlucky" in capsys.readouterr().err
    monkeypatch.setenv("DAAS_RELAY_GAS_BUDGET", "x")
    assert main(RelaySettings, build, []) == 2


def test_every_setting_is_described() -> None:
    for info in {**BusSettings.model_fields, **ServiceSettings.model_fields}.values():
        assert info.description
