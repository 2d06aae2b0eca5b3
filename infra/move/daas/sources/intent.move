/// The envelope of everything an enclave signs: BCS of {intent u8, timestamp_ms u64, payload}.
module daas::intent;

use std::bcs;

const PLACEMENT: u8 = 1;

/// A placement batch.
public fun placement(): u8 { PLACEMENT }

/// The signed bytes: the intent, the signing time and the BCS of the payload, as one BCS structure.
public fun message(intent: u8, timestamp_ms: u64, payload: vector<u8>): vector<u8> {
    let mut message = vector[intent];
    message.append(bcs::to_bytes(&timestamp_ms));
    message.append(payload);
    message
}
