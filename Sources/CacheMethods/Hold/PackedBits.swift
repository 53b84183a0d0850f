// Codes of a few bits each in 32-bit words, one right behind the other.
//
// In:  codes below 2^bits, bits from 1 to 16.
// Out: ⌈n bits / 32⌉ words, the lowest bits first; a code may lie across two words.
//
//     3 bits   | c0 c1 c2 ... c9, 2 bits of c10 | 1 bit of c10, c11 ... |
//
// (Tensors' PackedCodes puts whole codes into a word, 32 div bits of them, and holds their range
// beside them: it unpacks faster and takes more room for 3 and 5 bits.)

/// `codes` of `bits` bits each in whole words, the lowest bits first.
func packedWords(_ codes: some Sequence<UInt32>, bits: Int) -> [UInt32] {
  var words: [UInt32] = []
  var (window, held) = (UInt64(0), 0)
  for code in codes {
    window |= UInt64(code) << UInt64(held)
    held += bits
    if held >= 32 {
      words.append(UInt32(truncatingIfNeeded: window))
      (window, held) = (window >> 32, held - 32)
    }
  }
  if held > 0 { words.append(UInt32(truncatingIfNeeded: window)) }
  return words
}

/// Reads codes one after another.
struct BitReader {
  private let bits: Int
  /// The word that is read next.
  private var next: Int
  /// Bits that are read and not used yet.
  private var window: UInt64 = 0
  private var held = 0

  /// Codes of `bits` bits from word `first` on.
  init(bits: Int, from first: Int) { (self.bits, next) = (bits, first) }

  /// The next code of `words`.
  @inline(__always)
  mutating func code(of words: Span<UInt32>) -> UInt32 {
    if held < bits {
      window |= UInt64(words[next]) << UInt64(held)
      (held, next) = (held + 32, next + 1)
    }
    let code = UInt32(window & (1 << UInt64(bits) - 1))
    (window, held) = (window >> UInt64(bits), held - bits)
    return code
  }
}
