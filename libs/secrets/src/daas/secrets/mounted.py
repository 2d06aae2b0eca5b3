"""A sealed Secret as a pod sees it: a directory of files, the envelope among them, and no manifest."""

from collections.abc import Mapping

from daas.secrets import classes
from daas.secrets.envelope import Envelope
from daas.secrets.errors import MalformedEnvelope
from daas.secrets.identity import Place
from daas.secrets.manifest import ENVELOPE_KEY, SealedSecret


def mounted_secret(place: Place, files: Mapping[str, bytes]) -> SealedSecret:
    """Reads the files of a mounted Secret: every key of its data by name, none left out.

    The type is known by its keys: where one of them must be JSON, the sealed value is wrapped in JSON.

    Raises:
        MalformedEnvelope: `secret-not-sealed`, `envelope-*`, `value-*`. WrongPlace: `sealed-elsewhere`.
    """
    if ENVELOPE_KEY not in files:
        raise MalformedEnvelope(f"{place} has no {ENVELOPE_KEY}: it is not sealed", reason="secret-not-sealed")
    envelope = Envelope.decode(files[ENVELOPE_KEY])
    envelope.check(place)
    values = {name: value for name, value in files.items() if name != ENVELOPE_KEY}
    secret_type = classes.type_by_keys(values)
    return SealedSecret(
        place=place,
        policy_name="",
        secret_type=secret_type,
        envelope=envelope,
        values={name: classes.unwrap_value(secret_type, name, value) for name, value in values.items()},
    )
