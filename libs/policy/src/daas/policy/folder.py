"""A policy set as a folder: `set.json` with version and tiers, and the texts `*.cedar`; one such folder comes along."""

from pathlib import Path
from typing import Final

import msgspec

from daas.policy.errors import PolicyError
from daas.policy.policies import MAX_CHARACTERS, MAX_SOURCES, PolicySet
from daas.policy.tiers import DEFAULT_TIERS, Tier

#: The set of a cluster whose operator has chosen none.
BUILTIN: Final = Path(__file__).parent / "builtin"
HEAD: Final = "set.json"


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    tiers: tuple[Tier, ...] = DEFAULT_TIERS


def load_folder(folder: Path = BUILTIN) -> PolicySet:
    """The policy set of a folder.

    Raises:
        PolicyError: as `PolicySet.load`; `policy-source` where the folder can't be read or holds no text.
    """
    try:
        head = msgspec.json.decode((folder / HEAD).read_bytes(), type=_Head)
        paths = sorted(folder.glob("*.cedar"))[: MAX_SOURCES + 1]
        sources = {path.name: _text(path) for path in paths}
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{folder}: {error}", reason="policy-source", field=str(folder)) from None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise PolicyError(f"{folder / HEAD}: {error}", reason="policy-source", field=HEAD) from None
    if not sources:
        raise PolicyError(f"{folder} holds no .cedar file", reason="policy-source", field=str(folder))
    return PolicySet.load(head.version, sources, head.tiers)


def _text(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(MAX_CHARACTERS + 1)
