// Step 11 of a chat template: filters, value | name(arguments).
//
// In:  a value and arguments.
// Out: a value.
//
// Names, arguments and defaults are Jinja's (3.1, List of Builtin Filters), tojson transformers'.
// Where Jinja returns something that can be walked over once (map, select, reverse, items), ours is
// a list. The next file, TemplateListFilters.swift, has the filters of lists.

/// The filters that there are.
enum TemplateFilter: String, CaseIterable, Sendable {
  case abs, capitalize, count, `default`, dictsort, first, indent, int, items, join, last, length
  case list, lower, map, reject, rejectattr, replace, reverse, safe, select, selectattr, sort
  case string, title, tojson, trim, upper

  /// By its name in a template.
  init?(name: String) {
    if let filter = Self(rawValue: name) {
      self = filter
    } else if name == "d" {
      self = .default
    } else {
      return nil
    }
  }
}

extension TemplateRenderer {
  func apply(
    _ filter: TemplateFilter, to value: TemplateValue, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let what = "the filter '\(filter.rawValue)'"
    func given(_ names: [String], required: Int = 0) throws(ChatTemplateError) -> [TemplateValue?] {
      try bind(arguments, to: names, required: required, of: what)
    }
    switch filter {
    // What is written, changed.
    case .capitalize, .lower, .safe, .string, .title, .upper:
      _ = try given([])
      return .text(recased(try paidString(value), filter))
    case .trim:
      let unwanted = try optionalText(try given(["chars"])[0], of: what)
      return .text(stripped(try paidString(value), of: unwanted, left: true, right: true))
    case .replace:
      let given = try given(["old", "new", "count"], required: 2)
      let limit = try given[2].flatMap { value throws(ChatTemplateError) in
        isNone(value) ? nil : try integer(value, of: what)
      }
      return .text(
        try replaced(
          try string(value), try string(given[0] ?? .none), by: try string(given[1] ?? .none),
          limit: limit.flatMap { $0 < 0 ? nil : $0 }))
    case .indent: return .text(try indented(value, try given(["width", "first", "blank"])))
    case .tojson: return .text(try json(value, arguments))
    // Values.
    case .default:
      let given = try given(["default_value", "boolean"])
      let isMissing = value.isUndefined || (given[1]?.isTrue ?? false) && !value.isTrue
      return isMissing ? given[0] ?? .text("") : value
    case .abs:
      _ = try given([])
      if let integer = value.integer {
        if integer == .min { throw fault(.limit("an int of more than 64 bits")) }
        return .integer(Swift.abs(integer))
      }
      guard case .number(let number) = value else {
        throw fault(.evaluation("\(what) takes a number, not \(value.typeName)"))
      }
      return .number(number.magnitude)
    case .int:
      let given = try given(["default", "base"])
      if let base = given[1], base.integer != 10 {
        throw fault(.unsupported("\(what) with another base than 10"))
      }
      return try readInteger(value, otherwise: given[0] ?? .integer(0))
    // Lists.
    case .count, .length:
      _ = try given([])
      return .integer(try length(of: value))
    default: return try applyToItems(filter, of: value, arguments)
    }
  }

  /// The text of a value, paid for again because a new one is made of it.
  private func paidString(_ value: TemplateValue) throws(ChatTemplateError) -> String {
    let text = try string(value)
    try charge(bytes: 4 * text.utf8.count)
    return text
  }

  private func recased(_ text: String, _ filter: TemplateFilter) -> String {
    switch filter {
    case .capitalize: capitalised(text)
    case .lower: lowered(text)
    case .upper: text.uppercased()
    case .title: titledWords(text)
    default: text
    }
  }

  /// Jinja's filter, other than Python's method: only blanks, hyphens and brackets end a word.
  private func titledWords(_ text: String) -> String {
    var result = ""
    var atStart = true
    var rest: [Unicode.Scalar] = []
    for scalar in text.unicodeScalars {
      if isPythonSpace(scalar) || "-({[<".unicodeScalars.contains(scalar) {
        result += lowered(makeText(rest))
        rest = []
        result.unicodeScalars.append(scalar)
        atStart = true
      } else if atStart {
        result += scalar.properties.uppercaseMapping
        atStart = false
      } else {
        rest.append(scalar)
      }
    }
    return result + lowered(makeText(rest))
  }

  /// The filter `indent(width=4, first=False, blank=False)`.
  private func indented(
    _ value: TemplateValue, _ given: [TemplateValue?]
  ) throws(ChatTemplateError) -> String {
    var margin = ""
    switch given[0] ?? .integer(4) {
    case .text(let text): margin = text
    case let width: margin = try spaces(try integer(width, of: "the filter 'indent'"))
    }
    // As Jinja: a newline at the end stays, by way of one more, empty line.
    let lines = try split(try string(value), at: "\n", limit: nil)
    let (bytes, overflow) = margin.utf8.count.multipliedReportingOverflow(by: lines.count)
    try charge(bytes: overflow ? .max : bytes)
    let (first, blank) = (given[1]?.isTrue ?? false, given[2]?.isTrue ?? false)
    var result: [String] = []
    for (index, line) in lines.enumerated() {
      let isMoved = index == 0 ? first : blank || !line.utf8.isEmpty
      result.append(isMoved ? margin + line : line)
    }
    return try joined(result, by: "\n")
  }

  /// int(value), with `otherwise` for what is no number.
  private func readInteger(
    _ value: TemplateValue, otherwise: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    if let integer = value.integer { return .integer(integer) }
    var number: Double?
    switch value {
    case .number(let value): number = value
    case .text(let text):
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
      // Digits, point and exponent only: Double also reads hexadecimal.
      if digits.unicodeScalars.allSatisfy({ isDigit($0) || "+-.eE".unicodeScalars.contains($0) }) {
        number = Double(digits)
      }
    case .undefined(let why): throw fault(.evaluation(why))
    default: break
    }
    guard let number, number.isFinite else { return otherwise }
    guard let integer = Int(exactly: number.rounded(.towardZero)) else {
      throw fault(.limit("an int of more than 64 bits"))
    }
    return .integer(integer)
  }

  func length(of value: TemplateValue) throws(ChatTemplateError) -> Int {
    switch value {
    case .undefined: return 0
    case .list(let list): return list.items.count
    case .mapping(let mapping): return mapping.keys.count
    case .text(let text):
      try charge(bytes: text.utf8.count)
      return text.unicodeScalars.count
    default: throw fault(.evaluation("\(value.typeName) has no length"))
    }
  }
}
