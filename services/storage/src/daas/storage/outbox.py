"""What is about to be uploaded, on disk: after a crash the same files make the same quilt, and nothing is stored twice.

Which facts share a quilt depends on the moment; a quilt that was uploaded but not yet written down would otherwise be
made again with other neighbours, under another id.
"""

import os
from pathlib import Path

import msgspec

from daas.common.errors import ConfigurationError, DecodeError
from daas.evidence.packing import Value

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Value])


class Outbox:
    """One group of values at a time.

    Args:
        path: the file; None keeps nothing, and a crash may then leave a copy in Walrus that nothing refers to.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(
                    f"{path.parent} can't be made: {error.strerror}", reason="state-dir", field="state_dir"
                ) from None

    def keep(self, group: list[Value]) -> None:
        """Makes a group durable before it is uploaded."""
        if self._path is None:
            return
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(_ENCODER.encode(group))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)

    def left(self) -> list[Value]:
        """The group that was not finished; empty where there is none.

        Raises:
            DecodeError: `outbox-malformed`: somebody else wrote the file.
        """
        if self._path is None or not self._path.exists():
            return []
        try:
            return _DECODER.decode(self._path.read_bytes())
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise DecodeError(f"{self._path}: {error}", reason="outbox-malformed") from None

    def clear(self) -> None:
        """The group is stored and written down."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
