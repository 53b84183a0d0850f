// Step 1, continued: numbers and strings inside a tag.
//
// In:  the lexer, standing on a digit or a quote.
// Out: the token, with the lexer behind it.
//
//   integer   0 | [1-9][0-9]*
//   float     digits . digits, digits [. digits] e [+-] digits
//   string    '...' or "...", with Python's escapes: \n \t \\ \' \" \xhh \uhhhh \Uhhhhhhhh \ooo ...
//
// Source: Jinja's grammar (version 3.1) and the Python language reference, "String and Bytes
// literals". Left out: digits grouped with _, 0x 0b 0o, \N{name}. The next file,
// TemplateSyntax.swift, is what the parser makes of the tokens.

extension TemplateLexer {
  /// 0 | [1-9][0-9]*, or with a fraction or an exponent a float; after a point always an integer,
  /// so that `pair.0.1` reads as two items.
  mutating func readNumber() throws(ChatTemplateError) -> TemplateToken.Kind {
    let afterPoint = position > 0 && source[position - 1] == "."
    var text = take(while: isDigit)
    var isFloat = false
    if !afterPoint {
      if next == ".", position + 1 < source.count, isDigit(source[position + 1]) {
        advance()
        text += "." + take(while: isDigit)
        isFloat = true
      }
      let sign = position + 1 < source.count && (isNext("+", at: 1) || isNext("-", at: 1)) ? 1 : 0
      if next == "e" || next == "E", position + 1 + sign < source.count,
        isDigit(source[position + 1 + sign])
      {
        let mark = sign == 1 ? String(source[position + 1]) : ""
        advance(1 + sign)
        text += "e" + mark + take(while: isDigit)
        isFloat = true
      }
    }
    if let scalar = next, isNameScalar(scalar) {
      throw fault(.unsupported("a number that goes on with \(excerpt(String(scalar)))"))
    }
    if isFloat {
      guard let value = Double(text) else { throw fault(.syntax("no number: \(excerpt(text))")) }
      return .number(value)
    }
    if text.utf8.count > 1, text.utf8.first == UInt8(ascii: "0") {
      throw fault(.syntax("an integer with leading zeros"))
    }
    guard let value = Int(text) else {
      throw fault(.unsupported("an integer of more than 64 bits"))
    }
    return .integer(value)
  }

  mutating func readString(quote: Unicode.Scalar) throws(ChatTemplateError) -> String {
    let start = line
    var text = ""
    advance()
    while let scalar = next {
      advance()
      if scalar == quote { return text }
      if scalar == "\\" {
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
    if letter == "N" || !letter.isASCII {
      throw fault(.unsupported("the escape \(excerpt("\\" + String(letter)))"))
    }
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
  default: false
  }
}

func isDigit(_ scalar: Unicode.Scalar) -> Bool { ("0"..."9").contains(scalar) }
