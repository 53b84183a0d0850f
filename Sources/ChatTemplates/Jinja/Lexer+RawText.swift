// {% raw %} ... {% endraw %}: text in which tags are text.
//
// In:  the lexer, behind the {% of a tag and its - or +.
// Out: whether the tag was `raw`; if so, its text as a token, with the lexer behind `endraw`.
//
// No newline is taken away after {% raw %}, one is after {% endraw %}, as Jinja has it. The next
// file, Lexer+Literals.swift, reads the numbers and the strings.

extension Lexer {
  /// Steps over ` raw %}`, if it comes next.
  mutating func takeRawBegin() -> Bool {
    guard let place = placeBehind(word: "raw", at: position) else { return false }
    let isTrimmed = isNext("-%}", at: place - position)
    guard isTrimmed || isNext("%}", at: place - position) else { return false }
    advance(place - position + (isTrimmed ? 3 : 2))
    if isTrimmed { skipSpace() }
    return true
  }

  /// The text up to {% endraw %}, and that tag.
  mutating func readRaw() throws(ChatTemplateError) {
    let (start, startLine) = (position, line)
    let atLineStart = source[start - 1] == "\n"
    while position < source.count {
      if isNext("{%"), let behind = placeBehindEnd() {
        let text = source[start..<position]
        advance(2)
        append(
          withoutMargin(text, strips: true, atLineStart: atLineStart), line: startLine)
        advance(behind - position)
        _ = try takeEnd("%}", trims: true)
        return
      }
      advance()
    }
    line = startLine
    throw fault(.syntax("the template ends without 'endraw'"))
  }

  /// At {%: the place of the closing mark, if the tag is `endraw`.
  private func placeBehindEnd() -> Int? {
    let hasSign = isNext("-", at: 2) || isNext("+", at: 2)
    guard let place = placeBehind(word: "endraw", at: position + (hasSign ? 3 : 2)) else {
      return nil
    }
    let offset = place - position
    let closes = ["%}", "-%}", "+%}"].contains { isNext($0, at: offset) }
    return closes ? place : nil
  }

  /// The place behind white space, `word`, white space; nil where something else comes.
  private func placeBehind(word: String, at start: Int) -> Int? {
    var place = start
    while place < source.count, isPythonSpace(source[place]) { place += 1 }
    guard isNext(word, at: place - position) else { return nil }
    place += word.utf8.count
    while place < source.count, isPythonSpace(source[place]) { place += 1 }
    return place
  }
}
