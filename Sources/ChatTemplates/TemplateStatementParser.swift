// Step 4 of a chat template: tokens into statements.
//
// In:  the lexer's tokens.
// Out: the whole template as a list of TemplateStatement.
//
//   {% if %} {% elif %} {% else %} {% endif %}
//   {% for a, b in sequence if condition %} {% else %} {% endfor %}, {% break %}, {% continue %}
//   {% set a = value %}, {% set a %} {% endset %}, {% set namespace.attribute = value %}
//   {% macro name(a, b=1) %} {% endmacro %}
//   {% generation %} {% endgeneration %}
//
// Any other statement is an error that names it. Source: Jinja 3.1, "Template Designer
// Documentation", List of Control Structures; break and continue are its loopcontrols extension,
// generation is transformers' own. The next file, TemplateValue.swift, is what expressions become.

extension TemplateParser {
  /// The statements of a whole template.
  static func statements(
    of source: String, template: String
  ) throws(ChatTemplateError) -> [TemplateStatement] {
    var parser = TemplateParser(
      template: template, tokens: try TemplateLexer.tokens(of: source, template: template))
    let statements = try parser.body(until: [])
    if parser.token != .end {
      throw parser.fault(.syntax("unexpected \(parser.token.words)"))
    }
    return statements
  }

  /// Statements up to the tag that begins with one of `ends`; the parser stands on that word.
  private mutating func body(
    until ends: [String]
  ) throws(ChatTemplateError) -> [TemplateStatement] {
    try descend()
    defer { depth -= 1 }
    var statements: [TemplateStatement] = []
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
  private mutating func block(
    until end: String
  ) throws(ChatTemplateError) -> [TemplateStatement] {
    try expect(.blockEnd)
    let statements = try body(until: [end])
    try expect(.name(end))
    return statements
  }

  /// The same, in a place that break and continue cannot leave.
  private mutating func closedBlock(
    until end: String
  ) throws(ChatTemplateError) -> [TemplateStatement] {
    let around = loops
    loops = 0
    defer { loops = around }
    return try block(until: end)
  }

  private mutating func statement() throws(ChatTemplateError) -> TemplateStatement {
    let place = position
    let word = try expectName()
    switch word {
    case "if": return try branches()
    case "for": return try loop()
    case "set": return try assignment()
    case "macro": return try macro()
    case "generation": return .generation(try closedBlock(until: "endgeneration"))
    case "break", "continue":
      position = place
      if loops == 0 { throw fault(.syntax("'\(word)' outside of a loop")) }
      position += 1
      return word == "break" ? .leaveLoop : .nextRound
    case "elif", "else", "endif", "endfor", "endset", "endmacro", "endgeneration":
      position = place
      throw fault(.syntax("'\(word)' has no beginning"))
    default:
      position = place
      throw fault(.unsupported("the statement \(excerpt(word))"))
    }
  }

  private mutating func condition() throws(ChatTemplateError) -> TemplateExpression {
    try expressionOrTuple { parser throws(ChatTemplateError) in try parser.either() }
  }

  private mutating func branches() throws(ChatTemplateError) -> TemplateStatement {
    var branches: [(condition: TemplateExpression?, body: [TemplateStatement])] = []
    var isOpen = true
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

  private mutating func loop() throws(ChatTemplateError) -> TemplateStatement {
    let start = line
    let target = try target(attributes: false)
    try expect(.name("in"))
    let sequence = try condition()
    let test = take(.name("if")) ? try expression() : nil
    if token == .name("recursive") { throw fault(.unsupported("a recursive loop")) }
    try expect(.blockEnd)
    loops += 1
    let body = try body(until: ["else", "endfor"])
    loops -= 1
    var otherwise: [TemplateStatement] = []
    if take(.name("else")) {
      otherwise = try block(until: "endfor")
    } else {
      try expect(.name("endfor"))
    }
    return .loop(
      TemplateLoop(
        target: target, sequence: sequence, condition: test, body: body, otherwise: otherwise,
        line: start))
  }

  /// a, or a, b, or (a, b), or with `attributes` namespace.attribute.
  private mutating func target(attributes: Bool) throws(ChatTemplateError) -> TemplateTarget {
    let isBracketed = take(.symbol("("))
    var names = [try targetName()]
    if attributes, !isBracketed, take(.symbol(".")) {
      let name = try expectName()
      if name.hasPrefix("_") {
        throw fault(.unsupported("the attribute \(excerpt(name)), which begins with _,"))
      }
      return .attribute(names[0], name)
    }
    let isTuple = token == .symbol(",")
    while take(.symbol(",")) {
      // (a,) is a list of one name.
      if isBracketed, token == .symbol(")") { break }
      names.append(try targetName())
    }
    if token == .symbol(".") { throw fault(.unsupported("an attribute among several names")) }
    if isBracketed { try expect(.symbol(")")) }
    return isTuple ? .names(names) : .name(names[0])
  }

  private mutating func targetName() throws(ChatTemplateError) -> String {
    if token == .symbol("(") { throw fault(.unsupported("brackets inside a list of names")) }
    let place = position
    let name = try expectName()
    if ["true", "false", "none", "True", "False", "None"].contains(name) {
      position = place
      throw fault(.syntax("nothing can be assigned to '\(name)'"))
    }
    return name
  }

  private mutating func assignment() throws(ChatTemplateError) -> TemplateStatement {
    let start = line
    let target = try target(attributes: true)
    if take(.symbol("=")) { return .set(target, try expressionOrTuple(), line: start) }
    if token != .blockEnd, token != .symbol("|") {
      throw fault(.syntax("expected '=', found \(token.words)"))
    }
    // The text of the body is the name "" inside the filters, which no template can write.
    let text = try node(.name(""))
    var value = text
    while take(.symbol("|")) { value = try filter(of: value) }
    let body = try closedBlock(until: "endset")
    return .capture(target, value === text ? nil : value, body: body, line: start)
  }

  private mutating func macro() throws(ChatTemplateError) -> TemplateStatement {
    let start = line
    let name = try expectName()
    var parameters: [(name: String, fallback: TemplateExpression?)] = []
    try expect(.symbol("("))
    while !take(.symbol(")")) {
      if !parameters.isEmpty { try expect(.symbol(",")) }
      let parameter = try expectName()
      if parameters.contains(where: { $0.name == parameter }) {
        throw fault(.syntax("the parameter '\(parameter)' stands twice"))
      }
      let fallback = take(.symbol("=")) ? try expression() : nil
      if fallback == nil, parameters.last?.fallback != nil {
        throw fault(.syntax("a parameter without a default behind one with a default"))
      }
      parameters.append((parameter, fallback))
    }
    macros += 1
    defer { macros -= 1 }
    let body = try closedBlock(until: "endmacro")
    return .macro(TemplateMacro(name: name, parameters: parameters, body: body, line: start))
  }
}
