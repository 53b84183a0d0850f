// Text from files, names and tokens, made safe to look at.
//
// In:  any text.
// Out: the same text with the characters that steer a terminal or reorder a line as escapes,
//      \u{1B}.
//
// A model's answer may hold an escape sequence, a tensor's name a mark that shows a line backwards.
// Where bytes are the answer (generate, tokenize, prompts that are printed) they go into files and
// pipes untouched, and only a terminal gets the escapes. Names in tables, on pages and in error
// lines are for people wherever they go, and always have them.

/// Whether a terminal would act on this character, or show its line in another order: C0, DEL, C1,
/// marks of direction, line and paragraph separators.
private func steers(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0..<0x20, 0x7F..<0xA0, 0x061C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: true
  default: false
  }
}

/// `text` with every character that steers a terminal as \u{...}; those in `kept` stay.
package func visible(_ text: String, keeping kept: Set<Unicode.Scalar> = []) -> String {
  if !text.unicodeScalars.contains(where: { steers($0) && !kept.contains($0) }) { return text }
  var shown = ""
  for scalar in text.unicodeScalars {
    if steers(scalar) && !kept.contains(scalar) {
      shown += "\\u{" + String(scalar.value, radix: 16, uppercase: true) + "}"
    } else {
      shown.unicodeScalars.append(scalar)
    }
  }
  return shown
}
