// Random numbers for every test target: the same in every run, so that a failure can be repeated.

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers from the same seed, everywhere.
public struct SeededNumbers: RandomNumberGenerator {
  private var state: UInt64

  /// The sequence of this seed.
  public init(seed: UInt64) { state = seed }

  /// Any 64 bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number in 0..<limit.
  public mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }

  /// A random ascending list of `count` distinct numbers below `limit`.
  public mutating func ascending(_ count: Int, below limit: Int) -> [Int] {
    Array((0..<limit).shuffled(using: &self).prefix(count)).sorted()
  }
}
