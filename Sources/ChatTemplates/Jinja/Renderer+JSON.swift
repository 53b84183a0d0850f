// The filter tojson: a value as JSON text.
//
// In:  a value, and how to lay it out.
// Out: what Python's json.dumps writes.
//
//   tojson                {"a": [1, 2], "b": null}
//   tojson(indent=2)      one member or item a line, "," at its end
//
// transformers' filter, not Jinja's: < > & ' stay as they are, and non-ASCII text too. This is
// the last file of the engine.

/// How json.dumps lays a value out.
struct JSONStyle {
  var ensuresASCII = false
  /// What stands before a line for each level; nil: everything on one line.
  var indent: String?
  var itemSeparator = ", "
  var keySeparator = ": "
  var sortsKeys = false
}

extension Renderer {
  /// The filter `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
  func json(
    _ value: Value, _ arguments: GivenArguments
  ) throws(ChatTemplateError) -> String {
    let what = "the filter 'tojson'"
    let given = try bind(
      arguments, to: ["ensure_ascii", "indent", "separators", "sort_keys"], of: what)
    var style = JSONStyle(
      ensuresASCII: given[0]?.isTrue ?? false, sortsKeys: given[3]?.isTrue ?? false)
    if let indent = given[1], !isNone(indent) {
      if let text = indent.text {
        style.indent = text
      } else {
        style.indent = try spaces(try integer(indent, of: what))
      }
      style.itemSeparator = ","
    }
    if let separators = given[2], !isNone(separators) {
      let pair = try items(of: separators)
      if pair.count != 2 { throw fault(.evaluation("\(what) takes two separators")) }
      style.itemSeparator = try text(pair[0], of: what)
      style.keySeparator = try text(pair[1], of: what)
    }
    var output = ""
    try write(value, style, level: 0, to: &output)
    return output
  }

  func isNone(_ value: Value) -> Bool {
    if case .none = value { true } else { false }
  }

  private func write(
    _ value: Value, _ style: JSONStyle, level: Int, to output: inout String
  ) throws(ChatTemplateError) {
    try charge()
    switch value {
    case .none: output += "null"
    case .bool(let value): output += value ? "true" : "false"
    case .integer(let value): output += String(value)
    case .number(let value):
      output +=
        value.isNaN
        ? "NaN"
        : value.isInfinite
          ? (value < 0 ? "-" : "") + "Infinity"
          : written(value)
    case .text(let text), .markup(let text): try write(text, style, to: &output)
    case .list(let list):
      if list.kind != .list, list.kind != .tuple {
        throw fault(.evaluation("\(list.kind.rawValue) cannot be written as JSON"))
      }
      output += "["
      for (index, item) in list.items.enumerated() {
        try separate(index, style, level: level, to: &output)
        try write(item, style, level: level + 1, to: &output)
      }
      if !list.items.isEmpty { try breakLine(style, level: level, to: &output) }
      output += "]"
    case .mapping(let mapping):
      output += "{"
      var order = Array(mapping.keys.indices)
      if style.sortsKeys {
        order = try sorted(order) { a, b throws(ChatTemplateError) in
          try self.isLess(mapping.keys[a], mapping.keys[b])
        }
      }
      for (index, place) in order.enumerated() {
        try separate(index, style, level: level, to: &output)
        // The keys 1, true and null become texts.
        let key = mapping.keys[place]
        if key.text != nil {
          try write(key, style, level: level, to: &output)
        } else {
          output += "\""
          try write(key, style, level: level, to: &output)
          output += "\""
        }
        try charge(bytes: style.keySeparator.utf8.count)
        output += style.keySeparator
        try write(mapping.values[place], style, level: level + 1, to: &output)
      }
      if !order.isEmpty { try breakLine(style, level: level, to: &output) }
      output += "}"
    case .undefined(let why): throw fault(.evaluation(why))
    case .iterator, .namespace, .macro, .loop, .function:
      throw fault(.evaluation("\(value.typeName) cannot be written as JSON"))
    }
  }

  private func separate(
    _ index: Int, _ style: JSONStyle, level: Int, to output: inout String
  ) throws(ChatTemplateError) {
    if index > 0 {
      try charge(bytes: style.itemSeparator.utf8.count)
      output += style.itemSeparator
    }
    try breakLine(style, level: level + 1, to: &output)
  }

  private func breakLine(
    _ style: JSONStyle, level: Int, to output: inout String
  ) throws(ChatTemplateError) {
    guard let indent = style.indent else { return }
    let (bytes, overflow) = indent.utf8.count.multipliedReportingOverflow(by: level)
    try charge(bytes: overflow ? .max : bytes)
    output += "\n" + String(repeating: indent, count: level)
  }

  /// `count` blanks.
  func spaces(_ count: Int) throws(ChatTemplateError) -> String {
    try charge(bytes: max(0, count))
    return String(repeating: " ", count: max(0, count))
  }

  private func write(
    _ text: String, _ style: JSONStyle, to output: inout String
  ) throws(ChatTemplateError) {
    try charge(bytes: 6 * text.utf8.count)
    output += "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": output += "\\\""
      case "\\": output += "\\\\"
      case "\n": output += "\\n"
      case "\r": output += "\\r"
      case "\t": output += "\\t"
      case "\u{8}": output += "\\b"
      case "\u{C}": output += "\\f"
      case "\u{0}"..<"\u{20}": output += "\\u" + hexadecimal(scalar.value, width: 4)
      case "\u{7F}" where style.ensuresASCII: output.unicodeScalars.append(scalar)
      case _ where style.ensuresASCII && !scalar.isASCII:
        for unit in UTF16.encode(scalar) ?? .init() {
          output += "\\u" + hexadecimal(UInt32(unit), width: 4)
        }
      default: output.unicodeScalars.append(scalar)
      }
    }
    output += "\""
  }
}
