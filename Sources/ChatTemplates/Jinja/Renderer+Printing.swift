// How a value is written: {{ value }} and | string, as Python's str() and repr().
//
// In:  a value.
// Out: its text.
//
//   str    None, True, 1, 0.5, text as it is, [1, 'a'], (1,), {'a': 1}, dict_keys(['a'])
//   repr   the same, but text in quotes with escapes: what str() does inside lists and dicts
//
// Undefined is written as nothing. An iterator, a range, a namespace, a macro, the loop variable
// and a function are refused: Python would mostly print addresses. The next file,
// Renderer+JSON.swift, writes JSON.

extension Renderer {
  /// What Python's `str(value)` gives.
  func string(_ value: Value) throws(ChatTemplateError) -> String {
    switch value {
    case .text(let text), .markup(let text): return text
    case .undefined: return ""
    default: return try representation(of: value)
    }
  }

  /// What Python's `repr(value)` gives.
  func representation(of value: Value) throws(ChatTemplateError) -> String {
    var text = ""
    try write(value, to: &text)
    return text
  }

  /// repr(value), which is bounded by Value.depthLimit in depth.
  private func write(
    _ value: Value, to output: inout String
  ) throws(ChatTemplateError) {
    try charge()
    switch value {
    case .undefined: output += "Undefined"
    case .none: output += "None"
    case .bool(let value): output += value ? "True" : "False"
    case .integer(let value): output += String(value)
    case .number(let value): output += written(value)
    case .text(let text):
      try charge(bytes: 4 * text.utf8.count)
      output += quoted(text)
    case .markup(let text):
      try charge(bytes: 4 * text.utf8.count)
      output += "Markup(" + quoted(text) + ")"
    case .list(let list): try write(list, to: &output)
    case .mapping(let mapping):
      output += "{"
      for (index, key) in mapping.keys.enumerated() {
        if index > 0 { output += ", " }
        try write(key, to: &output)
        output += ": "
        try write(mapping.values[index], to: &output)
      }
      output += "}"
    case .iterator, .namespace, .macro, .loop, .function:
      throw fault(.unsupported("printing \(value.typeName)"))
    }
  }

  private func write(
    _ list: ListValue, to output: inout String
  ) throws(ChatTemplateError) {
    let (opening, closing): (String, String)
    switch list.kind {
    case .list: (opening, closing) = ("[", "]")
    case .tuple: (opening, closing) = ("(", list.items.count == 1 ? ",)" : ")")
    case .keys: (opening, closing) = ("dict_keys([", "])")
    case .values: (opening, closing) = ("dict_values([", "])")
    case .items: (opening, closing) = ("dict_items([", "])")
    case .range: throw fault(.unsupported("printing a range"))
    }
    output += opening
    for (index, item) in list.items.enumerated() {
      if index > 0 { output += ", " }
      try write(item, to: &output)
    }
    output += closing
  }
}

/// repr(float): the shortest digits that read back as the same value, which Swift prints too, with
/// an exponent below 1e-4 and from 1e16 on, where Swift chooses differently.
func written(_ value: Double) -> String {
  if value.isNaN { return "nan" }
  if value.isInfinite { return value < 0 ? "-inf" : "inf" }
  if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
  // Swift's text as 0.digits x 10^point.
  let text = value.magnitude.description
  let halves = text.split(separator: "e")
  let parts = halves[0].split(separator: ".", omittingEmptySubsequences: false)
  let fraction = parts.count > 1 ? parts[1] : ""
  var point = parts[0].utf8.count + (halves.count > 1 ? Int(halves[1]) ?? 0 : 0)
  var digits = String(parts[0] + fraction)
  while digits.hasPrefix("0") {
    digits.removeFirst()
    point -= 1
  }
  while digits.hasSuffix("0") { digits.removeLast() }
  let sign = value < 0 ? "-" : ""
  let exponent = point - 1
  if exponent < -4 || exponent >= 16 {
    let rest = digits.dropFirst()
    let size = String(exponent.magnitude)
    return sign + digits.prefix(1) + (rest.isEmpty ? "" : "." + rest) + "e"
      + (exponent < 0 ? "-" : "+") + (size.utf8.count < 2 ? "0" : "") + size
  }
  if point <= 0 { return sign + "0." + String(repeating: "0", count: -point) + digits }
  if digits.utf8.count <= point {
    return sign + digits + String(repeating: "0", count: point - digits.utf8.count) + ".0"
  }
  return sign + digits.prefix(point) + "." + digits.dropFirst(point)
}

/// repr(str): single quotes, unless the text has some and no double ones; what does not print as
/// \n, \t, \r, \xhh, \uhhhh or \Uhhhhhhhh.
func quoted(_ text: String) -> String {
  let scalars = text.unicodeScalars
  let quote: Unicode.Scalar = scalars.contains("'") && !scalars.contains("\"") ? "\"" : "'"
  var output = String(quote)
  for scalar in scalars {
    switch scalar {
    case quote, "\\": output += "\\" + String(scalar)
    case "\n": output += "\\n"
    case "\r": output += "\\r"
    case "\t": output += "\\t"
    case _ where isPrintable(scalar): output.unicodeScalars.append(scalar)
    default:
      let (mark, width) =
        scalar.value <= 0xFF ? ("x", 2) : scalar.value <= 0xFFFF ? ("u", 4) : ("U", 8)
      output += "\\" + mark + hexadecimal(scalar.value, width: width)
    }
  }
  return output + String(quote)
}

/// str.isprintable: no control, format, unassigned or separator character except the space.
private func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.properties.generalCategory {
  case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
    .paragraphSeparator:
    false
  case .spaceSeparator: scalar == " "
  default: true
  }
}

/// With leading zeros.
func hexadecimal(_ value: UInt32, width: Int) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: max(0, width - digits.count)) + digits
}
