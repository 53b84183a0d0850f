// The hash of texts: FNV-1a with 64 bits.
//
// In:  a text or bytes.
// Out: a number, or its sixteen hexadecimal digits.
//
// It names streams of random numbers and recognises prompts, files and models. It gives no
// protection against intent.

/// FNV-1a with 64 bits over the UTF-8 of a text; the hash of prompts, and of the names of streams.
///
/// Source: Fowler, Noll, Vo; offset basis and prime of the 64-bit variant.
package func fnv1a(_ text: String) -> UInt64 { fnv1a(Array(text.utf8)) }

/// FNV-1a with 64 bits, going on from `start`.
package func fnv1a(_ bytes: [UInt8], from start: UInt64 = 0xCBF2_9CE4_8422_2325) -> UInt64 {
  var hash = start
  for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
  return hash
}

/// A hash as sixteen hexadecimal digits.
package func hexadecimal(_ hash: UInt64) -> String {
  let digits = String(hash, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}
