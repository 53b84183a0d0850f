// Tokens into expressions.
//
// In:  the lexer's tokens.
// Out: a Expression; one method per level of binding, loosest first.
//
//   expression   either [if either [else expression]]
//   either       both (or both)*
//   both         negation (and negation)*
//   negation     not negation | comparison
//   comparison   sum ((== != < <= > >= in, not in) sum)*
//   sum          joined ((+ -) joined)*
//   joined       product (~ product)*              ~ binds tighter than + in Jinja
//   product      power ((* / // %) power)*
//   power        signed (** signed)*               from the left in Jinja: 2 ** 3 ** 2 is 64
//   signed       (+ -) signed | primary, then .name [item] (call) | filter, is test
//
// Jinja that we leave out becomes an expression `refused`, an error where it is reached. A filter
// or a test that Jinja does not know either is an error of the template, as in Jinja, unless it
// stands inside an `if`: there it too is an error only when it is reached.
// Source: Jinja 3.1, "Template Designer Documentation", Expressions. The next file,
// Parser+Primary.swift, reads literals, brackets and calls.

/// The parser's place among the tokens.
struct Parser {
  let template: String
  let tokens: [Token]
  var position = 0
  /// Calls of the parser in one another.
  var depth = 0
  /// Loops around this place, for break and continue.
  var loops = 0
  /// The names caller, varargs and kwargs that the macro around this place uses.
  var extras: Set<String> = []
  /// Names of filters and tests that Jinja does not know, read since the last `if` ended.
  var unknown: [ChatTemplateError] = []

  /// How deep brackets may lie in one another, and how high an expression may grow.
  static let depthLimit = 50

  init(template: String, tokens: [Token]) {
    self.template = template
    self.tokens = tokens
  }

  // MARK: Tokens

  var token: Token.Kind { tokens[position].kind }
  var line: Int { tokens[position].line }

  func fault(_ problem: ChatTemplateError.Problem) -> ChatTemplateError {
    ChatTemplateError(template: template, line: line, problem)
  }

  /// Steps over `kind` if it comes next; the last token, `.end`, is never left.
  mutating func take(_ kind: Token.Kind) -> Bool {
    guard token == kind else { return false }
    position += 1
    return true
  }

  mutating func expect(_ kind: Token.Kind) throws(ChatTemplateError) {
    if !take(kind) { throw fault(.syntax("expected \(kind.words), found \(token.words)")) }
  }

  mutating func expectName() throws(ChatTemplateError) -> String {
    if case .refused(let what) = token { throw fault(.unsupported(what)) }
    guard case .name(let name) = token else {
      throw fault(.syntax("expected a name, found \(token.words)"))
    }
    position += 1
    return name
  }

  /// Unknown names read since there were `count` are allowed: they stand inside an `if`.
  mutating func forgiveUnknown(since count: Int) {
    unknown.removeSubrange(min(count, unknown.count)...)
  }

  /// The first unknown name read since there were `count`, if any: no `if` is directly around it.
  func checkUnknown(since count: Int) throws(ChatTemplateError) {
    if unknown.count > count { throw unknown[count] }
  }

  mutating func descend() throws(ChatTemplateError) {
    depth += 1
    if depth > Self.depthLimit {
      throw fault(.limit("nested more than \(Self.depthLimit) deep"))
    }
  }

  /// A node above `parts`, on `line`: where nothing else is said on that of its first part, and a
  /// leaf on that of the token just read.
  func node(
    _ kind: Expression.Kind, above parts: [Expression?] = [], line: Int? = nil
  ) throws(ChatTemplateError) -> Expression {
    let height = 1 + (parts.lazy.map { $0?.height ?? 0 }.max() ?? 0)
    if height > Self.depthLimit {
      throw fault(.limit("an expression more than \(Self.depthLimit) operations high"))
    }
    let start = line ?? parts.first??.line ?? tokens[position - 1].line
    return Expression(kind, line: start, height: height)
  }

  // MARK: Levels of binding

  mutating func expression() throws(ChatTemplateError) -> Expression {
    try descend()
    defer { depth -= 1 }
    let known = unknown.count
    var value = try either()
    while take(.name("if")) {
      defer { forgiveUnknown(since: known) }
      let condition = try either()
      let otherwise = take(.name("else")) ? try expression() : nil
      value = try node(
        .choice(value, condition: condition, otherwise: otherwise),
        above: [value, condition, otherwise])
    }
    return value
  }

  /// What `for` walks over and `if` asks for: here an `if` belongs to the statement.
  mutating func either() throws(ChatTemplateError) -> Expression {
    var left = try both()
    while take(.name("or")) {
      let right = try both()
      left = try node(.or(left, right), above: [left, right])
    }
    return left
  }

  private mutating func both() throws(ChatTemplateError) -> Expression {
    var left = try negation()
    while take(.name("and")) {
      let right = try negation()
      left = try node(.and(left, right), above: [left, right])
    }
    return left
  }

  private mutating func negation() throws(ChatTemplateError) -> Expression {
    guard take(.name("not")) else { return try comparison() }
    try descend()
    defer { depth -= 1 }
    let operand = try negation()
    return try node(.not(operand), above: [operand])
  }

  private mutating func comparison() throws(ChatTemplateError) -> Expression {
    let first = try sum()
    var rest: [(relation: Relation, operand: Expression)] = []
    while let relation = takeRelation() { rest.append((relation, try sum())) }
    if rest.isEmpty { return first }
    return try node(.comparison(first, rest), above: [first] + rest.map(\.operand))
  }

  private mutating func takeRelation() -> Relation? {
    switch token {
    case .symbol(let symbol):
      guard let relation = Relation(rawValue: symbol) else { return nil }
      position += 1
      return relation
    case .name("in"):
      position += 1
      return .isIn
    case .name("not") where tokens[position + 1].kind == .name("in"):
      position += 2
      return .notIn
    default: return nil
    }
  }

  private mutating func sum() throws(ChatTemplateError) -> Expression {
    var left = try joined()
    while let operation = takeOperator(among: [.add, .subtract]) {
      let right = try joined()
      left = try node(.arithmetic(operation, left, right), above: [left, right])
    }
    return left
  }

  private mutating func joined() throws(ChatTemplateError) -> Expression {
    var parts = [try product()]
    while take(.symbol("~")) { parts.append(try product()) }
    return parts.count == 1 ? parts[0] : try node(.concatenation(parts), above: parts)
  }

  private mutating func product() throws(ChatTemplateError) -> Expression {
    var left = try power()
    while let operation = takeOperator(among: [.multiply, .divide, .floorDivide, .modulo]) {
      let right = try power()
      left = try node(.arithmetic(operation, left, right), above: [left, right])
    }
    return left
  }

  private mutating func power() throws(ChatTemplateError) -> Expression {
    var left = try signed()
    while let operation = takeOperator(among: [.power]) {
      let right = try signed()
      left = try node(.arithmetic(operation, left, right), above: [left, right])
    }
    return left
  }

  private mutating func takeOperator(among choices: [Operator]) -> Operator? {
    for choice in choices where take(.symbol(choice.rawValue)) { return choice }
    return nil
  }

  /// -a|f is (-a)|f, and -a.b is -(a.b).
  private mutating func signed(
    filtered: Bool = true
  ) throws(ChatTemplateError) -> Expression {
    try descend()
    defer { depth -= 1 }
    var value: Expression
    if take(.symbol("-")) {
      let operand = try signed(filtered: false)
      value = try node(.negative(operand), above: [operand])
    } else if take(.symbol("+")) {
      let operand = try signed(filtered: false)
      value = try node(.positive(operand), above: [operand])
    } else {
      value = try primary()
    }
    value = try postfixed(value)
    while filtered {
      if take(.symbol("|")) {
        value = try filter(of: value)
      } else if take(.name("is")) {
        value = try test(of: value)
      } else if token == .symbol("(") {
        value = try call(of: value)
      } else {
        break
      }
    }
    return value
  }

  /// What follows a primary: `.name`, `[item]`, `(call)`, as often as they come.
  mutating func postfixed(
    _ operand: Expression
  ) throws(ChatTemplateError) -> Expression {
    var value = operand
    while true {
      if take(.symbol(".")) {
        if case .integer(let index) = token {
          position += 1
          let item = try node(.literal(.integer(index)))
          value = try node(.item(value, item), above: [value, item])
        } else {
          let start = line
          let name = try expectName()
          value = try node(.attribute(value, name), above: [value], line: start)
        }
      } else if take(.symbol("[")) {
        value = try subscripted(value)
      } else if token == .symbol("(") {
        value = try call(of: value)
      } else {
        return value
      }
    }
  }
}

extension Token.Kind {
  /// For error messages.
  var words: String {
    switch self {
    case .text: "text"
    case .outputBegin: "'{{'"
    case .outputEnd: "'}}'"
    case .blockBegin: "'{%'"
    case .blockEnd: "'%}'"
    case .name(let name): excerpt(name)
    case .string(let text): "the string \(excerpt(text))"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .refused(let what): what
    case .symbol(let symbol): "'\(symbol)'"
    case .end: "the end of the template"
    }
  }
}
