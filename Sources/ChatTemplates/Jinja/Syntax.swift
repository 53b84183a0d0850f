// What a template says, as a tree.
//
// In:  nothing; these are the nodes.
// Out: expressions and statements, which the parser builds and the renderer walks.
//
// Trees are bounded where they are made. `height` of an expression is one more than the greatest
// height below it, so that a chain such as a+a+a+..., which no nested call of the parser notices,
// cannot become deeper than the renderer's stack. The next files are the parsers,
// Parser.swift and Parser+Statements.swift.

/// An expression: what stands in {{ }} and after `if`, `in`, `=`.
final class Expression: Sendable {
  enum Kind: Sendable {
    case literal(ChatValue)
    case name(String)
    case list([Expression])
    case tuple([Expression])
    case mapping([(key: Expression, value: Expression)])
    /// value.name
    case attribute(Expression, String)
    /// value[item]
    case item(Expression, Expression)
    /// value[from:to:step]
    case slice(
      Expression, from: Expression?, to: Expression?,
      step: Expression?)
    case call(Expression, CallArguments)
    /// Names are looked up when the filter or the test is reached, as Jinja's are inside an `if`.
    case filter(Expression, String, CallArguments)
    case test(Expression, String, CallArguments)
    case negative(Expression)
    case positive(Expression)
    case not(Expression)
    case and(Expression, Expression)
    case or(Expression, Expression)
    case arithmetic(Operator, Expression, Expression)
    /// a ~ b ~ c
    case concatenation([Expression])
    /// a < b < c is a < b and b < c.
    case comparison(
      Expression, [(relation: Relation, operand: Expression)])
    /// value if condition else otherwise
    case choice(Expression, condition: Expression, otherwise: Expression?)
    /// Jinja that we leave out, in the words of the error that it becomes when it is reached.
    case refused(String)
  }

  let kind: Kind
  let line: Int
  /// 1 for a leaf.
  let height: Int

  init(_ kind: Kind, line: Int, height: Int) {
    self.kind = kind
    self.line = line
    self.height = height
  }
}

/// What stands in the brackets of a call.
struct CallArguments: Sendable {
  var positional: [Expression] = []
  var named: [(name: String, value: Expression)] = []
  /// *list and **dict, behind the others.
  var rest: Expression?
  var namedRest: Expression?
}

/// + - * / // % **
enum Operator: String, CaseIterable, Sendable {
  case add = "+"
  case subtract = "-"
  case multiply = "*"
  case divide = "/"
  case floorDivide = "//"
  case modulo = "%"
  case power = "**"
}

/// A comparison: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`.
enum Relation: String, CaseIterable, Sendable {
  case equal = "=="
  case notEqual = "!="
  case less = "<"
  case lessOrEqual = "<="
  case greater = ">"
  case greaterOrEqual = ">="
  case isIn = "in"
  case notIn = "not in"
}

/// What stands between tags, and what the tags {% %} do.
indirect enum Statement: Sendable {
  case text(String)
  case output(Expression)
  /// if, elif, else: the first branch whose condition holds; no condition always holds.
  case branches([(condition: Expression?, body: [Statement])])
  case loop(Loop)
  case set(Target, Expression, line: Int)
  /// {% set target %}body{% endset %}; a filter is applied to the text of the body.
  case capture(Target, Expression?, body: [Statement], line: Int)
  case macro(Macro)
  /// {% call(parameters) m(arguments) %}: the body is a macro that m knows as `caller`.
  case call(Expression, caller: Macro, line: Int)
  /// {% filter name %}: the filters are applied to the text of the body.
  case filtered(Expression, body: [Statement])
  /// {% with a = 1, b = 2 %}: the values are computed before any name is set.
  case with([(target: Target, value: Expression)], body: [Statement])
  /// {% generation %}: transformers marks what the assistant wrote; the text is the same.
  case generation([Statement])
  case leaveLoop
  case nextRound
  /// A statement that we leave out: an error when it is reached.
  case refused(String, line: Int)
}

/// for target in sequence if condition: body; without any round, otherwise.
struct Loop: Sendable {
  let target: Target
  let sequence: Expression
  let condition: Expression?
  let body: [Statement]
  let otherwise: [Statement]
  let line: Int
}

/// What `set` and `for` assign to.
indirect enum Target: Sendable {
  case name(String)
  /// a, b: as many targets as the value has items; (a, b), c is one inside another.
  case targets([Target])
  /// namespace.attribute
  case attribute(String, String)
}

/// A macro: `macro name(parameters)` and its body.
final class Macro: Sendable {
  let name: String
  let parameters: [(name: String, fallback: Expression?)]
  let body: [Statement]
  /// Of `caller`, `varargs` and `kwargs` those that the body names: only they may be handed over.
  let extras: Set<String>
  let line: Int

  init(
    name: String, parameters: [(name: String, fallback: Expression?)],
    body: [Statement], extras: Set<String>, line: Int
  ) {
    self.name = name
    self.parameters = parameters
    self.body = body
    self.extras = extras
    self.line = line
  }
}

/// What a template can call by name.
enum NamedFunction: String, CaseIterable, Sendable {
  case dict, namespace, range
  case raiseException = "raise_exception"
  case strftimeNow = "strftime_now"
}
