// Methods of str.
//
// In:  a text, the method's name, arguments.
// Out: a value.
//
// Of text that is marked safe (Renderer+Markup.swift) changed copies are marked too, and what is
// put into them is escaped. The next file, Renderer+Filters.swift, has filters.

extension Renderer {
  /// A method of a text: `text.name(arguments)`.
  func call(
    _ name: String, of text: String, isMarkup: Bool, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the method '\(name)'"
    try charge(bytes: text.utf8.count * 4)
    /// A changed copy.
    func copy(_ text: String) -> Value { .str(text, isMarkup: isMarkup) }
    /// What is put into a copy; escaping makes a str of anything.
    func inserted(_ value: Value?) throws(ChatTemplateError) -> String {
      isMarkup ? try escaped(value ?? .none) : try self.text(value, of: what)
    }
    switch name {
    case "strip", "lstrip", "rstrip":
      let given = try positional(arguments, ["chars"], of: what)
      let unwanted = try optionalText(given[0], of: what)
      return copy(
        stripped(text, of: unwanted, left: name != "rstrip", right: name != "lstrip"))
    case "split", "rsplit":
      let given = try bind(arguments, to: ["sep", "maxsplit"], of: what)
      let parts = try split(
        text, at: try optionalText(given[0], of: what), limit: try limit(given[1], of: what),
        fromTheRight: name == "rsplit")
      return try list(parts.map(copy))
    case "splitlines":
      let given = try bind(arguments, to: ["keepends"], of: what)
      return try list(try lines(of: text, keepsEnds: given[0]?.isTrue ?? false).map(copy))
    case "partition", "rpartition":
      let given = try positional(arguments, ["sep"], required: 1, of: what)
      return try list(
        try parted(text, at: try self.text(given[0], of: what), fromTheRight: name == "rpartition")
          .map(copy), kind: .tuple)
    case "removeprefix", "removesuffix":
      let given = try positional(arguments, ["affix"], required: 1, of: what)
      let affix = try self.text(given[0], of: what)
      let isPrefix = name == "removeprefix"
      guard try hasEnd(text, .text(affix), atStart: isPrefix, of: what) else { return copy(text) }
      let count = affix.unicodeScalars.count
      return copy(
        makeText(
          isPrefix ? text.unicodeScalars.dropFirst(count) : text.unicodeScalars.dropLast(count)))
    case "replace":
      let given = try positional(arguments, ["old", "new", "count"], required: 2, of: what)
      return copy(
        try replaced(
          text, try self.text(given[0], of: what), by: try inserted(given[1]),
          limit: try limit(given[2], of: what)))
    case "join":
      let given = try positional(arguments, ["iterable"], required: 1, of: what)
      var parts: [String] = []
      for item in try items(of: given[0] ?? .none) {
        try charge()
        parts.append(try inserted(item))
      }
      return copy(try joined(parts, by: text))
    case "format": return copy(try formatted(text, isMarkup: isMarkup, arguments))
    case "center", "ljust", "rjust":
      let given = try positional(arguments, ["width", "fillchar"], required: 1, of: what)
      let fill = try given[1].map(inserted) ?? " "
      if fill.unicodeScalars.count != 1 {
        throw fault(.evaluation("\(what) takes one character to fill with"))
      }
      return copy(
        try widened(
          text, to: try integer(given[0] ?? .none, of: what), with: fill,
          left: name == "rjust" ? 1 : 0, right: name == "ljust" ? 1 : 0))
    case "zfill":
      let given = try positional(arguments, ["width"], required: 1, of: what)
      let hasSign = text.hasPrefix("-") || text.hasPrefix("+")
      let width = try integer(given[0] ?? .none, of: what)
      let digits = try widened(
        String(text.unicodeScalars.dropFirst(hasSign ? 1 : 0)),
        to: hasSign ? max(0, width) - 1 : width, with: "0", left: 1, right: 0)
      return copy((hasSign ? String(text.unicodeScalars.prefix(1)) : "") + digits)
    case "upper", "lower", "title", "capitalize":
      _ = try bind(arguments, to: [], of: what)
      switch name {
      case "upper": return copy(text.uppercased())
      case "lower": return copy(lowered(text))
      case "title": return copy(titled(text))
      default: return copy(capitalised(text))
      }
    default: return try answer(name, about: text, arguments)
    }
  }

  /// Methods that say something about a text.
  private func answer(
    _ name: String, about text: String, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> Value {
    let what = "the method '\(name)'"
    let scalars = text.unicodeScalars
    switch name {
    case "startswith", "endswith":
      let given = try positional(arguments, ["prefix", "start", "end"], required: 1, of: what)
      guard let part = try part(of: text, given[1], given[2], of: what) else {
        // Behind the end nothing begins, but the argument's type is still looked at.
        _ = try hasEnd("", given[0] ?? .none, atStart: true, of: what)
        return .bool(false)
      }
      return .bool(
        try hasEnd(part.text, given[0] ?? .none, atStart: name == "startswith", of: what))
    case "find", "rfind", "index", "rindex", "count":
      let given = try positional(arguments, ["sub", "start", "end"], required: 1, of: what)
      let wanted = try self.text(given[0], of: what)
      let part = try part(of: text, given[1], given[2], of: what)
      if name == "count" {
        guard let part else { return .integer(0) }
        if wanted.utf8.isEmpty { return .integer(part.text.unicodeScalars.count + 1) }
        return .integer(
          try places(of: Array(wanted.utf8), in: Array(part.text.utf8), limit: nil).count)
      }
      let place = try part.flatMap { part throws(ChatTemplateError) in
        try self.place(of: wanted, in: part.text, fromTheRight: name.hasPrefix("r"))
          .map { $0 + part.start }
      }
      if place == nil, name.hasSuffix("index") { throw fault(.evaluation("substring not found")) }
      return .integer(place ?? -1)
    case "isdigit", "isalpha", "isalnum", "isspace", "isnumeric", "isdecimal", "isascii":
      _ = try bind(arguments, to: [], of: what)
      if scalars.isEmpty { return .bool(name == "isascii") }
      return .bool(
        scalars.allSatisfy { scalar in
          let properties = scalar.properties
          return switch name {
          case "isdigit": properties.numericType == .decimal || properties.numericType == .digit
          case "isalpha": isPythonLetter(scalar)
          case "isalnum": isPythonLetterOrNumber(scalar)
          case "isspace": isPythonSpace(scalar)
          case "isnumeric": properties.numericType != nil
          case "isdecimal": properties.numericType == .decimal
          default: scalar.isASCII
          }
        })
    case "isupper", "islower":
      _ = try bind(arguments, to: [], of: what)
      return .bool(name == "isupper" ? isUpperText(text) : isLowerText(text))
    default: throw fault(.unsupported("\(what) of a str"))
    }
  }
}
