"""The Unix socket: mode 0600, in a directory where nobody else can put another in its place, never taken over."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from daas.common.errors import ConfigurationError

#: Only the owner of the socket, which is the API server's user, may connect.
_UMASK: Final = 0o177
#: sun_path of Linux, less its end.
PATH_BYTES_MAX: Final = 107
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_PROBE_S: Final = 1.0


def prepare(path: Path) -> None:
    """Makes way for the socket: removes one that a dead process left behind.

    Raises:
        ConfigurationError: `kms-socket`: no absolute path, too long, a directory in which others may write, something
            else that lies there, or another plugin that answers there.
    """
    if not path.is_absolute() or len(os.fsencode(path)) > PATH_BYTES_MAX:
        text = f"the socket needs an absolute path of at most {PATH_BYTES_MAX} bytes, not {path}"
        raise ConfigurationError(text, reason="kms-socket")
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise ConfigurationError(f"directory of socket {path}: {error.strerror}", reason="kms-socket") from None
    if folder.st_mode & _OTHERS_WRITE and not folder.st_mode & stat.S_ISVTX:
        text = f"others may write in {path.parent}: they could put their own socket in this one's place"
        raise ConfigurationError(text, reason="kms-socket")
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigurationError(f"{path} is there and is no socket", reason="kms-socket")
    if _answers(path):
        raise ConfigurationError(f"another process listens on {path}", reason="kms-socket")
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:  # full backlog, no permission: somebody is there
            return True
    return True


@contextlib.contextmanager
def private_umask() -> Iterator[None]:
    """Sockets that are bound meanwhile have mode 0600 from their first moment on."""
    before = os.umask(_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def check(path: Path) -> None:
    """Holds the bound socket to its mode.

    Raises:
        ConfigurationError: `kms-socket`.
    """
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode != 0o600:
        raise ConfigurationError(f"socket {path} has mode {mode:04o}, not 0600", reason="kms-socket")
