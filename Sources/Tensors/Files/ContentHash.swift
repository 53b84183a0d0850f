// The hash of a content: FNV-1a with 64 bits.
//
// In:  a text, bytes, or a file.
// Out: a number, or its sixteen hexadecimal digits.
//
// It names streams of random numbers and recognises prompts, files and models. Two contents that
// differ in one byte never have the same hash. It gives no protection against intent.
//
// Source: Fowler, Noll, Vo; offset basis and prime of the 64-bit variant.

/// FNV-1a with 64 bits over the UTF-8 of a text; the hash of prompts, and of the names of streams.
package func fnv1a(_ text: String) -> UInt64 { fnv1a(Array(text.utf8)) }

/// FNV-1a with 64 bits, going on from `start`.
package func fnv1a(_ bytes: [UInt8], from start: UInt64 = 0xCBF2_9CE4_8422_2325) -> UInt64 {
  var hash = start
  for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
  return hash
}

/// FNV-1a with 64 bits over the bytes of the regular file at `path`, a piece at a time.
///
/// Throws where the system refuses, and where it is no regular file.
package func fnv1a(ofFile path: String) throws(FileError) -> UInt64 {
  let (file, piece) = (try mappedFile(at: path), 1 << 20)
  var hash = fnv1a([])
  for first in stride(from: 0, to: file.count, by: piece) {
    let bytes = file.words(in: first..<min(first + piece, file.count)) { (byte: UInt8) in byte }
    hash = fnv1a(bytes, from: hash)
  }
  return hash
}

/// A hash as sixteen hexadecimal digits.
package func hexadecimal(_ hash: UInt64) -> String {
  let digits = String(hash, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}
