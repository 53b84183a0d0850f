// Tokens into statements.
//
// In:  the lexer's tokens.
// Out: the whole template as a list of Statement.
//
//   {% if %} {% elif %} {% else %} {% endif %}
//   {% for a, b in sequence if condition %} {% else %} {% endfor %}, {% break %}, {% continue %}
//   {% set a = value %}, {% set a %} {% endset %}, {% set namespace.attribute = value %}
//   {% generation %} {% endgeneration %}, {% filter name %} {% endfilter %}
//   {% with a = 1 %} {% endwith %}, {% print a, b %}
//
// The next file, Parser+Macros.swift, reads macros, calls of macros with a body, and the
// statements that are errors when they are reached. Source: Jinja 3.1, "Template Designer
// Documentation", List of Control Structures; break and continue are its loopcontrols extension,
// generation is transformers' own.

extension Parser {
  /// The statements of a whole template.
  static func statements(
    of source: String, template: String
  ) throws(ChatTemplateError) -> [Statement] {
    var parser = Parser(
      template: template, tokens: try Lexer.tokens(of: source, template: template))
    let statements = try parser.body(until: [])
    if parser.token != .end {
      throw parser.fault(.syntax("unexpected \(parser.token.words)"))
    }
    try parser.checkUnknown(since: 0)
    return statements
  }

  /// Statements up to the tag that begins with one of `ends`; the parser stands on that word.
  private mutating func body(
    until ends: [String]
  ) throws(ChatTemplateError) -> [Statement] {
    try descend()
    defer { depth -= 1 }
    var statements: [Statement] = []
    while token != .end {
      if case .text(let text) = token {
        position += 1
        statements.append(.text(text))
      } else if take(.outputBegin) {
        statements.append(.output(try expressionOrTuple()))
        try expect(.outputEnd)
      } else {
        try expect(.blockBegin)
        if case .name(let word) = token, ends.contains(word) { return statements }
        statements.append(try statement())
        try expect(.blockEnd)
      }
    }
    if let end = ends.last { throw fault(.syntax("the template ends without '\(end)'")) }
    return statements
  }

  /// %} body {% end: what stands between, with the parser behind the word `end`.
  mutating func block(
    until end: String
  ) throws(ChatTemplateError) -> [Statement] {
    try expect(.blockEnd)
    let statements = try body(until: [end])
    try expect(.name(end))
    return statements
  }

  /// The same, in a place that break and continue cannot leave, and where an `if` around it does
  /// not excuse unknown names.
  mutating func closedBlock(
    until end: String
  ) throws(ChatTemplateError) -> [Statement] {
    let (around, known) = (loops, unknown.count)
    loops = 0
    defer { loops = around }
    let statements = try block(until: end)
    try checkUnknown(since: known)
    return statements
  }

  private mutating func statement() throws(ChatTemplateError) -> Statement {
    let place = position
    let word = try expectName()
    switch word {
    case "if": return try branches()
    case "for": return try loop()
    case "set": return try assignment()
    case "macro": return try macro()
    case "call": return try callBlock()
    case "generation": return .generation(try closedBlock(until: "endgeneration"))
    case "filter": return try filterBlock()
    case "with": return try with()
    case "print": return try printing()
    case "include", "import", "from", "extends", "block", "autoescape":
      return try refused(word, line: tokens[place].line)
    case "break", "continue":
      position = place
      if loops == 0 { throw fault(.syntax("'\(word)' outside of a loop")) }
      position += 1
      return word == "break" ? .leaveLoop : .nextRound
    case _ where word == "elif" || word == "else" || word.hasPrefix("end"):
      position = place
      throw fault(.syntax("'\(word)' has no beginning"))
    default:
      position = place
      throw fault(.unsupported("the statement \(excerpt(word))"))
    }
  }

  private mutating func condition() throws(ChatTemplateError) -> Expression {
    try expressionOrTuple { parser throws(ChatTemplateError) in try parser.either() }
  }

  private mutating func branches() throws(ChatTemplateError) -> Statement {
    var branches: [(condition: Expression?, body: [Statement])] = []
    var isOpen = true
    let known = unknown.count
    defer { forgiveUnknown(since: known) }
    while isOpen {
      let condition = try condition()
      try expect(.blockEnd)
      branches.append((condition, try body(until: ["elif", "else", "endif"])))
      isOpen = take(.name("elif"))
    }
    if take(.name("else")) {
      branches.append((nil, try block(until: "endif")))
    } else {
      try expect(.name("endif"))
    }
    return .branches(branches)
  }

  private mutating func loop() throws(ChatTemplateError) -> Statement {
    let start = line
    let target = try target(attributes: false)
    try expect(.name("in"))
    let sequence = try condition()
    let known = unknown.count
    let test = take(.name("if")) ? try expression() : nil
    let isRecursive = take(.name("recursive"))
    try expect(.blockEnd)
    loops += 1
    let body = try body(until: ["else", "endfor"])
    loops -= 1
    var otherwise: [Statement] = []
    if take(.name("else")) {
      otherwise = try block(until: "endfor")
    } else {
      try expect(.name("endfor"))
    }
    try checkUnknown(since: known)
    if isRecursive { return .refused("a recursive loop", line: start) }
    return .loop(
      Loop(
        target: target, sequence: sequence, condition: test, body: body, otherwise: otherwise,
        line: start))
  }

  /// a, or a, b, or (a, b), c, or with `attributes` namespace.attribute.
  private mutating func target(attributes: Bool) throws(ChatTemplateError) -> Target {
    var targets = [try innerTarget()]
    if attributes, case .name(let holder) = targets[0], take(.symbol(".")) {
      let name = try expectName()
      if name.hasPrefix("_") {
        throw fault(.unsupported("the attribute \(excerpt(name)), which begins with _,"))
      }
      return .attribute(holder, name)
    }
    let isTuple = token == .symbol(",")
    while take(.symbol(",")) {
      targets.append(try innerTarget())
    }
    if token == .symbol(".") { throw fault(.unsupported("an attribute among several names")) }
    return isTuple ? .targets(targets) : targets[0]
  }

  /// a name, or several in brackets.
  private mutating func innerTarget() throws(ChatTemplateError) -> Target {
    guard take(.symbol("(")) else { return .name(try targetName()) }
    try descend()
    defer { depth -= 1 }
    var targets = [try innerTarget()]
    let isTuple = token == .symbol(",")
    while take(.symbol(",")) {
      // (a,) is a list of one name.
      if token == .symbol(")") { break }
      targets.append(try innerTarget())
    }
    try expect(.symbol(")"))
    return isTuple ? .targets(targets) : targets[0]
  }

  private mutating func targetName() throws(ChatTemplateError) -> String {
    let place = position
    let name = try expectName()
    if ["true", "false", "none", "True", "False", "None"].contains(name) {
      position = place
      throw fault(.syntax("nothing can be assigned to '\(name)'"))
    }
    return name
  }

  private mutating func assignment() throws(ChatTemplateError) -> Statement {
    let start = line
    let target = try target(attributes: true)
    if take(.symbol("=")) { return .set(target, try expressionOrTuple(), line: start) }
    if token != .blockEnd, token != .symbol("|") {
      throw fault(.syntax("expected '=', found \(token.words)"))
    }
    let known = unknown.count
    // The text of the body is the name "" inside the filters, which no template can write.
    let text = try node(.name(""))
    var value = text
    while take(.symbol("|")) { value = try filter(of: value) }
    let body = try closedBlock(until: "endset")
    try checkUnknown(since: known)
    return .capture(target, value === text ? nil : value, body: body, line: start)
  }

  /// {% filter a | b %} body {% endfilter %}.
  private mutating func filterBlock() throws(ChatTemplateError) -> Statement {
    let known = unknown.count
    var value = try filter(of: try node(.name("")))
    while take(.symbol("|")) { value = try filter(of: value) }
    let body = try closedBlock(until: "endfilter")
    try checkUnknown(since: known)
    return .filtered(value, body: body)
  }

  /// {% print a, b %}: one behind the other.
  private mutating func printing() throws(ChatTemplateError) -> Statement {
    var parts = [try expression()]
    while take(.symbol(",")) { parts.append(try expression()) }
    return .output(try node(.concatenation(parts), above: parts))
  }

  private mutating func with() throws(ChatTemplateError) -> Statement {
    var targets: [(target: Target, value: Expression)] = []
    let known = unknown.count
    while token != .blockEnd {
      if !targets.isEmpty { try expect(.symbol(",")) }
      let target = try target(attributes: false)
      try expect(.symbol("="))
      targets.append((target, try expression()))
    }
    // Unlike the other blocks, this one can be left with break.
    let body = try block(until: "endwith")
    try checkUnknown(since: known)
    return .with(targets, body: body)
  }
}
