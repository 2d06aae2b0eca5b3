/// The enclave images that may be registered for a cluster: a small numbered set of PCR0, PCR1 and PCR2.
module daas::measurements;

/// A PCR is SHA-384: 48 bytes.
const EPcrLength: u64 = 0;
/// An all-zero PCR0, PCR1 or PCR2 means an enclave in debug mode, whose memory the host can read.
const EZeroPcr: u64 = 1;
/// The allowed set is bounded, because it lives inside the registry object.
const ETooManyMeasurements: u64 = 2;
/// These PCRs are in the allowed set already.
const EMeasurementExists: u64 = 3;
/// No allowed measurement has this number.
const EUnknownMeasurement: u64 = 4;

const PCR_LENGTH: u64 = 48;
/// Room for a rolling upgrade on several platforms; keeps the object small.
const MAX_MEASUREMENTS: u64 = 8;

/// One enclave image that may be registered. `version` is its number, never used twice in a registry.
public struct Measurement has copy, drop, store {
    version: u64,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
}

/// The allowed images of one registry.
public struct Measurements has store {
    allowed: vector<Measurement>,
    next: u64,
}

/// One image. Aborts on PCRs that no enclave out of debug mode has.
public fun measurement(version: u64, pcr0: vector<u8>, pcr1: vector<u8>, pcr2: vector<u8>): Measurement {
    assert_pcr(&pcr0);
    assert_pcr(&pcr1);
    assert_pcr(&pcr2);
    Measurement { version, pcr0, pcr1, pcr2 }
}

public fun version(measurement: &Measurement): u64 { measurement.version }

public fun pcr0(measurement: &Measurement): vector<u8> { measurement.pcr0 }

public fun pcr1(measurement: &Measurement): vector<u8> { measurement.pcr1 }

public fun pcr2(measurement: &Measurement): vector<u8> { measurement.pcr2 }

public(package) fun none(): Measurements { Measurements { allowed: vector[], next: 1 } }

/// Allows one more image; the answer carries the number it got.
public(package) fun allow(
    set: &mut Measurements,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
): Measurement {
    let added = measurement(set.next, pcr0, pcr1, pcr2);
    assert!(set.allowed.length() < MAX_MEASUREMENTS, ETooManyMeasurements);
    assert!(number_of(set, &pcr0, &pcr1, &pcr2) == 0, EMeasurementExists);
    set.next = set.next + 1;
    set.allowed.push_back(added);
    added
}

/// Takes an image from the set.
public(package) fun retire(set: &mut Measurements, version: u64): Measurement {
    let mut i = 0;
    while (i < set.allowed.length()) {
        if (set.allowed[i].version == version) {
            let last = set.allowed.length() - 1;
            set.allowed.swap(i, last);
            return set.allowed.pop_back()
        };
        i = i + 1;
    };
    abort EUnknownMeasurement
}

/// The number of the allowed image with exactly these PCRs; 0 when there is none.
public(package) fun number_of(
    set: &Measurements,
    pcr0: &vector<u8>,
    pcr1: &vector<u8>,
    pcr2: &vector<u8>,
): u64 {
    let mut i = 0;
    while (i < set.allowed.length()) {
        let measurement = &set.allowed[i];
        if (&measurement.pcr0 == pcr0 && &measurement.pcr1 == pcr1 && &measurement.pcr2 == pcr2) {
            return measurement.version
        };
        i = i + 1;
    };
    0
}

/// Whether the image with this number is allowed now.
public(package) fun contains(set: &Measurements, version: u64): bool {
    let mut i = 0;
    while (i < set.allowed.length()) {
        if (set.allowed[i].version == version) return true;
        i = i + 1;
    };
    false
}

fun assert_pcr(pcr: &vector<u8>) {
    assert!(pcr.length() == PCR_LENGTH, EPcrLength);
    let mut i = 0;
    while (i < PCR_LENGTH) {
        if (pcr[i] != 0) return;
        i = i + 1;
    };
    abort EZeroPcr
}
