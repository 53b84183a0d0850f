// Regular expressions, as far as tokenizers use them: what stands after a backslash.
//
// In:  the place of the parser (PatternParser.swift) in a pattern.
// Out: the scalar or the class of scalars that is meant.
//
//   \r \n \t \f \v   controls            \s \S \d \D   white space, decimal digits, and the rest
//   \uHHHH \x{H...}  a scalar by number   \p{L} \p{^Lu} \P{N}   general categories
//   \ and punctuation: that character

extension PatternParser {
  /// What the characters after "\" mean.
  mutating func escape() throws(PatternError) -> ScalarSet {
    let start = place
    if let literal = try literal(at: start) { return try folded(literal) }
    if take("s") { return .whiteSpace }
    if take("S") { return ScalarSet.whiteSpace.inverted }
    if take("d") { return ScalarSet { $0 == "Nd" } }
    if take("D") { return ScalarSet { $0 == "Nd" }.inverted }
    if take("p{") { return try property() }
    if take("P{") { return try property().inverted }
    throw fault("an escape of this kind")
  }

  /// The scalar that the escape at `start` stands for; nil where it stands for a class.
  mutating func literal(at start: Int) throws(PatternError) -> Unicode.Scalar? {
    place = start
    guard let letter = next else { throw fault("unexpected end") }
    let controls: [Unicode.Scalar: Unicode.Scalar] = [
      "r": "\r", "n": "\n", "t": "\t", "f": "\u{C}", "v": "\u{B}",
    ]
    if let control = controls[letter] {
      place += 1
      return control
    }
    if take("x{") { return try hexadecimal(digits: 1...6, closing: true) }
    if take("u") { return try hexadecimal(digits: 4...4, closing: false) }
    // A backslash before anything but a letter or digit takes its meaning away.
    if letter.isASCII && (letter.properties.isAlphabetic || ("0"..."9").contains(letter)) {
      return nil
    }
    place += 1
    return letter
  }

  private mutating func hexadecimal(
    digits: ClosedRange<Int>, closing: Bool
  ) throws(PatternError) -> Unicode.Scalar {
    let text = pattern[place...].prefix(digits.upperBound).prefix {
      $0.isASCII && $0.properties.isASCIIHexDigit
    }
    place += text.count
    guard digits.contains(text.count), let value = UInt32(String(Scalars(text)), radix: 16),
      let scalar = Unicode.Scalar(value), !closing || take("}")
    else { throw fault("a hexadecimal escape that is no character") }
    return scalar
  }

  /// After "\p{": a general category, in one letter or two.
  private mutating func property() throws(PatternError) -> ScalarSet {
    let isNegated = take("^")
    let name = String(Scalars(pattern[place...].prefix { $0 != "}" }))
    guard !name.isEmpty, ScalarSet.names.contains(where: { $0.hasPrefix(name) }) else {
      throw fault("property \(name) (only general categories such as L or Lu are supported)")
    }
    place += name.unicodeScalars.count
    if !take("}") { throw fault("missing \"}\"") }
    let set = ScalarSet { $0.hasPrefix(name) }
    return isNegated ? set.inverted : set
  }

  /// The set of one literal, in both cases where case is ignored.
  func folded(_ scalar: Unicode.Scalar) throws(PatternError) -> ScalarSet {
    if !ignoresCase { return ScalarSet(scalar) }
    if !scalar.isASCII { throw fault("a character beyond ASCII that ignores case") }
    let properties = scalar.properties
    var cases = Scalars(properties.lowercaseMapping.unicodeScalars)
    cases += properties.uppercaseMapping.unicodeScalars
    if cases[0] == "s" { cases.append("\u{17F}") }
    if cases[0] == "k" { cases.append("\u{212A}") }
    return ScalarSet(union: cases.map { ScalarSet($0) })
  }
}
