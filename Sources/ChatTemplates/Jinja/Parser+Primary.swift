// The innermost level: literals, brackets, calls, filters, tests.
//
// In:  the parser, standing on a name, a literal or an opening bracket, or behind `|`, `is`, `[`.
// Out: a Expression.
//
// Source: Jinja 3.1, "Template Designer Documentation". The next file,
// Parser+Statements.swift, reads what stands around expressions.

extension Parser {
  /// A literal, a name, or something in brackets.
  mutating func primary() throws(ChatTemplateError) -> Expression {
    let start = token
    position += start == .end ? 0 : 1
    switch start {
    case .name("true"), .name("True"): return try node(.literal(.bool(true)))
    case .name("false"), .name("False"): return try node(.literal(.bool(false)))
    case .name("none"), .name("None"): return try node(.literal(.none))
    case .name(let name):
      if Self.reserved.contains(name) { break }
      if name == "self" { return try node(.refused("the name 'self'")) }
      if Macro.extraNames.contains(name) { extras.insert(name) }
      return try node(.name(name))
    case .integer(let value): return try node(.literal(.integer(value)))
    case .number(let value): return try node(.literal(.number(value)))
    case .refused(let what): return try node(.refused(what))
    case .string(var text):
      // Strings side by side are one string.
      while case .string(let more) = token {
        text += more
        position += 1
      }
      if case .refused(let what) = token {
        position += 1
        return try node(.refused(what))
      }
      return try node(.literal(.text(text)))
    case .symbol("("):
      let value = try parenthesised()
      try expect(.symbol(")"))
      return value
    case .symbol("["):
      let items = try items(until: "]")
      return try node(.list(items), above: items)
    case .symbol("{"): return try mapping()
    default: break
    }
    position -= start == .end ? 0 : 1
    throw fault(.syntax("unexpected \(start.words)"))
  }

  /// Words that cannot name a variable.
  private static let reserved: Set<String> = ["and", "elif", "else", "if", "in", "is", "not", "or"]

  /// Behind `(`: one expression, or a tuple: (), (a,), (a, b).
  private mutating func parenthesised() throws(ChatTemplateError) -> Expression {
    if token == .symbol(")") { return try node(.tuple([])) }
    return try expressionOrTuple()
  }

  /// `a`, or a tuple without brackets: `a, b`.
  mutating func expressionOrTuple(
    _ element: (inout Parser) throws(ChatTemplateError) -> Expression = {
      parser throws(ChatTemplateError) in try parser.expression()
    }
  ) throws(ChatTemplateError) -> Expression {
    let first = try element(&self)
    guard token == .symbol(",") else { return first }
    var items = [first]
    while take(.symbol(",")) {
      if [.symbol(")"), .outputEnd, .blockEnd].contains(token) { break }
      items.append(try element(&self))
    }
    return try node(.tuple(items), above: items)
  }

  private mutating func items(
    until closing: String
  ) throws(ChatTemplateError) -> [Expression] {
    var items: [Expression] = []
    while !take(.symbol(closing)) {
      if !items.isEmpty {
        try expect(.symbol(","))
        if take(.symbol(closing)) { break }
      }
      items.append(try expression())
    }
    return items
  }

  private mutating func mapping() throws(ChatTemplateError) -> Expression {
    var members: [(key: Expression, value: Expression)] = []
    while !take(.symbol("}")) {
      if !members.isEmpty {
        try expect(.symbol(","))
        if take(.symbol("}")) { break }
      }
      let key = try expression()
      try expect(.symbol(":"))
      members.append((key, try expression()))
    }
    return try node(.mapping(members), above: members.flatMap { [$0.key, $0.value] })
  }

  /// Behind `[`: item], or from:to:step].
  mutating func subscripted(
    _ value: Expression
  ) throws(ChatTemplateError) -> Expression {
    let start = line
    var bounds: [Expression?] = [nil, nil, nil]
    var colons = 0
    var isTuple = false
    while !take(.symbol("]")) {
      if take(.symbol(",")) {
        isTuple = true
        for place in bounds.indices { bounds[place] = nil }
        colons = 0
      } else if take(.symbol(":")) {
        colons += 1
        if colons > 2 { throw fault(.syntax("a slice has at most three parts")) }
      } else if bounds[colons] == nil {
        bounds[colons] = try expression()
      } else {
        throw fault(.syntax("expected ']', found \(token.words)"))
      }
    }
    if isTuple { return try node(.refused("an index of several parts"), line: start) }
    if colons > 0 {
      return try node(
        .slice(value, from: bounds[0], to: bounds[1], step: bounds[2]), above: [value] + bounds,
        line: start)
    }
    guard let item = bounds[0] else { throw fault(.syntax("an index is missing")) }
    return try node(.item(value, item), above: [value, item], line: start)
  }

  /// A call, from its `(` on.
  mutating func call(
    of callee: Expression
  ) throws(ChatTemplateError) -> Expression {
    let start = line
    let arguments = try arguments()
    return try node(.call(callee, arguments), above: [callee] + arguments.all, line: start)
  }

  /// The arguments of a call: `(a, b, name=c)`.
  mutating func arguments() throws(ChatTemplateError) -> CallArguments {
    var arguments = CallArguments()
    try expect(.symbol("("))
    while !take(.symbol(")")) {
      if !arguments.all.isEmpty {
        try expect(.symbol(","))
        if take(.symbol(")")) { break }
      }
      if arguments.namedRest == nil, take(.symbol("**")) {
        arguments.namedRest = try expression()
        continue
      }
      if arguments.rest == nil, arguments.namedRest == nil, take(.symbol("*")) {
        arguments.rest = try expression()
        continue
      }
      if arguments.namedRest != nil { throw fault(.syntax("an argument behind ** and a dict")) }
      if case .name(let name) = token, tokens[position + 1].kind == .symbol("=") {
        position += 2
        if arguments.named.contains(where: { $0.name == name }) {
          throw fault(.syntax("the argument '\(name)' is given twice"))
        }
        arguments.named.append((name, try expression()))
      } else if arguments.named.isEmpty, arguments.rest == nil {
        arguments.positional.append(try expression())
      } else {
        throw fault(.syntax("an argument without a name behind one with a name"))
      }
    }
    return arguments
  }

  /// Behind `|`: name or name(arguments).
  mutating func filter(
    of value: Expression
  ) throws(ChatTemplateError) -> Expression {
    let start = line
    let name = try dottedName(among: Filter.jinjaNames, what: "filter")
    let arguments = token == .symbol("(") ? try arguments() : CallArguments()
    return try node(
      .filter(value, name, arguments), above: [value] + arguments.all, line: start)
  }

  /// The name of a filter or a test, noted where `known` lacks it.
  private mutating func dottedName(
    among known: Set<String>, what: String
  ) throws(ChatTemplateError) -> String {
    let start = line
    var name = try expectName()
    while take(.symbol(".")) { name += "." + (try expectName()) }
    if !known.contains(name) {
      unknown.append(
        ChatTemplateError(
          template: template, line: start, .syntax("there is no \(what) \(excerpt(name))")))
    }
    return name
  }

  /// Behind `is`: [not] name, name(arguments) or name argument.
  mutating func test(
    of value: Expression
  ) throws(ChatTemplateError) -> Expression {
    let negated = take(.name("not"))
    let start = line
    let name = try dottedName(among: ValueTest.jinjaNames, what: "test")
    var arguments = CallArguments()
    switch token {
    case .symbol("("): arguments = try self.arguments()
    case .name("else"), .name("or"), .name("and"): break
    case .name("is"): throw fault(.syntax("one 'is' behind another"))
    case .name, .string, .integer, .number, .refused, .symbol("["), .symbol("{"):
      try descend()
      defer { depth -= 1 }
      let operand = try primary()
      arguments.positional = [try postfixed(operand)]
    default: break
    }
    let asked = try node(
      .test(value, name, arguments), above: [value] + arguments.all, line: start)
    return negated ? try node(.not(asked), above: [asked]) : asked
  }
}

extension CallArguments {
  var all: [Expression] {
    positional + named.map(\.value) + [rest, namedRest].compactMap { $0 }
  }
}
