// Numbers and strings inside a tag.
//
// In:  the lexer, standing on a digit or a quote.
// Out: the token, with the lexer behind it.
//
//   integer   0 | [1-9][0-9]* | 0x[0-9a-f]+ | 0o[0-7]+ | 0b[01]+, digits grouped with _
//   float     digits . digits, digits [. digits] e [+-] digits
//   string    '...' or "...", with Python's escapes: \n \t \\ \' \" \xhh \uhhhh \Uhhhhhhhh \ooo ...
//
// Source: Jinja's grammar (version 3.1) and the Python language reference, "String and Bytes
// literals". Left out: more than 64 bits, \N{name}; such a literal becomes the token `refused`. The
// next file, Syntax.swift, is what the parser makes of the tokens.

extension Lexer {
  /// An integer, or with a fraction or an exponent a float; after a point always an integer, so
  /// that `pair.0.1` reads as two items.
  mutating func readNumber() throws(ChatTemplateError) -> Token.Kind {
    let afterPoint = position > 0 && source[position - 1] == "."
    if let radix = takeRadix() { return try readInteger(radix: radix) }
    var text = takeDigits()
    var isFloat = false
    if !afterPoint {
      if next == ".", position + 1 < source.count, isDigit(source[position + 1]) {
        advance()
        text += "." + takeDigits()
        isFloat = true
      }
      let sign = position + 1 < source.count && (isNext("+", at: 1) || isNext("-", at: 1)) ? 1 : 0
      if next == "e" || next == "E", position + 1 + sign < source.count,
        isDigit(source[position + 1 + sign])
      {
        let mark = sign == 1 ? String(source[position + 1]) : ""
        advance(1 + sign)
        text += "e" + mark + takeDigits()
        isFloat = true
      }
    }
    if let scalar = next, isNameScalar(scalar) {
      throw fault(.syntax("a number that goes on with \(excerpt(String(scalar)))"))
    }
    if isFloat {
      guard let value = Double(text) else { throw fault(.syntax("no number: \(excerpt(text))")) }
      return .number(value)
    }
    if text.utf8.first == UInt8(ascii: "0"), text.utf8.contains(where: { $0 != 0x30 }) {
      throw fault(.syntax("an integer with leading zeros"))
    }
    return Int(text).map { .integer($0) } ?? .refused("an integer of more than 64 bits")
  }

  /// Digits, and _ between digits, which is left out.
  private mutating func takeDigits(of radix: UInt32 = 10) -> String {
    func isNext(at place: Int) -> Bool {
      place < source.count && source[place].value < 0x80
        && Character(source[place]).hexDigitValue.map { $0 < radix } ?? false
    }
    var text = ""
    while isNext(at: position) || (next == "_" && !text.isEmpty && isNext(at: position + 1)) {
      if source[position] != "_" { text.unicodeScalars.append(source[position]) }
      position += 1
    }
    return text
  }

  /// Steps over 0x, 0o or 0b and an _ behind it.
  private mutating func takeRadix() -> UInt32? {
    for (marks, radix) in [(["0x", "0X"], 16), (["0o", "0O"], 8), (["0b", "0B"], 2)]
    where marks.contains(where: { isNext($0) }) {
      position += 2
      if next == "_" { position += 1 }
      return UInt32(radix)
    }
    return nil
  }

  private mutating func readInteger(
    radix: UInt32
  ) throws(ChatTemplateError) -> Token.Kind {
    let digits = takeDigits(of: radix)
    if digits.isEmpty || next.map(isNameScalar) ?? false {
      throw fault(.syntax("no number of base \(radix)"))
    }
    return Int(digits, radix: Int(radix)).map { .integer($0) }
      ?? .refused("an integer of more than 64 bits")
  }

  mutating func readString(
    quote: Unicode.Scalar
  ) throws(ChatTemplateError) -> Token.Kind {
    let start = line
    var text = ""
    var refused: String?
    advance()
    while let scalar = next {
      advance()
      if scalar == quote { return refused.map { .refused($0) } ?? .string(text) }
      if scalar == "\\" {
        if let letter = next, letter == "N" || !letter.isASCII {
          refused = "the escape \(excerpt("\\" + String(letter)))"
          continue
        }
        text += try readEscape()
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
    line = start
    throw fault(.syntax("a string has no end"))
  }

  /// What stands after a backslash, by Python's rules: an unknown escape keeps its backslash.
  private mutating func readEscape() throws(ChatTemplateError) -> String {
    guard let letter = next else { throw fault(.syntax("a string has no end")) }
    if ("0"..."7").contains(letter) {
      var code: UInt32 = 0
      for _ in 0..<3 {
        guard let digit = next, ("0"..."7").contains(digit) else { break }
        code = code * 8 + digit.value - 48
        advance()
      }
      return try scalarText(code)
    }
    advance()
    switch letter {
    case "\n": return ""
    case "\\", "'", "\"": return String(letter)
    case "a": return "\u{7}"
    case "b": return "\u{8}"
    case "f": return "\u{C}"
    case "n": return "\n"
    case "r": return "\r"
    case "t": return "\t"
    case "v": return "\u{B}"
    case "x": return try readCode(digits: 2)
    case "u": return try readCode(digits: 4)
    case "U": return try readCode(digits: 8)
    default: return "\\" + String(letter)
    }
  }

  private mutating func readCode(digits: Int) throws(ChatTemplateError) -> String {
    var text = ""
    for _ in 0..<digits {
      guard let scalar = next, scalar.properties.isASCIIHexDigit else {
        throw fault(.syntax("an escape needs \(digits) hexadecimal digits"))
      }
      text.unicodeScalars.append(scalar)
      advance()
    }
    return try scalarText(UInt32(text, radix: 16) ?? .max)
  }

  private func scalarText(_ code: UInt32) throws(ChatTemplateError) -> String {
    guard let scalar = Unicode.Scalar(code) else {
      throw fault(.syntax("an escape that names no character"))
    }
    return String(scalar)
  }
}

func isNameScalar(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar {
  case "a"..."z", "A"..."Z", "0"..."9", "_": true
  default: !scalar.isASCII && scalar.properties.isXIDContinue
  }
}

func isDigit(_ scalar: Unicode.Scalar) -> Bool { ("0"..."9").contains(scalar) }
