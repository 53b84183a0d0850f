// Text into tokens, with Jinja's rules for white space.
//
// In:  the template's source.
// Out: tokens: text to print as it stands, and the names, numbers, strings and symbols inside tags.
//
// White space as transformers sets it up (trim_blocks and lstrip_blocks both on):
//   {%- {{- {#-   takes away all white space before the tag, newlines too
//   -%} -}} -#}   ... all white space after it
//   %} #}         ... one newline after it (not after }}); +%} and +#} keep it
//   {% {#         ... blanks before it, if nothing else stands before it on its line (not {{);
//                 {%+ and {#+ keep them
//   {% raw %}     text up to {% endraw %}, tags and all; no newline is taken after {% raw %}
// One newline at the very end of the source is dropped, and \r\n and \r read as \n.
// Source: Jinja 3.1, "Template Designer Documentation", White Space Control. The next file,
// Lexer+RawText.swift, reads what {% raw %} keeps from being read.

/// One token and the line it stands on.
struct Token {
  enum Kind: Equatable {
    case text(String)
    case outputBegin, outputEnd
    case blockBegin, blockEnd
    case name(String)
    case string(String)
    case integer(Int)
    case number(Double)
    /// A literal or a name that we leave out, in the words of the error.
    case refused(String)
    case symbol(String)
    case end
  }

  let kind: Kind
  let line: Int
}

/// Reads a template's source once, from left to right.
struct Lexer {
  let template: String
  let source: [Unicode.Scalar]
  var position = 0
  var line = 1
  private var tokens: [Token] = []

  /// All tokens of `source`; the last one is `.end`.
  static func tokens(
    of source: String, template: String
  ) throws(ChatTemplateError) -> [Token] {
    var lexer = Lexer(source, template: template)
    try lexer.readAll()
    return lexer.tokens
  }

  private init(_ source: String, template: String) {
    var scalars: [Unicode.Scalar] = []
    scalars.reserveCapacity(source.utf8.count)
    for scalar in source.unicodeScalars {
      // \r\n: the \r has already become the newline.
      if scalar == "\n", scalars.last == "\r" { scalars.removeLast() }
      if scalars.last == "\r" { scalars[scalars.count - 1] = "\n" }
      scalars.append(scalar)
    }
    if scalars.last == "\r" { scalars[scalars.count - 1] = "\n" }
    if scalars.last == "\n" { scalars.removeLast() }
    self.source = scalars
    self.template = template
  }

  func fault(_ problem: ChatTemplateError.Problem) -> ChatTemplateError {
    ChatTemplateError(template: template, line: line, problem)
  }

  func isNext(_ text: String, at offset: Int = 0) -> Bool {
    source.dropFirst(position + offset).starts(with: text.unicodeScalars)
  }

  var next: Unicode.Scalar? { position < source.count ? source[position] : nil }

  mutating func advance(_ count: Int = 1) {
    for scalar in source[position..<position + count] where scalar == "\n" { line += 1 }
    position += count
  }

  mutating func skipSpace() {
    while let scalar = next, isPythonSpace(scalar) { advance() }
  }

  /// Whether {{, {% or {# comes next.
  private var tagBegins: Bool {
    source[position] == "{" && (isNext("{{") || isNext("{%") || isNext("{#"))
  }

  // MARK: Text between tags

  private mutating func readAll() throws(ChatTemplateError) {
    var atLineStart = true
    while position < source.count {
      let start = position
      while position < source.count, !tagBegins { position += 1 }
      let text = source[start..<position]
      let textLine = line
      for scalar in text where scalar == "\n" { line += 1 }
      guard position < source.count else {
        append(text, line: textLine)
        break
      }
      let kind = source[position + 1]
      position += 2
      append(
        withoutMargin(text, strips: kind != "{", atLineStart: atLineStart), line: textLine)
      switch kind {
      case "#": try skipComment()
      case "%":
        if takeRawBegin() {
          try readRaw()
        } else {
          try readTag(.blockBegin, .blockEnd, closing: "%}", trims: true)
        }
      default: try readTag(.outputBegin, .outputEnd, closing: "}}", trims: false)
      }
      atLineStart = source[position - 1] == "\n"
    }
    tokens.append(Token(kind: .end, line: line))
  }

  /// The text before a tag as the tag leaves it; steps over the tag's - or +.
  mutating func withoutMargin(
    _ text: ArraySlice<Unicode.Scalar>, strips: Bool, atLineStart: Bool
  ) -> ArraySlice<Unicode.Scalar> {
    var text = text
    if next == "-" {
      while let last = text.last, isPythonSpace(last) { text.removeLast() }
      position += 1
    } else if next == "+" {
      position += 1
    } else if strips {
      let margin = text.lastIndex(of: "\n").map { $0 + 1 }
      if let from = margin ?? (atLineStart ? text.startIndex : nil),
        text[from...].allSatisfy(isPythonSpace)
      {
        return text[..<from]
      }
    }
    return text
  }

  mutating func append(_ text: ArraySlice<Unicode.Scalar>, line: Int) {
    if text.isEmpty { return }
    var string = ""
    string.unicodeScalars.append(contentsOf: text)
    tokens.append(Token(kind: .text(string), line: line))
  }

  private mutating func skipComment() throws(ChatTemplateError) {
    let start = line
    while position < source.count {
      if try takeEnd("#}", trims: true) { return }
      advance()
    }
    line = start
    throw fault(.syntax("a comment has no end"))
  }

  /// Steps over a closing mark and the white space that goes with it, if one comes next.
  mutating func takeEnd(
    _ closing: String, trims: Bool
  ) throws(ChatTemplateError) -> Bool {
    if isNext("-" + closing) {
      advance(3)
      skipSpace()
    } else if trims, isNext("+" + closing) {
      advance(3)
    } else if isNext(closing) {
      advance(2)
      if trims, next == "\n" { advance() }
    } else {
      return false
    }
    return true
  }

  // MARK: Inside a tag

  private mutating func readTag(
    _ begin: Token.Kind, _ end: Token.Kind, closing: String, trims: Bool
  ) throws(ChatTemplateError) {
    let start = line
    var open: [Unicode.Scalar] = []
    tokens.append(Token(kind: begin, line: line))
    while true {
      skipSpace()
      let here = line
      // Inside brackets }} closes two dicts, not the tag.
      if open.isEmpty, try takeEnd(closing, trims: trims) {
        tokens.append(Token(kind: end, line: here))
        return
      }
      guard let scalar = next else {
        line = start
        throw fault(.syntax("a tag has no end"))
      }
      let kind = try readToken(scalar)
      tokens.append(Token(kind: kind, line: here))
      switch kind {
      case .symbol("("): open.append(")")
      case .symbol("["): open.append("]")
      case .symbol("{"): open.append("}")
      case .symbol(")"), .symbol("]"), .symbol("}"):
        if open.popLast() != scalar { throw fault(.syntax("unexpected '\(scalar)'")) }
      default: break
      }
    }
  }

  private mutating func readToken(
    _ scalar: Unicode.Scalar
  ) throws(ChatTemplateError) -> Token.Kind {
    switch scalar {
    case "a"..."z", "A"..."Z", "_":
      let name = take { isNameScalar($0) }
      let isASCII = name.utf8.allSatisfy { $0 < 0x80 }
      return isASCII ? .name(name) : .refused("the name \(excerpt(name))")
    case "0"..."9": return try readNumber()
    case "'", "\"": return try readString(quote: scalar)
    case _ where !scalar.isASCII && scalar.properties.isXIDStart:
      return .refused("the name \(excerpt(take { isNameScalar($0) }))")
    default: break
    }
    for symbol in ["//", "**", "==", "!=", ">=", "<="] where isNext(symbol) {
      advance(2)
      return .symbol(symbol)
    }
    guard "+-/*%~[](){}><=.:|,".unicodeScalars.contains(scalar) else {
      throw fault(.syntax("unexpected \(excerpt(String(scalar)))"))
    }
    advance()
    return .symbol(String(scalar))
  }

  mutating func take(while matches: (Unicode.Scalar) -> Bool) -> String {
    var text = ""
    while let scalar = next, matches(scalar) {
      text.unicodeScalars.append(scalar)
      advance()
    }
    return text
  }
}
