/// The one number that every shared object of this package carries: which version of the package may use it.
module daas::version;

/// Raised by one with every upgrade that changes what objects mean. Objects of an older version are refused by every
/// function until they are migrated, and then by the older package: the two never work on one object.
const VERSION: u64 = 1;

/// The version of objects that this package writes and accepts.
public fun current(): u64 { VERSION }
