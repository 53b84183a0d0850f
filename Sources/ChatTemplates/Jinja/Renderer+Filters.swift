// Filters, value | name(arguments): which there are, and those of text.
//
// In:  a value and arguments.
// Out: a value.
//
// Names, arguments and defaults are Jinja's (3.1, List of Builtin Filters), tojson transformers'.
// The next files are Renderer+NumberFilters.swift and Renderer+ListFilters.swift.

/// The filters that there are.
enum Filter: String, CaseIterable, Sendable {
  case abs, batch, capitalize, center, count, `default`, dictsort, escape, first, float
  case forceescape, indent, int, items, join, last, length, list, lower, map, max, min, reject
  case rejectattr, replace, reverse, round, safe, select, selectattr, slice, sort, string, sum
  case title, tojson, trim, unique, upper, wordcount

  /// By its name in a template; names in templates may be any text, so by its bytes.
  init?(name: String) {
    if name.utf8.allSatisfy({ $0 < 0x80 }), let filter = Self(rawValue: name) {
      self = filter
    } else if isSameText(name, "d") {
      self = .default
    } else if isSameText(name, "e") {
      self = .escape
    } else {
      return nil
    }
  }

  /// Those of Jinja that are left out.
  private static let leftOut: Set = [
    "attr", "filesizeformat", "format", "groupby", "pprint", "random", "striptags", "truncate",
    "urlencode", "urlize", "wordwrap", "xmlattr",
  ]

  /// Every name that Jinja knows.
  static let jinjaNames = Set(allCases.map(\.rawValue)).union(["d", "e"]).union(leftOut)
}

extension Renderer {
  /// The filter that a template names; Jinja too finds out only when an `if` gets there.
  func filter(named name: String) throws(ChatTemplateError) -> Filter {
    if let filter = Filter(name: name) { return filter }
    if Filter.jinjaNames.contains(name) {
      throw fault(.unsupported("the filter \(excerpt(name))"))
    }
    throw fault(.evaluation("there is no filter \(excerpt(name))"))
  }

  func apply(
    _ filter: Filter, to value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the filter '\(filter.rawValue)'"
    func given(_ names: [String], required: Int = 0) throws(ChatTemplateError) -> [Value?] {
      try bind(arguments, to: names, required: required, of: what)
    }
    switch filter {
    case .capitalize, .lower, .string, .title, .upper:
      _ = try given([])
      let text = recased(try paidString(value), filter)
      return .str(text, isMarkup: value.isMarkup && filter != .title)
    case .safe:
      _ = try given([])
      return .markup(try paidString(value))
    case .escape:
      _ = try given([])
      return .markup(try escaped(value))
    case .forceescape:
      _ = try given([])
      return .markup(try escaped(text: try string(value)))
    case .trim:
      let unwanted = try optionalText(try given(["chars"])[0], of: what)
      let text = stripped(try paidString(value), of: unwanted, left: true, right: true)
      return .str(text, isMarkup: value.isMarkup)
    case .center:
      let width = try given(["width"])[0].map { width throws(ChatTemplateError) in
        try integer(width, of: what)
      }
      let text = try widened(
        try paidString(value), to: width ?? 80, with: " ", left: 0, right: 0)
      return .str(text, isMarkup: value.isMarkup)
    case .replace:
      let given = try given(["old", "new", "count"], required: 2)
      let count = given[2].flatMap { isNone($0) ? nil : $0 }
      return .text(
        try replaced(
          try string(value), try string(given[0] ?? .none), by: try string(given[1] ?? .none),
          limit: try limit(count, of: what)))
    case .indent: return try indented(value, try given(["width", "first", "blank"]))
    case .tojson: return .text(try json(value, arguments))
    case .wordcount:
      _ = try given([])
      return .integer(wordCount(try paidString(value)))
    case .default:
      let given = try given(["default_value", "boolean"])
      let isMissing = value.isUndefined || (given[1]?.isTrue ?? false) && !value.isTrue
      return isMissing ? given[0] ?? .text("") : value
    case .abs, .float, .int, .round: return try applyToNumber(filter, of: value, arguments)
    case .max, .min, .sum, .sort, .dictsort, .unique:
      return try applyInOrder(filter, of: value, arguments)
    default: return try applyToItems(filter, of: value, arguments)
    }
  }

  /// The text of a value, paid for again because a new one is made of it.
  private func paidString(_ value: Value) throws(ChatTemplateError) -> String {
    let text = try string(value)
    try charge(bytes: 4 * text.utf8.count)
    return text
  }

  private func recased(_ text: String, _ filter: Filter) -> String {
    switch filter {
    case .capitalize: capitalised(text)
    case .lower: lowered(text)
    case .upper: text.uppercased()
    case .title: titledWords(text)
    default: text
    }
  }

  /// Jinja's filter, which differs from Python's method: only blanks, hyphens and brackets end a
  /// word.
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

  /// Runs of letters, numbers and _.
  private func wordCount(_ text: String) -> Int {
    var count = 0
    var inWord = false
    for scalar in text.unicodeScalars {
      let isPart = isPythonLetterOrNumber(scalar) || scalar == "_"
      if isPart, !inWord { count += 1 }
      inWord = isPart
    }
    return count
  }

  /// The filter `indent(width=4, first=False, blank=False)`.
  private func indented(
    _ value: Value, _ given: [Value?]
  ) throws(ChatTemplateError) -> Value {
    let what = "the filter 'indent'"
    if case .undefined(let why) = value { throw fault(.evaluation(why)) }
    let text = try text(value, of: what)
    let margin: String
    switch given[0] ?? .integer(4) {
    case .text(let text), .markup(let text): margin = text
    case let width: margin = try spaces(try integer(width, of: what))
    }
    // As Jinja: one more newline first, so that one at the end stays as an empty line. Every end of
    // a line becomes \n.
    try charge(bytes: 4 * text.utf8.count)
    let lines = try lines(of: text + "\n")
    let (bytes, overflow) = margin.utf8.count.multipliedReportingOverflow(by: lines.count)
    try charge(bytes: overflow ? .max : bytes)
    let (first, blank) = (given[1]?.isTrue ?? false, given[2]?.isTrue ?? false)
    var result: [String] = []
    for (index, line) in lines.enumerated() {
      let isMoved = index == 0 ? first : blank || !line.utf8.isEmpty
      result.append(isMoved ? margin + line : line)
    }
    return .str(try joined(result, by: "\n"), isMarkup: value.isMarkup)
  }

  func length(of value: Value) throws(ChatTemplateError) -> Int {
    switch value {
    case .undefined: return 0
    case .list(let list): return list.items.count
    case .mapping(let mapping): return mapping.keys.count
    case .text(let text), .markup(let text):
      try charge(bytes: text.utf8.count)
      return text.unicodeScalars.count
    case .loop(let round): return round.items.count
    default: throw fault(.evaluation("\(value.typeName) has no length"))
    }
  }
}
