// The method str.format.
//
// In:  a text with fields in braces, and arguments.
// Out: the text with the arguments in place of the fields.
//
//   {}  {0}  {name}             the next argument, an argument by its number, by its name
//   {!r}  {!s}                  as repr() or str() writes it
//   {:>8}  {:*^8}  {:.3}        fill, alignment, width; of a text the longest it may be
//   {:04d}  {:+,}  {:x}  {:.2f}  {:.1%}  {:e}      numbers
//   {{  }}                      braces
//
// A field that looks into its argument ({a.b}, {a[0]}), fields inside a format and the other codes
// are refused when they are reached. The next file, Renderer+Methods.swift, has the other methods.

import Foundation

extension Renderer {
  /// `text.format(arguments)`; into marked text the arguments go escaped.
  func formatted(
    _ text: String, isMarkup: Bool, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> String {
    if arguments.caller != nil { throw fault(.unsupported("a call block for 'format'")) }
    try charge(bytes: text.utf8.count)
    var rest = text.unicodeScalars[...]
    var result = ""
    var fields = FieldCounter()
    while let scalar = rest.popFirst() {
      if scalar == "{" || scalar == "}", rest.first == scalar {
        rest.removeFirst()
        result.unicodeScalars.append(scalar)
      } else if scalar == "}" {
        throw fault(.evaluation("a single '}' in the text of format()"))
      } else if scalar == "{" {
        let piece = try field(&rest, &fields, isMarkup: isMarkup, arguments)
        try charge(bytes: piece.utf8.count)
        result += piece
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// Whether fields are counted or numbered: a text does one or the other.
  private struct FieldCounter {
    var next = 0
    var isNumbered = false
  }

  /// Behind `{`, up to and over the `}`.
  private func field(
    _ rest: inout Substring.UnicodeScalarView, _ fields: inout FieldCounter, isMarkup: Bool,
    _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> String {
    guard let end = rest.firstIndex(of: "}") else {
      throw fault(.evaluation("a '{' without '}' in the text of format()"))
    }
    var body = rest[..<end]
    rest = rest[rest.index(after: end)...]
    if body.contains("{") { throw fault(.unsupported("a field inside a field of format()")) }
    let name = String(body.prefix { $0 != "!" && $0 != ":" })
    body = body.dropFirst(name.unicodeScalars.count)
    var value = try argument(name, &fields, arguments)
    if body.first == "!" {
      switch body.dropFirst().first {
      case "r": value = .text(try representation(of: value))
      case "s": value = .text(try string(value))
      default: throw fault(.unsupported("the conversion \(excerpt(String(body))) in format()"))
      }
      body = body.dropFirst(2)
    }
    if !body.isEmpty, body.first != ":" {
      throw fault(.evaluation("expected ':' in a field of format()"))
    }
    let code = String(body.dropFirst())
    if isMarkup, case .markup(let text) = value {
      if code.isEmpty { return text }
      throw fault(.evaluation("a format for text that is marked safe"))
    }
    let shown = try shown(value, as: code)
    return isMarkup ? try escaped(text: shown) : shown
  }

  private func argument(
    _ name: String, _ fields: inout FieldCounter, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    if name.unicodeScalars.contains(where: { $0 == "." || $0 == "[" }) {
      throw fault(.unsupported("a field of format() that looks into its argument"))
    }
    var place: Int?
    if name.isEmpty {
      if fields.isNumbered { throw fault(.evaluation("format() counts fields or numbers them")) }
      place = fields.next
      fields.next += 1
    } else if name.unicodeScalars.allSatisfy(isDigit) {
      if fields.next > 0 { throw fault(.evaluation("format() counts fields or numbers them")) }
      fields.isNumbered = true
      place = Int(name) ?? .max
    }
    if let place {
      guard arguments.positional.indices.contains(place) else {
        throw fault(.evaluation("format() has no argument number \(place)"))
      }
      return arguments.positional[place]
    }
    guard let value = arguments.named.first(where: { isSameText($0.name, name) })?.value else {
      throw fault(.evaluation("format() has no argument \(excerpt(name))"))
    }
    return value
  }

  /// Python's format(value, code).
  private func shown(
    _ value: Value, as code: String
  ) throws(ChatTemplateError) -> String {
    if code.isEmpty { return try string(value) }
    guard let format = FieldFormat(code) else {
      throw fault(.unsupported("the format \(excerpt(code))"))
    }
    switch value {
    case .text(let text), .markup(let text):
      if format.isNumeric || format.kind != nil && format.kind != "s" {
        throw fault(.evaluation("the format \(excerpt(code)) for a str"))
      }
      let scalars = text.unicodeScalars
      return try padded(
        String(scalars.prefix(format.precision ?? scalars.count)), format, alignment: "<")
    case .integer, .bool, .number: return try number(value, format, code)
    default: throw fault(.evaluation("a format for \(value.typeName)"))
    }
  }

  private func number(
    _ value: Value, _ format: FieldFormat, _ code: String
  ) throws(ChatTemplateError) -> String {
    var digits: String
    var isNegative = false
    switch (format.kind, value.integer, value.number) {
    case (nil, let integer?, _) where format.precision == nil,
      ("d", let integer?, _) where format.precision == nil,
      ("x", let integer?, _) where format.precision == nil,
      ("X", let integer?, _) where format.precision == nil,
      ("o", let integer?, _) where format.precision == nil,
      ("b", let integer?, _) where format.precision == nil:
      let radix = ["x": 16, "X": 16, "o": 8, "b": 2][format.kind ?? "d"] ?? 10
      isNegative = integer < 0
      digits = String(integer.magnitude, radix: radix, uppercase: format.kind == "X")
    case (nil, nil, let number?) where format.precision == nil:
      isNegative = number.sign == .minus
      digits = written(number.magnitude)
    case ("f", _, let number?), ("e", _, let number?), ("%", _, let number?):
      // A Double has at most 767 digits behind the point that are not zero.
      let places = min(format.precision ?? 6, 1100)
      let magnitude = number.magnitude * (format.kind == "%" ? 100 : 1)
      isNegative = number.sign == .minus && !number.isNaN
      digits =
        magnitude.isFinite
        ? String(format: "%.\(places)\(format.kind == "e" ? "e" : "f")", magnitude)
        : written(magnitude)
      if format.kind == "%" { digits += "%" }
    default: throw fault(.unsupported("the format \(excerpt(code)) for \(value.typeName)"))
    }
    if format.isGrouped {
      if format.isZeroPadded || !digits.unicodeScalars.allSatisfy({ isDigit($0) || $0 == "." }) {
        throw fault(.unsupported("the format \(excerpt(code)) for \(value.typeName)"))
      }
      digits = grouped(digits)
    }
    let sign = isNegative ? "-" : format.sign == "+" || format.sign == " " ? format.sign : ""
    if format.isZeroPadded {
      let missing = max(0, (format.width ?? 0) - sign.utf8.count - digits.utf8.count)
      try charge(bytes: missing)
      return sign + String(repeating: "0", count: missing) + digits
    }
    return try padded(sign + digits, format, alignment: ">")
  }

  /// The digits with commas: 1,234,567.89.
  private func grouped(_ digits: String) -> String {
    let whole = digits.prefix { $0 != "." }
    var result = ""
    for (index, digit) in whole.enumerated() {
      if index > 0, (whole.count - index) % 3 == 0 { result += "," }
      result.append(digit)
    }
    return result + digits.dropFirst(whole.count)
  }

  private func padded(
    _ text: String, _ format: FieldFormat, alignment: String
  ) throws(ChatTemplateError) -> String {
    let missing = max(0, (format.width ?? 0) - text.unicodeScalars.count)
    // The character to fill with has at most four bytes.
    try charge(missing / 4)
    try charge(bytes: text.utf8.count)
    let left: Int
    switch format.alignment ?? alignment {
    case "<": left = 0
    case ">": left = missing
    default: left = missing / 2
    }
    return String(repeating: format.fill, count: left) + text
      + String(repeating: format.fill, count: missing - left)
  }
}

/// What stands behind the colon: [[fill]alignment][sign][0][width][,][.precision][kind].
private struct FieldFormat {
  var fill = " "
  var alignment: String?
  var sign = ""
  var isZeroPadded = false
  var width: Int?
  var isGrouped = false
  var precision: Int?
  var kind: String?

  /// Whether something is asked for that only numbers have.
  var isNumeric: Bool { !sign.isEmpty || isZeroPadded || isGrouped }

  /// nil for what is left out: alignment with =, #, _, other kinds.
  init?(_ code: String) {
    var rest = code.unicodeScalars[...]
    func isAlignment(_ scalar: Unicode.Scalar?) -> Bool {
      scalar == "<" || scalar == ">" || scalar == "^"
    }
    if let first = rest.first, isAlignment(rest.dropFirst().first) {
      fill = String(first)
      rest.removeFirst()
    }
    if isAlignment(rest.first) { alignment = rest.popFirst().map(String.init) }
    if let first = rest.first, ["+", "-", " "].contains(first) {
      sign = String(first)
      rest.removeFirst()
    }
    if rest.first == "0" {
      // With an alignment of its own the zero is a fill that Python treats in another way.
      if alignment != nil { return nil }
      isZeroPadded = true
      rest.removeFirst()
    }
    func number() -> Int? {
      let digits = rest.prefix(while: isDigit)
      rest = rest.dropFirst(digits.count)
      return digits.isEmpty ? nil : Int(String(digits)) ?? .max
    }
    width = number()
    if rest.first == "," {
      isGrouped = true
      rest.removeFirst()
    }
    if rest.first == "." {
      rest.removeFirst()
      precision = number()
      if precision == nil { return nil }
    }
    if let last = rest.popFirst() {
      kind = String(last)
      if !"sdxXobfFe%".unicodeScalars.contains(last) || !rest.isEmpty { return nil }
      if kind == "F" { kind = "f" }
    }
  }
}
