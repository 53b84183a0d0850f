// Filters of numbers: abs, int, float, round.
//
// In:  a number, or for int and float a text that may hold one.
// Out: a number, or the default where there is none.
//
// The next file, Renderer+ListFilters.swift, has the filters of lists.

import Foundation

extension Renderer {
  func applyToNumber(
    _ filter: Filter, of value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the filter '\(filter.rawValue)'"
    switch filter {
    case .abs:
      _ = try bind(arguments, to: [], of: what)
      if let integer = value.integer {
        if integer == .min { throw fault(.limit("an int of more than 64 bits")) }
        return .integer(Swift.abs(integer))
      }
      guard case .number(let number) = value else {
        throw fault(.evaluation("\(what) takes a number, not \(value.typeName)"))
      }
      return .number(number.magnitude)
    case .int:
      let given = try bind(arguments, to: ["default", "base"], of: what)
      if let base = given[1], base.integer != 10 {
        throw fault(.unsupported("\(what) with another base than 10"))
      }
      return try readInteger(value, otherwise: given[0] ?? .integer(0))
    case .float:
      let otherwise = try bind(arguments, to: ["default"], of: what)[0]
      return try readNumber(value).map { .number($0) } ?? otherwise ?? .number(0)
    default: return try rounded(value, arguments, of: what)
    }
  }

  /// int(value), with `otherwise` where `value` is not a number.
  private func readInteger(
    _ value: Value, otherwise: Value
  ) throws(ChatTemplateError) -> Value {
    if let integer = value.integer { return .integer(integer) }
    if let text = value.text {
      try charge(bytes: text.utf8.count)
      let digits = stripped(text, of: nil, left: true, right: true)
      let unsigned =
        digits.hasPrefix("-") || digits.hasPrefix("+") ? digits.dropFirst() : digits[...]
      if !unsigned.isEmpty, unsigned.unicodeScalars.allSatisfy(isDigit) {
        guard let integer = Int(digits) else {
          throw fault(.limit("an int of more than 64 bits"))
        }
        return .integer(integer)
      }
    }
    guard let number = try readNumber(value), number.isFinite else { return otherwise }
    guard let integer = Int(exactly: number.rounded(.towardZero)) else {
      throw fault(.limit("an int of more than 64 bits"))
    }
    return .integer(integer)
  }

  /// float(value); nil where `value` is not a number.
  private func readNumber(_ value: Value) throws(ChatTemplateError) -> Double? {
    if case .undefined(let why) = value { throw fault(.evaluation(why)) }
    guard let text = value.text else { return value.number }
    try charge(bytes: text.utf8.count)
    let digits = stripped(text, of: nil, left: true, right: true)
    let scalars = digits.unicodeScalars
    if scalars.contains(where: { $0 == "_" || !$0.isASCII && $0.properties.numericType != nil }) {
      throw fault(.unsupported("the number \(excerpt(digits))"))
    }
    // Digits, point and exponent, or a word: Double also reads hexadecimal.
    if scalars.allSatisfy({ isDigit($0) || "+-.eE".unicodeScalars.contains($0) }) {
      return Double(digits)
    }
    let word = digits.lowercased().drop { $0 == "+" || $0 == "-" }
    guard digits.utf8.count - word.utf8.count < 2 else { return nil }
    let sign: Double = digits.hasPrefix("-") ? -1 : 1
    return ["inf": .infinity, "infinity": .infinity, "nan": .nan][String(word)].map { sign * $0 }
  }

  /// The filter `round(precision=0, method='common')`.
  private func rounded(
    _ value: Value, _ arguments: GivenArguments, of what: String
  ) throws(ChatTemplateError) -> Value {
    let given = try bind(arguments, to: ["precision", "method"], of: what)
    let precision = try given[0].map { value throws(ChatTemplateError) in
      try integer(value, of: what)
    }
    let method = try given[1].map { value throws(ChatTemplateError) in
      try text(value, of: what)
    }
    let places = precision ?? 0
    guard (0...300).contains(places) else {
      throw fault(.unsupported("\(what) to \(places) places"))
    }
    guard let number = value.number else {
      throw fault(.evaluation("\(what) takes a number, not \(value.typeName)"))
    }
    switch method ?? "common" {
    case "common":
      // As Python, an int stays one; a float goes to the nearest decimal, of two to the even one.
      if let integer = value.integer { return .integer(integer) }
      if !number.isFinite { return .number(number) }
      return .number(Double(String(format: "%.\(places)f", number)) ?? number)
    case "ceil", "floor":
      let factor = pow(10, Double(places))
      if !(number * factor).isFinite { throw fault(.evaluation("a float beyond its range")) }
      let whole = (number * factor).rounded(method == "ceil" ? .up : .down)
      // math.ceil and math.floor give an int, which has no minus zero.
      return .number((whole == 0 ? 0 : whole) / factor)
    default: throw fault(.evaluation("\(what) knows common, ceil and floor"))
    }
  }
}
