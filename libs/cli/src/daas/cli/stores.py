"""The one way from the context to etcd, with TLS and user where they are named: every command goes through here."""

from pathlib import Path

from daas.cli.context import Context
from daas.common.errors import ConfigurationError
from daas.etcd import Credentials, EtcdClient, Tls


def etcd_of(context: Context) -> EtcdClient:
    """A client of the context's etcd; use as `async with`.

    Raises:
        ConfigurationError: `unreadable-file` naming the field; `etcd-endpoint` for one that is none.
    """
    tls = user = None
    if context.etcd_ca_file is not None:
        tls = Tls(
            ca=_read(context.etcd_ca_file, "etcd_ca_file"),
            certificate=_read(context.etcd_certificate_file, "etcd_certificate_file")
            if context.etcd_certificate_file
            else None,
            key=_read(context.etcd_key_file, "etcd_key_file") if context.etcd_key_file else None,
        )
    if context.etcd_user is not None and context.etcd_password_file is not None:
        password = _read(context.etcd_password_file, "etcd_password_file").decode(errors="replace").strip()
        user = Credentials(context.etcd_user, password)
    return EtcdClient(context.etcd_endpoints, tls=tls, user=user)


def _read(path: str, field: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"the context's {field}, {path}, can't be read: {error.strerror}", reason="unreadable-file", field=field
        ) from None
