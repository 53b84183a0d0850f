// What Python's str does, on Unicode scalars.
//
// In:  a text.
// Out: the text stripped, split, replaced, in another case.
//
// Python's str is a sequence of scalars, Swift's a sequence of characters that may be several
// scalars each, so nothing here may use Swift's own search or count. Searching is done on the bytes
// of UTF-8, where no scalar's code lies inside another's. The next file, PythonTextParts.swift, has
// split, partition, lines and places.

/// What str.strip() takes away and `\s` matches: Unicode's White_Space and four ASCII separators.
func isPythonSpace(_ scalar: Unicode.Scalar) -> Bool {
  scalar.properties.isWhitespace || ("\u{1C}"..."\u{1F}").contains(scalar)
}

func makeText(_ scalars: some Sequence<Unicode.Scalar>) -> String {
  var text = ""
  text.unicodeScalars.append(contentsOf: scalars)
  return text
}

/// Without the scalars of `unwanted` at the ends; nil: without white space.
func stripped(_ text: String, of unwanted: String?, left: Bool, right: Bool) -> String {
  let set = unwanted.map { Set($0.unicodeScalars) }
  func isUnwanted(_ scalar: Unicode.Scalar) -> Bool {
    set?.contains(scalar) ?? isPythonSpace(scalar)
  }
  var rest = Substring(text).unicodeScalars
  if left { rest = rest.drop(while: isUnwanted) }
  if right {
    while let last = rest.last, isUnwanted(last) { rest.removeLast() }
  }
  return String(rest)
}

/// The small form of the scalar at `index`.
///
/// Of a capital sigma that is ς where a word ends and σ elsewhere, after Unicode's condition
/// Final_Sigma: a cased letter before it and none behind it, marks and apostrophes aside.
private func lowered(_ scalars: [Unicode.Scalar], at index: Int) -> String {
  func isLetter(_ neighbour: Unicode.Scalar?) -> Bool { neighbour?.properties.isCased ?? false }
  guard scalars[index] == "Σ" else { return scalars[index].properties.lowercaseMapping }
  let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
  let behind = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
  return isLetter(before) && !isLetter(behind) ? "ς" : "σ"
}

/// str.lower().
func lowered(_ text: String) -> String {
  if !text.unicodeScalars.contains("Σ") { return text.lowercased() }
  let scalars = Array(text.unicodeScalars)
  return scalars.indices.map { lowered(scalars, at: $0) }.joined()
}

/// First letter of each word in title case, the others small: a word is a run of cased letters.
func titled(_ text: String) -> String {
  let scalars = Array(text.unicodeScalars)
  var result = ""
  var inWord = false
  for (index, scalar) in scalars.enumerated() {
    let isCased = scalar.properties.isCased
    if isCased {
      result += inWord ? lowered(scalars, at: index) : scalar.properties.titlecaseMapping
    } else {
      result.unicodeScalars.append(scalar)
    }
    inWord = isCased
  }
  return result
}

/// First scalar in title case, the rest small.
func capitalised(_ text: String) -> String {
  let scalars = Array(text.unicodeScalars)
  guard let first = scalars.first else { return "" }
  return first.properties.titlecaseMapping
    + scalars.indices.dropFirst().map { lowered(scalars, at: $0) }.joined()
}

/// str.islower() and str.isupper(): at least one cased letter, and none of the other case.
func isLowerText(_ text: String) -> Bool {
  text.unicodeScalars.contains { $0.properties.isLowercase }
    && !text.unicodeScalars.contains {
      $0.properties.isUppercase || $0.properties.generalCategory == .titlecaseLetter
    }
}

func isUpperText(_ text: String) -> Bool {
  text.unicodeScalars.contains { $0.properties.isUppercase }
    && !text.unicodeScalars.contains {
      $0.properties.isLowercase || $0.properties.generalCategory == .titlecaseLetter
    }
}

/// str.isalpha() of one scalar.
func isPythonLetter(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.properties.generalCategory {
  case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
  default: false
  }
}

/// str.isalnum() of one scalar.
func isPythonLetterOrNumber(_ scalar: Unicode.Scalar) -> Bool {
  isPythonLetter(scalar) || scalar.properties.numericType != nil
}

/// The scalars from last to first.
func reversed(_ text: String) -> String { makeText(text.unicodeScalars.reversed()) }

extension Renderer {
  /// Byte offset of the first `part` in `whole` at or behind `start`.
  ///
  /// Each comparison of bytes is paid for (256 a unit), so that no choice of texts takes long.
  func firstPlace(
    of part: [UInt8], in whole: [UInt8], from start: Int
  ) throws(ChatTemplateError) -> Int? {
    guard let first = part.first else { return start <= whole.count ? start : nil }
    var compared = 0
    var place = start
    while place + part.count <= whole.count {
      compared += 1
      if whole[place] == first {
        var length = 1
        while length < part.count, whole[place + length] == part[length] { length += 1 }
        compared += length
        if length == part.count {
          try charge(1 + compared / 256)
          return place
        }
      }
      if compared >= 1 << 16 {
        try charge(compared / 256)
        compared = 0
      }
      place += 1
    }
    try charge(1 + compared / 256)
    return nil
  }

  /// Offsets of every `part` in `whole` that does not overlap the one before, at most `limit`.
  func places(
    of part: [UInt8], in whole: [UInt8], limit: Int?
  ) throws(ChatTemplateError) -> [Int] {
    var places: [Int] = []
    var start = 0
    while places.count < limit ?? .max,
      let place = try firstPlace(of: part, in: whole, from: start)
    {
      places.append(place)
      start = place + part.count
    }
    return places
  }

  /// str.replace; `limit` nil replaces all.
  func replaced(
    _ text: String, _ old: String, by new: String, limit: Int?
  ) throws(ChatTemplateError) -> String {
    if old.utf8.isEmpty { return try interleaved(text, with: new, limit: limit) }
    let bytes = Array(text.utf8)
    let places = try places(of: Array(old.utf8), in: bytes, limit: limit)
    let (growth, overflow) = places.count.multipliedReportingOverflow(by: new.utf8.count)
    try charge(bytes: overflow ? .max : bytes.count)
    try charge(bytes: overflow ? .max : growth)
    var result: [UInt8] = []
    var start = 0
    for place in places {
      result += bytes[start..<place]
      result += new.utf8
      start = place + old.utf8.count
    }
    return String(decoding: result + bytes[start...], as: UTF8.self)
  }

  /// str.replace of the empty text: `new` before every scalar and at the end.
  private func interleaved(
    _ text: String, with new: String, limit: Int?
  ) throws(ChatTemplateError) -> String {
    let count = min(limit ?? .max, text.unicodeScalars.count + 1)
    let (growth, overflow) = count.multipliedReportingOverflow(by: new.utf8.count)
    try charge(bytes: overflow ? .max : growth)
    try charge(bytes: 4 * text.utf8.count)
    var result = ""
    for (index, scalar) in text.unicodeScalars.enumerated() {
      if index < count { result += new }
      result.unicodeScalars.append(scalar)
    }
    return count > text.unicodeScalars.count ? result + new : result
  }

  /// str.split(separator, limit).
  func split(
    _ text: String, at separator: String, limit: Int?
  ) throws(ChatTemplateError) -> [String] {
    if separator.utf8.isEmpty { throw fault(.evaluation("empty separator")) }
    let bytes = Array(text.utf8)
    try charge(bytes: bytes.count)
    var parts: [String] = []
    var start = 0
    for place in try places(of: Array(separator.utf8), in: bytes, limit: limit) {
      parts.append(String(decoding: bytes[start..<place], as: UTF8.self))
      start = place + separator.utf8.count
    }
    return parts + [String(decoding: bytes[start...], as: UTF8.self)]
  }

  /// str.split(None, limit): the runs between white space, none of them empty; behind `limit` of
  /// them the rest is one more, with the white space at its end.
  func splitAtSpace(_ text: String, limit: Int? = nil) throws(ChatTemplateError) -> [String] {
    try charge(bytes: text.utf8.count)
    var words: [String] = []
    var rest = text.unicodeScalars[...]
    while true {
      rest = rest.drop(while: isPythonSpace)
      if rest.isEmpty { return words }
      try charge()
      if words.count == limit { return words + [makeText(rest)] }
      let word = rest.prefix { !isPythonSpace($0) }
      words.append(makeText(word))
      rest = rest[word.endIndex...]
    }
  }

  /// The texts of `items` with `separator` between them.
  func joined(
    _ items: [String], by separator: String
  ) throws(ChatTemplateError) -> String {
    var bytes = 0
    for item in items { bytes += item.utf8.count + separator.utf8.count }
    try charge(bytes: bytes)
    return items.joined(separator: separator)
  }
}
