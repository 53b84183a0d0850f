// Random numbers for tests: the same in every run, so that a failure can be repeated.

/// Numbers that differ from call to call and not from run to run (SplitMix64).
struct RepeatableDice {
  var state: UInt64

  /// Any 64 bits.
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number in 0..<limit.
  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}
