// Parts of a text: split, partition, lines, places, padding.
//
// In:  a text.
// Out: its parts, as Python's str gives them; places count Unicode scalars.
//
// What is done from the right is done from the left on the reversed text. The next file,
// Renderer+Printing.swift, writes values as text.

extension Renderer {
  /// str.split and str.rsplit; `separator` nil: at white space.
  func split(
    _ text: String, at separator: String?, limit: Int?, fromTheRight: Bool
  ) throws(ChatTemplateError) -> [String] {
    let whole = fromTheRight ? reversed(text) : text
    let parts: [String]
    if let separator {
      parts = try split(
        whole, at: fromTheRight ? reversed(separator) : separator, limit: limit)
    } else {
      parts = try splitAtSpace(whole, limit: limit)
    }
    return fromTheRight ? parts.reversed().map(reversed) : parts
  }

  /// str.partition and str.rpartition: what is before, the separator, what is behind.
  func parted(
    _ text: String, at separator: String, fromTheRight: Bool
  ) throws(ChatTemplateError) -> [String] {
    let parts = try split(text, at: separator, limit: 1, fromTheRight: fromTheRight)
    if parts.count == 2 { return [parts[0], separator, parts[1]] }
    return fromTheRight ? ["", "", text] : [text, "", ""]
  }

  /// The place of the first or the last `part`.
  func place(
    of part: String, in text: String, fromTheRight: Bool
  ) throws(ChatTemplateError) -> Int? {
    if fromTheRight {
      let count = text.unicodeScalars.count - part.unicodeScalars.count
      return try place(of: reversed(part), in: reversed(text), fromTheRight: false)
        .map { count - $0 }
    }
    let bytes = Array(text.utf8)
    return try firstPlace(of: Array(part.utf8), in: bytes, from: 0).map {
      String(decoding: bytes[..<$0], as: UTF8.self).unicodeScalars.count
    }
  }

  /// text[start:end] and where it starts; nil where the start is behind the end.
  func part(
    of text: String, _ start: Value?, _ end: Value?, of what: String
  ) throws(ChatTemplateError) -> (text: String, start: Int)? {
    if start == nil, end == nil { return (text, 0) }
    let scalars = Array(text.unicodeScalars)
    func place(_ value: Value?, otherwise: Int) throws(ChatTemplateError) -> Int {
      guard let value, !isNone(value) else { return otherwise }
      let place = try integer(value, of: what)
      return place < 0 ? max(0, place + scalars.count) : place
    }
    let from = try place(start, otherwise: 0)
    let to = min(try place(end, otherwise: scalars.count), scalars.count)
    return from > to ? nil : (makeText(scalars[from..<to]), from)
  }

  /// Whether `text` begins or ends with `affix`, or with one of a tuple.
  func hasEnd(
    _ text: String, _ affix: Value, atStart: Bool, of what: String
  ) throws(ChatTemplateError) -> Bool {
    let choices: [Value]
    if case .list(let list) = affix, list.kind == .tuple {
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
  func lines(
    of text: String, keepsEnds: Bool = false
  ) throws(ChatTemplateError) -> [String] {
    var lines: [String] = []
    var line = ""
    var last: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n" where last == "\r":
        if keepsEnds { lines[lines.count - 1].unicodeScalars.append(scalar) }
      case "\n", "\r", "\u{B}", "\u{C}", "\u{1C}", "\u{1D}", "\u{1E}", "\u{85}", "\u{2028}",
        "\u{2029}":
        try charge()
        if keepsEnds { line.unicodeScalars.append(scalar) }
        lines.append(line)
        line = ""
      default: line.unicodeScalars.append(scalar)
      }
      last = scalar
    }
    return line.utf8.isEmpty ? lines : lines + [line]
  }

  /// `text` with as many `fill` as `width` asks for: on the left or the right, or on both sides as
  /// str.center has it, where `left` and `right` are both 0.
  func widened(
    _ text: String, to width: Int, with fill: String, left: Int, right: Int
  ) throws(ChatTemplateError) -> String {
    let count = text.unicodeScalars.count
    if width <= count { return text }
    let missing = width - count
    let (bytes, overflow) = missing.multipliedReportingOverflow(by: fill.utf8.count)
    try charge(bytes: overflow ? .max : bytes)
    let before =
      left == 1 ? missing : right == 1 ? 0 : missing / 2 + (missing & width & 1)
    return String(repeating: fill, count: before) + text
      + String(repeating: fill, count: missing - before)
  }
}
