"""The keeper's key: made at start from two sources of entropy, attested, published, and attested again in time."""

import asyncio
import base64
import hashlib
import os
from typing import Final

from daas.attestation import NsmClient
from daas.common.bus import Bus
from daas.common.logs import get_logger
from daas.common.secret_facts import KeeperAttested
from daas.common.subjects import SECRET_KEEPER_ATTESTED
from daas.secrets import KeeperKey
from daas.secrets.keeper import keeper_user_data

_ENTROPY_BYTES: Final = 64

log = get_logger("sealkeeper.attestation")


def make_key(nsm: NsmClient) -> KeeperKey:
    """A key of this process alone: the kernel's pool may be empty at boot, the NSM is one vendor's word."""
    random = nsm.get_random(_ENTROPY_BYTES)
    return KeeperKey(hashlib.sha512(os.urandom(_ENTROPY_BYTES) + random).digest()[:32])


async def attest(bus: Bus, nsm: NsmClient, key: KeeperKey, *, chain: bytes, registry: str, every_s: float) -> None:
    """Publishes the key with a new document, for ever."""
    while True:
        document = nsm.attestation(user_data=keeper_user_data(chain, registry), public_key=key.public_key)
        fact = KeeperAttested(
            public_key=key.public_key.hex(), document=base64.b64encode(document).decode(), simulated=nsm.simulated
        )
        await bus.publish(SECRET_KEEPER_ATTESTED, fact, message_id=f"keeper:{hashlib.sha256(document).hexdigest()}")
        log.info("attested", public_key=fact.public_key, simulated=fact.simulated)
        await asyncio.sleep(every_s)
