"""Domain separation tags of Seal (MystenLabs/seal, crates/crypto/src/lib.rs)."""

from typing import Final

#: Before the full identity when it is hashed to G1. It is a part of the message, not the tag of RFC 9380.
IDENTITY: Final = b"SUI-SEAL-IBE-BLS12381-00"
#: Before public key and service id in a proof of possession.
PROOF_OF_POSSESSION: Final = b"SUI-SEAL-IBE-BLS12381-POP-00"
#: Before the inputs of the mask of one share.
KDF: Final = b"SUI-SEAL-IBE-BLS12381-H2-00"
#: Before the inputs of the keys derived from the base key.
DERIVE_KEY: Final = b"SUI-SEAL-IBE-BLS12381-H3-00"
#: Before the block number of the HMAC-CTR keystream, and before the inputs of its MAC.
HMAC_CTR_ENCRYPT: Final = b"HMAC-CTR-ENC"
HMAC_CTR_MAC: Final = b"HMAC-CTR-MAC"
