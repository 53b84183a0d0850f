// The loop that only reads: it must have seen every word once.

import Tensors
import Testing

@Suite struct ReadingTests {
  @Test(arguments: ChainLevel.available)
  func `the parity is that of a plain loop, for every length`(_ level: ChainLevel) {
    for count in Array(0...200) + [1023, 1024, 1025, 4096 + 63] {
      let dice = RandomNumbers(seed: 3, stream: UInt64(count))
      let words = (0..<count).map { UInt64(dice.uniform($0) * 0x1p53) << ($0 % 11) }
      let found = level.run { parity(of: words.span) }
      #expect(found == words.reduce(0, ^), "\(count) words")
    }
  }
}
