// Bytes written as characters: GPT-2's alphabet.
//
// In:  text.
// Out: one printable character for each byte of its UTF-8, and the way back.
//
// A byte-level vocabulary has tokens for arbitrary bytes, also for halves of characters, and yet is
// stored as text. So each byte gets a character of its own: the printable ones of Latin-1 stand for
// themselves, the other 68 (control characters, space, DEL, 0x80 to 0xA0, soft hyphen) for U+0100,
// U+0101, ... in order. The space becomes "Ġ" (U+0120), the newline "Ċ" (U+010A).
// Source: GPT-2, `bytes_to_unicode` of its encoder.

/// The alphabet of byte-level tokens.
enum ByteAlphabet {
  /// The character of each byte, (256).
  static let scalars: Scalars = {
    var next: UInt8 = 0
    return (0...UInt8.max).map { byte in
      if isPrintable(byte) { return Unicode.Scalar(byte) }
      defer { next += 1 }
      // U+0100 to U+0143, two bytes each.
      return Unicode.Scalar(UInt16(0x100) + UInt16(next)) ?? "\u{FFFD}"
    }
  }()

  /// The byte of each character, (0x144); -1 for characters outside the alphabet.
  private static let bytes: [Int16] = {
    var bytes = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar.value)] = Int16(byte) }
    return bytes
  }()

  private static func isPrintable(_ byte: UInt8) -> Bool {
    0x21...0x7E ~= byte || 0xA1...0xAC ~= byte || byte >= 0xAE
  }

  /// The byte that `scalar` stands for; nil where it stands for none.
  static func byte(of scalar: Unicode.Scalar) -> UInt8? {
    guard scalar.value < bytes.count else { return nil }
    let byte = bytes[Int(scalar.value)]
    return byte < 0 ? nil : UInt8(byte)
  }

  /// `text` with each byte of its UTF-8 as a character.
  static func encode(_ text: Scalars) -> Scalars {
    let alphabet = scalars
    var encoded: Scalars = []
    encoded.reserveCapacity(text.count + text.count / 4)
    for scalar in text {
      if scalar.isASCII {
        encoded.append(alphabet[Int(scalar.value)])
      } else {
        for byte in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter {
          encoded.append(alphabet[Int(byte)])
        }
      }
    }
    return encoded
  }

  /// The bytes of `token`; where a character is outside the alphabet, its UTF-8 as it is.
  static func decode(_ token: Scalars) -> [UInt8] {
    var decoded: [UInt8] = []
    decoded.reserveCapacity(token.count)
    for scalar in token {
      guard let byte = byte(of: scalar) else { return Array(String(token).utf8) }
      decoded.append(byte)
    }
    return decoded
  }
}
