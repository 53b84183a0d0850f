// Sentences as lines of a given width.
//
// In:  text, the width of a line.
// Out: lines that break at spaces; a word that is longer than a line is cut.

/// `text` as lines of at most `width` characters; never empty.
///
/// Runs of spaces become one. Text from files is for the caller to make visible.
package func filled(_ text: String, width: Int) -> [String] {
  precondition(width > 0, "lines of \(width) characters")
  var lines: [String] = []
  var line = ""
  for word in text.split(separator: " ") {
    var word = word
    if !line.isEmpty && line.count + 1 + word.count > width {
      lines.append(line)
      line = ""
    }
    while word.count > width {
      lines.append(String(word.prefix(width)))
      word = word.dropFirst(width)
    }
    line += (line.isEmpty ? "" : " ") + word
  }
  return lines + [line]
}

/// The same, with `indent` spaces before the first line and `hanging` more before the others.
package func filled(_ text: String, width: Int, indent: Int, hanging: Int = 0) -> [String] {
  let first = String(repeating: " ", count: indent)
  let other = first + String(repeating: " ", count: hanging)
  return filled(text, width: max(1, width - other.count)).enumerated().map { n, line in
    (n == 0 ? first : other) + line
  }
}
