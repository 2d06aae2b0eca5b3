"""How to reach an API server: a kubeconfig file or the service account of the pod we run in; TLS always verified."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from daas.common.errors import ConfigurationError

#: Binds in flight, two watches, event posts: more connections than this would only queue in the server.
CONNECTIONS_MAX = 64


async def load_configuration(kubeconfig: Path | None) -> Configuration:
    """The connection settings of a kubeconfig, or of the surrounding cluster where none is given.

    Raises:
        ConfigurationError: the file is missing or malformed, or it asks for a connection that is not verified TLS.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)
        else:
            await _load_file(kubeconfig, configuration)
    except (ConfigException, TypeError, ValueError) as error:
        where = kubeconfig or "the pod's service account"
        raise ConfigurationError(
            f"{where}: {type(error).__name__}: {error}", reason="kubeconfig-invalid", field="kubeconfig"
        ) from None
    if not configuration.verify_ssl or urlsplit(configuration.host).scheme != "https":
        raise ConfigurationError(
            f"{kubeconfig}: expected an https server with its CA, not {configuration.host} "
            f"(insecure-skip-tls-verify: {not configuration.verify_ssl})",
            reason="kubeconfig-insecure",
            field="kubeconfig",
        )
    configuration.connection_pool_maxsize = CONNECTIONS_MAX
    # trust_env would also read ~/.netrc and send 127.0.0.1 through a proxy; a kubeconfig's own proxy-url still counts.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


async def _load_file(path: Path, configuration: Configuration) -> None:
    if not await asyncio.to_thread(path.is_file):
        raise ConfigurationError(f"{path}: no such kubeconfig", reason="kubeconfig-missing", field="kubeconfig")
    await load_kube_config(config_file=str(path), client_configuration=configuration, persist_config=False)
