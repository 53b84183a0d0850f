// Step 10, continued: methods of str and dict.
//
// In:  a text or a dict, the method's name, arguments.
// Out: a value; the receiver never changes.
//
// Lists have none: what a list's methods are good for in templates changes the list, and
// transformers' sandbox forbids that. The next file, TemplateFilters.swift, has filters.

extension TemplateRenderer {
  /// A method of a mapping: `mapping.name(arguments)`.
  func call(
    _ name: String, of mapping: TemplateMapping, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let what = "the method '\(name)'"
    switch name {
    case "keys":
      _ = try bind(arguments, to: [], of: what)
      return try list(try items(of: .mapping(mapping)))
    case "values":
      _ = try bind(arguments, to: [], of: what)
      try charge(mapping.values.count)
      return try list(mapping.values)
    case "items":
      _ = try bind(arguments, to: [], of: what)
      return try pairs(of: mapping)
    case "get":
      if !arguments.named.isEmpty {
        throw fault(.evaluation("\(what) takes no argument with a name"))
      }
      let given = try bind(arguments, to: ["key", "default"], required: 1, of: what)
      guard case .text(let key) = given[0] else { return given[1] ?? .none }
      return try place(of: key, in: mapping).map { mapping.values[$0] } ?? given[1] ?? .none
    default:
      // A dict may hold a macro nowhere, so what is left cannot be called.
      throw fault(.unsupported("\(what) of a dict"))
    }
  }

  /// (key, value) for each member.
  func pairs(of mapping: TemplateMapping) throws(ChatTemplateError) -> TemplateValue {
    try charge(3 * mapping.keys.count)
    var pairs: [TemplateValue] = []
    for (key, value) in zip(mapping.keys, mapping.values) {
      pairs.append(try list([.text(key), value], isTuple: true))
    }
    return try list(pairs)
  }

  /// A method of a text: `text.name(arguments)`.
  func call(
    _ name: String, of text: String, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let what = "the method '\(name)'"
    try charge(bytes: text.utf8.count * 4)
    switch name {
    case "strip", "lstrip", "rstrip":
      let given = try bind(arguments, to: ["chars"], of: what)
      let unwanted = try optionalText(given[0], of: what)
      return .text(
        stripped(text, of: unwanted, left: name != "rstrip", right: name != "lstrip"))
    case "split":
      let given = try bind(arguments, to: ["sep", "maxsplit"], of: what)
      let limit = try given[1].map { value throws(ChatTemplateError) in
        try integer(value, of: what)
      }
      guard let separator = try optionalText(given[0], of: what) else {
        if limit ?? -1 >= 0 { throw fault(.unsupported("split() at white space with a limit")) }
        return try list(try splitAtSpace(text).map { .text($0) })
      }
      let parts = try split(text, at: separator, limit: limit.flatMap { $0 < 0 ? nil : $0 })
      return try list(parts.map { .text($0) })
    case "splitlines":
      _ = try bind(arguments, to: [], of: what)
      return try list(try lines(of: text).map { .text($0) })
    case "startswith", "endswith":
      let given = try bind(arguments, to: ["prefix"], required: 1, of: what)
      return .bool(try hasEnd(text, given[0] ?? .none, atStart: name == "startswith", of: what))
    case "removeprefix", "removesuffix":
      let given = try bind(arguments, to: ["affix"], required: 1, of: what)
      let affix = try self.text(given[0], of: what)
      let isPrefix = name == "removeprefix"
      guard try hasEnd(text, .text(affix), atStart: isPrefix, of: what) else { return .text(text) }
      let count = affix.unicodeScalars.count
      return .text(
        makeText(
          isPrefix ? text.unicodeScalars.dropFirst(count) : text.unicodeScalars.dropLast(count)))
    case "replace":
      let given = try bind(arguments, to: ["old", "new", "count"], required: 2, of: what)
      let limit = try given[2].map { value throws(ChatTemplateError) in
        try integer(value, of: what)
      }
      return .text(
        try replaced(
          text, try self.text(given[0], of: what), by: try self.text(given[1], of: what),
          limit: limit.flatMap { $0 < 0 ? nil : $0 }))
    case "join":
      let given = try bind(arguments, to: ["iterable"], required: 1, of: what)
      var parts: [String] = []
      for item in try items(of: given[0] ?? .none) {
        try charge()
        parts.append(try self.text(item, of: what))
      }
      return .text(try joined(parts, by: text))
    case "find":
      let given = try bind(arguments, to: ["sub"], required: 1, of: what)
      let bytes = Array(text.utf8)
      let part = Array(try self.text(given[0], of: what).utf8)
      guard let place = try firstPlace(of: part, in: bytes, from: 0) else { return .integer(-1) }
      return .integer(String(decoding: bytes[..<place], as: UTF8.self).unicodeScalars.count)
    case "count":
      let given = try bind(arguments, to: ["sub"], required: 1, of: what)
      let part = Array(try self.text(given[0], of: what).utf8)
      if part.isEmpty { throw fault(.unsupported("counting an empty str")) }
      return .integer(try places(of: part, in: Array(text.utf8), limit: nil).count)
    case "upper", "lower", "title", "capitalize", "isdigit":
      _ = try bind(arguments, to: [], of: what)
      switch name {
      case "upper": return .text(text.uppercased())
      case "lower": return .text(lowered(text))
      case "title": return .text(titled(text))
      case "capitalize": return .text(capitalised(text))
      default: return .bool(isDigits(text))
      }
    default: throw fault(.unsupported("\(what) of a str"))
    }
  }

  private func isDigits(_ text: String) -> Bool {
    !text.utf8.isEmpty
      && text.unicodeScalars.allSatisfy {
        $0.properties.numericType == .decimal || $0.properties.numericType == .digit
      }
  }

  /// Whether `text` begins or ends with `affix`, or with one of a tuple.
  private func hasEnd(
    _ text: String, _ affix: TemplateValue, atStart: Bool, of what: String
  ) throws(ChatTemplateError) -> Bool {
    let choices: [TemplateValue]
    if case .list(let list) = affix, list.isTuple {
      choices = list.items
    } else {
      choices = [affix]
    }
    for choice in choices {
      let affix = try self.text(choice, of: what)
      try charge(bytes: min(affix.utf8.count, text.utf8.count))
      let end =
        atStart
        ? Substring(text.utf8.prefix(affix.utf8.count))
        : Substring(text.utf8.suffix(affix.utf8.count))
      if end.utf8.elementsEqual(affix.utf8) { return true }
    }
    return false
  }

  /// str.splitlines: no line for the end of the last one.
  private func lines(of text: String) throws(ChatTemplateError) -> [String] {
    var lines: [String] = []
    var line = ""
    var last: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n" where last == "\r": break
      case "\n", "\r", "\u{B}", "\u{C}", "\u{1C}", "\u{1D}", "\u{1E}", "\u{85}", "\u{2028}",
        "\u{2029}":
        try charge()
        lines.append(line)
        line = ""
      default: line.unicodeScalars.append(scalar)
      }
      last = scalar
    }
    return line.utf8.isEmpty ? lines : lines + [line]
  }

  // MARK: Arguments of one type

  func text(_ value: TemplateValue?, of what: String) throws(ChatTemplateError) -> String {
    guard case .text(let text) = value else {
      throw fault(.evaluation("\(what) takes a str, not \(value?.typeName ?? "nothing")"))
    }
    return text
  }

  func optionalText(
    _ value: TemplateValue?, of what: String
  ) throws(ChatTemplateError) -> String? {
    guard let value else { return nil }
    if case .none = value { return nil }
    return try text(value, of: what)
  }

  func integer(_ value: TemplateValue, of what: String) throws(ChatTemplateError) -> Int {
    guard let integer = value.integer else {
      throw fault(.evaluation("\(what) takes an int, not \(value.typeName)"))
    }
    return integer
  }
}
